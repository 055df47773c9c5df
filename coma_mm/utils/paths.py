"""Paths, as people type them."""

import os
import shlex


def short_path(path: str | os.PathLike) -> str:
    """Return a path relative to the current directory, or absolute where that is shorter.

    An address stays as it is, and so does a path if somebody has removed the current directory.
    """
    if '://' in os.fspath(path):
        return os.fspath(path)
    try:
        return min(os.path.relpath(path), os.path.abspath(path), key=len)
    except OSError:
        return os.fspath(path)


def quoted_path(path: str | os.PathLike) -> str:
    """Return a short path as an argument that can be pasted into a shell."""
    short = short_path(path)
    return shlex.quote(f'./{short}' if short.startswith('-') else short)
