"""Types of arguments that all commands share: each reads a text, or says in one line what is wanted.

Imports nothing that takes time. The limits are those of the work that follows, see docs/reliability.md.
"""

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable

MAX_SIZE = 16_384  # side of an image in pixels
MAX_BATCH = 65_536  # images
MAX_SEED = 2**32 - 1  # numpy takes no larger one
WORKERS_PER_CORE = 8


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``least`` to ``most``."""
    wanted = f'a whole number >= {least}' if most == math.inf else f'a whole number from {least} to {most:.0f}'

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise ArgumentTypeError(f'must be {wanted}, got {text}')
        return number

    return read


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """Return a reader of finite numbers.

    Args:
        low: The smallest one.
        high: The largest one.
        above: Whether ``low`` itself is left out.
        below: Whether ``high`` itself is left out.
    """
    wanted = f'a number {">" if above else ">="} {low:g}'
    if high != math.inf:
        wanted += f' and {"<" if below else "<="} {high:g}'

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = math.isfinite(value) and (low < value if above else low <= value)
        if not inside or not (value < high if below else value <= high):
            raise ArgumentTypeError(f'must be {wanted}, got {text}')
        return value

    return read


def workers(text: str) -> int:
    """Read a number of processes, at most eight for each core."""
    most = WORKERS_PER_CORE * (os.cpu_count() or 1)
    return whole(0, most)(text)


def path(text: str) -> str:
    """Read a path: ``~`` becomes the home folder; an empty one is refused."""
    if not text.strip() or '\0' in text:
        raise ArgumentTypeError('an empty path was given; name a file or a folder')
    return os.path.expanduser(text)


def path_ending(*endings: str) -> Callable[[str], str]:
    """Return a reader of paths that end in one of ``endings``, with something before it."""

    def read(text: str) -> str:
        name = path(text)
        stem, ending = os.path.splitext(os.path.basename(name))
        if not stem or ending.lower() not in endings:
            raise ArgumentTypeError(f'must be a name that ends in {", ".join(endings)}, got {text}')
        return name

    return read


positive_count = whole(1)
positive_number = number(0, above=True)
fraction = number(0, 1, below=True)
port = whole(0, 65535)
seed = whole(0, MAX_SEED)
image_size = whole(1, MAX_SIZE)
batch_size = whole(1, MAX_BATCH)
