import cv2
import numpy as np
import pytest
import tifffile
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
