import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from mmengine.config import Config
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from coma_mm.datasets import LoadImage, UnreadableImageError, read_image

ROWS, COLUMNS = np.mgrid[:48, :64]
# Smooth colours, every channel different, neither side symmetric; grey values of 16 bits; five bands of 16 bits.
RGB = np.stack([ROWS * 5, COLUMNS * 3, 255 - ROWS - COLUMNS], axis=-1).astype(np.uint8)
WIDE = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
BANDS = np.random.default_rng(0).integers(0, 65536, (5, 48, 64), dtype=np.uint16)
DEEP = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], axis=-1)
ALPHA = np.concatenate([np.full((rows, 64, 1), alpha, np.uint8) for rows, alpha in ((10, 0), (10, 128), (28, 255))])
ON_WHITE = RGB + (255.0 - RGB) * (1 - ALPHA / 255)
KEYED = np.where(ROWS[..., None] < 10, (1, 2, 3), RGB).astype(np.uint8)
PALETTE = Image.new('P', (64, 48), 1)
PALETTE.putpalette([10, 20, 30, 200, 100, 50])
TURNED = Image.Exif()
TURNED[0x0112] = 6  # the camera was turned left: to be shown rotated clockwise
BLACK_AND_WHITE = Image.fromarray(RGB[..., 0]).convert('1')


def pillow(img, **options):
    img = img if isinstance(img, Image.Image) else Image.fromarray(img)
    return lambda path: img.save(path, **options)


def bgr(img):
    return lambda path: cv2.imwrite(str(path), img)


def tiff(values, **options):
    return lambda path: tifffile.imwrite(path, values, **options)


# How a file is written, what is read of it, and how much a value may differ.
FILES = {
    **{f'x.{ending}': (pillow(RGB), RGB, 0) for ending in ('png', 'bmp', 'tif', 'tiff')},
    'x.webp': (pillow(RGB, lossless=True), RGB, 0),
    'png.jpg': (pillow(RGB, format='PNG'), RGB, 0),  # the content decides
    'grey.png': (pillow(RGB[..., 0]), RGB[..., :1], 0),
    'black and white.png': (pillow(BLACK_AND_WHITE), np.array(BLACK_AND_WHITE.convert('RGB')), 0),
    'cmyk.jpg': (pillow(Image.new('CMYK', (64, 48), (0, 255, 255, 0)), quality=95), (255, 0, 0), 4),
    '16 bits.png': (pillow(WIDE), np.round(WIDE / 257)[..., None], 0),
    '16 bits.tif': (pillow(WIDE), np.round(WIDE / 257)[..., None], 0),
    '16 bits, the other byte order.tif': (tiff(WIDE, byteorder='>'), np.round(WIDE / 257)[..., None], 0),
    'integers within 16 bits.tif': (pillow(WIDE.astype(np.int32)), np.round(WIDE / 257)[..., None], 0),
    '16 bits in colour.png': (bgr(DEEP[..., ::-1]), DEEP / 257, 1),
    '16 bits in colour.tif': (tiff(DEEP, photometric='rgb'), DEEP / 257, 1),
    'constant.tif': (pillow(np.full((48, 64), 2.5, np.float32)), 0, 0),
    'rgba.png': (pillow(np.concatenate([RGB, ALPHA], -1)), ON_WHITE, 1),
    'deep rgba.png': (bgr(np.concatenate([RGB[..., ::-1], ALPHA], -1).astype(np.uint16) * 257), ON_WHITE, 1),
    'la.png': (pillow(np.concatenate([RGB[..., :1], ALPHA], -1)), ON_WHITE[..., :1], 1),
    'palette.png': (pillow(PALETTE), (200, 100, 50), 0),
    'transparent palette.png': (pillow(PALETTE, transparency=1), 255, 0),
    'transparent colour.png': (
        pillow(KEYED, transparency=(1, 2, 3)),
        np.where(ROWS[..., None] < 10, 255, RGB),
        0,
    ),
    'upright.png': (pillow(RGB, exif=TURNED), np.rot90(RGB, -1), 0),
}


@pytest.mark.parametrize('name', FILES)
def test_files(tmp_path, name):
    write, expected, most = FILES[name]
    write(tmp_path / name)
    img = read_image(tmp_path / name)
    assert img.dtype == np.uint8 and img.flags.writeable and img.flags.c_contiguous
    assert img.shape == ((64, 48, 3) if name == 'upright.png' else (48, 64, 3))
    assert np.abs(img - np.asarray(expected, float)).max() <= most


