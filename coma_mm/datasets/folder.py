"""Any folder of images as a data set without labels."""

import codecs
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence, Set
from functools import lru_cache
from typing import Any
from zlib import crc32

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger, print_log
from PIL import Image

from ..registry import DATASETS
from ..utils.arguments import require_number, require_whole
from ..utils.manifest import MANIFEST, has_manifest
from ..utils.reading import read_bytes
from ..utils.text import one_line, printable
from .exclusion import Exclusion
from .image_headers import FORMATS
from .loading import UnreadableImageError

KINDS_NAMED = 20  # of files that are left out

MAX_LIST = 1_000_000_000  # bytes of a list of paths
MARKS = (
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF32_LE, 'utf-32'),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)

UNREAD, READABLE, UNREADABLE = range(3)


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and its sub-folders, without labels: ``dict(img_path=...)`` each.

    The names of the sub-folders mean nothing, so this also reads ImageNet's ``train`` for pre-training. Hidden files
    and folders (``.name``) are left out, links to folders are followed, and the order is the same on every machine.
    Files of other endings are counted in ``left_out``, and the log has one line on them.

    An image that the pipeline's :class:`LoadImage` cannot read is named in the log, once, and another one is drawn at
    random in its place. More than ``max_unreadable`` of the data set stops the run; so that a big one need not be read
    to its end for that, 200 unreadable images do if they are more than that share of those read so far. The workers of
    a process count together, the processes of a distributed run each for themselves. With ``test_mode`` the first one
    stops the run.

    Args:
        data_root (str | Sequence[str]): The folder, or several; or a ``.txt`` file with the path of an image in each
            line, relative to the file's folder.
        data_prefix (str): Sub-folder of each folder to read, e.g. ``train``. Defaults to '', all of it.
        extensions (Sequence[str] | None): What file names end in, in upper or lower case. Defaults to None, all that
            :func:`image_endings` knows.
        exclude (Sequence[str] | None): Patterns of paths below each folder (below a list's own folder) that are left
            out, such as ``['*_mask.png', 'masks/*']``, see :class:`.exclusion.Exclusion`. Defaults to None.
        part (str | None): ``'train'`` or ``'val'`` of the images, see ``val``. Defaults to None, all of them.
        val (float): The share that is held out from ``'train'`` and is ``'val'``, one image at least. Names and
            ``seed`` decide which, so most of them stay when others are added. Defaults to 0.1.
        seed (int): Of this choice. Defaults to 0.
        max_unreadable (float): The share of unreadable images that is put up with. Defaults to 0.05.
        **kwargs: ``pipeline``, ``indices``, ``test_mode``, ``lazy_init``... of mmengine's ``BaseDataset``.

    Raises:
        FileNotFoundError: If the folder does not exist or has no images in it, or ``exclude`` leaves none.
        ValueError: While reading, if too many images are unreadable.
    """

    remedy = 'name yours as FOLDER of coma-mm pretrain, or with --cfg-options train_dataloader.dataset.data_root=FOLDER'
    remedy_of_prefix = " train_dataloader.dataset.data_prefix=SUBFOLDER (or '')"

    def __init__(
        self,
        data_root: str | Sequence[str],
        data_prefix: str = '',
        extensions: Sequence[str] | None = None,
        part: str | None = None,
        val: float = 0.1,
        seed: int = 0,
        max_unreadable: float = 0.05,
        exclude: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        require_number('[0, 1]', max_unreadable=max_unreadable)
        require_number('(0, 1)', val=val)
        require_whole(0, seed=seed)
        if part not in (None, 'train', 'val'):
            raise ValueError(f"part must be 'train', 'val' or None, got {part!r}")
        if isinstance(extensions, str) or (extensions is not None and not extensions):
            raise ValueError(f"extensions must be a list of endings such as ['.jpg', '.png'], got {extensions!r}")
        self.extensions = image_endings() if extensions is None else tuple(ending.lower() for ending in extensions)
        self.exclusion = Exclusion(exclude)
        self.left_out: Counter[str] = Counter()  # files that are no images, by their endings
        self.part, self.val, self.seed = part, val, seed
        self.max_unreadable = max_unreadable
        # per image UNREAD, READABLE or UNREADABLE, in memory that the workers share
        self.state: torch.Tensor | None = None
        roots = [data_root] if isinstance(data_root, (str, os.PathLike)) else data_root or ['']
        self.data_roots = [os.path.expanduser(root) for root in roots]
        self.sub_folder = data_prefix
        super().__init__(data_root=self.data_roots[0], data_prefix=dict(img_path=data_prefix), **kwargs)

    def full_init(self) -> None:
        super().full_init()
        if self.state is None:
            self.state = torch.full((len(self),), UNREAD, dtype=torch.uint8).share_memory_()

    def load_data_list(self) -> list[dict]:
        """Return ``dict(img_path=...)`` for each image, in a fixed order."""
        return [dict(img_path=path) for path in self.choose(self.find_images())]

    def find_images(self) -> list[str]:
        """Return the paths of all images; name what is left out, once in each log."""
        self.left_out.clear()
        paths = self.find_files('images', self.extensions)
        if text := name_endings(self.left_out):
            roots = ', '.join(map(one_line, self.data_roots))
            _say_once(f'{roots}: {text}', MMLogger.get_current_instance().instance_name)
        return self.leave_out(paths, self.name_images(paths)) if self.exclusion.tests else paths

    def name_images(self, paths: list[str]) -> list[str]:
        """Return the paths of images below the folder that they were found in, with ``/`` between folders."""
        folders = [
            os.path.dirname(root) if os.path.isfile(root) else os.path.join(root, self.sub_folder)
            for root in self.data_roots
        ]
        heads = sorted({os.path.join(os.path.abspath(folder), '') for folder in folders}, key=len)
        heads = [*heads, '']
        names = [path[len(next(head for head in heads if path.startswith(head))) :] for path in paths]
        return names if os.sep == '/' else [name.replace(os.sep, '/') for name in names]

    def leave_out(self, images: list, names: list[str]) -> list:
        """Return the images that no pattern excludes; name in the log what was left out, and patterns without any."""
        kept = self.exclusion.keep(names)
        text = self.exclusion.describe()
        if idle := self.exclusion.idle:
            text += f'; no image matches {", ".join(map(repr, idle))}'
        level = logging.WARNING if idle else logging.INFO
        _say_once(text, MMLogger.get_current_instance().instance_name, level)
        return [image for image, stays in zip(images, kept) if stays]

    def choose(self, paths: list[str]) -> list[str]:
        """Return those of our part, in their order."""
        if self.part is None:
            return paths
        if len(paths) < 2:
            raise ValueError(
                f'{os.path.dirname(paths[0])} has one image, so none can be held out: add some, or remove it'
            )
        # by their names in the folder, so that it may be moved
        common = os.path.commonpath(paths)
        order = sorted(paths, key=lambda path: crc32(os.fsencode(f'{self.seed} {os.path.relpath(path, common)}')))
        count = min(max(1, round(self.val * len(paths))), len(paths) - 1)
        held_out = set(order[:count])
        return [path for path in paths if (path in held_out) == (self.part == 'val')]

    def find_files(self, what: str, extensions: Sequence[str]) -> list[str]:
        """Return the paths of all files in the folders with one of these endings, called ``what`` in errors."""
        paths = [path for root in self.data_roots for path in self._find_in(root, what, extensions)]
        return list(dict.fromkeys(paths))  # once, also where one folder lies in another

    def _find_in(self, root: str, what: str, extensions: Sequence[str]) -> list[str]:
        if os.path.isfile(root):
            if root.lower().endswith('.txt'):
                return read_list(root)
            raise ValueError(
                f'{printable(root)} is a file, but a folder of {what} is wanted, or a list of their paths, whose name '
                'ends in .txt'
            )
        folder = os.path.abspath(os.path.join(root, self.sub_folder))
        remedy = self.remedy
        if folder != os.path.abspath(root):
            remedy += self.remedy_of_prefix
        if not root:
            raise FileNotFoundError(f'no folder of {what} is given: {remedy}')
        if not os.path.isdir(folder):
            raise FileNotFoundError(f'there is no folder {folder}: put the {what} there, or {remedy}')
        paths = find_images(folder, extensions, self.left_out)
        if not paths:
            wanted = 'all kinds that Pillow opens' if extensions == image_endings() else ' '.join(extensions)
            text = name_endings(self.left_out)
            raise FileNotFoundError(
                f'no {what} in {folder} and its sub-folders (looked for {wanted}{"; " if text else ""}{text}): '
                f'put some there, or {remedy}'
            )
        return paths

    def prepare_data(self, idx: int) -> dict | None:
        """Return the image after the pipeline, or None to have mmengine draw another one."""
        try:
            data = super().prepare_data(idx)
        except UnreadableImageError as error:
            if self.test_mode:
                raise
            self._skip(idx, error)
            return None
        assert self.state is not None  # full_init has made it
        self.state[idx] = READABLE
        return data

    @property
    def num_unreadable(self) -> int:
        """The number of images found unreadable so far."""
        return 0 if self.state is None else int((self.state == UNREADABLE).sum())

    def _skip(self, idx: int, error: UnreadableImageError) -> None:
        """Log an unreadable image if it is a new one, and stop the run if there are too many."""
        assert self.state is not None  # full_init has made it
        if self.state[idx] == UNREADABLE:
            return
        self.state[idx] = UNREADABLE
        count = self.num_unreadable
        _log(f'skipped unreadable image {count}: {error}')
        num_read = int((self.state != UNREAD).sum())
        out_of = len(self) if count < 200 else num_read
        if count > self.max_unreadable * out_of:
            raise ValueError(
                f'{count} of the {num_read} images read so far ({len(self)} in all) are unreadable, more than '
                f'{self.max_unreadable:.0%}: repair or remove them (the log names them; the last is {error}), '
                'leave them out (exclude of the data set; coma-mm pretrain: --exclude), or raise its max_unreadable'
            )


@lru_cache
def image_endings() -> tuple[str, ...]:
    """Return what names of images end in: all that the installed Pillow opens, but for programs and films."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    endings = {ending for ending in endings if Image.EXTENSION[ending] in FORMATS}
    return tuple(sorted(endings | {'.mpo', '.btf'}))  # JPEGs of two pictures, TIFFs beyond 4 GB


def name_endings(endings: Counter[str]) -> str:
    """Return such as ``left out: 12 .heic, 3 .xcf``; nothing if there are none."""
    named = [f'{count} {one_line(ending)}' for ending, count in endings.most_common(KINDS_NAMED)]
    if more := endings.total() - sum(count for _, count in endings.most_common(KINDS_NAMED)):
        named.append(f'{more} of other kinds')
    return f'left out: {", ".join(named)}' if named else ''


def find_images(
    folder: str, extensions: Sequence[str] | None = None, left_out: Counter[str] | None = None
) -> list[str]:
    """Return the paths of all images in a folder and its sub-folders, in a fixed order.

    Asks the file system for what is in each folder and for nothing more about each file: ImageNet takes seconds. What
    has an image's name and is a pipe, a socket or a device is left out and named in the log, and so is a run's folder:
    its pictures are no data.

    Args:
        folder (str): The folder.
        extensions (Sequence[str] | None): What names end in. Defaults to None, :func:`image_endings`.
        left_out (Counter | None): Counts the endings of other files, hidden ones aside. Defaults to None.

    Raises:
        ValueError: If the folder itself may not be read; inner ones are left out.
    """
    paths, visited, folders = [], set(), [folder]
    extensions = image_endings() if extensions is None else tuple(extensions)
    left_out = Counter() if left_out is None else left_out
    while folders:
        path = folders.pop()
        real_path = os.path.realpath(path)
        if real_path in visited:  # reached again by a link, which may lead back to where we are
            continue
        visited.add(real_path)
        try:
            with os.scandir(path) as found:
                entries = sorted((entry for entry in found if not entry.name.startswith('.')), key=lambda x: x.name)
        except OSError as error:
            if path == folder and isinstance(error, PermissionError):
                raise ValueError(f'{printable(folder)} cannot be read: {error.strerror}; correct that') from None
            _log(f'left out a folder: {error}')
            continue
        if is_run({entry.name for entry in entries}, path):
            _log(f'left out {printable(path)}, which is the folder of a run')
            continue
        kinds = [(entry, _kind(entry)) for entry in entries]
        folders += [entry.path for entry, kind in reversed(kinds) if kind == 'folder']
        for entry, kind in kinds:
            if kind == 'folder':
                continue
            if not entry.name.lower().endswith(extensions):
                left_out[os.path.splitext(entry.name)[1].lower() or 'without an ending'] += 1
            elif kind == 'file':
                paths.append(entry.path)
            else:
                _log(f'left out {entry.path}, which is no file, but a pipe, a socket or a device')
    return paths


def is_run(names: Set[str], folder: str) -> bool:
    """Say whether the folder that has files of these names is that of a run."""
    if MANIFEST in names:
        return has_manifest(folder)
    return {'checkpoints.json', 'last_checkpoint'} <= names  # before there was a manifest


def _kind(entry: os.DirEntry) -> str:
    """Return ``folder``, ``file`` or ``other``; of links what they lead to, ``file`` if that is not there."""
    try:
        if entry.is_dir():
            return 'folder'
        return 'file' if entry.is_file() or not os.path.exists(entry.path) else 'other'
    except OSError:  # a link to itself
        return 'file'


def _log(message: str) -> None:
    """Log as an error, because all ranks but the first print nothing less."""
    print_log(printable(message), logger='current', level=logging.ERROR)


@lru_cache
def _say_once(message: str, logger: str, level: int = logging.WARNING) -> None:
    print_log(printable(message), logger='current', level=level)


def read_list(path: str) -> list[str]:
    """Return the paths that a text file has, one in a line, relative to its folder.

    The text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Empty lines, and those that begin with ``#`` and name
    no file, are left out. Quotes around a path go, and so do backslashes between folders where the first such path is
    there with ``/`` only.

    Raises:
        FileNotFoundError: If the first of them is not there, or there is none.
        ValueError: If it is no text.
    """
    folder = os.path.dirname(os.path.abspath(path))

    def is_there(name: str) -> bool:
        return '\0' not in name and os.path.isfile(os.path.join(folder, name))

    lines = [line for line in map(str.strip, re.split('\r\n|\r|\n', _read_list_text(path))) if line]
    lines = [line for line in lines if line[0] != '#' or is_there(line)]
    lines = [
        line[1:-1] if line[0] in '"\'' and line[-1] == line[0] and len(line) > 2 and not is_there(line) else line
        for line in lines
    ]
    windows = next((line for line in lines if '\\' in line), '')
    if windows and not is_there(windows) and is_there(windows.replace('\\', '/')):
        lines = [line.replace('\\', '/') for line in lines]
    wanted = 'write the path of an image in each line, relative to its folder, and nothing else'
    if not lines:
        raise FileNotFoundError(f'{printable(path)} names no image: {wanted}')
    if not is_there(lines[0]):
        raise FileNotFoundError(f'{printable(path)} names {_explain_line(lines[0], folder)}: {wanted}')
    return [os.path.join(folder, line) for line in lines]


def _read_list_text(path: str) -> str:
    content = read_bytes(path, MAX_LIST)
    encoding = next((encoding for mark, encoding in MARKS if content.startswith(mark)), 'utf-8')
    try:
        text = content.decode(encoding, 'strict' if 'utf-8' not in encoding else 'surrogateescape')  # as names of files
        if '\0' not in text:
            return text
        reason = 'it has zero bytes, as UTF-16 without a byte order mark, `find -print0` and images have'
    except UnicodeDecodeError as error:
        reason = f'{error.reason} in {encoding}'
    raise ValueError(
        f'{printable(path)} is no text with the path of an image in each line ({reason}); it begins with '
        f'{printable(content[:40].decode("latin-1"))!r}: save it as UTF-8'
    )


def _explain_line(line: str, folder: str) -> str:
    """Say what is wrong with the first line of a list."""
    shown = f'{printable(line[:200])!r} first'
    if '://' in line:
        return f'{shown}, an address, but images are read from this machine: download them'
    if os.path.isdir(os.path.join(folder, line)):
        return f'{shown}, a folder; folders are given themselves, in place of a list'
    if re.match(r'[A-Za-z]:[\\/]|\\\\', line) and os.name != 'nt':
        return f'{shown}, which Windows would find, but not this machine'
    for separator in ('\t', ',', ';', ' '):
        head = line.partition(separator)[0] if separator != ' ' else line.rpartition(separator)[0]
        head = head.strip(' "\'')
        is_image = head.lower().endswith(image_endings()) or os.path.isfile(os.path.join(folder, head))
        if head not in ('', line) and is_image:
            return f'{shown}, which is more than a path: leave out what follows {printable(head)!r}, such as labels'
    return f'{shown}, and there is no {printable(os.path.join(folder, line)[:400])}'


def find_named_images(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return ``(name, path)`` for each image file named and for all images in each folder named.

    Raises:
        FileNotFoundError: If there is no such file, or no image in a folder.
    """
    named = []
    for name in names:
        paths = [name] if os.path.isfile(name) else find_images(name)
        if not paths:
            raise FileNotFoundError(f'there is {"no image in the folder" if os.path.isdir(name) else "no file"} {name}')
        named += [(name, path) for path in paths]
    return named
