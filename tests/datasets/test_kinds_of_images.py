"""Images that people have on their disks: deep, grey, many bands, odd endings and names; one table for all of it."""

import io
import os

import cv2
import numpy as np
import pytest
import tifffile
from mmengine.logging import MMLogger
from PIL import Image

from coma_mm.datasets import ClassFolder, ImageFolder, LoadRandomResizedCrop, UnreadableImageError, read_image
from coma_mm.datasets.finding import find_images, image_endings
from coma_mm.datasets.loading import image_size, is_deep
from coma_mm.datasets.value_range import find_value_range
from coma_mm.utils.text import one_line


def waves(bands, low, high, seed=0):
    """Smooth values ``(48, 64, bands)`` from low to high."""
    rows, columns = np.mgrid[:48, :64]
    phase = np.random.default_rng(seed).random(bands) * 6
    unit = np.sin(columns[..., None] / 7 + phase) * np.cos(rows[..., None] / 9 + phase)
    unit = (unit - unit.min()) / (unit.max() - unit.min())
    return low + unit * (high - low)


def tiff(path, values, **options):
    options.setdefault('photometric', 'rgb' if values.shape[-1] == 3 else 'minisblack')
    if values.shape[-1] == 1:
        values = values[..., 0]
    else:
        options.setdefault('planarconfig', 'contig')
    tifffile.imwrite(path, values, **options)


def planar(path, values, **options):
    kind = 'rgb' if values.shape[-1] == 3 else 'minisblack'
    tifffile.imwrite(path, np.moveaxis(values, 2, 0), photometric=kind, planarconfig='separate', **options)


def pages(path, values):
    tifffile.imwrite(path, np.moveaxis(values, 2, 0), photometric='minisblack')


def png(path, values):
    cv2.imwrite(str(path), values[..., ::-1])


def signed(path, values):
    tiff(path, values, extratags=[(42113, 2, 6, '-9999', True)])  # GDAL's value for nothing


# How a file is written, its bands, type and values, and the range that is found.
DEEP = {
    '12 bits': (tiff, 1, 'uint16', (0, 4095), (0, 4095)),
    '12 bits, signed type': (tiff, 1, 'int16', (0, 4000), (0, 4095)),
    '10 bits in PNG': (png, 1, 'uint16', (0, 1020), (0, 1023)),
    '12 bits in colour, PNG': (png, 3, 'uint16', (0, 4095), (0, 4095)),
    '12 bits in colour': (tiff, 3, 'uint16', (0, 4095), (0, 4095)),
    '14 bits in colour, band after band': (planar, 3, 'uint16', (0, 9000), (0, 16383)),
    'packed': (lambda *x: planar(*x, compression='zlib'), 3, 'uint16', (0, 4095), (0, 4095)),
    'beyond 4 GB': (lambda *x: tiff(*x, bigtiff=True), 3, 'uint16', (0, 4095), (0, 4095)),
    'tiles': (lambda *x: tiff(*x, tile=(16, 16)), 3, 'uint16', (0, 4095), (0, 4095)),
    'a page for each colour': (pages, 3, 'uint16', (0, 4095), (0, 4095)),
    'seven bands': (planar, 7, 'uint16', (100, 3000), (0, 4095)),
    'four bands': (tiff, 4, 'uint16', (0, 60000), (0, 65535)),
    'CT': (signed, 1, 'int16', (-1024, 3071), (-1024, 3071)),
    'an offset': (tiff, 1, 'uint16', (31744, 35839), (31744, 35839)),
    'little light': (tiff, 1, 'uint16', (2000, 2400), (2000, 2400)),
    'shares': (tiff, 3, 'float32', (0, 0.9), (0, 1)),
    'floats': (tiff, 1, 'float32', (-3, 7), (-3, 7)),
    'half floats': (planar, 3, 'float16', (0, 1), (0, 1)),
    '32 bits': (tiff, 1, 'uint32', (0, 1_000_000), (0, 2**20 - 1)),
    'all of 16 bits': (png, 1, 'uint16', (0, 65535), (0, 65535)),
    '8 bits': (tiff, 3, 'uint8', (0, 255), None),
    '8 bits, four bands': (tiff, 4, 'uint8', (0, 255), None),
}


