"""``coma_mm.compare``: accuracies of weights on labelled images, beside random weights and raw pixels."""

import os
from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from .datasets.exclusion import Exclusion
from .datasets.labelled import Labelled, find_labelled
from .engine.runner.run_folder import resolve_run
from .evaluation.accuracy import FEW, FINE_TUNED, Accuracy, judge, measure
from .evaluation.features import ImageFiles, extract_features
from .evaluation.ridge import draw_labelled
from .evaluation.short_finetuning import ShortFineTuning
from .export.extractor import Weights, open_weights
from .models import FeatureExtractor
from .settings import CompareSettings, given_settings
from .utils.arguments import require_device
from .utils.files import MARK
from .utils.paths import is_named, short_path
from .utils.text import one_line, printable
from .version import __version__

COMMANDS = 'give [CONFIG] WEIGHTS, or the folder of a run'
RANDOM, PIXELS = 'random weights', 'raw pixels'
NETWORKS = 3  # of random weights, at most
MANY = 5000  # images to learn from, beyond which all but the first of these see what they draw, and no more
AVERAGES = 8  # of raw pixels along a side


def compare(
    weights: str | PathLike | Sequence[str | PathLike], data: str | PathLike, **settings: Any
) -> dict[str, Any]:
    """Measure weights on labelled images: kNN and linear probes, beside random weights and raw pixels.

    Args:
        weights: The folder of a run, a file that says what it holds, or an address; or a config and its weights.
        data: A folder with a sub-folder of images for each class, or with ``train`` and ``val``, which have these.
        **settings: Such as ``against=['runs/other'], finetune=200``: the fields of :class:`.CompareSettings`, which are
            the options of the command. ``None`` is one's default.

    Returns:
        What the command writes to ``compare.json``: ``rows``, each with ``name`` and ``accuracy`` in percent by column,
        ``verdicts`` in words, and what was measured.

    Raises:
        FileNotFoundError: If there are no images or weights.
        ValueError: If a setting is impossible, or weights or images cannot be used.
    """
    names = [weights] if isinstance(weights, (str, PathLike)) else weights
    if not isinstance(names, Sequence) or not names or not all(map(is_named, names)):
        raise ValueError(f'weights must name a run, a file or an address, got {weights!r}')
    if len(names) > 1 and not (len(names) == 2 and os.fspath(names[0]).endswith('.py')):
        raise ValueError(f'weights must be one, or a config and its weights, got {weights!r}: give others as against')
    if not is_named(data):
        raise ValueError(f'data must be a folder with a sub-folder for each class, got {data!r}')
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # mmengine has a line for each random weight
    try:
        return measure_all(names, data, **settings).describe()
    finally:
        logger.setLevel(level)


def measure_all(names: Sequence[str | PathLike], data: str | PathLike, **settings: Any) -> 'Comparison':
    """Measure all weights and print the progress; arguments as of :func:`compare`."""
    chosen = check_settings(CompareSettings(**given_settings(CompareSettings, settings)))
    labelled = find_labelled(data, chosen.val, chosen.exclude)
    print(
        f'{len(labelled.learn):,} images of {len(labelled.classes)} classes to learn from, '
        f'{len(labelled.test):,} to classify, {find_largest_class(labelled):.1f} % of them of the largest class'
    )
    for sentence in labelled.left_out:
        print(printable(sentence))
    named = read_names([*names, *chosen.against])
    opened = [open_weights(*one[:2], size=chosen.size, max_pixels=chosen.max_pixels) for one in named]
    found = Comparison(labelled, data, chosen, named[0][1])
    for (*_, name), weights in zip(named, opened):
        found.add(weights, name)
    if found.skipped:
        print(f'images that could not be read and are left out: {len(found.skipped)}')
    return found


def find_largest_class(labelled: Labelled) -> float:
    """Return the part of the largest class in the images to classify, in percent: the accuracy of a blind guess."""
    counts = torch.tensor([label for _, label in labelled.test]).bincount()
    return 100 * counts.max().item() / len(labelled.test)


def check_settings(settings: CompareSettings) -> CompareSettings:
    """Refuse what is no setting, and choose a device if none is given."""
    against = settings.against
    if isinstance(against, (str, PathLike)) or not isinstance(against, Sequence) or not all(map(is_named, against)):
        raise ValueError(f'against must be a list of weights, got {against!r}')
    if settings.val is not None and not is_named(settings.val):
        raise ValueError(f'val must be a folder of images, got {settings.val!r}')
    Exclusion(settings.exclude)
    settings.device = settings.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    require_device(settings.device)
    return settings


def read_names(names: Sequence[str | PathLike]) -> list[tuple[str | None, str, str]]:
    """Return config, file and name of each of the weights; refuse any that are named twice."""
    left = [os.path.expanduser(name) for name in names]
    found: list[tuple[str | None, str, str]] = []
    while left:
        before = left
        config, checkpoint, left = resolve_run(left, COMMANDS)
        called = one_line(short_path(before[len(before) - len(left) - 1]))
        if called in [other for *_, other in found]:
            raise ValueError(f'{called} is named twice')
        found.append((config, checkpoint, called))
    return found


