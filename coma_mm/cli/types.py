"""Types of arguments that all commands share: each reads a text, or says in one line what is wanted.

Imports nothing that takes time. Ranges are those of :mod:`coma_mm.utils.ranges`.
"""

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..settings import find_arch
from ..utils import ranges
from ..utils.arguments import require_device
from ..utils.configs import require_config_file
from ..utils.files import require_writable
from ..utils.paths import require_no_other_file
from ..utils.ranges import Range

PICTURES = '.png', '.pdf', '.svg'  # files that show who has written them
HUB_FILE = 'model.safetensors'  # of a folder as the hub has


@contextmanager
def _as_argument_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


# ---- numbers ----


def in_range(range_: Range) -> Callable[[str], float]:
    """Return a reader of numbers in a range."""

    def read(text: str) -> float:
        try:
            value: float = int(text) if range_.whole else float(text)
        except ValueError:
            value = math.nan
        if value not in range_:
            raise ArgumentTypeError(f'must be {range_}, got {text}')
        return value

    return read


def whole(least: int, most: float = math.inf) -> Callable[[str], float]:
    """Return a reader of whole numbers from ``least`` to ``most``."""
    return in_range(ranges.whole(least, most))


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Return a reader of finite numbers, see :class:`.arguments.Range`."""
    return in_range(Range(low, high, above=above))


port = in_range(ranges.PORT)
seed = in_range(ranges.SEED)
image_size = in_range(ranges.IMAGE_SIZE)
batch_size = in_range(ranges.BATCH_SIZE)
workers = in_range(ranges.WORKERS)
channels = in_range(ranges.CHANNELS)
rows = in_range(ranges.ROWS)
max_pixels = in_range(ranges.MAX_PIXELS)


# ---- words ----


def text(given: str) -> str:
    """Read a text that is not empty."""
    if not given.strip() or '\0' in given:
        raise ArgumentTypeError('an empty text was given')
    return given


def arch(name: str) -> str:
    """Read the name of an architecture, or its first letter."""
    with _as_argument_error():
        return find_arch(name)


def device(name: str) -> str:
    """Read where torch is to compute, and check that it can."""
    with _as_argument_error():
        require_device(name)
    return name


def pattern(given: str) -> str:
    """Read a pattern of paths, such as ``'*_mask.png'``."""
    if not given.strip(' ./*') or '\0' in given:
        raise ArgumentTypeError(f"give a pattern such as '*_mask.png' or 'masks/*', not {given!r}")
    return given


# ---- files ----


def path(name: str) -> str:
    """Read a path: ``~`` becomes the home folder; an empty one is refused."""
    if not name.strip() or '\0' in name:
        raise ArgumentTypeError('an empty path was given; name a file or a folder')
    return os.path.expanduser(name)


def folder(name: str) -> Path:
    """Read the path of a folder that is there."""
    place = Path(path(name))
    if not place.is_dir():
        raise ArgumentTypeError(f'there is no folder {place}')
    return place


def images(name: str) -> str:
    """Read the path of a folder of images, or of a list of them, that is there."""
    place = path(name)
    if not os.path.exists(place):
        raise ArgumentTypeError(f'there is no folder {place}, and no list of that name')
    with _as_argument_error():
        require_no_other_file(place)
    return place


def file(name: str) -> Path:
    """Read the path of a file that is there."""
    place = Path(path(name))
    if not place.is_file():
        raise ArgumentTypeError(f'there is no file {place}')
    return place


def config(name: str) -> str:
    """Read the path of a config that is there."""
    name = path(name)
    with _as_argument_error():
        require_config_file(name)
    return name


def checkpoint_file(name: str) -> str:
    """Read the path or address of a checkpoint; a config is named as such."""
    name = path(name)
    if '://' in name:
        return name
    if not Path(name).is_file() and not Path(name, HUB_FILE).is_file():
        last = next((file for file in (Path(name, 'classifier.pth'), Path(name, 'last.pth')) if file.is_file()), None)
        raise ArgumentTypeError(f'there is no file {name}' + (f'; did you mean {last}?' if last else ''))
    if name.endswith(('.py', '.yaml', '.yml', '.json')):
        raise ArgumentTypeError(f'{name} is a config, but a checkpoint is wanted in its place; mind the order')
    return name


def init_weights(name: str) -> str:
    """Read the path or address of weights: a folder that has some, or a checkpoint."""
    name = path(name)
    if not Path(name).is_dir():
        return checkpoint_file(name)
    if not any(file.endswith(('.py', '.pth', '.safetensors', '.json')) for file in os.listdir(name)):
        raise ArgumentTypeError(
            f'{name} has no config (*.py) of its own, so it is no folder of a run: name one in its place, or a file of '
            'weights'
        )
    return name


def weights(name: str) -> str:
    """Read the path or address of weights, or the config of those that follow."""
    return path(name) if name.endswith('.py') and Path(path(name)).is_file() else init_weights(name)


def checkpoint_or_auto(name: str) -> str:
    """Read the path or address of a checkpoint, or ``auto``."""
    return name if name == 'auto' else checkpoint_file(name)


def output_path(*endings: str, new_folder: bool = True) -> Callable[[str], str]:
    """Return a reader of files to write, whose folder may have to be made."""

    def read(text: str) -> str:
        name = path(text)
        folder = Path(name).parent
        if not new_folder and not folder.is_dir():
            raise ArgumentTypeError(f'there is no folder {folder}')
        _check_ending(name, endings)
        if Path(name).is_dir() or name.endswith(os.sep):
            raise ArgumentTypeError(f'{name} is a folder, but the name of a file is wanted')
        output_folder(str(folder))
        return name

    return read


output_file = partial(output_path, new_folder=False)


def picture(name: str) -> str:
    """Read the path of a picture to write, whose folder may have to be made."""
    _check_ending(path(name).lower(), PICTURES)
    return output_path()(name)


def output_folder(name: str) -> str:
    """Read the path of a folder that can be made, or written into if it is there."""
    name = path(name)
    with _as_argument_error():
        require_writable(Path(name))
    return name


def _check_ending(name: str, endings: tuple[str, ...]) -> None:
    stem, ending = os.path.splitext(os.path.basename(name))
    if endings and (not stem or ending not in endings):
        *others, last = endings
        wanted = f'{", ".join(others)} or {last}' if others else last
        raise ArgumentTypeError(f'give a name that ends in {wanted}, not {name}')
