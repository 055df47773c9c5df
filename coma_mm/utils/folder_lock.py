"""A folder belongs to one run at a time. Imports nothing that takes time."""

import fcntl
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from . import manifest
from .paths import short_path

LOCK = '.lock'
OWNER = re.compile(rb'process \d+ on [^\n]*\n?')  # what stands in it
_begun: list[tuple[Path, list[Path]]] = []  # folders that this process has begun in, and what it made for them
_created: set[tuple[int, int]] = set()  # locks that this process has made


def lock_work_dir(work_dir: str | os.PathLike, option: str = '--work-dir') -> BinaryIO | None:
    """Keep other runs out of a folder for as long as the file that this returns is open, or the process lives.

    The lock is one of the kernel's on ``.lock`` in the folder, which goes with the process however that ends, and which
    loading workers do not inherit. Ranks of one run share it: the first one has it. Other ranks get ``None``, and so do
    file systems without locks, which is said.
    """
    if _rank():
        return None
    folder, path = Path(work_dir).absolute(), Path(work_dir, LOCK)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    _begun.append((folder, made))
    new = _create_lock(path)
    file = new or _open_lock(path, option)
    is_locked = _take(file, path, option)
    if new:  # and not before: a lock that another run took first is that run's
        _created.add(_identity(os.fstat(file.fileno())))
    if not is_locked:
        file.close()
        return None
    if not new:  # at once and over all that is there: a kill leaves one of the two owners
        file.seek(0)
        file.write(_owner().ljust(os.fstat(file.fileno()).st_size - 1) + b'\n')
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


def _create_lock(path: Path) -> BinaryIO | None:
    """Make a lock with its owner in it; return ``None`` if its name is taken.

    It gets its name with the owner in it, so that a kill leaves no empty file, which would look like a user's.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    with suppress(OSError, AttributeError):  # file systems, and systems, that make no file without a name
        file = os.fdopen(os.open(path.parent, flags | os.O_TMPFILE, 0o666), 'rb+', buffering=0)
        try:
            file.write(_owner() + b'\n')
            # Without the first folder, which an absolute path has no use for, Python would link the link in /proc.
            os.link(f'/proc/self/fd/{file.fileno()}', path, src_dir_fd=file.fileno(), follow_symlinks=True)
            return file
        except BaseException:
            file.close()
            raise
    try:
        file = os.fdopen(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), 'rb+', buffering=0)
    except FileExistsError:
        return None
    try:
        file.write(_owner() + b'\n')
    except BaseException:
        path.unlink()
        raise
    return file


def _open_lock(path: Path, option: str) -> BinaryIO:
    """Open a lock that is there; a link or any other file is refused, and stays as it is."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _refusal(path, option)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, 'rb+', buffering=0)
    status, content = os.fstat(descriptor), file.read(1000)
    if not stat.S_ISREG(status.st_mode) or (content and not OWNER.fullmatch(content)):
        file.close()
        raise _refusal(path, option)
    if status.st_nlink > 1:
        file.close()
        raise _refusal(path, option, 'has a second name elsewhere (a hard link)')
    return file


def _take(file: BinaryIO, path: Path, option: str) -> bool:
    """Lock an open lock without writing to it; say whether the file system has locks."""
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
    file.seek(0)
    content = file.read(1000)
    if is_free and OWNER.fullmatch(content):  # an empty one is a user's: ours have an owner from the first
        return True
    file.close()
    if is_free:
        raise _refusal(path, option)
    owner = content.decode(errors='replace').strip() or 'one that has not said which'
    raise ValueError(
        f'another run is at work in {short_path(path.parent)} ({owner}): wait for its end, stop it, or choose '
        f'another {option}'
    )


def _refusal(path: Path, option: str, what: str = 'is no lock of a run') -> ValueError:
    return ValueError(f'{short_path(path)} {what}, and would be written to: move it away, or choose another {option}')


def _owner() -> bytes:
    return f'process {os.getpid()} on {socket.gethostname()}'.encode()


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
