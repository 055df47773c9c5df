"""Pack a folder of images into tar files, which disks and networks read faster than a million small files.

The files have WebDataset's format; coma_mm.ImageShards reads them. Images are in random order and unchanged, byte for
byte. --short-side scales larger images down, which saves most of the decoding. Random crops of them are then enlarged
more often.
"""

import os
import random
import sys
import tarfile
from argparse import Namespace, RawDescriptionHelpFormatter
from collections import Counter
from io import BytesIO
from pathlib import Path

from ..utils.files import naming, whole_folder
from ..utils.text import counted, printable
from . import types
from .parser import ArgumentParser, add_max_pixels

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
        help='largest size of a file in MiB (default: %(default)s)',
    )
    parser.add_argument(
        '--short-side',
        type=types.image_size,
        metavar='PX',
        help=f'scale images with a larger short side down to this (bicubic). They become JPEGs of quality {QUALITY}. '
        'Images of more than 8 bits, or of other than 1 or 3 channels, become TIFFs and keep their values',
    )
    parser.add_argument(
        '--channels', type=types.channels, default=3, help='channels of the images, for --short-side (default: 3)'
    )
    add_max_pixels(parser)
    parser.add_argument('--seed', type=types.seed, default=0, help='seed of the order (default: %(default)s)')
    parser.add_argument(
        '--workers',
        type=types.workers,
        default=os.cpu_count(),
        help='processes that read and scale (default: %(default)s)',
    )
    args = parser.parse_args()
    args.out = Path(args.out)
    if os.path.lexists(args.out):
        parser.error(f'{args.out} exists already: remove it or give another name')
    return args


def size_with(tar: tarfile.TarFile, header: tarfile.TarInfo) -> int:
    """Return the bytes that a file has in the end if one more member is its last."""
    blocks = -(-header.size // tarfile.BLOCKSIZE) + 2  # two empty ones end it
    end = tar.offset + len(header.tobuf(tar.format)) + blocks * tarfile.BLOCKSIZE
    return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def main() -> None:
    """Write the shards."""
    args = parse_args()
    from rich.progress import track
    from torch.utils.data import DataLoader

    from ..datasets.finding import find_images, name_endings
    from ..datasets.loading import MAX_PIXELS
    from ..datasets.shards import Members, index_shard
    from ..utils.workers import end_with_unsent

    left: Counter[str] = Counter()  # files that are no images
    paths = find_images(str(args.folder), None, left)
    if not paths:
        sys.exit(f'error: no images in {args.folder} and its sub-folders')
    random.Random(args.seed).shuffle(paths)
    max_pixels = args.max_pixels or MAX_PIXELS
    members = Members(args.folder, paths, args.short_side, args.channels, max_pixels, QUALITY)
    loader = DataLoader(members, batch_size=None, num_workers=args.workers, worker_init_fn=end_with_unsent)
    limit, left_out, tar = args.shard_size * 2**20, 0, None
    shards: list[Path] = []
    loading = iter(loader)  # starts the workers
    with naming(args.out), whole_folder(args.out) as folder:
        for name, content in track(loading, 'packing', total=len(paths)):
            if isinstance(content, Exception):
                left_out += 1
                print(f'left out an unreadable image: {content}', file=sys.stderr)
                continue
            header = tarfile.TarInfo(name)
            header.size = len(content)
            if tar is None or size_with(tar, header) > limit:
                if tar is not None:
                    tar.close()
                shards.append(folder / f'train-{len(shards):06d}.tar')
                tar = tarfile.open(shards[-1], 'w')
            tar.addfile(header, BytesIO(content))
        if tar is None:
            sys.exit(f'error: none of the {left_out} images in {args.folder} can be read')
        tar.close()
        size = sum(shard.stat().st_size for shard in shards)
        for shard in shards:
            index_shard(shard)  # writes the index that training would have to
    packed = f'{counted(len(paths) - left_out, "image")} in {counted(len(shards), "shard")}'
    print(f'{packed}, {size / 2**20:.0f} MiB, in {printable(args.out)}')
    if left:
        print(name_endings(left))
