"""The moment at which a command began. Budgets of time count from it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_begin: float | None = None


@contextmanager
def command() -> Iterator[None]:
    """Note that a command begins now; one within another counts from the begin of the outer one."""
    global _begin
    before, _begin = _begin, command_begin()
    try:
        yield
    finally:
        _begin = before


def command_begin() -> float:
    """Return when the command of this process began, by ``time.monotonic``; now if there is none, as in a notebook."""
    return time.monotonic() if _begin is None else _begin
