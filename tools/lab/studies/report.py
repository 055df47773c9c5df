"""Tables and plots from lines of results. No model is loaded and no data is read.

A study's ``report`` has

- ``qualities``: what the table shows, key -> title;
- ``reach``: ``dict(reference=CELL, quality=KEY)``: images, operations and time at which a cell's curve reaches the end
  of the reference; ``study`` takes the curves of another study, ``times`` multiplies by a quality of this one;
- ``plots``: each ``dict(x=[KEYS], y=[KEYS])`` is a picture of the curves, a panel for each pair; with ``xscale``,
  ``yscale``, and the cells that are left out, ``omit``, or the only ones, on any folder, ``only``;
- ``bars``: ``dict(qualities=[KEYS], cells={CELL: LABEL})``: bars of the cells, a panel for each quality.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
from mmengine.config import Config

from coma_mm.utils.files import atomic_write

from .grid import read_results, results_file

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter  # noqa: E402

TITLES = dict(
    images='images seen',
    gflops='GFLOPs spent',
    seconds='seconds of training',
    loss='loss on held-out images',
    loss_evaluation='loss of the evaluation branch',
    epochs='epochs',
    frequency='spatial frequency (cycles/px)',
    error='error, as a share of power',
)
COSTS = ('images', 'gflops', 'seconds')
NONE = '–'


def write_report(study: Config, name: str, size: str) -> list[Path]:
    """Write ``NAME.md`` and its plots beside the results; return their paths.

    Raises:
        ValueError: If there are no results.
    """
    lines = read_results(name, size)
    place = results_file(name, size)
    if not lines:
        raise ValueError(
            f'there are no results of size {size} in {place}: run tools/lab/study.py {name} --size {size} first'
        )
    stem = f'{name}-gpu' if size == 'gpu' else name
    spec = study.get('report', {})
    order = list(study.cells)

    def place_of(line: dict) -> tuple:
        cell, _, folder = line['cell'].partition('@')
        return folder, order.index(cell) if cell in order else len(order), line['seed']

    lines.sort(key=place_of)
    text = [f'# {name}', describe(name, size, lines), table(expand_rows(lines), spec.get('qualities', {}))]
    if spec.get('reach'):  # a study that inherits another's sets it to None
        text.append(reach_table(lines, size, **spec['reach']))
    paths = []
    for number, plot in enumerate(spec.get('plots', [])):
        path = place.with_name(f'{stem}-plot{number or ""}.png')
        if draw(path, lines, **plot):
            text.append(f'![{" and ".join(_list(plot["y"]))}]({path.name})')
            paths.append(path)
    if spec.get('bars'):
        paths.append(place.with_name(f'{stem}-bars.png'))
        draw_bars(paths[-1], lines, spec['qualities'], **spec['bars'])
    pictures = sorted(place.parent.glob(f'{name}-*-[0-9].jpg'))
    text += [f'![{picture.stem}]({picture.name})' for picture in pictures]
    with atomic_write(place.with_name(f'{stem}.md')) as unfinished:
        unfinished.write_text('\n\n'.join(text) + '\n')
    return [place.with_name(f'{stem}.md'), *paths]


def describe(name: str, size: str, lines: list[dict]) -> str:
    """Say where the numbers come from and what they cost."""
    devices = sorted({f'{line["device"]}, {line["threads"]} threads' for line in lines})
    commits = sorted({line['commit'] or 'unknown' for line in lines})
    dates = sorted({line['date'] for line in lines})
    own = [line for line in lines if 'taken_from' not in line]
    minutes = sum(line.get('seconds', 0) + sum(line['seconds_measuring'].values()) for line in own) / 60
    cost = f'{minutes / 60:.1f} hours' if minutes > 60 else f'{minutes:.1f} minutes'
    text = (
        f'Written by `tools/lab/study.py {name} --size {size} --report` from the {len(lines)} lines of that size in '
        f'[{name}.jsonl]({results_file(name, size).name}). Runs of {", ".join(dates)} on {"; ".join(devices)}, at '
        f'commits {", ".join(commits)}; {cost} in all. Numbers are means over seeds, with their range in '
        'brackets.'
    )
    if taken := sorted({line['taken_from'] for line in lines if 'taken_from' in line}):
        text += f' {len(lines) - len(own)} of the lines are those of the same runs in {", ".join(taken)}.'
    if any(line.get('shared') for line in lines):
        text += ' Seconds with * are those of a machine that had other work too: compare GFLOPs instead.'
    return text


# ---- tables ----


def expand_rows(lines: list[dict]) -> list[dict]:
    """Return the lines with the numbers of several models, ``rows``, given to lines of these names or made such."""
    expanded = [dict(line, qualities=dict(line.get('qualities', {}))) for line in lines]
    for line in lines:
        for name, values in line.get('rows', {}).items():
            same = [other for other in expanded if (other['cell'], other['seed']) == (name, line['seed'])]
            if same:
                same[0]['qualities'] |= values
            else:
                expanded.append(dict(cell=name, seed=line['seed'], qualities=values))
    return [line for line in expanded if line['qualities']]


def table(lines: list[dict], titles: dict[str, str]) -> str:
    """Return the table of what cells cost and are worth."""
    costs = [key for key in COSTS if any(line.get(key) for line in lines)]
    titles = {key: title for key, title in titles.items() if any(key in line['qualities'] for line in lines)}
    heads = ['cell', 'seeds', *(TITLES[key] for key in costs), *titles.values()]
    rows = []
    for cell in dict.fromkeys(line['cell'] for line in lines):
        same = [line for line in lines if line['cell'] == cell]
        row = [cell, str(len(same))]
        for key in costs:
            shared = '*' if key == 'seconds' and any(line.get('shared') for line in same) else ''
            row.append(f'{mean(line.get(key, 0) for line in same):,.0f}{shared}')
        row += [spread([line['qualities'][key] for line in same if key in line['qualities']]) for key in titles]
        rows.append(row)
    return markdown(heads, rows)


def spread(values: list[float]) -> str:
    """Return the mean of some values and, of several, their range."""
    if not values:
        return NONE
    text = f'{mean(values):.4g}'
    return text if len(values) == 1 else f'{text} ({min(values):.4g}-{max(values):.4g})'


def markdown(heads: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table in Markdown."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in [heads, ['---'] * len(heads), *rows])


def reach_table(
    lines: list[dict], size: str, reference: str, quality: str, study: str | None = None, times: str | None = None
) -> str:
    """Return what each cell needs to come to where the reference ends, and where it is at equal GFLOPs."""
    curves = read_results(study, size) if study else lines
    curves = [line for line in curves if len(line.get('curve', ())) > 1 and quality in line['curve'][-1]]
    goals = {line['seed']: line['curve'][-1][quality] for line in curves if line['cell'] == reference}
    if not goals:
        return f'What cells need to come to where {reference} ends is not known yet: it has not been run.'
    goal, budget = mean(goals.values()), min(line['gflops'] for line in curves)
    keys = [key for key in COSTS if key in curves[0]['curve'][-1]]
    heads = ['cell', *(f'{TITLES[key]} to {quality} {goal:.4g}' for key in keys)]
    heads.append(f'{quality} after {budget:,.0f} GFLOPs')
    if times:
        heads += [f'GFLOPs x {times} / 1e9', f'seconds x {times} / 1e6']
    rows = []
    for cell in dict.fromkeys(line['cell'] for line in curves):
        seeds, same = zip(*[(line['seed'], line['curve']) for line in curves if line['cell'] == cell])
        ends = [goals.get(seed, goal) for seed in seeds]  # each seed is measured against its own reference
        needed = {key: [crossing(curve, key, quality, end) for curve, end in zip(same, ends)] for key in keys}
        found = {key: [value for value in values if value is not None] for key, values in needed.items()}
        reached = {key: mean(values) for key, values in found.items() if len(values) == len(same)}  # by all seeds
        row = [cell, *(f'{reached[key]:,.0f}' if key in reached else NONE for key in keys)]
        reaches = [interpolate(curve, 'gflops', quality, budget) for curve in same]
        row.append(spread([value for value in reaches if value is not None]))
        if times:
            factor = [line['qualities'][times] for line in lines if line['cell'] == cell and times in line['qualities']]
            for key, scale in (('gflops', 1e9), ('seconds', 1e6)):
                known = factor and key in reached
                row.append(f'{reached[key] * mean(factor) / scale:.4g}' if known else NONE)
        rows.append(row)
    source = f' (curves of the study {study})' if study else ''
    return f'To come to where {reference} ends{source}:\n\n' + markdown(heads, rows)


def crossing(curve: list[dict], x: str, y: str, goal: float) -> float | None:
    """Return where a falling curve first comes down to a value, between its points in a straight line.

    But for its first piece, from random weights, which is none: there the end of it.
    """
    before = None
    for point in curve:
        if point[y] <= goal:
            if before is None or before is curve[0]:
                return point[x]
            return before[x] + (point[x] - before[x]) * (before[y] - goal) / (before[y] - point[y])
        before = point
    return None


def interpolate(curve: list[dict], x: str, y: str, place: float) -> float | None:
    """Return a curve's value at a place, between its points in a straight line; ``None`` in the first piece."""
    if place < curve[1][x]:
        return None
    for before, after in zip(curve[1:], curve[2:]):
        if place <= after[x]:
            return before[y] + (after[y] - before[y]) * (place - before[x]) / (after[x] - before[x])
    return curve[-1][y]