class Comparison:
    """Rows of accuracies, of weights on the same images; ``checkpoint`` is the file of the first weights."""

    def __init__(self, labelled: Labelled, data: str | PathLike, settings: CompareSettings, checkpoint: str):
        self.labelled, self.data, self.settings, self.checkpoint = labelled, data, settings, checkpoint
        self.pairs = labelled.learn + labelled.test
        self.kept = list(range(len(self.pairs)))  # numbers of those that can be read
        self.skipped: list[str] = []
        self.rows: dict[str, dict[str, Accuracy]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}

    @property
    def labels(self) -> Tensor:
        """Labels of all images that can be read."""
        return torch.tensor([self.pairs[i][1] for i in self.kept])

    @property
    def learn(self) -> int:
        """Number of images to learn from that can be read."""
        return sum(i < len(self.labelled.learn) for i in self.kept)

    def add(self, weights: Weights, name: str) -> None:
        """Measure weights; if they are the first, also random ones of the same backbone, and raw pixels."""
        settings, (height, width) = self.settings, weights.size
        groups = {name: [weights.extractor]}
        if not self.rows:
            pixels = FeatureExtractor(nn.AdaptiveAvgPool2d(AVERAGES), 'flat', dict(type='mmengine.ImgDataPreprocessor'))
            networks = [weights.draw_random(seed) for seed in range(min(NETWORKS, settings.seeds))]
            groups |= {RANDOM: networks, PIXELS: [pixels.eval()]}
        print(printable(f'features of {", ".join(groups)}, from images of {height} x {width} px'), flush=True)
        for group in groups.values():
            for extractor in group:
                extractor.to(settings.device)
        whole = {row: group[: 1 if len(self.labelled.learn) > MANY else None] for row, group in groups.items()}
        images = ImageFiles([self.pairs[i][0] for i in self.kept], height, width, weights.settings)
        every = [extractor for group in whole.values() for extractor in group]
        try:
            features, read = extract_features(every, images, settings.batch_size, settings.workers)
        except ValueError as error:
            channels = weights.settings['channels']
            raise ValueError(f'{name}, of {channels} channels, {height} x {width} px: {error}') from None
        self._keep(name, images.paths, read)
        images = images.take(read)
        for row, group in groups.items():
            own, features = features[: len(whole[row])], features[len(whole[row]) :]
            own += [self._extract_draws(group, number, images) for number in range(len(own), len(group))]
            self._measure(row, group, own, len(whole[row]), images)
        self.sizes |= dict.fromkeys(groups, weights.size)

    def _keep(self, name: str, paths: Sequence[str], read: Sequence[int]) -> None:
        """Leave out what the first weights cannot read; others have to read what is left."""
        if not self.rows:
            readable = set(read)
            self.skipped = [path for i, path in enumerate(paths) if i not in readable]
            self.kept = [self.kept[i] for i in read]
        elif len(read) < len(self.kept):
            raise ValueError(f'{name}: {len(self.kept) - len(read)} images cannot be read as these weights take them')
        if len(self.labels[: self.learn].unique()) < 2 or self.learn == len(self.kept):
            raise ValueError(
                'too few images can be read: none are left to classify, or of one class only to learn from'
            )

    def _extract_draws(self, group: Sequence[FeatureExtractor], number: int, images: ImageFiles) -> Tensor:
        """Return one network's features of the images that it draws and of those to classify; zeros for others."""
        settings, labels = self.settings, self.labels[: self.learn]
        seeds = range(number, settings.seeds, len(group))
        drawn = torch.cat([draw_labelled(labels, max(FEW), seed) for seed in seeds]).unique()
        seen = torch.cat([drawn, torch.arange(self.learn, len(images))])
        files = images.take(seen.tolist())
        (part,), _ = extract_features([group[number]], files, settings.batch_size, settings.workers)
        return torch.zeros(len(images), part.shape[1]).index_copy_(0, seen, part)

    def _measure(
        self, row: str, group: Sequence[FeatureExtractor], features: list[Tensor], whole: int, images: ImageFiles
    ) -> None:
        settings, learn = self.settings, self.learn
        labels, truth = self.labels[:learn], self.labels[learn:]
        try:
            found = measure([(part[:learn], part[learn:]) for part in features], labels, truth, settings.seeds, whole)
        except ValueError as error:
            raise ValueError(f'{row}: {error}') from None
        if settings.finetune and row != PIXELS:
            tuning = ShortFineTuning(images, labels, truth, settings.finetune, settings.batch_size, settings.workers)
            found[FINE_TUNED] = Accuracy(tuning.measure(row, group))
        self.rows[row] = found

    def describe(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        settings = self.settings
        return dict(
            kind=f'comparison of {MARK}',
            version=__version__,
            labelled=str(self.data),
            val=None if settings.val is None else str(settings.val),
            classes=list(self.labelled.classes),
            learn=self.learn,
            test=len(self.kept) - self.learn,
            largest_class=find_largest_class(self.labelled),
            unreadable=self.skipped,
            seeds=settings.seeds,
            steps=settings.finetune,
            rows=[
                dict(
                    name=name,
                    size=list(self.sizes[name]),
                    accuracy={
                        column: dict(mean=cell.mean, standard_error=cell.error, draws=cell.draws)
                        for column, cell in row.items()
                    },
                )
                for name, row in self.rows.items()
            ],
            verdicts=judge(self.rows, RANDOM),
        )
