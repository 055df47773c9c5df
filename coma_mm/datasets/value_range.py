"""Black and white of images of more than 8 bits: one range of values for a folder."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..utils.reading import open_regular
from ..utils.text import first_few
from .loading import MAX_PIXELS, UnreadableImageError, is_deep, read_values
from .tiff import is_tiff, open_tiff

SAMPLED = 24  # images of each kind of file
PIXELS = 20_000  # of each of them
FEW_LEVELS = 64  # of 256


@dataclass
class ValueRange:
    """The values that the images of a folder make black and white."""

    low: float  # becomes 0
    high: float  # becomes 255
    source: str  # origin of the range, in words
    levels: dict[int, int]  # of 256 that each channel then uses; channels with no more values in files are left out

    def describe(self) -> str:
        return f'Values {self.low:.6g} to {self.high:.6g} become 0 to 255 ({self.source}).'

    def warn(self) -> str:
        """Return what is wrong with it; nothing if all channels use enough levels."""
        few = [f'channel {channel + 1} uses {count}' for channel, count in self.levels.items() if count < FEW_LEVELS]
        return f'{first_few(few, 5)} of 256 grey levels: set the range with --value-range LOW HIGH' if few else ''


def find_value_range(
    paths: Sequence[str], channels: int = 3, given: Sequence[float] | None = None, max_pixels: int = MAX_PIXELS
) -> ValueRange | None:
    """Find the range of values of images by a sample of them.

    Whole numbers get the smallest number of bits that holds them, if they use a quarter of it. All others get the range
    from the smallest to the largest. The last thousandth at each end is left out where it has over half of that range.

    Args:
        given: The range, if it is known. Other arguments are those of :func:`.read_image`.

    Returns:
        ``None`` if no image has more than 8 bits.
    """
    values = []
    for path in _draw(paths):
        with suppress(UnreadableImageError):  # the data set says so
            if is_deep(path, max_pixels=max_pixels):
                pixels = read_values(path, None, channels, max_pixels)
                if pixels.dtype != np.uint8:
                    values.append(_thin(pixels, _read_nodata(path)))
    values = [sample for sample in values if sample.size]
    if not values:
        return None
    if len({sample.shape[1] for sample in values}) > 1:  # grey ones among those in colour
        values = [sample.reshape(-1, 1) for sample in values]
    sample = np.concatenate(values)
    if given is not None:
        low, high, source = *given, 'as given'
    else:
        low, high, source = *_choose(sample), f'by {len(values)} of the images'
    scaled = np.round((np.clip(sample.astype(np.float64), low, high) - low) * (255 / ((high - low) or 1)))
    used = [(len(np.unique(scaled[:, i])), len(np.unique(sample[:, i]))) for i in range(sample.shape[1])]
    levels = {i: count for i, (count, before) in enumerate(used) if before > count}
    return ValueRange(low, high, source, levels)


def _draw(paths: Sequence[str]) -> list[str]:
    """Return some images of each kind of file, at equal distances."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kinds.setdefault(os.path.splitext(path)[1].lower(), []).append(path)
    return [
        files[i]
        for files in kinds.values()
        for i in np.unique(np.linspace(0, len(files) - 1, min(SAMPLED, len(files))).round().astype(int))
    ]


def _thin(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return some pixels ``(N, C)``, those with the smallest and the largest value among them."""
    flat = pixels.reshape(-1, pixels.shape[2])
    good = np.isfinite(flat).all(1)
    if nodata is not None:
        good &= (flat != nodata).all(1)
    flat = flat if good.all() else flat[good]
    if len(flat) <= PIXELS:
        return flat
    ends = [flat[[flat[:, i].argmin(), flat[:, i].argmax()]] for i in range(flat.shape[1])]
    return np.concatenate([*ends, flat[:: len(flat) // PIXELS]])


def _choose(sample: np.ndarray) -> tuple[float, float]:
    low, high = sample.min().item(), sample.max().item()
    inner_low, inner_high = np.percentile(sample.astype(np.float64), [0.1, 99.9]).tolist()
    if inner_high - inner_low < (high - low) / 2:  # a few pixels are far from all others
        low, high = inner_low, inner_high
    if sample.dtype.kind in 'uib':
        low, high = int(np.floor(low)), int(np.ceil(high))
        most = 2 ** max(8, high.bit_length()) - 1
        if low >= 0 and 4 * (inner_high - inner_low) >= most:
            low, high = 0, most
    elif low >= 0 and 0.5 <= high <= 1:
        low, high = 0.0, 1.0
    return low, high if high > low else low + 1


def _read_nodata(path: str) -> float | None:
    """Return the value for nothing that GDAL has written into a TIFF."""
    with suppress(Exception), open_regular(path) as file:  # its pixels have just been read: most have no such tag
        if is_tiff(file):
            with open_tiff(file, path) as tiff:
                return float(str(tiff.pages.first.tags[42113].value).strip('\0 '))
    return None
