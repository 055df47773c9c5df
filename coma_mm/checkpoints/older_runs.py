"""Folders of runs that have no manifest, such as other tools write: their files are known by what is in them."""

import re
from collections.abc import Callable
from pathlib import Path

from ..utils import manifest
from ..utils.reading import open_regular, read_text
from .finding import is_checkpoint

TEXT = 10_000_000  # bytes of a config
POINTER = 4096  # bytes of last_checkpoint that are read


def recognise(folder: Path, name: str) -> str | None:
    """Return the kind of a file in a folder without a manifest, by name and content; ``None`` if unknown."""
    path = folder / name
    if path.is_symlink() or not path.is_file():
        return None
    try:
        for pattern, kind, test in RECOGNISED:
            if re.fullmatch(pattern, name) and test(path):
                return kind
    except (OSError, ValueError):
        pass
    return None


def find_config(folder: Path) -> Path | None:
    """Return the config of a run in its folder: that of its manifest, or the one that mmengine has written.

    That is a ``.py`` file with the content of one that mmengine's logger has written (``*/vis_data/config.py``).
    """
    if manifest.has_manifest(folder):
        names = manifest.find_kind(folder, 'config')
        return folder / names[-1] if names else None
    found = [path for path in folder.glob('*.py') if recognise(folder, path.name) == 'config']
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_config(path: Path) -> bool:
    logged = [one for one in path.parent.glob('*/vis_data/config.py') if one.is_file() and not one.is_symlink()]
    return bool(logged) and read_text(path, TEXT, follow=False) in [
        read_text(one, TEXT, follow=False) for one in logged
    ]


def _is_pointer(path: Path) -> bool:
    with open_regular(path, follow=False) as file:
        return re.fullmatch(rb'[^\n]*\.pth\n?|', file.read(POINTER)) is not None


# Names, kinds, and what the content must show.
RECOGNISED: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    (r'(?!best_|last)[^/]+\.pth', 'checkpoint', is_checkpoint),
    (r'best_.+_(epoch|iter)_\d+\.pth', 'best checkpoint', is_checkpoint),
    (r'[^/]+\.py', 'config', _is_config),
    (r'last_checkpoint', 'last_checkpoint', _is_pointer),
)
