"""Paths as one would type them."""

import os


def short_path(path: str | os.PathLike) -> str:
    """Return a path relative to the current directory, or absolute where that is shorter."""
    return min(os.path.relpath(path), os.path.abspath(path), key=len)
