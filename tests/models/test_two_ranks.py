"""Ten optimiser steps on four ranks, and on two, equal those on the joined batch."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from ranks import on_ranks

from coma_mm.models import CoMA

EVALUATION = [dict(mode='copy'), dict(mode='ema', momentum=0.1), dict(mode='off'), dict(mode='align', jitter=0)]
STEPS = 10


def build(evaluation):
    torch.manual_seed(0)
    arch = dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4))
    return CoMA(
        dict(type='coma_mm.DyViT', arch=arch, img_size=48, patch_size=2),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=2, num_heads=4),
        evaluation=evaluation,
    ).double()


def batches():
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        order = torch.rand(4, 9, generator=generator).argsort(1)
        yield torch.randn(4, 3, 48, 48, generator=generator, dtype=torch.float64), (order < 5).view(4, 3, 3)


def train(model, rank=0, world_size=1):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optim_wrapper = OptimWrapper(torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.05))
    for images, mask in batches():
        images, mask = (part.chunk(world_size)[rank] for part in (images, mask))
        model.train_step(dict(inputs=images, data_samples=dict(mask=mask)), optim_wrapper)


def rank(number, path, world_size):
    for evaluation in EVALUATION if world_size == 4 else EVALUATION[:1]:
        model = MMDistributedDataParallel(build(evaluation), broadcast_buffers=False)
        train(model, number, world_size)
        torch.save(model.module.state_dict(), f'{path}/{evaluation["mode"]}{number}.pth')


@pytest.fixture(scope='module')
def trained_on_ranks(tmp_path_factory):
    folders = {}
    for ranks in (2, 4):  # two ranks copy only: what differs between modes, four of them show
        folders[ranks] = tmp_path_factory.mktemp('ranks')
        on_ranks(ranks, rank, folders[ranks], ranks)
    return folders


@pytest.fixture(scope='module')
def trained_alone():
    found = {}
    for evaluation in EVALUATION:
        model = build(evaluation)
        start = {name: value.clone() for name, value in model.state_dict().items()}
        train(model)
        assert any(not torch.equal(value, start[name]) for name, value in model.state_dict().items())
        found[evaluation['mode']] = model.state_dict()
    return found


@pytest.mark.parametrize('ranks, mode', [(2, 'copy'), *((4, evaluation['mode']) for evaluation in EVALUATION)])
def test_ranks_equal_the_joined_batch(ranks, mode, trained_alone, trained_on_ranks):
    files = list(trained_on_ranks[ranks].glob(f'{mode}*.pth'))
    assert len(files) == ranks
    for file in files:
        for name, value in torch.load(file).items():
            torch.testing.assert_close(value, trained_alone[mode][name], rtol=0, atol=1e-10, msg=name)
