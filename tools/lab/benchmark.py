#!/usr/bin/env python
"""Time this package against other models: every model takes its turn in each round of one run."""

import json
import multiprocessing.pool
import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

import _lab
import torch
from benchmarks.downstream import (
    LANDSCAPE,
    NETWORKS,
    PEERS,
    build_backbone,
    make_backbone_forward,
    make_network_forward,
    make_network_step,
)
from benchmarks.timing import (
    Table,
    describe_machine,
    find_version,
    is_cuda,
    measure_memory,
    measure_peaks,
    own_time,
    run_interleaved,
)
from benchmarks.workloads import (
    ATTENTION,
    BACKBONES,
    DTYPES,
    EVALUATION,
    LOADED,
    MAE_VIT_B,
    PRETRAINING,
    dataset_of,
    forward,
    make_decoding,
    make_forward,
    make_loading,
    make_step,
    save_bundled_photos,
    stock_config,
)
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from coma_mm.cli import types
from coma_mm.cli.parser import ArgumentParser
from coma_mm.datasets import ImageFolder
from coma_mm.datasets.listings import SETTLED, load_listings, save_listings
from coma_mm.engine import KNNHook
from coma_mm.evaluation import NearestNeighbours
from coma_mm.evaluation.flops import count_flops
from coma_mm.models import DyViT, ViTDecoder
from coma_mm.trial import forget_peak, peak_so_far
from coma_mm.utils.environment import keep_memory
from coma_mm.utils.files import resource_dir, write_whole
from coma_mm.utils.text import three_digits


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(description=__doc__, epilog='The first row of a table is what ratios refer to.')
    parser.add_argument('suites', nargs='+', choices=SUITES, metavar='SUITE', help=', '.join(SUITES))
    parser.add_argument(
        '--only', nargs='+', type=types.text, metavar='NAME', help='rows whose names contain one of these'
    )
    parser.add_argument(
        '--device', type=types.device, default='cuda' if torch.cuda.is_available() else 'cpu', help='(%(default)s)'
    )
    parser.add_argument('--precision', choices=DTYPES, default='fp32', help='of autocast (%(default)s)')
    parser.add_argument('--compile', action='store_true', help='torch.compile: ours by block, all others as a whole')
    parser.add_argument('--batch', type=types.batch_size, default=8, help='images (%(default)s)')
    parser.add_argument('--size', type=types.image_size, default=224, help='side of the images in pixels (%(default)s)')
    parser.add_argument(
        '--data',
        type=types.folder,
        metavar='FOLDER',
        help='JPEGs for the suite data (default: bundled photos, 500 x 375); where folder and start may make files',
    )
    parser.add_argument(
        '--rounds', type=types.whole(1, 10_000), default=9, help='rounds that count; one more warms up (%(default)s)'
    )
    parser.add_argument(
        '--json', type=types.output_file(), metavar='OUT', help='write results, machine and versions to this file'
    )
    _lab.add_force(parser)
    args = parser.parse_args()
    _lab.check_results(args.json, '--json', args.force)
    return args


def choose(rows: dict, args: Namespace) -> dict:
    """Return the rows asked for, but for those that need timm where it is missing."""
    chosen = {name: build for name, build in rows.items() if not args.only or any(part in name for part in args.only)}
    for name in [name for name in chosen if 'timm' in name and not find_version('timm')]:
        print(f'left out {name}: pip install timm')
        del chosen[name]
    if not chosen:
        raise ValueError(f'no row has one of {args.only} in its name; there are: {", ".join(rows)}')
    return chosen


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
    calls: dict[str, Callable[[], object]] = {}
    columns: dict[str, dict[str, float]] = {'parameters (M)': {}, 'GMACs': {}}
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
    ours = Config.fromfile(resource_dir('configs') / 'pretrain/coma_dyvit-b_in1k.py').train_dataloader.dataset.pipeline
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.data) if args.data else save_bundled_photos(Path(scratch, 'photos'))
        rows: dict[str, Callable[[], Callable[[], object]]] = {}
        rows['MAE (mmpretrain)'] = partial(make_loading, dataset_of('ImageFolder', folder, stock))
        rows['CoMA'] = partial(make_loading, dataset_of('ImageFolder', folder, ours))
        for name, options in (('CoMA, shards', ()), ('CoMA, shards of 256 px', ('--short-side', '256'))):
            shards = Path(scratch, name)
            command = [sys.executable, resource_dir('tools') / 'make_shards.py', folder, shards, *options]
            subprocess.run(command, check=True, capture_output=True)
            rows[name] = partial(make_loading, dataset_of('ImageShards', shards, ours))
        rows['decoding alone'] = partial(make_decoding, folder)
        calls = {name: make() for name, make in choose(rows, args).items()}
        table = Table('ms per image and core', run_interleaved(calls, args, 1e3 / LOADED))
    torch.set_num_threads(threads)
    table.columns['images per second and core'] = {name: 1e3 / median(values) for name, values in table.rows.items()}
    return dict(data=table)


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