# ---- plots ----


def draw(
    path: Path,
    lines: list[dict],
    x: str | list[str],
    y: str | list[str],
    xscale: str = 'linear',
    yscale: str = 'linear',
    omit: Collection[str] = (),
    only: Collection[str] = (),
) -> bool:
    """Draw the curves of all cells, a panel for each x and y; return whether there was anything to draw.

    Seeds of a cell have its colour. Keys that end in ``_expected`` or ``_baseline`` beside a y are drawn dashed.
    """
    xs, ys = _list(x), _list(y)
    lines = [line for line in lines if line.get('curve') and line['cell'] not in omit]
    lines = [line for line in lines if not only or line['cell'].partition('@')[0] in only]
    if not any(key in point for line in lines for point in line['curve'] for key in ys):
        return False
    columns = len(xs) if len(xs) > 1 else min(2, len(ys))
    panels = [(x_key, y_key) for y_key in ys for x_key in xs]
    height = -(-len(panels) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(4.2 * columns, 3.4 * height), layout='constrained')
    axes = np.atleast_1d(axes).ravel()
    cells = dict.fromkeys(line['cell'] for line in lines)
    wheel = plt.get_cmap('tab10' if len(cells) <= 10 else 'tab20')
    colours = {cell: wheel(i % wheel.N) for i, cell in enumerate(cells)}
    for panel, (x_key, y_key) in zip(axes, panels):
        for line in lines:
            for key, style in ((y_key, '-'), (f'{y_key}_expected', ':'), (f'{y_key}_baseline', '--')):
                points = [(point[x_key], point[key]) for point in line['curve'] if key in point and x_key in point]
                if xscale == 'log':
                    points = [point for point in points if point[0] > 0]  # where there is no place, nor room above
                label = line['cell'] if key == y_key else None
                if points:
                    marker = '.' if len(points) < 10 else None
                    panel.plot(*zip(*points), style, color=colours[line['cell']], marker=marker, lw=1.2, label=label)
        panel.set(xlabel=_title(x_key), ylabel=_title(y_key), xscale=xscale, yscale=yscale)
        if xscale == 'log':  # half a decade would have one label, or one for each line
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_minor_formatter(NullFormatter())
        if xscale == 'log' or x_key in COSTS:  # 50k, which has room where 50000 has not
            panel.xaxis.set_major_formatter(EngFormatter(sep=''))
        panel.tick_params(axis='x', labelsize=8)
        panel.spines[['top', 'right']].set_visible(False)
    for panel in axes[len(panels) :]:
        panel.remove()
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc='outside right upper', frameon=False, fontsize=8)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
    plt.close(figure)
    return True


