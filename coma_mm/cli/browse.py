"""Show what training gets to see: images drawn at random, as its pipeline hands them over, with their masks."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from PIL import ImageOps
from torch import Tensor

from ..datasets import read_image
from ..datasets.loading import to_picture
from ..engine.checks.data import explain_data
from ..engine.common import find_steps, read_loading, read_normalisation
from ..engine.hooks.reconstruction import draw_items, name_of
from ..engine.runner.config_files import read_config
from ..utils.text import printable
from ..visualization.figures import ImageGrid, shorten
from ..visualization.reconstruction import what_branches_see
from . import types
from .images import add_max_pixels
from .options import ArgumentParser, add_overrides
from .outputs import add_force, check_output, find_files, find_roots


def main() -> None:
    """Draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', type=types.path, help='a config of mmpretrain, mmdet or mmseg')
    parser.add_argument('--out', type=types.picture, default='browse.png', help='(%(default)s)')
    parser.add_argument('--max-images', type=types.rows, default=8, help='rows of the picture (%(default)s)')
    parser.add_argument('--seed', type=types.seed, default=0, help='of what is drawn (%(default)s)')
    add_max_pixels(parser)
    add_overrides(parser)
    add_force(parser)
    args = parser.parse_args()
    cfg = read_config(args.config, args.cfg_options)
    roots = find_roots(cfg.get('train_dataloader'))
    files = find_files(cfg.get('train_dataloader'), ['', *roots])
    check_output(args.out, '--out', [args.config, *roots, *files], args.force)
    if not cfg.get('train_dataloader'):
        raise ValueError(f'{args.config} has no train_dataloader, so there is nothing that training would see')
    if args.max_pixels is not None:
        for step in find_steps(cfg.train_dataloader):
            step['max_pixels'] = args.max_pixels
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with explain_data('train_dataloader'):
        items = draw_items(cfg.train_dataloader.dataset, args.max_images, args.seed)
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    is_bgr = read_normalisation(preprocessor, str(cfg.train_dataloader))['channel_order'] == 'BGR'
    columns = make_columns(items, is_bgr, read_loading(cfg))
    grid = ImageGrid(columns, [shorten(name_of(item, i)) for i, item in enumerate(items, 1)])
    grid.finish(args.out)
    print(f'{len(items)} of the training images, as the model gets them; written to {printable(args.out)}')


def mask_of(sample: Any, height: int, width: int) -> Tensor | None:
    """Return the mask ``(Hu, Wu)`` of a sample, which has it or the numbers of its units; ``None`` without either."""
    if 'ids_mask' in sample and 'ids_keep' in sample:
        ids = torch.as_tensor(sample['ids_mask'])
        mask = torch.zeros(len(ids) + len(sample['ids_keep']), dtype=torch.bool).index_fill(0, ids, True)
        unit = round((height * width / len(mask)) ** 0.5)
        return mask.view(height // unit, width // unit)
    return torch.as_tensor(sample.get('mask')) if 'mask' in sample else None


def make_columns(items: list[dict], is_bgr: bool = False, settings: dict | None = None) -> dict[str, Tensor]:
    """Return the columns of the picture: the files, the inputs, and what each branch sees of them if there are masks.

    Args:
        items: Packed, ``inputs`` of ``(C, H, W)`` each, of which the first three channels are drawn, or a grey one.
        is_bgr: Whether three channels are blue, green, red.
        settings: Of :func:`.read_image`, for the files.
    """
    inputs = [torch.as_tensor(item['inputs']).float() / 255 for item in items]
    inputs = [image[[2, 1, 0]] if is_bgr and len(image) == 3 else image for image in inputs]
    inputs = [image[: 3 if len(image) >= 3 else 1].expand(3, -1, -1).clamp(0, 1) for image in inputs]
    height, width = (max(image.shape[axis] for image in inputs) for axis in (1, 2))
    inputs = torch.stack(
        [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=1) for image in inputs]
    )
    columns = {}
    paths = [item['data_samples'].get('img_path') for item in items]
    if all(path and not path.startswith('tar://') for path in paths):
        files = [to_picture(read_image(path, **settings or {})) for path in paths]
        files = [ImageOps.pad(image, (width, height), color='white') for image in files]
        columns['the file'] = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in files])
    columns['the model gets'] = inputs
    masks = [mask_of(item['data_samples'], height, width) for item in items]
    if all(mask is not None for mask in masks):
        mask = torch.stack(masks)
        columns |= what_branches_see(inputs, mask, height // mask.shape[1])
    return columns
