#!/usr/bin/env python
"""Draw the tables of benchmark.py's JSON files: a bar or a line per row, medians with their ranges."""

import json
import re
from argparse import Namespace
from pathlib import Path
from statistics import median

import _lab
import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from coma_mm.cli import types
from coma_mm.cli.parser import ArgumentParser
from coma_mm.utils.files import atomic_write, require_writable

OURS, OTHERS = '#d1495b', '#8d99ae'
UNDRAWN = ('memory', 'profile', 'operations', 'imports', 'psnr', 'knn')  # read as numbers


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', type=types.file, metavar='JSON', help='written by benchmark.py --json')
    parser.add_argument(
        '--out', type=types.folder, default=Path('.'), help='folder for <name of the JSON>-<table>.png (here)'
    )
    args = parser.parse_args()
    require_writable(args.out)
    return args


def read(file: Path) -> dict:
    """Read the results of one run."""
    try:
        results = json.loads(file.read_text())
        results['machine'], results['tables']
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{file} was not written by benchmark.py --json') from None
    return results


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median, and how far below and above it the measured values reach."""
    middle = median(values)
    return middle, middle - min(values), max(values) - middle


def draw_bars(axes: Axes, table: dict) -> None:
    """Draw a bar for each row, the first on top, with its ratio to the first."""
    names = list(table['rows'])
    middles, below, above = zip(*(spread(values) for values in table['rows'].values()))
    colours = [OTHERS if re.search(r'MAE|\(mmpretrain\)|\(timm\)|alone', name) else OURS for name in names]
    axes.barh(names, middles, color=colours, xerr=(below, above), error_kw=dict(lw=1, capsize=2))
    axes.invert_yaxis()
    axes.set_xlabel(table['unit'])
    first = table['rows'][names[0]]
    ratios = [median(a / b for a, b in zip(values, first)) for values in table['rows'].values()]
    for position, (middle, high, ratio) in enumerate(zip(middles, above, ratios)):
        axes.annotate(
            f'{middle:.3g} ({ratio:.2f})',
            (middle + high, position),
            (4, 0),
            textcoords='offset points',
            va='center',
            fontsize=8,
        )
    axes.margins(x=0.18)
    axes.spines[['top', 'right']].set_visible(False)


def draw_lines(axes: Axes, table: dict) -> None:
    """Draw a line over image sizes for each kind of row, ``<kind>, <size> px``."""
    kinds: dict[str, dict[int, tuple[float, float, float]]] = {}
    for name, values in table['rows'].items():
        kind, _, size = name.removesuffix(' px').rpartition(', ')
        kinds.setdefault(kind, {})[int(size)] = spread(values)
    for kind, points in kinds.items():
        middles, below, above = zip(*points.values())
        axes.errorbar(list(points), middles, (below, above), marker='o', ms=4, capsize=2, label=kind)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(FixedLocator(sorted({size for points in kinds.values() for size in points})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:.0f}')
    axes.set_ylim(bottom=0)
    axes.set_xlabel('side of the image in px')
    axes.set_ylabel(table['unit'])
    axes.legend(frameon=False, fontsize=8)
    axes.spines[['top', 'right']].set_visible(False)


def main() -> None:
    """Draw."""
    args = parse_args()
    for file in args.files:
        results = read(file)
        machine, settings = results['machine'], results['machine']['settings']
        for name, table in results['tables'].items():
            if name in UNDRAWN:
                continue
            lines = name.startswith('resolution')
            height = 3.2 if lines else 0.9 + 0.28 * len(table['rows'])
            figure, axes = plt.subplots(figsize=(7, height), layout='constrained')
            (draw_lines if lines else draw_bars)(axes, table)
            compiled = ', compiled' if settings['compile'] else ''
            figure.suptitle(  # over the whole width, however long the names of rows are
                f'{name.replace("_", ", ")}: {machine["device"]}, {settings["precision"]}{compiled}, {machine["date"]}',
                fontsize=9,
            )
            path = args.out / f'{file.stem}-{name}.png'
            with atomic_write(path) as unfinished:
                figure.savefig(unfinished, dpi=110)
            plt.close(figure)
            print(f'wrote {path}')


if __name__ == '__main__':
    _lab.run('plot_benchmark', main)
