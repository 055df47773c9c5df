"""CIFAR-10, or labelled images of your own in its place, small enough to be kept in memory."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as ROOT_DATASETS
from PIL import Image, ImageOps
from simplejpeg import decode_jpeg

from ..registry import DATASETS
from ..utils.arguments import require_number
from ..utils.reading import open_regular
from .finding import find_images
from .loading import read_image

MAX_CLASSES = 1_000_000  # where their names are not in the .npz file


@lru_cache(maxsize=4)
def read_images(source: str, split: str, size: int = 32) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read and decode all images of a split; 60,000 of CIFAR-10 take about two seconds.

    Args:
        source: One of

            - an ``.npz`` file: ``{split}_bytes`` are the JPEGs of a split one after the other, image i lies from
              ``{split}_offsets[i]`` to ``[i + 1]``, ``y_{split}[i]`` is its label; ``classes`` are their names;
            - a folder with CIFAR-10's own ``cifar-10-batches-py`` in it;
            - a folder with images in ``{split}/<class>/``, where ``val`` will do for ``test``.
        split: ``train`` or ``test``.
        size: Side in pixels that images of folders are cropped (the middle) and scaled to.

    Returns:
        Images ``(N, H, W, 3)``, uint8, RGB; labels ``(N,)``, int64; and the names of the classes.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in it.
        ValueError: If the file has other contents.
    """
    path = Path(source)
    if path.is_file():
        return _read_archive(path, split)
    if (path / 'cifar-10-batches-py').is_dir():
        dataset = ROOT_DATASETS.build(
            dict(type='mmpretrain.CIFAR10', data_root=source, split=split, download=False, pipeline=[])
        )
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        labels = np.array([info['gt_label'] for info in infos])
        return np.stack([info['img'] for info in infos]), labels, tuple(dataset.metainfo['classes'])
    return _read_folder(path, split, size)


def _read_archive(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    try:
        with open_regular(path) as file, np.load(file) as archive:
            data, ends, labels = (archive[key] for key in (f'{split}_bytes', f'{split}_offsets', f'y_{split}'))
            has_classes = 'classes' in archive
            classes = archive['classes'].tolist() if has_classes else range(MAX_CLASSES)
        ends, labels = (numbers.astype(np.int64, casting='safe') for numbers in (ends, labels))
        if len(labels) != len(ends) - 1 or labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(f'it has not one label of its {len(classes)} classes for each image')
        if ends[0] < 0 or (np.diff(ends) < 0).any():  # the same bytes would be copied again and again
            raise ValueError('its images do not lie one after the other')
        files = [data[start:end].tobytes() for start, end in zip(ends[:-1], ends[1:])]
        images = np.stack([decode_jpeg(content, 'RGB') for content in files])
    except Exception as error:  # NumPy and zipfile raise what they stumble over
        raise ValueError(
            f'{path} is not an .npz file of JPEG bytes ({error}): it needs {split}_bytes, {split}_offsets and y_{split}'
        ) from None
    return images, labels, tuple(map(str, classes if has_classes else range(labels.max() + 1)))


def _read_folder(path: Path, split: str, size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    names = (split, 'val') if split == 'test' else (split,)
    folder = next((path / name for name in names if (path / name).is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f'{path} is neither an .npz file of JPEG bytes, nor a folder with cifar-10-batches-py or with images in '
            f'{split}/<class>/; name yours by data_root, or for our configs by the variable COMA_MM_CIFAR10'
        )
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith('.'))
    files = [(file, label) for label, name in enumerate(classes) for file in find_images(str(folder / name))]
    if not files:
        raise FileNotFoundError(f'no images in the sub-folders of {folder}')
    images = [
        np.asarray(ImageOps.fit(Image.fromarray(read_image(file)), (size, size), Image.Resampling.BICUBIC))
        for file, _ in files
    ]
    return np.stack(images), np.array([label for _, label in files]), tuple(classes)


@DATASETS.register_module()
class CIFAR(BaseDataset):
    """Labelled images of one size, decoded once and kept in memory, see :func:`read_images`.

    Each item is a dict of ``img`` (uint8, ``(H, W, 3)``, **RGB**), ``gt_label``, ``img_shape`` and ``ori_shape``
    (height and width) and ``sample_idx``.

    Args:
        data_root: File or folder, see :func:`read_images`.
        split: ``train`` or ``test``.
        size: Side in pixels, for images in folders.
        fraction: Fraction of the images of each class to use, at least one each.
        seed: Seed of the choice of these images.
        pipeline: Transforms of each image.
        indices: The first so many, or these. All if ``None``.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no image in it.
        ValueError: If the file has other contents, or the fraction is not in (0, 1].
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        size: int = 32,
        fraction: float = 1.0,
        seed: int = 0,
        pipeline: Sequence[dict | Callable] = (),
        indices: int | Sequence[int] | None = None,
    ) -> None:
        require_number('(0, 1]', fraction=fraction)
        self.source = os.path.abspath(os.path.expanduser(data_root))
        self.split, self.size, self.fraction, self.seed = split, size, fraction, seed
        super().__init__(pipeline=pipeline, serialize_data=False, indices=indices)

    def load_data_list(self) -> list[dict]:
        images, labels, classes = read_images(self.source, self.split, self.size)
        self._metainfo['classes'] = classes
        chosen: Sequence[int] = range(len(labels))
        if self.fraction < 1:
            order = np.random.default_rng(self.seed).permutation(len(labels))
            of_class = [order[labels[order] == label] for label in range(len(classes))]
            chosen = sorted(np.concatenate([x[: max(1, round(self.fraction * len(x)))] for x in of_class]))
        shape = images.shape[1:3]
        return [dict(img=images[i], gt_label=int(labels[i]), img_shape=shape, ori_shape=shape) for i in chosen]
