"""A run as one page, ``report.html``: its curves, its pictures and its settings, made from what lies in its folder.

The page holds all it shows. It asks for nothing from elsewhere, and forbids itself to.
"""

import base64
import io
import json
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from random import Random

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from ..utils import manifest
from ..utils.files import MARK, is_unfinished
from ..utils.reading import open_regular, parse_json, read_bytes, read_json, read_text
from ..utils.text import printable

PICTURES = 'pictures'  # folder in the work dir
FACTS = 'run.json'  # in it
REPORT = 'report.html'
SIZE = 800, 1100  # of a kept picture, at most
FRAMES = 800_000  # bytes of the pictures behind the slider, before base64
POINTS = 400  # of a curve, at most
SETTINGS = 100_000  # characters
TEXT = 4_000_000  # bytes of a config or of the facts
PICTURE = 4_000_000  # bytes
ROWS = 50  # of facts and of warnings
CELL = 2_000  # characters
LINES = 20_000  # of the logs of training that are read, and of those of validation
LINE = 65_536  # bytes
NAMES = 200  # of what was logged
STARTS = 1_000  # of a run
KEPT = 1_000  # values of each name
LARGEST, LAST_STEP = 1e40, 10**12  # value and step
CHARTS, CURVES = 14, 8  # drawn, and in each

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
        is_step = step.isdecimal() and len(step) <= len(str(LAST_STEP))
        if is_step and is_listed and not is_unfinished(path) and _lies_in(path, work_dir):
            found.setdefault(name, []).append((int(step), path))
    return {name: sorted(pictures) for name, pictures in sorted(found.items())}


def write_facts(work_dir: str | os.PathLike, facts: dict) -> None:
    """Keep what the page says in words, for those who write it later."""
    manifest.write_own(work_dir, f'{PICTURES}/{FACTS}', 'facts', json.dumps(facts))


