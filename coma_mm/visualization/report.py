"""A run as one page, ``report.html``: its curves, its pictures and its settings, made from what lies in its folder.

The page holds all it shows. It asks for nothing from elsewhere, and forbids itself to.
"""

import base64
import io
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from ..files import MARK, is_unfinished
from ..utils import manifest

PICTURES = 'pictures'  # folder in the work dir
FACTS = 'run.json'  # in it
REPORT = 'report.html'
SIZE = 800, 1100  # of a kept picture, at most
FRAMES = 800_000  # bytes of the pictures behind the slider, before base64
POINTS = 400  # of a curve, at most
SETTINGS = 100_000  # characters

# ---- what a run leaves in its folder ----


def keep_picture(work_dir: str | os.PathLike, name: str, picture: np.ndarray, step: int) -> Path:
    """Keep a small copy of a picture (H, W, 3), uint8, RGB, as ``pictures/<name>_<step>.jpg``."""
    file = f'{PICTURES}/{name}_{step}.jpg'
    image = Image.fromarray(picture)
    image.thumbnail(SIZE, Image.Resampling.LANCZOS)
    with manifest.own_file(work_dir, file, 'picture') as unfinished:
        image.save(unfinished, quality=75, optimize=True)
    return Path(work_dir, file)


def forget_pictures(work_dir: str | os.PathLike, step: int) -> None:
    """Delete kept pictures of later iterations than ``step``, of those that the run's manifest lists."""
    if manifest.has_manifest(work_dir):
        for pictures in find_pictures(work_dir).values():
            for number, path in pictures:
                if number > step:
                    manifest.remove_own(work_dir, f'{PICTURES}/{path.name}')


def find_pictures(work_dir: str | os.PathLike) -> dict[str, list[tuple[int, Path]]]:
    """Return the kept pictures by name, each with its step, in order: those of the manifest, if the run has one."""
    found: dict[str, list[tuple[int, Path]]] = {}
    listed = manifest.read_manifest(work_dir) if manifest.has_manifest(work_dir) else None
    for path in Path(work_dir, PICTURES).glob('*_*.jpg'):
        name, _, step = path.stem.rpartition('_')
        is_listed = listed is None or f'{PICTURES}/{path.name}' in listed
        if step.isdecimal() and is_listed and not is_unfinished(path):
            found.setdefault(name, []).append((int(step), path))
    return {name: sorted(pictures) for name, pictures in sorted(found.items())}


def write_facts(work_dir: str | os.PathLike, facts: dict) -> None:
    """Keep what the page says in words, for those who write it later."""
    manifest.write_own(work_dir, f'{PICTURES}/{FACTS}', 'facts', json.dumps(facts))


def read_scalars(work_dir: str | os.PathLike) -> dict[str, list[tuple[int, float]]]:
    """Read what all starts of a run have logged, by name: ``(step, value)`` in order.

    Where a start repeats steps of an earlier one, having gone on from before them, its own count. Lines that are cut
    off, values that are no numbers and those that are not finite are left out.
    """
    lines: list[dict] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        new = []
        for text in path.read_text(errors='replace').splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get('step'), int):
                new.append(line)
        # a validation counts epochs, so only lines of training say where this start began
        first = min((line['step'] for line in new if 'lr' in line), default=None)
        if first is not None:
            lines = [line for line in lines if line['step'] < first]
        lines += new
    scalars: dict[str, dict[int, float]] = {}
    for line in lines:
        for key, value in line.items():
            if isinstance(value, (int, float)) and key not in ('step', 'iter') and np.isfinite(value):
                scalars.setdefault(key, {})[line['step']] = value
    return {key: sorted(values.items()) for key, values in scalars.items()}


