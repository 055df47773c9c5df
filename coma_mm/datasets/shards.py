"""Images in tar files: a few large files instead of a million small ones, read and made."""

import json
import logging
import os
import re
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from ..registry import DATASETS
from ..utils.files import atomic_write
from ..utils.reading import open_regular, read_json
from ..utils.text import first_few
from .folder import ImageFolder
from .loading import UnreadableImageError, image_size, is_deep, read_bytes, read_image, read_values

MAX_INDEX = 1_000_000_000  # bytes; a shard of ten million images has some 600 MB


@DATASETS.register_module()
class ImageShards(ImageFolder):
    """All images in the uncompressed ``.tar`` files in a folder and its sub-folders, without labels.

    Reads what ``tools/make_shards.py`` and the ``webdataset`` package write, and any other tar file with images in it;
    members that are no images are ignored. Each image can be reached by its number, so samplers, seeds, resuming and
    ``max_unreadable`` are as with :class:`.ImageFolder`; it is read by one system call from a file that stays open.

    The places of the images in a shard are kept in ``<shard>.index.json`` beside it if the folder can be written to.
    They are found anew, from the headers in the shard, when its size or time has changed, or when the index names
    places that the shard does not have. No file is written or opened by the name of a member.

    Each item is a dict of ``img_path`` (``tar://<shard>/<member>``) and ``img_bytes``, which
    :class:`.LoadRandomResizedCrop` and :class:`.LoadImage` take.

    Arguments are those of :class:`.ImageFolder`, without ``part``, ``val`` and ``seed``. ``extensions`` and ``exclude``
    go by the names of images in shards.

    Raises:
        FileNotFoundError: If the folder does not exist or has no shards with images in it.
        ValueError: If a shard is compressed, cut short, damaged (with the place) or no tar file; while reading, if too
            many images are unreadable.
    """

    remedy = 'name yours with --cfg-options train_dataloader.dataset.data_root=FOLDER'

    def load_data_list(self) -> list[dict]:
        if self.part is not None:
            raise ValueError(f'part={self.part!r} goes with folders of images: put shards of each part into a folder')
        paths = self.find_files('shards', ('.tar', '.tar.gz', '.tgz'))
        self.shards = [(path, os.stat(path).st_mtime_ns) for path in paths]
        images = [
            dict(shard=number, member=member, offset=offset, size=size)
            for number, shard in enumerate(paths)
            for member, offset, size in index_shard(shard)
            if member.lower().endswith(self.extensions) and not os.path.basename(member).startswith('.')
        ]
        if not images:
            raise FileNotFoundError(
                f'no images in the {len(paths)} shards of {os.path.dirname(paths[0])} '
                '(looked for members of all kinds that Pillow opens, or those of extensions)'
            )
        return self.leave_out(images, [str(image['member']) for image in images]) if self.exclusion.tests else images

    def get_data_info(self, idx: int) -> dict:
        info = super().get_data_info(idx)
        path, modified = self.shards[info.pop('shard')]
        info['img_path'] = f'tar://{path}/{info.pop("member")}'
        offset, size = info.pop('offset'), info.pop('size')
        try:
            info['img_bytes'] = os.pread(_open(path, modified).fileno(), size, offset)
        except OSError as error:
            raise UnreadableImageError(f'{info["img_path"]}: {error}') from error
        return info


