"""A linear probe with few labels that is cheap enough to be repeated during a run."""

import os

import torch
from torch import Tensor, nn

from ..datasets.labelled import find_labelled
from ..models.coma import eval_mode
from ..models.feature_extractor import pool_maps
from .features import ImageFiles, preprocess
from .ridge import LinearProbe, draw_labelled

PER_CLASS = 5  # labels
CLASSES = 100
TEST = 250  # images to classify


class FewLabels:
    """Few labelled images in memory, on which a linear probe of a model's features is measured.

    Five images of each class are learnt from, of 100 classes at most. Up to 250 others are classified, the same ones
    each time.

    Args:
        folder: See :func:`.datasets.labelled.find_labelled`.
        size: Height and width that images are scaled to, in pixels.
        settings: Arguments of :func:`.datasets.read_image`.
        batch: Images that go through the model at once.

    Raises:
        ValueError: If too few images can be read; see :func:`.datasets.labelled.find_labelled` for more.
    """

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int], settings: dict, batch: int):
        self.batch = batch
        found = find_labelled(folder)
        step = -(-len(found.classes) // CLASSES)
        learn, test = ([pair for pair in part if pair[1] % step == 0] for part in (found.learn, found.test))
        chosen = draw_labelled(torch.tensor([label for _, label in learn]), PER_CLASS)
        spread = torch.linspace(0, len(test) - 1, min(TEST, len(test))).round().long()
        self.images, self.labels = self._load([learn[i] for i in chosen], size, settings)
        self.test_images, self.truth = self._load([test[i] for i in spread], size, settings)
        if len(self.labels.unique()) < 2 or not len(self.truth):
            raise ValueError(f'too few images in {folder} can be read to learn classes from')

    def measure(self, model: nn.Module) -> float:
        """Return the accuracy of a :class:`coma_mm.models.CoMA`'s features in percent."""
        with torch.no_grad(), eval_mode(model):
            learn, test = self._features(model, self.images), self._features(model, self.test_images)
        return 100 * (LinearProbe(learn, self.labels).predict(test) == self.truth).double().mean().item()

    def _features(self, model: nn.Module, images: Tensor) -> Tensor:
        parts = []
        for batch in images.split(self.batch):
            maps = [values.float() for values in model.extract_feat(preprocess(model, batch))]
            parts.append(pool_maps(maps, 'stats').cpu())
        return torch.cat(parts)

    def _load(self, pairs: list[tuple[str, int]], size: tuple[int, int], settings: dict) -> tuple[Tensor, Tensor]:
        files = ImageFiles([path for path, _ in pairs], *size, settings)
        read = [(image, pairs[i][1]) for i, image in map(files.__getitem__, range(len(files))) if image is not None]
        if not read:
            return torch.empty(0), torch.empty(0, dtype=torch.long)
        return torch.stack([image for image, _ in read]), torch.tensor([label for _, label in read])
