"""One optimiser step on two ranks equals one on the joined batch."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from coma_mm.models import CoMA

EVALUATION = [dict(mode='copy'), dict(mode='ema', momentum=0.1), dict(mode='off')]


def build(evaluation):
    torch.manual_seed(0)
    return CoMA(
        dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=2, num_heads=4),
        evaluation=evaluation,
    ).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    order = torch.rand(4, 16, generator=generator).argsort(1)
    mask = torch.zeros(4, 16, dtype=torch.bool).scatter(1, order[:, :10], True).view(4, 4, 4)
    return torch.randn(4, 3, 64, 64, generator=generator, dtype=torch.float64), mask


def step(model, images, mask):
    optim_wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    for _ in range(2):
        model.train_step(dict(inputs=images, data_samples=dict(mask=mask)), optim_wrapper)


def rank(number, path):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{path}/rendezvous', rank=number, world_size=2)
    images, mask = (part.chunk(2)[number] for part in batch())
    for evaluation in EVALUATION:
        model = MMDistributedDataParallel(build(evaluation), broadcast_buffers=False)
        step(model, images, mask)
        torch.save(model.module.state_dict(), f'{path}/{evaluation["mode"]}{number}.pth')
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def trained_on_two_ranks(tmp_path_factory):
    path = tmp_path_factory.mktemp('ranks')
    torch.multiprocessing.spawn(rank, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize('evaluation', EVALUATION, ids=lambda evaluation: evaluation['mode'])
def test_two_ranks_equal_the_joined_batch(evaluation, trained_on_two_ranks):
    model = build(evaluation)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, *batch())
    for number in range(2):
        state = torch.load(trained_on_two_ranks / f'{evaluation["mode"]}{number}.pth')
        for name, value in state.items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=1e-12, msg=name)
    assert any(not torch.equal(value, start[name]) for name, value in model.state_dict().items())
