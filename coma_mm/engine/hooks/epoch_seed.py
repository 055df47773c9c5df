"""The same crops, masks and dropped paths, whether a run was interrupted or not."""

import numpy as np
from mmengine.hooks import Hook

from ...datasets.seeding import EpochSeededDataset, seed_generators
from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every epoch by the run's seed, its number and the rank, so that it draws the same after a resume.

    Without it a resumed run starts all generators anew, and data-loading workers that are started for each epoch draw
    the same crops and masks in all of them. For loops that count epochs, and the data sets of this package (or with no
    workers, any data set).
    """

    def before_train(self, runner) -> None:
        """Refuse what cannot be seeded."""
        loader = runner.train_dataloader
        if loader.num_workers and not isinstance(loader.dataset, EpochSeededDataset):
            raise ValueError(
                f'EpochSeedHook cannot seed the workers of {type(loader.dataset).__name__}: use coma_mm.ImageFolder or '
                'another EpochSeededDataset, set train_dataloader.num_workers=0, or leave the hook out'
            )

    def before_train_epoch(self, runner) -> None:
        """Seed this process, and the workers before they load the epoch's first images."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, runner.rank])
        # Halved to leave room for the worker's number.
        process, workers, self.steps_seed = (int(seed) for seed in sequence.generate_state(3) // 2)
        seed_generators(process)
        dataset = runner.train_dataloader.dataset
        if isinstance(dataset, EpochSeededDataset):
            dataset.epoch_seed.fill_(workers)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed this process again: starting workers draws from its generators, and persistent ones start only once."""
        if batch_idx == 0:
            seed_generators(self.steps_seed)
