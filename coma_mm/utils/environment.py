"""Facts of the machine, and settings to apply before importing torch. This file therefore imports nothing of torch.

What the settings for CPUs bring: docs/benchmarks.md, "Settings of a CPU".
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path


def prepare_cpu() -> None:
    """Set this process, and those it starts, up for computing on the CPU; does nothing where there is a GPU.

    Threads of OpenMP that have nothing to do sleep instead of spinning, unless ``OMP_WAIT_POLICY`` says otherwise: on
    a machine with other work, loading workers included, spinning costs more than it saves. And memory is kept, see
    :func:`keep_memory`, unless there are ``MALLOC_*`` variables.
    """
    if Path('/dev/nvidiactl').exists() and os.environ.get('CUDA_VISIBLE_DEVICES') != '':
        return
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    if not any(name.startswith('MALLOC_') for name in os.environ):
        keep_memory()


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@lru_cache
def has_fast_bf16(info: Path = Path('/proc/cpuinfo')) -> bool:
    """Say whether this CPU multiplies in bf16 (AVX512-BF16, AMX), which on others is slower than fp32. Linux only."""
    flags = info.read_text().split() if info.is_file() else ()
    return 'avx512_bf16' in flags or 'amx_bf16' in flags


def fast_dtype(capability: tuple[int, int] | None, cpu: bool = False) -> str:
    """Return the type that a device computes matrix products fast in, by CUDA's compute capability.

    That is ``None`` for a CPU; ``cpu`` tells whether it is one with fast bf16.
    """
    if capability is None:
        return 'bfloat16' if cpu else 'float32'
    # Not torch.cuda.is_bf16_supported(): recent versions count GPUs that emulate it, slower than fp32.
    return 'bfloat16' if capability >= (8, 0) else 'float16' if capability >= (7, 0) else 'float32'


def available_memory(root: Path = Path('/')) -> int | None:
    """Return the bytes of memory that can be had without swapping; ``None`` where the system does not tell (not Linux).

    Memory that files are cached in counts as available: the system gives it back when asked. The least of the machine's
    ``MemAvailable`` and of what each control group leaves (version 2 and 1) decides.
    """
    known = [*_of_machine(root), *_of_groups(root)]
    return max(0, min(known)) if known else None


def _of_machine(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        for line in (root / 'proc/meminfo').read_text().splitlines():
            if line.startswith('MemAvailable:'):
                yield int(line.split()[1]) * 1024


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what each control group around this process leaves of its limit."""
    with suppress(OSError):
        for line in (root / 'proc/self/cgroup').read_text().splitlines():
            _, controllers, name = line.split(':', 2)
            if not controllers:
                base, limit, used, cache = 'sys/fs/cgroup', 'memory.max', 'memory.current', 'inactive_file'
            elif 'memory' in controllers.split(','):
                base, limit, used = 'sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'
                cache = 'total_inactive_file'
            else:
                continue
            folder = root / base / name.lstrip('/')
            while folder.is_relative_to(root / base):  # a group lies within the limits of all those around it
                with suppress(OSError, ValueError):  # no limit is the word "max", or no file
                    yield int((folder / limit).read_text()) - int((folder / used).read_text()) + _cached(folder, cache)
                folder = folder.parent


def _cached(folder: Path, key: str) -> int:
    lines = (folder / 'memory.stat').read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)


def keep_memory() -> None:
    """Make glibc keep what is freed, as torch does on a GPU; does nothing with another C library.

    By default it gives blocks above 32 MiB, and what is free at the heap's end, back to the system, so that operations
    wait for new pages. How much that costs depends on sizes and on what ran before, by 15 % and more of a step.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL('libc.so.6').mallopt
        for option, value in ((-4, 0), (-1, -1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


def end_with_launcher() -> None:
    """Warn a rank by SIGTERM when the ``torchrun`` that started it dies; does nothing but on Linux.

    Killed itself, ``torchrun`` cannot end its ranks, and they would go on without it, in the way of a second start.
    So warned, a run that trains saves a checkpoint and ends.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
