"""Any folder of images as a data set without labels."""

import logging
import os
import pickle
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from mmengine.dataset import BaseDataset

from ..registry import DATASETS
from ..utils.arguments import require_number, require_whole
from ..utils.paths import require_no_other_file
from ..utils.text import one_line
from .exclusion import Exclusion
from .finding import drop_repeated, find_images, hold_out, image_endings, log_error, name_endings, read_list, say_once
from .loading import UnreadableImageError

UNREAD, READABLE, UNREADABLE = range(3)
AT_ONCE = 10_000  # paths


class PathList(list):
    """Paths of images; items ``dict(img_path=...)`` are made when asked for, as millions of dicts take gigabytes."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return PathList(found) if isinstance(key, slice) else dict(img_path=found)

    def __iter__(self) -> Iterator[Any]:
        return (dict(img_path=path) for path in list.__iter__(self))

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return PathList, (list(list.__iter__(self)),)


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and its sub-folders, without labels: ``dict(img_path=...)`` each.

    The names of the sub-folders mean nothing, so this also reads ImageNet's ``train`` for pre-training. Hidden files
    and folders (``.name``) are left out, links to folders are followed, and the order is the same on every machine.
    Files of other endings are counted in ``left_out``, and the log has one line on them.

    An image that the pipeline's :class:`.LoadImage` cannot read is named in the log, once, and another one is drawn at
    random in its place. The run stops if more than ``max_unreadable`` of the data set are unreadable. After 200
    unreadable images the limit applies to the images read so far. The workers of a process count together, the
    processes of a distributed run each for themselves. With ``test_mode`` the first one stops the run.

    Args:
        data_root (str | Sequence[str]): The folder, or several; or a ``.txt`` file with the path of an image in each
            line, relative to the file's folder.
        data_prefix (str): Sub-folder of each folder to read, e.g. ``train``. Defaults to '', all of it.
        extensions (Sequence[str] | None): Endings of file names, in upper or lower case. Defaults to None, all that
            :func:`.image_endings` knows.
        exclude (Sequence[str] | None): Patterns of paths below each folder (below a list's own folder) that are left
            out, such as ``['*_mask.png', 'masks/*']``, see :class:`.exclusion.Exclusion`. Defaults to None.
        part (str | None): ``'train'`` or ``'val'`` of the images, see ``val``. Defaults to None, all of them.
        val (float): The fraction that is held out from ``'train'`` and is ``'val'``, one image at least. Names and
            ``seed`` decide which, so most of them stay when others are added. Defaults to 0.1.
        seed (int): Another seed holds out other images. Defaults to 0.
        max_unreadable (float): The share of unreadable images at which the run goes on. Defaults to 0.05.
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
        self.part, self.val, self.seed, self.max_unreadable = part, val, seed, max_unreadable
        # per image UNREAD, READABLE or UNREADABLE, in memory that the workers share
        self.state = torch.zeros(0, dtype=torch.uint8)
        self.checksum: tuple[int, int] | None = None  # number of images, and of their names in order
        roots = [data_root] if isinstance(data_root, (str, os.PathLike)) else data_root or ['']
        self.data_roots = [os.path.expanduser(root) for root in roots]
        self.sub_folder = data_prefix
        super().__init__(data_root=self.data_roots[0], data_prefix=dict(img_path=data_prefix), **kwargs)

    def full_init(self) -> None:
        super().full_init()
        if not len(self.state):
            self.state = torch.full((len(self),), UNREAD, dtype=torch.uint8).share_memory_()

    def load_data_list(self) -> list[dict]:
        paths = self.choose(self.find_images())
        value = 0
        for start in range(0, len(paths), AT_ONCE):
            names = self.name_images(paths[start : start + AT_ONCE])
            value = crc32(os.fsencode('\0'.join(names)), value)
        self.checksum = len(paths), value
        return PathList(paths)

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Pickle the list of images as mmengine does, but free it meanwhile, so that memory holds it once."""
        content, ends = bytearray(), array('q')
        self.data_list.reverse()
        while self.data_list:
            part = self.data_list[-AT_ONCE:]
            del self.data_list[-AT_ONCE:]
            for info in part[::-1]:
                content += pickle.dumps(info, protocol=4)
                ends.append(len(content))
        return np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64)

    def find_images(self) -> list[str]:
        """Return the paths of all images; log what is left out."""
        self.left_out.clear()
        paths = self.find_files('images', self.extensions)
        if text := name_endings(self.left_out):
            roots = ', '.join(map(one_line, self.data_roots))
            say_once(f'{roots}: {text}', logging.INFO)
        return self.leave_out(paths, self.name_images(paths)) if self.exclusion.tests else paths

    def name_images(self, paths: list[str]) -> list[str]:
        """Return the paths of images below the folder that they were found in."""
        folders = [
            os.path.dirname(root) if os.path.isfile(root) else os.path.join(root, self.sub_folder)
            for root in self.data_roots
        ]
        heads = {os.path.join(os.path.abspath(folder), '') for folder in folders}
        for head in sorted(heads, key=len):  # what has lost one begins with no other
            paths = [path.removeprefix(head) for path in paths]
        return paths

    def leave_out(self, images: list, names: list[str]) -> list:
        """Return the images that no pattern excludes; log how many are left out, and patterns that match none."""
        kept = self.exclusion.keep(names)
        text = self.exclusion.describe()
        if idle := self.exclusion.idle:
            text += f'; no image matches {", ".join(map(repr, idle))}'
        say_once(text, logging.WARNING if idle else logging.INFO)
        return [image for image, stays in zip(images, kept) if stays]

    def choose(self, paths: list[str]) -> list[str]:
        """Return the images of the part, ``'train'`` or ``'val'``, in their order; all without a part."""
        if self.part is None:
            return paths
        if len(paths) < 2:
            raise ValueError(
                f'{os.path.dirname(paths[0])} has one image, so none can be held out: add some, or remove it'
            )
        names = self.name_images(paths)  # below the folder that was given, so that it may be moved
        if all(map(os.path.isabs, names)):  # of a list of images that lie elsewhere
            head = os.path.join(os.path.commonpath(names), '')
            names = [name.removeprefix(head) for name in names]
        held_out = hold_out([os.fsencode(f'{self.seed} {name}') for name in names], self.val)
        return [path for number, path in enumerate(paths) if (number in held_out) == (self.part == 'val')]

    def find_files(self, what: str, extensions: Sequence[str]) -> list[str]:
        """Return the paths of all files in the folders with one of these endings, called ``what`` in errors."""
        paths = [path for root in self.data_roots for path in self._find_in(root, what, extensions)]
        return drop_repeated(paths)  # also where one folder lies in another

    def _find_in(self, root: str, what: str, extensions: Sequence[str]) -> list[str]:
        require_no_other_file(root, what)
        if os.path.isfile(root):
            return read_list(root)
        folder = os.path.abspath(os.path.join(root, self.sub_folder))
        remedy = self.remedy + (self.remedy_of_prefix if self.sub_folder else '')
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
        self.state[idx] = READABLE
        return data

    @property
    def num_unreadable(self) -> int:
        """The number of images found unreadable so far."""
        return int((self.state == UNREADABLE).sum())

    def _skip(self, idx: int, error: UnreadableImageError) -> None:
        """Log an unreadable image if it is a new one, and stop the run if there are too many."""
        if self.state[idx] == UNREADABLE:
            return
        self.state[idx] = UNREADABLE
        count = self.num_unreadable
        log_error(f'skipped unreadable image {count}: {error}')
        num_read = int((self.state != UNREAD).sum())
        out_of = len(self) if count < 200 else num_read
        if count > self.max_unreadable * out_of:
            raise ValueError(
                f'{count} of the {num_read} images read so far ({len(self)} in all) are unreadable, more than '
                f'{self.max_unreadable:.0%}: repair or remove them (the log names them; the last is {error}), '
                'leave them out (exclude of the data set; coma-mm pretrain: --exclude), or with '
                '--cfg-options train_dataloader.dataset.max_unreadable=0.5'
            )
