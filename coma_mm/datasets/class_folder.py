"""Any folder of images with a sub-folder for each class, split into two parts or not."""

import os
from typing import Any

from ..registry import DATASETS
from .folder import ImageFolder


@DATASETS.register_module()
class ClassFolder(ImageFolder):
    """Images with labels: ``dict(img_path=..., gt_label=...)`` each; the sub-folder that an image is in is its class.

    Where the folder has ``train`` and ``val``, these are the parts, with a sub-folder for each class in both.
    Otherwise the images of each class are divided, always in the same way.

    Args:
        data_root (str): The folder.
        part (str): ``'train'`` or ``'val'``.
        **kwargs: Of :class:`ImageFolder`; ``val`` and ``seed`` say how the images are divided if they are.

    Raises:
        FileNotFoundError: If the folder is not there, or one part is.
        ValueError: If it has no sub-folders with images, or one with a single image, which cannot be divided.
    """

    remedy = "give yours as data_root of both data sets by --cfg-options, see the config's first lines"
    remedy_of_prefix = ''

    def __init__(self, data_root: str, part: str = 'train', **kwargs: Any) -> None:
        root = os.path.expanduser(data_root or '')
        there = [name for name in ('train', 'val') if os.path.isdir(os.path.join(root, name))]
        self.is_divided = len(there) == 2
        if len(there) == 1:
            raise FileNotFoundError(
                f'{root} has a folder {there[0]}, but none for the other part: put the images of both into train and '
                'val, or all of them into one folder with a sub-folder for each class, and set data_root to that'
            )
        kwargs.setdefault('data_prefix', part if self.is_divided else '')
        super().__init__(data_root, part=part, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return ``dict(img_path=..., gt_label=...)`` for each image, in a fixed order; note the classes."""
        folder = os.path.join(self.data_roots[0], self.sub_folder)
        by_class: dict[str, list[str]] = {}
        for path in self.find_files('images', self.extensions):
            name, *rest = os.path.relpath(path, os.path.abspath(folder)).split(os.sep)
            if rest:  # images beside the sub-folders have no class
                by_class.setdefault(name, []).append(path)
        if not by_class:
            raise ValueError(
                f'{folder} has images, but no sub-folders with images: each class needs one, with its name'
            )
        if not self.is_divided:
            by_class = {name: self.choose(paths) for name, paths in by_class.items()}
        classes = self._metainfo.setdefault('classes', tuple(sorted(by_class)))
        if unknown := sorted(set(by_class) - set(classes)):
            raise ValueError(f'{folder} has images of {unknown[0]}, which is none of the classes that metainfo names')
        return [
            dict(img_path=path, gt_label=label) for label, name in enumerate(classes) for path in by_class.get(name, ())
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of an image, as ``ClassBalancedDataset`` and samplers ask for it."""
        return [int(self.get_data_info(idx)['gt_label'])]