@pytest.mark.parametrize('extension', ['jpg', 'jpeg'])
def test_jpeg(tmp_path, extension):
    Image.fromarray(RGB).save(tmp_path / f'x.{extension}', quality=95)
    assert np.abs(read_image(tmp_path / f'x.{extension}').astype(int) - RGB).mean() < 3


@pytest.mark.parametrize(
    'low, high, kind', [(0, 1, np.float32), (-3.5, 1e9, np.float32), (-(2**31), 2**31 - 1, np.int32)]
)
def test_floats_and_wide_integers_are_stretched(tmp_path, low, high, kind):
    values = np.linspace(low, high, 48 * 64).reshape(48, 64).astype(kind)
    if kind == np.float32:
        values[0, 1], values[0, 2] = np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / 'x.tif')
    img = read_image(tmp_path / 'x.tif')
    grey = img[..., 0]
    assert (img == img[..., :1]).all() and (grey[0, 0], grey[-1, -1]) == (0, 255)
    assert kind == np.int32 or (grey[0, 1], grey[0, 2]) == (255, 0)
    assert (np.diff(grey.ravel()[3:].astype(int)) >= 0).all()


@pytest.mark.parametrize('channels', [3, 4])
def test_missing(tmp_path, channels):
    with pytest.raises(UnreadableImageError, match=f'No such file or directory.*{tmp_path}'):
        read_image(tmp_path / 'x.tif', channels=channels)


@pytest.mark.parametrize('layout', ['separate', 'contig', 'pages'])
def test_tiffs_of_many_channels(tmp_path, layout):
    path = tmp_path / 'x.tif'
    if layout == 'pages':
        tifffile.imwrite(path, BANDS, photometric='minisblack')
    else:
        values = BANDS if layout == 'separate' else np.moveaxis(BANDS, 0, 2)
        tifffile.imwrite(path, values, planarconfig=layout, photometric='minisblack', compression='zlib')
    img = read_image(path, channels=5)
    assert img.dtype == np.uint8 and img.flags.c_contiguous
    assert np.array_equal(img, np.moveaxis(np.round(BANDS / 257), 0, 2))
    assert np.array_equal(read_image(path, path.read_bytes(), channels=5), img)
    low = read_image(path, channels=5, value_range=(1000, 2000))
    assert np.array_equal(low, np.round((np.moveaxis(BANDS, 0, 2).clip(1000, 2000) - 1000.0) * 0.255))
    with pytest.raises(UnreadableImageError, match=r'x.tif: the image has 5 channels instead of 4 \(shape \(48'):
        read_image(path, channels=4)


def test_types_of_bands(tmp_path):
    eight = (BANDS >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / '8.tif', eight, planarconfig='separate', photometric='minisblack')
    assert np.array_equal(read_image(tmp_path / '8.tif', channels=5), np.moveaxis(eight, 0, 2))
    for kind in np.float32, np.int16:
        values = (BANDS / 7 - 3000).astype(kind)
        values[1] = values[1] / 10  # each band has a range of its own
        tifffile.imwrite(tmp_path / 'x.tif', values, planarconfig='separate', photometric='minisblack')
        img = read_image(tmp_path / 'x.tif', channels=5)
        assert (img.min((0, 1)) == 0).all() and (img.max((0, 1)) == 255).all()


def test_channels_of_other_files(tmp_path):
    rgba = np.concatenate([RGB, RGB[..., :1]], axis=2)
    Image.fromarray(rgba).save(tmp_path / 'rgba.png')
    assert np.array_equal(read_image(tmp_path / 'rgba.png', channels=4), rgba)
    with pytest.raises(UnreadableImageError, match='the image has 4 channels instead of 2'):
        read_image(tmp_path / 'rgba.png', channels=2)


def test_grey(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / 'L.png')
    assert np.array_equal(read_image(tmp_path / 'L.png', channels=1), RGB[..., :1])
    Image.fromarray(RGB).save(tmp_path / 'x.png')
    grey = np.array(Image.fromarray(RGB).convert('L'))
    assert np.array_equal(read_image(tmp_path / 'x.png', channels=1)[..., 0], grey)
    tifffile.imwrite(tmp_path / 'x.tif', WIDE)
    assert np.array_equal(read_image(tmp_path / 'x.tif', channels=1)[..., 0], np.round(WIDE / 257))
    twelve = read_image(tmp_path / 'x.tif', channels=1, value_range=(0, 4095))[..., 0]
    assert np.array_equal(twelve, np.round(WIDE.clip(0, 4095) / (4095 / 255)))


