"""Checks of image files before they are decoded: what their headers promise must be in proportion.

A small file can ask for much: a strip that unpacks to gigabytes, a scan that stands thousands of times, tags that all
share the same megabytes. Decoders find out too late. These checks look at the headers alone.
"""

import io
import lzma
import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

MAX_SCANS = 100  # of a JPEG; ten are usual
FEW_SCANS = 20  # so many passes over the largest image take seconds, and need no closer look
LONG_HEADER = 2**20  # bytes before the last scan, beyond which the markers are counted
MAX_PIECES = 1_000  # markers or chunks, and one more for each kilobyte
MAX_PAGES = 10_000  # of a TIFF whose channels may lie on a page each
MAX_SEGMENTS = 1_000_000  # strips or tiles of a page
MAX_TILE = 2_048  # side of a tile that is larger than its image
MAX_COMMENT = 2**20  # bytes of a comment in a GIF: Pillow copies it with each piece
SPARE = 2**24  # bytes that may be unpacked in vain

# What Pillow decodes in a time that goes by pixels and bytes. Some of its other formats are decoded in Python, or are
# programs.
FORMATS = tuple('AVIF BMP DIB GIF ICO IM JPEG JPEG2000 MPO MSP PCX PNG PPM SGI TGA TIFF WEBP'.split())

TIFF_STARTS = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'  # the last two are those of files beyond 4 GB
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_COMPRESSION, _SEGMENTS = 259, (273, 279, 324, 325)
_JPEG_IN_TIFF = 6, 7
# Kinds of compression that are image formats of their own: JPEG, JPEG XR, JPEG 2000, PNG, WebP, JPEG XL.
_PICTURES = 6, 7, 22610, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 34934, 48124, 50001, 50002, 52546
_MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')  # in the data of a scan, others have no meaning
_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_header(file: BinaryIO, max_pixels: int) -> None:
    """Refuse an image file that would take far more time or memory than its pixels; the position is kept."""
    start = file.read(12)
    file.seek(0)
    if start.startswith(b'\xff\xd8'):
        _check_scans(file, max_pixels)
    elif start[:4] in TIFF_STARTS:
        _check_tags(file)
    elif start.startswith(b'\x89PNG'):
        _check_chunks(file)
    elif start.startswith(b'GIF'):
        _check_comments(file)
    file.seek(0)


def check_exif(content: bytes | None) -> None:
    """Refuse EXIF tags that claim more bytes than there are: each would be copied."""
    content = (content or b'').removeprefix(b'Exif\0\0')
    if content[:4] in TIFF_STARTS:
        _check_tags(io.BytesIO(content))


# ---- JPEG ----


def _check_scans(file: BinaryIO, max_pixels: int) -> None:
    """Check the scans of a JPEG, each of which is a pass over all its pixels, its markers and its EXIF tags."""
    count, last = _find(file, b'\xff\xda')
    suspicious = count > FEW_SCANS or last >= LONG_HEADER
    scans = pixels = markers = 0
    exif = b''
    for position, marker, head in _jpeg_markers(file):
        markers += 1
        scans += marker == 0xDA
        if marker == 0xDA and not suspicious:
            break
        if marker in _START_OF_FRAME:
            height, width = struct.unpack('>HH', head[3:7])
            pixels = height * width
        if marker == 0xE1 and head[2:] == b'Exif\0':
            exif += file.read(max(0, int.from_bytes(head[:2], 'big') - 7))[1:]  # Pillow joins several, too
        if scans > MAX_SCANS or scans * pixels > FEW_SCANS * max_pixels:
            raise ValueError(f'it has {scans} scans of {pixels} pixels or more, which takes too long to decode')
        _check_pieces(markers, position)
    check_exif(exif)


def _check_pieces(count: int, position: int) -> None:
    """Refuse many pieces of few bytes, each of which takes Pillow microseconds."""
    if count > MAX_PIECES + position // 1024:
        raise ValueError(f'its first {position} bytes are in more than {MAX_PIECES} pieces')


def _jpeg_markers(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield each marker of a JPEG, the position behind it and the seven bytes behind it, as libjpeg finds them."""
    position = 2
    while True:
        file.seek(position)
        block = file.read(4096)
        found = _MARKER.search(block)
        if found is None:
            if len(block) < 2:
                return
            position += len(block) - 1
            continue
        marker = found[0][1]
        if marker == 0xD9:  # the end
            return
        position += found.end()
        file.seek(position)
        head = file.read(7).ljust(7, b'\0')
        yield position, marker, head
        if marker >= 0xC0 and marker != 0xD8:  # others have no length
            position += max(2, int.from_bytes(head[:2], 'big'))


def _find(file: BinaryIO, mark: bytes) -> tuple[int, int]:
    """Return how often two bytes stand in a file, and where the last time."""
    file.seek(0)
    count, last, position, before = 0, -1, 0, b''
    while block := file.read(2**20):
        block = before + block
        if found := block.count(mark):
            count += found
            last = position - len(before) + block.rindex(mark)
        position += len(block) - len(before)
        before = block[-1:]
    return count, last


# ---- PNG ----


def _check_chunks(file: BinaryIO) -> None:
    """Count the chunks of a PNG."""
    position, count = 8, 0
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b'IEND':
            return
        position += 12 + int.from_bytes(head[:4], 'big')
        count += 1
        _check_pieces(count, position)


# ---- GIF ----


def _check_comments(file: BinaryIO) -> None:
    """Refuse a long comment before the first picture of a GIF."""
    header = file.read(13).ljust(13, b'\0')
    file.seek(3 * (2 << (header[10] & 7)) if header[10] & 0x80 else 0, io.SEEK_CUR)
    total = 0
    while file.read(1) == b'!':
        file.read(1)
        while (size := file.read(1)) > b'\0':
            file.seek(size[0], io.SEEK_CUR)
            total += size[0] + 1
            if total > MAX_COMMENT:
                raise ValueError(f'there are more than {MAX_COMMENT} bytes before its first picture')
        total += 2


# ---- TIFF ----


def _check_tags(file: BinaryIO) -> None:
    """Check the first directory of a TIFF: sizes of its values, number of its strips, size of its tiles."""
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
    if values.get(_COMPRESSION) in _JPEG_IN_TIFF:
        segments = max((count for tag, _, count, _ in entries if tag in _SEGMENTS), default=1)
        if _find(file, b'\xff\xda')[0] > FEW_SCANS * segments + MAX_SCANS:
            raise ValueError('its JPEG data have too many scans')


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
