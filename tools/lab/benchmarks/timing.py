"""Time and memory: models take turns, so that other work on the machine slows all of them down alike."""

import multiprocessing.pool
import platform
import shutil
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch.autograd.profiler_util import FunctionEventAvg

from coma_mm.trial import forget_peak, peak_so_far

from .workloads import DTYPES

ROOT = Path(__file__).resolve().parents[3]  # of the checkout
PACKAGES = ('torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'timm', 'simplejpeg', 'pillow')


@dataclass
class Table:
    """Measurements of a suite. Ratios are to the first row, the median of those of each round."""

    unit: str
    rows: dict[str, list[float]]  # all rounds of each
    columns: dict[str, dict[str, float]] = field(default_factory=dict)  # further numbers: column -> row -> number


def is_cuda(args: Namespace) -> bool:
    """Say whether the device is one that works on while we go on."""
    return torch.device(args.device).type == 'cuda'


def run_interleaved(calls: Mapping[Any, Callable[[], object]], args: Namespace, scale: float = 1.0) -> dict:
    """Call each in turn, round after round; return seconds times ``scale`` of all rounds but the first."""
    measured: dict[Any, list[float]] = {name: [] for name in calls}
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
    before = forget_peak(is_cuda(args))
    call = make_call()
    call()
    call()
    return peak_so_far(is_cuda(args)) - before


def measure_memory(makers: dict[str, partial], args: Namespace, scale: float) -> dict[str, list[float]]:
    """Measure peak bytes times ``scale``, each in a process of its own."""
    peaks = {}
    for name, make_call in makers.items():
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            peaks[name] = [pool.apply(peak_bytes, (make_call, args)) * scale]
    return peaks


def own_time(event: FunctionEventAvg, args: Namespace) -> float:
    """Return the microseconds of an operation without those that it calls, on the device that computes."""
    if not is_cuda(args):
        return event.self_cpu_time_total
    microseconds = getattr(event, 'self_device_time_total', 0.0)
    return microseconds or getattr(event, 'self_cuda_time_total', 0.0)  # torch < 2.4


def describe_machine(args: Namespace) -> dict:
    """Return what results depend on."""
    return dict(
        date=time.strftime('%Y-%m-%d'),
        device=torch.cuda.get_device_name() if is_cuda(args) else f'{cpu_name()}, {torch.get_num_threads()} threads',
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: find_version(name) for name in PACKAGES},
        coma_mm=version('coma_mm'),
        commit=find_commit(),
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


def find_commit(root: Path = ROOT) -> str | None:
    """Return the commit of the code, with ``-dirty`` if it was changed since; results in docs may have been.

    ``None`` where it is installed rather than checked out, or without git.
    """
    if not (root / '.git').exists() or not shutil.which('git'):
        return None
    git = ['git', '-C', str(root)]
    commit = subprocess.run([*git, 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, 'diff', '--quiet', 'HEAD', '--', ':!docs'], capture_output=True).returncode
    return f'{commit}-dirty' if changed else commit


def cpu_name() -> str:
    """Return the model of the processor where Linux tells it."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else ()
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.machine())
