"""Pictures that come with the dependencies: nothing to download, enough for a demo on a fresh machine."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image

from ..registry import DATASETS
from ..utils.arguments import require_whole
from .loading import read_image


class Photo(NamedTuple):
    """The place of a photo, and its licence."""

    file: str  # below site-packages
    licence: str
    credit: str


# Photos of natural scenes in the two wheels, whose licence lets anyone publish a picture made of them (CC BY: with the
# credit). The terms are those stated in the docstrings of skimage.data and in sklearn's
# datasets/images/README.txt.
PHOTOS = {
    'astronaut': Photo('skimage/data/astronaut.png', 'public domain', 'NASA'),
    'camera': Photo('skimage/data/camera.png', 'CC0', 'Lav Varshney'),
    'chelsea': Photo('skimage/data/chelsea.png', 'CC0', 'Stefan van der Walt'),
    'china': Photo('sklearn/datasets/images/china.jpg', 'CC BY 2.0', 'flickr.com/photos/danielbuechele/6061409035'),
    'coffee': Photo('skimage/data/coffee.png', 'CC0', 'Rachel Michetti'),
    'flower': Photo('sklearn/datasets/images/flower.jpg', 'CC BY 2.0', 'flickr.com/photos/vultilion/6056698931'),
    'rocket': Photo('skimage/data/rocket.jpg', 'public domain', 'SpaceX'),
}

PACKAGES = {'skimage': 'scikit-image', 'sklearn': 'scikit-learn'}  # by the name that pip knows


def photo_path(name: str) -> str:
    """Return the file of one of :data:`PHOTOS`."""
    if name not in PHOTOS:
        raise ValueError(f'unknown photo {name!r}: choose among {list(PHOTOS)}')
    module, _, file = PHOTOS[name].file.partition('/')
    spec = importlib.util.find_spec(module)  # where the package lies, without importing it
    path = os.path.join(os.path.dirname(spec.origin), file) if spec and spec.origin else ''  # a folder has no origin
    if not os.path.isfile(path):
        package = PACKAGES.get(module, module)
        raise FileNotFoundError(
            f'the photo {name!r} comes with {package} ({PHOTOS[name].file}), but is not here: '
            f'pip install --upgrade {package}, or leave it out of the names'
        )
    return path


@DATASETS.register_module()
class Photos(BaseDataset):
    """The photos that come with scikit-image and scikit-learn, over and over, for pipelines that crop at random.

    They are decoded once and kept in memory (7 MB), so a pipeline starts with the crop. Each item is a dict of ``img``
    (uint8, ``(H, W, 3)``, **RGB**), ``img_path``, ``img_shape`` and ``ori_shape`` (height and width) and
    ``sample_idx``.

    Args:
        length: Images per epoch, the photos in turn. Each photo once if ``None``.
        names: Which of :data:`PHOTOS`. All if ``None``.
        short_side: Scale the photos to this short side in pixels, once, so that cropping them costs little. As they are
            if ``None``.
        pipeline: Transforms of each image.

    Raises:
        ValueError: If a name is unknown.
        FileNotFoundError: If the package that brings a photo is missing.
    """

    def __init__(
        self,
        length: int | None = None,
        names: Sequence[str] | None = None,
        short_side: int | None = None,
        pipeline: Sequence[dict | Callable] = (),
    ) -> None:
        if isinstance(names, str) or (names is not None and not names):
            raise ValueError(f'names must be a list of photos among {list(PHOTOS)}, or None for all, got {names!r}')
        given = dict(length=length, short_side=short_side)
        require_whole(1, **{name: value for name, value in given.items() if value is not None})
        self.names = tuple(PHOTOS if names is None else names)
        self.length = len(self.names) if length is None else length
        self.short_side = short_side
        super().__init__(pipeline=pipeline, serialize_data=False)

    def load_data_list(self) -> list[dict]:
        data_list = []
        for name in self.names:
            path = photo_path(name)
            img = read_image(path)
            if self.short_side:
                height, width = (round(side * self.short_side / min(img.shape[:2])) for side in img.shape[:2])
                img = np.array(Image.fromarray(img).resize((width, height), Image.Resampling.BICUBIC))
            data_list.append(dict(img=img, img_path=path, img_shape=img.shape[:2], ori_shape=img.shape[:2]))
        return data_list

    def __len__(self) -> int:
        return self.length

    def get_data_info(self, idx: int) -> dict:
        """Return a copy of the photo at a position of the epoch."""
        if idx >= self.length:
            raise IndexError(idx)  # ends a `for photo in dataset`
        info = super().get_data_info(idx % len(self.names))
        return dict(info, sample_idx=idx)


def load_digits_images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's handwritten digits as colour images, to see what features are worth.

    Args:
        size: Side to scale the 8x8 pixel originals to (bicubic).

    Returns:
        1797 images, ``(N, 3, size, size)``, uint8, white on black; and their labels 0 to 9, ``(N,)``, int64. In
        the order of scikit-learn, which mixes the classes.
    """
    from sklearn.datasets import load_digits  # here, because only this function needs it

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    scaled = [Image.fromarray(img).resize((size, size), Image.Resampling.BICUBIC) for img in grey]
    images = np.repeat(np.stack(scaled)[:, None], 3, axis=1)
    return images, digits.target.astype(np.int64)


@DATASETS.register_module()
class Digits(BaseDataset):
    """Scikit-learn's handwritten digits as colour images, see :func:`load_digits_images`.

    Each item is a dict of ``img`` (uint8, ``(size, size, 3)``), ``gt_label``, ``img_shape`` and ``ori_shape`` (height
    and width) and ``sample_idx``.

    Args:
        size: Side to scale the 8x8 pixel originals to.
        pipeline: Transforms of each image.
        indices: The first so many, or these. All if ``None``.
    """

    def __init__(
        self, size: int = 32, pipeline: Sequence[dict | Callable] = (), indices: int | Sequence[int] | None = None
    ) -> None:
        require_whole(1, size=size)
        self.size = size
        super().__init__(pipeline=pipeline, serialize_data=False, indices=indices)

    def load_data_list(self) -> list[dict]:
        images, labels = load_digits_images(self.size)
        shape = (self.size, self.size)
        images = images.transpose(0, 2, 3, 1)
        return [dict(img=img, gt_label=int(y), img_shape=shape, ori_shape=shape) for img, y in zip(images, labels)]
