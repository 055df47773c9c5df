"""Arguments that are checked where they come in, so that what is wrong is said there. Imports nothing of ours."""

import difflib
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeGuard, cast

LARGEST = 2**63 - 1  # whole number: torch, Python's lists and files take no larger ones
DEEPEST = 1_000  # blocks of a model, of which each takes time to build


def require_whole(least: int, most: int = LARGEST, /, **values: object) -> None:
    """Raise unless values are whole numbers from ``least`` to ``most``.

    Raises:
        ValueError: With the name of the argument.
    """
    for name, value in values.items():
        if not _is_whole(value) or not least <= value <= most:
            wanted = f'from {least} to {most}' if most < LARGEST else f'>= {least}'
            raise ValueError(f'{name} must be a whole number {wanted}, got {value!r}')


def require_number(interval: str, **values: object) -> None:
    """Raise unless values are numbers in an interval such as ``'[0, 1)'``, of which ``[`` and ``]`` include the end.

    Raises:
        ValueError: With the name of the argument.
    """
    low, high = map(float, interval[1:-1].split(','))
    for name, value in values.items():
        inside = (
            isinstance(value, Real)
            and not isinstance(value, bool)
            and abs(cast(Any, value)) <= sys.float_info.max
            and (low <= float(value) if interval[0] == '[' else low < float(value))
            and (float(value) <= high if interval[-1] == ']' else float(value) < high)
        )
        if not inside:
            range_ = '' if interval == '(-inf, inf)' else f' in {interval}'
            raise ValueError(f'{name} must be a number{range_}, got {value!r}')


def require_flag(**values: object) -> None:
    """Raise unless values are ``True`` or ``False``: any text would count as true.

    Raises:
        ValueError: With the name of the argument.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def read_size(name: str, value: object) -> tuple[int, int]:
    """Return height and width of what is one side or both.

    Raises:
        ValueError: If it is neither, with the name of the argument.
    """
    sides = (value, value) if _is_whole(value) else value
    if isinstance(sides, (tuple, list)) and len(sides) == 2 and all(_is_whole(side) and side > 0 for side in sides):
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


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)
