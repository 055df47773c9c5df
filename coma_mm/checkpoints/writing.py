"""Checkpoints and other files of mmengine, written whole or not at all, and noted in the run's manifest."""

import hashlib
import logging
import os
from pathlib import Path

from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.logging import print_log

from ..utils import manifest
from ..utils.files import is_remembered, remember, set_aside
from ..utils.text import printable

_saving: dict | None = None  # the facts of the checkpoint that is to be written next
_replaced: set[Path] = set()  # folders whose files the user lets a command replace


def announce_checkpoint(checkpoint: dict) -> None:
    """Note the file that is written next in the folder of a run as this checkpoint in the run's manifest."""
    global _saving
    meta = checkpoint.get('meta') or {}
    _saving = {name: meta[name] for name in ('epoch', 'iter') if type(meta.get(name)) is int}


def allow_replacing(path: str | os.PathLike) -> None:
    """Let the files of others in a folder be replaced by this process."""
    _replaced.add(Path(os.path.realpath(path)))


def _keep_others(path: Path) -> None:
    """Move a file out of the way that nobody has checked, and no run has written; say so."""
    real = Path(os.path.realpath(path.parent), path.name)
    if not os.path.lexists(path) or is_remembered(path) or manifest.find_entry(path):
        return
    if not any(real.is_relative_to(place) for place in _replaced):
        kept = set_aside(path)
        print_log(printable(f'{path} was there already: it is {kept.name} now'), 'current', logging.WARNING)


class WholeFileBackend(LocalBackend):
    """Writes files whole or not at all, in place of mmengine's backend for local files.

    Checkpoints of a run, and what its manifest lists already, are noted there with their SHA-256. It is computed from
    what was to be written, so that it also finds what a disk got wrong. Files of others become ``NAME.kept``, because
    a config can name any file, such as ``out_file_path`` of an evaluator.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        global _saving
        path = Path(filepath)
        if _saving is None or obj[:2] != b'PK':  # what torch.save writes is a zip file
            with manifest.any_file(path) as unfinished:
                unfinished.write_bytes(obj)
                _keep_others(path)
            remember(path)  # which this process may replace
            return
        facts, _saving = _saving, None
        kind = 'best checkpoint' if path.name.startswith('best_') else 'checkpoint'
        known = dict(bytes=len(obj), sha256=hashlib.sha256(obj).hexdigest())
        with manifest.own_file(path.parent, path.name, kind, known, **facts) as unfinished:
            unfinished.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


def write_files_whole() -> None:
    """Make mmengine write local files, checkpoints above all, whole or not at all in this process."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    backend_instances.clear()  # mmengine goes on using those it made before, such as to read a file


def remove_checkpoint(backend: BaseStorageBackend, path: str) -> None:
    """Remove a checkpoint that the manifest beside it proves to be the run's; not on a disk, go by the name."""
    if isinstance(backend, LocalBackend):
        manifest.remove_own(Path(path).parent, Path(path).name)
    elif backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):  # of sharded models
        backend.rmtree(path)


def note_validated(path: Path) -> None:
    """Write down that the validation after a checkpoint is done, where the manifest has it."""
    entries = manifest.read_manifest(path.parent)
    if path.name in entries and os.path.lexists(path):
        manifest.note(path.parent, {path.name: entries[path.name] | dict(validated=True)})


def was_validated(path: Path) -> bool:
    """Say whether the validation after a checkpoint is known to be done."""
    return manifest.read_manifest(path.parent).get(path.name, {}).get('validated') is True
