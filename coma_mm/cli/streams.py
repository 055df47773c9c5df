"""Standard streams that do not fail: a command whose output cannot be written does its work all the same."""

import errno
import io
import os
import sys
from typing import TextIO

from ..utils.text import one_line
from ..version import __version__

LOST = errno.EPIPE, errno.EBADF, errno.EIO  # nobody reads it: head has ended, or the terminal is gone


class _Raw(io.FileIO):
    """A descriptor that drops what cannot be written, and keeps the first error."""

    error: OSError | None = None

    def write(self, content: 'memoryview') -> int:  # type: ignore[override]
        if self.error is None:
            try:
                return os.write(self.fileno(), content)
            except OSError as error:
                self.error = error
        return len(content)


def announce(what: str) -> None:
    """Say what a command has understood, before it loads PyTorch, which takes seconds."""
    print(one_line(f'coma_mm {__version__}: {what}; loading PyTorch ...'), flush=True)


def protect_streams() -> bool:
    """Let commands print whatever becomes of standard output and standard error, and with any file name.

    A closed descriptor leads to nowhere from then on; otherwise the next file that is opened would get its number, and
    all that is printed. Streams that something else has put into place stay, as those of notebooks and tests.

    Returns:
        Whether standard output was the process's own.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _protect(2, sys.stderr)
    if sys.stdout is not sys.__stdout__:
        return False
    sys.stdout = _protect(1, sys.stdout)
    return True


def output_error() -> OSError | None:
    """Return why standard output could not be written, if there is somebody who might want it."""
    raw = getattr(getattr(sys.stdout, 'buffer', None), 'raw', None)
    if not isinstance(raw, _Raw):
        return None
    sys.stdout.flush()
    return None if raw.error is None or raw.error.errno in LOST else raw.error


def _protect(number: int, stream: TextIO | None) -> TextIO:
    protected = io.TextIOWrapper(
        io.BufferedWriter(_Raw(number, 'w', closefd=False)),  # type: ignore[type-var]
        encoding=stream.encoding if stream else 'utf-8',
        errors='backslashreplace',
        line_buffering=number == 2 or os.isatty(number),
        write_through=getattr(stream, 'write_through', False),  # as PYTHONUNBUFFERED asks for
    )
    if stream is not None:
        stream.flush()
    return protected
