"""A folder of labelled images as files and labels, divided into those to learn from and those to classify."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..registry import DATASETS
from ..utils.text import one_line
from .class_folder import ClassFolder
from .exclusion import find_masks

HELD_OUT = 0.2  # of each class


@DATASETS.register_module()
class LabelledFolder(ClassFolder):
    """A :class:`.ClassFolder` in which a class of one image is only learnt from.

    Args:
        data_root (str): The folder.
        part (str | None): ``'train'``, ``'val'``, or ``None`` for all images.
        **kwargs: Of :class:`.ClassFolder`.
    """

    remedy = 'name another folder'

    def choose(self, paths: list[str]) -> list[str]:
        """Return the images of the data set's part."""
        if self.part and len(paths) < 2:
            return paths if self.part == 'train' else []
        return super().choose(paths)

    def load_data_list(self) -> list[dict]:
        """Return ``dict(img_path=..., gt_label=...)`` for each image."""
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
    """Images with labels.

    Args:
        learn: Path and label of each image to learn from.
        test: The same of images to classify.
        classes: Names, by label.
        left_out: Sentences on what is left out.
    """

    learn: list[tuple[str, int]]
    test: list[tuple[str, int]]
    classes: Sequence[str]
    left_out: list[str]


def find_labelled(
    folder: str | os.PathLike, val: str | os.PathLike | None = None, exclude: Sequence[str] | None = None
) -> Labelled:
    """Find labelled images: the sub-folder that an image is in is its class.

    Args:
        folder: A sub-folder for each class, or ``train`` and ``val`` with these in them.
        val: Folder of images to classify. If ``None`` these are ``val`` in the folder, or a fixed fifth of each class.
        exclude: Patterns of paths that are left out, see :class:`.ImageFolder`.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If there are not two classes, or nothing to classify, or images are in both parts.
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
    files = {os.path.realpath(path) for path, _ in learn}
    if both := sum(os.path.realpath(path) in files for path, _ in classify):
        raise ValueError(f'{both} images to classify are also learnt from, in {folder}: give --val others')
    return Labelled(learn, classify, classes, describe(train, learn, classify))


def choose_part(root: str | os.PathLike, part: str, val: str | os.PathLike | None) -> str | None:
    """Return the part of a folder to read: all of it where ``val`` names another one, and it has no parts."""
    is_divided = all(Path(root, name).is_dir() for name in ('train', 'val'))
    return part if is_divided or val is None else None


def describe(train: LabelledFolder, learn: list[tuple[str, int]], test: list[tuple[str, int]]) -> list[str]:
    """Return sentences on what is left out of a folder."""
    found = []
    names = train.name_images([path for path, _ in learn + test])
    count, patterns = find_masks(names)
    if patterns:
        options = ' '.join(map(shlex.quote, [*train.exclusion.tests, *patterns]))
        found.append(f'images with names as masks of others have: {count}; to leave them out: --exclude {options}')
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
