"""Epochs that are shorter than a pass over the data, for runs on slow machines."""

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ..registry import DATA_SAMPLERS
from ..utils.arguments import require_whole


@DATA_SAMPLERS.register_module()
class PartSampler(Sampler):
    """Serves each pass over the data, in a random order of its own, in ``parts`` epochs of equal length.

    Checkpoints, seeds and schedules go by epochs, so a run can be resumed, to the bit, where a part ends.

    Args:
        dataset: The images to draw from.
        parts: Epochs per pass. What remains of a division is left out of that pass.
        seed: Seed of the orders, the same on all ranks. Drawn if ``None``.
    """

    def __init__(self, dataset: Sized, parts: int = 1, seed: int | None = None):
        require_whole(1, parts=parts)
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.parts = parts
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        number, part = divmod(self.epoch, self.parts)
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.seed + number))
        mine = order[part * self.world_size + self.rank :: self.parts * self.world_size]
        return iter(mine[: len(self)].tolist())

    def __len__(self) -> int:
        return len(self.dataset) // (self.parts * self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the part; mmengine's ``DistSamplerSeedHook`` calls this."""
        self.epoch = epoch
