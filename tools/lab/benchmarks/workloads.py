"""Workloads to compare: models of this package and of others, and one call of each."""

import random
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from mmengine.utils import get_installed_path
from PIL import Image
from torch import Tensor, nn

from coma_mm.datasets import ComplementaryMask
from coma_mm.datasets.photos import PHOTOS, photo_path
from coma_mm.models import CoMA, DyViT
from coma_mm.models.compiled import compile_blocks
from coma_mm.models.mask_units import read_masked_units

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
LOADED = 64  # images of one measurement of loading


# ---- models ----


def stock_config(path: str) -> Config:
    """Read one of mmpretrain's own configs, as shipped."""
    return Config.fromfile(Path(get_installed_path('mmpretrain')) / '.mim/configs' / path)


def stock_mae(path: str) -> tuple[nn.Module, dict]:
    """Return the model and the optimiser settings of one of mmpretrain's MAE configs."""
    cfg = stock_config(path)
    cfg.model.data_preprocessor = None
    return MODELS.build(cfg.model), {key: cfg.optim_wrapper[key] for key in ('optimizer', 'paramwise_cfg')}


def coma(backbone: dict, **evaluation: Any) -> tuple[nn.Module, dict]:
    """Return our pre-training model and its optimiser settings, as in configs/pretrain."""
    model = dict(
        type='coma_mm.CoMA',
        backbone=dict(type='coma_mm.DyViT', **backbone),
        decoder=dict(type='coma_mm.ViTDecoder'),
        evaluation=evaluation or dict(mode='copy'),
    )
    return MODELS.build(model), OUR_OPTIMIZER


def timm_model(name: str) -> nn.Module:
    """Build a model of timm without its classifier."""
    import timm

    return timm.create_model(name, num_classes=0)


