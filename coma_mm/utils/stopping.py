"""Signals that end a process: an exception unwinds it, so that no unfinished file stays behind."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# SIGHUP comes when a terminal is closed; Windows has none.
STOPPING = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name))
UNWINDING = 1.0  # seconds in which further signals do not disturb the removal of unfinished files


class Stopped(KeyboardInterrupt):
    """A signal has told this process to end; ``code`` is 128 + its number.

    Args:
        number: Of the signal.

    Attributes:
        way_on: How to go on, for the end of the line that a command ends with.
    """

    way_on = ''

    def __init__(self, number: int) -> None:
        super().__init__(f'stopped by {describe_signal(number)}')
        self.code = 128 + number


class _State:
    at_once = False  # while nothing has been written that would have to be removed
    since: float | None = None  # when the first signal came
    before: dict[int, Any] = {}  # handlers that were replaced
    watches_forks = False


def describe_signal(number: int) -> str:
    """Return what has stopped a process: ``the keyboard`` or the signal's name."""
    return 'the keyboard' if number == signal.SIGINT else signal.Signals(number).name


def listen() -> None:
    """Have the signals raise :class:`Stopped`, where they would kill the process or raise KeyboardInterrupt.

    A second signal ends the process at once. One that is ignored, as by ``nohup``, stays so. Only the main thread may
    call this.
    """
    _State.since = None
    for number in STOPPING:
        if (before := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler):
            _State.before[number] = before
            signal.signal(number, stop)
    if not _State.watches_forks:
        os.register_at_fork(after_in_child=_leave_to_parent)
        _State.watches_forks = True


def stop(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal: raise :class:`Stopped`; end the process if that was done before, or nothing has begun."""
    now = time.monotonic()
    if _State.at_once or (_State.since is not None and now - _State.since > UNWINDING):
        end_at_once(number)
    if _State.since is None:
        _State.since = now
        raise Stopped(number)


def end_at_once(number: int) -> NoReturn:
    """End the process with one line, in the midst of whatever it does."""
    if os.environ.get('RANK', '0') == '0':
        os.write(2, f'stopped by {describe_signal(number)}\n'.encode())
    os._exit(128 + number)


@contextmanager
def nothing_to_lose() -> Iterator[None]:
    """Have signals end the process at once: libraries that are being imported turn exceptions into other errors."""
    before, _State.at_once = _State.at_once, signal.getsignal(signal.SIGINT) is stop
    try:
        yield
    finally:
        _State.at_once = before


def end_listening(is_last: bool = True) -> None:
    """Give the signals back.

    Args:
        is_last: Whether the process has nothing else to do. Then Ctrl-C kills it, too, and leaves no traceback.
    """
    for number in STOPPING:
        if signal.getsignal(number) is stop:
            signal.signal(number, signal.SIG_DFL if is_last else _State.before[number])


def _leave_to_parent() -> None:
    """Have loading workers die of SIGTERM, and leave Ctrl-C, which reaches them too, to the process that they serve."""
    if any(signal.getsignal(number) is stop for number in STOPPING):
        end_listening()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
