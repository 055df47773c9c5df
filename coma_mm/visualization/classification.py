"""Results on labelled images as pictures: a confusion matrix, the worst mistakes, a comparison of accuracies."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..datasets.loading import to_picture
from ..evaluation.accuracy import Accuracy
from ..utils.text import one_line
from .figures import DPI, save, shorten

SHOWN = 25  # classes of a matrix, at most
COLUMNS = 4  # of images


def draw_confusion(counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix; of many classes those with the most mistakes.

    ``counts``, ``(K, K)``, are images by their class and by what they were taken for.
    """
    right, total = counts.diagonal(), counts.sum()
    title = f'{right.sum() / max(1, total):.1%} of {total:,} images right'
    seen = counts.sum(1)
    title += f'\n{(right[seen > 0] / seen[seen > 0]).mean() if total else 0:.1%} on average over classes'
    if len(classes) > SHOWN:
        wrong = counts.sum(0) + counts.sum(1) - 2 * right
        kept = np.sort(np.argsort(-wrong, kind='stable')[:SHOWN])
        title += f'\nthe {SHOWN} of {len(classes)} classes with the most mistakes'
        counts, classes, seen = counts[np.ix_(kept, kept)], [classes[i] for i in kept], seen[kept]
    names = [_plain(shorten(name, 24)) for name in classes]
    side = 1.6 + 0.36 * len(names)
    figure = Figure(figsize=(max(3.6, side + 1.2), max(3.4, side + 1.0)), dpi=DPI, layout='constrained')
    axes = figure.subplots()
    fractions = counts / np.maximum(1, seen)[:, None]
    axes.imshow(fractions, cmap='Blues', vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = 'white' if fractions[row, column] > 0.6 else '#222'
            axes.text(column, row, f'{count:g}', ha='center', va='center', fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel('taken for', fontsize=9)
    axes.set_ylabel('is', fontsize=9)
    figure.suptitle(title, fontsize=9)
    return save(figure, None)


def draw_mistakes(images: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Draw images ``(H, W, C)``, uint8, RGB if C is 3; above each its label, what it is and what it was taken for."""
    rows, columns = -(-len(images) // COLUMNS), min(COLUMNS, len(images))
    lines = max(label.count('\n') + 1 for label in labels)
    figure = Figure(figsize=(1.9 * columns, (2.2 + 0.17 * lines) * rows), dpi=DPI, layout='constrained')
    for axes, image, label in zip(figure.subplots(rows, columns, squeeze=False).flat, images, labels):
        axes.imshow(to_picture(image), cmap='gray', vmin=0, vmax=255, interpolation='nearest')
        axes.set_title(_plain(label), fontsize=8)
    for axes in figure.axes:
        axes.axis('off')
    return save(figure, None)


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


def _plain(text: str) -> str:
    return '\n'.join(one_line(line) for line in text.split('\n')).replace('$', r'\$')


def _label(column: str) -> str:
    return f'{column}\na class' if column.endswith(('label', 'labels')) and not column.startswith('all') else column
