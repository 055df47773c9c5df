"""Measurements on images that a model has not seen, with the same masks each time."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..datasets import ComplementaryMask
from ..datasets.seeding import fixed_seed
from ..models.coma import eval_mode
from ..models.evaluation_branch import ONE_BRANCH
from ..registry import DATASETS
from .features import preprocess
from .reconstruction import Reconstructions, psnr, reconstruct_images

BATCH = 250
DEAD = 0.01  # deviation of a channel, over that of all, at which it is dead


def load_images(dataset: dict | Dataset, count: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Load images of a data set, all of them or ``count`` at equal distances, always the same.

    Args:
        dataset: The data set or its config. Items have ``img`` (uint8, ``(H, W, 3)``), all of one size, and perhaps
            ``gt_label``; or they are packed, with ``inputs`` (uint8, ``(3, H, W)``).
        count: Number of images, at most.

    Returns:
        ``(N, 3, H, W)``, uint8, and labels ``(N,)``, int64, or ``None``.
    """
    with fixed_seed(0):
        dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        numbers = np.linspace(0, len(dataset) - 1, min(count or len(dataset), len(dataset))).round().astype(int)
        items = [dataset[i] for i in numbers]
    if 'inputs' in items[0]:
        return torch.stack([item['inputs'] for item in items]), None
    images = torch.stack([torch.from_numpy(item['img']) for item in items]).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([item['gt_label'] for item in items]) if 'gt_label' in items[0] else None


class Validator:
    """Images with masks, and how well a :class:`coma_mm.models.CoMA` predicts what the masks hide.

    Args:
        dataset: See :func:`load_images`.
        images: Number of its images to use.
        ratio: Share of the units that is hidden, the same for all models whatever they were trained with, so that
            losses can be compared.
        seed: Seed of the masks.
        batch: Images that go through the model at once.
    """

    def __init__(
        self, dataset: dict | Dataset, images: int = 2000, ratio: float = 0.6, seed: int = 0, batch: int = BATCH
    ):
        self.images, _ = load_images(dataset, images)
        self.ratio, self.seed, self.batch = ratio, seed, batch

    def masks(self, unit_size: int) -> Tensor:
        """Return ``(N, Hu, Wu)``, bool."""
        draw = ComplementaryMask(tuple(self.images.shape[2:]), unit_size, self.ratio)
        with fixed_seed(self.seed):
            return torch.stack([torch.from_numpy(draw({})['mask']) for _ in self.images])

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return how well the units are predicted.

        Returns:
            ``loss`` of the adaptive branch on the hidden units, ``loss_evaluation`` of the evaluation branch on the
            others where that is trained for it, both in the units of the training loss. ``psnr`` in dB of the hidden
            units, ``psnr_assembled`` of the assembled image; under ``norm_pix`` with the true mean and deviation of
            each unit.
        """
        result = self.reconstruct(model)
        mask = result.mask.flatten(1)
        losses = dict(loss=result.errors[mask])
        if model.evaluation_mode not in ONE_BRANCH:
            losses['loss_evaluation'] = result.errors[~mask]
        hidden = result.mask[:, None].repeat_interleave(result.unit_size, 2).repeat_interleave(result.unit_size, 3)
        # Visible units count as right, so their share is taken out of the average.
        fraction = hidden.float().mean((1, 2, 3))
        adaptive = (
            psnr(result.originals, torch.where(hidden, result.assembled, result.originals)) + 10 * fraction.log10()
        )
        return {
            **{name: round(errors.mean().item(), 5) for name, errors in losses.items()},
            'psnr': round(adaptive.mean().item(), 3),
            'psnr_assembled': round(result.psnr.mean().item(), 3),
        }

    def reconstruct(self, model: nn.Module) -> Reconstructions:
        """Return the assembled reconstructions of all images."""
        masks, parts = self.masks(model.unit_size), []
        with torch.no_grad(), eval_mode(model):
            for images, mask in zip(self.images.split(self.batch), masks.split(self.batch)):
                parts.append(reconstruct_images(model, images, mask))
        return Reconstructions(
            torch.cat([part.originals for part in parts]),
            torch.cat([part.assembled for part in parts]),
            masks,
            model.unit_size,
            torch.cat([part.errors for part in parts]),
            torch.cat([part.means for part in parts]) if model.target.norm_pix else None,
        )

    def measure_features(self, model: nn.Module) -> dict[str, float]:
        """Measure the features in the last map of whole images, encoded without masks.

        Returns:
            ``rankme`` of their averages over the positions (:func:`rankme`), and ``dead_channels``, the fraction of
            channels with about one value at all positions of all images (:func:`dead_channels`).
        """
        with torch.no_grad(), eval_mode(model):
            batches = (preprocess(model, images) for images in self.images.split(self.batch))
            maps = torch.cat([model.extract_feat(batch)[-1].float().cpu() for batch in batches])
        maps = maps.flatten(2)
        return dict(
            rankme=round(rankme(maps.mean(2)), 3),
            dead_channels=round(dead_channels(maps.transpose(1, 2).flatten(0, 1)), 5),
        )


def rankme(features: Tensor) -> float:
    """Return the effective rank of features (N, C), between 1 and min(N, C).

    It is the exponential of the entropy of singular values, whose sum is made 1 (RankMe, Garrido et al., ICML 2023).
    """
    weights = torch.linalg.svdvals(features.float())
    weights = weights / weights.sum() + 1e-7
    return (-(weights * weights.log()).sum()).exp().item()


def dead_channels(features: Tensor) -> float:
    """Return the fraction of channels of features (N, C) that hardly differ from one of the N to another.

    A channel is dead if its standard deviation is 1 % of the root mean square of all channels' or less.
    """
    deviation = features.float().std(0, unbiased=False)
    return (deviation <= DEAD * deviation.square().mean().sqrt()).float().mean().item()
