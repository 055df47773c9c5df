"""Measure what weights are worth on labelled images: kNN and linear probes, beside random weights and raw pixels."""

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..utils import manifest
from ..utils.files import MARK
from ..utils.paths import short_path
from ..utils.text import one_line, printable
from ..version import __version__
from . import types
from .images import add_max_pixels
from .outputs import add_force, check_output
from .parser import ArgumentParser

COMMANDS = 'give [CONFIG] WEIGHTS, or the folder of a run'
JSON, PICTURE = 'compare.json', 'compare.png'
RANDOM, PIXELS = 'random weights', 'raw pixels'
NETWORKS = 3  # of random weights, at most
AVERAGES = 8  # of raw pixels along a side


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm compare', description=__doc__)
    parser.usage = '%(prog)s [CONFIG] RUN LABELLED_FOLDER [options]'
    parser.add_argument(
        'names',
        nargs='+',
        type=types.path,
        metavar='RUN LABELLED_FOLDER',
        help='folder of a run, or a file of weights, a config before it if it does not say what it holds; a folder '
        'with a sub-folder of images for each class, or with train and val, which have these',
    )
    parser.add_argument('--val', type=types.folder, help='folder of images to classify (a fifth of each class)')
    parser.add_argument(
        '--against',
        nargs='+',
        type=types.weights,
        default=[],
        metavar='WEIGHTS',
        help='more weights: runs, files, addresses, timm://NAME@FILE',
    )
    parser.add_argument('--seeds', type=types.whole(1, 100), default=5, help='draws of few labels (%(default)s)')
    parser.add_argument('--out', type=types.output_folder, help="folder of compare.json and compare.png (the run's)")
    parser.add_argument('--size', type=types.image_size, help='side of the images in pixels (what the weights say)')
    parser.add_argument('--exclude', type=types.pattern, nargs='+', metavar='GLOB', help="leave out, e.g. '*_mask.png'")
    parser.add_argument('--batch-size', type=types.batch_size, default=64, help='(%(default)s)')
    parser.add_argument('--num-workers', type=types.workers, default=4, help='processes that read images (%(default)s)')
    parser.add_argument('--device', type=types.device, help='(cuda if there is one)')
    add_max_pixels(parser)
    add_force(parser)
    args = parser.parse_args()
    *args.names, folder = args.names
    if not 1 <= len(args.names) <= 2 or len(args.names) == 2 and not args.names[0].endswith('.py'):
        parser.error('give two names, the folder of a run and a folder of labelled images')
    for name, read in [(folder, types.folder), *((name, types.weights) for name in args.names)]:
        try:
            read(name)
        except types.ArgumentTypeError as error:
            parser.error(str(error))
    args.folder = folder
    args.run = find_run(args.names[-1])
    args.out = args.out or args.run or os.curdir
    for root in filter(None, (folder, args.val)):
        if Path(os.path.realpath(args.out)).is_relative_to(os.path.realpath(root)):
            raise ValueError(f'{args.out} lies in {root}, which is read: name another folder with --out')
    files = [name for name in [*args.names, *args.against] if os.path.isfile(name)]
    for name in (JSON, PICTURE):
        check_output(Path(args.out, name), '--out', [*files, folder, args.val], args.force)
    return args


def find_run(name: str) -> Path | None:
    """Return the folder of a run, if a name is that, or a file in it."""
    place = Path(name) if os.path.isdir(name) else Path(name).parent
    return place if '://' not in name and manifest.has_manifest(place) else None


def main() -> None:
    """Compare."""
    args = parse_args()
    print(f'coma_mm {__version__}: comparing {printable(args.names[-1])}; loading PyTorch ...', flush=True)
    import torch
    from mmengine.logging import MMLogger

    from ..datasets.labelled import find_labelled
    from ..evaluation.compare import judge, make_table
    from ..export.extractor import open_weights
    from ..visualization.comparison import draw_comparison

    MMLogger.get_current_instance().setLevel('WARNING')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    labelled = find_labelled(args.folder, args.val, args.exclude)
    print(
        f'{len(labelled.learn):,} images of {len(labelled.classes)} classes to learn from, '
        f'{len(labelled.test):,} to classify'
    )
    for sentence in labelled.left_out:
        print(printable(sentence))
    results = Measurements(labelled, args)
    named = read_names([*args.names, *args.against])
    opened = [open_weights(*one[:2], size=args.size, max_pixels=args.max_pixels) for one in named]
    for i, ((*_, name), weights) in enumerate(zip(named, opened)):
        results.add(weights, name, with_baselines=i == 0)
    rows = results.rows
    if results.skipped:
        print(f'images that could not be read and are left out: {len(results.skipped)}')
    verdicts = judge(rows, RANDOM)
    print('', 'accuracy in percent, +- one standard error', make_table(rows), '', *verdicts, '', sep='\n')
    title = f'{short_path(args.names[-1])} on {short_path(args.folder)}'
    with lend(args.out, PICTURE, 'picture') as unfinished:
        picture = draw_comparison(rows, title, unfinished)
    with lend(args.out, JSON, 'comparison') as unfinished:
        unfinished.write_text(json.dumps(results.describe() | dict(verdicts=verdicts), indent=1))
    if args.run is not None and os.path.samefile(args.run, args.out):
        add_to_report(args.run, named[0][1], picture)
    print(printable(f'written to {short_path(Path(args.out, JSON))} and {PICTURE} beside it'))


