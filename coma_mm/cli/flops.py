"""Count parameters and multiply-accumulates, attention's included, of a config's backbone or of the DyViT variants."""

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..engine.common import read_mask_ratio
from ..engine.runner.config_files import read_config
from ..evaluation.flops import count_flops
from ..masking import num_hidden, unit_grid
from ..models import CoMA, DyViT
from ..models.dyvit import ARCHITECTURES
from . import types
from .options import ArgumentParser, add_overrides

PARAMETERS = 'parameters (M)'


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', nargs='?', type=types.path, help='any mm config with a backbone; if left out, all DyViT variants'
    )
    parser.add_argument(
        '--shape', nargs='+', type=types.image_size, default=[224], metavar='PIXELS', help='height [width] (224)'
    )
    add_overrides(parser)
    args = parser.parse_args()
    if len(args.shape) > 2:
        parser.error('--shape takes a height and perhaps a width')
    args.shape = args.shape[0], args.shape[-1]
    return args


# ---- counting ----


def count_macs(function: Callable, *args: Any) -> float:
    """Return the GMACs (1e9 multiply-accumulates, half as many as FLOPs) of a call."""
    return count_flops(function, *args) / 2e9


def count_parameters(*modules: nn.Module) -> float:
    """Return millions of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


def visible_units(shape: tuple[int, int], unit_size: int, ratio: float) -> tuple[Tensor, int]:
    """Return as many units as the adaptive branch sees, for a batch of one, and the number of all."""
    rows, columns = unit_grid(shape, unit_size)
    units = rows * columns
    return torch.arange(units - num_hidden(units, ratio))[None], units


def example_mask(shape: tuple[int, int], model: CoMA, ratio: float) -> Tensor:
    """Return the mask of one image."""
    visible, units = visible_units(shape, model.unit_size, ratio)
    mask = torch.ones(units, dtype=torch.bool).scatter(0, visible[0], False)
    return mask.view(1, *unit_grid(shape, model.unit_size))


def count_step(model: nn.Module, shape: tuple[int, int], ratio: float = 0.6) -> float:
    """Return the GMACs of one image in a step of pre-training, forward and backward; two are compared by ``align``."""
    images = torch.zeros(2, 3, *shape)
    samples = dict(mask=example_mask(shape, model, ratio).expand(2, -1, -1)) if isinstance(model, CoMA) else [None] * 2
    model.train()  # on a line of its own: mmpretrain's models return nothing

    def step() -> None:
        sum(value for key, value in model.loss(images, samples).items() if 'loss' in key).backward()

    return count_macs(step) / 2


def count_forward(build: Callable[[], nn.Module], shape: tuple[int, int], units: Tensor | None = None) -> list[float]:
    """Return millions of parameters and GMACs of an image, and of ``units`` of it, without computing anything."""
    with torch.device('meta'), torch.no_grad():
        model, images = build(), torch.zeros(1, 3, *shape)
        model.eval()  # on a line of its own: mmpretrain's backbones return nothing
        counted = [count_parameters(model), count_macs(model, images)]
        return counted if units is None else [*counted, count_macs(model, images, units.to('meta'))]


def make_table(heads: list[str], rows: dict[str, list]) -> dict:
    """Return what was counted in the form of benchmark.py's tables: column -> row -> number."""
    return dict(columns={head: {row: cells[i] for row, cells in rows.items()} for i, head in enumerate(heads)})


def count_variants(shape: tuple[int, int]) -> dict:
    """Count the variants, whole images and the units that the adaptive branch sees."""
    visible, units = visible_units(shape, 32, 0.6)
    heads = ['dims', 'depths', PARAMETERS, f'GMACs at {shape[0]} x {shape[1]}']
    rows = {}
    for arch, numbers in ARCHITECTURES.items():
        texts = [' '.join(map(str, numbers[key])) for key in ('dims', 'depths')]
        rows[arch] = [*texts, *count_forward(partial(DyViT, arch), shape, visible)]
    return make_table([*heads, f'GMACs with {visible.numel()} of {units} units'], rows)


# ---- printing ----


def print_table(counted: dict) -> None:
    """Print the variants as a markdown table."""
    columns = counted['columns']
    print(f'| variant | {" | ".join(columns)} |\n|---|{"---|" * len(columns)}')
    for row in columns['dims']:
        cells = [column[row] for column in columns.values()]
        print(f'| `{row}` | {" | ".join(cell if isinstance(cell, str) else f"{cell:.2f}" for cell in cells)} |')


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
        print_table(count_variants(args.shape))
