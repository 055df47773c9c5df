"""Image files of any kind to 8-bit arrays, RGB or of any number of channels."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError

from ..registry import TRANSFORMS
from ..utils.arguments import require_number, require_whole
from ..utils.reading import open_regular
from ..utils.text import one_line
from .image_headers import FORMATS, check_exif, check_tags
from .pixels import (
    MAX_PIXELS,
    RAISE_LIMIT,
    SIDEWAYS,
    Pixels,
    check_channels,
    check_size,
    to_8bit,
    to_array,
    to_rgb,
    turn_upright,
)
from .tiff import ORIENTATION, CodecError, find_tiff_orientation, is_plain_tiff, is_tiff, open_tiff, read_tiff

ROOM = 2**24  # bytes that a file may have whatever its pixels


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
    - 16-bit values scaled to 8 bits (65535 becomes 255)
    - 32-bit integers, negative values and floats stretched from their own minimum and maximum to 0 and 255
    - black and white turned round in TIFFs in which 0 is white
    - transparent images laid on white
    - grey, palette, CMYK and all else converted to RGB (without colour profiles), or to grey if ``channels`` is 1
    - of several pages or frames the first; three pages of more than 8 bits are red, green and blue

    With any other number of channels nothing is converted, and the file must have as many. It may be RGBA, or a TIFF
    of bands that lie side by side, one after another or on a page each:

    - 8-bit bands as they are; 16-bit ones (unsigned) scaled to 8 bits, 65535 becoming 255
    - all other integers and floats stretched, each band from its own minimum and maximum to 0 and 255

    TIFFs of 8 bits in one channel or three are read by Pillow, all others by ``tifffile``, which needs ``imagecodecs``
    for some compressions (LZW).

    Files of strangers are safe to read. Nothing is decoded before its size is known, and pipes and devices are refused.
    So are formats that are programs, as EPS, or slow to decode.

    Args:
        path: The file. Its content decides the format, not its name.
        data: The content, if it has been read already.
        channels: 1 for grey, 3 for RGB, or what the file has.
        value_range: Values of more than 8 bits that become 0 and 255, in place of the ranges above, for sensors that
            use little of their type: (0, 4095) for 12 bits. Images of 8 bits stay as they are.
        max_pixels: Height times width beyond which an image is refused.

    Returns:
        ``(H, W, channels)``, uint8, three channels being **RGB**.

    Raises:
        UnreadableImageError: If there is no whole image of so many channels in the file.
        ImportError: If it takes ``tifffile``, which is not installed.
    """
    with _opened(path, data, max_pixels) as file:
        return to_8bit(_decode(file, path, channels, max_pixels, value_range is not None), channels, value_range)


