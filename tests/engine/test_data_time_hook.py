import json
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

    def __init__(self, priority='VERY_LOW'):
        self.priority = priority

    def after_train_iter(self, runner, **kwargs):
        clock.work(0.01)


@pytest.fixture
def warnings_of(tmp_path, monkeypatch):
    for name in ('log_values', 'loops'):
        monkeypatch.setattr(f'coma_mm.engine.runner.{name}.time', clock)

    def train(seconds, first=0.0, hooks=(), **hook):
        runner = Runner(
            Model(),
            str(tmp_path),
            train_dataloader=dict(
                batch_size=1, dataset=Numbers(seconds, first), sampler=dict(type='DefaultSampler', shuffle=False)
            ),
            train_cfg=dict(type='coma_mm.EpochLoop', max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
            default_hooks=dict(
                checkpoint=None, logger=dict(type='LoggerHook', interval=1), timer=dict(type='coma_mm.LoadTimerHook')
            ),
            custom_hooks=[dict(type='coma_mm.DataTimeHook', **hook), *(hooks or [SlowHook()])],
            experiment_name=uuid.uuid4().hex,
        )
        runner.train()
        (log,) = tmp_path.glob('*/*.log')
        (curves,) = tmp_path.glob('*/vis_data/scalars.json')
        train.waits = [json.loads(line)['data_time'] for line in curves.read_text().splitlines()]
        return [line for line in log.read_text().splitlines() if 'waiting for data' in line]

    return train


def test_warns_less_and_less_often(warnings_of):
    first, second = warnings_of(0.03, interval=10)  # of 3 x 11 iterations: after 10 and 30
    assert '67% of the time of the last 10 iterations' in first  # 30 ms of each 45
    assert '67% of the time of the last 20 iterations' in second
    assert 'train_dataloader.num_workers (now 0 for each process' in first and 'tools/make_shards.py' in first


def test_silent_when_all_is_well(warnings_of):
    assert not warnings_of(0.0, first=0.1, interval=5)


@pytest.mark.parametrize('seconds', [0.0, 0.002, 0.03])
def test_pictures_and_checkpoints_are_no_wait_for_data(warnings_of, seconds):
    """A slow hook leaves the wait as it is, early or late in the order of hooks."""
    warnings_of(seconds, seconds, hooks=[SlowHook(priority) for priority in ('VERY_HIGH', 'VERY_LOW', 'LOWEST')])
    assert warnings_of.waits[2] == pytest.approx(seconds) and len(warnings_of.waits) == 36


def test_the_share_can_be_set(warnings_of):
    assert not warnings_of(0.01, interval=10, share=0.8)