def read_names(names: list[str]) -> list[tuple[str | None, str, str]]:
    """Return config, weights and what they are called, for each that is named.

    Raises:
        ValueError: If two are called the same.
    """
    from ..engine.runner.runs import resolve_run

    found: list[tuple[str | None, str, str]] = []
    while names:
        before = names
        config, checkpoint, names = resolve_run(names, COMMANDS)
        called = one_line(short_path(before[len(before) - len(names) - 1]))
        if called in [other for *_, other in found]:
            raise ValueError(f'{called} is named twice')
        found.append((config, checkpoint, called))
    return found


class Measurements:
    """Rows of accuracies, of weights on the same images.

    Args:
        labelled: The images.
        args: Options of the command.
    """

    def __init__(self, labelled: Any, args: Namespace):
        self.labelled, self.args = labelled, args
        self.pairs = labelled.learn + labelled.test
        self.kept = list(range(len(self.pairs)))  # numbers of those that can be read
        self.skipped: list[str] = []
        self.rows: dict[str, dict] = {}
        self.sizes: dict[str, tuple[int, int]] = {}

    def add(self, weights: Any, name: str, with_baselines: bool = False) -> None:
        """Measure weights, and if asked for also random ones of the same backbone and raw pixels."""
        import torch
        from torch import nn

        from ..evaluation.features import ImageFiles, extract_features
        from ..models import FeatureExtractor

        extractors = {name: [weights.extractor]}
        if with_baselines:
            pixels = FeatureExtractor(nn.AdaptiveAvgPool2d(AVERAGES), False, dict(type='mmengine.ImgDataPreprocessor'))
            networks = range(min(NETWORKS, self.args.seeds)) if weights.cfg is not None else ()
            extractors |= {RANDOM: [weights.draw_random(seed) for seed in networks], PIXELS: [pixels.eval()]}
        height, width = weights.size
        print(printable(f'features of {", ".join(extractors)}, from images of {width} x {height} px'), flush=True)
        images = ImageFiles([self.pairs[i][0] for i in self.kept], height, width, weights.settings)
        every = [extractor.to(self.args.device) for group in extractors.values() for extractor in group]
        try:
            features, read = extract_features(every, images, self.args.batch_size, self.args.num_workers)
        except ValueError as error:
            channels = weights.settings['channels']
            raise ValueError(f'{name}, of {channels} channels, {height} x {width} px: {error}') from None
        if not self.rows:
            self.skipped = [path for i, path in enumerate(images.paths) if i not in set(read)]
            self.kept = [self.kept[i] for i in read]
        elif len(read) < len(self.kept):
            raise ValueError(f'{name}: {len(self.kept) - len(read)} images cannot be read as these weights take them')
        labels = torch.tensor([self.pairs[i][1] for i in self.kept])
        learn = sum(i < len(self.labelled.learn) for i in self.kept)
        self._measure(extractors, [(part[:learn], part[learn:]) for part in features], labels[:learn], labels[learn:])
        self.sizes |= dict.fromkeys(extractors, weights.size)

    def _measure(self, extractors: dict, parts: list, labels: Any, truth: Any) -> None:
        from ..evaluation.compare import measure

        if len(labels.unique()) < 2 or not len(truth):
            raise ValueError(
                'too few images can be read: none are left to classify, or of one class only to learn from'
            )
        for name, group in extractors.items():
            own, parts = parts[: len(group)], parts[len(group) :]
            try:
                self.rows[name] = measure(own, labels, truth, self.args.seeds)
            except ValueError as error:
                raise ValueError(f'{name}: {error}') from None

    def describe(self) -> dict:
        """Return all of it as plain data."""
        return dict(
            kind=f'comparison of {MARK}',
            version=__version__,
            labelled=str(self.args.folder),
            val=None if self.args.val is None else str(self.args.val),
            classes=list(self.labelled.classes),
            learn=sum(i < len(self.labelled.learn) for i in self.kept),
            test=sum(i >= len(self.labelled.learn) for i in self.kept),
            unreadable=self.skipped,
            seeds=self.args.seeds,
            rows=[
                dict(
                    name=name,
                    size=self.sizes[name],
                    accuracy={
                        column: dict(mean=cell.mean, standard_error=cell.error, draws=cell.draws)
                        for column, cell in row.items()
                    },
                )
                for name, row in self.rows.items()
            ],
        )


@contextmanager
def lend(folder: str | os.PathLike, name: str, kind: str) -> Iterator[Path]:
    """Lend a name to write a file to, which becomes one of the run's own if the folder is that of a run."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    in_run = manifest.has_manifest(folder)
    with manifest.own_file(folder, name, kind) if in_run else manifest.any_file(Path(folder, name)) as unfinished:
        yield unfinished


def add_to_report(run: Path, checkpoint: str, picture: Any) -> None:
    """Keep the picture among those of the run, and write its page anew."""
    from ..visualization.report import REPORT, write_report
    from ..visualization.run_files import keep_picture

    step = manifest.read_manifest(run).get(Path(checkpoint).name, {}).get('iter', 0)
    keep_picture(run, 'comparison', picture, step)
    if manifest.is_own(run, REPORT):
        write_report(run)