OUR_OPTIMIZER = dict(
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='coma_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
BASE = dict(arch='base')
MAE_VIT_B = 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
MAE_HIVIT_B = 'mae/mae_hivit-base-p16_8xb512-amp-coslr-400e_in1k.py'

EVALUATION: dict[str, Callable[[], tuple[nn.Module, dict]]] = {
    'off': partial(coma, BASE, mode='off'),
    'copy every step': partial(coma, BASE, mode='copy'),
    'copy every 100 steps': partial(coma, BASE, mode='copy', interval=100),
    'ema': partial(coma, BASE, mode='ema'),
    'align': partial(coma, BASE, mode='align'),
}
PRETRAINING: dict[str, Callable[[], tuple[nn.Module, dict]]] = {
    'MAE ViT-B (mmpretrain)': partial(stock_mae, MAE_VIT_B),
    'MAE ViT-B, with our optimiser': lambda: (stock_mae(MAE_VIT_B)[0], OUR_OPTIMIZER),
    'MAE HiViT-B (mmpretrain)': partial(stock_mae, MAE_HIVIT_B),
    'CoMA DyViT-T': partial(coma, dict(arch='tiny')),
    'CoMA DyViT-S': partial(coma, dict(arch='small')),
    'CoMA DyViT-B': partial(coma, BASE),
    **{f'CoMA DyViT-B, evaluation {mode}': EVALUATION[mode] for mode in ('off', 'ema', 'align')},
}
ATTENTION: dict[str, dict] = {
    'windows only': dict(attn_window=7, global_blocks=()),
    'windows and two global blocks': dict(attn_window=7),
    'windows and four global blocks of all keys': dict(attn_window=7, global_blocks=(6, 8, 11, 13), global_window=1),
    'global': dict(),
}
BACKBONES: dict[str, Callable[[], nn.Module]] = {
    'ViT-B (mmpretrain)': partial(MODELS.build, dict(type='VisionTransformer', arch='b', patch_size=16)),
    'Swin-B (mmpretrain)': partial(MODELS.build, dict(type='SwinTransformer', arch='base')),
    'HiViT-B (mmpretrain)': partial(MODELS.build, dict(type='HiViT', arch='base')),
    'Hiera-B (timm)': partial(timm_model, 'hiera_base_224'),
    'Hiera-B+ (timm)': partial(timm_model, 'hiera_base_plus_224'),
    'DyViT-T': partial(DyViT, 'tiny'),
    'DyViT-S': partial(DyViT, 'small'),
    'DyViT-B': partial(DyViT, 'base'),
    'DyViT-B, 20 of 49 units': partial(DyViT, 'base'),
}


# ---- calls ----


def autocast(args: Namespace) -> AbstractContextManager:
    """Return the context of the precision asked for."""
    if args.precision == 'fp32':
        return nullcontext()
    return torch.autocast(torch.device(args.device).type, DTYPES[args.precision])


def compile_if_asked(model: nn.Module, function: Callable, args: Namespace) -> Callable:
    """Return a function of a model, compiled as a whole; our models, as with ``compile=True``, block by block."""
    if isinstance(model, (CoMA, DyViT)):
        compile_blocks(model, args.compile)
        return function
    return torch.compile(function) if args.compile else function


def make_step(build: Callable[[], tuple[nn.Module, dict]], args: Namespace) -> Callable[[], None]:
    """Return a full step of pre-training: forward, backward, AdamW."""
    torch.manual_seed(0)
    model, settings = build()
    model.to(args.device)
    model.train()  # on a line of its own: mmpretrain's backbones return nothing
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    samples: list[None] | dict[str, Tensor] = [None] * args.batch
    if isinstance(model, CoMA):
        transform = ComplementaryMask(input_size=args.size, unit_size=model.unit_size, ratio=0.6)
        masks = [torch.from_numpy(transform({})['mask']) for _ in range(args.batch)]
        ids_keep, ids_mask = read_masked_units(images, dict(mask=torch.stack(masks)), model.unit_size)[1:]
        samples = dict(ids_keep=ids_keep, ids_mask=ids_mask)
    optimizer = build_optim_wrapper(model, settings).optimizer
    loss = compile_if_asked(model, model.loss, args)

    def step() -> None:
        with autocast(args):
            losses = loss(images, samples)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_forward(build: Callable[[], nn.Module], args: Namespace, visible: Tensor | None = None) -> Callable[[], Any]:
    """Return a forward pass without gradient, of whole images or of the units ``visible``."""
    torch.manual_seed(0)
    model = build().to(args.device)
    model.eval()  # on a line of its own: mmpretrain's backbones return nothing
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    inputs = (images,) if visible is None else (images, visible.to(args.device))
    return partial(forward, compile_if_asked(model, model, args), inputs, args)


@torch.no_grad()
def forward(function: Callable, inputs: tuple, args: Namespace) -> Any:
    """Call a model or a part of one, without gradient, in the precision asked for."""
    with autocast(args):
        return function(*inputs)


def make_loading(dataset: dict) -> Callable[[], object]:
    """Return the loading of the next batch of 64 images, collated."""
    dataset = DATASETS.build(dataset)
    numbers = cycle(range(len(dataset)))
    return lambda: default_collate([dataset[next(numbers)] for _ in range(LOADED)])


def make_decoding(folder: Path) -> Callable[[], list[np.ndarray]]:
    """Return the decoding of the next 64 files and nothing else."""
    from simplejpeg import decode_jpeg

    files = cycle([path.read_bytes() for path in sorted(folder.rglob('*')) if path.suffix.lower() in ('.jpg', '.jpeg')])
    return lambda: [decode_jpeg(next(files), 'RGB') for _ in range(LOADED)]


# ---- images ----


def dataset_of(kind: str, folder: Path, pipeline: list) -> dict:
    """Return the config of a data set of this package."""
    return dict(type=f'coma_mm.{kind}', data_root=str(folder), pipeline=pipeline)


def save_bundled_photos(folder: Path) -> Path:
    """Write 64 JPEGs of 500 x 375 px, ImageNet's most common size, cut from the photos that come with dependencies."""
    folder.mkdir()
    generator = random.Random(0)
    photos = [Image.open(photo_path(name)).convert('RGB') for name in PHOTOS]
    for number in range(64):
        photo = photos[number % len(photos)]
        width = min(generator.randint(300, 500), photo.width, photo.height * 4 // 3)
        x, y = generator.randint(0, photo.width - width), generator.randint(0, photo.height - width * 3 // 4)
        crop = photo.resize((500, 375), Image.BICUBIC, (x, y, x + width, y + width * 3 // 4))
        crop.save(folder / f'{number}.jpg', quality=95)
    return folder
