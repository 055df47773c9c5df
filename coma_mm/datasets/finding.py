"""Images in folders and lists: their paths, in a fixed order."""

import codecs
import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np
from mmengine.logging import MMLogger, print_log
from PIL import Image

from ..utils.manifest import MANIFEST, has_manifest
from ..utils.reading import read_bytes
from ..utils.text import one_line, printable
from .image_headers import FORMATS
from .listings import Listing, folder_times, keep_listing, recall_listing

KINDS_NAMED = 20  # of files that are left out
MAX_LIST = 1_000_000_000  # bytes of a list of paths


@lru_cache
def image_endings() -> tuple[str, ...]:
    """Return what names of images end in: all that the installed Pillow opens, but for programs and films."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    endings = {ending for ending in endings if Image.EXTENSION[ending] in FORMATS}
    return tuple(sorted(endings | {'.mpo', '.btf'}))  # JPEGs of two pictures, TIFFs beyond 4 GB


def name_endings(endings: Counter[str]) -> str:
    """Return such as ``left out: 12 .heic, 3 .xcf``; nothing if there are none."""
    named = [f'{count} {one_line(ending)}' for ending, count in endings.most_common(KINDS_NAMED)]
    if more := endings.total() - sum(count for _, count in endings.most_common(KINDS_NAMED)):
        named.append(f'{more} of other kinds')
    return f'left out: {", ".join(named)}' if named else ''


def find_images(
    folder: str, extensions: Sequence[str] | None = None, left_out: Counter[str] | None = None
) -> list[str]:
    """Return the paths of all images in a folder and its sub-folders, in a fixed order.

    Folders are listed, and no file is opened: ImageNet takes seconds, and the second time less (:mod:`.listings`).
    Pipes, sockets, devices and folders of runs are left out and named in the log.

    Args:
        extensions (Sequence[str] | None): Endings of names. Defaults to None, :func:`.image_endings`.
        left_out (Counter | None): Counts the endings of other files, hidden ones aside. Defaults to None.
    """
    paths, visited, folders = [], set(), [folder]
    extensions = image_endings() if extensions is None else tuple(extensions)
    left_out = Counter() if left_out is None else left_out
    while folders:
        path = folders.pop()
        real_path = os.path.realpath(path)
        if real_path in visited:  # reached again by a link, which may lead back to where we are
            continue
        visited.add(real_path)
        try:
            listing = recall_listing(real_path, extensions) or _list_folder(path, real_path, extensions)
        except OSError as error:
            if path == folder and isinstance(error, PermissionError):
                raise ValueError(f'{printable(folder)} cannot be read: {error.strerror}; correct that') from None
            log_error(f'left out a folder: {error}')
            continue
        if listing is None:
            if path == folder:
                raise ValueError(
                    f'{printable(folder)} is the folder of a run ({MANIFEST}): its images are not read; move them to a '
                    f'folder of their own and name that, or move {MANIFEST} away if the run is no longer needed'
                )
            say_once(f'left out {path}, which is the folder of a run')
            continue
        head = os.path.join(path, '')
        folders += [head + name for name in reversed(listing.folders.split('/')) if name]
        paths += [head + name for name in listing.images.split('/') if name]
        left_out.update(listing.left_out)
    return paths


def _list_folder(path: str, real_path: str, extensions: tuple[str, ...]) -> Listing | None:
    """Return what is in a folder, its names in order; ``None`` of a run's folder."""
    times = folder_times(path)  # before it is listed, so that what comes meanwhile changes them
    with os.scandir(path) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith('.')), key=lambda x: x.name)
    if MANIFEST in {entry.name for entry in entries} and has_manifest(path):
        return None
    names: dict[str, list[str]] = dict(folder=[], file=[], other=[])
    left_out: Counter[str] = Counter()
    for entry in entries:
        kind = _kind(entry)
        if kind == 'folder' or entry.name.lower().endswith(extensions):
            names[kind].append(entry.name)
        else:
            left_out[os.path.splitext(entry.name)[1].lower() or 'without an ending'] += 1
    for name in names['other']:
        log_error(f'left out {os.path.join(path, name)}, which is no file, but a pipe, a socket or a device')
    listing = Listing(times, '/'.join(names['file']), '/'.join(names['folder']), left_out)
    if not names['other']:  # or they would be named once only
        keep_listing(real_path, extensions, listing)
    return listing


def _kind(entry: os.DirEntry) -> str:
    """Return ``folder``, ``file`` or ``other``; of links what they lead to, ``file`` if that is not there."""
    try:
        if entry.is_dir():
            return 'folder'
        return 'file' if entry.is_file() or not os.path.exists(entry.path) else 'other'
    except OSError:  # a link to itself
        return 'file'


def say_once(message: str, level: int = logging.WARNING) -> None:
    """Print and log a message, once in each run, where folders are read several times."""
    _say_once(printable(message), MMLogger.get_current_instance().instance_name, level)


@lru_cache
def _say_once(message: str, logger: str, level: int) -> None:
    print_log(message, logger='current', level=level)


def log_error(message: str) -> None:
    """Log as an error, because all ranks but the first print nothing less."""
    print_log(printable(message), logger='current', level=logging.ERROR)


def read_list(path: str) -> list[str]:
    """Return the paths that a text file in UTF-8 has, one in a line, relative to its folder.

    Empty lines, and those that begin with ``#`` and name no file, are left out.
    """
    head = os.path.join(os.path.dirname(os.path.abspath(path)), '')
    wanted = 'write the path of an image in each line, relative to the folder of the list, in UTF-8, and nothing else'
    content = read_bytes(path, MAX_LIST).removeprefix(codecs.BOM_UTF8)
    if b'\0' in content:  # as UTF-16, `find -print0` and images have
        start = printable(content[:40].decode('latin-1'))
        raise ValueError(f'{printable(path)} is no text in UTF-8, it begins with {start!r}: {wanted}')
    text = content.decode('utf-8', 'surrogateescape')  # as names of files
    lines = [line for line in map(str.strip, text.replace('\r', '\n').split('\n')) if line]
    del content, text  # they may be gigabytes
    lines = [line for line in lines if line[0] != '#' or os.path.isfile(head + line)]
    if not lines:
        raise FileNotFoundError(f'{printable(path)} names no image: {wanted}')
    for number, line in enumerate(lines):  # in place, for the memory
        lines[number] = line if line[0] == '/' else head + line
    if not os.path.isfile(lines[0]):
        first = printable(lines[0][:400])
        raise FileNotFoundError(f'{printable(path)} names {first} first, which is no file: {wanted}')
    return lines


def find_named_images(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return ``(name, path)`` for each image file named and for all images in each folder named."""
    named = []
    for name in names:
        if os.path.isdir(name):
            if not (paths := find_images(name)):
                raise FileNotFoundError(f'there is no image in the folder {name}')
            named += [(name, path) for path in paths]
        elif os.path.isfile(name):
            named.append((name, name))
        else:
            raise FileNotFoundError(f'there is no file {name}')
    return named


def drop_repeated(paths: list[str]) -> list[str]:
    """Return each path once, in order; takes little memory where there is nothing to drop."""
    hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
    return paths if len(np.unique(hashes)) == len(paths) else list(dict.fromkeys(paths))


def hold_out(names: Sequence[bytes], fraction: float) -> set[int]:
    """Return the numbers of files to hold out: a share, one at least and not all, always the same by their names."""
    order = sorted(range(len(names)), key=lambda number: crc32(names[number]))
    return set(order[: min(max(1, round(fraction * len(names))), len(names) - 1)])
