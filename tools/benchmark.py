#!/usr/bin/env python
"""Time this package against what else there is: every model takes its turn in each round of one run."""

import json
import multiprocessing.pool
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'coma_mm').is_dir():  # in a checkout its own code runs, whatever is installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import default_collate  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import DATASETS, MODELS, init_default_scope  # noqa: E402
from mmengine.utils import get_installed_path  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coma_mm.datasets import ComplementaryMask  # noqa: E402
from coma_mm.datasets.photos import PHOTOS, photo_path  # noqa: E402
from coma_mm.engine import KNNHook  # noqa: E402
from coma_mm.engine.flops import count_flops  # noqa: E402
from coma_mm.environment import keep_memory  # noqa: E402
from coma_mm.evaluation import NearestNeighbours  # noqa: E402
from coma_mm.models import CoMA, DyViT, ViTDecoder  # noqa: E402
from coma_mm.models.compiled import compile_blocks  # noqa: E402

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
LOADED = 64  # images of one measurement of loading
PACKAGES = ('torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'timm', 'simplejpeg', 'pillow')


@dataclass
class Table:
    """What a suite measured. Ratios are to the first row, the median of those of each round."""

    unit: str
    rows: dict[str, list[float]]  # all rounds of each
    columns: dict[str, dict[str, float]] = field(default_factory=dict)  # further numbers: column -> row -> number


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__, epilog='The first row of a table is what ratios refer to.')
    parser.add_argument('suites', nargs='+', choices=SUITES, metavar='SUITE', help=', '.join(SUITES))
    parser.add_argument('--only', nargs='+', metavar='NAME', help='rows whose names contain one of these')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='(%(default)s)')
    parser.add_argument('--precision', choices=DTYPES, default='fp32', help='of autocast (%(default)s)')
    parser.add_argument('--compile', action='store_true', help='torch.compile: ours by block, all others as a whole')
    parser.add_argument('--batch', type=int, default=8, help='images (%(default)s)')
    parser.add_argument('--size', type=int, default=224, help='side of the images in pixels (%(default)s)')
    parser.add_argument(
        '--data', metavar='FOLDER', help='JPEGs for the suite data (default: bundled photos, 500 x 375)'
    )
    parser.add_argument('--rounds', type=int, default=9, help='rounds that count; one more warms up (%(default)s)')
    parser.add_argument('--json', metavar='OUT', help='write results, machine and versions to this file')
    args = parser.parse_args()
    if args.json and not Path(args.json).absolute().parent.is_dir():
        parser.error(f'there is no folder {Path(args.json).parent}')
    if args.data and not Path(args.data).is_dir():
        parser.error(f'there is no folder {args.data}')
    return args


# ---- what is compared ----


def stock_config(path: str) -> Config:
    """Read one of mmpretrain's own configs, as shipped."""
    return Config.fromfile(Path(get_installed_path('mmpretrain')) / '.mim/configs' / path)


def stock_mae(path: str) -> tuple[nn.Module, dict]:
    """Return the model and the optimiser settings of one of mmpretrain's MAE configs."""
    cfg = stock_config(path)
    cfg.model.data_preprocessor = None
    return MODELS.build(cfg.model), {key: cfg.optim_wrapper[key] for key in ('optimizer', 'paramwise_cfg')}


