"""Samples draw what belongs to their place, whoever loads them, in each epoch something new."""

import numpy as np
import pytest
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader

from coma_mm.datasets import Photos
from coma_mm.datasets.seeding import seed_samples


def load(workers=2, persistent=False):
    pipeline = [dict(type='mmcv.CenterCrop', crop_size=224), dict(type='coma_mm.ComplementaryMask', input_size=224)]
    loader = DataLoader(
        Photos(length=8, pipeline=pipeline),
        batch_size=2,
        num_workers=workers,
        persistent_workers=persistent,
        worker_init_fn=lambda worker: worker_init_fn(worker, num_workers=2, rank=0, seed=0),
        collate_fn=lambda batch: batch,
    )
    seed_samples(loader)
    return loader


def masks(loader, epoch, start=0):
    loader.batch_sampler.epoch, loader.batch_sampler.start = epoch, start
    return np.stack([sample['mask'] for batch in loader for sample in batch])


@pytest.mark.parametrize('persistent', [False, True])
def test_each_epoch_has_its_stream(persistent):
    loader = load(persistent=persistent)
    first, second = masks(loader, 1), masks(loader, 2)
    assert (first != second).any() and np.unique(first, axis=0).shape[0] == 8
    assert (masks(load(persistent=persistent), 2) == second).all()
    assert (masks(loader, 1) == first).all()
    assert (masks(load(workers=0), 1) == first).all()
    assert (masks(loader, 1, start=3) == first[6:]).all()
