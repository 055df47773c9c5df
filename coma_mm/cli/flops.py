"""Count parameters and multiply-accumulates, attention's included, of a config's backbone or of the DyViT variants."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.utils import get_installed_path
from torch import Tensor, nn

from ..engine.flops import count_flops
from ..engine.running import read_config
from ..files import shipped, write_whole
from ..masking import num_hidden, unit_grid
from ..models import CoMA, DyViT
from ..models.dyvit import ARCHITECTURES, Block
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
    parser.add_argument(
        '--json',
        type=types.output_file(),
        metavar='OUT',
        help='write this, and all else that the documents count (2 minutes; needs mmseg)',
    )
    args = parser.parse_args()
    if len(args.shape) > 2:
        parser.error('--shape takes a height and perhaps a width')
    if args.json and (args.config or args.shape != [224]):
        parser.error('--json goes without a config and a shape: it counts what is in the documents')
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


def example_mask(shape: tuple[int, int], model: CoMA) -> Tensor:
    """Return the mask of one image."""
    visible, units = visible_units(shape, model.unit_size, model.mask_ratio)
    mask = torch.ones(units, dtype=torch.bool).scatter(0, visible[0], False)
    return mask.view(1, *unit_grid(shape, model.unit_size))


def count_step(model: nn.Module, shape: tuple[int, int]) -> float:
    """Return the GMACs of one image in a step of pre-training, forward and backward."""
    images = torch.zeros(1, 3, *shape)
    samples = dict(mask=example_mask(shape, model)) if isinstance(model, CoMA) else [None]

    def step() -> None:
        sum(value for key, value in model.loss(images, samples).items() if 'loss' in key).backward()

    return count_macs(step)


def count_forward(build: Callable[[], nn.Module], shape: tuple[int, int], units: Tensor | None = None) -> list[float]:
    """Return millions of parameters and GMACs of an image, and of ``units`` of it, without computing anything."""
    with torch.device('meta'), torch.no_grad():
        model, images = build(), torch.zeros(1, 3, *shape)
        model.eval()  # on a line of its own: mmpretrain's backbones return nothing
        counted = [count_parameters(model), count_macs(model, images)]
        return counted if units is None else [*counted, count_macs(model, images, units.to('meta'))]


def count_saved(build: Callable[[], nn.Module], shape: tuple[int, int]) -> float:
    """Return the bytes of activations that the backward pass needs of one image in bf16 autocast."""
    model, kept = build().train(), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # kept alive, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast('cpu', torch.bfloat16):
        maps = model(torch.zeros(1, 3, *shape))  # noqa: F841, the graph
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


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


# ---- what the documents say ----

IMAGES = 1281167  # of ImageNet-1K
SPEED = 100e12  # operations per second of a GPU, a round number to scale by
GPUS = (1, 8, 64)


def count_documented() -> dict[str, dict]:
    """Count all that README and docs name."""
    maps = partial(DyViT, out_indices=(0, 1, 2, 3))
    vit = {f'ViT-{arch.upper()}': dict(type='mmpretrain.VisionTransformer', arch=arch) for arch in 'bl'}
    blocks = {'attn_window=7': 7, 'attn_window=16': 16, 'global': None}
    return dict(
        variants=count_variants((224, 224)),
        references=make_table(
            [PARAMETERS, 'GMACs'],
            {name: count_forward(partial(MODELS.build, cfg), (224, 224)) for name, cfg in vit.items()},
        ),
        pretraining=count_pretraining(),
        detection=make_table(
            ['GMACs'],
            {
                f'{arch}, {name}': count_forward(partial(maps, arch, attn_window=blocks[name]), (800, 1344))[1:]
                for arch in ('tiny', 'small', 'base')
                for name in ('attn_window=7', 'global')
            },
        ),
        segmentation=make_table(
            ['GMACs'],
            {
                f'{height} x {width}, {name}': count_forward(
                    partial(maps, 'base', attn_window=window), (height, width)
                )[1:]
                for height, width in ((512, 512), (640, 640), (1024, 1024), (1024, 2048))
                for name, window in blocks.items()
            },
        ),
        segmentors=count_segmentors(),
        activations=make_table(
            ['GiB'],
            {
                name: [count_saved(partial(maps, arch, attn_window=7, with_cp=with_cp), (1024, 1024)) / 2**30]
                for name, arch, with_cp in (
                    ('tiny', 'tiny', False),
                    ('base', 'base', False),
                    ('base, with_cp', 'base', True),
                )
            },
        ),
    )


def count_pretraining() -> dict:
    """Count steps of pre-training, and from them hours and what 8 GPUs send."""
    heads = ['GFLOP per image and step', *(f'{gpus} GPU{"s" * (gpus > 1)}' for gpus in GPUS)]
    heads += [PARAMETERS, 'gathered (M)', 'DDP', 'FSDP']
    configs = {
        f'CoMA DyViT-{size.upper()}': Config.fromfile(shipped('configs') / f'pretrain/coma_dyvit-{size}_in1k.py')
        for size in 'tsbl'
    }
    stock = Path(get_installed_path('mmpretrain'), '.mim/configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
    configs['for comparison: MAE ViT-B, 1600 epochs'] = Config.fromfile(stock)
    rows = {}
    for name, cfg in configs.items():
        cfg.model.data_preprocessor = None
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model)
        gflop, epochs = 2 * count_step(model, (224, 224)), 200 if isinstance(model, CoMA) else 1600
        parameters, gathered = count_parameters(model), count_gathered(model)
        sent = 7 / 8 * 4e-3  # GB for each million of parameters that each of 8 GPUs passes on once
        rows[name] = [
            gflop,
            *(gflop * 1e9 * IMAGES * epochs / SPEED / 3600 / gpus for gpus in GPUS),
            parameters,
            gathered,
            2 * parameters * sent,
            (gathered + parameters) * sent,
        ]
    return make_table(heads, rows)


def count_gathered(model: nn.Module) -> float:
    """Return the millions of parameters that FSDP gathers in a step of CoMA.

    An encoder block's are gathered for the adaptive branch, the evaluation branch and the backward pass, a decoder
    block's for the forward and the backward pass, what is in no block once.
    """
    encoder, decoder = (
        count_parameters(*(module for module in part.modules() if isinstance(module, Block)))
        for part in (model.backbone, getattr(model, 'decoder', nn.Identity()))
    )
    return count_parameters(model) + 2 * encoder + decoder


def _build_segmentor(model: dict) -> nn.Module:
    return revert_sync_batchnorm(MODELS.build(model))


def count_segmentors() -> dict:
    """Count parameters of the segmentors, and GMACs of a crop through backbone and main head."""
    rows = {}
    for path in sorted((shipped('configs') / 'seg').glob('*.py')):
        cfg = Config.fromfile(path)
        side = cfg.model.data_preprocessor.size
        cfg.model.data_preprocessor = None
        with DefaultScope.overwrite_default_scope('mmseg'):
            rows[path.stem] = count_forward(partial(_build_segmentor, cfg.model), side)
    return make_table([PARAMETERS, 'GMACs'], rows)


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
    visible, units = visible_units(args.shape, model.unit_size, model.mask_ratio)
    with torch.no_grad():
        masked = count_macs(model.backbone, images, visible)
    print(f'    {masked:.2f} GMACs with {visible.numel()} of {units} units')
    print(f'{type(model).__name__}: {count_parameters(model):.2f} M parameters')
    print(f'    {count_step(model, args.shape):.2f} GMACs per image and step, forward and backward')


def main() -> None:
    """Count."""
    args = parse_args()
    if args.config:
        print_config(args)
    elif args.json:
        tables = count_documented()
        print_table(tables['variants'])
        write_whole(args.json, json.dumps(dict(tables=tables), indent=1) + '\n')
    else:
        print_table(count_variants(args.shape))
