"""Paths, as people type them."""

import os
import shlex


def short_path(path: str | os.PathLike) -> str:
    """Return a path relative to the current directory, or absolute where that is shorter; as it is if there is none."""
    try:
        return min(os.path.relpath(path), os.path.abspath(path), key=len)
    except OSError:  # somebody has removed the current directory
        return os.fspath(path)


def quoted_path(path: str | os.PathLike) -> str:
    """Return a short path as an argument that can be pasted into a shell."""
    short = short_path(path)
    return shlex.quote(f'./{short}' if short.startswith('-') else short)
