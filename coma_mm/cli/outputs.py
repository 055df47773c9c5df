"""Overwrite rule of all commands: a file is replaced only if a command of this package wrote it, weights never."""

import argparse
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..utils.configs import walk, walk_dicts
from ..utils.files import MARK, remember
from ..utils.manifest import find_entry, proves
from ..utils.reading import open_regular

HEAD = 1_000_000  # bytes at the beginning and at the end of a file, in which a mark is looked for
IMAGES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
# parts of a config that images are read for
READING = *(f'{part}_{kind}' for part in ('train', 'val', 'test') for kind in ('dataloader', 'cfg')), 'custom_hooks'
# in manifests
KINDS = {'.html': 'report', '.png': 'picture', '.json': 'comparison', '.pth': 'weights', '.safetensors': 'weights'}


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add ``--force``."""
    parser.add_argument(
        '--force', action='store_true', help='replace existing output files, even if no such command has written them'
    )


def check_output(path: str | os.PathLike, option: str, inputs: Iterable[str | os.PathLike | None], force: bool) -> None:
    """Refuse an output that would destroy a file which must be kept; say why, and what to type.

    What takes the name afterwards is kept, too: see :func:`.files.remember`.

    Args:
        option: By which it was named, for the message.
        inputs: Files and folders that the command reads. Images in an input folder are inputs, too.
        force: Whether a file of unknown origin is replaced, which is none of the inputs.
    """
    place = Path(path)
    remember(place)
    if not os.path.lexists(place):
        return
    another = f'another file with {option}'
    for source in inputs:
        if source is not None and is_input(place, Path(source)):
            raise ValueError(f'{place} is also read by this command, and would be replaced: name {another}')
    if not place.is_symlink() and not stat.S_ISREG(os.lstat(place).st_mode):
        raise ValueError(f'{place} is no file that could be replaced: name {another}')
    listed = find_entry(place)
    if listed and listed[2]['kind'] != KINDS.get(place.suffix.lower()):
        raise ValueError(f'{place} is the {listed[2]["kind"]} of a run, and would be replaced: name {another}')
    if not force and not (listed and proves(*listed)) and not is_marked(place):
        what = 'is a link' if place.is_symlink() else 'exists already and is not known to be as coma-mm wrote it'
        raise ValueError(f'{place} {what}: name {another}, or replace it with --force')


def check_folder(path: str | os.PathLike, roots: Iterable[str | os.PathLike], force: bool) -> None:
    """Refuse a folder for pictures (``--show-dir``) that has something in it, or lies in one that is read."""
    real = Path(os.path.realpath(path))
    for root in roots:
        if real.is_relative_to(os.path.realpath(root)):
            raise ValueError(f'{path} lies in {root}, which is read: name another folder with --show-dir')
    if not force and real.is_dir() and any(real.iterdir()):
        raise ValueError(
            f'{path} has something in it that could be replaced: name a new folder with --show-dir, or add --force'
        )


def check_work_dir(cfg: Any) -> None:
    """Refuse a work dir that is a folder which the config has images from, for training or tests."""
    from ..engine.runner.earlier_results import require_no_images  # takes time

    require_no_images(cfg.work_dir, find_roots([cfg.get(name) for name in READING]))


def check_evaluators(node: object, place: str, roots: Iterable[str], force: bool, option: str) -> None:
    """Refuse folders for results that evaluators of a config write to, as :func:`check_folder` does.

    They write past mmengine, so that nothing would be set aside. Errors name the place of ``node`` in the config.
    """
    for path, settings in walk_dicts(node, place):
        for name in ('output_dir', 'csv_dir'):
            folder = settings.get(name)
            if not isinstance(folder, (str, os.PathLike)) or not os.path.isdir(folder) or not os.listdir(folder):
                continue
            is_read = os.path.realpath(folder) in map(os.path.realpath, roots)
            if is_read or not force:
                remedy = '' if is_read else f', or add {option}'
                raise ValueError(
                    f'{path}.{name}={folder} has something in it that could be replaced: name a new folder with '
                    f'--cfg-options {path}.{name}=FOLDER{remedy}'
                )


def find_roots(node: object) -> list[str]:
    """Return the folders that hooks and data sets in a config, or those that they wrap, have their images from."""
    found: list[str | os.PathLike] = []
    for _, settings in walk_dicts(node):
        named = settings.get('data_root') or ''
        prefixes = [[], *([text] for _, text in walk(settings.get('data_prefix')) if isinstance(text, str) and text)]
        for root in [named] if isinstance(named, (str, os.PathLike)) else named:
            found += [os.path.join(root, *prefix) for prefix in prefixes]
        found += [settings['labels']] if isinstance(settings.get('labels'), (str, os.PathLike)) else []
    return [os.path.expanduser(root) for root in found if root]


def find_files(node: object, roots: Iterable[str] = ('',)) -> list[str]:
    """Return the files that settings name, such as annotations: as they stand, or in one of the folders there."""
    texts = [os.path.expanduser(value) for _, value in walk(node) if isinstance(value, str)]
    places = [os.path.join(root, text) for text in texts for root in roots]
    return [place for place in places if '\0' not in place and os.path.isfile(place)]


def is_input(place: Path, source: Path) -> bool:
    """Say whether a file is one that a command reads: the same file, one of a list, or an image in the same folder."""
    with suppress(OSError, ValueError):
        if os.path.samefile(place, source):
            return True
        if source.suffix.lower() == '.txt' and source.is_file():
            from ..datasets.finding import read_list  # takes time

            return os.path.realpath(place) in map(os.path.realpath, read_list(str(source)))
    inside = Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(source))
    return source.is_dir() and inside and place.suffix.lower() in IMAGES


def is_marked(place: Path) -> bool:
    """Say whether the content of a file shows that a command of this package has written it."""
    find = MARKS.get(place.suffix.lower())
    with suppress(OSError, ValueError), open_regular(place, follow=False) as file:
        head = file.read(HEAD)
        file.seek(max(0, os.fstat(file.fileno()).st_size - HEAD))
        return find is not None and find(head, file.read(HEAD))
    return False


# The end of a zip file whose comment is the mark.
ARCHIVE = rb'PK\x05\x06.{16}' + len(MARK).to_bytes(2, 'little') + MARK.encode() + rb'\Z'
# Tests for a file of ours, by its ending: on its beginning and its end. Weights and graphs have no such mark: users
# change, average or quantise them, and keep the metadata.
MARKS: dict[str, Callable[[bytes, bytes], bool]] = {
    '.png': lambda head, tail: f'Software\0{MARK}'.encode() in head[:1000],
    '.svg': lambda head, tail: f'<title>{MARK}</title>'.encode() in head,
    '.pdf': lambda head, tail: f'/Creator ({MARK})'.encode() in head + tail,
    '.json': lambda head, tail: f'"kind": "comparison of {MARK}"'.encode() in head[:1000],
    '.npz': lambda head, tail: re.search(ARCHIVE, tail, re.S) is not None,
    '.html': lambda head, tail: f'<meta name="generator" content="{MARK}">'.encode() in head[:2000],
}
