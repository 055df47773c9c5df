"""A run as one page, ``report.html``: its curves, its pictures and its settings, made from the files in its folder.

The page holds all it shows. It loads nothing from elsewhere, and a policy in it forbids browsers to.
"""

import base64
import os
from bisect import bisect_right
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np

from ..utils import manifest
from ..utils.files import MARK
from ..utils.reading import read_bytes
from ..utils.text import printable
from .charts import CHARTS, Chart, draw_chart, make_charts
from .run_files import PICTURES, ROWS, find_pictures, is_drawable, read_facts, read_newest_config, read_scalars

REPORT = 'report.html'
FRAMES = 800_000  # bytes of the pictures behind the slider, before base64
SETTINGS = 100_000  # characters
PICTURE = 4_000_000  # bytes
CELL = 2_000  # characters
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
    """Write the page of a run, replacing an earlier one only once it is complete, and return its path.

    Args:
        work_dir: The run's folder: ``*/vis_data/scalars.json``, ``pictures/`` and the config are read.
        path: File to write; ``report.html`` in that folder if ``None``.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise FileNotFoundError(f'there is no folder {work_dir}; give the work dir of a run')
    if path is None:
        manifest.require_no_other(work_dir, 'name another file with --out')
    scalars, pictures, settings = read_scalars(work_dir), find_pictures(work_dir), read_newest_config(work_dir)
    facts = read_facts(work_dir)
    if not scalars and not pictures and not facts:
        raise FileNotFoundError(
            f'{work_dir} is no work dir of a run: there are neither <time>/vis_data/scalars.json nor {PICTURES}/*.jpg'
        )
    page = printable(_page(work_dir.resolve().name, scalars, pictures, settings, facts))
    if path is None:
        return manifest.write_own(work_dir, REPORT, 'report', page)
    with manifest.any_file(path) as unfinished:
        unfinished.write_text(page, encoding='utf-8')
    return Path(path)


def _page(
    name: str,
    scalars: dict[str, list[tuple[int, float]]],
    pictures: dict[str, list[tuple[int, Path]]],
    settings: str,
    facts: dict,
) -> str:
    warnings, state = facts.pop('warnings', None), str(facts.pop('state', ''))[:CELL]
    facts.pop('finished', None)  # which the state says in words
    warnings = warnings[:ROWS] if isinstance(warnings, list) else []
    images = facts.get('images_per_iteration', 0)
    charts = make_charts(scalars, images if is_drawable(images) and images > 0 else None)
    epochs = scalars.get('epoch', [])
    sections = [
        f'<h1>{escape(name)}</h1>',
        f'<p class="note">{escape(state)}</p>' if state else '',
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
        ('confusion', 'Confusion matrix, of the best checkpoint'),
        ('mistakes', 'Its worst mistakes'),
        ('comparison', 'On labelled images'),
        ('features', 'Features and attention of each stage'),
        ('neighbours', 'Nearest neighbours'),
    ):
        if kind in pictures:
            sections += [f'<h2>{title}</h2>', _picture(title, *pictures[kind][-1], epochs)]
    if 'neighbours' in pictures:
        sections.append('<p class="note">By the average of the last map, standardised; the number is the cosine.</p>')
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


def _picture(title: str, step: int, path: Path, epochs: list[tuple[int, float]]) -> str:
    """Return a picture and when it was made; ``epochs`` are the logged ones, by step."""
    number = bisect_right(epochs, (step, float('inf')))
    when = f'{f"epoch {epochs[number - 1][1]:.0f}, " if number else ""}iteration {step:,}'
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