def read_values(
    path: str | os.PathLike, data: bytes | None = None, channels: int = 3, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read an image as :func:`.read_image` does, with the values that the file has: ``(H, W, bands)`` of any type.

    The transparency of one or three channels is left out. Grey images have one band, whatever ``channels``.
    """
    with _opened(path, data, max_pixels) as file:
        return _decode(file, path, channels, max_pixels, True).values


def image_size(path: str | os.PathLike, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return height and width of an upright image, without decoding it; raise as :func:`.read_image`."""
    with _opened(path, data, max_pixels) as file:
        if is_tiff(file) and not is_plain_tiff(file):
            with open_tiff(file, path) as tiff:
                page = tiff.pages.first
                size, orientation = (page.imagelength, page.imagewidth), find_tiff_orientation(page)
                check_size(*size, max_pixels)
        else:
            with Image.open(file) as img:
                size, orientation = (img.height, img.width), 1 if img.format == 'TIFF' else find_orientation(img)
        return size[::-1] if orientation in SIDEWAYS else size


def is_deep(path: str | os.PathLike, data: bytes | None = None, max_pixels: int = MAX_PIXELS) -> bool:
    """Say whether an image has more than 8 bits a value, by its header; raise as :func:`.read_image`."""
    with _opened(path, data, max_pixels) as file:
        if is_tiff(file):
            if is_plain_tiff(file):
                return False
            with open_tiff(file, path) as tiff:
                return tiff.pages.first.bitspersample > 8
        if _is_deep_png(file):
            return True
        with Image.open(file) as img:
            return img.mode.startswith(('I', 'F'))


@contextmanager
def _opened(path: str | os.PathLike, data: bytes | None, max_pixels: int) -> Iterator[BinaryIO]:
    """Open an image, within a limit of Pillow's and with errors that name it."""
    with (
        _named_errors(path),
        open_regular(path) if data is None else io.BytesIO(data) as file,
        pillow_limit(max_pixels),
    ):
        check_tags(file)
        yield file


@contextmanager
def _named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an error into one that names the file: decoders fed with garbage raise whatever they stumble over."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = one_line(str(error) or type(error).__name__)
        if isinstance(error, UnidentifiedImageError):  # names the object that the bytes were read from
            reason = 'cannot identify image file'
        name = one_line(path)
        raise UnreadableImageError(reason if name in reason else f'{name}: {reason}') from error


def _decode(file: BinaryIO, path: str | os.PathLike, channels: int, max_pixels: int, keep_depth: bool) -> Pixels:
    """Decode an image; colours of 16 bits lose the lower ones in Pillow, unless ``keep_depth``."""
    if not is_tiff(file) or (channels in (1, 3) and is_plain_tiff(file)):
        return _read_with_pillow(file, channels, max_pixels, keep_depth)
    try:
        return read_tiff(file, path, channels, max_pixels)
    except (ImportError, CodecError):  # some of these Pillow can read as well
        file.seek(0)
        with suppress(Exception):
            pixels = _read_with_pillow(file, channels, max_pixels, keep_depth)
            if not keep_depth or pixels.values.dtype != np.uint8 or is_plain_tiff(file):  # it leaves 8 bits of 16
                return pixels
        raise


def _read_with_pillow(file: BinaryIO, channels: int, max_pixels: int, keep_depth: bool) -> Pixels:
    deep_colour = keep_depth and _is_deep_png(file, channels)
    with Image.open(file) as img:
        check_size(img.height, img.width, max_pixels)
        if img.format not in FORMATS:
            raise ValueError(f'{img.format} is not among the formats that are read: {", ".join(FORMATS)}')
        if deep_colour:
            return _read_deep_png(file, img, channels)
        img.load()  # which turns a TIFF, and leaves nothing to be turned then
        orientation = find_orientation(img)
        if channels not in (1, 3) or img.mode.startswith(('I', 'F')):
            values = np.atleast_3d(np.array(img))
        else:
            values = to_array(to_rgb(img), channels)
        if channels not in (1, 3):
            check_channels(values.shape, channels)
        return Pixels(turn_upright(values, orientation))


def read_bytes(results: dict, channels: int, max_pixels: int) -> bytes:
    """Take the content of an image file out of the results, where :class:`.ImageShards` put it, or read the file.

    Args:
        results: Of a pipeline, with ``img_path`` and perhaps ``img_bytes``, which is removed.
        max_pixels: Height times width that it may have. A file of more bytes than these need is not read.

    Raises:
        UnreadableImageError: If the file cannot be read.
    """
    if 'img_bytes' in results:
        return results.pop('img_bytes')
    with _named_errors(results['img_path']), open_regular(results['img_path']) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_pixels * max(channels, 4) * 8 + ROOM:  # not packed, of the widest type, with profiles
            raise ValueError(f'the file has {size} bytes, more than an image within the limit; {RAISE_LIMIT}')
        return file.read(size)


@contextmanager
def pillow_limit(max_pixels: int) -> Iterator[None]:
    """Apply this limit to Pillow, for frames inside an image too, where its own one warns or raises."""
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


def _is_deep_png(file: BinaryIO, channels: int = 3) -> bool:
    """Say whether a PNG has colours, or grey with transparency, of 16 bits, of which Pillow reads 8."""
    start = file.read(26)
    file.seek(0)
    colours = (2, 4, 6) if channels in (1, 3) else (2, 6)
    return start[:8] == b'\x89PNG\r\n\x1a\n' and len(start) == 26 and start[24] == 16 and start[25] in colours


def _read_deep_png(file: BinaryIO, img: Image.Image, channels: int) -> Pixels:
    import cv2  # on demand: it takes time, and few files need it

    orientation = find_orientation(img)
    file.seek(0)
    data = file.read()
    with Image.open(io.BytesIO(data)) as whole:
        whole.verify()  # OpenCV fills up what is cut off, without a word
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3:
        raise ValueError('its pixels cannot be decoded')
    values = turn_upright(values[..., [2, 1, 0, *range(3, values.shape[2])]], orientation)
    if channels not in (1, 3):
        check_channels(values.shape, channels)
        return Pixels(values)
    return Pixels(values[..., :3], values[..., 3] if values.shape[2] == 4 else None)


def find_orientation(img: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 if it has none."""
    check_exif(img.info.get('exif'))
    try:
        return img.getexif().get(ORIENTATION, 1)
    except Exception:  # of nonsense: the pixels are none the worse for it
        return 1


def fit_image(img: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Scale the largest part of a shape in the middle of an image, ``(H, W, C)`` of uint8 to ``(C, height, width)``."""
    planes = [img] if img.shape[2] == 3 else [img[..., i] for i in range(img.shape[2])]
    fitted = [
        np.atleast_3d(ImageOps.fit(Image.fromarray(plane), (width, height), Image.Resampling.BICUBIC))
        for plane in planes
    ]
    return torch.from_numpy(np.concatenate(fitted, axis=2)).permute(2, 0, 1).contiguous()


def to_picture(img: np.ndarray) -> Image.Image:
    """Return what is shown of an image ``(H, W, C)``: the first three channels, or the first in grey."""
    if img.shape[2] >= 3:
        return Image.fromarray(np.ascontiguousarray(img[..., :3]))
    return Image.fromarray(np.ascontiguousarray(img[..., 0])).convert('RGB')


def read_channels(channels: Any, value_range: Any) -> tuple[int, tuple[float, float] | None]:
    """Check what transforms that load images are told of their values."""
    require_whole(1, channels=channels)
    if value_range is None:
        return channels, None
    require_range('(-inf, inf)', value_range=value_range)
    low, high = value_range
    if low == high:
        raise ValueError(f'value_range must have two different values, got {value_range!r}')
    return channels, (low, high)


def require_range(interval: str, **ranges: Any) -> None:
    """Raise unless each value is a smallest and a largest number of an interval such as ``'(0, 1]'``."""
    for name, value in ranges.items():
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f'{name} must be a smallest and a largest value, got {value!r}')
        require_number(interval, **{f'{name}[{i}]': bound for i, bound in enumerate(value)})
        if value[0] > value[1]:
            raise ValueError(f'{name} must have the smallest value first, got {value!r}')


def turn_bgr(img: np.ndarray, channels: int) -> np.ndarray:
    """Bring BGR or grey of 8 bits to RGB or grey; what else has as many channels as are wanted stays as it is."""
    img = np.atleast_3d(img)
    if channels in (1, 3) and img.shape[2] in (1, 3):
        return to_array(to_picture(img[..., ::-1]), channels)
    check_channels(img.shape, channels)
    return np.ascontiguousarray(img)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image file with :func:`.read_image`, in **RGB** order.

    Unlike mmcv's ``LoadImageFromFile`` it reads 32-bit and float TIFFs and lays transparent images on white. It raises
    :class:`UnreadableImageError`, of which :class:`.ImageFolder` takes care. The data preprocessor needs
    ``to_rgb=False``. With other than three channels it also needs ``mean`` and ``std`` of one value each.

    Required keys: ``img_path``, and ``img_bytes`` with :class:`.ImageShards`, which is removed. Or, in their place,
    ``img`` in BGR order, which is turned: mmpretrain's inferencers load images themselves.

    Added keys: ``img`` (uint8, ``(H, W, channels)``), ``img_shape`` and ``ori_shape`` (height and width).

    Args:
        channels: 3 for RGB, 1 for grey, or as many as the files have, for multi-channel TIFFs: 8 or 16 bits, or
            anything stretched to 8, see :func:`.read_image`.
        value_range: Values that become 0 and 255, see :func:`.read_image`.
        max_pixels: Height times width beyond which an image is refused, unread.
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
        data = results.pop('img_bytes', None)
        if 'img' in results and 'img_path' not in results:
            results['img'] = turn_bgr(results['img'], self.channels)
        else:
            results['img'] = read_image(results['img_path'], data, self.channels, self.value_range, self.max_pixels)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

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
        results['img'] = np.ascontiguousarray(results['img'][..., ::-1])
        return results
