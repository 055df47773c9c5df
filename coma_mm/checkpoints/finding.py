"""Files of a run in its folder: its checkpoints, which of them are undamaged, and its config.

Folders without a manifest, such as other tools write, have files that are known by what is in them.
"""

import logging
import os
import re
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from ..utils import manifest
from ..utils.paths import short_path
from ..utils.reading import open_regular, read_text
from .archive import list_members
from .reading import BACKBONES, read_checkpoint
from .settings import read_meta

# Names of checkpoints between those of the schedule: complete epochs, and all iterations.
STEP_CHECKPOINT = re.compile(r'epoch_\d+_iter_\d+\.pth')
NAMED = re.compile(rf'(epoch|iter)_\d+\.pth|{STEP_CHECKPOINT.pattern}')  # by mmengine, and these
TEXT = 10_000_000  # bytes of a config
POINTER = 4096  # bytes of last_checkpoint that are read


def checkpoint_folder(cfg: Config) -> Path:
    """Return where a run keeps its checkpoints: its work dir, or a folder of that name in the hook's ``out_dir``."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    return Path(out_dir, Path(cfg.work_dir).name) if out_dir and out_dir != cfg.work_dir else Path(cfg.work_dir)


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that a run can go on from, the newest last.

    In a folder with a manifest these are the checkpoints that it lists, whatever their names are. In others they are
    the files with mmengine's names and the content of a checkpoint. ``last_checkpoint`` is not read: once a run was
    killed, moved or copied, it may be empty, older than the newest file, or name another folder.
    """
    named = [path for path in folder.glob('*.pth') if NAMED.fullmatch(path.name) and not path.is_symlink()]
    if not manifest.has_manifest(folder):
        iterations = {path: iteration for path in named if (iteration := read_iteration(path)) is not None}
        return sorted(iterations, key=iterations.__getitem__)
    entries = manifest.read_manifest(folder)
    found = [name for name, entry in entries.items() if entry['kind'] == 'checkpoint']
    sharded = sorted(filter(manifest.has_manifest, named), key=os.path.getmtime)
    return sharded + [folder / name for name in found if manifest.is_plain(folder, name)]


def find_best(folder: Path) -> list[Path]:
    """Return the best checkpoints of a run in its folder, by its manifest, or by name and content as above."""
    if manifest.has_manifest(folder):
        return [folder / name for name in manifest.find_kind(folder, 'best checkpoint')]
    return [path for path in sorted(folder.glob('best_*.pth')) if recognise(path) == 'best checkpoint']


def read_iteration(path: Path) -> int | None:
    """Return the iteration of a checkpoint of mmengine's runner, by what is in it; ``None`` of any other file."""
    try:
        checkpoint = read_checkpoint(path)
    except (OSError, ValueError):
        return None
    meta = read_meta(checkpoint)
    is_counted = all(type(meta.get(name)) is int for name in ('epoch', 'iter'))
    return meta['iter'] if is_counted and isinstance(checkpoint.get('state_dict'), dict) else None


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """Return the last of :func:`find_checkpoints` that is undamaged; name and pass over those after it."""
    for path in reversed(find_checkpoints(folder)):
        if is_whole(path):
            return path
        print_log(f'{path} is damaged or was cut short; trying the one before', 'current', level=logging.WARNING)
    return None


def find_weights(name: str) -> str:
    """Return the file that a folder stands for, with its path; an address as it is."""
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if '://' in name or not path.is_dir():
        return name if '://' in name else str(path)
    found = newest_whole_checkpoint(path) or next((path / one for one in BACKBONES if (path / one).is_file()), None)
    if found is None:
        raise FileNotFoundError(f'{short_path(path)} has no whole checkpoint and no {BACKBONES[0]}: name a file')
    return str(found)


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


def recognise(path: Path) -> str | None:
    """Return the kind of a file in a folder without a manifest, by name and content; ``None`` if unknown."""
    if path.is_symlink() or not path.is_file():
        return None
    with suppress(OSError, ValueError):
        if path.name == 'last_checkpoint':
            with open_regular(path, follow=False) as file:
                return path.name if re.fullmatch(rb'[^\n]*\.pth\n?|', file.read(POINTER)) else None
        if path.suffix == '.py':
            return 'config' if _is_logged(path) else None
        if path.suffix == '.pth' and read_iteration(path) is not None:
            if re.fullmatch(r'best_.+_(epoch|iter)_\d+', path.stem):
                return 'best checkpoint'
            return None if path.name.startswith(('best_', 'last')) else 'checkpoint'
    return None


def find_config(folder: Path) -> Path | None:
    """Return the config of a run in its folder: that of its manifest, or the one that mmengine has written.

    That is a ``.py`` file with the content of one that mmengine's logger has written (``*/vis_data/config.py``).
    """
    if manifest.has_manifest(folder):
        names = manifest.find_kind(folder, 'config')
        return folder / names[-1] if names else None
    found = [path for path in folder.glob('*.py') if recognise(path) == 'config']
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_logged(path: Path) -> bool:
    """Say whether a config has the content of one that mmengine's logger has written."""
    logged = [one for one in path.parent.glob('*/vis_data/config.py') if one.is_file() and not one.is_symlink()]
    return bool(logged) and read_text(path, TEXT, follow=False) in [
        read_text(one, TEXT, follow=False) for one in logged
    ]
