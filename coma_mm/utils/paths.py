"""Paths, as people type them."""

import os
import shlex

from .text import printable


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


def is_named(path: object) -> bool:
    """Say whether a path, or an address, was given: a text that is not empty, or an object of a path."""
    return isinstance(path, (str, os.PathLike)) and bool(os.fspath(path).strip())


def quoted_path(path: str | os.PathLike) -> str:
    """Return a short path as an argument that can be pasted into a shell."""
    short = short_path(path)
    return shlex.quote(f'./{short}' if short.startswith('-') else short)


def require_no_other_file(path: str | os.PathLike, what: str = 'images') -> None:
    """Refuse a file that is no list of paths, where a folder of images or such a list is wanted."""
    if os.path.isfile(path) and not os.fspath(path).lower().endswith('.txt'):
        raise ValueError(
            f'{printable(path)} is a file, but a folder of {what} is wanted, or a list of their paths, whose name '
            'ends in .txt'
        )
