"""Charts of the values that a run has logged."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..utils.text import printable

POINTS = 400  # of a curve, at most
CHARTS = 14  # that are drawn
CURVES = 8  # in each


@dataclass
class Chart:
    """Some curves over the iterations."""

    title: str
    curves: dict[str, list[tuple[int, float]]]
    unit: str = ''  # of the values


def make_charts(scalars: dict[str, list[tuple[int, float]]], images: float | None) -> list[Chart]:
    """Sort logged values into charts: first those known by name, then one for each of the rest.

    The throughput is in ``images``, those of an iteration, if they are known.
    """
    left = {key: values for key, values in scalars.items() if key != 'epoch'}

    def take(title: str, pattern: str, unit: str = '') -> Chart:
        keys = [key for key in left if re.fullmatch(pattern, key)]
        return Chart(title, {key: left.pop(key) for key in keys}, unit)

    charts = [
        take('Training loss', r'(\w+\.)?loss\w*'),
        take("Each branch's loss, of steps and as measured", r'mse_\w+|quality/loss\w*'),
        take('Reconstruction', r'psnr\w*|quality/psnr\w*', 'dB'),
        take('Effective rank of the features (RankMe)', 'quality/rankme'),
        take('Share of dead channels', 'quality/dead_channels'),
        take('Linear probe with 5 labels a class', 'quality/probe', '%'),
        take('kNN accuracy', r'knn/\w+', '%'),
        take('Accuracy on images held out', r'accuracy/\w+', '%'),
        take('Learning rate', r'(base_)?lr'),
    ]
    times, waits = left.pop('time', []), left.pop('data_time', [])
    speed = [(step, (images or 1) / seconds) for step, seconds in times if seconds > 1e-9]
    charts.append(Chart('Throughput', dict(throughput=speed), 'images/s' if images else 'iterations/s'))
    if waits and times:
        seconds = dict(times)
        percent = [(step, 100 * wait / seconds[step]) for step, wait in waits if seconds.get(step, 0) > 1e-9]
        charts.append(Chart('Waiting for data', {'data_time of time': percent}, '%'))
    charts += [Chart(key, {key: values}) for key, values in left.items()]
    return [chart for chart in charts if any(chart.curves.values())]


def draw_chart(chart: Chart) -> bytes:
    """Draw a chart as SVG."""
    figure = Figure(figsize=(4.8, 2.7))
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.18, top=0.96)
    axes = figure.subplots()
    for name, points in list(chart.curves.items())[:CURVES]:
        steps, values = _thin(points)
        label, style = printable(name).replace('$', r'\$'), '.-' if len(steps) < 30 else '-'
        axes.plot(steps, values, style, label=label, linewidth=1.3, markersize=4)
    axes.set_xlabel('iteration', fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if len(chart.curves) > 1:
        axes.legend(fontsize=8, frameon=False)
    file = io.BytesIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'coma_mm'}):
        figure.savefig(file, format='svg', metadata=dict(Date=None))
    return file.getvalue()


def _thin(points: Sequence[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours, so that a curve of any length stays small."""
    parts = np.array_split(np.asarray(points, dtype=float), min(POINTS, len(points)))
    return np.array([part.mean(0) for part in parts]).T
