#!/usr/bin/env python
"""Check on a GPU what the tests on CPUs cannot show, then run the benchmarks; end with one page of text.

All further options are those of benchmark.py. Without a GPU the tool says so and does nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import _lab
import numpy as np
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from PIL import Image
from torch import Tensor, nn

from coma_mm.cli import types
from coma_mm.cli.parser import ArgumentParser
from coma_mm.engine.runner.build import build_runner, prepare, require_matching_checkpoint
from coma_mm.masking import num_hidden
from coma_mm.models import CoMA, DyViT
from coma_mm.utils.files import resource_dir, write_whole

CONFIGS = resource_dir('configs') / 'pretrain'
SHARDED, WHOLE = 'coma_dyvit-l_fsdp_in1k.py', 'coma_dyvit-l_in1k.py'
HOST_READS = ('aten::_local_scalar_dense', 'aten::nonzero', 'aten::is_nonzero')


class LeftOutError(Exception):
    """A check that this machine has not the means for."""


# ---- what is checked on ----


def build(arch: str = 'pico', mode: str = 'copy', compile: bool | dict = False) -> CoMA:
    """Return a model for pre-training, small for ``pico``, the same at each call."""
    torch.manual_seed(0)
    small = arch == 'pico'
    return CoMA(
        dict(type='coma_mm.DyViT', arch=arch, **(dict(img_size=64, patch_size=2) if small else {})),
        dict(type='coma_mm.ViTDecoder', **(dict(dim=64, depth=2, num_heads=4) if small else {})),
        evaluation=dict(mode=mode),
        compile=compile,
    )


def make_batch(device: str, side: int = 64, unit: int = 16, count: int = 4) -> dict:
    """Return images and masks on the device, the same at each call."""
    generator = torch.Generator().manual_seed(1)
    units = (side // unit) ** 2
    order = torch.rand(count, units, generator=generator).argsort(1)
    hidden = num_hidden(units, 0.6)
    mask, keep = order.split((hidden, units - hidden), 1)
    images = torch.randn(count, 3, side, side, generator=generator).to(device)
    return dict(inputs=images, data_samples=dict(ids_keep=keep.to(device), ids_mask=mask.to(device)))


def make_wrapper(model: nn.Module, kind: str = 'coma_mm.AutocastOptimWrapper', **settings: Any) -> OptimWrapper:
    """Return the optimiser of the shipped configs."""
    if kind == 'coma_mm.AutocastOptimWrapper' and not torch.cuda.is_available():
        settings.setdefault('dtype', 'bfloat16')  # in the tests, on any CPU
    return build_optim_wrapper(
        model,
        dict(
            type=kind,
            optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
            constructor='coma_mm.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=1.0),
            **settings,
        ),
    )


def train(device: str, wrapper: dict | None = None, steps: int = 4, **settings: Any) -> list[float]:
    """Return the losses of some steps on one batch."""
    model, batch = build(**settings).to(device), make_batch(device)
    wrapper = make_wrapper(model, **(wrapper or {}))
    return [model.train_step(batch, wrapper)['loss'].item() for _ in range(steps)]


def compare(losses: list[float], reference: list[float], tolerance: float) -> str:
    """Demand that losses start where they should, and fall."""
    error = abs(losses[0] / reference[0] - 1)
    assert error < tolerance, f'the first loss is {losses[0]:.4f}, and {reference[0]:.4f} in fp32'
    assert losses[-1] < losses[0], f'the loss does not fall: {losses}'
    return f'loss {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps; the first {error:.1e} from that of fp32'


# ---- checks: each returns what was found, or raises ----


def check_bf16(device: str, scratch: Path) -> str:
    """Steps under ``AutocastOptimWrapper``: bf16 where the GPU has it."""
    return compare(train(device), train(device, dict(kind='OptimWrapper')), 0.02)


def check_fp16(device: str, scratch: Path) -> str:
    """Steps in fp16 with a scaled loss."""
    if device == 'cpu':
        raise LeftOutError('mmengine has fp16 for GPUs only')
    wrapper = dict(kind='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
    return compare(train(device, wrapper, steps=8), train(device, dict(kind='OptimWrapper')), 0.02)


def check_compiled(device: str, scratch: Path) -> str:
    """Steps with ``torch.compile``; on the CPU without its code generator, which takes a minute there."""
    options = dict(backend='aot_eager') if device == 'cpu' else True
    fp32 = dict(kind='OptimWrapper')
    return compare(train(device, fp32, compile=options), train(device, fp32), 1e-3)


def check_synchronisation(device: str, scratch: Path) -> str:
    """The host waits for the device nowhere in a step."""
    model, batch = build().to(device), make_batch(device)
    wrapper = make_wrapper(model)
    for _ in range(2):
        model.train_step(batch, wrapper)
    with torch.profiler.profile() as profiler:
        sum(value for name, value in model.loss(**batch).items() if 'loss' in name).backward()
    reads = {event.key: event.count for event in profiler.key_averages() if event.key in HOST_READS}
    assert not reads, f'forward and backward read values of the device: {reads}'
    if device == 'cpu':
        return 'forward and backward read no value back'
    with _synchronisation_forbidden():
        model.train_step(batch, wrapper)
    return 'none in a step, and forward and backward read no value back'


@contextmanager
def _synchronisation_forbidden() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def check_mmcv_ops(device: str, scratch: Path) -> str:
    """RoIAlign and deformable convolution get fp32 maps of a backbone and neck that compute in bf16."""
    try:
        from mmcv.ops import ModulatedDeformConv2dPack, RoIAlign
    except ImportError:
        if device == 'cpu':
            raise
        raise LeftOutError('mmcv has no ops') from None

    class Detector(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = DyViT('pico', img_size=64, patch_size=2, out_indices=(0,))
            self.neck = nn.Conv2d(32, 16, 1)
            self.pool = RoIAlign(7, spatial_scale=0.5)
            self.head = ModulatedDeformConv2dPack(16, 8, 3)

        def forward(
            self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'loss'
        ) -> dict[str, Tensor]:
            self.map = self.neck(self.backbone(inputs)[0])
            boxes = torch.tensor([[0, 3, 5, 40, 50], [1, 10, 8, 60, 30]], device=inputs.device).float()
            return dict(loss=self.head(self.pool(self.map, boxes)).square().mean() + self.map.square().mean())

    found = []
    for wrapper in (dict(kind='OptimWrapper'), dict(modules=('backbone', 'neck'))):
        torch.manual_seed(0)
        model = Detector().to(device)
        inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(device)
        try:
            loss = model.train_step(dict(inputs=inputs), make_wrapper(model, **wrapper))['loss'].item()
        except RuntimeError as error:
            if device != 'cpu' and 'implementation for device' in str(error):
                raise LeftOutError('mmcv has no ops for GPUs') from None
            raise
        assert model.map.dtype == torch.float32
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        found.append((model.map.detach(), loss))
    (fp32_map, fp32), (map_, loss) = found
    difference = ((map_ - fp32_map).norm() / fp32_map.norm()).item()
    assert 0 < difference < 0.03, f'maps are {difference:.1e} from those of fp32'
    assert abs(loss / fp32 - 1) < 0.05, f'the loss is {loss:.4f}, and {fp32:.4f} in fp32'
    return f'loss {loss:.4f}, in fp32 {fp32:.4f}; maps {difference:.1e} from those of fp32'


def check_processes(device: str, scratch: Path) -> str:
    """DDP, SyncBN and FSDP in two processes, or in one where there is one GPU."""
    ranks = 1 if device == 'cpu' else min(2, torch.cuda.device_count())
    save_images(scratch)
    torch.multiprocessing.spawn(_work_in_rank, (ranks, device, scratch), nprocs=ranks)
    where = f'{ranks} process{"es" * (ranks > 1)}, {_backend(device)}'
    left_out = [] if device != 'cpu' else ['SyncBN, which torch has for GPUs only']
    if not _has_fsdp(device):
        left_out.append(f'FSDP, which torch {torch.__version__} has for GPUs only')
        return f'{where}: DDP; left out {"; ".join(left_out)}'
    other, again = distance(scratch, 'sharded', 'whole'), distance(scratch, 'sharded', 'sharded_resumed')
    assert max(other, again) < 0.1, f'FSDP ends {other:.1e} of the way from a run without it, {again:.1e} when resumed'
    found = f'{where}: FSDP {other:.1e} of the way from a run without it, {again:.1e} when resumed; DDP'
    return f'{found}; left out {left_out[0]}' if left_out else f'{found}; SyncBN'


def _backend(device: str) -> str:
    return 'gloo' if device == 'cpu' else 'nccl'


def _has_fsdp(device: str) -> bool:
    return device != 'cpu' or torch.__version__ >= '2.2'


def _work_in_rank(number: int, ranks: int, device: str, scratch: Path) -> None:
    os.environ['LOCAL_RANK'] = str(number)
    if device == 'cpu':
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(number)
        device = f'cuda:{number}'
    torch.distributed.init_process_group(
        _backend(device), init_method=f'file://{scratch}/rendezvous', rank=number, world_size=ranks
    )
    _compare_with_joined_batch(number, ranks, device)
    if _has_fsdp(device):
        run(WHOLE, scratch, 'whole', 'pytorch')
        run(SHARDED, scratch, 'sharded', 'pytorch')
        run(SHARDED, scratch, 'sharded_resumed', 'pytorch', resume=scratch / 'sharded/epoch_1.pth')
    torch.distributed.destroy_process_group()


def _compare_with_joined_batch(number: int, ranks: int, device: str) -> None:
    """Demand of DDP the steps of one process on all images, of SyncBN their common statistics."""
    whole = make_batch(device)
    samples = {name: ids.chunk(ranks)[number] for name, ids in whole['data_samples'].items()}
    part = dict(inputs=whole['inputs'].chunk(ranks)[number], data_samples=samples)
    one = build().to(device)
    many = MMDistributedDataParallel(build().to(device), device_ids=None if device == 'cpu' else [number])
    for model, batch in ((one, whole), (many, part)):
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(2):
            model.train_step(batch, wrapper)
    for (name, expected), value in zip(one.named_parameters(), many.module.parameters()):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5, msg=name)
    if device != 'cpu':
        norm = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(3)).to(device)
        expected = nn.BatchNorm2d(3).to(device)(whole['inputs']).chunk(ranks)[number]
        torch.testing.assert_close(norm(part['inputs']), expected, rtol=1e-3, atol=1e-4)


def check_resume(device: str, scratch: Path) -> str:
    """A run that was interrupted ends where the uninterrupted one does."""
    save_images(scratch)
    run(WHOLE, scratch, 'run')
    run(WHOLE, scratch, 'resumed', resume=scratch / 'run/epoch_1.pth')
    apart = distance(scratch, 'run', 'resumed')
    assert apart == 0 if device == 'cpu' else apart < 0.1, f'{apart:.1e} of the way trained apart'
    return 'equal to the bit' if not apart else f'weights {apart:.1e} of the way trained apart'


# Two epochs of two batches, small, with what resuming and sharding might disturb.
OPTIONS = {
    'model.backbone.arch': 'pico',
    'model.backbone.img_size': 64,
    'model.backbone.drop_path_rate': 0.3,
    'model.decoder.dim': 32,
    'model.decoder.depth': 2,
    'model.decoder.num_heads': 4,
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_cfg.max_epochs': 2,
    'default_hooks.checkpoint.interval': 1,
    'optim_wrapper.optimizer.lr': 0.01,
    'optim_wrapper.optimizer.eps': 0.001,  # or the first step takes the sign of gradients, that of zeros too
    'optim_wrapper.clip_grad.max_norm': 0.05,
    'custom_hooks': [dict(type='coma_mm.EpochSeedHook'), dict(type='coma_mm.StopOnNaNHook', interval=1)],
}


def save_images(scratch: Path) -> None:
    """Write images to train on."""
    (scratch / 'images/train').mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(scratch / f'images/train/{i}.png')


def run(config: str, scratch: Path, name: str, launcher: str = 'none', resume: Path | None = None) -> None:
    """Train as ``tools/train.py`` does."""
    options = OPTIONS | {'train_dataloader.dataset.data_root': str(scratch / 'images')}
    work_dir = str(scratch / name)
    config = str(CONFIGS / config)
    cfg = prepare(Namespace(config=config, work_dir=work_dir, launcher=launcher, local_rank=0, cfg_options=options))
    for step in cfg.train_dataloader.dataset.pipeline:
        step.update({key: 64 for key in ('scale', 'input_size') if key in step})
    cfg.experiment_name = work_dir
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)
        require_matching_checkpoint(cfg)
    build_runner(cfg).train()


def distance(scratch: Path, one: str, other: str) -> float:
    """Return how far apart the weights of two runs end, in units of what the second epoch changed in the first."""

    def weights(path: str) -> Tensor:
        state = CheckpointLoader.load_checkpoint(str(scratch / path), map_location='cpu')['state_dict']
        return torch.cat([value.flatten() for value in state.values() if value.is_floating_point()]).double()

    start, end = weights(f'{one}/epoch_1.pth'), weights(f'{one}/epoch_2.pth')
    return ((weights(f'{other}/epoch_2.pth') - end).norm() / (end - start).norm()).item()


def check_memory(device: str, scratch: Path) -> str:
    """The evaluation branch adds at most a tenth to a step's peak (CPU: to what the backward pass needs)."""
    peaks = {}
    for mode in ('off', 'copy'):
        model = build('base', mode).to(device)
        wrapper, batch = make_wrapper(model), make_batch(device, 224, 32, 1 if device == 'cpu' else 64)
        if device == 'cpu':
            peaks[mode] = _saved(partial(model.loss, **batch))
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            for _ in range(2):
                model.train_step(batch, wrapper)
            peaks[mode] = torch.cuda.max_memory_allocated()
        del model, wrapper
    added = peaks['copy'] / peaks['off'] - 1
    assert added <= (0.5 if device == 'cpu' else 0.1), f'{added:.1%} more than without evaluation branch'
    return f'{peaks["copy"] / 2**20:.0f} MiB, {added:.1%} more than without evaluation branch'.replace('%', ' %')


