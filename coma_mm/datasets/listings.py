"""Names in folders, kept while the folders do not change, so that millions of images are found again at once.

A folder's times change when a file in it comes, goes or gets another name. Reading these times takes the place of
listing the folder.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..utils import manifest
from ..utils.reading import read_json

LISTINGS = 'listings.json'  # in a run's folder
WORTH = 10_000  # images; fewer are found at once
LIMIT = 2_000_000_000  # bytes
SETTLED = 2_000_000_000  # ns without a change; within the same tick of a clock there may be another one


class Listing(NamedTuple):
    """Names in a folder, joined by ``/``, which no name has; memory for millions of strings is spared."""

    times: list[int]  # of the last changes, and the number of the folder on its disk
    images: str
    folders: str
    left_out: dict[str, int]  # number of other files, by ending


_known: dict[str, dict[str, Listing]] = {}  # by endings of images, then by the folder's real path


def folder_times(path: str) -> list[int]:
    """Return the numbers that a change in a folder alters; see :class:`Listing`."""
    status = os.stat(path)
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def recall_listing(path: str, extensions: Sequence[str]) -> Listing | None:
    """Return the listing of a folder that has not changed; ``None`` if it has to be listed."""
    known = _known.get(' '.join(extensions), {}).get(path)
    if known is not None:
        with suppress(OSError):
            if folder_times(path) == known.times:
                return known
    return None


def keep_listing(path: str, extensions: Sequence[str], listing: Listing) -> None:
    """Keep a listing whose times were read before it, unless the folder may just be changing or has no times."""
    if listing.times[0] and time.time_ns() - max(listing.times[:2]) > SETTLED:
        _known.setdefault(' '.join(extensions), {})[path] = listing


def save_listings(folder: str | os.PathLike) -> None:
    """Write what this process has listed into the folder of a run, if it is much."""
    names = (listing.images.count('/') + 1 for listings in _known.values() for listing in listings.values())
    if sum(names) >= WORTH:
        manifest.write_own(folder, LISTINGS, 'listings', json.dumps(_known))


def load_listings(folder: str | os.PathLike) -> None:
    """Load the listings that :func:`save_listings` has written; ignore a file of other content."""
    if not manifest.is_own(folder, LISTINGS):
        return
    with suppress(OSError, ValueError, TypeError, AttributeError):  # content of another kind
        for endings, listings in read_json(Path(folder, LISTINGS), LIMIT, follow=False).items():
            found = {path: Listing(*listing) for path, listing in listings.items() if _is_listing(listing)}
            _known[endings] = found | _known.get(endings, {})


def _is_listing(value: Any) -> bool:
    return (
        isinstance(value, list)
        and [type(part) for part in value] == [list, str, str, dict]
        and {*map(type, value[3].values())} <= {int}
        and not {'.', '..'} & {*value[2].split('/')}
    )
