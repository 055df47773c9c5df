"""Files that only look like images are named, at once and in little memory; odd but whole ones are read."""

import io
import lzma
import os
import resource
import socket
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from coma_mm.datasets import ImageFolder, LoadImage, LoadRandomResizedCrop, UnreadableImageError, read_image
from coma_mm.datasets.finding import find_images

LIMIT = 'pixels are more than the limit of 100000000; if you trust it, raise max_pixels'


@pytest.fixture
def little_memory():
    """200 MB more than there is: 100 million pixels take more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    own = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + 200 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def encode(kind, size=(64, 48), mode='RGB', **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def png(*chunks):
    """A PNG of 8 x 8 grey pixels with more chunks."""
    chunks = [
        (b'IHDR', struct.pack('>IIBBBBB', 8, 8, 8, 0, 0, 0, 0)), *chunks,
        (b'IDAT', zlib.compress(bytes(9 * 8))), (b'IEND', b''),
    ]  # fmt: skip
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data)) for name, data in chunks
    )


def jpeg(height, width, **options):
    """A small JPEG that claims to be large."""
    data = bytearray(encode('JPEG', **options))
    start = next(data.index(mark) for mark in (b'\xff\xc0', b'\xff\xc2') if mark in data)
    data[start + 5 : start + 9] = struct.pack('>HH', height, width)
    return bytes(data)


def tiff(width=None, loop=False, pages=1, channels=4):
    """A TIFF of little data that says what it likes of its width or its next page."""
    buffer = io.BytesIO()
    values = np.zeros((pages, 16, 16, channels)[pages == 1 :], np.uint8)
    tifffile.imwrite(
        buffer, values, photometric='rgb' if channels == 3 else 'minisblack', planarconfig='contig', metadata=None
    )
    data = bytearray(buffer.getvalue())
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from('<HH', data, entry)
        if width and tag in (256, 257):
            struct.pack_into('<HHII', data, entry, tag, 4, 1, width)
    if loop:
        struct.pack_into('<I', data, start + 2 + 12 * count, start)
    return bytes(data)


def bomb(channels, compression=8, **changed):
    """A TIFF of 16 x 16 pixels whose one strip, or tile, unpacks to 64 MB."""
    packed = {
        8: lambda: zlib.compress(bytes(2**26)),
        34925: lambda: lzma.compress(bytes(2**26), preset=1),
        32773: lambda: b'\x81\0' * 200_000,
    }[compression]()
    tags = {256: 16, 257: 16, 258: 8, 259: compression, 262: 1, 273: 0, 277: channels, 278: 16, 279: len(packed)}
    tags |= {int(tag): value for tag, value in changed.items()}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + packed


def claiming(count=4000, length=60_000):
    """EXIF of many tags that all have the same bytes."""
    entries = b''.join(struct.pack('<HHII', 1000 + tag, 7, length, 8) for tag in range(count))
    return b'II*\0' + struct.pack('<IH', 8, count) + entries + bytes(4) + bytes(65_000 - 14 - 12 * count)


def pages(count, last=0):
    """A TIFF of many pages, whose last leads to another place."""
    start, size = 8 + 256, 2 + 12 * 8 + 4
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 279: 256}
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
    page = [
        struct.pack('<H', 8) + entries + struct.pack('<I', start + size * (i + 1) if i < count - 1 else last)
        for i in range(count)
    ]
    return b'II*\0' + struct.pack('<I', start) + bytes(256) + b''.join(page)


def exif(text='x'):
    tags = Image.Exif()
    tags[0x010E] = text
    return tags


def cut(kind):
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert('RGB').save(buffer, kind)
    return buffer.getvalue()[: buffer.tell() * 2 // 3]


# Content, channels asked for, and what is said of it; or the shape of what is read.
FILES = {
    '144 megapixels in PNG': (encode('PNG', (12000, 12000), '1'), 3, f'144000000 {LIMIT}'),
    'large JPEG': (jpeg(60000, 50000), 3, f'3000000000 {LIMIT}'),
    'large progressive JPEG': (jpeg(60000, 50000, progressive=True), 3, f'3000000000 {LIMIT}'),
    'large JPEG with EXIF': (jpeg(60000, 50000, exif=exif()), 3, f'3000000000 {LIMIT}'),
    'large JPEG in CMYK': (jpeg(60000, 50000, mode='CMYK'), 3, f'3000000000 {LIMIT}'),
    'large GIF': (b'GIF89a' + struct.pack('<HH', 65535, 65535) + encode('GIF')[10:], 3, LIMIT),
    'large BMP': (encode('BMP')[:18] + struct.pack('<ii', 2**20, 2**20) + encode('BMP')[26:], 3, LIMIT),
    'large TIFF': (tiff(2**31 - 1, channels=3), 3, LIMIT),
    'large TIFF of bands': (tiff(2**31 - 1), 4, LIMIT),
    'TIFF of too many bands': (tiff(channels=300), 4, 'has 300 channels instead of 4'),
    'TIFF of many pages': (tiff(pages=100), 4, 'channels instead of 4'),
    'TIFF of many pages, the first taken': (tiff(pages=100, channels=3), 3, (16, 16, 3)),
    'TIFF whose next page is this one': (tiff(loop=True, channels=3), 3, (16, 16, 3)),
    'TIFF of bands whose next page is this one': (tiff(loop=True), 4, (16, 16, 4)),
    'packed text in PNG': (png((b'zTXt', b'x\0\0' + zlib.compress(bytes(10**8)))), 3, 'too large'),
    'packed profile in PNG': (png((b'iCCP', b'x\0\0' + zlib.compress(bytes(10**8)))), 3, 'too large'),
    'long EXIF in PNG': (png((b'eXIf', bytes(10**7))), 3, (8, 8, 3)),
    'long EXIF in JPEG': (encode('JPEG', exif=exif(text='x' * 60000)), 3, (48, 64, 3)),
    'megabytes of profiles in JPEG': (encode('JPEG', icc_profile=bytes(10**7)), 3, (48, 64, 3)),
    'many frames': (encode('GIF', save_all=True, append_images=[Image.new('RGB', (64, 48), 5)] * 300), 3, (48, 64, 3)),
    'program': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) (w) file\n', 3, 'EPS is not'),
    'TIFF whose strip unpacks to more': (bomb(4), 4, 'unpacks to more than the 1024 bytes'),
    'TIFF whose LZMA strip unpacks to more': (bomb(4, 34925), 4, 'unpacks to more than the 1024 bytes'),
    'TIFF whose PackBits strip unpacks to more': (bomb(4, 32773), 4, 'unpacks to more than the 1024 bytes'),
    'TIFF of rows without end': (bomb(4, **{'278': 2**31}), 4, 'unpacks to more than'),
    'TIFF of large tiles': (bomb(1, **{'322': 26_000, '323': 26_000}), 3, 'tiles of 26000 pixels are larger'),
    'TIFF of tags that share their bytes': (claiming(), 3, 'tags claim more bytes than the file has'),
    'TIFF whose pages never end': (pages(20_000, 264), 4, 'more than 10000 pages'),
    'EXIF tags in JPEG that share their bytes': (encode('JPEG', exif=b'Exif\0\0' + claiming()), 3, 'tags claim more'),
    'EXIF tags in PNG that share their bytes': (png((b'eXIf', claiming())), 3, 'tags claim more'),
    'DDS, decoded in Python': (
        b'DDS ' + struct.pack('<7I', 124, 0x1007, 9999, 9999, 0, 0, 0) + bytes(44)
        + struct.pack('<8I', 32, 64, 0, 24, 255 << 16, 255 << 8, 255, 0) + bytes(20),
        3, 'DDS is not among',
    ),
    **{f'{kind} that is cut': (cut(kind), 3, '') for kind in ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF')},
    'page': (b'<html>404 Not Found</html>', 3, 'cannot identify image file'),
    'script': (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 3, 'cannot identify image file'),
    'nothing': (b'', 3, 'cannot identify image file'),
}  # fmt: skip


@pytest.mark.parametrize('content, channels, expected', FILES.values(), ids=FILES)
def test_files(content, channels, expected, tmp_path, little_memory):
    path = tmp_path / 'x.jpg'
    path.write_bytes(content)
    for load in LoadImage(channels), LoadRandomResizedCrop(8, channels=channels):
        for data in {}, dict(img_bytes=content):
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                if isinstance(expected, tuple):
                    assert load(dict(img_path=str(path), **data))['ori_shape'] == expected[:2]
                    continue
                with pytest.raises(UnreadableImageError, match='x.jpg: ') as error:
                    load(dict(img_path=str(path), **data))
                assert expected in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ['x.jpg']


def test_the_limit_is_an_option_and_not_that_of_pillow(tmp_path, monkeypatch):
    for name, kind in ('a.jpg', 'JPEG'), ('b.png', 'PNG'):
        (tmp_path / name).write_bytes(encode(kind, exif=exif()))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    for path in tmp_path.iterdir():
        results = dict(img_path=str(path))
        for limit in 64 * 48, 2 * 64 * 48, 10**12:
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                assert read_image(path, max_pixels=limit).shape == (48, 64, 3)
                assert LoadImage(max_pixels=limit)(dict(results))['img_shape'] == (48, 64)
                assert LoadRandomResizedCrop(8, max_pixels=limit)(dict(results))['ori_shape'] == (48, 64)
        for limit in 64 * 48 - 1, 1000, 1:
            for load in LoadImage(max_pixels=limit), LoadRandomResizedCrop(8, max_pixels=limit):
                with pytest.raises(UnreadableImageError, match=rf'{path.name}: 3072 pixels .* limit of {limit};'):
                    load(dict(results))
    assert Image.MAX_IMAGE_PIXELS == 1000
    for load in LoadImage(max_pixels=7), LoadRandomResizedCrop(8, max_pixels=7):
        assert 'max_pixels=7' in repr(load)


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A folder of one image and of much that has an image's name."""
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    (tmp_path / 'image.jpg').write_bytes(encode('JPEG'))
    os.mkfifo('fifo.jpg')
    os.symlink('/dev/zero', 'zero.jpg')
    os.symlink('nowhere', 'dangling.jpg')
    os.symlink('loop.jpg', 'loop.jpg')
    os.mkdir('folder.jpg')
    with open('sparse.jpg', 'wb') as file:
        file.truncate(2**42)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind('socket.jpg')
    yield tmp_path
    listener.close()


def test_no_files(odd, little_memory, caplog):
    names = {Path(path).name for path in find_images(str(odd))}
    assert names == {'image.jpg', 'sparse.jpg', 'dangling.jpg', 'loop.jpg'}
    for name in ('fifo', 'zero', 'socket', 'folder', 'sparse', 'dangling', 'loop'):
        for load in LoadImage(), LoadRandomResizedCrop(8):
            with pytest.raises(UnreadableImageError, match=f'{name}.jpg'):
                load(dict(img_path=f'{name}.jpg'))
    dataset = ImageFolder(str(odd), pipeline=[LoadRandomResizedCrop(8)], max_unreadable=1.0)
    assert dataset[0]['img'].shape == (8, 8, 3)
    assert dataset[0]['img_path'].endswith('image.jpg')
