"""Signals that end a process: an exception unwinds it, so that no unfinished file stays behind."""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# SIGHUP comes when a terminal is closed, SIGUSR1 from clusters.
SHUTDOWN_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
UNWINDING = 1.0  # seconds in which further signals do not disturb the removal of unfinished files
AGAIN = 0.3  # seconds after which an exception is raised again that something has swallowed


class Stopped(KeyboardInterrupt):
    """A signal has told this process to end. ``code`` is 128 + its number; ``where`` says ``at step 7 of 12``."""

    way_on = ''  # how to go on, for the end of the line that a command ends with

    def __init__(self, number: int, where: str = '') -> None:
        super().__init__(f'stopped by {describe_signal(number)}')
        self.code, self.where = 128 + number, where


class _State:
    at_once = False  # while nothing has been written that would have to be removed
    number = 0  # of the first signal, 0 before there was one
    since = 0.0  # when it came
    before: dict[int, Any] = {}  # handlers that were replaced
    is_ready = False


def describe_signal(number: int) -> str:
    """Return what has stopped a process: ``the keyboard`` or the signal's name."""
    return 'the keyboard' if number == signal.SIGINT else signal.Signals(number).name


def listen() -> None:
    """Make the signals raise :class:`Stopped`, where they would kill the process or raise KeyboardInterrupt.

    A second signal ends the process at once. One that is ignored, as by ``nohup``, stays so. Only the main thread may
    call this.
    """
    _State.number = 0
    for number in SHUTDOWN_SIGNALS:
        if (before := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler):
            _State.before[number] = before
            signal.signal(number, stop)
    if not _State.is_ready:
        os.register_at_fork(after_in_child=_leave_to_parent)
        sys.unraisablehook = functools.partial(_pass_over, sys.unraisablehook)
        _State.is_ready = True


def received() -> int:
    """Return the number of the signal that the process has to end of, 0 if there was none, and raise no more."""
    if _State.number:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return _State.number


def stop(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal: raise :class:`Stopped`; end the process if that was done before, or nothing has begun."""
    if _State.at_once or (_State.number and time.monotonic() - _State.since > UNWINDING):
        end_at_once(number)
    if not _State.number:
        _State.number, _State.since = number, time.monotonic()
        if signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, _stop_again):
            signal.signal(signal.SIGALRM, _stop_again)
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise Stopped(number)


def end_at_once(number: int) -> NoReturn:
    """End the process with one line, in the midst of whatever it does."""
    if os.environ.get('RANK', '0') == '0':
        os.write(2, f'stopped by {describe_signal(number)}\n'.encode())
    os._exit(128 + number)


@contextmanager
def nothing_to_lose() -> Iterator[None]:
    """Let signals end the process at once: libraries that are being imported turn exceptions into other errors."""
    before, _State.at_once = _State.at_once, signal.getsignal(signal.SIGINT) is stop
    try:
        yield
    finally:
        _State.at_once = before


def end_listening(is_last: bool = True) -> None:
    """Give the signals back; if the process has nothing else to do, Ctrl-C kills it then, too, without a traceback."""
    for number in SHUTDOWN_SIGNALS:
        if signal.getsignal(number) is stop:
            signal.signal(number, signal.SIG_DFL if is_last else _State.before[number])


def _stop_again(number: int, frame: FrameType | None) -> None:
    """Raise once more, unless the exception is on its way: callbacks of forks and finalizers swallow it."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    if error is None:
        raise Stopped(_State.number)


def _pass_over(then: Callable, event: Any) -> None:
    """Print no traceback of an exception that was swallowed, and will be raised again."""
    if not isinstance(event.exc_value, Stopped):
        then(event)


def _leave_to_parent() -> None:
    """Let loading workers die of SIGTERM, and leave what reaches them, too, to the process that they serve."""
    if any(signal.getsignal(number) is stop for number in SHUTDOWN_SIGNALS):
        end_listening()
        for number in set(SHUTDOWN_SIGNALS) - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
