"""Real runs on one, two and four ranks end alike, and so does one that moves from some to others half-way."""

import os
from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from tiny_run import start

OPTIONS = {  # two epochs of ten steps, each of four images in all
    'custom_hooks': [],
    'train_dataloader.dataset.length': 40,
    'model.backbone.drop_path_rate': 0.0,  # which ranks draw each for itself
    'model.evaluation': dict(mode='ema', momentum=0.1),
    'optim_wrapper.optimizer.eps': 1e-3,  # or the first step takes the sign of gradients, that of zeros too
    'param_scheduler': [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
        dict(type='CosineAnnealingLR', eta_min=1e-5, begin=0, end=2, T_max=2, convert_to_iter_based=True),
    ],
}


def train(number, folder, resume, ranks):
    options = OPTIONS | {'train_dataloader.batch_size': 4 // ranks}
    start(folder, options, resume, launcher='pytorch' if ranks > 1 else 'none').train()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train on so many ranks, the first or the second epoch on others; return the last checkpoint, once for each."""
    before, found = os.getcwd(), {}
    os.chdir(tmp_path_factory.mktemp('ranks'))

    def get(*ranks):
        if ranks not in found:
            resume = f'{get(ranks[0]).parent}/epoch_1.pth' if len(ranks) > 1 else None
            folder = '-'.join(map(str, ranks))
            arguments = folder, resume, ranks[-1]
            if ranks[-1] == 1:
                train(0, *arguments)
            else:
                on_ranks(ranks[-1], train, *arguments)
            found[ranks] = Path(folder, 'epoch_2.pth').resolve()
        return found[ranks]

    yield get
    os.chdir(before)


@pytest.mark.parametrize(
    'ranks', [(2,), (4,), (1, 2), (2, 4), (4, 1)], ids=lambda ranks: '-then-'.join(map(str, ranks))
)
def test_ranks_end_alike(trained, ranks):
    alone, other = (torch.load(path, weights_only=False) for path in (trained(1), trained(*ranks)))
    assert other['meta']['iter'] == alone['meta']['iter'] == 20
    assert other['optimizer']['param_groups'] == alone['optimizer']['param_groups']
    moved = 0
    for name, value in alone['state_dict'].items():
        torch.testing.assert_close(other['state_dict'][name], value, rtol=0, atol=1e-6, msg=name)
        moved += not torch.equal(other['state_dict'][name], value)
    for number, state in alone['optimizer']['state'].items():
        for key, value in state.items():
            torch.testing.assert_close(other['optimizer']['state'][number][key], value, rtol=1e-3, atol=1e-6)
