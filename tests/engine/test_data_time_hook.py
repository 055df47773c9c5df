import uuid

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset


class Clock:
    """Goes on only while somebody pretends to work, so that a busy machine changes nothing."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


clock = Clock()


class Numbers(Dataset):
    """Takes a while for each, and for the first one a while longer, as workers do that start."""

    def __init__(self, seconds, first):
        self.seconds = seconds
        self.first = first

    def __len__(self):
        return 12

    def __getitem__(self, idx):
        clock.work(self.first if idx == 0 else self.seconds)
        return dict(inputs=torch.ones(1))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs, mode):
        clock.work(0.005)
        return dict(loss=self.linear(torch.stack(inputs)).sum())


class SlowHook(Hook):
    """A hook as slow as saving a checkpoint."""

    priority = 'VERY_LOW'

    def after_train_iter(self, runner, **kwargs):
        clock.work(0.01)


@pytest.fixture
def warnings_of(tmp_path, monkeypatch):
    monkeypatch.setattr('coma_mm.engine.runner.data_time.time', clock)

    def train(seconds, first=0.0, **hook):
        runner = Runner(
            Model(),
            str(tmp_path),
            train_dataloader=dict(
                batch_size=1, dataset=Numbers(seconds, first), sampler=dict(type='DefaultSampler', shuffle=False)
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
            default_hooks=dict(checkpoint=None),
            custom_hooks=[dict(type='coma_mm.DataTimeHook', **hook), SlowHook()],
            experiment_name=uuid.uuid4().hex,
        )
        runner.train()
        (log,) = tmp_path.glob('*/*.log')
        return [line for line in log.read_text().splitlines() if 'waiting for data' in line]

    return train


def test_warns_less_and_less_often(warnings_of):
    first, second = warnings_of(0.03, interval=10)  # of 3 x 11 iterations: after 10 and 30
    assert '67% of the time of the last 10 iterations' in first  # 30 ms of each 45
    assert '67% of the time of the last 20 iterations' in second
    assert 'train_dataloader.num_workers (now 0 for each process' in first and 'tools/make_shards.py' in first


def test_silent_when_all_is_well(warnings_of):
    assert not warnings_of(0.0, first=0.1, interval=5)


def test_the_share_can_be_set(warnings_of):
    assert not warnings_of(0.01, interval=10, share=0.8)