def coma(backbone: dict, **evaluation) -> tuple[nn.Module, dict]:
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
# DyViT-B with other settings, to compare with.
FEWER = dict(dims=(128, 256, 512, 1024), depths=(1, 1, 12, 2), heads=(4, 8, 8, 16))
SINGLE = ((2, 4, 4, 8), (1, 1, 2, 2, 2, 2, 4, 4), None, None)
VARIANTS = {
    'DyViT-B, depths 1 1 12 2': dict(arch=FEWER),
    'DyViT-B, one window per head': dict(arch='base', windows=SINGLE),
    'DyViT-B, depths 1 1 12 2, one window per head': dict(arch=FEWER, windows=SINGLE),
}
MAE_VIT_B = 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
MAE_HIVIT_B = 'mae/mae_hivit-base-p16_8xb512-amp-coslr-400e_in1k.py'
PRETRAINING = {
    'MAE ViT-B (mmpretrain)': partial(stock_mae, MAE_VIT_B),
    'MAE ViT-B, with our optimiser': lambda: (stock_mae(MAE_VIT_B)[0], OUR_OPTIMIZER),
    'MAE HiViT-B (mmpretrain)': partial(stock_mae, MAE_HIVIT_B),
    'CoMA DyViT-T': partial(coma, dict(arch='tiny')),
    'CoMA DyViT-S': partial(coma, dict(arch='small')),
    'CoMA DyViT-B': partial(coma, BASE),
    'CoMA DyViT-B, evaluation off': partial(coma, BASE, mode='off'),
    **{f'CoMA {name}': partial(coma, settings) for name, settings in VARIANTS.items()},
}
EVALUATION = {
    'off': partial(coma, BASE, mode='off'),
    'copy every step': partial(coma, BASE, mode='copy'),
    'copy every 100 steps': partial(coma, BASE, mode='copy', interval=100),
    'ema': partial(coma, BASE, mode='ema'),
}
ATTENTION = {
    'windows only': dict(attn_window=7, global_blocks=()),
    'windows and four global blocks': dict(attn_window=7),
    'global': dict(),
}
BACKBONES = {
    'ViT-B (mmpretrain)': partial(MODELS.build, dict(type='VisionTransformer', arch='b', patch_size=16)),
    'Swin-B (mmpretrain)': partial(MODELS.build, dict(type='SwinTransformer', arch='base')),
    'HiViT-B (mmpretrain)': partial(MODELS.build, dict(type='HiViT', arch='base')),
    'Hiera-B (timm)': partial(timm_model, 'hiera_base_224'),
    'Hiera-B+ (timm)': partial(timm_model, 'hiera_base_plus_224'),
    'DyViT-T': partial(DyViT, 'tiny'),
    'DyViT-S': partial(DyViT, 'small'),
    'DyViT-B': partial(DyViT, 'base'),
    'DyViT-B, 20 of 49 units': partial(DyViT, 'base'),
    **{name: partial(DyViT, **settings) for name, settings in VARIANTS.items()},
}


# ---- how one call is made ----


def autocast(args: Namespace):
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
    samples = [None] * args.batch
    if isinstance(model, CoMA):
        transform = ComplementaryMask(input_size=args.size, unit_size=model.unit_size, ratio=model.mask_ratio)
        masks = [torch.from_numpy(transform({})['mask']) for _ in range(args.batch)]
        samples = dict(mask=torch.stack(masks).to(args.device))
    optimizer = build_optim_wrapper(model, settings).optimizer
    loss = compile_if_asked(model, model.loss, args)

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
    model.eval()  # on a line of its own: mmpretrain's backbones return nothing
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    inputs = (images,) if visible is None else (images, visible.to(args.device))
    function = compile_if_asked(model, model, args)

    @torch.no_grad()
    def forward() -> None:
        with autocast(args):
            function(*inputs)

    return forward


def make_part(module: nn.Module, x: Tensor, args: Namespace) -> Callable[[], Tensor]:
    """Return the forward pass of a part of a model, without gradient."""

    @torch.no_grad()
    def call() -> Tensor:
        with autocast(args):
            return module(x)

    return call


def make_loading(dataset: dict) -> Callable[[], None]:
    """Return the loading of the next batch of 64 images, collated."""
    dataset = DATASETS.build(dataset)
    numbers = cycle(range(len(dataset)))
    return lambda: default_collate([dataset[next(numbers)] for _ in range(LOADED)])


def make_decoding(folder: Path) -> Callable[[], None]:
    """Return the decoding of the next 64 files and nothing else."""
    from simplejpeg import decode_jpeg

    files = cycle([path.read_bytes() for path in sorted(folder.rglob('*')) if path.suffix.lower() in ('.jpg', '.jpeg')])
    return lambda: [decode_jpeg(next(files), 'RGB') for _ in range(LOADED)]


# ---- measuring ----


def is_cuda(args: Namespace) -> bool:
    """Say whether the device is one that works on while we go on."""
    return torch.device(args.device).type == 'cuda'


def run_interleaved(calls: dict[str, Callable[[], None]], args: Namespace, scale: float = 1.0) -> dict:
    """Call each in turn, round after round; return seconds times ``scale`` of all rounds but the first."""
    measured = {name: [] for name in calls}
    wait = torch.cuda.synchronize if is_cuda(args) else lambda: None
    for number in range(args.rounds + 1):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if number:
                measured[name].append((time.perf_counter() - start) * scale)
    return measured


