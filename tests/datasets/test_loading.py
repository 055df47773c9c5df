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


@pytest.fixture
def rgb():
    """An image of smooth colours: every channel different, neither side symmetric."""
    rows, cols = np.mgrid[:48, :64]
    return np.stack([rows * 5, cols * 3, 255 - rows - cols], axis=-1).astype(np.uint8)


@pytest.fixture
def wide():
    """16-bit grey values over the whole range."""
    return np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)


def grey_of(img):
    """The one channel of an image without colour."""
    assert img.dtype == np.uint8
    assert img.shape == (48, 64, 3)
    assert (img == img[..., :1]).all()
    return img[..., 0]


@pytest.mark.parametrize('extension', ['png', 'bmp', 'tif', 'tiff', 'webp'])
def test_colour_in_rgb_order(tmp_path, rgb, extension):
    path = tmp_path / f'x.{extension}'
    Image.fromarray(rgb).save(path, **(dict(lossless=True) if extension == 'webp' else {}))
    img = read_image(path)
    assert img.dtype == np.uint8
    assert np.array_equal(img, rgb)
    assert img.flags.writeable
    assert img.flags.c_contiguous


@pytest.mark.parametrize('extension', ['jpg', 'jpeg'])
def test_jpeg(tmp_path, rgb, extension):
    path = tmp_path / f'x.{extension}'
    Image.fromarray(rgb).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - rgb).mean() < 3


def test_the_content_decides_the_format(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / 'x.png')
    path = (tmp_path / 'x.png').rename(tmp_path / 'x.jpg')
    assert np.array_equal(read_image(path), rgb)


def test_grey_and_black_and_white(tmp_path, rgb):
    grey = Image.fromarray(rgb[..., 0])
    grey.save(tmp_path / 'L.png')
    assert np.array_equal(grey_of(read_image(tmp_path / 'L.png')), rgb[..., 0])
    grey.convert('1').save(tmp_path / '1.png')
    assert set(np.unique(grey_of(read_image(tmp_path / '1.png')))) == {0, 255}


def test_cmyk(tmp_path):
    Image.new('CMYK', (64, 48), (0, 255, 255, 0)).save(tmp_path / 'x.jpg', quality=95)
    assert np.abs(read_image(tmp_path / 'x.jpg').astype(int) - (255, 0, 0)).max() < 5


@pytest.mark.parametrize('extension', ['png', 'tif'])
def test_16_bit_grey_is_scaled(tmp_path, wide, extension):
    path = tmp_path / f'x.{extension}'
    Image.fromarray(wide).save(path)
    assert np.array_equal(grey_of(read_image(path)), np.round(wide / 257))


def test_16_bit_tiff_of_the_other_byte_order(tmp_path, wide):
    tifffile.imwrite(tmp_path / 'x.tif', wide, byteorder='>')
    assert np.array_equal(grey_of(read_image(tmp_path / 'x.tif')), np.round(wide / 257))


def test_16_bit_colour_is_scaled(tmp_path, wide):
    colour = np.stack([wide, wide[::-1], wide[:, ::-1]], axis=-1)
    cv2.imwrite(str(tmp_path / 'x.png'), colour[..., ::-1])
    tifffile.imwrite(tmp_path / 'x.tif', colour, photometric='rgb')
    for name in 'x.png', 'x.tif':
        assert np.abs(read_image(tmp_path / name).astype(float) - colour / 257).max() <= 1


def test_integers_within_16_bits_are_scaled_like_16_bits(tmp_path, wide):
    Image.fromarray(wide.astype(np.int32)).save(tmp_path / 'x.tif')
    assert np.array_equal(grey_of(read_image(tmp_path / 'x.tif')), np.round(wide / 257))


@pytest.mark.parametrize('low, high', [(0, 1), (-3.5, 1e9)])
def test_floats_are_stretched(tmp_path, low, high):
    values = np.linspace(low, high, 48 * 64).reshape(48, 64).astype(np.float32)
    values[0, 1], values[0, 2] = np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / 'x.tif')
    grey = grey_of(read_image(tmp_path / 'x.tif'))
    assert (grey[0, 0], grey[0, 1], grey[0, 2], grey[-1, -1]) == (0, 255, 0, 255)
    assert (np.diff(grey.ravel()[3:].astype(int)) >= 0).all()


