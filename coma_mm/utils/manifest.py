"""The list of a run's own files: ``manifest.json`` in its folder. Only these are replaced or deleted.

A file is the run's own if the manifest has its name, size and SHA-256, and it is a regular file that no link leads to.
The entry is written before the file gets its name, so that a kill in between loses neither the old nor the new file.
Names in a manifest are data from a disk: they lead to files below its folder, or are not read at all.
"""

import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from .files import atomic_write, is_held, naming, remember, set_aside
from .paths import short_path
from .reading import open_regular, read_json, sha256_of

MANIFEST = 'manifest.json'
KIND = 'files of a run of coma_mm'
LIMIT = 32_000_000  # bytes
MARK = re.compile('[0-9]{15}')  # by which a run knows what it was writing

_digests: dict[tuple, str] = {}  # of files that this process has written or read, by what tells a change


# ---- reading ----


def read_manifest(folder: str | os.PathLike) -> dict[str, dict]:
    """Return ``{name: entry}`` of a run's own files, in the order in which they were written.

    An entry has ``kind``, ``bytes`` and ``sha256``; that of a checkpoint also ``epoch``, ``iter`` and perhaps
    ``validated``.
    """
    return (_read(folder) or {}).get('files', {})


def has_manifest(folder: str | os.PathLike) -> bool:
    """Say whether a folder is that of a run, by its manifest."""
    return _read(folder) is not None


def require_no_other(folder: str | os.PathLike, remedy: str) -> None:
    """Refuse a folder with a manifest of somebody else's, which :func:`note` would move out of the way."""
    if os.path.lexists(path := Path(folder, MANIFEST)) and not has_manifest(folder):
        raise ValueError(
            f'{short_path(path)} is no list of the files of a run, and one would be written there: move it away, or '
            f'{remedy}'
        )


def find_kind(folder: str | os.PathLike, kind: str) -> list[str]:
    """Return the names of a run's own files of a kind, as far as these are there and unchanged."""
    entries = read_manifest(folder)
    return [name for name, entry in entries.items() if entry['kind'] == kind and proves(Path(folder), name, entry)]


def is_own(folder: str | os.PathLike, name: str) -> bool:
    """Say whether a file is a run's own and unchanged."""
    entry = read_manifest(folder).get(name)
    return entry is not None and proves(Path(folder), name, entry)


def proves(folder: Path, name: str, entry: dict) -> bool:
    """Say whether an entry is that of the file which has the name now."""
    if not _is_entry(name, entry) or not is_plain(folder, name):
        return False
    path, known = folder / name, [entry, *entry.get('before', ())]
    try:
        size = os.lstat(path).st_size
        matching = [one['sha256'] for one in known if one['bytes'] == size]
        return bool(matching) and fingerprint(path)['sha256'] in matching
    except (OSError, ValueError):
        return False


def fingerprint(path: Path) -> dict:
    """Return ``bytes`` and ``sha256`` of a regular file that is no link; a file is read once."""
    with open_regular(path, follow=False) as file:
        status = os.fstat(file.fileno())
        if (digest := _digests.get(_signature(status))) is None:
            digest = _digests[_signature(status)] = sha256_of(file)
    return dict(bytes=status.st_size, sha256=digest)


def _signature(status: os.stat_result) -> tuple:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(folder: str | os.PathLike) -> dict | None:
    """Return the content of a manifest, entries that cannot be ours left out; ``None`` if there is none of ours."""
    try:
        content = read_json(Path(folder, MANIFEST), LIMIT, follow=False)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get('kind') != KIND:
        return None
    mark, files = content.get('mark'), content.get('files')
    files = files if isinstance(files, dict) else {}
    files = {name: entry for name, entry in files.items() if _is_entry(name, entry)}
    return dict(kind=KIND, mark=mark if isinstance(mark, str) and MARK.fullmatch(mark) else _new_mark(), files=files)


def _is_entry(name: object, entry: object) -> bool:
    """Say whether a name leads to a place below the folder, and an entry has what an entry has."""
    if not isinstance(name, str) or not name or '\0' in name or name == MANIFEST:
        return False
    if name.startswith('/') or any(part in ('', '.', '..') for part in name.split('/')):
        return False
    if not isinstance(entry, dict) or not isinstance(entry.get('kind'), str):
        return False
    before = entry.get('before', ())
    return isinstance(before, (list, tuple)) and all(
        isinstance(one, dict) and type(one.get('bytes')) is int and isinstance(one.get('sha256'), str)
        for one in (entry, *before)
    )


def is_plain(folder: Path, name: str) -> bool:
    """Say whether a regular file has this name, and no link is on the way to it from the folder."""
    *parents, last = PurePosixPath(name).parts
    place = folder
    try:
        for part in parents:
            place = place / part
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                return False
        return stat.S_ISREG(os.lstat(place / last).st_mode)
    except (OSError, ValueError):
        return False


def _new_mark() -> str:
    return str(10**14 + secrets.randbelow(9 * 10**14))


# ---- writing ----


