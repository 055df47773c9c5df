"""Count parameters and multiply-accumulates, including attention, of a config's backbone or of the DyViT variants."""

import sys
from argparse import Namespace

from . import types
from .parser import ArgumentParser, add_overrides


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'config',
        nargs='?',
        type=types.config,
        help='any config of mmpretrain, mmdet or mmseg with a backbone (default: all DyViT variants)',
    )
    parser.add_argument(
        '--shape',
        nargs='+',
        type=types.image_size,
        default=[224],
        metavar='PIXELS',
        help='height [width] of the images (default: 224)',
    )
    add_overrides(parser)
    args = parser.parse_args()
    if len(args.shape) > 2:
        parser.error('--shape takes a height and perhaps a width')
    args.shape = args.shape[0], args.shape[-1]
    return args


def print_table(heads: list[str], rows: dict[str, list]) -> None:
    """Print the variants as a markdown table."""
    print(f'| variant | {" | ".join(heads)} |\n|---|{"---|" * len(heads)}')
    for row, cells in rows.items():
        print(f'| `{row}` | {" | ".join(cell if isinstance(cell, str) else f"{cell:.2f}" for cell in cells)} |')


def print_config(args: Namespace) -> None:
    """Print the numbers of a config's backbone, and if it is pre-trained by CoMA, of a step."""
    import torch
    from mmengine.registry import MODELS, init_default_scope

    from ..engine.common import read_mask_ratio
    from ..engine.runner.config_files import read_config
    from ..evaluation.flops import count_macs, count_parameters, count_step, visible_units
    from ..models import CoMA

    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model).eval()
    if not hasattr(model, 'backbone'):
        sys.exit(f'error: the model {type(model).__name__} of {args.config} has no backbone')
    height, width = args.shape
    channels = (cfg.model.get('backbone') or {}).get('in_channels', 3)
    images = torch.zeros(1, channels, height, width)
    with torch.no_grad():
        dense = count_macs(model.backbone, images)
    print(f'backbone {type(model.backbone).__name__}: {count_parameters(model.backbone):.2f} M parameters')
    print(f'    {dense:.2f} GMACs at {height} x {width}')
    if not isinstance(model, CoMA):
        return
    ratio = read_mask_ratio(cfg)
    visible, units = visible_units(args.shape, model.unit_size, ratio)
    with torch.no_grad():
        masked = count_macs(model.backbone, images, visible)
    print(f'    {masked:.2f} GMACs with {visible.numel()} of {units} units')
    print(f'{type(model).__name__}: {count_parameters(model):.2f} M parameters')
    print(f'    {count_step(model, args.shape, ratio):.2f} GMACs per image and step, forward and backward')


def main() -> None:
    """Count."""
    args = parse_args()
    if args.config:
        print_config(args)
    else:
        from ..evaluation.flops import count_variants

        print_table(*count_variants(args.shape))
