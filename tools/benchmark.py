#!/usr/bin/env python
"""Time this package against what else there is: every model takes its turn in each round of one run."""

import json
import multiprocessing
import platform
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402
from mmengine.utils import get_installed_path  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coma_mm.datasets import ComplementaryMask  # noqa: E402
from coma_mm.models import DyViT  # noqa: E402

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__, epilog='The first model of a table is what ratios refer to.')
    parser.add_argument('suites', nargs='+', choices=SUITES, metavar='SUITE', help=', '.join(SUITES))
    parser.add_argument('--only', nargs='+', metavar='NAME', help='models whose names contain one of these')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='(%(default)s)')
    parser.add_argument('--precision', choices=DTYPES, default='fp32', help='of autocast (%(default)s)')
    parser.add_argument('--compile', action='store_true', help='torch.compile all models')
    parser.add_argument('--batch', type=int, default=8, help='images (%(default)s)')
    parser.add_argument('--size', type=int, default=224, help='side of the images in pixels (%(default)s)')
    parser.add_argument('--rounds', type=int, default=9, help='rounds that count; one more warms up (%(default)s)')
    parser.add_argument('--json', metavar='OUT', help='write results, machine and versions to this file')
    args = parser.parse_args()
    if args.json and not Path(args.json).absolute().parent.is_dir():
        parser.error(f'there is no folder {Path(args.json).parent}')
    return args


# ---- what is compared ----


def mmpretrain_model(path: str) -> nn.Module:
    """Build the model of one of mmpretrain's own configs, as shipped."""
    cfg = Config.fromfile(Path(get_installed_path('mmpretrain')) / '.mim/configs' / path)
    cfg.model.data_preprocessor = None
    init_default_scope('mmpretrain')
    return MODELS.build(cfg.model)


def coma(arch: str, **evaluation) -> nn.Module:
    """Build our pre-training model, as in configs/pretrain."""
    return MODELS.build(
        dict(
            type='coma_mm.CoMA',
            backbone=dict(type='coma_mm.DyViT', arch=arch),
            decoder=dict(type='coma_mm.ViTDecoder'),
            evaluation=evaluation or dict(mode='copy'),
        )
    )


def timm_model(name: str) -> nn.Module:
    """Build a model of timm without its classifier."""
    import timm

    return timm.create_model(name, num_classes=0)


def backbone(**settings) -> nn.Module:
    """Build a backbone of mmpretrain."""
    init_default_scope('mmpretrain')
    return MODELS.build(settings)


PRETRAINING = {
    'MAE ViT-B (mmpretrain)': lambda: mmpretrain_model('mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'),
    'MAE HiViT-B (mmpretrain)': lambda: mmpretrain_model('mae/mae_hivit-base-p16_8xb512-amp-coslr-400e_in1k.py'),
    'CoMA DyViT-T': lambda: coma('tiny'),
    'CoMA DyViT-S': lambda: coma('small'),
    'CoMA DyViT-B': lambda: coma('base'),
    'CoMA DyViT-B, evaluation off': lambda: coma('base', mode='off'),
}
EVALUATION = {
    'off': lambda: coma('base', mode='off'),
    'copy every step': lambda: coma('base', mode='copy'),
    'copy every 100 steps': lambda: coma('base', mode='copy', interval=100),
    'ema': lambda: coma('base', mode='ema'),
}
ATTENTION = {
    'windows only': dict(attn_window=7, global_blocks=()),
    'windows and four global blocks': dict(attn_window=7),
    'global': dict(),
}
BACKBONES = {
    'ViT-B (mmpretrain)': lambda: backbone(type='VisionTransformer', arch='b', patch_size=16),
    'Swin-B (mmpretrain)': lambda: backbone(type='SwinTransformer', arch='base'),
    'HiViT-B (mmpretrain)': lambda: backbone(type='HiViT', arch='base'),
    'Hiera-B (timm)': lambda: timm_model('hiera_base_224'),
    'Hiera-B+ (timm)': lambda: timm_model('hiera_base_plus_224'),
    'DyViT-T': lambda: DyViT('tiny'),
    'DyViT-S': lambda: DyViT('small'),
    'DyViT-B': lambda: DyViT('base'),
    'DyViT-B, 20 of 49 units': lambda: DyViT('base'),
}


# ---- how one call is made ----


def autocast(args: Namespace):
    """Return the context of the precision asked for."""
    if args.precision == 'fp32':
        return nullcontext()
    return torch.autocast(torch.device(args.device).type, DTYPES[args.precision])


def make_step(build: Callable[[], nn.Module], args: Namespace) -> Callable[[], None]:
    """Return a full step of pre-training: forward, backward, AdamW."""
    torch.manual_seed(0)
    model = build().to(args.device)
    model.train()  # on a line of its own: mmpretrain's backbones return nothing
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    if hasattr(model, 'reconstruct'):
        transform = ComplementaryMask(input_size=args.size, unit_size=model.unit_size, ratio=model.mask_ratio)
        masks = [torch.from_numpy(transform({})['mask']) for _ in range(args.batch)]
        samples = dict(mask=torch.stack(masks).to(args.device))
    else:
        samples = [None] * args.batch
    settings = dict(optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05))
    if hasattr(model, 'reconstruct'):
        settings['constructor'] = 'coma_mm.LayerDecayOptimWrapperConstructor'
    optimizer = build_optim_wrapper(model, settings).optimizer
    loss = torch.compile(model.loss) if args.compile else model.loss

    def step() -> None:
        with autocast(args):
            losses = loss(images, samples)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_forward(build: Callable[[], nn.Module], args: Namespace, visible: Tensor | None = None) -> Callable[[], None]:
    """Return a forward pass without gradient, of whole images or of the units ``visible``."""
    torch.manual_seed(0)
    model = build().to(args.device)
    model.eval()
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    inputs = (images,) if visible is None else (images, visible.to(args.device))
    function = torch.compile(model) if args.compile else model

    @torch.no_grad()
    def forward() -> None:
        with autocast(args):
            function(*inputs)

    return forward


