"""A comparison of features as a picture: groups of bars."""

import os

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.compare import Accuracy
from ..utils.text import one_line
from .figures import DPI, save, shorten


def draw_comparison(
    rows: dict[str, dict[str, Accuracy]], title: str, path: str | os.PathLike | None = None
) -> np.ndarray:
    """Draw the accuracy of each row by name, a group of bars for each measurement, with its standard error.

    The first row has all columns. The picture is written to ``path`` if there is one.
    """
    columns = list(next(iter(rows.values())))
    figure = Figure(figsize=(max(6.4, 1.3 * len(columns)), 3.6 + 0.12 * len(rows)), dpi=DPI, layout='constrained')
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for i, (name, row) in enumerate(rows.items()):
        places = np.array([columns.index(column) for column in row]) + (i - (len(rows) - 1) / 2) * width
        means, errors = [cell.mean for cell in row.values()], [cell.error for cell in row.values()]
        label = shorten(name, 40).replace('$', r'\$')
        axes.bar(places, means, 0.92 * width, yerr=errors, label=label, error_kw=dict(elinewidth=0.9, capsize=2))
    axes.set_xticks(np.arange(len(columns)), [_label(column) for column in columns], fontsize=9)
    axes.set_ylabel('accuracy (%)', fontsize=9)
    axes.set_title(one_line(title).replace('$', r'\$'), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis='y', alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=min(2, len(rows)), fontsize=8, frameon=False)
    return save(figure, path)


def _label(column: str) -> str:
    return f'{column}\na class' if column.endswith(('label', 'labels')) and not column.startswith('all') else column
