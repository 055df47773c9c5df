"""Files that are written as a whole or not at all, and those that come with the package."""

import os
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

    After an error neither file is there, and an older ``path`` is as it was.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
