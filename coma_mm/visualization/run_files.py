"""Logs, pictures and facts of a run in its folder: kept for the report, and read again within bounds."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils import manifest
from ..utils.reading import parse_json, read_json, read_text

PICTURES = 'pictures'  # folder in the work dir
FACTS = 'run.json'  # in it
KINDS = 'comparison', 'confusion', 'features', 'mistakes', 'neighbours', 'reconstruction'  # of pictures
SIZE = 800, 1100  # of a kept picture, at most
TEXT = 4_000_000  # bytes of a config or of the facts
ROWS = 50  # of facts and of warnings
LINES = 2_000  # of training that are read of the log of a start, about
NAMES = 200  # of what was logged
STARTS = 1_000  # of a run
LARGEST, LAST_STEP = 1e40, 10**12  # value and step


def keep_picture(work_dir: str | os.PathLike, name: str, picture: np.ndarray, step: int) -> Path:
    """Keep a small copy of a picture (H, W, 3), uint8, RGB, as ``pictures/<name>_<step>.jpg``."""
    file = f'{PICTURES}/{name}_{step}.jpg'
    image = Image.fromarray(picture)
    image.thumbnail(SIZE, Image.Resampling.LANCZOS)
    with manifest.own_file(work_dir, file, 'picture') as unfinished:
        image.save(unfinished, quality=75, optimize=True)
    return Path(work_dir, file)


def claimed_pictures(work_dir: Path, kinds: Iterable[str] = KINDS) -> Iterator[str]:
    """Yield the files under names that runs keep pictures of these kinds by."""
    pictures = work_dir / PICTURES
    if os.path.lexists(pictures) and (pictures.is_symlink() or not pictures.is_dir()):
        yield PICTURES
    for path in sorted(pictures.glob('*.jpg')):
        if re.fullmatch(rf'({"|".join(kinds)})_\d+\.jpg', path.name):
            yield f'{PICTURES}/{path.name}'


def forget_pictures(work_dir: str | os.PathLike, step: int) -> None:
    """Delete kept pictures of later iterations than ``step``, of those that the run's manifest lists."""
    if manifest.has_manifest(work_dir):
        for pictures in find_pictures(work_dir).values():
            for number, path in pictures:
                if number > step:
                    manifest.remove_own(work_dir, f'{PICTURES}/{path.name}')


def find_pictures(work_dir: str | os.PathLike) -> dict[str, list[tuple[int, Path]]]:
    """Return the kept pictures by name, each with its step, in order: those of the manifest, if the run has one."""
    found: dict[str, list[tuple[int, Path]]] = {}
    listed = manifest.read_manifest(work_dir) if manifest.has_manifest(work_dir) else None
    for path in Path(work_dir, PICTURES).glob('*_*.jpg'):
        name, _, step = path.stem.rpartition('_')
        is_listed = listed is None or f'{PICTURES}/{path.name}' in listed
        is_step = step.isdecimal() and len(step) <= len(str(LAST_STEP))
        if is_step and is_listed and _is_plain(path, work_dir):
            found.setdefault(name, []).append((int(step), path))
    return {name: sorted(pictures) for name, pictures in sorted(found.items())}


def write_facts(work_dir: str | os.PathLike, facts: dict) -> None:
    """Keep the facts that the page states, for commands that write it later."""
    manifest.write_own(work_dir, f'{PICTURES}/{FACTS}', 'facts', json.dumps(facts))


def read_scalars(work_dir: str | os.PathLike) -> dict[str, list[tuple[int, float]]]:
    """Read what all starts of a run have logged, by name: ``(step, value)`` in order.

    Where a start repeats steps of an earlier one, its own values count. Left out are lines that are cut off, and values
    that are no finite numbers or above 1e40. Of long logs some lines of training are read, evenly, and the last one.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))[-STARTS:]:
        if _is_plain(path, work_dir):
            new, first = _read_start(path)
            for name in {**curves, **new}:
                if name in curves or len(curves) < NAMES:
                    before = [point for point in curves.get(name, ()) if point[0] < first]
                    curves[name] = before + sorted(new.get(name, {}).items())
    return {name: points for name, points in curves.items() if points}


def _read_start(path: Path) -> tuple[dict[str, dict[int, float]], float]:
    """Return the curves of a start and its first step."""
    curves: dict[str, dict[int, float]] = {}
    first = float('inf')
    lines = []
    with suppress(OSError, ValueError):
        lines = read_text(path, follow=False).splitlines()
    every = 1 + len(lines) // LINES
    for number, text in enumerate(lines):
        if number % every and '"lr"' in text and number + 1 < len(lines):  # one of many lines of training
            continue
        try:
            line = parse_json(text)
        except ValueError:
            continue
        step = line.get('step') if isinstance(line, dict) else None
        if type(step) is not int or not 0 <= step <= LAST_STEP:
            continue
        # a validation counts epochs, so only lines of training say where this start began
        if 'lr' in line:
            first = min(first, step)
        for name, value in line.items():
            if name not in ('step', 'iter') and is_drawable(value) and (name in curves or len(curves) < NAMES):
                curves.setdefault(name[:100], {})[step] = value
    return curves, first


def is_drawable(value: object) -> bool:
    """Say whether a value is a finite number that charts have room for."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # type: ignore[operator]


def _is_plain(path: Path, folder: str | os.PathLike) -> bool:
    return manifest.is_plain(Path(folder), path.relative_to(folder).as_posix())


def read_facts(work_dir: Path) -> dict:
    """Return what :func:`write_facts` has kept; nothing if that cannot be read."""
    path = work_dir / PICTURES / FACTS
    try:
        facts = read_json(path, TEXT, follow=False) if _is_plain(path, work_dir) else {}
    except (OSError, ValueError):
        return {}
    return dict(list(facts.items())[:ROWS]) if isinstance(facts, dict) else {}


def read_newest_config(work_dir: Path) -> str:
    """Return the text of a run's newest config; empty if there is none."""
    names = [name for name, entry in manifest.read_manifest(work_dir).items() if entry['kind'] == 'config']
    for path in [*reversed([work_dir / name for name in names]), *sorted(work_dir.glob('*/vis_data/config.py'))[::-1]]:
        try:
            if _is_plain(path, work_dir):
                return read_text(path, TEXT, follow=False)
        except (OSError, ValueError):
            continue
    return ''
