"""Image files of any kind to 8-bit arrays, RGB or of any number of channels."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError

from ..arguments import require_number, require_whole
from ..registry import TRANSFORMS
from ..utils.reading import open_regular

# Height times width above which an image is refused before it is decoded: 420 kB of PNG can be 144 million pixels, and
# each takes up to 20 bytes for a moment.
MAX_PIXELS = 100_000_000
RAISE_LIMIT = 'if you trust it, raise max_pixels, of read_image or of the pipeline step that loads it'


class UnreadableImageError(ValueError):
    """A file is missing, truncated or not an image; the message names it and the reason."""


def read_image(
    path: str | os.PathLike,
    data: bytes | None = None,
    channels: int = 3,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Read an image file as it is meant to be seen, or all channels of one that is not.

    With one channel or three:

    - turned upright by its EXIF orientation
    - 16-bit grey scaled to 8 bits (65535 becomes 255); 32-bit integers and floats, which have no agreed range,
      stretched from their own minimum and maximum to 0 and 255
    - transparent images laid on white
    - grey, palette, CMYK and all else converted to RGB (without colour profiles), or to grey if ``channels`` is 1
    - of several pages or frames the first

    With any other number of channels nothing is converted. The file must have as many, such as RGBA, or a TIFF (read by
    ``tifffile``) of bands that lie side by side, one after another or on a page each:

    - 8-bit bands as they are; 16-bit ones (unsigned) scaled to 8 bits, 65535 becoming 255
    - all other integers and floats stretched, each band from its own minimum and maximum to 0 and 255

    Files of strangers are safe to read: nothing is decoded before its size is known, nothing is read of what is no
    file (a pipe would be waited for), and EPS, a program for Ghostscript, is refused.

    Args:
        path (str | PathLike): The file. Its content decides the format, not its name.
        data (bytes | None): The content, if it has been read already. Defaults to None.
        channels (int): 1 for grey, 3 for RGB, or what the file has. Defaults to 3.
        value_range (tuple[float, float] | None): Values of grey or of bands that become 0 and 255, in place of the
            ranges above, for sensors that use little of their type: (0, 4095) for 12 bits. Defaults to None.
        max_pixels (int): Height times width beyond which an image is refused. Defaults to 100 million.

    Returns:
        np.ndarray: ``(H, W, channels)``, uint8, three channels being **RGB**.

    Raises:
        UnreadableImageError: If there is no whole image of so many channels in the file.
        ImportError: If it takes ``tifffile``, which is not installed.
    """
    try:
        with open_regular(path) if data is None else io.BytesIO(data) as file, pillow_limit(max_pixels):
            if channels not in (1, 3) and _is_tiff(file):
                return _scale_bands(_read_tiff(file, path, channels, max_pixels), value_range)
            with Image.open(file) as img:
                check_size(img.height, img.width, max_pixels)
                if img.format == 'EPS':
                    raise ValueError('EPS is a program, which is not run to see its picture')
                img = _upright(img)
                if channels not in (1, 3):
                    return _scale_bands(_check_channels(np.array(img), channels), value_range)
                if img.mode.startswith(('I', 'F')):
                    img = _to_8bit(img, value_range)
                return np.array(_to_rgb(img)) if channels == 3 else np.array(_to_rgb(img).convert('L'))[..., None]
    except ImportError:
        raise
    except Exception as error:  # decoders fed with garbage raise whatever they stumble over
        raise _unreadable(path, error) from error


def read_bytes(results: dict, max_bytes: int) -> bytes:
    """Take the content of an image file out of the results, where :class:`ImageShards` put it, or read the file.

    Args:
        results (dict): Of a pipeline, with ``img_path`` and perhaps ``img_bytes``, which is removed.
        max_bytes (int): Size beyond which a file is not read.

    Raises:
        UnreadableImageError: If the file cannot be read.
    """
    if 'img_bytes' in results:
        return results.pop('img_bytes')
    try:
        with open_regular(results['img_path']) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise ValueError(f'the file has {size} bytes, more than an image within the limit; {RAISE_LIMIT}')
            return file.read()
    except (OSError, ValueError) as error:
        raise _unreadable(results['img_path'], error) from error


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels.

    Raises:
        ValueError: With the limit, and how to raise it.
    """
    if height * width > max_pixels:
        raise ValueError(f'{height * width} pixels are more than the limit of {max_pixels}; {RAISE_LIMIT}')


@contextmanager
def pillow_limit(max_pixels: int) -> Iterator[None]:
    """Have Pillow go by this limit, for frames inside an image too, where its own one warns or raises."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        count, *_ = re.findall(r'\d+', str(error))
        raise ValueError(f'{count} pixels are more than the limit of {max_pixels}; {RAISE_LIMIT}') from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _unreadable(path: str | os.PathLike, error: Exception) -> UnreadableImageError:
    reason = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # names the object that the bytes were read from
        reason = 'cannot identify image file'
    return UnreadableImageError(reason if str(path) in reason else f'{path}: {reason}')


