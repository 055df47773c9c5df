"""Image files of any kind to 8-bit RGB arrays."""

import io
import os

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps

from ..registry import TRANSFORMS


class UnreadableImageError(RuntimeError):
    """A file is missing, truncated or not an image; the message names it and the reason."""


def read_image(path: str | os.PathLike, data: bytes | None = None) -> np.ndarray:
    """Read an image file as it is meant to be seen.

    - turned upright by its EXIF orientation
    - 16-bit grey scaled to 8 bits (65535 becomes 255); 32-bit integers and floats, which have no agreed range,
      stretched from their own minimum and maximum to 0 and 255
    - transparent images laid on white
    - grey, palette, CMYK and all else converted to RGB (without colour profiles)
    - of several pages or frames the first

    Args:
        path (str | PathLike): The file. Its content decides the format, not its name.
        data (bytes | None): The content, if it has been read already. Defaults to None.
        data (bytes | None): The content, if it has been read already. Defaults to None.

    Returns:
        np.ndarray: ``(H, W, 3)``, uint8, **RGB**.

    Raises:
        UnreadableImageError: If there is no whole image in the file.
    """
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as img:
            return np.array(_to_rgb(ImageOps.exif_transpose(img)))
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


def _to_rgb(img: Image.Image) -> Image.Image:
    if img.mode.startswith(('I', 'F')):
        img = _to_8bit(img)
    if 'transparency' in img.info or img.mode.lower().endswith('a'):
        img = img.convert('RGBA')
        img = Image.alpha_composite(Image.new('RGBA', img.size, 'white'), img)
    return img.convert('RGB')


def _to_8bit(img: Image.Image) -> Image.Image:
    """Bring grey pixels of 16 or 32 bits, which PIL's own conversion would clip at 255, to 8 bits."""
    values = np.array(img).astype(np.float64)
    low, high = 0, 65535
    if img.mode == 'F' or values.min() < low or values.max() > high:
        finite = values[np.isfinite(values)]
        low, high = finite.min(), finite.max()
        values = np.nan_to_num(values).clip(low, high)
    return Image.fromarray(np.round((values - low) * (255 / ((high - low) or 1))).astype(np.uint8))


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image file with :func:`read_image`, in **RGB** order.

    Unlike mmcv's ``LoadImageFromFile`` it reads 32-bit and float TIFFs, does not bare what lies under transparency, and
    raises :class:`UnreadableImageError`, which :class:`ImageFolder` knows what to do about. And the channels are in RGB
    order, so the data preprocessor needs ``to_rgb=False`` (and its mean and std in RGB order).

    Required keys: ``img_path``, and ``img_bytes`` with :class:`ImageShards`, which is removed.

    Added keys: ``img`` (uint8, ``(H, W, 3)``), ``img_shape`` and ``ori_shape`` (height and width).
    """

    def transform(self, results: dict) -> dict:
        """Add the image to the results."""
        results['img'] = read_image(results['img_path'], results.pop('img_bytes', None))
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
