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
from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoints.archive import list_members
from ..files import whole_file, write_whole
from ..models.pretrained import check_settings, get_state_dict, load_weights, read_checkpoint
from ..utils.reading import open_regular, read_json

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


CHECKSUMS = 'checkpoints.json'

# Those between the checkpoints of the schedule: epochs that are complete, and all iterations.
STEP_CHECKPOINT = re.compile(r'epoch_(\d+)_iter_(\d+)\.pth')


class WholeFileBackend(LocalBackend):
    """Writes files whole or not at all, in place of mmengine's backend for local files.

    ``checkpoints.json`` beside checkpoints (``.pth``) has the SHA-256 and the size in bytes of each. It is computed
    from what was to be written, so that it also finds what a disk got wrong.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            OSError: With the file, if that cannot be done, such as on a full disk; an older file is as it was.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        is_checkpoint = path.suffix == '.pth'
        if is_checkpoint and path.exists():
            _note_checksum(path, None)  # which is not that of what comes
        with whole_file(path) as unfinished:
            unfinished.write_bytes(obj)
        if is_checkpoint:
            _note_checksum(path, dict(sha256=hashlib.sha256(obj).hexdigest(), bytes=len(obj)))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file, and its checksum."""
        super().remove(filepath)
        if Path(filepath).suffix == '.pth':
            _note_checksum(Path(filepath), None)

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


def read_checksums(folder: Path) -> dict[str, dict]:
    """Return ``{name: {'sha256': ..., 'bytes': ...}}`` of the checkpoints in a folder, as far as it is known."""
    try:
        sums = read_json(folder / CHECKSUMS, follow=False)
        return {name: entry for name, entry in sums.items() if {'sha256', 'bytes'} <= entry.keys()}
    except (OSError, ValueError, AttributeError):  # not there, or not ours
        return {}


def note_validated(path: Path) -> None:
    """Write down that the validation after a checkpoint is done, where its checksum is known."""
    if (entry := read_checksums(path.parent).get(path.name)) and path.is_file():
        _note_checksum(path, entry | dict(validated=True))


def _note_checksum(path: Path, entry: dict | None) -> None:
    """Write down a checkpoint's checksum, or that it has none; forget those of files that are gone."""
    before = read_checksums(path.parent)
    sums = {name: known for name, known in before.items() if name != path.name and (path.parent / name).is_file()}
    if entry is not None:
        sums[path.name] = entry
    if sums != before:
        write_whole(path.parent / CHECKSUMS, json.dumps(sums, indent=1))


def checkpoint_folder(cfg: Config) -> Path:
    """Return where a run keeps its checkpoints: its work dir, or a folder of that name in the hook's ``out_dir``."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    return Path(out_dir, Path(cfg.work_dir).name) if out_dir and out_dir != cfg.work_dir else Path(cfg.work_dir)


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that a run can go on from, the one of the most epochs or iterations last.

    What ``last_checkpoint`` says is not asked: it may be older than the newest file, empty, or name another folder,
    when a run has been killed, moved or copied.
    """
    found, kinds = {}, set()
    for path in folder.glob('*.pth'):
        if match := STEP_CHECKPOINT.fullmatch(path.name):
            found[path] = int(match[1]), int(match[2])
        elif match := re.fullmatch(r'(?!best_)(\w+)_(\d+)', path.stem):
            found[path] = (int(match[2]), 0) if match[1] != 'iter' else (0, int(match[2]))
            kinds.add(match[1])

    def progress(path: Path) -> tuple:
        epochs, iterations = found[path]
        if len(kinds) > 1:  # the schedule has changed its units
            return path.stat().st_mtime_ns, epochs, iterations
        return (iterations,) if kinds == {'iter'} else (epochs, iterations)

    return sorted(found, key=progress)


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
        files = list(path.glob('*'))
        return bool(files) and not any(map(os.path.islink, files)) and all(map(is_whole, files))
    try:
        if entry := read_checksums(path.parent).get(path.name):
            if path.stat().st_size != entry['bytes']:
                return False
            digest = hashlib.sha256()
            with open_regular(path) as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
            return digest.hexdigest() == entry['sha256']
        with open_regular(path) as file:
            list_members(file)  # none is packed, so the sums below take no longer than the file is long
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    # NotImplementedError: what zipfile raises of a compression that it does not know, as a flipped bit may name
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False
