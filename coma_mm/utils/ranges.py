"""Ranges of numbers that settings may have: one table for commands, functions and configs."""

import math
import os
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .arguments import LARGEST


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds; whole ones go up to 2^63.

    Args:
        low: The smallest one.
        high: The largest one.
        whole: Whether only whole numbers count.
        above: Whether ``low`` itself is left out.
        below: Whether ``high`` itself is left out.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value  # mypy: real numbers do not compare
        largest = LARGEST if self.whole else sys.float_info.max
        if not -largest <= number <= largest:
            return False
        over = self.low < number if self.above else self.low <= number
        return over and (number < self.high if self.below else number <= self.high)

    def __str__(self) -> str:
        kind = 'a whole number' if self.whole else 'a number'
        low, high = (f'{bound:.0f}' if self.whole else f'{bound:g}' for bound in (self.low, self.high))
        bounded = [math.isfinite(bound) for bound in (self.low, self.high)]
        if all(bounded) and not self.above and not self.below:
            return f'{kind} from {low} to {high}'
        parts = [f'{">" if self.above else ">="} {low}'] * bounded[0]
        parts += [f'{"<" if self.below else "<="} {high}'] * bounded[1]
        return f'{kind} {" and ".join(parts)}' if parts else kind


def whole(least: int, most: float = math.inf) -> Range:
    """Return the range of whole numbers from ``least`` to ``most``."""
    return Range(least, most, whole=True)


# The limits are those of the work that follows, see docs/reliability.md.
ANY = Range()
POSITIVE = Range(0, above=True)
MAX_PIXELS = whole(1, 2**31 - 1)  # of an image, which Pillow and OpenCV count in 32 bits
LEARNING_RATE = Range(0, 1000, above=True)
FRACTION = Range(0, 1, below=True)
MASK_RATIO = Range(0, 1, above=True, below=True)
CROP_SCALE = Range(0, 1, above=True)  # share of an image's area
PORT = whole(0, 65_535)
SEED = whole(0, 2**31 - 1)  # ranks and loading workers add their number, and numpy takes 32 bits
IMAGE_SIZE = whole(1, 16_384)  # side in pixels
BATCH_SIZE = whole(1, 65_536)  # images
STEPS = whole(1, 10**9)
EPOCHS = Range(0, 10**6, above=True)
MINUTES = Range(0, 10**6, above=True)  # two years
CHANNELS = whole(1, 1024)
ROWS = whole(1, 1000)  # of a picture
WORKERS = whole(0, 8 * (os.cpu_count() or 1))


def require_in(range_: Range, **values: object) -> None:
    """Raise unless values are in a range.

    Raises:
        ValueError: With the name of the argument.
    """
    for name, value in values.items():
        if value not in range_:
            raise ValueError(f'{name} must be {range_}, got {value!r}')
