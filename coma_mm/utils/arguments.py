"""Arguments that are checked where they come in, so that what is wrong is said there. Imports nothing of ours."""

import difflib
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

LARGEST = 2**63 - 1  # whole number: torch, Python's lists and files take no larger ones
DEEPEST = 1_000  # blocks of a model, of which each takes time to build


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds; whole ones go up to 2^63."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False  # whether low itself is left out
    below: bool = False  # whether high itself is left out

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


def require_in(range_: Range, **values: object) -> None:
    """Raise unless values are in a range."""
    for name, value in values.items():
        if value not in range_:
            raise ValueError(f'{name} must be {range_}, got {value!r}')


def require_whole(least: int, most: float = math.inf, /, **values: object) -> None:
    """Raise unless values are whole numbers from ``least`` to ``most``; see :func:`require_in`."""
    require_in(whole(least, most), **values)


def require_number(interval: str, **values: object) -> None:
    """Raise unless values are numbers in an interval such as ``'[0, 1)'``; see :func:`require_in`."""
    low, high = map(float, interval[1:-1].split(','))
    require_in(Range(low, high, above=interval[0] == '(', below=interval[-1] == ')'), **values)


def require_flag(**values: object) -> None:
    """Raise unless values are ``True`` or ``False``: any text would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def require_device(device: str) -> None:
    """Raise unless torch, which is loaded here, computes on a device."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f'nothing can be computed on {device!r} here ({reason}); give cuda or cpu as device') from None


def read_size(name: str, value: object) -> tuple[int, int]:
    """Return height and width of what is one side or both; anything else is refused."""
    sides: Any = (value, value) if value in whole(1) else value
    if isinstance(sides, (tuple, list)) and len(sides) == 2 and all(side in whole(1) for side in sides):
        return tuple(sides)
    raise ValueError(f'{name} must be a number of pixels >= 1, or (height, width), got {value!r}')


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that comes near another one, whatever their case."""
    lower = {word.lower(): word for word in known}
    found = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[found[0]] if found else None


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which this one may be a misspelling: near in every word, or written without ``_``."""

    def ratio(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one, other).ratio()

    def is_near(other: str) -> bool:
        if name.count('_') != other.count('_'):
            return ratio(name.replace('_', ''), other.replace('_', '')) >= 0.95
        return ratio(name, other) >= 0.8 and all(
            ratio(*pair) >= 0.65 for pair in zip(name.split('_'), other.split('_'))
        )

    return max(filter(is_near, sorted(known)), key=lambda other: ratio(name, other), default=None)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` with the known name that comes near, or nothing."""
    found = nearest(name, known)
    return f'; did you mean {found!r}?' if found else ''
