"""A run with a budget of time, under a clock of the test's own: where it ends, and its learning rates."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from tiny_run import read_log, start

from coma_mm.engine import BudgetHook, RunInterrupted
from coma_mm.engine.runner.periodic import PeriodicHook
from coma_mm.engine.runner.signals import stop_listening

PEAK = 0.1
CONFIG = f"""
default_scope = 'mmengine'
model = dict(type='BudgetedModel')
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dict(type='BudgetedData'), sampler=dict(type='InfiniteSampler', shuffle=True)
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr={PEAK}))
train_cfg = dict(by_epoch=False, max_iters=100, val_interval=101)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=100, T_max=90),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1000),
    checkpoint=dict(type='CheckpointHook', interval=5, by_epoch=False),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


@MODELS.register_module()
class BudgetedModel(BaseModel):
    """One weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode):
        return dict(loss=((self.weight - inputs[0]) ** 2).mean())


@DATASETS.register_module()
class BudgetedData(torch.utils.data.Dataset):
    """Eight numbers."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return dict(inputs=torch.tensor([float(i)]))


class FakeTime(Hook):
    """A clock that goes on by what the start, each iteration and the end take."""

    priority = 'HIGHEST'

    def __init__(self, seconds, stop_at):
        self.seconds, self.stop_at = seconds, stop_at
        self.now, self.lrs = 1000.0, []

    def before_train(self, runner):
        self.now += 8

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.lrs.append(runner.optim_wrapper.get_lr()['lr'][0])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.now += self.seconds(runner.iter)
        if runner.iter + 1 == self.stop_at:
            runner.train_loop.run_iter = self.stop

    def after_train(self, runner):
        self.now += 2

    def stop(self, *args):
        raise RunInterrupted(1)


class FakeEvaluation(PeriodicHook):
    """A look that takes four seconds of that clock."""

    def __init__(self, time):
        super().__init__(interval=2, by_epoch=False)
        self.time, self.count = time, 0

    def evaluate(self, runner, step, last):
        self.time.now += 4
        self.count += 1


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Return a function that trains with a budget, and returns the runner and the rate of each iteration."""
    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(CONFIG)

    def train(seconds, minutes=2, planned=None, folder='run', resume=None, evaluates=False, stop_at=None, **options):
        options = {name.replace('__', '.'): value for name, value in options.items()}
        runner = start(folder, options, resume, 'config.py')
        time = FakeTime(seconds, stop_at)
        runner.register_hook(time)
        if minutes:
            runner.budget = BudgetHook(minutes, planned, clock=lambda: time.now)
            runner.register_hook(runner.budget)
        if evaluates:
            runner.evaluation = FakeEvaluation(time)
            runner.register_hook(runner.evaluation)
        with suppress(RunInterrupted):
            runner.train()
        stop_listening()
        return runner, torch.tensor(time.lrs)

    return train


SPEEDS = {
    'as planned': dict(seconds=lambda step: 1.1),
    'slower': dict(seconds=lambda step: 4.0),
    'much slower': dict(seconds=lambda step: 11.0),
    'faster': dict(seconds=lambda step: 0.3),
    'fast, then slow': dict(seconds=lambda step: 0.5 if step < 60 else 2.0),
    'slow, then fast': dict(seconds=lambda step: 2.0 if step < 20 else 0.4),
    'long evaluations': dict(seconds=lambda step: 0.5, evaluates=True),
    'unsteady': dict(seconds=lambda step: (0.2, 2.0, 0.4, 1.0)[step % 4]),
    'planned otherwise': dict(seconds=lambda step: 1.0, planned=20),
    'in parts': dict(seconds=lambda step: 0.45, optim_wrapper__accumulative_counts=4),
}


@pytest.mark.parametrize('case', SPEEDS.values(), ids=SPEEDS)
def test_the_budget_is_kept_and_rates_go_to_their_end_evenly(train, case):
    runner, lrs = train(**case)
    length = len(lrs)
    assert 108 <= runner.budget.spent <= 132
    assert runner.iter == runner.max_iters == length
    assert length % case.get('optim_wrapper__accumulative_counts', 1) == 0
    assert [scheduler.last_step for scheduler in runner.param_schedulers] == [9, 89]  # the whole schedule
    change, peak = lrs.diff(), int(lrs.argmax())
    steepest = 0.5 if 'evaluates' in case else 0.25  # where one of a hundred steps of the schedule warms up by a tenth
    assert lrs.max() > 0.98 * PEAK and change.abs().max() < PEAK * max(steepest, 13 / length)
    assert (change[:peak] >= 0).all() and (change[peak:] <= 0).all() and lrs[-1] < PEAK * min(0.1, (10 / length) ** 2)
    if 'evaluates' in case:
        assert 1 < runner.evaluation.count < 8  # a fifth of the time


def test_a_budget_that_is_too_small_ends_at_once_and_says_so(train):
    runner, lrs = train(lambda step: 50.0, minutes=0.5)
    assert len(lrs) == 2
    assert 'the 0.5 minutes are up after 1% of the schedule' in read_log(runner)


def one_second(step):
    return 1.0


def test_a_run_that_goes_on_has_used_its_time_and_keeps_its_end(train):
    whole, lrs = train(one_second)
    assert len(lrs) == whole.max_iters != 100
    train(one_second, folder='part', stop_at=20)
    again, rest = train(one_second, folder='part', resume='part/iter_20.pth')
    assert 108 <= again.budget.spent <= 132
    assert len(rest) == again.max_iters - 20 < len(lrs) - 20  # starting took time again
    assert rest[0] == lrs[20] and rest.diff().abs().max() < 0.1 * PEAK and rest[-1] < 0.01 * PEAK


@pytest.mark.parametrize(
    'changes',
    [
        dict(train_dataloader__batch_size=2),
        dict(train_dataloader__batch_size=8),
        dict(train_cfg__max_iters=200),
        dict(optim_wrapper__optimizer__weight_decay=0.1),
    ],
    ids=str,
)
def test_with_other_settings_rates_go_on_from_where_they_were(train, changes):
    train(one_second, folder='part', stop_at=40)
    again, rest = train(one_second, folder='part', resume='part/iter_40.pth', **changes)
    assert 108 <= again.budget.spent <= 132
    _, lrs = train(one_second)
    assert float(rest[0]) == pytest.approx(float(lrs[40]), rel=0.03)
    assert (rest.diff() <= 0).all() and rest[-1] < 0.01 * PEAK


def test_without_the_budget_the_length_of_the_config_holds_again(train):
    train(one_second, folder='part', stop_at=40)
    again, rest = train(one_second, folder='part', resume='part/iter_40.pth', minutes=None)
    plain, lrs = train(one_second, minutes=None)
    assert again.max_iters == 100 and rest.tolist() == lrs[40:].tolist()
