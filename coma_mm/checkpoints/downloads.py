"""Checkpoints from the web: fetched whole within bounds, kept only once they are verified and have been read."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from ..utils.reading import sha256_of

MOST = 32 * 10**9  # bytes of a download
TIMEOUT = 30  # seconds in which a server has to send something
CHUNK = 2**20


def cache_folder() -> Path:
    """Return the folder of downloads that are kept: ``coma_mm/checkpoints`` in the user's cache."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'coma_mm', 'checkpoints')


@contextmanager
def fetched(address: str) -> Iterator[Path]:
    """Lend the file at an address of the web.

    A name that ends in ``-`` and at least eight digits of its SHA-256 stands for one content for ever, by torchvision's
    custom. Such a file is kept for the next time, if its content is that, and if the block that reads it ends without
    an error. Other files go at the end of the block.

    Raises:
        OSError: If it cannot be fetched, with the reason.
        ValueError: If it is too large, or its content is not what its name says.
    """
    name = re.sub(r'[^\w.-]', '_', Path(urlparse(address).path).name)[-100:]
    found = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)
    digits = found[1] if found else ''
    folder = cache_folder() if digits else Path(tempfile.gettempdir())
    kept = folder / f'{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}'
    if digits and kept.is_file():
        with kept.open('rb') as file:
            is_intact = sha256_of(file).startswith(digits)
        if is_intact:
            yield kept
            return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(Path(name).suffix, '.download-', folder)
    os.close(descriptor)
    path = Path(unfinished)
    try:
        digest = download(address, path)
        if not digest.startswith(digits):
            raise ValueError(
                f'what {address} sends has the SHA-256 {digest[: len(digits)]}..., not the one in its name; if you '
                'trust it, download it under another name, and give the path of the file'
            )
        yield path
        if digits:
            path.replace(kept)
    finally:
        path.unlink(missing_ok=True)


def download(address: str, path: Path) -> str:
    """Write what a server sends to a file; return its SHA-256.

    Raises:
        OSError: If it cannot be fetched, sends nothing for :data:`TIMEOUT`, or ends early.
        ValueError: If it is larger than :data:`MOST`, or than the room on the disk.
    """
    digest, size = hashlib.sha256(), 0
    most = min(MOST, shutil.disk_usage(path.parent).free)
    try:
        request = Request(address, headers={'User-Agent': 'coma_mm'})
        with urlopen(request, timeout=TIMEOUT) as answer, path.open('wb') as file:
            said = answer.headers.get('Content-Length') or ''
            length = int(said) if said.isdecimal() and len(said) < 20 else None
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                if max(size, length or 0) > most:
                    raise ValueError(f'{address} has {max(size, length or 0)} bytes, and there is room for {most}')
                digest.update(chunk)
                file.write(chunk)
    except HTTPException as error:
        raise OSError(f'{type(error).__name__} {error}') from None
    if length is not None and size != length:
        raise OSError(f'the server has sent {size} of {length} bytes')
    return digest.hexdigest()
