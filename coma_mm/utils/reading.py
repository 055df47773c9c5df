"""Bounded reading of files that may come from strangers: regular files only, with a limit of bytes and of nesting."""

import hashlib
import json
import os
import stat
from typing import Any, BinaryIO

MAX_TEXT = 64_000_000  # bytes of a text or JSON file
MAX_NESTING = 64  # brackets within each other, in JSON and settings
MAX_SETTING = 10_000  # characters of KEY=VALUE


def open_regular(path: str | os.PathLike, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device is refused, since it may never end.

    Give ``follow=False`` for a file that is found in a folder, not named by the user: a link in a run's folder could
    lead anywhere. ``ValueError`` says that a file is none, or a link that is not followed.
    """
    if not follow and os.path.islink(path):
        raise ValueError(f'{os.fspath(path)} is a link, which is not followed here')
    flags = os.O_NONBLOCK  # has no effect on files, and returns at once from a pipe without a writer
    if not follow:
        flags |= os.O_NOFOLLOW
    file = open(path, 'rb', opener=lambda name, mode: os.open(name, mode | flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f'{os.fspath(path)} is no regular file')
    return file


def read_bytes(path: str | os.PathLike, limit: int = MAX_TEXT, *, follow: bool = True) -> bytes:
    """Read a whole regular file of at most ``limit`` bytes, see :func:`open_regular`."""
    with open_regular(path, follow=follow) as file:
        content = file.read(limit + 1)  # and not what its size says: it may grow, or say 0 as in /proc
    if len(content) > limit:
        raise ValueError(f'{os.fspath(path)} has more than {limit} bytes')
    return content


def read_text(path: str | os.PathLike, limit: int = MAX_TEXT, *, follow: bool = True) -> str:
    """Read a text file in UTF-8, see :func:`read_bytes`; drop a byte order mark, turn other bytes into U+FFFD."""
    return read_bytes(path, limit, follow=follow).decode('utf-8-sig', errors='replace')


def read_json(path: str | os.PathLike, limit: int = MAX_TEXT, *, follow: bool = True) -> Any:
    """Read a JSON file, see :func:`read_bytes` and :func:`parse_json`."""
    return parse_json(read_text(path, limit, follow=follow))


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left of a file."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 22):
        digest.update(chunk)
    return digest.hexdigest()


def is_short_setting(text: str) -> bool:
    """Say whether a KEY=VALUE is within bounds: mmengine's time for one grows with its length, cubed."""
    if len(text) > MAX_SETTING:
        return False
    depth = deepest = 0
    for character in text:
        depth += (character in '[(') - (character in ')]')
        deepest = max(depth, deepest)
    return deepest <= MAX_NESTING


def parse_json(text: str) -> Any:
    """Parse JSON whose brackets stand at most :data:`MAX_NESTING` deep; other text is a ``ValueError``."""
    too_deep = ValueError(f'more than {MAX_NESTING} brackets stand within each other')
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    level = [value] if text.count('[') + text.count('{') > MAX_NESTING else []  # or it cannot be so deep
    for _ in range(MAX_NESTING + 1):
        level = [node for node in level if isinstance(node, (dict, list))]
        if not level:
            return value
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise too_deep
