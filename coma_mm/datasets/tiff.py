"""TIFFs of any depth and number of bands, by ``tifffile``; Pillow reads those of 8 bits."""

import os
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ..utils.text import one_line
from .image_headers import TIFF_STARTS, check_pages, check_segments
from .pixels import Pixels, check_channels, check_size, turn_upright

ORIENTATION = 0x0112  # a tag of EXIF and TIFF
BITS_PER_SAMPLE = 258  # a tag of TIFF


class CodecError(ValueError):
    """A compression that takes a package which is not installed."""


def is_tiff(file: BinaryIO) -> bool:
    """Say whether a file starts as a TIFF does; leave it at its start."""
    start = file.read(4)
    file.seek(0)
    return start in TIFF_STARTS


def is_plain_tiff(file: BinaryIO) -> bool:
    """Say whether Pillow loses nothing of a TIFF's first page: 8 bits or fewer, or inks, or a palette."""
    try:
        file.seek(0)
        with Image.open(file) as img:
            return max(img.tag_v2.get(BITS_PER_SAMPLE, (1,))) <= 8 or img.mode in ('CMYK', 'P')
    except Exception:  # of what it does not know; tifffile says what is wrong if it is more than that
        return False
    finally:
        file.seek(0)


def open_tiff(file: BinaryIO, path: str | os.PathLike) -> Any:
    """Return a ``TiffFile``, by which no other file is opened.

    Raises:
        ImportError: If ``tifffile`` is not installed.
    """
    try:
        from tifffile import TiffFile
    except ImportError:
        raise ImportError(f'reading {one_line(path)} takes tifffile: pip install tifffile') from None
    check_pages(file)
    return TiffFile(file, _multifile=False, is_ndtiff=False, is_mmstack=False)


def read_tiff(file: BinaryIO, path: str | os.PathLike, channels: int, max_pixels: int) -> Pixels:
    """Return the bands of a TIFF, of one or three channels without its transparency."""
    with open_tiff(file, path) as tiff:
        page = tiff.pages.first
        check_size(page.imagelength, page.imagewidth, max_pixels)
        source = _find_bands(tiff, channels)
        y, x = source.axes.index('Y'), source.axes.index('X')
        height, width = source.shape[y], source.shape[x]
        check_size(height, width, max_pixels)
        bands = tuple(side for i, side in enumerate(source.shape) if i not in (y, x))
        count = bands[0] if bands else 1
        has_alpha = count in (2, 4) and bool({1, 2} & set(page.extrasamples))
        is_colour = int(page.photometric) == 2  # what is beside red, green, blue is left out
        is_picture = len(bands) <= 1 and (count in (1, 3) or has_alpha or (is_colour and count == 4))
        if channels not in (1, 3) or not is_picture:
            check_channels((height, width, *bands), channels)
        if source.dtype is None or source.dtype.kind not in 'buif':
            raise ValueError(f'its values are of type {source.dtype}, which is neither whole numbers nor floats')
        values = np.atleast_3d(np.moveaxis(_decompress(source, page, max_pixels), [y, x], [0, 1]))
        values = turn_upright(values, find_tiff_orientation(page))
        if channels not in (1, 3):
            return Pixels(values)
        colours = 1 if count < 3 else 3
        return Pixels(values[..., :colours], values[..., -1] if has_alpha else None, int(page.photometric) == 0)


def find_tiff_orientation(page: Any) -> int:
    """Return the orientation of a page, 1 if it has none."""
    orientation = page.tags.get(ORIENTATION)
    return orientation.value if orientation else 1


def _find_bands(tiff: Any, channels: int) -> Any:
    """Return the series of pages that has so many bands, or of one channel or three rather the first page."""
    page = tiff.pages.first
    if channels == 1 or (channels == 3 and page.samplesperpixel > 1):
        return page
    series = tiff.series[0]
    is_colour = [side for axis, side in zip(series.axes, series.shape) if axis not in 'YX'] == [3]
    return series if channels != 3 or is_colour else page


def _decompress(source: Any, page: Any, max_pixels: int) -> np.ndarray:
    for part in getattr(source, 'pages', None) or [source]:
        if part is not None:
            check_segments(part, max_pixels)
    try:
        return source.asarray(maxworkers=1)
    except Exception as error:
        if not isinstance(error, ImportError) and 'imagecodecs' not in str(error):
            raise
        name = getattr(page.compression, 'name', page.compression)
        raise CodecError(f'a TIFF packed in this way ({name}) takes imagecodecs: pip install imagecodecs') from None
