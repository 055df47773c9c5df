"""One walk over the settings of a config, for all that look into one, and one check of the path of its file.

Imports nothing that takes time.
"""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .files import resource_dir
from .paths import short_path


def type_name(kind: object) -> str:
    """Return the name of a class that a config gives by its name, its dotted name or itself; empty for none."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield ``(place, value)`` of a node and of all below it; ``place`` is the dotted name.

    A value may be changed before the next one is asked for.
    """
    yield place, node
    children: Any = node.items() if isinstance(node, dict) else ()
    for name, child in enumerate(node) if isinstance(node, (list, tuple)) else children:
        yield from walk(child, f'{place}.{name}' if place else str(name))


def walk_dicts(node: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """Yield ``(place, value)`` of the dicts among what :func:`walk` yields."""
    return ((path, value) for path, value in walk(node, place) if isinstance(value, dict))


def list_configs(init_cfg: dict | Sequence[dict] | None) -> list[dict]:
    """Return the configs of an ``init_cfg``, which may be one, several or none."""
    return [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())


def require_config_file(path: str | os.PathLike) -> None:
    """Refuse a path that is no file of a config, with the names that come near."""
    wanted = Path(path)
    if wanted.suffix in ('.pth', '.pt', '.safetensors') and wanted.is_file():
        raise ValueError(f'{path} is a checkpoint, but a config is wanted in its place; mind the order')
    if not wanted.is_file():
        own = wanted / 'config.py'  # of a run
        near = ' or '.join([short_path(own)] if own.is_file() else _near_matches(wanted))
        raise ValueError(f'there is no config {path}' + (f'; did you mean {near}?' if near else ''))


def _near_matches(wanted: Path) -> list[str]:
    """Return configs with names like that of a path: beside it, in ./configs, and where the tools come from."""
    roots = Path('configs'), resource_dir('configs')
    found: dict[str, str] = {}
    for config in sorted([*wanted.parent.glob('*.py'), *(config for root in roots for config in root.rglob('*.py'))]):
        if config.is_file() and '_base_' not in config.parts:
            found.setdefault(config.stem, short_path(config))
    stem = wanted.name.removesuffix('.py')
    return [found[name] for name in difflib.get_close_matches(stem, found, n=3, cutoff=0.5)]
