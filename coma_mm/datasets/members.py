"""Images as members of tar files: as they are, or scaled down."""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from .loading import UnreadableImageError, image_size, is_deep, read_bytes, read_image, read_values


@dataclass
class Members:
    """The name and content of each image's member; for an image that cannot be read its path and the reason.

    Args:
        folder: Where the images are.
        paths: The images, in order.
        short_side: Scale larger ones down to this, in pixels.
        channels: Of the images.
        max_pixels: Height times width beyond which an image is refused.
        quality: Of JPEGs that are written anew.
    """

    folder: Path
    paths: list[str]
    short_side: int | None
    channels: int
    max_pixels: int
    quality: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, idx: int) -> tuple[str, bytes | Exception]:
        path = Path(self.paths[idx])
        # The number makes it unique; WebDataset ends keys at the first dot.
        key = f'{idx:08d}_' + re.sub(r'[^\w-]+', '_', str(path.relative_to(self.folder).with_suffix('')))
        try:
            data = read_bytes(dict(img_path=path), self.channels, self.max_pixels)
            if self.short_side is not None and min(image_size(path, data, self.max_pixels)) > self.short_side:
                ending, data = self._shrink(path, data)
                return key + ending, data
            return f'{key}{path.suffix.lower()}', data
        except (OSError, UnreadableImageError) as error:
            return str(path), error

    def _shrink(self, path: Path, data: bytes) -> tuple[str, bytes]:
        """Return the ending and the content of a smaller image, whose values are those that it has."""
        if self.channels in (1, 3) and not is_deep(path, data, self.max_pixels):
            values = read_image(path, data, self.channels, None, self.max_pixels)
            img = Image.fromarray(values[..., 0] if self.channels == 1 else values)
            buffer = BytesIO()
            img.resize(self._size(values), Image.Resampling.BICUBIC).save(buffer, 'JPEG', quality=self.quality)
            return '.jpg', buffer.getvalue()
        values = read_values(path, data, self.channels, self.max_pixels)
        bands = [Image.fromarray(band.astype(np.float32)) for band in np.moveaxis(values, 2, 0)]
        scaled = np.stack([band.resize(self._size(values), Image.Resampling.BICUBIC) for band in bands], axis=2)
        if values.dtype.kind in 'ui':
            scaled = scaled.round().clip(values.min(), values.max())
        return '.tif', _write_tiff(scaled.astype(values.dtype.newbyteorder('=')))

    def _size(self, values: np.ndarray) -> tuple[int, int]:
        height, width = (round(side * self.short_side / min(values.shape[:2])) for side in values.shape[:2])
        return width, height


def _write_tiff(values: np.ndarray) -> bytes:
    """Return a TIFF of bands ``(H, W, C)`` side by side."""
    from tifffile import imwrite

    buffer = BytesIO()
    values, layout = (values[..., 0], None) if values.shape[2] == 1 else (values, 'contig')
    kind = 'rgb' if values.ndim == 3 and values.shape[2] == 3 else 'minisblack'
    imwrite(buffer, values, photometric=kind, planarconfig=layout, compression='zlib', metadata=None)
    return buffer.getvalue()
