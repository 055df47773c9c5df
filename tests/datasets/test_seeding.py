"""Workers that outlive an epoch draw a new stream in each, and the same one after a resume."""

import numpy as np
import pytest
import torch
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader

from coma_mm.datasets import Photos


def masks(loader, seed):
    loader.dataset.epoch_seed.fill_(seed)
    return np.stack([sample['mask'] for batch in loader for sample in batch])


def load(persistent_workers):
    pipeline = [dict(type='mmcv.CenterCrop', crop_size=224), dict(type='coma_mm.ComplementaryMask', input_size=224)]
    return DataLoader(
        Photos(length=8, pipeline=pipeline),
        batch_size=2,
        num_workers=2,
        persistent_workers=persistent_workers,
        worker_init_fn=lambda worker: worker_init_fn(worker, num_workers=2, rank=0, seed=0),
        collate_fn=lambda batch: batch,
    )


@pytest.mark.parametrize('persistent_workers', [False, True])
def test_each_epoch_has_its_stream(persistent_workers):
    loader = load(persistent_workers)
    first, second = masks(loader, 10), masks(loader, 20)
    assert (first != second).any() and np.unique(first, axis=0).shape[0] == 8
    assert (masks(load(persistent_workers), 20) == second).all()
    assert (masks(loader, 10) == first).all()


def test_the_main_process_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    dataset = Photos(length=1)
    dataset.epoch_seed.fill_(5)
    dataset[0]
    assert torch.equal(torch.rand(1), expected)
