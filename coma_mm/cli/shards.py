"""Pack a folder of images into tar files, which disks and networks read faster than a million small files.

The result is in WebDataset's format and read by coma_mm.ImageShards. Images are in a random order and stored as they
are, byte for byte. With --short-side larger ones are made smaller, which saves most of the time that decoding takes;
random crops of them are then enlarged more often.
"""

import os
import random
import re
import shutil
import sys
import tarfile
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader

from ..datasets import UnreadableImageError, read_image
from ..datasets.folder import find_images
from ..datasets.loading import MAX_PIXELS, pillow_limit, read_bytes
from ..datasets.shards import index_shard
from ..files import naming
from . import types
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
        help=f'scale images with a larger short side down to this (bicubic, JPEG of quality {QUALITY})',
    )
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
    """

    def __init__(self, folder: Path, paths: list[str], short_side: int | None):
        self.folder = folder
        self.paths = paths
        self.short_side = short_side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, idx: int) -> tuple[str, bytes | Exception]:
        path = Path(self.paths[idx])
        # The number makes it unique; WebDataset ends keys at the first dot.
        key = f'{idx:08d}_' + re.sub(r'[^\w-]+', '_', str(path.relative_to(self.folder).with_suffix('')))
        try:
            data = read_bytes(dict(img_path=path), MAX_PIXELS * 4 * 8)
            if self.short_side is not None and _short_side(path, data) > self.short_side:
                return f'{key}.jpg', _shrink(path, data, self.short_side)
            return f'{key}{path.suffix.lower()}', data
        except (OSError, UnreadableImageError) as error:
            return str(path), error


def _short_side(path: Path, data: bytes) -> int:
    try:
        with pillow_limit(MAX_PIXELS), Image.open(BytesIO(data)) as img:
            return min(img.size)
    except Exception as error:  # decoders fed with garbage raise whatever they stumble over
        raise UnreadableImageError(f'{path}: {error}') from error


def _shrink(path: Path, data: bytes, short_side: int) -> bytes:
    img = Image.fromarray(read_image(path, data))
    size = (round(side * short_side / min(img.size)) for side in img.size)
    buffer = BytesIO()
    img.resize(tuple(size), Image.Resampling.BICUBIC).save(buffer, 'JPEG', quality=QUALITY)
    return buffer.getvalue()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Lend a name beside ``path`` to fill; what lies there becomes ``path`` at the end, after an error nothing does."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    unfinished.mkdir(parents=True)
    try:
        with naming(path):
            yield unfinished
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def main() -> None:
    """Write the shards."""
    args = parse_args()
    paths = find_images(str(args.folder))
    if not paths:
        sys.exit(f'error: no images in {args.folder} and its sub-folders')
    random.Random(args.seed).shuffle(paths)
    members = Members(args.folder, paths, args.short_side)
    loader = DataLoader(members, batch_size=None, num_workers=args.num_workers)
    limit, left_out, tar = args.shard_size * 2**20, 0, None
    shards: list[Path] = []
    with whole_folder(args.out.absolute()) as folder:
        for name, content in track(loader, 'packing', total=len(paths)):
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
    print(f'{len(paths) - left_out} images in {len(shards)} shards, {size / 2**20:.0f} MiB, in {args.out}')
