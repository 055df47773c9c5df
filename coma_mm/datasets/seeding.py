"""Seeds of samples: crops and masks are the same after a resume, and with any number of loading workers."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler


def derive_seed(*parts: int | str) -> int:
    """Return a seed of 64 bits that belongs to these numbers and words."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), 'little')


def seed_generators(seed: int) -> None:
    """Seed all generators that transforms draw from; those of devices are left alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seed all generators that transforms draw from, and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            seed_generators(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class SeededIndex(NamedTuple):
    """Index of a sample in the data set, and the seed that belongs to its place in the order."""

    index: Any  # of any kind that the sampler serves
    seed: int


class SeededBatches(Sampler):
    """Batch sampler whose indices carry seeds, and which can start in the middle of an epoch.

    The seed of a sample follows from the run's seed, the epoch and the sample's place in the order of all ranks. So it
    depends neither on earlier samples nor on the number of loading workers. With samplers that deal samples out in
    turn, as mmengine's do, it does not depend on the number of ranks either.

    Attributes:
        seed: Seed of the run.
        epoch: Number of the epoch, or of the pass over the data.
        start: Batches to leave out when this is iterated next; they are drawn but not served.
        length: Batches, served or not, that the last pass has had so far.
        closed: Whether nothing is served; for loaders that are started before the place to start at is known.
    """

    def __init__(self, batches: Sampler) -> None:
        self.batches = batches
        self.rank, self.world_size = get_dist_info()
        self.seed = self.epoch = self.start = self.length = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # while being copied
            raise AttributeError(name)
        return getattr(self.batches, name)  # such as `sampler` and `batch_size`, which hooks ask for

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        if self.closed:
            return
        seed, epoch = self.seed, self.epoch
        start, self.start = self.start, 0
        place = self.length = 0
        seed_generators(derive_seed(seed, 'order', epoch))  # of all ranks, for samplers that draw as they begin
        for indices in self.batches:
            self.length += 1
            if self.length > start:
                yield [
                    SeededIndex(index, derive_seed(seed, epoch, (place + i) * self.world_size + self.rank))
                    for i, index in enumerate(indices)
                ]
            place += len(indices)


def seed_samples(loader: DataLoader) -> SeededBatches | None:
    """Make a data loader seed all generators before each sample, in whichever process loads it.

    Returns:
        The loader's new batch sampler; None for streams, lists and loaders without batches, which cannot be seeded.
    """
    if isinstance(loader.batch_sampler, SeededBatches):
        return loader.batch_sampler
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        return None
    try:
        loader.dataset.__getitems__ = partial(_load, loader.dataset)  # by which loaders ask for the samples of a batch
    except AttributeError:  # such as a tuple
        return None
    batches = SeededBatches(loader.batch_sampler)
    # DataLoader forbids the assignment, as others may have read the attribute. A loader built anew would lose its
    # batch_size, which hooks read, and the arguments of later versions.
    vars(loader)['batch_sampler'] = batches
    return batches


def _load(dataset: Dataset, indices: list[SeededIndex]) -> list:
    samples = []
    for index, seed in indices:
        seed_generators(seed)
        samples.append(dataset[index])
    return samples
