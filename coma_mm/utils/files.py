"""Files that are written as a whole or not at all, and those that come with the package."""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
MARK = 'coma_mm'  # in what commands write, so that they know it again
KEPT = '.kept'  # what the name of a file ends in that was moved out of the way

_checked: dict[str, tuple | None] = {}  # what may be replaced of each name that was looked at: a file, or nothing


def resource_dir(folder: str) -> Path:
    """Return ``configs``, ``tools`` or ``weights``: of the checkout, or where setup.py installs them."""
    places = PACKAGE.parent / folder, PACKAGE / '.mim' / folder
    return next((place for place in places if place.is_dir()), places[1])


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Put ``path`` into errors of the system that name no file, or an unfinished one, as when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not (error.filename is None or is_unfinished(Path(os.fsdecode(error.filename)))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_write(path: str | os.PathLike, mark: str | None = None) -> Iterator[Path]:
    """Lend a name beside ``path``, with the same ending, to write to; what lies there becomes ``path`` at the end.

    Its folder is made. After an error neither file is there, and an older ``path`` is as it was. After a loss of power
    ``path`` is the older or the new one, whole: the disk has the content before the name. The lent name is that of a
    new, empty file: nothing that was there, and nothing that a link leads to, is written to. What has come to be at
    ``path`` since :func:`remember` looked at it is moved to ``NAME.kept``.

    Args:
        mark: A number that the lent name's begins with, by which whoever gave it knows the file again.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished, descriptor = _new_file(path, mark)
        try:
            yield unfinished
            _sync(unfinished)
            if _is_new(path):
                set_aside(path)
            unfinished.replace(path)
            if is_remembered(path):
                remember(path)
            _sync(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)
            os.close(descriptor)


def _new_file(path: Path, mark: str | None) -> tuple[Path, int]:
    """Make a file of a name that no other writer has, locked for as long as it is open: see :func:`is_held`."""
    while True:
        unfinished = path.with_name(f'.{_shorten(path.stem)}.{mark or os.getpid()}{_draw()}{path.suffix}')
        with suppress(FileExistsError):
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            return unfinished, descriptor


def _shorten(name: str) -> str:
    """Leave room for a number: a name of a file may have 255 bytes."""
    return os.fsencode(name)[:200].decode(errors='ignore')


def _draw() -> str:
    return f'{secrets.randbelow(10**9):09}'


def set_aside(path: Path) -> Path:
    """Give a file, a folder or a link that is not ours another name beside it, and return that."""
    number = 1
    while os.path.lexists(kept := path.with_name(f'{path.name}{KEPT}{number if number > 1 else ""}')):
        number += 1
    os.rename(path, kept)
    return kept


def remember(path: str | os.PathLike) -> None:
    """Note what has a name now, before it is checked: nothing else is replaced there by this process."""
    _checked[os.path.abspath(path)] = _look(path)


def is_remembered(path: str | os.PathLike) -> bool:
    """Say whether :func:`remember` has looked at a path."""
    return os.path.abspath(path) in _checked


def _is_new(path: Path) -> bool:
    """Say whether there is something at a path that was looked at, and it is not what was there then."""
    found = _look(path)
    return found is not None and found != _checked.get(os.path.abspath(path), found)


def _look(path: str | os.PathLike) -> tuple | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return None


def is_held(path: Path) -> bool:
    """Say whether a process is writing an unfinished file; not so where the file system has no locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return False


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a text file as a whole or not at all, see :func:`write_together`."""
    write_together({os.fspath(path): text})


def write_together(texts: Mapping[str, str]) -> None:
    """Write text files, all of them or none, see :func:`atomic_write`."""
    with ExitStack() as stack:
        for path, text in texts.items():
            unfinished = stack.enter_context(atomic_write(path))
            unfinished.write_text(text, encoding='utf-8', errors='surrogateescape')  # names of files may be any bytes


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Lend a new folder beside ``path``, which becomes ``path`` at the end and is removed after an error."""
    path = Path(os.path.realpath(path))
    require_new(path)
    missing = [parent for parent in path.parents if not parent.exists()]  # the innermost first
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{_shorten(path.name)}.{os.getpid()}{_draw()}')
    unfinished.mkdir()
    try:
        yield unfinished
        for file in unfinished.iterdir():
            _sync(file)
        unfinished.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # there is something in it: all went well
                parent.rmdir()


def require_new(path: Path) -> None:
    """Raise if something is at a path already, but for an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f'{path} is there already; name a new or an empty folder')


def require_writable(folder: Path) -> None:
    """Raise unless files can be made in a folder, or in the one that it will have to be made in."""
    path = folder.absolute()
    existing = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        kind = 'file' if existing.is_file() else 'link to nothing' if not existing.exists() else ''
        reason = f'{existing} is a {kind}' if kind else f'{existing} cannot be written to ({error.strerror})'
        raise ValueError(f'nothing can be written in {folder}: {reason}; choose another folder') from None


def is_unfinished(path: Path) -> bool:
    """Say whether a file is what a process that was killed has left in the middle of :func:`atomic_write`."""
    return re.fullmatch(r'\..+\.\d+', path.stem, re.DOTALL) is not None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # of a folder, on file systems that do not know what that is
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