@contextmanager
def own_file(
    folder: str | os.PathLike, name: str, kind: str, known: dict | None = None, **facts: Any
) -> Iterator[Path]:
    """Lend a name to write a run's own file to, which gets its true name at the end; see :func:`.files.atomic_write`.

    What has the name then and is not the run's own is moved to ``NAME.kept``. The entry has ``kind`` (``checkpoint``,
    ``picture``, ...), ``facts``, and ``bytes`` and ``sha256``, which may be ``known`` without reading the file.
    """
    folder = Path(folder)
    path = folder / name
    _make_parents(folder, name)
    with ExitStack() as stack, atomic_write(path, (_read(folder) or {}).get('mark')) as unfinished:
        yield unfinished
        stack.enter_context(_locked(folder))  # until the file has its name: of two writers the later has the entry, too
        entry = dict(kind=kind, **(known or fingerprint(unfinished)), **facts)
        if own := is_own(folder, name):
            entry['before'] = [fingerprint(path)]
            remember(path)  # whichever process of the run has written it
        _note(folder, {name: entry})
        if not own and os.path.lexists(path):
            set_aside(path)
    with suppress(OSError):
        _digests[_signature(os.lstat(path))] = entry['sha256']


def write_own(folder: str | os.PathLike, name: str, kind: str, text: str) -> Path:
    """Write a text file of a run, see :func:`own_file`."""
    with own_file(folder, name, kind) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
    return Path(folder, name)


def find_entry(path: str | os.PathLike) -> tuple[Path, str, dict] | None:
    """Return the folder of the run that lists a file, its name there and its entry; ``None`` if no run does."""
    path = Path(os.path.abspath(path))
    for folder in list(path.parents)[:2]:  # a run's files lie in its folder, or in one in that
        name = path.relative_to(folder).as_posix()
        if entry := read_manifest(folder).get(name):
            return folder, name, entry
    return None


@contextmanager
def any_file(path: str | os.PathLike, kind: str | None = None) -> Iterator[Path]:
    """Lend a name to write ``path`` to: a run's own file if its manifest lists it, any other one if not.

    With a ``kind`` the manifest of the folder, if there is one, lists the file from then on.
    """
    found = find_entry(path)
    if found is None and kind is not None and has_manifest(Path(path).parent):
        found = Path(path).parent, Path(path).name, dict(kind=kind)
    with own_file(*found[:2], found[2]['kind']) if found else atomic_write(path) as unfinished:
        yield unfinished


def remove_own(folder: str | os.PathLike, name: str) -> bool:
    """Remove a run's own file, or own files of a folder and that, if nothing else is in it; say whether it went."""
    folder = Path(folder)
    if not is_own(folder, name):
        place = folder / name
        if not _is_entry(name, dict(kind='', bytes=0, sha256='')) or place.is_symlink() or not has_manifest(place):
            return False
        for inner in read_manifest(place):
            remove_own(place, inner)
        if sorted(os.listdir(place)) != [MANIFEST]:
            return False
        os.unlink(place / MANIFEST)
        place.rmdir()
        return True
    os.unlink(folder / name)
    note(folder, {name: None})
    return True


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove what a killed run was writing: the names of such files have the manifest's own random number."""
    folder, content = Path(folder), _read(folder)
    if content is None:
        return
    number = re.compile(rf'\..+\.{content["mark"]}\d*', re.DOTALL)
    for place in {folder, *((folder / name).parent for name in content['files'])}:
        for path in place.glob('.*'):
            if number.fullmatch(path.name) or number.fullmatch(path.stem):
                if is_plain(folder, path.relative_to(folder).as_posix()) and not is_held(path):
                    path.unlink()


def note(folder: str | os.PathLike, changes: Mapping[str, dict | None]) -> None:
    """Write entries into a manifest, which is made if it is not there, or take them out (``None``).

    Entries of files that are gone leave it. A run has one config: those before become ``earlier config``.
    """
    folder = Path(folder)
    with _locked(folder):
        _note(folder, changes)


def _note(folder: Path, changes: Mapping[str, dict | None]) -> None:
    before = _read(folder)
    content = before or dict(kind=KIND, mark=_new_mark(), files={})
    files = {name: entry for name, entry in content['files'].items() if os.path.lexists(folder / name)}
    for name, entry in changes.items():
        files.pop(name, None)
        if entry is not None:
            files[name] = entry
    configs = [name for name, entry in changes.items() if entry and entry['kind'] == 'config']
    for name, entry in files.items():
        if configs and entry['kind'] == 'config' and name != configs[-1]:
            files[name] = entry | dict(kind='earlier config')
    text = json.dumps(content | dict(files=files), indent=1)
    if text == json.dumps(before, indent=1):
        return
    if before is None and os.path.lexists(folder / MANIFEST):
        set_aside(folder / MANIFEST)
    with atomic_write(folder / MANIFEST, content['mark']) as unfinished:
        unfinished.write_text(text)


def _make_parents(folder: Path, name: str) -> None:
    """Make the folders that a name has in it; a link in their place is refused."""
    place = folder
    place.mkdir(parents=True, exist_ok=True)
    for part in PurePosixPath(name).parts[:-1]:
        place = place / part
        if place.is_symlink():
            raise ValueError(f'{place} is a link, and what a run writes goes into its own folder: move the link away')
        place.mkdir(exist_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes of a run from writing the manifest; where that cannot be done, one process writes."""
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
