"""Memory that this process can still get: of the machine, and of the container or job that it runs in."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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
