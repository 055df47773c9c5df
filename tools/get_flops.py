#!/usr/bin/env python
"""Count parameters and multiply-accumulates, attention's included, of a config's backbone or of the DyViT variants."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import DictAction  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402

from coma_mm.engine.cli import read_config  # noqa: E402
from coma_mm.engine.flops import count_flops  # noqa: E402
from coma_mm.masking import num_hidden, unit_grid  # noqa: E402
from coma_mm.models import DyViT  # noqa: E402
from coma_mm.models.dyvit import ARCHITECTURES  # noqa: E402


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='any mm config with a backbone; if left out, all DyViT variants')
    parser.add_argument('--shape', nargs='+', type=int, default=[224], metavar='PIXELS', help='height [width] (224)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings')
    args = parser.parse_args()
    if len(args.shape) > 2:
        parser.error('--shape takes a height and perhaps a width')
    args.shape = args.shape[0], args.shape[-1]
    return args


def count_macs(function, *args) -> float:
    """Return the GMACs (1e9 multiply-accumulates, half as many as FLOPs) of a call."""
    return count_flops(function, *args) / 2e9


def count_parameters(module: torch.nn.Module) -> float:
    """Return millions of parameters."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def visible_units(shape: tuple[int, int], unit_size: int, ratio: float) -> tuple[torch.Tensor, int]:
    """Return as many units as the adaptive branch sees, for a batch of one, and the number of all."""
    rows, columns = unit_grid(shape, unit_size)
    units = rows * columns
    return torch.arange(units - num_hidden(units, ratio))[None], units


def print_table(shape: tuple[int, int]) -> None:
    """Print the variants as a markdown table."""
    images = torch.zeros(1, 3, *shape)
    visible, units = visible_units(shape, 32, 0.6)
    print(f'| variant | dims | depths | parameters (M) | GMACs at {shape[0]} x {shape[1]} | ', end='')
    print(f'GMACs with {visible.numel()} of {units} units |\n|---|---|---|---|---|---|')
    for arch, numbers in ARCHITECTURES.items():
        model = DyViT(arch=arch).eval()
        with torch.no_grad():
            dense, masked = count_macs(model, images), count_macs(model, images, visible)
        dims, depths = (' '.join(map(str, numbers[key])) for key in ('dims', 'depths'))
        print(f'| `{arch}` | {dims} | {depths} | {count_parameters(model):.1f} | {dense:.2f} | {masked:.2f} |')


def print_config(args: Namespace) -> None:
    """Print the numbers of a config's backbone, and if it is pre-trained by CoMA, of a step."""
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model).eval()
    if not hasattr(model, 'backbone'):
        sys.exit(f'error: the model {type(model).__name__} of {args.config} has no backbone')
    height, width = args.shape
    images = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        dense = count_macs(model.backbone, images)
    print(f'backbone {type(model.backbone).__name__}: {count_parameters(model.backbone):.2f} M parameters')
    print(f'    {dense:.2f} GMACs at {height} x {width}')
    if not hasattr(model, 'reconstruct'):
        return
    visible, units = visible_units(args.shape, model.unit_size, model.mask_ratio)
    with torch.no_grad():
        masked = count_macs(model.backbone, images, visible)
    print(f'    {masked:.2f} GMACs with {visible.numel()} of {units} units')
    mask = torch.ones(units, dtype=torch.bool).scatter(0, visible[0], False)
    mask = mask.view(1, *unit_grid(args.shape, model.unit_size))

    def step():
        sum(value for key, value in model.loss(images, dict(mask=mask)).items() if 'loss' in key).backward()

    print(f'{type(model).__name__}: {count_parameters(model):.2f} M parameters')
    print(f'    {count_macs(step):.2f} GMACs per image and step, forward and backward')


def main() -> None:
    """Count."""
    args = parse_args()
    if args.config:
        print_config(args)
    else:
        print_table(args.shape)


if __name__ == '__main__':
    try:
        main()
    except ValueError as error:
        sys.exit(f'error: {error}')
