"""Files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
