"""Write the features of images, one vector each, to a file that numpy reads: features, paths, labels and classes."""

import json
import sys
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader, Dataset

from ..datasets import UnreadableImageError, read_image
from ..datasets.folder import find_named_images
from ..datasets.loading import fit_image
from ..engine.common import read_normalisation
from ..engine.runner.build import read_config
from ..evaluation import collect_features
from ..export.source import check_types, find_backbone, find_normalisation
from ..models import FeatureExtractor, read_checkpoint
from ..utils.files import MARK
from ..utils.manifest import any_file
from ..utils.text import one_line, printable
from ..utils.workers import end_with_unsent
from . import types
from .images import add_max_pixels, image_settings
from .options import ArgumentParser, add_model_and_images, add_overrides, read_model_and_images
from .outputs import add_force, check_output


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    what = 'any config with a backbone: pre-training, classification, detection, ...'
    add_model_and_images(parser, what, 'image files, and folders of them; sub-folders are classes')
    parser.add_argument('--out', type=types.output_file('.npz'), default='features.npz', help='(%(default)s)')
    parser.add_argument(
        '--pool',
        choices=['mean', 'flat'],
        default='mean',
        help='mean of the last map, or all its positions side by side for images that are aligned (%(default)s)',
    )
    parser.add_argument(
        '--size', type=types.image_size, help="scale images to this side in pixels (the backbone's img_size, or 224)"
    )
    parser.add_argument('--batch-size', type=types.batch_size, default=64, help='(%(default)s)')
    parser.add_argument('--num-workers', type=types.workers, default=4, help='processes that read images (%(default)s)')
    parser.add_argument(
        '--device', type=types.device, default='cuda' if torch.cuda.is_available() else 'cpu', help='(%(default)s)'
    )
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


class Images(Dataset):
    """Images as tensors ``(C, H, W)``: the largest part of their shape in the middle, scaled to one size."""

    def __init__(self, paths: list[str], height: int, width: int, settings: dict):
        self.paths = paths
        self.size = height, width
        self.settings = settings  # of read_image

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | None]:
        try:
            image = read_image(self.paths[index], **self.settings)
        except UnreadableImageError as error:
            print(f'skipped {error}', file=sys.stderr, flush=True)
            return index, None
        return index, fit_image(image, *self.size)


def build_extractor(cfg: Config, pool: bool) -> FeatureExtractor:
    """Build the backbone with the normalisation that the config trains it with."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    if not (cfg.get('model') or {}).get('backbone'):
        raise ValueError(f'{cfg.filename} has no model.backbone')
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    normalisation = read_normalisation(settings, str(cfg.get('train_dataloader') or cfg.get('test_dataloader')))
    preprocessor = dict(
        type='mmengine.ImgDataPreprocessor',
        mean=normalisation['mean'],
        std=normalisation['std'],
        rgb_to_bgr=normalisation['channel_order'] == 'BGR',  # images come in RGB here
    )
    return FeatureExtractor(cfg.model.backbone, pool, preprocessor)


def config_of(checkpoint: str) -> Config:
    """Return what a checkpoint itself says of its backbone, and of how its images come in."""
    read = read_checkpoint(checkpoint)
    try:
        backbone, scope, _ = find_backbone(read, None)
        check_types(backbone, scope)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}, before the checkpoint') from None
    known = {name: json.loads(value) for name, value in find_normalisation(read, None).items()}
    preprocessor = dict(mean=known.get('mean'), std=known.get('std'))
    return Config(dict(default_scope=scope, model=dict(backbone=backbone, data_preprocessor=preprocessor)))


def main() -> None:
    """Extract."""
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options) if args.config else config_of(args.checkpoint)
    named = find_named_images(args.images)
    paths, classes = [path for _, path in named], [find_class(*pair) for pair in named]
    model = build_extractor(cfg, args.pool == 'mean')
    checkpoint = read_checkpoint(args.checkpoint)
    model.load_backbone(checkpoint, args.checkpoint)
    model = model.to(args.device).eval()

    size = args.size or cfg.model.backbone.get('img_size', 224)
    height, width = (size, size) if isinstance(size, int) else size
    loader = DataLoader(
        Images(paths, height, width, image_settings(cfg, checkpoint, args)),
        args.batch_size,
        num_workers=min(args.num_workers, len(paths) // args.batch_size),
        collate_fn=list,
        worker_init_fn=end_with_unsent,
    )
    read: list[int] = []
    progress = ProgressBar(len(paths))

    def batches() -> Iterator[dict]:
        for items in loader:
            items, count = [item for item in items if item[1] is not None], len(items)
            read.extend(index for index, _ in items)
            if items:
                yield dict(inputs=torch.stack([image for _, image in items]))
            progress.update(count)

    features, _ = collect_features(model, batches())
    arrays = dict(features=features.float().cpu().numpy(), paths=np.array([paths[i] for i in read]))
    classes = [classes[i] for i in read]
    if all(classes):
        arrays['classes'], arrays['labels'] = np.unique(classes, return_inverse=True)
    with any_file(args.out) as unfinished:
        np.savez(unfinished, **arrays)
        with zipfile.ZipFile(unfinished, 'a') as archive:
            archive.comment = MARK.encode()
    of_classes = f' of {len(arrays["classes"])} classes' if 'classes' in arrays else ', without labels'
    print(f'\n{len(read)} images{of_classes}, {features.shape[1]} features each')
    print(f'written to {printable(args.out)}')