def _is_tiff(file: BinaryIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two are those of files beyond 4 GB


def _read_tiff(file: BinaryIO, path: str | os.PathLike, channels: int, max_pixels: int) -> np.ndarray:
    """Return the bands of a TIFF, ``(H, W, channels)``."""
    try:
        from tifffile import TiffFile
    except ImportError:
        raise ImportError(f'reading {channels} channels of {path} takes tifffile: pip install tifffile') from None
    with TiffFile(file) as tiff:
        series = tiff.series[0]
        y, x = series.axes.index('Y'), series.axes.index('X')
        height, width = series.shape[y], series.shape[x]
        check_size(height, width, max_pixels)
        bands = [side for i, side in enumerate(series.shape) if i not in (y, x)]
        _check_shape((height, width, *bands), channels)
        return np.moveaxis(series.asarray(), [y, x], [0, 1])


def _check_channels(img: np.ndarray, channels: int) -> np.ndarray:
    _check_shape(img.shape, channels)
    return img


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
    found = shape[2] if len(shape) == 3 else 1
    if len(shape) > 3 or found != channels:
        raise ValueError(f'the image has {found} channels instead of {channels} (shape {shape})')


def _scale_bands(bands: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring bands ``(H, W, C)`` of any type to 8 bits."""
    if bands.dtype == np.uint8 and value_range is None:
        return np.ascontiguousarray(bands)
    if value_range is None and bands.dtype == np.uint16:
        value_range = 0, 65535
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


def _upright(img: Image.Image) -> Image.Image:
    try:
        img.getexif()
    except Exception:  # of nonsense: the pixels are none the worse for it
        return img
    return ImageOps.exif_transpose(img)


def _to_rgb(img: Image.Image) -> Image.Image:
    if 'transparency' in img.info or img.mode.lower().endswith('a'):
        img = img.convert('RGBA')
        img = Image.alpha_composite(Image.new('RGBA', img.size, 'white'), img)
    return img.convert('RGB')


def _to_8bit(img: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    """Bring grey pixels of 16 or 32 bits, which PIL's own conversion would clip at 255, to 8 bits."""
    values = np.array(img)
    if value_range is None and img.mode != 'F' and values.min() >= 0 and values.max() <= 65535:
        value_range = 0, 65535
    return Image.fromarray(_scale(values, value_range))


def read_channels(channels: int, value_range: tuple[float, float] | None) -> tuple[int, tuple[float, float] | None]:
    """Check what transforms that load images are told of their values.

    Raises:
        ValueError: If there are no channels, or the range has no length.
    """
    require_whole(1, channels=channels)
    if value_range is None:
        return channels, None
    if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
        raise ValueError(f'value_range must be a lowest and a highest value, got {value_range!r}')
    low, high = value_range
    require_number('(-inf, inf)', **{'value_range[0]': low, 'value_range[1]': high})
    if low >= high:
        raise ValueError(f'value_range must be a lowest and a highest value, got {value_range!r}')
    return channels, (low, high)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image file with :func:`read_image`, in **RGB** order.

    Unlike mmcv's ``LoadImageFromFile`` it reads 32-bit and float TIFFs, does not bare what lies under transparency, and
    raises :class:`UnreadableImageError`, which :class:`ImageFolder` knows what to do about. And the channels are in RGB
    order, so the data preprocessor needs ``to_rgb=False`` (and its mean and std in RGB order). For other numbers of
    channels than three give it a ``mean`` and ``std`` of one value each, as mmengine's takes one or three.

    Required keys: ``img_path``, and ``img_bytes`` with :class:`ImageShards`, which is removed. Or, in their place,
    ``img`` as mmpretrain's inferencers hand it over, who load images themselves: in BGR order, which is turned.

    Added keys: ``img`` (uint8, ``(H, W, channels)``), ``img_shape`` and ``ori_shape`` (height and width).

    Args:
        channels (int): 3 for RGB, 1 for grey, or as many as the files have, for multi-channel TIFFs: 8 or 16 bits, or
            anything stretched to 8, see :func:`read_image`. Defaults to 3.
        value_range (tuple[float, float] | None): Values that become 0 and 255, see :func:`read_image`. Defaults to
            None.
        max_pixels (int): Height times width beyond which an image is refused, unread. Defaults to 100 million.
    """

    def __init__(
        self,
        channels: int = 3,
        value_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.channels, self.value_range = read_channels(channels, value_range)
        require_whole(1, max_pixels=max_pixels)
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        """Add the image to the results."""
        data = results.pop('img_bytes', None)
        if 'img' in results and 'img_path' not in results:
            results['img'] = self._turn(results['img'])
        else:
            results['img'] = read_image(results['img_path'], data, self.channels, self.value_range, self.max_pixels)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def _turn(self, img: np.ndarray) -> np.ndarray:
        """Bring BGR or grey of 8 bits to RGB or grey; what else has as many channels as are wanted stays as it is."""
        img = np.atleast_3d(img)
        if self.channels in (1, 3) and img.shape[2] in (1, 3):
            img = Image.fromarray(img[..., 0] if img.shape[2] == 1 else np.ascontiguousarray(img[..., ::-1]))
            return np.array(img.convert('RGB')) if self.channels == 3 else np.array(img.convert('L'))[..., None]
        return np.ascontiguousarray(_check_channels(img, self.channels))

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(channels={self.channels}, value_range={self.value_range}, '
            f'max_pixels={self.max_pixels})'
        )


@TRANSFORMS.register_module()
class ReverseChannels(BaseTransform):
    """Turn RGB into BGR, or back: around transforms that are written for the other order.

    OpenMMLab's colour transforms expect the BGR of OpenCV. Of ``RandAugment``'s, ``ColorTransform`` and ``Contrast``
    (and ``pad_val``, which is a colour) depend on it: they weigh the channels to find the brightness of a pixel.

    Required and modified key: ``img``.
    """

    def transform(self, results: dict) -> dict:
        """Reverse."""
        results['img'] = np.ascontiguousarray(results['img'][..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
