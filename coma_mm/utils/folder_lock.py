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
OWNER = re.compile(rb'(process \d+ on [^\n]*\n?)?')  # what stands in it
_begun: list[tuple[Path, list[Path]]] = []  # folders that this process has locked, and what it made for them


def lock_work_dir(work_dir: str | os.PathLike, option: str = '--work-dir') -> BinaryIO | None:
    """Keep other runs out of a folder for as long as the file that this returns is open, or the process lives.

    The lock is one of the kernel's on ``.lock`` in the folder, which goes with the process however that ends, and which
    loading workers do not inherit. Ranks of one run share it: the first one has it. Other ranks get ``None``, and so do
    file systems without locks, which is said.
    """
    if _rank():
        return None
    folder = Path(work_dir).absolute()
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if made:  # so no lock in it is another run's
        _begun.append((folder, made))
    file = _open_lock(Path(work_dir, LOCK), option)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = file.read(1000).decode(errors='replace').strip() or 'one that has not said which'
        raise ValueError(
            f'another run is at work in {short_path(work_dir)} ({owner}): wait for its end, stop it, or choose '
            f'another {option}'
        ) from None
    except OSError as error:
        print(
            f'{short_path(work_dir)} cannot be locked ({error.strerror}): nothing keeps a second run out of it',
            file=sys.stderr,
        )
        file.close()
        return None
    _begun.append((folder, made))
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
    file.flush()
    return file


def forget_start(log: Path | None) -> None:
    """Remove what a run that ended before it began has left: its lock, its log, and folders that it made for these."""
    while _begun:
        folder, made = _begun.pop()
        if manifest.has_manifest(folder):
            continue
        files = [folder / LOCK]
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


def _open_lock(path: Path, option: str) -> BinaryIO:
    """Open a lock, which is made if it is not there; a link or any other file is refused, and stays as it is."""
    no_lock = ValueError(
        f'{short_path(path)} is no lock of a run, and would be written to: move it away, or choose another {option}'
    )
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise no_lock
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    file = os.fdopen(descriptor, 'rb+', buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not OWNER.fullmatch(file.read(1000)):
        file.close()
        raise no_lock
    file.seek(0)
    return file


def require_unlocked(work_dir: str | os.PathLike, option: str = '--work-dir') -> None:
    """Refuse a folder that another run has locked, before torch is loaded; :func:`lock_work_dir` has the last word."""
    if os.path.lexists(Path(work_dir, LOCK)) and (file := lock_work_dir(work_dir, option)):
        file.close()
        _begun.pop()  # it is anyone's again, and not this process's to remove


def _rank() -> int:
    """Return the rank that a launcher has given this process, which torch may not have been told yet."""
    names = 'RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'
    return int(next((os.environ[name] for name in names if name in os.environ), 0))
