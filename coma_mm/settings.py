"""Settings of pre-training, stated once: the command, the function and the plan of a run read them.

Imports nothing that takes time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

from .utils import ranges
from .utils.arguments import Range, did_you_mean

ARCHITECTURES = 'pico', 'tiny', 'small', 'base', 'large'  # of DyViT
VITS = {
    'vit-tiny': 'deit-tiny',
    'vit-small': 'deit-small',
    'vit-base': 'base',
    'vit-large': 'large',
}  # as in mmpretrain
METHODS = 'mae', 'coma', 'align'
LOGGERS = 'tensorboard', 'wandb', 'mlflow'
METHOD = 'align'  # unless told otherwise


def setting(default: Any, help: str, **option: Any) -> Any:
    """Return a field of a class of settings that is an option of a command as well.

    Args:
        default: Of the field; the command hands over what was typed alone.
        help: Of the option.
        **option: ``range`` of numbers, or the ``type`` by its name in :mod:`.cli.types`; ``group`` of options of which
            one may be given; what ``argparse`` takes beside.
    """
    return field(default=default, metadata=dict(help=help, **option))


@dataclass
class RunSettings:
    """Settings of a new run of any kind; what each means is the help of its option.

    Args:
        data: Folders of images, sub-folders and all, or ``.txt`` files of their paths.
        out: The run's folder.
    """

    data: Sequence[str]
    out: str | PathLike
    epochs: float | None = setting(
        None, 'passes over the images (from their number)', range=ranges.EPOCHS, group='length'
    )
    steps: int | None = setting(None, 'steps of the optimiser', range=ranges.STEPS, group='length')
    minutes: float | None = setting(
        None, 'from the start of this command to its end', range=ranges.MINUTES, group='length'
    )
    batch_size: int | None = setting(None, 'images of a step (from the memory there is)', range=ranges.BATCH_SIZE)
    workers: int | None = setting(None, 'processes that load images (from the cores there are)', range=ranges.WORKERS)
    lr: float | None = setting(None, 'peak of the learning rate (from arch and batch)', range=ranges.LEARNING_RATE)
    no_flip: bool | None = setting(None, 'mirror no image', action='store_true')
    exclude: Sequence[str] | None = setting(
        None,
        "leave out images whose path below the folder matches, e.g. '*_mask.png' 'masks/*', in quotes",
        type='pattern',
        nargs='+',
        metavar='GLOB',
    )
    log: Sequence[str] | None = setting(None, 'log there as well: curves and pictures', choices=LOGGERS, nargs='+')
    seed: int = setting(0, 'of weights, crops and masks (0)', range=ranges.SEED)
    max_pixels: int | None = setting(
        None, 'height times width beyond which an image is refused (10^8)', range=ranges.MAX_PIXELS, metavar='N'
    )


@dataclass
class PretrainSettings(RunSettings):
    """Settings of a new run of pre-training."""

    arch: str | None = setting(None, 'pico, tiny, small, base, large, vit-tiny, ..., vit-large (tiny)', type='arch')
    init: str | PathLike | None = setting(
        None,
        "weights to start from, of a DyViT or a plain ViT: a run's folder, a file (ours, mmpretrain's, timm's, MAE's), "
        'coma_mm://NAME or hf://USER/NAME; see docs/start-from-weights.md (none)',
        type='init_weights',
        metavar='WEIGHTS',
    )
    size: int | None = setting(
        None,
        'side of the crops in pixels (224, or that of --init); patches are of 4 px, below 128 px of 2, below 64 of 1, '
        "a ViT's four times as large",
        range=ranges.IMAGE_SIZE,
    )
    method: str | None = setting(
        None,
        'masked autoencoding, CoMA, or both halves of a photo aligned; docs/pretraining.md has the default',
        choices=METHODS,
    )
    teacher: str | PathLike | None = setting(
        None,
        'weights of a frozen encoder, whose tokens of what is hidden are predicted as well; named as those of --init '
        '(none)',
        type='init_weights',
        metavar='WEIGHTS',
    )
    mask_ratio: float | None = setting(None, 'hidden share of an image (0.6)', range=ranges.MASK_RATIO, metavar='R')
    crop_scale: Sequence[float] | None = setting(
        None,
        "share of an image's area that a random crop has (0.2 1)",
        range=ranges.CROP_SCALE,
        nargs=2,
        metavar=('LOW', 'HIGH'),
    )
    labels: str | PathLike | None = setting(
        None, 'folder with a sub-folder for each class: a linear probe at each look (none)', type='folder'
    )
    val: float = setting(0.0, 'share of the images to hold out, e.g. 0.02 (none)', range=ranges.FRACTION)
    channels: int | None = setting(
        None, 'of the images, e.g. 1, or 4 of a TIFF (3, or those of --init)', range=ranges.CHANNELS
    )
    value_range: Sequence[float] | None = setting(
        None,
        'values of 16-bit or float images that become black and white (found in the files)',
        range=ranges.ANY,
        nargs=2,
        metavar=('LOW', 'HIGH'),
    )


@dataclass
class FinetuneSettings(RunSettings):
    """Settings of a new run of fine-tuning.

    Args:
        weights: The folder of a run, a file that says which backbone it has, or an address.
    """

    weights: str | PathLike = ''
    val: str | PathLike | None = setting(None, 'folder of images to classify (a fifth of each class)', type='folder')
    size: int | None = setting(None, 'side of the images in pixels (what the weights say)', range=ranges.IMAGE_SIZE)
    init: str | None = setting(
        None, 'begin with random weights of the same backbone, for comparison', choices=('none',)
    )


@dataclass
class CompareSettings:
    """Settings of a comparison of weights; what each means is the help of its option."""

    val: str | PathLike | None = setting(None, 'folder of images to classify (a fifth of each class)', type='folder')
    against: Sequence[str | PathLike] = setting(
        (),
        'more weights: runs, files, addresses, timm://NAME@FILE',
        type='weights',
        nargs='+',
        metavar='WEIGHTS',
    )
    finetune: int | None = setting(
        None,
        'also fine-tune each network, six times for so many steps of 32 images, e.g. 200, which takes as long as '
        'features of 120,000 images for each (no)',
        range=ranges.whole(1, 100_000),
        metavar='STEPS',
    )
    seeds: int = setting(5, 'draws of few labels (5)', range=ranges.whole(1, 100))
    size: int | None = setting(None, 'side of the images in pixels (what the weights say)', range=ranges.IMAGE_SIZE)
    exclude: Sequence[str] | None = setting(
        None, "leave out, e.g. '*_mask.png'", type='pattern', nargs='+', metavar='GLOB'
    )
    batch_size: int = setting(64, '(64)', range=ranges.BATCH_SIZE)
    num_workers: int = setting(4, 'processes that read images (4)', range=ranges.WORKERS)
    device: str | None = setting(None, '(cuda if there is one)', type='device')
    max_pixels: int | None = setting(
        None, 'height times width beyond which an image is refused (10^8)', range=ranges.MAX_PIXELS, metavar='N'
    )


def find_arch(name: str) -> str:
    """Return the architecture that a name, or the first letter of a DyViT's, stands for."""
    every = (*ARCHITECTURES, *VITS)
    found = next((known for known in every if name == known or (known not in VITS and name == known[0])), None)
    if found is None:
        raise ValueError(f'there is no arch {name!r}; choose one of {", ".join(every)}{did_you_mean(name, every)}')
    return found


def ranges_of(kind: type) -> dict[str, Range]:
    """Return the ranges of the settings that are one number."""
    return {
        one.name: one.metadata['range'] for one in fields(kind) if {'range', 'nargs'} & one.metadata.keys() == {'range'}
    }


def given_settings(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return those of some values that are set; unknown names, and numbers out of range, are refused."""
    known = [one.name for one in fields(kind)]
    for name in values.keys() - set(known):
        raise ValueError(f'there is no setting {name!r}{did_you_mean(name, known)}')
    given = {name: value for name, value in values.items() if value is not None}
    for name, range_ in ranges_of(kind).items():
        if name in given:
            ranges.require_in(range_, **{name: given[name]})
    return given
