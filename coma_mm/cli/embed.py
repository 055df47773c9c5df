"""Write features of images, one vector for each image, to a NumPy file: features, paths, labels and classes."""

import zipfile
from argparse import Namespace
from pathlib import Path

from ..utils.files import MARK
from ..utils.manifest import any_file
from ..utils.text import counted, one_line, printable
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser, add_max_pixels, add_model_and_images, add_overrides, read_model_and_images


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    what = 'any config with a backbone: pre-training, classification, detection, ...'
    add_model_and_images(parser, what, 'image files, and folders of them; sub-folders are classes')
    parser.add_argument(
        '--out', type=types.output_file('.npz'), default='features.npz', help='the file to write (default: %(default)s)'
    )
    parser.add_argument(
        '--pool',
        choices=['stats', 'mean', 'flat'],
        default='stats',
        help='stats: mean and standard deviation of the last two maps; mean: the mean of the last map; flat: all its '
        'positions, for aligned images (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=types.image_size,
        help="scale images to this side in pixels (default: the backbone's img_size, or 224; after `coma-mm pretrain` "
        'twice that is better)',
    )
    parser.add_argument('--batch-size', type=types.batch_size, default=64, help='images at once (default: %(default)s)')
    parser.add_argument(
        '--workers', type=types.workers, default=4, help='processes that read images (default: %(default)s)'
    )
    parser.add_argument('--device', type=types.device, help='device of torch (default: cuda if there is one)')
    add_max_pixels(parser)
    add_overrides(parser)
    add_force(parser)
    args = parser.parse_args()
    read_model_and_images(parser, args)
    check_output(args.out, '--out', [args.config, args.checkpoint, *args.images], args.force)
    return args


def find_class(name: str, path: str) -> str | None:
    """Return the first sub-folder on the way from a folder that was named to an image."""
    parts = Path(path).relative_to(name).parts
    return one_line(parts[0]) if len(parts) > 1 else None


def main() -> None:
    """Extract."""
    args = parse_args()
    import numpy as np
    import torch

    from ..datasets.finding import find_named_images
    from ..evaluation import ImageFiles, extract_features
    from ..export.extractor import open_weights

    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    named = find_named_images(args.images)
    paths, classes = [path for _, path in named], [find_class(*pair) for pair in named]
    weights = open_weights(args.config, args.checkpoint, args.cfg_options, args.pool, args.size, args.max_pixels)
    images = ImageFiles(paths, *weights.size, weights.settings)
    (features,), read = extract_features([weights.extractor.to(device)], images, args.batch_size, args.workers)
    arrays = dict(features=features.numpy(), paths=np.array([paths[i] for i in read]))
    classes = [classes[i] for i in read]
    if all(classes):
        arrays['classes'], arrays['labels'] = np.unique(classes, return_inverse=True)
    with any_file(args.out) as unfinished:
        np.savez(unfinished, **arrays)
        with zipfile.ZipFile(unfinished, 'a') as archive:
            archive.comment = MARK.encode()
    of_classes = f' of {len(arrays["classes"])} classes' if 'classes' in arrays else ', without labels'
    print(f'{counted(len(read), "image")}{of_classes}, {features.shape[1]} features each')
    print(f'written to {printable(args.out)}')
