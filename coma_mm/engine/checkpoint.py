"""Checkpoints: read without running code, loaded exactly or not at all, written whole, resumed only if undamaged."""

import hashlib
import json
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoints.archive import list_members
from ..models.pretrained import check_settings, get_state_dict, load_weights, read_checkpoint
from ..utils import manifest
from ..utils.reading import open_regular

# ---- reading and loading ----


def read_checkpoints_safely() -> None:
    """Have all checkpoints that mmengine loads in this process, of whatever address, read without running code."""
    for scheme, loader in list(CheckpointLoader._schemes.items()):
        if loader.__module__ == 'mmengine.runner.checkpoint':  # and not those that a user has registered
            CheckpointLoader.register_scheme(scheme, read_checkpoint, force=True)


def load_exactly(
    model: nn.Module,
    checkpoint: dict,
    source: str = 'the checkpoint',
    partial: bool | Sequence[str] = False,
) -> None:
    """Load all weights of a checkpoint into all weights of a model, or raise.

    Args:
        model: Without wrappers.
        checkpoint: A state dict, or a dict that has it under ``state_dict``.
        source: What log and error call the checkpoint.
        partial: What may be missing in it, be left over or have another shape: weights whose names start with one of
            these, or any, if only something fits.

    Raises:
        ValueError: If they do not fit, with the first differences, or were trained with other settings of the backbone.
    """
    if isinstance(partial, str):
        partial = [partial]

    def is_optional(key: str) -> bool:
        # Statistics of data preprocessors and batch counters come and go between versions of the toolboxes.
        comes_and_goes = key.startswith('data_preprocessor.') or key.endswith('num_batches_tracked')
        return comes_and_goes or partial is True or partial is not False and key.startswith(tuple(partial))

    weights, own = get_state_dict(checkpoint), model.state_dict()
    if partial:
        others = [key for key in weights if key in own and weights[key].shape != own[key].shape and is_optional(key)]
        weights = {key: value for key, value in weights.items() if key not in others}
        if not weights.keys() & own.keys():
            raise ValueError(f'{source} has no weight that fits the model {type(model).__name__} of this config')
    missing, unexpected = load_weights(model, weights, source, is_optional)
    if partial:
        found = {'not loaded': missing, 'of another shape': others, 'left over': unexpected}
        print_log(
            f'{type(model).__name__}: matched {len(own) - len(missing)} of {len(own)} tensors in {source}; '
            + '; '.join(
                f'{what}: {", ".join(keys[:4]) or "none"}{f", ... ({len(keys)})" if len(keys) > 4 else ""}'
                for what, keys in found.items()
            ),
            'current',
        )
    if hasattr(model, 'backbone'):
        check_settings(model.backbone, checkpoint, source)


def describe_backbone(arguments: dict, backbone: nn.Module) -> str:
    """Return the arguments of a backbone's constructor as JSON, defaults filled in where the backbone tells them.

    Classes, which configs may give in place of their names, are written as the names that registries know them by.

    Raises:
        TypeError: If they are no plain data otherwise.
    """
    plain = {name: value for name, value in arguments.items() if name not in ('init_cfg', 'pretrained')}
    return json.dumps(plain | (getattr(backbone, 'settings', None) or {}), default=_registered_name)


def _registered_name(kind: object) -> str:
    if not isinstance(kind, type):
        raise TypeError(f'{kind!r} is no plain data')
    return f'{kind.__module__.partition(".")[0]}.{kind.__name__}'


# ---- writing, and finding again ----


# Those between the checkpoints of the schedule: epochs that are complete, and all iterations.
STEP_CHECKPOINT = re.compile(r'epoch_(\d+)_iter_(\d+)\.pth')

_saving: dict | None = None  # the facts of the checkpoint that is to be written next


def announce_checkpoint(checkpoint: dict) -> None:
    """Have the file that is written next in the folder of a run noted as this checkpoint in the run's manifest."""
    global _saving
    meta = checkpoint.get('meta') or {}
    _saving = {name: meta[name] for name in ('epoch', 'iter') if type(meta.get(name)) is int}


class WholeFileBackend(LocalBackend):
    """Writes files whole or not at all, in place of mmengine's backend for local files.

    Checkpoints of a run, and what its manifest lists already, are noted there with their SHA-256. It is computed from
    what was to be written, so that it also finds what a disk got wrong.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            OSError: With the file, if that cannot be done, such as on a full disk; an older file is as it was.
        """
        global _saving
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        if _saving is None or obj[:2] != b'PK':  # what torch.save writes is a zip file
            with manifest.any_file(path) as unfinished:
                unfinished.write_bytes(obj)
            return
        facts, _saving = _saving, None
        kind = 'best checkpoint' if path.name.startswith('best_') else 'checkpoint'
        known = dict(bytes=len(obj), sha256=hashlib.sha256(obj).hexdigest())
        with manifest.own_file(path.parent, path.name, kind, known, **facts) as unfinished:
            unfinished.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)

    def rmtree(self, dir_path: str | Path) -> None:
        """Remove a folder; of a link to one the link, and never what it leads to."""
        if Path(dir_path).is_symlink():
            Path(dir_path).unlink()
        else:
            super().rmtree(dir_path)


