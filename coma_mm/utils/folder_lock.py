"""A folder belongs to one run at a time. Imports nothing that takes time."""

import fcntl
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from . import manifest
from .paths import short_path

LOCK = '.lock'
_begun: list[tuple[Path, list[Path]]] = []  # folders that this process has begun in, and what it made for them
_created: set[tuple[int, int]] = set()  # locks that this process has made


def lock_work_dir(work_dir: str | os.PathLike, option: str = '--work-dir') -> BinaryIO | None:
    """Keep other runs out of a folder for as long as the file that this returns is open, or the process lives.

    The lock is one of the kernel's on the empty file ``.lock`` in the folder, which goes with the process however that
    ends, and which loading workers do not inherit. The file is never written to, so one of the user's stays as it is.
    Ranks of one run share the lock: the first one has it. Other ranks get ``None``, and so do file systems without
    locks, which is said.
    """
    if _rank():
        return None
    folder, path = Path(work_dir).absolute(), Path(work_dir, LOCK)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    _begun.append((folder, made))
    is_new = not os.path.lexists(path)
    file = _open_lock(path, option)
    is_locked = _take(file, path, option)
    if is_new:  # and not before: a lock that another run took first is that run's
        _created.add(_identity(os.fstat(file.fileno())))
    if not is_locked:
        file.close()
        return None
    return file


def require_unlocked(work_dir: str | os.PathLike, option: str = '--work-dir') -> None:
    """Refuse a folder that another run has locked, before torch is loaded; :func:`lock_work_dir` has the last word."""
    path = Path(work_dir, LOCK)
    if not _rank() and os.path.lexists(path):
        with _open_lock(path, option) as file:
            _take(file, path, option)


def forget_start(log: Path | None) -> None:
    """Remove what a run that ended before it began has left: its lock, its log, and folders that it made for these."""
    while _begun:
        folder, made = _begun.pop()
        if manifest.has_manifest(folder):
            continue
        files = []
        with suppress(OSError):
            if _identity((folder / LOCK).lstat()) in _created:
                files.append(folder / LOCK)
        if log is not None and log.parent.parent == folder:
            own = log.parent / 'vis_data'
            files += [log, own / 'config.py', own / 'scalars.json', own / f'{log.stem}.json']
            made = [own, log.parent, *made]
        for file in files:
            with suppress(OSError):
                if stat.S_ISREG(file.lstat().st_mode):
                    file.unlink()
        for place in made:
            with suppress(OSError):  # something of others is in it
                place.rmdir()
    _created.clear()  # another file may get the number of one that is gone


def _open_lock(path: Path, option: str) -> BinaryIO:
    """Open the file of a lock, and make it if it is not there; refuse a link, a folder or a pipe of its name."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f'{short_path(path)} is no file that can be locked: move it away, or choose another {option}')
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), 'rb+', buffering=0)


def _take(file: BinaryIO, path: Path, option: str) -> bool:
    """Lock an open file; say whether the file system has locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = _is_at(path, file)  # or its owner has removed it meanwhile, and the next run will make another
    except (BlockingIOError, PermissionError):
        is_free = False
    except OSError as error:
        print(
            f'{short_path(path.parent)} cannot be locked ({error.strerror}): nothing keeps a second run out of it',
            file=sys.stderr,
        )
        return False
    if not is_free:
        file.close()
        raise ValueError(
            f'another run is at work in {short_path(path.parent)}: wait for its end, stop it (on its machine, '
            f'fuser {short_path(path)} names its process), or choose another {option}'
        )
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    with suppress(FileNotFoundError):
        return _identity(path.lstat()) == _identity(os.fstat(file.fileno()))
    return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _rank() -> int:
    """Return the rank that a launcher has given this process, which torch may not have been told yet."""
    names = 'RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'
    return int(next((os.environ[name] for name in names if name in os.environ), 0))
