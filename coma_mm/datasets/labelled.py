"""Folders of images with a sub-folder for each class: data sets of them, and lists of files and labels."""

import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..registry import DATASETS
from ..utils.text import first_few, one_line, printable
from .finding import find_images
from .folder import ImageFolder

HELD_OUT = 0.2  # of each class


@DATASETS.register_module()
class ClassFolder(ImageFolder):
    """Images with labels: ``dict(img_path=..., gt_label=...)`` each; the sub-folder that an image is in is its class.

    Where the folder has ``train`` and ``val``, these are the parts, with a sub-folder for each class in both.
    Otherwise the images of each class are divided, always in the same way.

    Labels go by name: ``metainfo=dict(classes=...)`` gives the order, otherwise the sub-folders of ``train`` that have
    images do, sorted. ``val`` may lack some of them, which the log says. The tools number the labels as the checkpoint
    that is tested or resumed does.

    Args:
        data_root: The folder.
        part: ``'train'`` or ``'val'``, or None for all images of a folder that has no such parts.
        **kwargs: Arguments of :class:`.ImageFolder`; ``val`` and ``seed`` say how the images are divided if they are.

    Raises:
        FileNotFoundError: If the folder is not there, or one part is.
        ValueError: If it has no sub-folders with images, or one with a single image, which cannot be divided; if it
            has images of a class that ``metainfo`` or ``train`` does not have.
    """

    remedy = "give yours as data_root of both data sets by --cfg-options, see the config's first lines"
    remedy_of_prefix = ''

    def __init__(self, data_root: str, part: str | None = 'train', **kwargs: Any) -> None:
        root = os.path.expanduser(data_root or '')
        there = [name for name in ('train', 'val') if os.path.isdir(os.path.join(root, name))]
        self.is_divided = len(there) == 2
        self._namer = 'metainfo names'
        if len(there) == 1:
            raise FileNotFoundError(
                f'{root} has a folder {there[0]}, but none for the other part: put the images of both into train and '
                'val, or all of them into one folder with a sub-folder for each class, and set data_root to that'
            )
        kwargs.setdefault('data_prefix', part or '' if self.is_divided else '')
        super().__init__(data_root, part=part, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return ``dict(img_path=..., gt_label=...)`` for each image, by the names of folders; note the classes."""
        folder = os.path.join(self.data_roots[0], self.sub_folder)
        by_class = self._sort_by_class(self.sub_folder)
        if not by_class:
            raise ValueError(
                f'{folder} has images, but no sub-folders with images: each class needs one, with its name'
            )
        if not self.is_divided:
            by_class = {name: self.choose(paths) for name, paths in by_class.items()}
        if 'classes' not in self._metainfo:
            known = by_class
            if self.is_divided and self.part == 'val':  # labels are those that are learnt
                known, self._namer = self._sort_by_class('train'), f'{os.path.join(self.data_roots[0], "train")} has'
            self._metainfo['classes'] = tuple(sorted(known or by_class))
        numbers = self._number(folder, by_class)
        return [dict(img_path=path, gt_label=numbers[name]) for name in sorted(by_class) for path in by_class[name]]

    def number_as(self, classes: Sequence[str], namer: str) -> None:
        """Number the labels as a checkpoint or another data set does, by the names of the classes.

        Args:
            classes: Names in the order of their labels.
            namer: Who has them, for the error: ``'the checkpoint names'``.

        Raises:
            ValueError: If there are images of other classes.
        """
        self._namer = namer
        if list(classes) != list(self.metainfo.get('classes', ())):
            self._metainfo['classes'] = tuple(classes)
            self._fully_initialized = False
            self.full_init()

    def _sort_by_class(self, sub_folder: str) -> dict[str, list[str]]:
        """Return the images of each sub-folder that has some; those beside the sub-folders have no class."""
        root = os.path.abspath(os.path.join(self.data_roots[0], sub_folder))
        by_class: dict[str, list[str]] = {}
        if sub_folder == self.sub_folder:
            paths = self.find_images()
        else:
            paths = find_images(root, self.extensions)
            if paths and self.exclusion.tests:
                paths = self.leave_out(paths, [os.path.relpath(path, root) for path in paths])
        for path in paths:
            name, *rest = os.path.relpath(path, root).split('/')
            if rest:
                by_class.setdefault(_spelling(printable(name)), []).append(path)
        return by_class

    def _number(self, folder: str, found: Collection[str]) -> dict[str, int]:
        """Return the label of each class; raise on classes that nobody knows, and log those without images."""
        classes = self._metainfo['classes']
        numbers = {_spelling(name): label for label, name in enumerate(classes)}
        if unknown := sorted({*found} - {*numbers}):
            raise ValueError(
                f'{printable(folder)} has images of {printable(first_few(unknown, 8))}, but {self._namer} the classes '
                f'{printable(first_few(classes, 8))}: take those images out, or rename their folders to the class that '
                'they show'
            )
        if missing := [name for name in classes if _spelling(name) not in found]:
            text = f'{folder} has no image of {first_few(missing, 8)}; the other classes keep their labels'
            print_log(printable(text), logger='current')
        return numbers

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of an image, as ``ClassBalancedDataset`` and samplers ask for it."""
        return [int(self.get_data_info(idx)['gt_label'])]


@DATASETS.register_module()
class LabelledFolder(ClassFolder):
    """A :class:`.ClassFolder`, of the same arguments, in which a class of one image is only learnt from."""

    remedy = 'name another folder'

    def choose(self, paths: list[str]) -> list[str]:
        if self.part and len(paths) < 2:
            return paths if self.part == 'train' else []
        return super().choose(paths)

    def load_data_list(self) -> list[dict]:
        found = super().load_data_list()
        if not found:
            raise ValueError(
                f'no class in {self.data_roots[0]} has two images, so none can be held out: add some, or give --val'
            )
        return found

    def pairs(self) -> list[tuple[str, int]]:
        """Return path and label of each image."""
        found = map(self.get_data_info, range(len(self)))
        return [(info['img_path'], int(info['gt_label'])) for info in found]


@dataclass
class Labelled:
    """Images with labels."""

    learn: list[tuple[str, int]]  # path and label of each image to learn from
    test: list[tuple[str, int]]  # the same of images to classify
    classes: Sequence[str]  # names, by label
    left_out: list[str]  # sentences on what is left out


def find_labelled(
    folder: str | os.PathLike, val: str | os.PathLike | None = None, exclude: Sequence[str] | None = None
) -> Labelled:
    """Find labelled images: the sub-folder that an image is in is its class.

    Args:
        folder: A sub-folder for each class, or ``train`` and ``val`` with these in them.
        val: Folder of images to classify. If ``None`` these are ``val`` in the folder, or a fixed fifth of each class.
        exclude: Patterns of paths that are left out, see :class:`.ImageFolder`.
    """
    options = dict(exclude=exclude, val=HELD_OUT, pipeline=[])
    folder, val = os.path.expanduser(folder), val and os.path.expanduser(val)

    def read(root: str | os.PathLike, part: str) -> LabelledFolder:
        return LabelledFolder(os.fspath(root), part=choose_part(root, part, val), **options)

    train, test = read(folder, 'train'), read(val or folder, 'val')
    classes = train.metainfo['classes']
    test.number_as(classes, f'{folder} has')
    learn, classify = train.pairs(), test.pairs()
    if len(classes) < 2:
        raise ValueError(f'{folder} has one class, {classes[0]}: two or more are needed, a sub-folder for each')
    files = {_identify(path) for path, _ in learn}
    if both := sum(_identify(path) in files for path, _ in classify):
        raise ValueError(f'{both} images to classify are also learnt from, in {folder}: give --val others')
    return Labelled(learn, classify, classes, describe_left_out(train, learn, classify))


def choose_part(root: str | os.PathLike, part: str, val: str | os.PathLike | None) -> str | None:
    """Return the part of a folder to read: all of it where ``val`` names another one, and it has no parts."""
    is_divided = all(Path(root, name).is_dir() for name in ('train', 'val'))
    return part if is_divided or val is None else None


def describe_left_out(train: LabelledFolder, learn: list[tuple[str, int]], test: list[tuple[str, int]]) -> list[str]:
    """Return sentences on what is left out of a folder."""
    masks = train.exclusion.advise(train.name_images([path for path, _ in learn + test]))
    found = [masks] if masks else []
    every = train.name_images(train.find_images())
    if beside := sum('/' not in name for name in every):
        found.append(f'images beside the sub-folders, without a class: {beside}')
    folder = Path(train.data_roots[0], train.sub_folder)
    folders = {place.name for place in folder.iterdir() if place.is_dir() and not place.name.startswith('.')}
    if empty := sorted(folders - {name.split('/')[0] for name in every}):
        found.append(f'folders without an image: {len(empty)} ({one_line(empty[0])})')
    if lonely := len({label for _, label in learn} - {label for _, label in test}):
        found.append(f'classes without an image to classify: {lonely}')
    return found


def _identify(path: str) -> tuple | str:
    """Return what two names of the same file share, links and hard links."""
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing
        return path
    return status.st_dev, status.st_ino


def _spelling(name: str) -> str:
    """Return a name in one spelling: systems write accents with their letters, or behind them."""
    return unicodedata.normalize('NFC', name)