def test_wide_integers_are_stretched_and_constants_do_no_harm(tmp_path):
    values = np.linspace(-(2**31), 2**31 - 1, 48 * 64).reshape(48, 64).astype(np.int32)
    Image.fromarray(values).save(tmp_path / 'x.tif')
    grey = grey_of(read_image(tmp_path / 'x.tif'))
    assert (grey.min(), grey.max()) == (0, 255)
    Image.fromarray(np.full((48, 64), 2.5, np.float32)).save(tmp_path / 'constant.tif')
    assert not read_image(tmp_path / 'constant.tif').any()


def test_transparent_images_lie_on_white(tmp_path, rgb):
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    expected = rgb + (255.0 - rgb) * (1 - alpha / 255)

    Image.fromarray(np.concatenate([rgb, alpha], axis=-1)).save(tmp_path / 'rgba.png')
    assert np.abs(read_image(tmp_path / 'rgba.png') - expected).max() <= 1
    cv2.imwrite(str(tmp_path / 'deep.png'), np.concatenate([rgb[..., ::-1], alpha], axis=-1).astype(np.uint16) * 257)
    assert np.abs(read_image(tmp_path / 'deep.png') - expected).max() <= 1
    Image.fromarray(np.concatenate([rgb[..., :1], alpha], axis=-1)).save(tmp_path / 'la.png')
    assert np.abs(grey_of(read_image(tmp_path / 'la.png')) - expected[..., 0]).max() <= 1


def test_palettes(tmp_path):
    img = Image.new('P', (64, 48), 1)
    img.putpalette([10, 20, 30, 200, 100, 50])
    img.save(tmp_path / 'opaque.png')
    assert (read_image(tmp_path / 'opaque.png') == (200, 100, 50)).all()
    img.save(tmp_path / 'transparent.png', transparency=1)
    assert (read_image(tmp_path / 'transparent.png') == 255).all()


def test_one_colour_declared_transparent(tmp_path, rgb):
    rgb[:10] = (1, 2, 3)
    Image.fromarray(rgb).save(tmp_path / 'x.png', transparency=(1, 2, 3))
    img = read_image(tmp_path / 'x.png')
    assert (img[:10] == 255).all()
    assert np.array_equal(img[10:], rgb[10:])


def test_exif_turns_the_image_upright(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned left: to be shown rotated clockwise
    Image.fromarray(rgb).save(tmp_path / 'x.png', exif=exif)
    assert np.array_equal(read_image(tmp_path / 'x.png'), np.rot90(rgb, -1))


def test_broken_exif_does_not_make_an_image_unreadable(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / 'x.jpg', exif=b'Exif\x00\x00garbage')
    assert read_image(tmp_path / 'x.jpg').shape == rgb.shape


@pytest.mark.parametrize('extension', ['jpg', 'png', 'webp', 'bmp', 'tif'])
def test_truncated(tmp_path, rgb, extension):
    path = tmp_path / f'x.{extension}'
    Image.fromarray(rgb).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableImageError, match=str(path)):
        read_image(path)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n' + bytes(50)])
def test_garbage(tmp_path, content):
    path = tmp_path / 'x.png'
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=str(path)):
        read_image(path)


def test_missing(tmp_path):
    with pytest.raises(UnreadableImageError, match=f'No such file or directory.*{tmp_path}'):
        read_image(tmp_path / 'x.png')


def test_transform(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / 'x.png')
    load = TRANSFORMS.build(dict(type='coma_mm.LoadImage'))
    assert isinstance(load, LoadImage)
    results = load(dict(img_path=str(tmp_path / 'x.png')))
    assert np.array_equal(results['img'], rgb)
    assert results['img_shape'] == results['ori_shape'] == (48, 64)


@pytest.fixture
def bands():
    """Five bands of 16 bits."""
    return np.random.default_rng(0).integers(0, 65536, (5, 48, 64), dtype=np.uint16)


