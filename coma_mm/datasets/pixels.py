"""Pixels of any type, brought to 8 bits."""

from typing import NamedTuple

import numpy as np
from PIL import Image

# Height times width above which an image is refused before it is decoded: 420 kB of PNG can be 144 million pixels, and
# each takes up to 20 bytes for a moment.
MAX_PIXELS = 100_000_000
RAISE_LIMIT = 'if you trust it, raise max_pixels, of read_image or of the pipeline step that loads it (--max-pixels N)'
SIDEWAYS = 5, 6, 7, 8  # EXIF orientations of images that are turned by 90 degrees


class Pixels(NamedTuple):
    """The pixels of a file: values of any type, ``(H, W, bands)``, upright."""

    values: np.ndarray
    alpha: np.ndarray | None = None  # (H, W), of the same type
    inverted: bool = False  # whether 0 is white


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels."""
    if height * width > max_pixels:
        raise ValueError(f'{height * width} pixels are more than the limit of {max_pixels}; {RAISE_LIMIT}')


def check_channels(shape: tuple[int, ...], channels: int) -> None:
    """Refuse an image ``(H, W)`` or ``(H, W, C)`` of another number of channels."""
    found = shape[2] if len(shape) == 3 else 1
    if len(shape) > 3 or found != channels:
        raise ValueError(f'the image has {found} channels instead of {channels} (shape {shape})')


def to_8bit(pixels: Pixels, channels: int, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring what a file has to 8 bits, and to grey or RGB if that is asked for."""
    values = _scale_bands(pixels.values, value_range, apart=channels not in (1, 3))
    if pixels.inverted:
        values = 255 - values
    if channels not in (1, 3) or (values.shape[2] == channels and pixels.alpha is None):
        return np.ascontiguousarray(values)
    img = Image.fromarray(values[..., 0] if values.shape[2] == 1 else np.ascontiguousarray(values))
    if pixels.alpha is not None:
        most = np.iinfo(pixels.alpha.dtype).max if pixels.alpha.dtype.kind in 'ui' else 1
        img.putalpha(Image.fromarray(_scale(pixels.alpha, (0, most))))
        img = to_rgb(img)
    return to_array(img, channels)


def _scale_bands(bands: np.ndarray, value_range: tuple[float, float] | None, apart: bool) -> np.ndarray:
    """Bring bands ``(H, W, C)`` of any type to 8 bits, each by its own range or all by one."""
    if bands.dtype == np.uint8:
        return bands
    if value_range is None and bands.dtype.kind in 'ui' and (bands.dtype == np.uint16 or not apart):
        if bands.dtype == np.uint16 or (bands.min() >= 0 and bands.max() <= 65535):
            value_range = 0, 65535
    if value_range is not None or not apart:
        return _scale(bands, value_range)
    return np.stack([_scale(band, value_range) for band in np.moveaxis(bands, 2, 0)], axis=2)


def _scale(values: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring values ``(H, ...)`` to 8 bits; without a range from their own minimum and maximum."""
    if value_range is None:
        finite = np.isfinite(values)
        if not finite.any():
            raise ValueError('the image has no finite values')
        value_range = values[finite].min(), values[finite].max()
    low, high = map(float, value_range)
    scaled = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 256):  # of the whole in 64 bits there would be three copies
        rows = np.nan_to_num(values[top : top + 256].astype(np.float64)).clip(low, high)
        scaled[top : top + 256] = np.round((rows - low) * (255 / ((high - low) or 1)))
    return scaled


def to_rgb(img: Image.Image) -> Image.Image:
    """Return an image in colour, what is transparent in it laid on white."""
    if 'transparency' in img.info or img.mode.lower().endswith('a'):
        img = img.convert('RGBA')
        img = Image.alpha_composite(Image.new('RGBA', img.size, 'white'), img)
    return img.convert('RGB')


def to_array(img: Image.Image, channels: int) -> np.ndarray:
    """Return an image as ``(H, W, channels)``, in grey or RGB."""
    return np.array(img.convert('RGB')) if channels == 3 else np.array(img.convert('L'))[..., None]


def turn_upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn ``(H, W, C)`` as an EXIF orientation from 1 to 8 says."""
    if orientation in SIDEWAYS:
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return values[rows, columns]