@pytest.mark.parametrize(('write', 'bands', 'kind', 'values', 'expected'), DEEP.values(), ids=DEEP)
def test_deep_images(write, bands, kind, values, expected, tmp_path):
    originals = [waves(bands, *values, seed).astype(kind) for seed in range(3)]
    paths = [str(tmp_path / f'{seed}.{"png" if write is png else "tif"}') for seed in range(3)]
    for path, original in zip(paths, originals):
        write(path, original)
    found = find_value_range(paths, bands)
    if expected is None:
        assert found is None and not is_deep(paths[0])
        assert np.array_equal(read_image(paths[0], None, bands, (0, 9)), originals[0])  # whatever the range
        return
    low, high = expected
    assert (found.low, found.high) == pytest.approx((low, high)) and not found.warn() and is_deep(paths[0])
    assert f'Values {low:.6g} to {high:.6g} become 0 to 255 (by 3 of the images' in found.describe()
    for path, original in zip(paths, originals):
        wanted = np.round((original.astype(float) - low) / (high - low) * 255)
        img = read_image(path, None, bands, (found.low, found.high))
        assert img.dtype == np.uint8 and np.abs(img - wanted).max() <= 1 and len(np.unique(img)) >= 45
        crop = LoadRandomResizedCrop(16, channels=bands, value_range=expected)(dict(img_path=path))
        assert crop['img'].shape == (16, 16, bands)
        assert image_size(path) == (48, 64)
    if bands == 1:
        colour = read_image(paths[0], value_range=expected)
        assert (colour == read_image(paths[0], None, 1, expected)).all()
    if bands == 3:
        assert read_image(paths[0], None, 1, expected).shape == (48, 64, 1)


def test_few_levels_and_pixels_that_are_far_off(tmp_path):
    path = str(tmp_path / 'x.tif')
    values = waves(1, 300, 4000).astype(np.uint16)
    values[0, 0] = 65535
    tiff(path, values)
    found = find_value_range([path], 1)
    assert found.high < 4100 and not found.warn()  # one hot pixel does not make all others black
    given = find_value_range([path], 1, (0, 65535))
    assert (given.low, given.high) == (0, 65535)
    assert 'channel 1 uses 17 of 256 grey levels' in given.warn() and '--value-range LOW HIGH' in given.warn()
    assert find_value_range([str(tmp_path / 'none.tif')], 1) is None


def test_first_pages_white_that_is_0_transparency_and_orientation(tmp_path):
    path = tmp_path / 'x.tif'
    stack = np.stack([waves(1, 0, 4095, seed)[..., 0] for seed in range(5)]).astype(np.uint16)
    tifffile.imwrite(path, stack, photometric='minisblack')
    first = np.round(stack[0] / 4095 * 255)
    for channels in (1, 3):
        assert np.abs(read_image(path, None, channels, (0, 4095))[..., 0] - first).max() <= 1
    tifffile.imwrite(path, stack[0], photometric='miniswhite')
    assert np.abs(255 - read_image(path, None, 1, (0, 4095))[..., 0].astype(float) - first).max() <= 1
    for number, turned in ((3, np.rot90(first, 2)), (6, np.rot90(first, -1)), (8, np.rot90(first)), (5, first.T)):
        tifffile.imwrite(path, stack[0], photometric='minisblack', extratags=[(274, 3, 1, number, True)])
        assert np.abs(read_image(path, None, 1, (0, 4095))[..., 0] - turned).max() <= 1
        assert image_size(path) == turned.shape
        Image.fromarray(first.astype(np.uint8)).save(tmp_path / '8.tif', tiffinfo={274: number})  # Pillow turns these
        assert (read_image(tmp_path / '8.tif', None, 1)[..., 0] == turned).all()
        assert image_size(tmp_path / '8.tif') == turned.shape
    rgba = np.concatenate([waves(3, 0, 4095), np.full((48, 64, 1), 65535)], axis=2).astype(np.uint16)
    rgba[:10, :, 3] = 0
    tifffile.imwrite(tmp_path / 'a.tif', rgba, photometric='rgb', extrasamples=['unassalpha'])
    cv2.imwrite(str(tmp_path / 'a.png'), rgba[..., [2, 1, 0, 3]])
    for name in ('a.tif', 'a.png'):
        img = read_image(tmp_path / name, value_range=(0, 4095))
        assert (img[:10] == 255).all()
        assert np.abs(img[10:] - np.round(rgba[10:, :, :3] / 4095 * 255)).max() <= 1
        assert read_image(tmp_path / name, None, 4, (0, 65535)).shape == (48, 64, 4)
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'a.png').read_bytes()[:-300])
    with pytest.raises(UnreadableImageError, match='cut.png'):
        read_image(tmp_path / 'cut.png', value_range=(0, 4095))


@pytest.mark.parametrize('mode, options', [
    ('RGB', {}), ('RGB', dict(compression='jpeg')), ('RGB', dict(compression='tiff_lzw')), ('P', {}), ('CMYK', {}),
    ('L', dict(compression='tiff_lzw')), ('1', dict(compression='group4')), ('RGBA', {}),
])  # fmt: skip
def test_ordinary_tiffs_are_what_pillow_gives(mode, options, tmp_path):
    img = Image.fromarray(waves(3, 0, 255).astype(np.uint8)).convert(mode)
    img.save(tmp_path / 'x.tif', **options)
    with Image.open(tmp_path / 'x.tif') as again:
        assert np.array_equal(read_image(tmp_path / 'x.tif'), np.array(again.convert('RGB')))
        assert np.array_equal(read_image(tmp_path / 'x.tif', value_range=(0, 7)), np.array(again.convert('RGB')))