def _saved(function: Callable[[], object]) -> int:
    """Return the bytes that a function's result keeps for its backward pass."""
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()  # noqa: F841, the graph
    return sum(storage.nbytes() for storage in kept.values())


CHECKS = {
    'step in bf16': check_bf16,
    'step in fp16': check_fp16,
    'step, compiled': check_compiled,
    'host synchronisation': check_synchronisation,
    'RoIAlign and deformable convolution': check_mmcv_ops,
    'SyncBN, DDP, FSDP': check_processes,
    'resume': check_resume,
    'peak memory': check_memory,
}


# ---- the run ----


def parse_args() -> tuple[Namespace, list[str]]:
    """Parse the options; what is unknown goes to benchmark.py."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda', help='cpu: to try this tool (cuda)')
    parser.add_argument(
        '--out', type=types.output_folder, default='work_dirs/check_gpu', help='folder for results (%(default)s)'
    )
    parser.add_argument('--checks', nargs='*', choices=CHECKS, default=list(CHECKS), metavar='CHECK', help='(all)')
    parser.add_argument(
        '--suites', nargs='*', type=types.text, default=['step', 'forward', 'memory', 'profile'], help='of benchmark.py'
    )
    _lab.add_force(parser)
    args, options = parser.parse_known_args()
    args.out = Path(args.out)
    _lab.check_results(args.out / 'gpu.json', '--out', args.force)
    if not (args.out / 'gpu.json').exists():
        _lab.check_results(args.out / 'gpu.txt', '--out', args.force)
    return args, options


def check(name: str, device: str) -> dict:
    """Run a check; return what came of it."""
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            result = dict(verdict='passed', found=CHECKS[name](device, Path(scratch)))
    except LeftOutError as error:
        result = dict(verdict='left out', found=str(error))
    except Exception as error:
        traceback.print_exc()
        result = dict(verdict='FAILED', found=(str(error) or repr(error)).strip().splitlines()[-1])
    return result | dict(seconds=round(time.perf_counter() - start, 1))


def benchmark(args: Namespace, options: list[str]) -> dict:
    """Run benchmark.py; return its results."""
    path = args.out / 'gpu.json'
    path.unlink(missing_ok=True)
    defaults = ['--device', args.device, '--rounds', '5', '--json', path]
    if args.device == 'cuda':
        memory = torch.cuda.get_device_properties(0).total_memory
        defaults += ['--batch', '256' if memory > 40e9 else '64', '--precision', find_precision()]
    command = [sys.executable, Path(__file__).with_name('benchmark.py'), *args.suites, *defaults, *options]
    failed = subprocess.run(list(map(str, command))).returncode
    results = json.loads(path.read_text()) if path.exists() else dict(machine={}, tables={})
    return results | dict(benchmark='FAILED' if failed else 'passed')


def find_precision() -> str:
    """Return what the GPU computes fast in."""
    return 'bf16' if torch.cuda.get_device_capability() >= (8, 0) else 'fp16'


def write_page(results: dict, seconds: float) -> str:
    """Return the page of text."""
    machine = results.get('machine', {})
    lines = [', '.join(f'{key} {value}' for key, value in machine.items() if key != 'settings' and value), '']
    width = max(map(len, CHECKS)) + 2
    for name, result in results['checks'].items():
        lines.append(f'{name:{width}}{result["verdict"]:9} {result["found"]} ({result["seconds"]} s)')
    for name, table in results.get('tables', {}).items():
        lines += ['', f'{name}, {table["unit"]} (ratio to the first)']
        first = median(next(iter(table['rows'].values())))
        for row, values in table['rows'].items():
            lines.append(f'    {row:48}{median(values):10.4g}   ({median(values) / (first or 1):.2f})')
    if 'benchmark' in results:
        lines += ['', f'benchmark: {results["benchmark"]}']
    return '\n'.join([*lines, '', f'{seconds:.0f} s in all'])


def main() -> None:
    """Check, benchmark, and write down what came of it."""
    args, options = parse_args()
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    elif not torch.cuda.is_available():
        print('no GPU here, so nothing was checked (--device cpu tries the checks themselves)')
        return
    args.out.mkdir(parents=True, exist_ok=True)
    init_default_scope('mmpretrain')
    start = time.perf_counter()
    checks = {}
    for name in args.checks:
        checks[name] = check(name, args.device)
        print(f'==> {name}: {checks[name]["verdict"]}', flush=True)
    results = (benchmark(args, options) if args.suites else {}) | dict(checks=checks)
    page = write_page(results, time.perf_counter() - start)
    write_whole(args.out / 'gpu.json', json.dumps(results, indent=1) + '\n')
    write_whole(args.out / 'gpu.txt', page + '\n')
    print(f'\n{page}\nwrote {args.out / "gpu.json"} and {args.out / "gpu.txt"}')
    if 'FAILED' in [results.get('benchmark'), *(result['verdict'] for result in checks.values())]:
        sys.exit(1)


if __name__ == '__main__':
    _lab.run('check_gpu', main)