def write_files_whole() -> None:
    """Have mmengine write local files, checkpoints above all, whole or not at all in this process."""
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    backend_instances.clear()  # mmengine goes on using those it made before, such as to read a file


def remove_checkpoint(backend: BaseStorageBackend, path: str) -> bool:
    """Remove a checkpoint that the manifest beside it proves to be the run's; not on a disk, go by the name."""
    if isinstance(backend, LocalBackend):
        return manifest.remove_own(Path(path).parent, Path(path).name)
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):  # of sharded models
        backend.rmtree(path)
    else:
        return False
    return True


def note_validated(path: Path) -> None:
    """Write down that the validation after a checkpoint is done, where the manifest has it."""
    manifest.note_fact(path.parent, path.name, validated=True)


def was_validated(path: Path) -> bool:
    """Say whether the validation after a checkpoint is known to be done."""
    return manifest.read_manifest(path.parent).get(path.name, {}).get('validated') is True


def checkpoint_folder(cfg: Config) -> Path:
    """Return where a run keeps its checkpoints: its work dir, or a folder of that name in the hook's ``out_dir``."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    return Path(out_dir, Path(cfg.work_dir).name) if out_dir and out_dir != cfg.work_dir else Path(cfg.work_dir)


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that a run can go on from, the newest last.

    In a run's folder these are those of its manifest, whatever their names are. In others, such as of runs before there
    was one, those with the names that mmengine gives and the content of a checkpoint.
    What ``last_checkpoint`` says is not asked: it may be older than the newest file, empty, or name another folder,
    when a run has been killed, moved or copied.
    """
    if not manifest.has_manifest(folder):
        return [path for path in _named_checkpoints(folder) if is_checkpoint(path)]
    entries = manifest.read_manifest(folder)
    found = [name for name, entry in entries.items() if entry['kind'] == 'checkpoint']
    sharded = [path for path in _named_checkpoints(folder) if not path.is_symlink() and manifest.has_manifest(path)]
    return sharded + [folder / name for name in found if manifest.is_plain(folder, name)]


def _named_checkpoints(folder: Path) -> list[Path]:
    """Return what mmengine's names say are checkpoints, that of the most epochs or iterations last."""
    found, kinds, listed = {}, set(), manifest.read_manifest(folder)
    for path in folder.glob('*.pth'):
        if match := STEP_CHECKPOINT.fullmatch(path.name):
            found[path] = int(match[1]), int(match[2])
        elif (match := re.fullmatch(r'(?!best_)(\w+)_(\d+)', path.stem)) and (
            match[1] in ('epoch', 'iter') or path.name in listed
        ):
            found[path] = (int(match[2]), 0) if match[1] != 'iter' else (0, int(match[2]))
            kinds.add(match[1])

    def progress(path: Path) -> tuple:
        epochs, iterations = found[path]
        if len(kinds) > 1:  # the schedule has changed its units
            return os.lstat(path).st_mtime_ns, epochs, iterations
        return (iterations,) if kinds == {'iter'} else (epochs, iterations)

    return sorted(found, key=progress)


def find_best(folder: Path) -> list[Path]:
    """Return the best checkpoints of a run in its folder, by its manifest, or by name and content as above."""
    if manifest.has_manifest(folder):
        return [folder / name for name in manifest.find_kind(folder, 'best checkpoint')]
    named = [path for path in folder.glob('best_*.pth') if re.fullmatch(r'best_.+_(epoch|iter)_\d+', path.stem)]
    return sorted(path for path in named if is_checkpoint(path))


def is_checkpoint(path: Path) -> bool:
    """Say whether a file is a checkpoint of mmengine's runner, by its manifest's entry or by what is in it."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.name in manifest.read_manifest(path.parent):
        return True
    try:
        checkpoint = read_checkpoint(path)
    except (OSError, ValueError):
        return False
    meta = checkpoint.get('meta')
    return (
        isinstance(checkpoint.get('state_dict'), dict)
        and isinstance(meta, dict)
        and all(type(meta.get(name)) is int for name in ('epoch', 'iter'))
    )


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """Return the last of :func:`find_checkpoints` that is undamaged; name and pass over those after it."""
    for path in reversed(find_checkpoints(folder)):
        if is_whole(path):
            return path
        print_log(f'{path} is damaged or was cut short; trying the one before', 'current', level=logging.WARNING)
    return None


def is_whole(path: Path) -> bool:
    """Say whether a checkpoint is undamaged: by its checksum if that is known, or by those that zip files have.

    A file of ``torch.save`` is a zip file, with a checksum (CRC-32) of each of its parts.
    """
    if path.is_dir():  # of a sharded model, a file for each rank
        files = [file for file in path.iterdir() if file.name != manifest.MANIFEST]
        return bool(files) and not any(map(os.path.islink, files)) and all(map(is_whole, files))
    entry = manifest.read_manifest(path.parent).get(path.name)
    if entry is not None and not path.is_symlink():
        return manifest.proves(path.parent, path.name, entry)
    try:
        with open_regular(path) as file:
            list_members(file)  # none is packed, so the sums below take no longer than the file is long
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    # NotImplementedError: what zipfile raises of a compression that it does not know, as a flipped bit may name
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False