LISTED = {
    f'{kind} of {millions} million{again}': millions * 10**6
    for millions in (1, 10)
    for kind, again in (('folder', ''), ('folder', ', next start'), ('list', ''))
}


def run_folder(args: Namespace) -> dict[str, Table]:
    """Open many images as a data set, each time in a fresh process: folders of hard links, and lists of paths.

    The next start reads the listings that a run has kept; see ``coma_mm.datasets.listings``.
    """
    table = Table('s', {}, {'peak memory (MB)': {}})
    with tempfile.TemporaryDirectory(dir=args.data) as scratch:
        for name, count in choose(LISTED, args).items():
            place = Path(scratch, name.partition(',')[0].replace(' ', '_'))
            if name.startswith('list'):
                place = place.with_suffix('.txt')
                _list_images(place, count)
            elif not place.exists():
                _link_images(place, count)
                time.sleep(2 * SETTLED / 1e9)
            run = Path(scratch, f'run_{place.name}') if name.startswith('folder') else None
            seconds, peaks = [], []
            for _ in range(args.rounds):
                with multiprocessing.get_context('spawn').Pool(1) as pool:
                    spent, peak = pool.apply(_open_images, (str(place), run, 'next start' in name))
                seconds.append(spent)
                peaks.append(peak)
            table.rows[name], table.columns['peak memory (MB)'][name] = seconds, max(peaks) / 1e6
    return dict(folder=table)


def _link_images(folder: Path, count: int) -> None:
    """Make a folder of hard links to one image, 1,000 in each of its sub-folders."""
    folder.mkdir()
    image = folder / 'image.jpg'
    image.write_bytes(b'')
    for number in range(count):
        place = folder / f'{number // 1000:05}'
        if number % 1000 == 0:
            place.mkdir()
        if number % 50_000 == 0:  # a file system allows some ten thousand links to a file
            image = place / 'image.jpg'
            image.write_bytes(b'')
        else:
            os.link(image, place / f'photo_{number:08}.jpg')


def _list_images(path: Path, count: int) -> None:
    """Write a list of paths, of which the first is there."""
    (path.parent / 'photos_00000').mkdir(exist_ok=True)
    (path.parent / 'photos_00000/photo_00000000.jpg').touch()
    with path.open('w') as file:
        file.writelines(f'photos_{number // 1000:05}/photo_{number:08}.jpg\n' for number in range(count))


def _open_images(place: str, run: Path | None, is_next: bool) -> tuple[float, int]:
    """Return the seconds that opening a data set takes, and what that adds to the memory at most."""
    before, start = forget_peak(False), time.perf_counter()
    if run is not None and is_next:
        load_listings(run)
    dataset = ImageFolder(place)
    seconds = time.perf_counter() - start
    assert len(dataset) >= 10**6
    peak = peak_so_far(False) - before
    if run is not None:
        save_listings(run)
    return seconds, peak


def run_backbones(args: Namespace) -> dict[str, Table]:
    """Time backbones alone, four outputs, at the sizes of classifiers, segmentors and detectors."""
    names = list(choose(PEERS, args))
    weights = {name: sum(weight.numel() for weight in build_backbone(name).parameters()) / 1e6 for name in names}
    tables = {}
    for height, width in ((224, 224), (512, 512), LANDSCAPE):
        calls = {name: make_backbone_forward(name, (height, width), args) for name in names}
        columns = {'parameters (M)': weights}
        tables[f'backbones_{width}'] = Table('ms per image', run_interleaved(calls, args, 1e3), columns)
    return tables


def run_network(network: str, args: Namespace) -> dict[str, Table]:
    """Time a detector or a segmentor on each backbone: a forward pass, and a step of training."""
    names = list(choose(PEERS, args))
    tables = {}
    for kind, make in (('forward', make_network_forward), ('step', make_network_step)):
        calls = {name: make(network, name, args) for name in names}
        tables[f'{network.lower()}_{kind}'] = Table('s', run_interleaved(calls, args))
    return tables


def run_downstream_memory(args: Namespace) -> dict[str, Table]:
    """Measure the peak memory of a training step of Mask R-CNN and of UperNet on each backbone."""
    names = list(choose(PEERS, args))
    return {
        f'{network.lower()}_memory': Table(
            'MiB',
            measure_memory({name: partial(make_network_step, network, name, args) for name in names}, args, 2**-20),
        )
        for network in NETWORKS
    }


# What to put into the environment before torch is loaded. By default idle threads of OpenMP spin for a while.
KEPT = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000')
ENVIRONMENTS: dict[str, dict[str, str]] = {
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
    seconds: dict[str, list[float]] = {name: [] for name in choose(names, args)}
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


_step: Callable[[], None]  # of a process that _worker starts


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
    seconds: dict[str, list[float]] = {name: [] for name in choose(IMPORTS, args)}
    for number in range(args.rounds + 1):
        for name, values in seconds.items():
            before, statement = IMPORTS[name]
            code = (
                f'import time\n{before}\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)'
            )
            command = [sys.executable, '-c', code]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_lab.ROOT).stdout
            if number:
                values.append(float(printed.split()[-1]))
    return dict(imports=Table('s', seconds))


