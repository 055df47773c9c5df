"""Settings of ``coma-mm pretrain``, ``finetune`` and ``compare``, stated once for commands and functions.

Imports nothing that takes time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

from .utils import ranges
from .utils.arguments import did_you_mean

DYVITS = 'pico', 'tiny', 'small', 'base', 'large'
# names in mmpretrain
VITS = {'vit-tiny': 'deit-tiny', 'vit-small': 'deit-small', 'vit-base': 'base', 'vit-large': 'large'}
METHODS = 'mae', 'coma', 'align'
LOGGERS = 'tensorboard', 'wandb', 'mlflow'
DEFAULT_METHOD = 'align'
# weights that come along
WEIGHTS = 'coma_mm://dyvit-p_cifar10_taught'  # short runs start from them, and have them as their teacher
TEACHER = 'coma_mm://dyvit-p_cifar10'  # of short runs from random weights
# Images that a run shows: up to so many it starts from weights by default, or has a teacher. An estimate: the lead over
# runs without either is 2 to 4 points at 360,000 (docs/evidence.md, question 10), and shrinks.
SHORT_IMAGES = 1_000_000


def setting(help: str, default: Any = None, **option: Any) -> Any:
    """Return a field of a class of settings that is an option of a command as well.

    Args:
        help: Help of the option.
        default: The field's default. The command passes only options that the user typed.
        **option: ``range`` of numbers, or the ``type`` by its name in :mod:`.cli.types`; ``group`` of options of which
            one may be given; what ``argparse`` takes beside.
    """
    return field(default=default, metadata=dict(help=help, **option))


@dataclass
class RunSettings:
    """Settings of a new run of any kind; what each means is the help of its option."""

    data: Sequence[str]  # folders of images with all sub-folders, or .txt files of their paths
    out: str | PathLike  # the run's folder
    epochs: float | None = setting(
        'passes over the images (default: from the number of images)', range=ranges.EPOCHS, group='length'
    )
    steps: int | None = setting('steps of the optimiser', range=ranges.STEPS, group='length')
    minutes: float | None = setting(
        'minutes from the start of this command to its end', range=ranges.MINUTES, group='length'
    )
    batch_size: int | None = setting('images in a step (default: from the memory)', range=ranges.BATCH_SIZE)
    workers: int | None = setting(
        'processes that load images (default: from the number of cores)', range=ranges.WORKERS
    )
    lr: float | None = setting('peak of the learning rate (default: from arch and batch)', range=ranges.LEARNING_RATE)
    no_flip: bool | None = setting('do not mirror images', action='store_true')
    exclude: Sequence[str] | None = setting(
        "leave out images whose path below the folder matches, e.g. '*_mask.png' 'masks/*', in quotes",
        type='pattern',
        nargs='+',
        metavar='GLOB',
    )
    log: Sequence[str] | None = setting('send curves and pictures to these loggers as well', choices=LOGGERS, nargs='+')
    seed: int = setting('seed of weights, crops and masks (default: 0)', 0, range=ranges.SEED)
    max_pixels: int | None = setting(
        'largest height times width of an image (default: 10^8)', range=ranges.MAX_PIXELS, metavar='N'
    )


@dataclass
class PretrainSettings(RunSettings):
    """Settings of a new run of pre-training."""

    arch: str | None = setting(
        'pico, tiny, small, base, large, vit-tiny, ..., vit-large (default: tiny; in short runs pico, from weights)',
        type='arch',
    )
    init: str | PathLike | None = setting(
        "weights to start from, of a DyViT or a plain ViT: a run's folder, a file (ours, mmpretrain's, timm's, MAE's), "
        'coma_mm://NAME or hf://USER/NAME; see docs/start-from-weights.md (default: in runs of up to '
        f'{SHORT_IMAGES:,} images {WEIGHTS}, unless --arch, --method or --teacher is given; otherwise random weights)',
        type='init_weights',
        metavar='WEIGHTS',
    )
    size: int | None = setting(
        'side of the crops in pixels (default: 224, less where images are smaller, or the size of --init); patches '
        'have 4 px, or 2 px if it is below 128, or 1 px if it is below 64; those of a ViT are four times as large',
        range=ranges.IMAGE_SIZE,
    )
    method: str | None = setting(
        'mae: masked autoencoding; coma: the method of the paper; align: masked autoencoding that also aligns both '
        'halves of a photo; see docs/pretraining.md (default: mae with --init or --teacher, and in runs of up to '
        f'{SHORT_IMAGES:,} images, from weights or with a teacher; {DEFAULT_METHOD} in longer ones)',
        choices=METHODS,
    )
    teacher: str | PathLike | None = setting(
        'weights of a frozen encoder, in the same forms as --init; the decoder also predicts what it sees in each unit '
        f'(default: in runs of up to {SHORT_IMAGES:,} images {WEIGHTS} or, with --arch, {TEACHER}, unless '
        '--init or --method is given)',
        type='init_weights',
        metavar='WEIGHTS',
    )
    mask_ratio: float | None = setting(
        'hidden share of an image (default: 0.6; of mae without --teacher 0.75)', range=ranges.MASK_RATIO, metavar='R'
    )
    crop_scale: Sequence[float] | None = setting(
        "smallest and largest share of an image's area in a random crop (default: 0.2 1)",
        range=ranges.CROP_SCALE,
        nargs=2,
        metavar=('LOW', 'HIGH'),
    )
    labels: str | PathLike | None = setting(
        'folder with a sub-folder of images for each class: measure a linear probe on it from time to time',
        type='folder',
    )
    val: float = setting('share of the images to hold out, e.g. 0.02 (default: 0)', 0.0, range=ranges.FRACTION)
    channels: int | None = setting(
        'channels of the images, e.g. 1, or 4 for some TIFFs (default: 3, or those of --init)', range=ranges.CHANNELS
    )
    value_range: Sequence[float] | None = setting(
        'values of 16-bit or float images that become black and white (default: found in the files)',
        range=ranges.ANY,
        nargs=2,
        metavar=('LOW', 'HIGH'),
    )


@dataclass
class FinetuneSettings(RunSettings):
    """Settings of a new run of fine-tuning."""

    weights: str | PathLike = ''  # the folder of a run, a file that says which backbone it has, or an address
    val: str | PathLike | None = setting(
        'folder of images to validate on (default: a fifth of each class)', type='folder'
    )
    size: int | None = setting('side of the images in pixels (default: that of the weights)', range=ranges.IMAGE_SIZE)
    init: str | None = setting('begin with random weights of the same backbone, for comparison', choices=('none',))


@dataclass
class CompareSettings:
    """Settings of a comparison of weights; what each means is the help of its option."""

    val: str | PathLike | None = setting('folder of images to classify (default: a fifth of each class)', type='folder')
    against: Sequence[str | PathLike] = setting(
        'more weights to compare: runs, files, addresses, timm://NAME@FILE',
        (),
        type='weights',
        nargs='+',
        metavar='WEIGHTS',
    )
    finetune: int | None = setting(
        'also fine-tune each network, in six runs of this many steps of 32 images; 200 steps take as long as '
        'features of 120,000 images (default: no fine-tuning)',
        range=ranges.whole(1, 100_000),
        metavar='STEPS',
    )
    seeds: int = setting('how often few labels are drawn (default: 5)', 5, range=ranges.whole(1, 100))
    size: int | None = setting(
        'side of the images in pixels (default: that of the weights; after `coma-mm pretrain` twice that is better)',
        range=ranges.IMAGE_SIZE,
    )
    exclude: Sequence[str] | None = setting(
        "leave out images whose path below the folder matches, e.g. '*_mask.png', in quotes",
        type='pattern',
        nargs='+',
        metavar='GLOB',
    )
    batch_size: int = setting('images at once (default: 64)', 64, range=ranges.BATCH_SIZE)
    workers: int = setting('processes that read images (default: 4)', 4, range=ranges.WORKERS)
    device: str | None = setting('device of torch (default: cuda if there is one)', type='device')
    max_pixels: int | None = setting(
        'largest height times width of an image (default: 10^8)', range=ranges.MAX_PIXELS, metavar='N'
    )


def find_arch(name: str) -> str:
    """Return the architecture that a name, or the first letter of a DyViT's, stands for."""
    every = (*DYVITS, *VITS)
    found = next((known for known in every if name == known or (known not in VITS and name == known[0])), None)
    if found is None:
        raise ValueError(f'there is no arch {name!r}; choose one of {", ".join(every)}{did_you_mean(name, every)}')
    return found


def given_settings(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not ``None``; refuse unknown names, and values that a setting cannot have."""
    known = [one.name for one in fields(kind)]
    for name in values.keys() - set(known):
        raise ValueError(f'there is no setting {name!r}{did_you_mean(name, known)}')
    given = {name: value for name, value in values.items() if value is not None}
    for one in fields(kind):
        if one.name not in given or 'nargs' in one.metadata:  # lists are checked where they are read
            continue
        value, choices = given[one.name], one.metadata.get('choices')
        if 'range' in one.metadata:
            ranges.require_in(one.metadata['range'], **{one.name: value})
        if choices and value not in choices:
            raise ValueError(f'{one.name} must be {" or ".join(map(repr, choices))}, got {value!r}')
    return given
