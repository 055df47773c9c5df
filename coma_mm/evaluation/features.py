"""Features of image files, by one or several extractors at once, in bounded memory."""

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..datasets import UnreadableImageError, read_image
from ..datasets.loading import fit_image
from ..models import FeatureExtractor
from ..utils.environment import count_cores
from ..utils.progress import show_progress
from ..utils.text import printable
from ..utils.workers import end_with_unsent


class ImageFiles(Dataset):
    """Image files as tensors ``(C, height, width)``: the largest part of their shape in the middle, scaled.

    Items are ``(number, tensor)``, with ``None`` for a file that cannot be read, which standard error names.

    Args:
        settings: Arguments of :func:`.datasets.read_image`.
        were_read: Whether all of them could be read before: one that cannot be read now is an error.
    """

    def __init__(self, paths: Sequence[str], height: int, width: int, settings: dict, were_read: bool = False):
        self.paths = paths
        self.size = height, width
        self.settings = settings
        self.were_read = were_read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None]:
        try:
            image = read_image(self.paths[index], **self.settings)
        except UnreadableImageError as error:
            if self.were_read:
                raise
            print(printable(f'skipped {error}'), file=sys.stderr, flush=True)
            return index, None
        return index, fit_image(image, *self.size)

    def take(self, numbers: Sequence[int]) -> 'ImageFiles':
        """Return some of the images, by number, that could be read before."""
        return ImageFiles([self.paths[number] for number in numbers], *self.size, self.settings, were_read=True)


@torch.no_grad()
def extract_features(
    extractors: Sequence[FeatureExtractor], images: ImageFiles, batch_size: int, workers: int
) -> tuple[list[Tensor], list[int]]:
    """Compute features of all images that can be read; each file is read once.

    Args:
        extractors: In the mode, and on the device, in which they are to compute.
        workers: Processes that read images, at most, and no more than there are cores.

    Returns:
        For each extractor features (N, C), float32, on the CPU, and the numbers of the N images.

    Raises:
        ValueError: If no image can be read.
    """
    features: list[Tensor] = []
    read: list[int] = []
    for numbers, batch in read_batches(images, batch_size, workers, 'features'):
        found = [extractor(preprocess(extractor, batch)) for extractor in extractors]
        features = features or [torch.empty(len(images), part.shape[1]) for part in found]
        for whole, part in zip(features, found):
            whole[len(read) : len(read) + len(numbers)] = part
        read += numbers
    if not read:
        raise ValueError('there are no images to take features of')
    return [whole[: len(read)] for whole in features], read


def read_batches(images: ImageFiles, batch_size: int, workers: int, doing: str) -> Iterator[tuple[list[int], Tensor]]:
    """Yield numbers and images ``(B, C, height, width)``, uint8, that can be read, and show the progress."""
    loader = DataLoader(
        images,
        batch_size,
        num_workers=min(workers, count_cores(), len(images) // batch_size),
        collate_fn=list,
        worker_init_fn=end_with_unsent,
    )
    for items in show_progress(loader, doing):
        kept = [item for item in items if item[1] is not None]
        if kept:
            yield [index for index, _ in kept], torch.stack([image for _, image in kept])


def preprocess(model: nn.Module, images: Tensor) -> Tensor:
    """Return images as the data preprocessor of a model hands them on."""
    return model.data_preprocessor(dict(inputs=images, data_samples=None))['inputs']
