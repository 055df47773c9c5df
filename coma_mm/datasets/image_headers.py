"""Checks of image files before they are decoded: what their headers promise must be in proportion.

A small file can ask for much memory: a strip that unpacks to gigabytes, tags that all share the same megabytes.
Decoders find out too late.
"""

import io
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

MAX_PAGES = 10_000  # of a TIFF whose channels may lie on a page each
MAX_SEGMENTS = 1_000_000  # strips or tiles of a page
MAX_TILE = 2_048  # side of a tile that is larger than its image
SPARE = 2**24  # bytes that may be unpacked in vain

# Formats that Pillow decodes in a time that follows pixels and bytes. It decodes some others in Python, or runs them.
FORMATS = tuple('AVIF BMP DIB GIF ICO IM JPEG JPEG2000 MPO MSP PCX PNG PPM SGI TGA TIFF WEBP'.split())

TIFF_STARTS = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'  # the last two are those of files beyond 4 GB
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_SEGMENTS = 273, 279, 324, 325
# Kinds of compression that are image formats of their own: JPEG, JPEG XR, JPEG 2000, PNG, WebP, JPEG XL.
_PICTURES = 6, 7, 22610, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 34934, 48124, 50001, 50002, 52546


def check_exif(content: bytes | None) -> None:
    """Refuse EXIF tags that claim more bytes than there are: each would be copied."""
    check_tags(io.BytesIO((content or b'').removeprefix(b'Exif\0\0')))


def check_tags(file: BinaryIO) -> None:
    """Check the first directory of a TIFF: sizes of its values, number of its strips, size of its tiles.

    Files of other kinds pass. The file is left at its start.
    """
    file.seek(0)
    if file.read(4) not in TIFF_STARTS:
        file.seek(0)
        return
    size = file.seek(0, io.SEEK_END)
    _, entries = next(_read_directories(file), (0, []))
    values: dict[int, int] = {}
    claimed = 0
    for tag, kind, count, value in entries:
        length = _VALUE_BYTES.get(kind, 0) * count
        claimed += length if length > 4 else 0
        if claimed > size + SPARE // 16:
            raise ValueError('its tags claim more bytes than the file has')
        if tag in _SEGMENTS and count > MAX_SEGMENTS:
            raise ValueError(f'it has {count} strips or tiles, more than {MAX_SEGMENTS}')
        values.setdefault(tag, value)
    for side, tile in (_WIDTH, _TILE_WIDTH), (_HEIGHT, _TILE_HEIGHT):
        if values.get(tile, 0) > max(values.get(side, 0) + 16, MAX_TILE):
            raise ValueError(f'its tiles of {values[tile]} pixels are larger than the image')
    file.seek(0)


def check_pages(file: BinaryIO) -> None:
    """Refuse a TIFF of more pages than :data:`MAX_PAGES`, or whose pages never end; the position is kept."""
    first = None
    for number, (offset, _) in enumerate(_read_directories(file)):
        if offset == first:  # where readers stop, too
            break
        if number >= MAX_PAGES:
            raise ValueError(f'it has more than {MAX_PAGES} pages')
        first = offset if first is None else first
    file.seek(0)


def _read_directories(file: BinaryIO) -> Iterator[tuple[int, list[tuple[int, int, int, int]]]]:
    """Yield place and entries (tag, type, count, value) of each directory of a TIFF, for ever if they form a circle."""
    file.seek(0)
    start = file.read(16).ljust(16, b'\0')
    order = '<' if start[:2] == b'II' else '>'
    is_big = b'+' in start[2:4]
    entry, number, pointer = (order + form for form in (('HHQQ', 'Q', 'Q') if is_big else ('HHII', 'H', 'I')))
    of_entry, of_number, of_pointer = map(struct.calcsize, (entry, number, pointer))
    (offset,) = struct.unpack_from(pointer, start, 8 if is_big else 4)
    while offset < 2**62:
        file.seek(offset)
        (count,) = struct.unpack(number, file.read(of_number).ljust(of_number, b'\0'))
        content = file.read(of_entry * min(count, 65_535))
        entries = []
        for tag, kind, amount, value in struct.iter_unpack(entry, content[: len(content) // of_entry * of_entry]):
            if kind in (1, 3, 6, 8):  # a small number stands at the beginning of its field
                bits = 8 * _VALUE_BYTES[kind]
                value = value >> 8 * of_pointer - bits if order == '>' else value & (1 << bits) - 1
            entries.append((tag, kind, amount, value))
        (following,) = struct.unpack(pointer, file.read(of_pointer).ljust(of_pointer, b'\0'))
        yield offset, entries
        if not following:
            return
        offset = following


def check_segments(page: Any, max_pixels: int) -> None:
    """Refuse a page, read by ``tifffile``, whose strips or tiles unpack to more than they have room for."""
    room = math.prod(page.chunks) * page.dtype.itemsize
    if room > page.dtype.itemsize * max(1, page.samplesperpixel) * max(max_pixels, MAX_TILE**2):
        raise ValueError(f'its strips or tiles have a shape of {page.chunks}')
    unpack = {
        8: _deflate,
        32946: _deflate,
        32773: _packbits,
        34925: _lzma,
        50000: _zstd,
        **dict.fromkeys(_PICTURES, _picture),
    }
    length = unpack.get(page.compression)
    if length is None:  # stored as they are, or unpacked into the room that there is
        return
    for data, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if data is not None and length(data, room + SPARE) > room + SPARE:
            raise ValueError(f'a strip or tile unpacks to more than the {room} bytes that it has room for')


def _deflate(data: bytes, most: int) -> int:
    """Return how many bytes some data unpack to, or a number above ``most``."""
    if 1040 * len(data) < most:  # deflate packs no denser
        return 0
    return _stream_length(zlib.decompressobj(), data, most)


def _lzma(data: bytes, most: int) -> int:
    return _stream_length(lzma.LZMADecompressor(memlimit=2**28), data, most)


def _zstd(data: bytes, most: int) -> int:
    try:
        from compression.zstd import ZstdDecompressor
    except ImportError:  # so imagecodecs unpacks it, into the room that there is
        return 0
    return _stream_length(ZstdDecompressor(), data, most)


def _picture(data: bytes, most: int) -> int:
    with Image.open(io.BytesIO(data)) as img:
        return img.width * img.height


def _packbits(data: bytes, most: int) -> int:
    total = position = 0
    while position < len(data) and total <= most:
        head = data[position]
        position += head + 2 if head < 128 else 2 if head > 128 else 1
        total += head + 1 if head < 128 else 257 - head if head > 128 else 0
    return total


def _stream_length(stream: Any, data: bytes, most: int) -> int:
    """Unpack in pieces, keeping none, until the end or above ``most``."""
    total, step = 0, 2**20
    try:
        while True:
            piece = stream.decompress(data, step)
            total += len(piece)
            if total > most or stream.eof or not piece:
                return total
            data = getattr(stream, 'unconsumed_tail', b'')
    except EOFError:
        return total
