"""Folders of runs that have no manifest, of older versions or other tools: their files are known by what is in them."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..utils import manifest
from ..utils.reading import open_regular, parse_json, read_json, read_text
from .finding import is_checkpoint

HEAD = 4096  # bytes at the beginning of a file, in which its kind shows
POLICY = b'http-equiv="Content-Security-Policy" content="default-src \'none\''
TEXT = 10_000_000  # bytes of a config, or of the header of a .safetensors file


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
    """Return the config of a run in its folder: that of its manifest, or of an older run what mmengine has written.

    That is a ``.py`` file with the content of one that mmengine's logger has written (``*/vis_data/config.py``), or a
    ``config.py`` that holds settings alone, no other code.
    """
    if manifest.has_manifest(folder):
        names = manifest.find_kind(folder, 'config')
        return folder / names[-1] if names else None
    found = [path for path in folder.glob('*.py') if recognise(folder, path.name) == 'config']
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_config(path: Path) -> bool:
    text = read_text(path, TEXT, follow=False)
    return text in _dumped(path.parent) or (path.name == 'config.py' and _is_data(text))


def _dumped(folder: Path) -> Iterator[str]:
    """Yield the configs that mmengine's loggers have written below a run's folder."""
    for path in folder.glob('*/vis_data/config.py'):
        try:
            yield read_text(path, TEXT, follow=False)
        except (OSError, ValueError):
            continue


def _is_data(text: str) -> bool:
    """Say whether a config assigns settings and does nothing else, as mmengine writes it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = set()
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return False
        names.add(statement.targets[0].id)
        for node in ast.walk(statement.value):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', None) not in ('dict', 'set', 'float'):
                return False
            if isinstance(node, (ast.Attribute, ast.Lambda, ast.comprehension, ast.JoinedStr, ast.Await)):
                return False
    return {'model', 'work_dir'} <= names


def _head(path: Path) -> bytes:
    with open_regular(path, follow=False) as file:
        return file.read(HEAD)


def _is_options(path: Path) -> bool:
    options = read_json(path, follow=False)
    return isinstance(options, dict) and isinstance(options.get('cfg_options'), list)


def _is_facts(path: Path) -> bool:
    facts = read_json(path, follow=False)
    return isinstance(facts, dict) and {'iterations', 'finished'} <= facts.keys()


def _is_export(path: Path) -> bool:
    with open_regular(path, follow=False) as file:
        size = int.from_bytes(file.read(8), 'little')
        header = parse_json(file.read(size).decode()) if size < TEXT else {}
    return isinstance(header, dict) and 'config_sha256' in (header.get('__metadata__') or {})


def _is_picture(path: Path) -> bool:
    return _head(path).startswith(b'\xff\xd8') and _is_facts(path.with_name('run.json'))


# Names, kinds, and what the content must show.
RECOGNISED: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    (r'(?!best_|last)[^/]+\.pth', 'checkpoint', is_checkpoint),
    (r'best_.+_(epoch|iter)_\d+\.pth', 'best checkpoint', is_checkpoint),
    (r'last\.pth', 'weights', is_checkpoint),
    (r'backbone\.safetensors', 'weights', _is_export),
    (r'[^/]+\.py', 'config', _is_config),
    (r'options\.json', 'options', _is_options),
    (r'last_checkpoint', 'last_checkpoint', lambda path: re.fullmatch(rb'[^\n]*\.pth\n?|', _head(path)) is not None),
    (r'report\.html', 'report', lambda path: POLICY in _head(path)),
    (r'[^/]+\.png', 'picture', lambda path: b'Matplotlib version' in _head(path)),
    (r'wandb_id\.txt', 'id', lambda path: re.fullmatch(rb'\w{1,64}\n?', _head(path)) is not None),
    (r'pictures/run\.json', 'facts', _is_facts),
    (r'pictures/(features|neighbours|reconstruction)_\d+\.jpg', 'picture', _is_picture),
)