@pytest.mark.parametrize('layout', ['separate', 'contig', 'pages'])
def test_tiffs_of_many_channels(tmp_path, bands, layout):
    path = tmp_path / 'x.tif'
    if layout == 'pages':
        tifffile.imwrite(path, bands, photometric='minisblack')
    else:
        values = bands if layout == 'separate' else np.moveaxis(bands, 0, 2)
        tifffile.imwrite(path, values, planarconfig=layout, photometric='minisblack', compression='zlib')
    img = read_image(path, channels=5)
    assert img.dtype == np.uint8 and img.flags.c_contiguous
    assert np.array_equal(img, np.moveaxis(np.round(bands / 257), 0, 2))
    assert np.array_equal(read_image(path, path.read_bytes(), channels=5), img)
    low = read_image(path, channels=5, value_range=(1000, 2000))
    assert np.array_equal(low, np.round((np.moveaxis(bands, 0, 2).clip(1000, 2000) - 1000.0) * 0.255))
    with pytest.raises(
        UnreadableImageError, match=r'x.tif: the image has 5 channels instead of 4 \(shape \(48, 64, 5\)'
    ):
        read_image(path, channels=4)


def test_types_of_bands(tmp_path, bands):
    eight = (bands >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / '8.tif', eight, planarconfig='separate', photometric='minisblack')
    assert np.array_equal(read_image(tmp_path / '8.tif', channels=5), np.moveaxis(eight, 0, 2))
    for kind in np.float32, np.int16:
        values = (bands / 7 - 3000).astype(kind)
        values[1] = values[1] / 10  # each band has a range of its own
        tifffile.imwrite(tmp_path / 'x.tif', values, planarconfig='separate', photometric='minisblack')
        img = read_image(tmp_path / 'x.tif', channels=5)
        assert (img.min((0, 1)) == 0).all() and (img.max((0, 1)) == 255).all()


def test_channels_of_other_files(tmp_path, rgb, wide):
    rgba = np.concatenate([rgb, rgb[..., :1]], axis=2)
    Image.fromarray(rgba).save(tmp_path / 'rgba.png')
    assert np.array_equal(read_image(tmp_path / 'rgba.png', channels=4), rgba)
    with pytest.raises(UnreadableImageError, match='the image has 4 channels instead of 2'):
        read_image(tmp_path / 'rgba.png', channels=2)
    with pytest.raises(UnreadableImageError, match='No such file'):
        read_image(tmp_path / 'none.tif', channels=4)


def test_grey(tmp_path, rgb, wide):
    Image.fromarray(rgb[..., 0]).save(tmp_path / 'L.png')
    assert np.array_equal(read_image(tmp_path / 'L.png', channels=1), rgb[..., :1])
    Image.fromarray(rgb).save(tmp_path / 'x.png')
    assert np.array_equal(
        read_image(tmp_path / 'x.png', channels=1)[..., 0], np.array(Image.fromarray(rgb).convert('L'))
    )
    tifffile.imwrite(tmp_path / 'x.tif', wide)
    assert np.array_equal(read_image(tmp_path / 'x.tif', channels=1)[..., 0], np.round(wide / 257))
    twelve = read_image(tmp_path / 'x.tif', channels=1, value_range=(0, 4095))[..., 0]
    assert np.array_equal(twelve, np.round(wide.clip(0, 4095) / (4095 / 255)))


def test_without_tifffile(tmp_path, bands, monkeypatch):
    tifffile.imwrite(tmp_path / 'x.tif', bands)
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(ImportError, match=r'reading .*x.tif takes tifffile: pip install tifffile'):
        read_image(tmp_path / 'x.tif', channels=5)


@pytest.mark.parametrize('channels', [1, 4, 5])
def test_a_pipeline_of_other_channels(tmp_path, bands, channels):
    tifffile.imwrite(tmp_path / 'x.tif', bands[:channels].squeeze(), photometric='minisblack')
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


def test_reversed_channels_give_the_colours_of_mmpretrain(tmp_path, rgb):
    """RandAugment as our config calls it makes of RGB what mmpretrain's own pipeline makes of BGR, to the bit."""
    path = tmp_path / 'x.png'
    Image.fromarray(rgb).save(path)
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
        plain = transform(dict(img=rgb))['img']
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