# Words after `coma-mm pretrain`, and the line of output that is waited for.
STARTS = {
    'first line': ('photos', '.'),
    'refusal of a folder that is not there': ('nowhere', '^error'),
    'first step, 10,000 photos': ('photos', r'step 1\b'),
    'first step, DyViT-P at 64 px': ('photos --arch pico --size 64', r'step 1\b'),
}


def run_start(args: Namespace) -> dict[str, Table]:
    """Time what `coma-mm pretrain` takes to speak, to refuse and to show its first step, each in a fresh process."""
    seconds: dict[str, list[float]] = {name: [] for name in choose(STARTS, args)}
    with tempfile.TemporaryDirectory(dir=args.data) as scratch:
        few = sorted(save_bundled_photos(Path(scratch, 'few')).iterdir())
        Path(scratch, 'photos').mkdir()
        for number in range(10_000):
            os.link(few[number % len(few)], Path(scratch, 'photos', f'{number}.jpg'))
        for number in range(args.rounds + 1):
            for name, values in seconds.items():
                words, pattern = STARTS[name]
                command = [sys.executable, '-m', 'coma_mm', 'pretrain', *words.split(), '--out', f'run{number}{name}']
                spent = _seconds_until(command, pattern, scratch)
                if number:
                    values.append(spent)
    return dict(start=Table('s', seconds))


def _seconds_until(command: list[str], pattern: str, folder: str) -> float:
    """Return how long a command takes to print a line; end it then."""
    environment = os.environ | dict(PYTHONPATH=str(_lab.ROOT))
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        found = any(re.search(pattern, line) for line in process.stdout)
        seconds = time.perf_counter() - start
        process.kill()
    if not found:
        raise RuntimeError(f'{" ".join(command)} ended without a line like {pattern!r}')
    return seconds


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
    parts: dict[str, tuple[nn.Module, Tensor]] = {}
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
    calls: dict[str, Callable[[], object]] = {}
    columns: dict[str, dict[str, float]] = {'GFLOP': {}, 'MB': {}, 'least ms': {}}
    for name, (module, inputs) in choose(parts, args).items():
        calls[name] = call = partial(forward, module, (inputs,), args)
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
    rows: dict[str, list[float]] = {}
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


def run_demo(args: Namespace) -> dict[str, Table]:
    """Read what `make demo` logged in ./work_dirs; classify the digits by their pixels as well.

    Other seeds of the digits count where they lie beside the first, in work_dirs/coma_dyvit-p_digits_*.
    """
    photos, digits = (read_scalars(Path('work_dirs', f'coma_dyvit-p_{name}')) for name in ('photos', 'digits'))
    seeds = [digits, *map(read_scalars, sorted(Path('work_dirs').glob('coma_dyvit-p_digits_*')))]
    accuracies = [[line['knn/top1_k20'] for line in lines if 'knn/top1_k20' in line] for lines in seeds]
    last = [line for line in photos if 'psnr' in line][-1]
    knn = Config.fromfile(resource_dir('configs') / 'pretrain/coma_dyvit-p_digits.py').custom_hooks[-1]
    knn = KNNHook(**{key: value for key, value in knn.items() if key != 'type'})
    (pixels, labels), (others, truth) = (
        (
            torch.stack([sample['inputs'].flatten().float() for sample in part]),
            torch.tensor([sample['data_samples'].gt_label for sample in part]),
        )
        for part in knn._split()
    )
    predicted = NearestNeighbours(pixels, labels, standardize=False).predict(others, [knn.k])[:, 0]
    return dict(
        psnr=Table('dB', {'mean colour': [last['psnr_baseline']], 'reconstruction': [last['psnr']]}),
        knn=Table(
            '%',
            {
                'random weights': [first for first, *_ in accuracies],
                'weights just trained': [last for *_, last in accuracies],
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
SUITES: dict[str, Callable[[Namespace], dict[str, Table]]] = {
    'step': run_step,
    'forward': run_forward,
    'memory': run_memory,
    'data': run_data,
    'resolution': run_resolution,
    'folder': run_folder,
    'backbones': run_backbones,
    'mask-rcnn': partial(run_network, 'Mask-RCNN'),
    'upernet': partial(run_network, 'UperNet'),
    'downstream-memory': run_downstream_memory,
    'profile': run_profile,
    'imports': run_imports,
    'start': run_start,
    'openmp': run_openmp,
    'demo': run_demo,
}


# ---- results ----


def print_table(suite: str, table: Table) -> None:
    """Print a table in markdown."""
    first = next(iter(table.rows.values()))
    heads = [suite, f'{table.unit}, median (min-max)', 'ratio', *table.columns]
    print(f'\n| {" | ".join(heads)} |\n|{"---|" * len(heads)}')
    for name, values in table.rows.items():
        spread = f' ({min(values):.4g}-{max(values):.4g})' if len(values) > 1 else ''
        cells = [f'{median(values):.4g}{spread}', f'{median(a / b for a, b in zip(values, first)):.3f}']
        cells += [three_digits(column[name]) for column in table.columns.values()]
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
            write_whole(args.json, json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    _lab.run('benchmark', main)