def test_what_is_to_be_installed_is_said(tmp_path, monkeypatch):
    import tifffile.tifffile as module

    def refuse(*args, **kwargs):
        raise error

    error: Exception = KeyError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    values = waves(3, 0, 4095).astype(np.uint16)
    planar(tmp_path / 'x.tif', values, compression='zlib')
    Image.fromarray(values[..., 0]).save(tmp_path / 'grey.tif', compression='tiff_lzw')  # Pillow can, too
    monkeypatch.setattr(module.TiffPage, 'asarray', refuse)
    with pytest.raises(UnreadableImageError, match='x.tif: a TIFF packed in this way .* pip install imagecodecs'):
        read_image(tmp_path / 'x.tif', value_range=(0, 4095))
    error = ModuleNotFoundError("No module named 'compression'")  # as tifffile says of zstd
    with pytest.raises(UnreadableImageError, match='pip install imagecodecs'):
        read_image(tmp_path / 'x.tif', value_range=(0, 4095))
    assert np.abs(read_image(tmp_path / 'grey.tif', None, 1, (0, 4095))[..., 0] - values[..., 0] / 4095 * 255).max() < 1


def test_kinds_of_files(tmp_path):
    img = Image.fromarray(waves(3, 0, 255).astype(np.uint8))
    (tmp_path / 'images').mkdir()
    kinds = (
        'jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff ppm pgm pnm pbm jp2 j2k tga ico pcx sgi im msp'.split()
    )
    for kind in kinds:
        one = img.convert('1') if kind in ('msp', 'pbm') else img
        more = dict(save_all=True, append_images=[img.rotate(90)]) if kind in ('gif', 'apng', 'webp') else {}
        one.save(tmp_path / f'images/a.{kind}', **more)
    img.save(tmp_path / 'images/a.mpo', save_all=True, append_images=[img])
    kinds.append('mpo')
    for name in ('1.heic', '2.HEIC', 'x.xcf', 'program.eps', 'page.pdf', 'README', '.hidden.xcf'):
        (tmp_path / f'images/{name}').write_bytes(b'%!PS')
    MMLogger.get_instance('kinds', log_file=str(tmp_path / 'log.txt'))
    dataset = ImageFolder(str(tmp_path / 'images'), pipeline=[LoadRandomResizedCrop(8)], max_unreadable=0.0)
    assert sorted(
        os.path.splitext(info['img_path'])[1][1:] for info in map(dataset.get_data_info, range(len(dataset)))
    ) == (sorted(kinds))
    assert all(dataset[i]['img'].shape == (8, 8, 3) for i in range(len(dataset)))
    text = 'left out: 2 .heic, 1 .eps, 1 .pdf, 1 .xcf, 1 without an ending'
    log = (tmp_path / 'log.txt').read_text()
    assert log.count('left out') == 1 and all(part in log for part in text.removeprefix('left out: ').split(', '))
    assert not {'.eps', '.ps', '.mpg', '.pdf', '.h5', '.wmf'} & set(image_endings())


NAMES = [
    b'caf\xe9.png', b'new\nline.png', b'tab\t.png', '\U0001f600.png'.encode(), '中文.png'.encode(), b'a$b^{$.png',
    b'<b>&"\'.png', b'%s {0} {{ fileDirname }}.png', b'\x1b[31mred.png', b' space .png', b'\xff\xfe/x.png',
]  # fmt: skip


def test_names_of_any_bytes(tmp_path):
    MMLogger.get_instance('names', log_file=str(tmp_path / 'log.txt'))
    buffer = io.BytesIO()
    Image.fromarray(waves(3, 0, 255).astype(np.uint8)).save(buffer, 'PNG')
    for kind in (b'one', b'two\xe9'):
        for name in NAMES:
            path = os.path.join(os.fsencode(tmp_path), kind, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'wb') as file:
                file.write(buffer.getvalue() if name != NAMES[-1] else b'broken')
    parts = [
        {dataset.get_data_info(i)['img_path'] for i in range(len(dataset))}
        for dataset in (ImageFolder(str(tmp_path), part=part, val=0.3) for part in ('train', 'val'))
    ]
    assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == 2 * len(NAMES)
    classes = ClassFolder(str(tmp_path), val=0.3)
    assert classes.metainfo['classes'] == ('one', 'two\\xe9')
    dataset = ImageFolder(str(tmp_path), pipeline=[LoadRandomResizedCrop(8)], max_unreadable=1.0)
    for i in range(len(dataset)):
        dataset[i]
    said = (tmp_path / 'log.txt').read_text()
    assert all(character.isprintable() or character == '\n' for character in said)
    assert '\\xff\\xfe/x.png' in said
    # a list of them is read as it is written
    paths = [path for path in find_images(str(tmp_path)) if '\n' not in path and not path.endswith(' .png')]
    (tmp_path / 'list.txt').write_bytes(b'\n'.join(map(os.fsencode, paths)))
    listed = ImageFolder(str(tmp_path / 'list.txt'))
    assert [listed.get_data_info(i)['img_path'] for i in range(len(listed))] == paths
    assert one_line('a\nb\udce9') == 'a\\nb\\xe9'