def test_without_tifffile(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / 'x.tif', BANDS)
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(ImportError, match=r'reading .*x.tif takes tifffile: pip install tifffile'):
        read_image(tmp_path / 'x.tif', channels=5)


@pytest.mark.parametrize('channels', [1, 4, 5])
def test_a_pipeline_of_other_channels(tmp_path, channels):
    tifffile.imwrite(tmp_path / 'x.tif', BANDS[:channels].squeeze(), photometric='minisblack')
    results = dict(img_path=str(tmp_path / 'x.tif'))
    load = dict(channels=channels, value_range=(0, 65535))
    crop = dict(scale=16, crop_ratio_range=(1, 1), aspect_ratio_range=(4 / 3, 4 / 3))
    mask = dict(type='coma_mm.ComplementaryMask', input_size=16, unit_size=8, ratio=0.5)
    for first in (
        [dict(type='coma_mm.LoadImage', **load), dict(type='RandomResizedCrop', **crop)],
        [dict(type='coma_mm.LoadRandomResizedCrop', **load, **crop)],
    ):
        steps = [*first, dict(type='RandomFlip', prob=1.0), mask, dict(type='coma_mm.PackMaskedImage')]
        packed = dict(results)
        for step in steps:
            packed = TRANSFORMS.build(step)(packed)
        assert packed['inputs'].shape == (channels, 16, 16) and packed['inputs'].float().std() > 1


def test_reversed_channels_give_the_colours_of_mmpretrain(tmp_path):
    """RandAugment as our config calls it makes of RGB what mmpretrain's own pipeline makes of BGR, to the bit."""
    path = tmp_path / 'x.png'
    Image.fromarray(RGB).save(path)
    config = Path(__file__).parents[2] / 'configs/_base_/datasets/imagenet_cls_randaug.py'
    ours = Config.fromfile(config).train_pipeline
    names = [step['type'] for step in ours]
    augment = names.index('RandAugment')
    assert names[augment - 1] == names[augment + 1] == 'coma_mm.ReverseChannels'
    original = TRANSFORMS.build(ours[augment])
    assert ours[augment]['hparams']['pad_val'] == [round(value) for value in (103.53, 116.28, 123.675)]  # B, G, R
    reverse = TRANSFORMS.build(dict(type='coma_mm.ReverseChannels'))
    colour = TRANSFORMS.build(dict(type='ColorTransform', magnitude=0.9, prob=1.0, random_negative_prob=0.0))
    changed = 0
    for seed, transform in [(0, colour), *((seed, original) for seed in range(8))]:
        outcomes = []
        for load, around in (('coma_mm.LoadImage', reverse), ('LoadImageFromFile', None)):
            results = TRANSFORMS.build(dict(type=load))(dict(img_path=str(path)))
            np.random.seed(seed)
            for step in (around, transform, around):
                results = step(results) if step else results
            outcomes.append(results['img'])
        assert np.array_equal(outcomes[0], outcomes[1][..., ::-1])
        np.random.seed(seed)
        plain = transform(dict(img=RGB))['img']
        changed += not np.array_equal(plain, outcomes[0])
    assert changed  # so the order matters


@pytest.mark.parametrize(
    ('given', 'channels', 'expected'),
    [
        ((2, 3, 3), 3, lambda img: img[..., ::-1]),
        ((2, 3), 3, lambda img: np.stack([img] * 3, 2)),
        ((2, 3), 1, lambda img: img[..., None]),
        ((2, 3, 1), 1, lambda img: img),
        ((2, 3, 3), 1, lambda img: np.array(Image.fromarray(img[..., ::-1].copy()).convert('L'))[..., None]),
        ((2, 3, 5), 5, lambda img: img),
    ],
)
def test_images_that_are_loaded_already_are_bgr(given, channels, expected):
    img = np.random.default_rng(0).integers(0, 256, given, dtype=np.uint8)
    loaded = LoadImage(channels=channels)(dict(img=img))
    assert np.array_equal(loaded['img'], expected(img)) and loaded['img_shape'] == (2, 3)
    with pytest.raises(ValueError, match='instead of 4'):
        LoadImage(channels=4)(dict(img=img))
