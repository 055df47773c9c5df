"""Image files of any kind to 8-bit arrays, RGB or of any number of channels."""

import io
import os

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps

from ..arguments import require_number, require_whole
from ..registry import TRANSFORMS


class UnreadableImageError(ValueError):
    """A file is missing, truncated or not an image; the message names it and the reason."""


def read_image(
    path: str | os.PathLike,
    data: bytes | None = None,
    channels: int = 3,
    value_range: tuple[float, float] | None = None,
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

    Args:
        path (str | PathLike): The file. Its content decides the format, not its name.
        data (bytes | None): The content, if it has been read already. Defaults to None.
        channels (int): 1 for grey, 3 for RGB, or what the file has. Defaults to 3.
        value_range (tuple[float, float] | None): Values of grey or of bands that become 0 and 255, in place of the
            ranges above, for sensors that use little of their type: (0, 4095) for 12 bits. Defaults to None.

    Returns:
        np.ndarray: ``(H, W, channels)``, uint8, three channels being **RGB**.

    Raises:
        UnreadableImageError: If there is no whole image of so many channels in the file.
        ImportError: If it takes ``tifffile``, which is not installed.
    """
    try:
        if channels not in (1, 3) and _is_tiff(path, data):
            return _scale_bands(_read_tiff(path, data, channels), value_range)
        with Image.open(path if data is None else io.BytesIO(data)) as img:
            img = ImageOps.exif_transpose(img)
            if channels not in (1, 3):
                return _scale_bands(_check_channels(np.array(img), channels), value_range)
            if img.mode.startswith(('I', 'F')):
                img = _to_8bit(img, value_range)
            return np.array(_to_rgb(img)) if channels == 3 else np.array(_to_rgb(img).convert('L'))[..., None]
    except ImportError:
        raise
    except Exception as error:  # decoders fed with garbage raise whatever they stumble over
        raise _unreadable(path, error) from error


def read_bytes(results: dict) -> bytes:
    """Take the content of an image file out of the results, where :class:`ImageShards` put it, or read the file.

    Args:
        results (dict): Of a pipeline, with ``img_path`` and perhaps ``img_bytes``, which is removed.

    Raises:
        UnreadableImageError: If the file cannot be read.
    """
    if 'img_bytes' in results:
        return results.pop('img_bytes')
    try:
        with open(results['img_path'], 'rb') as file:
            return file.read()
    except OSError as error:
        raise _unreadable(results['img_path'], error) from error


def _unreadable(path: str | os.PathLike, error: Exception) -> UnreadableImageError:
    reason = str(error) or type(error).__name__
    return UnreadableImageError(reason if str(path) in reason else f'{path}: {reason}')


def _is_tiff(path: str | os.PathLike, data: bytes | None) -> bool:
    if data is None:
        with open(path, 'rb') as file:
            data = file.read(4)
    return data[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two are those of files beyond 4 GB


def _read_tiff(path: str | os.PathLike, data: bytes | None, channels: int) -> np.ndarray:
    """Return the bands of a TIFF, ``(H, W, channels)``."""
    try:
        from tifffile import TiffFile
    except ImportError:
        raise ImportError(f'reading {channels} channels of {path} takes tifffile: pip install tifffile') from None
    with TiffFile(path if data is None else io.BytesIO(data)) as tiff:
        series = tiff.series[0]
        bands = np.moveaxis(series.asarray(), [series.axes.index('Y'), series.axes.index('X')], [0, 1])
    return _check_channels(bands, channels)


def _check_channels(img: np.ndarray, channels: int) -> np.ndarray:
    found = img.shape[2] if img.ndim == 3 else 1
    if img.ndim > 3 or found != channels:
        raise ValueError(f'the image has {found} channels instead of {channels} (shape {img.shape})')
    return img


def _scale_bands(bands: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring bands ``(H, W, C)`` of any type to 8 bits."""
    if bands.dtype == np.uint8 and value_range is None:
        return np.ascontiguousarray(bands)
    if value_range is None and bands.dtype == np.uint16:
        value_range = 0, 65535
    return np.stack([_scale(band, value_range) for band in np.moveaxis(bands, 2, 0)], axis=2)


def _scale(values: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring values to 8 bits; without a range from their own minimum and maximum."""
    values = values.astype(np.float64)
    if value_range is None:
        finite = values[np.isfinite(values)]
        value_range = finite.min(), finite.max()
    low, high = value_range
    values = np.nan_to_num(values).clip(low, high)
    return np.round((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)


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

    Required keys: ``img_path``, and ``img_bytes`` with :class:`ImageShards`, which is removed.

    Added keys: ``img`` (uint8, ``(H, W, channels)``), ``img_shape`` and ``ori_shape`` (height and width).

    Args:
        channels (int): 3 for RGB, 1 for grey, or as many as the files have, for multi-channel TIFFs: 8 or 16 bits, or
            anything stretched to 8, see :func:`read_image`. Defaults to 3.
        value_range (tuple[float, float] | None): Values that become 0 and 255, see :func:`read_image`. Defaults to
            None.
    """

    def __init__(self, channels: int = 3, value_range: tuple[float, float] | None = None) -> None:
        self.channels, self.value_range = read_channels(channels, value_range)

    def transform(self, results: dict) -> dict:
        """Add the image to the results."""
        data = results.pop('img_bytes', None)
        results['img'] = read_image(results['img_path'], data, self.channels, self.value_range)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(channels={self.channels}, value_range={self.value_range})'


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