def index_shard(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """Return name, offset and size in bytes of each file in a shard, from its index if there is a valid one.

    Links inside the shard stand for the files that they lead to. Other links, and sparse files, are left out and named
    in the log.
    """
    status = os.stat(path)
    stamp = [status.st_size, status.st_mtime_ns]
    index = Path(f'{path}.index.json')
    if (files := _read_index(index, stamp)) is not None:
        return files
    files = _read_headers(path)
    if not os.path.lexists(index) or _is_index(index):
        with suppress(OSError), atomic_write(index) as unfinished:
            unfinished.write_text(json.dumps([stamp, files]))
    return files


def _is_index(index: Path) -> bool:
    """Say whether a file has an index of an earlier shard of that name, whole or cut short; others are not touched."""
    with suppress(OSError, ValueError), open_regular(index, follow=False) as file:
        return re.match(rb'\[\[\d+, \d+\], \[', file.read(100)) is not None
    return False


def _read_index(index: Path, stamp: list[int]) -> list[tuple[str, int, int]] | None:
    """Return what a shard's index says, if it is of this shard and can be true: it may come from a stranger."""
    if not index.is_file():
        return None
    try:
        # What is in the index has taken more room in the shard: a header of 512 bytes at least.
        content = read_json(index, min(stamp[0], MAX_INDEX))
        if not isinstance(content, list) or len(content) != 2:
            raise ValueError('it is no index of a shard')
        indexed, files = content
        if indexed != stamp:
            return None
        if not (isinstance(files, list) and len(files) <= stamp[0] // tarfile.BLOCKSIZE):
            raise ValueError('it lists more files than the shard has room for')
        for name, offset, size in files:
            if not (isinstance(name, str) and type(offset) is type(size) is int):
                raise ValueError(f'{name!r} has no name, offset and size')
            if not (0 <= offset <= offset + size <= stamp[0] and size >= 0):
                raise ValueError(f'{name!r} lies outside the shard')
    except (OSError, ValueError, TypeError, RecursionError) as error:
        print_log(f'{index} is not used: {error}', 'current', level=logging.WARNING)
        return None
    return [tuple(file) for file in files]


def _read_headers(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """Go through a shard from header to header."""
    members, start = [], -1
    with open_regular(path) as file:
        try:
            with tarfile.open(fileobj=file, mode='r:') as tar:
                for member in tar:
                    if member.size < 0 or tar.offset <= start:  # tarfile would go round in circles
                        raise tarfile.ReadError(f'bad size of {member.name}')
                    members.append(member)
                    start = tar.offset
        except OSError:
            raise
        except Exception as error:  # tarfile fed with garbage raises whatever it stumbles over
            raise ValueError(
                f'{path} is no whole, uncompressed tar file ({error}); compressed ones: unpack them'
            ) from error
        _check_end(path, file, tar.offset, len(members))
    places = {x.name: (x.offset_data, x.size) for x in members if x.isreg() and not x.issparse()}
    files, left_out = [], []
    for member in members:
        if member.islnk():
            place = places.get(member.linkname)
        elif member.issym():
            place = places.get(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
        else:
            place = (member.offset_data, member.size) if member.isreg() and not member.issparse() else None
        if place:
            files.append((member.name, *place))
        elif not member.isdir():
            left_out.append(member.name)
    if left_out:
        print_log(
            f'{path}: left out {len(left_out)} members that are sparse, or no files, or links to none in the shard: '
            + first_few(left_out, 3),
            'current',
            level=logging.WARNING,
        )
    return files


def _check_end(path: str | os.PathLike, file: BinaryIO, end: int, count: int) -> None:
    """Raise unless nothing but zeros lies behind the last member, where ``tarfile`` stops without a word."""
    file.seek(end)
    found = 0
    while block := file.read(2**20):
        if rest := block.lstrip(b'\0'):
            damage = end + found + len(block) - len(rest)
            raise ValueError(
                f'{path} is damaged at byte {end}, behind {count} members: there is no header, but there are data (at '
                f'byte {damage}). Fetch or write the shard anew, or take it out of the folder; several archives put '
                'one after the other: unpack them and run tools/make_shards.py'
            )
        found += len(block)
    if not found:
        print_log(f'{path} has no mark of its end; was it cut short?', 'current', level=logging.WARNING)


@lru_cache(maxsize=256)  # of each process; below the usual limit of 1024 open files
def _open(path: str, modified: int) -> BinaryIO:
    """Open a shard for reading at any place: ``pread`` moves no position, so workers may inherit the file."""
    return open_regular(path)


@dataclass
class Members:
    """The name and content of each image's member; for an image that cannot be read its path and the reason."""

    folder: Path  # of the images
    paths: list[str]
    short_side: int | None  # in pixels, to which larger images are scaled
    channels: int
    max_pixels: int  # height times width beyond which an image is refused
    quality: int  # of JPEGs that are written anew

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, idx: int) -> tuple[str, bytes | Exception]:
        path = Path(self.paths[idx])
        # The number makes it unique; WebDataset ends keys at the first dot.
        key = f'{idx:08d}_' + re.sub(r'[^\w-]+', '_', str(path.relative_to(self.folder).with_suffix('')))
        try:
            data = read_bytes(dict(img_path=path), self.channels, self.max_pixels)
            if self.short_side is not None and min(image_size(path, data, self.max_pixels)) > self.short_side:
                ending, data = self._shrink(path, data)
                return key + ending, data
            return f'{key}{path.suffix.lower()}', data
        except (OSError, UnreadableImageError) as error:
            return str(path), error

    def _shrink(self, path: Path, data: bytes) -> tuple[str, bytes]:
        """Return the ending and the content of a smaller image, whose values are those that it has."""
        if self.channels in (1, 3) and not is_deep(path, data, self.max_pixels):
            values = read_image(path, data, self.channels, None, self.max_pixels)
            img = Image.fromarray(values[..., 0] if self.channels == 1 else values)
            buffer = BytesIO()
            img.resize(self._size(values), Image.Resampling.BICUBIC).save(buffer, 'JPEG', quality=self.quality)
            return '.jpg', buffer.getvalue()
        values = read_values(path, data, self.channels, self.max_pixels)
        bands = [Image.fromarray(band.astype(np.float32)) for band in np.moveaxis(values, 2, 0)]
        scaled = np.stack([band.resize(self._size(values), Image.Resampling.BICUBIC) for band in bands], axis=2)
        if values.dtype.kind in 'ui':
            scaled = scaled.round().clip(values.min(), values.max())
        return '.tif', _write_tiff(scaled.astype(values.dtype.newbyteorder('=')))

    def _size(self, values: np.ndarray) -> tuple[int, int]:
        height, width = (round(side * self.short_side / min(values.shape[:2])) for side in values.shape[:2])
        return width, height


def _write_tiff(values: np.ndarray) -> bytes:
    """Return a TIFF of bands ``(H, W, C)`` side by side."""
    from tifffile import imwrite

    buffer = BytesIO()
    values, layout = (values[..., 0], None) if values.shape[2] == 1 else (values, 'contig')
    kind = 'rgb' if values.ndim == 3 and values.shape[2] == 3 else 'minisblack'
    imwrite(buffer, values, photometric=kind, planarconfig=layout, compression='zlib', metadata=None)
    return buffer.getvalue()