def choose(rows: dict, args: Namespace) -> dict:
    """Return the rows asked for, but for those that need timm where it is missing."""
    chosen = {name: build for name, build in rows.items() if not args.only or any(part in name for part in args.only)}
    for name in [name for name in chosen if 'timm' in name and not find_version('timm')]:
        print(f'left out {name}: pip install timm')
        del chosen[name]
    if not chosen:
        raise ValueError(f'no row has one of {args.only} in its name; there are: {", ".join(rows)}')
    return chosen


def measure_peaks(args: Namespace) -> tuple[float, float]:
    """Return what the device reaches at best: operations per second of a matrix product, bytes per second of a copy."""
    side = 8192 if is_cuda(args) else 2048
    a, b = (torch.randn(side, side, device=args.device, dtype=DTYPES[args.precision]) for _ in range(2))
    source, target = torch.randn(2, 2**28 if is_cuda(args) else 2**25, device=args.device)
    calls = dict(product=lambda: a @ b, copy=lambda: target.copy_(source))
    fastest = {name: min(seconds) for name, seconds in run_interleaved(calls, args).items()}
    return 2 * side**3 / fastest['product'], 2 * source.nbytes / fastest['copy']


def peak_bytes(make_call: Callable[[], Callable[[], None]], args: Namespace) -> int:
    """Return what two calls add to the memory of a fresh process, at most: weights, optimizer, activations."""
    init_default_scope('mmpretrain')
    if not is_cuda(args):
        Path('/proc/self/clear_refs').write_text('5')  # Linux forgets the peak so far
    before = 0 if is_cuda(args) else _resident_peak()
    call = make_call()
    call()
    call()
    return torch.cuda.max_memory_allocated() if is_cuda(args) else _resident_peak() - before


def _resident_peak() -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def measure_memory(makers: dict[str, partial], args: Namespace, scale: float) -> dict[str, list[float]]:
    """Measure peak bytes times ``scale``, each in a process of its own."""
    peaks = {}
    for name, make_call in makers.items():
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            peaks[name] = [pool.apply(peak_bytes, (make_call, args)) * scale]
    return peaks


# ---- suites ----


def run_step(args: Namespace) -> dict[str, Table]:
    """Time a step of pre-training."""
    builders = choose(PRETRAINING, args)
    table = Table(
        'ms per image',
        run_interleaved({name: make_step(build, args) for name, build in builders.items()}, args, 1e3 / args.batch),
    )
    single = Namespace(**{**vars(args), 'batch': 1, 'compile': False})
    flops = {name: count_flops(make_step(build, single)) for name, build in builders.items()}
    speed = {name: count / median(table.rows[name]) * 1e3 for name, count in flops.items()}
    peak, _ = measure_peaks(args)
    table.columns = {
        'GFLOP per image': {name: count / 1e9 for name, count in flops.items()},
        'TFLOP/s': {name: value / 1e12 for name, value in speed.items()},
        f'share of {peak / 1e12:.3g} TFLOP/s': {name: value / peak for name, value in speed.items()},
    }
    return dict(step=table)


def run_forward(args: Namespace) -> dict[str, Table]:
    """Time a forward pass of whole images, and of 20 of 49 units."""
    calls, columns = {}, {'parameters (M)': {}, 'GMACs': {}}
    single = Namespace(**{**vars(args), 'batch': 1, 'compile': False})
    for name, build in choose(BACKBONES, args).items():
        visible = torch.stack([torch.randperm(49)[:20] for _ in range(args.batch)]) if 'units' in name else None
        if visible is not None and args.size != 224:
            raise ValueError('20 of 49 units are those of 224 px; leave --size, or choose rows with --only')
        columns['parameters (M)'][name] = sum(weight.numel() for weight in build().parameters()) / 1e6
        columns['GMACs'][name] = (
            count_flops(make_forward(build, single, None if visible is None else visible[:1])) / 2e9
        )
        calls[name] = make_forward(build, args, visible)
    return dict(forward=Table('ms per image', run_interleaved(calls, args, 1e3 / args.batch), columns))


def run_memory(args: Namespace) -> dict[str, Table]:
    """Measure the peak memory of a step with each kind of evaluation branch."""
    makers = {name: partial(make_step, build, args) for name, build in choose(EVALUATION, args).items()}
    return dict(memory=Table('MiB', measure_memory(makers, args, 2**-20)))