def _read_facts(work_dir: Path) -> dict:
    try:
        facts = json.loads((work_dir / PICTURES / FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _read_settings(work_dir: Path) -> str:
    names = [name for name, entry in manifest.read_manifest(work_dir).items() if entry['kind'] == 'config']
    configs = [work_dir / name for name in names] or sorted(work_dir.glob('*/vis_data/config.py'))
    return configs[-1].read_text(errors='replace') if configs else ''


# ---- curves ----


@dataclass
class Chart:
    """Some curves over the iterations.

    Args:
        title: Says what they show.
        curves: By name.
        unit: Of the values.
    """

    title: str
    curves: dict[str, list[tuple[int, float]]]
    unit: str = ''


def make_charts(scalars: dict[str, list[tuple[int, float]]], images: float | None) -> list[Chart]:
    """Sort what was logged into charts: what is known by name first, then one for each of the rest.

    Args:
        scalars: Of :func:`read_scalars`.
        images: In an iteration, for the throughput; ``None`` if that is not known.
    """
    left = {key: values for key, values in scalars.items() if key != 'epoch'}

    def take(title: str, pattern: str, unit: str = '') -> Chart:
        keys = [key for key in left if re.fullmatch(pattern, key)]
        return Chart(title, {key: left.pop(key) for key in keys}, unit)

    charts = [
        take('Training loss', r'(\w+\.)?loss\w*'),
        take("Each branch's loss, in training and on held-out images", r'mse_\w+|quality/loss\w*'),
        take('Reconstruction', r'psnr\w*|quality/psnr\w*', 'dB'),
        take('Effective rank of the features (RankMe)', 'quality/rankme'),
        take('Share of dead channels', 'quality/dead_channels'),
        take('kNN accuracy', r'knn/\w+', '%'),
        take('Learning rate', r'(base_)?lr'),
    ]
    times, waits = take('', 'time').curves.get('time', []), take('', 'data_time').curves.get('data_time', [])
    speed = [(step, (images or 1) / seconds) for step, seconds in times if seconds > 0]
    charts.append(Chart('Throughput', dict(throughput=speed), 'images/s' if images else 'iterations/s'))
    if waits and times:
        seconds = dict(times)
        share = [(step, 100 * wait / seconds[step]) for step, wait in waits if seconds.get(step)]
        charts.append(Chart('Time between steps: data, pictures, checkpoints', dict(between=share), '%'))
    charts += [Chart(key, {key: values}) for key, values in left.items()]
    return [chart for chart in charts if any(chart.curves.values())]


def draw_chart(chart: Chart) -> bytes:
    """Draw a chart as SVG."""
    figure = Figure(figsize=(4.8, 2.7))
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.18, top=0.96)
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for name, points in chart.curves.items():
        steps, values = _thin(points)
        axes.plot(steps, values, '.-' if len(steps) < 30 else '-', label=name, linewidth=1.3, markersize=4)
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


# ---- the page ----

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .9rem; font-weight: 600 } img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0 }
td.number { text-align: right; font-variant-numeric: tabular-nums } .note { color: #666; font-size: .9rem }
.warning { background: #fff3d6; border-left: 4px solid #e0a100; padding: .5rem .8rem; margin: .6rem 0 }
.frame { display: none } .frame.shown { display: block } input[type=range] { width: min(100%, 32rem) }
pre { background: #f6f6f6; padding: .8rem; overflow: auto; max-height: 32rem; font-size: .8rem }
"""
SCRIPT = """
for (const player of document.querySelectorAll('.player')) {
  const slider = player.querySelector('input'), frames = player.querySelectorAll('.frame');
  slider.oninput = () => frames.forEach((frame, i) => frame.classList.toggle('shown', i == slider.value));
}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(work_dir: str | os.PathLike, path: str | os.PathLike | None = None) -> Path:
    """Write the page of a run, replacing an earlier one only once it is complete.

    Args:
        work_dir: The run's folder: ``*/vis_data/scalars.json``, ``pictures/`` and the config are read.
        path: Where to; ``report.html`` in that folder if ``None``.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: If the folder is not there or has nothing of a run in it.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise FileNotFoundError(f'there is no folder {work_dir}; give the work dir of a run')
    scalars, pictures, settings = read_scalars(work_dir), find_pictures(work_dir), _read_settings(work_dir)
    if not scalars and not pictures:
        raise FileNotFoundError(
            f'{work_dir} is no work dir of a run: there are neither <time>/vis_data/scalars.json nor {PICTURES}/*.jpg'
        )
    page = _page(work_dir.resolve().name, scalars, pictures, settings, _read_facts(work_dir))
    if path is None:
        return manifest.write_own(work_dir, REPORT, 'report', page)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with manifest.any_file(path) as unfinished:
        unfinished.write_text(page, encoding='utf-8')
    return path


def _page(
    name: str,
    scalars: dict[str, list[tuple[int, float]]],
    pictures: dict[str, list[tuple[int, Path]]],
    settings: str,
    facts: dict,
) -> str:
    warnings = facts.pop('warnings', None) or []
    finished = facts.pop('finished', None)
    images = facts.get('images_per_iteration')
    charts = make_charts(scalars, images if isinstance(images, (int, float)) else None)
    epochs = scalars.get('epoch', [])
    state = {True: 'Finished.', False: 'Still training when this was written.'}.get(finished, '')
    sections = [
        f'<h1>{escape(name)}</h1>',
        f'<p class="note">{state}</p>' if state else '',
        *(f'<p class="warning">{escape(str(text))}</p>' for text in warnings),
        _table([(key.replace('_', ' '), value) for key, value in facts.items()]),
        '<h2>Curves</h2>' if charts else '',
        '<div class="charts">',
        *(_chart(chart) for chart in charts),
        '</div>',
    ]
    if 'reconstruction' in pictures:
        sections += ['<h2>Reconstructions</h2>', _player(pictures['reconstruction'], epochs)]
    for kind, title in (('features', 'Features and attention of each stage'), ('neighbours', 'Nearest neighbours')):
        if kind in pictures:
            sections += [f'<h2>{title}</h2>', _picture(title, *pictures[kind][-1], epochs)]
    if 'neighbours' in pictures:
        sections.append(
            '<p class="note">By the average of the last map, standardised; the number is the cosine.</p>',
        )
    if charts:
        sections += ['<h2>Numbers</h2>', _numbers(charts)]
    if settings:
        cut = len(settings) > SETTINGS
        sections += [
            f'<h2>Settings</h2><details><summary>The config{", its beginning" if cut else ""}</summary>',
            f'<pre>{escape(settings[:SETTINGS])}</pre></details>',
        ]
    head = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="generator" content="{MARK}"><meta name="viewport" content="width=device-width">'
        f'<style>{STYLE}</style></head><body>'
    )
    return '\n'.join([head, *filter(None, sections), f'<script>{SCRIPT}</script></body></html>\n'])


def _table(rows: Iterable[tuple]) -> str:
    cells = (f'<tr><th>{escape(str(key))}</th><td>{escape(_shown(value))}</td></tr>' for key, value in rows)
    return f'<table>{"".join(cells)}</table>'


def _numbers(charts: list[Chart]) -> str:
    rows = [
        f'<tr><td>{escape(key)}</td>'
        + ''.join(f'<td class="number">{_shown(value)}</td>' for value in (points[0][1], points[-1][1], points[-1][0]))
        + '</tr>'
        for chart in charts
        for key, points in chart.curves.items()
        if points
    ]
    head = '<tr><th></th><th>first</th><th>last</th><th>at iteration</th></tr>'
    return f'<table id="numbers">{head}{"".join(rows)}</table>'


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def _chart(chart: Chart) -> str:
    title = f'{chart.title}{f" ({chart.unit})" if chart.unit else ""}'
    image = _image(draw_chart(chart), 'svg+xml', f'{title} over the iterations')
    return f'<figure><figcaption>{escape(title)}</figcaption>{image}</figure>'


def _image(content: bytes, kind: str, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def _when(step: int, epochs: list[tuple[int, float]]) -> str:
    """Return when a picture was made; ``epochs`` are the logged ones, by step."""
    number = bisect_right(epochs, (step, float('inf')))
    after = f'epoch {epochs[number - 1][1]:.0f}, ' if number else ''
    return f'{after}iteration {step:,}'


def _picture(title: str, step: int, path: Path, epochs: list) -> str:
    when = _when(step, epochs)
    return f'<p class="note">{when}</p>{_image(path.read_bytes(), "jpeg", f"{title}: {when}")}'


def _player(pictures: list[tuple[int, Path]], epochs: list) -> str:
    """Return pictures with a slider, the last one shown; as many of them as the page has room for."""
    size = max(path.stat().st_size for _, path in pictures)
    count = min(len(pictures), max(2, FRAMES // size))
    chosen = [pictures[i] for i in sorted({round(x) for x in np.linspace(len(pictures) - 1, 0, count)})]
    frames = ''.join(
        f'<div class="frame{" shown" if i == len(chosen) - 1 else ""}">'
        f'{_picture("Reconstructions", step, path, epochs)}</div>'
        for i, (step, path) in enumerate(chosen)
    )
    last = len(chosen) - 1
    slider = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="time of the picture">'
    note = f'<p class="note">{len(chosen)} of {len(pictures)} pictures</p>' if len(chosen) < len(pictures) else ''
    return f'<div class="player">{slider if last else ""}{frames}</div>{note}'
