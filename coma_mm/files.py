"""Files that are written as a whole or not at all, and those that come with the package."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Return ``configs``, ``tools`` or ``weights``: of the checkout, or where setup.py installs them."""
    places = PACKAGE.parent / folder, PACKAGE / '.mim' / folder
    return next((place for place in places if place.is_dir()), places[1])


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Lend a name beside ``path``, with the same ending, to write to; what lies there becomes ``path`` at the end.

    After an error neither file is there, and an older ``path`` is as it was. After a loss of power ``path`` is the
    older or the new one, whole: the disk has the content before the name.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Say whether a file is what a process that was killed has left in the middle of :func:`whole_file`."""
    return re.fullmatch(r'\..+\.\d+', path.stem) is not None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # of a folder, on file systems that do not know what that is
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
