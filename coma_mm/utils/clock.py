"""The moment at which a command began. Budgets of time count from it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_begin: float | None = None


@contextmanager
def command() -> Iterator[None]:
    """Note that a command begins now, before anything of it takes time."""
    global _begin
    _begin = time.monotonic()
    try:
        yield
    finally:
        _begin = None


def command_begin() -> float:
    """Return when the command of this process began, by ``time.monotonic``; now if there is none, as in a notebook."""
    return time.monotonic() if _begin is None else _begin
