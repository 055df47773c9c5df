"""One stream of random crops and masks per epoch, the same after a resume."""

import random

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import get_worker_info


def seed_generators(seed: int) -> None:
    """Seed all generators that transforms draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class EpochSeededDataset(BaseDataset):
    """A data set whose loading workers take up a new seed when :attr:`epoch_seed` changes.

    ``coma_mm.EpochSeedHook`` sets it before each epoch. The seed lies in memory that the workers share, so those that
    outlive an epoch (``persistent_workers``), and which mmengine seeds once at their start, see it too.
    """

    def __init__(self, *args, **kwargs) -> None:
        self.epoch_seed = torch.zeros((), dtype=torch.int64).share_memory_()  # 0: not set
        self._seeded_with = 0
        super().__init__(*args, **kwargs)

    def __getitem__(self, idx: int) -> dict:
        seed, worker = int(self.epoch_seed), get_worker_info()
        if worker is not None and seed != self._seeded_with:
            seed_generators(seed + worker.id)
            self._seeded_with = seed
        return super().__getitem__(idx)