def draw_bars(path: Path, lines: list[dict], titles: dict[str, str], qualities: list[str], cells: dict) -> None:
    """Draw what cells are worth: the mean over seeds as a bar, with its number, and each seed as a point."""
    cells = {cell: label for cell, label in cells.items() if any(line['cell'] == cell for line in lines)}
    figure, axes = plt.subplots(
        1, len(qualities), figsize=(4.2 * len(qualities), 0.8 + 0.36 * len(cells)), sharey=True, layout='constrained'
    )
    for panel, key in zip(np.atleast_1d(axes), qualities):
        found = {
            cell: [line['qualities'][key] for line in lines if line['cell'] == cell and key in line['qualities']]
            for cell in cells
        }
        for place, (cell, values) in enumerate(found.items()):
            if values:
                panel.barh(place, mean(values), color='C1' if cell == next(iter(cells)) else 'C0', alpha=0.75)
                panel.plot(values, [place] * len(values), 'k.', ms=5)
                panel.text(max(values), place, f'  {mean(values):.1f}', va='center', fontsize=8)
        values = [value for each in found.values() for value in each]
        panel.set(xlabel=titles[key], xlim=(0, 1.15 * max(values, default=1)), yticks=range(len(cells)))
        panel.set_yticklabels(cells.values())
        panel.set_ylim(len(cells) - 0.4, -0.6)
        panel.spines[['top', 'right']].set_visible(False)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
    plt.close(figure)


def _title(key: str) -> str:
    return TITLES.get(key, key.replace('_', ' '))


def _list(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)
