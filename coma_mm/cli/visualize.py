"""Draw reconstructions of a pre-trained model: the units that each branch sees, the assembled image, the error."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ..utils.text import one_line, printable
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser, add_max_pixels, add_model_and_images, add_overrides, read_model_and_images


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    add_model_and_images(parser, 'a pre-training config', 'image files, and folders of them')
    parser.add_argument(
        '--photos', action='store_true', help='also the photos that come with scikit-image and scikit-learn'
    )
    parser.add_argument(
        '--out', type=types.picture, default='reconstruction.png', help='the picture (default: %(default)s)'
    )
    parser.add_argument(
        '--max-images', type=types.rows, default=16, help='rows of the picture, at most (default: %(default)s)'
    )
    parser.add_argument('--seed', type=types.seed, default=0, help='seed of the masks (default: %(default)s)')
    parser.add_argument('--device', type=types.device, help='device of torch (default: cuda if there is one)')
    add_max_pixels(parser)
    add_overrides(parser)
    add_force(parser)
    args = parser.parse_args()
    if args.photos:
        from ..datasets.photos import PHOTOS, photo_path

        args.names += [photo_path(name) for name in PHOTOS]
    read_model_and_images(parser, args)
    if args.config is None:
        parser.error(f'there is no config beside {args.checkpoint}: give the one that it was trained with before it')
    check_output(args.out, '--out', [args.config, args.checkpoint, *args.images], args.force)
    return args


def build_mask_transform(cfg: Any) -> Any:
    """Build the mask transform of the training pipeline, which also knows the size of the images."""
    from mmengine.registry import TRANSFORMS

    from ..engine.common import find_steps

    transform = next(find_steps(cfg.get('train_dataloader'), ('ComplementaryMask',)), None)
    if transform is None:
        raise ValueError(f'{cfg.filename} is no pre-training config: its training pipeline draws no ComplementaryMask')
    return TRANSFORMS.build(transform)


def main() -> None:
    """Draw."""
    args = parse_args()
    import numpy as np
    import torch
    from mmengine.registry import MODELS, init_default_scope

    from ..checkpoints.pretrained import load_exactly
    from ..datasets import read_image
    from ..datasets.finding import find_named_images
    from ..datasets.loading import fit_image
    from ..engine.runner.config_files import read_config
    from ..evaluation import reconstruct_images
    from ..export.extractor import image_settings
    from ..models import read_checkpoint
    from ..visualization import draw_reconstructions

    cfg = read_config(args.config, args.cfg_options)
    transform = build_mask_transform(cfg)
    paths = [Path(path) for _, path in find_named_images(args.images)]
    if len(paths) > args.max_images:
        print(f'drawing the first {args.max_images} of {len(paths)} images')
        paths = paths[: args.max_images]
    height, width = transform.input_size
    # The largest part of the shape of training in the middle of the image, scaled to that size.
    checkpoint = read_checkpoint(args.checkpoint)
    settings = image_settings(cfg, checkpoint, args.max_pixels)
    images = torch.stack([fit_image(read_image(path, **settings), height, width) for path in paths])
    np.random.seed(args.seed)
    mask = torch.stack([torch.from_numpy(transform({})['mask']) for _ in paths])

    init_default_scope(cfg.get('default_scope', 'mmengine'))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    load_exactly(model, checkpoint, args.checkpoint)
    names = [one_line(path.name) for path in paths]
    result = reconstruct_images(model.to(args.device or ('cuda' if torch.cuda.is_available() else 'cpu')), images, mask)
    draw_reconstructions(result, args.out, names)
    print(result.report(names))
    print(f'written to {printable(args.out)}')
