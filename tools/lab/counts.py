#!/usr/bin/env python
"""Count all parameters and operations in README and docs, in 2 minutes; needs mmseg."""

import json
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _lab
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import get_installed_path
from torch import Tensor, nn

from coma_mm.cli import types
from coma_mm.cli.flops import print_table
from coma_mm.cli.parser import ArgumentParser
from coma_mm.evaluation.flops import PARAMETERS, count_forward, count_parameters, count_step, count_variants
from coma_mm.models import CoMA, DyViT
from coma_mm.models.layers import Block
from coma_mm.utils.files import resource_dir, write_whole

IMAGES = 1281167  # of ImageNet-1K
SPEED = 100e12  # operations per second of a GPU, a round number to scale by
GPUS = (1, 8, 64)


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        '--json', type=types.output_file(), required=True, metavar='OUT', help='where to write the numbers'
    )
    _lab.add_force(parser)
    args = parser.parse_args()
    _lab.check_results(args.json, '--json', args.force)
    return args


def main() -> None:
    """Count and write."""
    args = parse_args()
    tables = count_documented()
    columns = tables['variants']['columns']
    print_table(list(columns), {row: [column[row] for column in columns.values()] for row in columns['dims']})
    write_whole(args.json, json.dumps(dict(tables=tables), indent=1) + '\n')


def make_table(heads: list[str], rows: dict[str, list]) -> dict:
    """Return what was counted in the form of benchmark.py's tables: column -> row -> number."""
    return dict(columns={head: {row: cells[i] for row, cells in rows.items()} for i, head in enumerate(heads)})


def count_documented() -> dict[str, dict]:
    """Count all that README and docs name."""
    maps = partial(DyViT, out_indices=(0, 1, 2, 3))
    vit = {f'ViT-{arch.upper()}': dict(type='mmpretrain.VisionTransformer', arch=arch) for arch in 'bl'}
    blocks = {'attn_window=7': 7, 'attn_window=16': 16, 'global': None}
    return dict(
        variants=make_table(*count_variants((224, 224))),
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
        f'CoMA DyViT-{size.upper()}': Config.fromfile(resource_dir('configs') / f'pretrain/coma_dyvit-{size}_in1k.py')
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

    An encoder block's are gathered for the adaptive branch, the evaluation branch and the backward pass. A decoder
    block's are gathered for the forward and the backward pass, others once.
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
    for path in sorted((resource_dir('configs') / 'seg').glob('*.py')):
        cfg = Config.fromfile(path)
        side = cfg.model.data_preprocessor.size
        cfg.model.data_preprocessor = None
        with DefaultScope.overwrite_default_scope('mmseg'):
            rows[path.stem] = count_forward(partial(_build_segmentor, cfg.model), side)
    return make_table([PARAMETERS, 'GMACs'], rows)


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


if __name__ == '__main__':
    _lab.run('counts', main)
