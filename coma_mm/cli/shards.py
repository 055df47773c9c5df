"""Pack a folder of images into tar files, which disks and networks read faster than a million small files.

The result is in WebDataset's format and read by coma_mm.ImageShards. Images are in a random order and stored as they
are, byte for byte. With --short-side larger ones are made smaller, which saves most of the time that decoding takes;
random crops of them are then enlarged more often.
"""

import os
import random
import re
import sys
import tarfile
from argparse import Namespace, RawDescriptionHelpFormatter
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader

from ..datasets import UnreadableImageError, read_image
from ..datasets.finding import find_images, name_endings
from ..datasets.loading import MAX_PIXELS, image_size, is_deep, read_bytes, read_values
from ..datasets.shards import index_shard
from ..utils.files import naming, whole_folder
from ..utils.text import printable
from ..utils.workers import end_with_unsent
from . import types
from .images import add_max_pixels
from .parser import ArgumentParser

QUALITY = 92  # of JPEGs that are written anew


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=types.folder, help='images, in sub-folders or not')
    parser.add_argument('out', type=types.output_folder, help='folder to make, for train-000000.tar and so on')
    parser.add_argument(
        '--shard-size',
        type=types.number(0, 10**6, above=True),
        default=1000,
        metavar='MIB',
        help='largest size (%(default)s)',
    )
    parser.add_argument(
        '--short-side',
        type=types.image_size,
        metavar='PX',
        help=f'scale images with a larger short side down to this (bicubic, JPEG of quality {QUALITY}; those of other '
        'than 8 bits in one channel or three as TIFFs, with their values)',
    )
    parser.add_argument(
        '--channels', type=types.channels, default=3, help='of the images, for --short-side (%(default)s)'
    )
    add_max_pixels(parser)
    parser.add_argument('--seed', type=types.seed, default=0, help='of the order (%(default)s)')
    parser.add_argument(
        '--num-workers', type=types.workers, default=os.cpu_count(), help='processes that read and scale (%(default)s)'
    )
    args = parser.parse_args()
    args.out = Path(args.out)
    if os.path.lexists(args.out):
        parser.error(f'{args.out} exists already: remove it or give another name')
    return args


class Members:
    """The name and content of each image's member; for an image that cannot be read its path and the reason.

    Args:
        folder: Where the images are.
        paths: The images, in order.
        short_side: Scale larger ones down to this, in pixels.
        channels: Of the images.
        max_pixels: Height times width beyond which an image is refused.
    """

    def __init__(self, folder: Path, paths: list[str], short_side: int | None, channels: int, max_pixels: int):
        self.folder = folder
        self.paths = paths
        self.short_side = short_side
        self.channels = channels
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, idx: int) -> tuple[str, bytes | Exception]:
        path = Path(self.paths[idx])
        # The number makes it unique; WebDataset ends keys at the first dot.
        key = f'{idx:08d}_' + re.sub(r'[^\w-]+', '_', str(path.relative_to(self.folder).with_suffix('')))
        try:
            data = read_bytes(dict(img_path=path), self.max_pixels * max(self.channels, 4) * 8 + 2**24)
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
            img.resize(self._size(values), Image.Resampling.BICUBIC).save(buffer, 'JPEG', quality=QUALITY)
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


def main() -> None:
    """Write the shards."""
    args = parse_args()
    left: Counter[str] = Counter()  # files that are no images
    paths = find_images(str(args.folder), None, left)
    if not paths:
        sys.exit(f'error: no images in {args.folder} and its sub-folders')
    random.Random(args.seed).shuffle(paths)
    members = Members(args.folder, paths, args.short_side, args.channels, args.max_pixels or MAX_PIXELS)
    loader = DataLoader(members, batch_size=None, num_workers=args.num_workers, worker_init_fn=end_with_unsent)
    limit, left_out, tar = args.shard_size * 2**20, 0, None
    shards: list[Path] = []
    loading = iter(loader)  # starts the workers
    with naming(args.out), whole_folder(args.out) as folder:
        for name, content in track(loading, 'packing', total=len(paths)):
            if isinstance(content, Exception):
                left_out += 1
                print(f'left out an unreadable image: {content}', file=sys.stderr)
                continue
            if tar is None or tar.offset + len(content) > limit:
                if tar is not None:
                    tar.close()
                shards.append(folder / f'train-{len(shards):06d}.tar')
                tar = tarfile.open(shards[-1], 'w')
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, BytesIO(content))
        if tar is None:
            sys.exit(f'error: none of the {left_out} images in {args.folder} can be read')
        tar.close()
        size = sum(shard.stat().st_size for shard in shards)
        for shard in shards:
            index_shard(shard)  # writes the index that training would have to
    print(f'{len(paths) - left_out} images in {len(shards)} shards, {size / 2**20:.0f} MiB, in {printable(args.out)}')
    if left:
        print(name_endings(left))
