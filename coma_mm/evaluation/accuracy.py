"""Comparison of weights on labelled images: accuracies, their errors, and what they say.

Shapes: N images to learn from, Q images to classify, C features of each, S draws of labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .knn import NearestNeighbours
from .ridge import LinearProbe, draw_labelled

FEW = 1, 5, 20  # labels a class
NEIGHBOURS = 20
FINE_TUNED = 'fine-tuned'  # a column
CLEAR = 2.0  # standard errors that a difference has to have


@dataclass
class Accuracy:
    """The share of images classified correctly."""

    hits: Tensor  # (S, Q), bool: the images that are, by draw of the labels

    @property
    def draws(self) -> list[float]:
        """Accuracy of each draw, in percent."""
        return (100 * self.hits.double().mean(1)).tolist()

    @property
    def mean(self) -> float:
        """Mean of all draws, in percent."""
        return 100 * self.hits.double().mean().item()

    @property
    def error(self) -> float:
        """Standard error in percent, over draws of the labels and over images to classify."""
        return 100 * _standard_error(self.hits.double())

    def lead(self, other: 'Accuracy') -> int:
        """Return 1 if this is clearly better than another one, -1 if it is clearly worse, else 0.

        Both have classified the same images after the same draws, so the error is that of their differences.
        """
        difference = self.hits.double() - other.hits.double()
        mean, error = difference.mean().item(), _standard_error(difference)
        return 0 if abs(mean) <= CLEAR * error or not mean else 1 if mean > 0 else -1


def _standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of (S, Q), with draws and images as two independent samples."""
    draws, images = values.mean(1), values.mean(0)
    variance = images.var(correction=0) / len(images)
    if len(draws) > 1:
        variance = variance + draws.var() / len(draws)
    return variance.sqrt().item()


def count_labels(labels: Tensor) -> dict[str, int | None]:
    """Return the probes to measure, by name: labels a class, fewer than some class has, or ``None`` for all."""
    most = int(labels.bincount().max())
    few: dict[str, int | None] = {f'{count} label{"s" if count > 1 else ""}': count for count in FEW if count < most}
    return few | {'all labels': None}


def measure(
    networks: Sequence[tuple[Tensor, Tensor]], labels: Tensor, truth: Tensor, seeds: int = 5, whole: int | None = None
) -> dict[str, Accuracy]:
    """Classify by nearest neighbours, and by linear probes with few labels and with all.

    Args:
        networks: Features (N, C) to learn from and (Q, C) to classify, of each network. They share the draws.
        labels: (N,), int64.
        truth: (Q,), int64.
        seeds: Draws of the labels.
        whole: Networks, the first ones, that have features of all N images; all if ``None``. Others have those of their
            draws.

    Returns:
        By ``'kNN'``, ``'5 labels'``, ..., ``'all labels'``.
    """
    if not all(part.isfinite().all() for pair in networks for part in pair):
        raise ValueError('its features have NaN or infinite values')
    complete = networks[:whole]
    neighbours = [NearestNeighbours(bank, labels).predict(queries, [NEIGHBOURS])[:, 0] for bank, queries in complete]
    found = dict(kNN=Accuracy(torch.stack([predicted == truth for predicted in neighbours])))
    for name, per_class in count_labels(labels).items():
        hits = []
        for seed in range(seeds if per_class else len(complete)):
            bank, queries = networks[seed % len(networks)]
            chosen = draw_labelled(labels, per_class, seed)
            hits.append(LinearProbe(bank[chosen], labels[chosen]).predict(queries) == truth)
        found[name] = Accuracy(torch.stack(hits))
    return found


def judge(rows: dict[str, dict[str, Accuracy]], baseline: str) -> list[str]:
    """Return sentences on the first row: against a baseline with numbers, against others in short.

    Rows may lack columns, and the baseline may be missing.
    """
    first, *others = rows
    named = {'kNN': 'by nearest neighbours', 'all labels': 'with all labels', FINE_TUNED: FINE_TUNED}
    verdicts = []
    for column, own in rows[first].items():
        if theirs := rows.get(baseline, {}).get(column):
            how = named.get(column, f'with {column} a class')
            verdict = ('no gain', 'a gain', 'a loss')[own.lead(theirs)]
            verdicts.append(f'{how}: {own.mean:.1f} +- {own.error:.1f} %, {baseline} {theirs.mean:.1f}: {verdict}')
    for other in others:
        if other != baseline:
            leads = {column: rows[first][column].lead(theirs) for column, theirs in rows[other].items()}
            verdicts.append(f'against {other}: ' + '; '.join(_sort(leads)))
    return verdicts


def _sort(leads: dict[str, int]) -> list[str]:
    words = {1: 'better', 0: 'no clear difference', -1: 'worse'}
    found = {word: [column for column, lead in leads.items() if lead == sign] for sign, word in words.items()}
    return [f'{word} ({", ".join(columns)})' for word, columns in found.items() if columns]


def make_table(rows: dict[str, dict[str, Accuracy]]) -> str:
    """Return an aligned table, in percent, with ``-`` for what a row lacks."""
    columns = list(next(iter(rows.values())))
    lines = [['', *columns]]
    for name, row in rows.items():
        cells = map(row.get, columns)
        lines.append([name, *(f'{cell.mean:.1f} +- {cell.error:.1f}' if cell else '-' for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join(
        '  '.join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        ).rstrip()
        for line in lines
    )