class _Curve:
    """The values of one name by step; of a long run some, evenly, and the last."""

    def __init__(self) -> None:
        self.points: dict[int, float] = {}
        self.every, self.count = 1, 0
        self.last: tuple[int, float] | None = None

    def add(self, step: int, value: float) -> None:
        """Take a value, or leave it out if there are enough."""
        self.last = step, value
        if self.count % self.every == 0:
            self.points[step] = value
            if len(self.points) > 2 * KEPT:
                self.points, self.every = dict(list(self.points.items())[::2]), 2 * self.every
        self.count += 1

    def follow(self, other: '_Curve', first: float) -> None:
        """Go on with another start's values from step ``first`` on."""
        own = [point for point in self.sorted() if point[0] < first] + other.sorted()
        self.points = dict(own[:: 1 + len(own) // (2 * KEPT)] + own[-1:])
        self.last, self.count = None, 0

    def sorted(self) -> list[tuple[int, float]]:
        """Return ``(step, value)`` in order."""
        return sorted({**self.points, **dict([self.last] if self.last else [])}.items())


def read_scalars(work_dir: str | os.PathLike) -> dict[str, list[tuple[int, float]]]:
    """Read what all starts of a run have logged, by name: ``(step, value)`` in order.

    Where a start repeats steps of an earlier one, having gone on from before them, its own count. Lines that are cut
    off, values that are no numbers and those that are not finite or above 1e40 are left out. Of long logs a sample of
    the lines is read, and of long curves some values are kept.
    """
    paths = [path for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')) if _lies_in(path, work_dir)]
    paths = paths[-STARTS:]
    share = LINES / max(1, sum(_count_lines(path) for path in paths))
    scalars: dict[str, _Curve] = {}
    for path in paths:
        new, first = _read_start(path, share)
        for name in {**scalars, **new}:
            if name in scalars or len(scalars) < NAMES:
                scalars.setdefault(name, _Curve()).follow(new.get(name, _Curve()), first)
    curves = {name: curve.sorted() for name, curve in scalars.items()}
    return {name: points for name, points in curves.items() if points}


def _read_start(path: Path, share: float) -> tuple[dict[str, _Curve], float]:
    """Return the curves of a start and its first step; of its lines the first, the last and a share of the others."""
    curves: dict[str, _Curve] = {}
    first, others, draw = float('inf'), 0, Random(0).random
    for number, (text, is_last) in enumerate(_lines(path)):
        of_training = b'"lr"' in text
        others += not of_training
        if not (number == 0 or is_last or (not of_training and others < LINES) or draw() < share):
            continue
        try:
            line = parse_json(text.decode(errors='replace'))
        except ValueError:
            continue
        step = line.get('step') if isinstance(line, dict) else None
        if type(step) is not int or not 0 <= step <= LAST_STEP:
            continue
        # a validation counts epochs, so only lines of training say where this start began
        if 'lr' in line:
            first = min(first, step)
        for name, value in line.items():
            if name not in ('step', 'iter') and _is_drawable(value) and (name in curves or len(curves) < NAMES):
                curves.setdefault(name[:100], _Curve()).add(step, value)
    return curves, first


def _lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield each line of a file but those that are too long, and whether it is the last."""
    before = None
    try:
        with open_regular(path, follow=False) as file:
            while text := file.readline(LINE):
                if len(text) == LINE and not text.endswith(b'\n'):
                    while (rest := file.readline(LINE)) and not rest.endswith(b'\n'):
                        pass
                    continue
                if before is not None:
                    yield before, False
                before = text
    except (OSError, ValueError):
        return
    if before is not None:
        yield before, True


def _count_lines(path: Path) -> int:
    """Count the lines of a file, each kilobyte of them as one more."""
    try:
        with open_regular(path, follow=False) as file:
            return sum(block.count(b'\n') + len(block) // 1024 for block in iter(lambda: file.read(2**20), b''))
    except (OSError, ValueError):
        return 0


def _is_drawable(value: object) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # type: ignore[operator]


def _lies_in(path: Path, folder: str | os.PathLike) -> bool:
    """Say whether a path is a regular file to which no link leads from a folder."""
    on_the_way = [path, *path.parents][: len(path.parts) - len(Path(folder).parts)]
    try:
        return stat.S_ISREG(path.lstat().st_mode) and not any(place.is_symlink() for place in on_the_way)
    except OSError:
        return False


def _read_facts(work_dir: Path) -> dict:
    path = work_dir / PICTURES / FACTS
    try:
        facts = read_json(path, TEXT, follow=False) if _lies_in(path, work_dir) else {}
    except (OSError, ValueError):
        return {}
    return dict(list(facts.items())[:ROWS]) if isinstance(facts, dict) else {}


def _read_settings(work_dir: Path) -> str:
    names = [name for name, entry in manifest.read_manifest(work_dir).items() if entry['kind'] == 'config']
    for path in [*reversed([work_dir / name for name in names]), *sorted(work_dir.glob('*/vis_data/config.py'))[::-1]]:
        try:
            if _lies_in(path, work_dir):
                return read_text(path, TEXT, follow=False)
        except (OSError, ValueError):
            continue
    return ''


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
        take('Linear probe with 5 labels a class', 'quality/probe', '%'),
        take('kNN accuracy', r'knn/\w+', '%'),
        take('Learning rate', r'(base_)?lr'),
    ]
    times, waits = take('', 'time').curves.get('time', []), take('', 'data_time').curves.get('data_time', [])
    speed = [(step, (images or 1) / seconds) for step, seconds in times if seconds > 1e-9]
    charts.append(Chart('Throughput', dict(throughput=speed), 'images/s' if images else 'iterations/s'))
    if waits and times:
        seconds = dict(times)
        share = [(step, 100 * wait / seconds[step]) for step, wait in waits if seconds.get(step, 0) > 1e-9]
        charts.append(Chart('Time between steps: data, pictures, checkpoints', dict(between=share), '%'))
    charts += [Chart(key, {key: values}) for key, values in left.items()]
    return [chart for chart in charts if any(chart.curves.values())]


def draw_chart(chart: Chart) -> bytes:
    """Draw a chart as SVG."""
    figure = Figure(figsize=(4.8, 2.7))
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.18, top=0.96)
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for name, points in list(chart.curves.items())[:CURVES]:
        steps, values = _thin(points)
        axes.plot(
            steps,
            values,
            '.-' if len(steps) < 30 else '-',
            label=printable(name).replace('$', r'\$'),
            linewidth=1.3,
            markersize=4,
        )
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
    page = printable(_page(work_dir.resolve().name, scalars, pictures, settings, _read_facts(work_dir)))
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
    warnings, finished = facts.pop('warnings', None), facts.pop('finished', None)
    warnings = warnings[:ROWS] if isinstance(warnings, list) else []
    images = facts.get('images_per_iteration')
    charts = make_charts(scalars, images if images is not None and _is_drawable(images) and images > 0 else None)
    epochs = scalars.get('epoch', [])
    state = 'Finished.' if finished is True else 'Still training when this was written.' if finished is False else ''
    sections = [
        f'<h1>{escape(name)}</h1>',
        f'<p class="note">{state}</p>' if state else '',
        *(f'<p class="warning">{escape(str(text)[:CELL])}</p>' for text in warnings),
        _table([(key.replace('_', ' '), value) for key, value in facts.items()]),
        '<h2>Curves</h2>' if charts else '',
        '<div class="charts">',
        *(_chart(chart) for chart in charts[:CHARTS]),
        '</div>',
        f'<p class="note">{len(charts) - CHARTS} more are below, as numbers.</p>' if len(charts) > CHARTS else '',
    ]
    if 'reconstruction' in pictures:
        sections += ['<h2>Reconstructions</h2>', _player(pictures['reconstruction'], epochs)]
    for kind, title in (
        ('comparison', 'On labelled images'),
        ('features', 'Features and attention of each stage'),
        ('neighbours', 'Nearest neighbours'),
    ):
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
        return str(value)[:CELL]
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
    try:
        content = read_bytes(path, PICTURE, follow=False)
        if not content.startswith(b'\xff\xd8'):
            raise ValueError(f'{path} is no JPEG')
    except (OSError, ValueError):
        return f'<p class="note">{when}: the picture cannot be read</p>'
    return f'<p class="note">{when}</p>{_image(content, "jpeg", f"{title}: {when}")}'


def _player(pictures: list[tuple[int, Path]], epochs: list) -> str:
    """Return pictures with a slider, the last one shown; as many of them as the page has room for."""
    size = max(1, *(min(path.lstat().st_size, PICTURE) for _, path in pictures))
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