def run_data(args: Namespace) -> dict[str, Table]:
    """Time reading and augmenting images in one process with one thread, as each loading worker does."""
    import cv2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    stock = stock_config(MAE_VIT_B).train_dataloader.dataset.pipeline
    ours = Config.fromfile(ROOT / 'configs/pretrain/coma_dyvit-b_in1k.py').train_dataloader.dataset.pipeline
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.data) if args.data else save_bundled_photos(Path(scratch, 'photos'))
        rows = {'MAE (mmpretrain)': partial(make_loading, _dataset('ImageFolder', folder, stock))}
        rows['CoMA'] = partial(make_loading, _dataset('ImageFolder', folder, ours))
        for name, options in (('CoMA, shards', ()), ('CoMA, shards of 256 px', ('--short-side', '256'))):
            shards = Path(scratch, name)
            command = [sys.executable, ROOT / 'tools/make_shards.py', folder, shards, *options]
            subprocess.run(command, check=True, capture_output=True)
            rows[name] = partial(make_loading, _dataset('ImageShards', shards, ours))
        rows['decoding alone'] = partial(make_decoding, folder)
        calls = {name: make() for name, make in choose(rows, args).items()}
        table = Table('ms per image and core', run_interleaved(calls, args, 1e3 / LOADED))
    torch.set_num_threads(threads)
    table.columns['images per second and core'] = {name: 1e3 / median(values) for name, values in table.rows.items()}
    return dict(data=table)


def _dataset(kind: str, folder: Path, pipeline: list) -> dict:
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