# ---- suites ----


def run_interleaved(calls: dict[str, Callable[[], None]], args: Namespace) -> dict[str, list[float]]:
    """Call each in turn, round after round; return seconds of all rounds but the first."""
    seconds = {name: [] for name in calls}
    wait = torch.cuda.synchronize if torch.device(args.device).type == 'cuda' else lambda: None
    for number in range(args.rounds + 1):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def choose(models: dict, args: Namespace) -> dict:
    """Return the models asked for."""
    chosen = {name: build for name, build in models.items() if not args.only or any(part in name for part in args.only)}
    if not chosen:
        raise ValueError(f'no model has one of {args.only} in its name; there are: {", ".join(models)}')
    return chosen


def run_step(args: Namespace) -> dict:
    """Time a step of pre-training."""
    return run_interleaved({name: make_step(build, args) for name, build in choose(PRETRAINING, args).items()}, args)


def run_forward(args: Namespace) -> dict:
    """Time a forward pass of whole images, and of 20 of 49 units."""
    calls = {}
    for name, build in choose(BACKBONES, args).items():
        visible = torch.stack([torch.randperm(49)[:20] for _ in range(args.batch)]) if 'units' in name else None
        if visible is not None and args.size != 224:
            raise ValueError('20 of 49 units are those of 224 px; leave --size, or choose models with --only')
        calls[name] = make_forward(build, args, visible)
    return run_interleaved(calls, args)


def peak_bytes(name: str, args: Namespace) -> int:
    """Return what two steps add to the memory of a fresh process, at most: weights, optimizer and activations."""
    init_default_scope('mmpretrain')
    cuda = torch.device(args.device).type == 'cuda'
    if not cuda:
        Path('/proc/self/clear_refs').write_text('5')  # Linux forgets the peak so far
    before = 0 if cuda else _resident_peak()
    step = make_step(EVALUATION[name], args)
    step()
    step()
    return torch.cuda.max_memory_allocated() if cuda else _resident_peak() - before


def _resident_peak() -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def run_memory(args: Namespace) -> dict:
    """Measure the peak memory of a step with each kind of evaluation branch, each in a process of its own."""
    peaks = {}
    for name in choose(EVALUATION, args):
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            peaks[name] = [pool.apply(peak_bytes, (name, args))]
    return peaks


def run_resolution(args: Namespace) -> dict:
    """Time a forward pass with all four outputs per pixel of large images, 4 megapixels a batch."""
    calls = {}
    for kind, settings in ATTENTION.items():
        for size in (512, 1024, 2048):
            if kind == 'global' and size > 1024:  # minutes
                continue
            name = f'DyViT-T, {kind}, {size} px'
            same = dict(vars(args), size=size, batch=(2048 // size) ** 2)
            build = partial(DyViT, 'tiny', out_indices=(0, 1, 2, 3), **settings)
            calls[name] = make_forward(build, Namespace(**same))
    seconds = run_interleaved(choose(calls, args), args)
    return {name: [value / 2048**2 for value in values] for name, values in seconds.items()}


# Each returns name -> measured values, and has a unit that these are multiplied to.
SUITES = dict(step=run_step, forward=run_forward, memory=run_memory, resolution=run_resolution)
UNITS = dict(
    step=('ms per image', lambda args: 1e3 / args.batch),
    forward=('ms per image', lambda args: 1e3 / args.batch),
    memory=('MiB', lambda args: 2**-20),
    resolution=('us per pixel', lambda args: 1e6),
)


# ---- results ----


def describe_machine(args: Namespace) -> dict:
    """Return what results depend on."""
    cuda = torch.device(args.device).type == 'cuda'
    commit = subprocess.run(['git', '-C', ROOT, 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True)
    return dict(
        date=time.strftime('%Y-%m-%d'),
        device=torch.cuda.get_device_name() if cuda else f'{platform.machine()}, {torch.get_num_threads()} threads',
        python=platform.python_version(),
        torch=torch.__version__,
        coma_mm=version('coma_mm'),
        commit=commit.stdout.strip() or None,
        settings={key: value for key, value in vars(args).items() if key not in ('suites', 'only', 'json')},
    )


def print_table(suite: str, results: dict[str, list[float]], args: Namespace) -> None:
    """Print a table in markdown."""
    unit, scale = UNITS[suite][0], UNITS[suite][1](args)
    reference = median(next(iter(results.values())))
    print(f'\n| {suite} | {unit}, median (min-max) | ratio |\n|---|---|---|')
    for name, values in results.items():
        low, middle, high = (value * scale for value in (min(values), median(values), max(values)))
        spread = f' ({low:.4g}-{high:.4g})' if len(values) > 1 else ''
        print(f'| {name} | {middle:.4g}{spread} | {median(values) / reference:.3f} |', flush=True)


def main() -> None:
    """Measure."""
    args = parse_args()
    init_default_scope('mmpretrain')
    results = dict(machine=describe_machine(args))
    print(', '.join(f'{key} {value}' for key, value in results['machine'].items() if key != 'settings'))
    for suite in args.suites:
        results[suite] = SUITES[suite](args)
        print_table(suite, results[suite], args)
        if args.json:
            Path(args.json).write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    try:
        main()
    except ValueError as error:
        sys.exit(f'error: {error}')