def run_resolution(args: Namespace) -> dict[str, Table]:
    """Measure a forward pass with all four outputs per pixel of larger and larger images, 4 megapixels a batch."""
    makers = {}
    for kind, settings in ATTENTION.items():
        for size in (224, 512, 1024, 2048):
            if kind == 'global' and size > 1024 and not is_cuda(args):  # minutes
                continue
            same = Namespace(**{**vars(args), 'size': size, 'batch': 2048**2 // size**2})
            build = partial(DyViT, 'tiny', out_indices=(0, 1, 2, 3), **settings)
            makers[f'DyViT-T, {kind}, {size} px'] = partial(make_forward, build, same)
    makers = choose(makers, args)
    calls = {name: make_call() for name, make_call in makers.items()}
    return dict(
        resolution=Table('us per pixel', run_interleaved(calls, args, 1e6 / 2048**2)),
        resolution_memory=Table('bytes per pixel', measure_memory(makers, args, 2048**-2)),
    )


# What to put into the environment before torch is loaded. By default idle threads of OpenMP spin for a while.
KEPT = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000')
ENVIRONMENTS = {
    'as it is': {},
    'memory kept': KEPT,
    'passive waiting': dict(OMP_WAIT_POLICY='PASSIVE'),
    'memory kept and passive waiting': dict(OMP_WAIT_POLICY='PASSIVE', **KEPT),
}
NEIGHBOURS = {'alone': 0, 'beside a busy process': 1}


def run_openmp(args: Namespace) -> dict[str, Table]:
    """Time a step on the CPU with other settings of allocator and OpenMP, alone and while another process computes."""
    args = Namespace(**{**vars(args), 'device': 'cpu'})
    names = {f'{setting}, {neighbour}': None for neighbour in NEIGHBOURS for setting in ENVIRONMENTS}
    seconds = {name: [] for name in choose(names, args)}
    with ExitStack() as stack:
        workers = {}
        for setting in dict.fromkeys(name.rsplit(', ', 1)[0] for name in seconds):
            workers[setting] = stack.enter_context(_worker(args, ENVIRONMENTS[setting]))
            workers[setting].apply(_time_step)
        for _ in range(args.rounds):
            for name, values in seconds.items():
                setting, neighbour = name.rsplit(', ', 1)
                busy = [subprocess.Popen([sys.executable, '-c', BUSY])] * NEIGHBOURS[neighbour]
                values.append(workers[setting].apply(_time_step) * 1e3 / args.batch)
                for process in busy:
                    process.kill()
                    process.wait()
    return dict(openmp=Table('ms per image', seconds))


# Ends with its parent, however that ends.
BUSY = 'import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass'


def _worker(args: Namespace, variables: dict[str, str]) -> multiprocessing.pool.Pool:
    """Return a process with these environment variables and a step ready to be timed."""
    before = os.environ.copy()
    os.environ.update(variables)
    try:
        return multiprocessing.get_context('spawn').Pool(1, _prepare_step, [args])
    finally:
        os.environ.clear()
        os.environ.update(before)


def _prepare_step(args: Namespace) -> None:
    global _step
    init_default_scope('mmpretrain')
    _step = make_step(PRETRAINING['CoMA DyViT-T'], args)


def _time_step() -> float:
    start = time.perf_counter()
    _step()
    return time.perf_counter() - start


IMPORTS = {
    'import coma_mm': ('pass', 'import coma_mm'),
    'import coma_mm.models, after torch and mmengine': ('import torch, mmengine', 'import coma_mm.models'),
}


def run_imports(args: Namespace) -> dict[str, Table]:
    """Time imports, each time in a fresh interpreter."""
    seconds = {name: [] for name in choose(IMPORTS, args)}
    for number in range(args.rounds + 1):
        for name, values in seconds.items():
            before, statement = IMPORTS[name]
            code = (
                f'import time\n{before}\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)'
            )
            command = [sys.executable, '-c', code]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
            if number:
                values.append(float(printed.split()[-1]))
    return dict(imports=Table('s', seconds))


def run_profile(args: Namespace) -> dict[str, Table]:
    """Time the parts of DyViT-B and of the decoder alone, beside the least that matrix products and memory allow.

    The least is the operations at the measured peak, or the bytes of input, weights and output at the measured
    bandwidth, whichever takes longer: what no implementation of this part as a kernel of its own can beat.
    """
    peak, bandwidth = measure_peaks(args)
    model = DyViT('base', out_indices=(0, 1, 2, 3)).to(args.device)
    decoder = ViTDecoder(1024, 3072).to(args.device)
    blocks = {
        f'stage {number}': (stage.blocks[0], 64 >> 2 * (number - 1)) for number, stage in enumerate(model.stages, 1)
    }
    blocks['decoder'] = (decoder.blocks[0], 1)
    parts = {}
    for place, (block, tokens) in blocks.items():
        linear, activation, out = block.mlp
        x = torch.randn(args.batch, (args.size // 32) ** 2 * tokens, linear.in_features, device=args.device)
        hidden = torch.randn(*x.shape[:2], linear.out_features, device=args.device)
        parts |= {
            f'{place}, LayerNorm': (block.norm1, x),
            f'{place}, attention': (block.attn, x),
            f'{place}, first linear': (linear, x),
            f'{place}, GELU': (activation, hidden),
            f'{place}, second linear': (out, hidden),
        }
    calls, columns = {}, {'GFLOP': {}, 'MB': {}, 'least ms': {}}
    for name, (module, inputs) in choose(parts, args).items():
        calls[name] = call = make_part(module, inputs, args)
        flops = count_flops(call)
        moved = inputs.nbytes + call().nbytes + sum(weight.nbytes for weight in module.parameters())
        columns['GFLOP'][name], columns['MB'][name] = flops / 1e9, moved / 1e6
        columns['least ms'][name] = 1e3 * max(flops / peak, moved / bandwidth)
    tables = dict(profile=Table('ms', run_interleaved(calls, args, 1e3), columns))
    if not args.only:
        tables['operations'] = profile_steps(args)
    return tables


OPERATIONS = {  # names of torch's kernels
    'matrix products': r'mm|addmm|bmm|baddbmm|convolution.*|mkldnn_.*|cudnn_.*',
    'attention': r'.*(flash|efficient)_attention.*|_softmax.*',
    'AdamW': r'_fused_adamw?_|_foreach_.*',
    'GELU': r'gelu.*',
    'copies': r'copy_|cat|gather|index.*|clone|where|_to_copy|scatter.*|constant_pad_nd',
    'LayerNorm': r'native_layer_norm.*',
    'sums and residuals': r'add|add_|sum|mean|mul|mul_',
    'all else': r'.*',
}
PROFILED = {'MAE ViT-B': 'MAE ViT-B, with our optimiser', 'CoMA DyViT-B': 'CoMA DyViT-B'}


def profile_steps(args: Namespace) -> Table:
    """Add up the time of the operations of a step by kind, forward and backward together."""
    rows = {}
    for model, name in PROFILED.items():
        step = make_step(PRETRAINING[name], args)
        step()
        with torch.profiler.profile() as profiler:
            step()
        kinds = dict.fromkeys(OPERATIONS, 0.0)
        for event in profiler.key_averages():
            if event.key.startswith('aten::'):
                kind = next(kind for kind, names in OPERATIONS.items() if re.fullmatch(names, event.key[6:]))
                kinds[kind] += own_time(event, args) / 1e3
        rows |= {f'{kind}, {model}': [value] for kind, value in kinds.items()}
    return Table('ms', rows)


def own_time(event, args: Namespace) -> float:
    """Return the microseconds of an operation without those that it calls, on the device that computes."""
    if not is_cuda(args):
        return event.self_cpu_time_total
    return getattr(event, 'self_device_time_total', None) or getattr(event, 'self_cuda_time_total', 0.0)  # torch < 2.4


def run_demo(args: Namespace) -> dict[str, Table]:
    """Read what `make demo` logged in ./work_dirs; classify the digits by their pixels as well."""
    photos, digits = (read_scalars(Path('work_dirs', f'coma_dyvit-p_{name}')) for name in ('photos', 'digits'))
    accuracies = [line['knn/top1_k20'] for line in digits if 'knn/top1_k20' in line]
    last = [line for line in photos if 'psnr' in line][-1]
    knn = Config.fromfile(ROOT / 'configs/pretrain/coma_dyvit-p_digits.py').custom_hooks[-1]
    knn = KNNHook(**{key: value for key, value in knn.items() if key != 'type'})
    (pixels, labels), (others, truth) = (
        (
            torch.stack([sample['inputs'].flatten().float() for sample in part]),
            torch.tensor([sample['data_samples'].gt_label for sample in part]),
        )
        for part in knn._split()
    )
    predicted = NearestNeighbours(pixels, labels, knn.temperature, standardize=False).predict(others, [knn.k])[:, 0]
    return dict(
        psnr=Table('dB', {'mean colour': [last['psnr_baseline']], 'reconstruction': [last['psnr']]}),
        knn=Table(
            '%',
            {
                'random weights': accuracies[:1],
                'weights just trained': accuracies[-1:],
                'pixels': [100 * (predicted == truth).double().mean().item()],
            },
        ),
    )


def read_scalars(work_dir: Path) -> list[dict]:
    """Read what the newest run in a work dir logged."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not files:
        raise ValueError(f'{work_dir} has no log of a run; call `make demo` first')
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


# Each returns tables by name.
SUITES = {
    'step': run_step,
    'forward': run_forward,
    'memory': run_memory,
    'data': run_data,
    'resolution': run_resolution,
    'profile': run_profile,
    'imports': run_imports,
    'openmp': run_openmp,
    'demo': run_demo,
}


# ---- results ----


def describe_machine(args: Namespace) -> dict:
    """Return what results depend on."""
    commit = subprocess.run(
        ['git', '-C', ROOT, 'describe', '--always', '--dirty'], capture_output=True, text=True
    ).stdout.strip()
    return dict(
        date=time.strftime('%Y-%m-%d'),
        device=torch.cuda.get_device_name() if is_cuda(args) else f'{cpu_name()}, {torch.get_num_threads()} threads',
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: find_version(name) for name in PACKAGES},
        coma_mm=version('coma_mm'),
        commit=commit or None,
        settings={key: value for key, value in vars(args).items() if key not in ('suites', 'only', 'json', 'data')},
    )


def find_version(name: str) -> str | None:
    """Return the version of a package under its own name or that of its maintained fork."""
    for distribution in (name, f'onedl-{name}'):
        try:
            return f'{version(distribution)}' + (' (onedl)' if distribution != name else '')
        except PackageNotFoundError:
            pass
    return None


def cpu_name() -> str:
    """Return the model of the processor where Linux tells it."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else ()
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.machine())


def print_table(suite: str, table: Table) -> None:
    """Print a table in markdown."""
    first = next(iter(table.rows.values()))
    heads = [suite, f'{table.unit}, median (min-max)', 'ratio', *table.columns]
    print(f'\n| {" | ".join(heads)} |\n|{"---|" * len(heads)}')
    for name, values in table.rows.items():
        spread = f' ({min(values):.4g}-{max(values):.4g})' if len(values) > 1 else ''
        cells = [f'{median(values):.4g}{spread}', f'{median(a / b for a, b in zip(values, first)):.3f}']
        cells += [f'{column[name]:.3g}' for column in table.columns.values()]
        print(f'| {name} | {" | ".join(cells)} |', flush=True)


def main() -> None:
    """Measure."""
    args = parse_args()
    keep_memory()
    init_default_scope('mmpretrain')
    results = dict(machine=describe_machine(args), tables={})
    print(', '.join(f'{key} {value}' for key, value in results['machine'].items() if key != 'settings'))
    for suite in args.suites:
        for name, table in SUITES[suite](args).items():
            results['tables'][name] = asdict(table)
            print_table(name, table)
        if is_cuda(args):
            torch.cuda.empty_cache()  # or processes of the next suite find no memory
        if args.json:
            Path(args.json).write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    try:
        main()
    except ValueError as error:
        sys.exit(f'error: {error}')
