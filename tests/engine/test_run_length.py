"""A run is made longer or shorter by its length alone; the learning rates of its steps tell."""

import uuid
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_run import TINY, read_scalars, start

from coma_mm.engine.common import EVALUATING
from coma_mm.engine.runner.config_files import read_config
from coma_mm.engine.runner.run_length import fit_schedule, run_length

LR = 1e-3
TEN = """
_base_ = {base!r}
train_dataloader = dict(dataset=dict(length=20))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=8, by_epoch=True, begin=2, end=10, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
"""


@pytest.fixture
def lrs(tmp_path, monkeypatch):
    """Return a function that trains a config and returns the rate of each step."""
    monkeypatch.chdir(tmp_path)
    Path('ten.py').write_text(TEN.format(base=str(TINY)))

    def train(config='ten.py', **options):
        folder = uuid.uuid4().hex
        options = {'custom_hooks': [], 'default_hooks.checkpoint.interval': 99} | options
        start(folder, options, config=config).train()
        return [line['lr'] for line in read_scalars(folder)]

    return train


def test_warm_up_and_decay_follow_max_epochs(lrs):
    five_steps_an_epoch = lrs(**{'train_cfg.max_epochs': 4})
    assert len(five_steps_an_epoch) == 20
    # a fifth of the run as in the config, 4 steps, then a cosine to its end
    assert five_steps_an_epoch[0] == pytest.approx(0.1 * LR) and five_steps_an_epoch[3] == pytest.approx(LR)
    assert five_steps_an_epoch[4:] == sorted(five_steps_an_epoch[4:], reverse=True)
    assert five_steps_an_epoch[12] == pytest.approx(LR / 2, rel=0.1) and five_steps_an_epoch[-1] < 0.02 * LR


@pytest.mark.parametrize(('epochs', 'interval'), [(4, 1), (100, 10), (400, 20)])
def test_a_shorter_run_saves_and_draws_as_often(epochs, interval):
    config = TINY.parents[2] / 'configs/pretrain/coma_dyvit-b_in1k.py'
    cfg = read_config(str(config), {'train_cfg.max_epochs': epochs})
    (picture,) = (hook for hook in cfg.custom_hooks if hook.type == 'coma_mm.ReconstructionHook')
    assert picture.interval == interval
    given = read_config(str(config), {'train_cfg.max_epochs': epochs, 'custom_hooks.2.interval': 7})
    assert given.custom_hooks[2].interval == 7


def test_all_that_watch_a_run_do_so_more_often(tmp_path):
    hooks = ', '.join(f"dict(type='coma_mm.{kind}', interval=20)" for kind in EVALUATING)
    (tmp_path / 'long.py').write_text(f'train_cfg = dict(by_epoch=True, max_epochs=200)\ncustom_hooks = [{hooks}]\n')
    cfg = read_config(str(tmp_path / 'long.py'), {'train_cfg.max_epochs': 20})
    assert [hook.interval for hook in cfg.custom_hooks] == [2, 2, 2, 2]


def test_a_config_that_changes_its_length_alone_is_one(lrs):
    Path('four.py').write_text("_base_ = 'ten.py'\ntrain_cfg = dict(max_epochs=4)\n")
    assert lrs('four.py') == lrs(**{'train_cfg.max_epochs': 4})


def test_a_warm_up_of_one_step_is_none(lrs):
    (only,) = lrs(**{'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 20})
    assert only == pytest.approx(LR)
    first, *_ = lrs(**{'train_cfg.max_epochs': 1})  # a fifth of five steps
    assert first == pytest.approx(LR)


def test_schedules_that_are_given_stay_and_long_warm_ups_are_named(lrs, capfd):
    given = {'train_cfg.max_epochs': 2, 'param_scheduler.1.end': 3, 'param_scheduler.0.end': 1}
    assert lrs(**given)[5] == pytest.approx(LR)
    warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=500)
    assert max(lrs(**{'train_cfg.max_epochs': 1, 'param_scheduler': [warm_up]})) < 0.2 * LR
    printed = capfd.readouterr()
    assert 'the warm-up of 500 iterations is longer than the run, which has 5: shorten it with' in printed.out


@pytest.mark.parametrize(
    ('scheduler', 'epochs', 'moved'),
    [
        (dict(type='MultiStepLR', milestones=[8, 11], end=12), 24, dict(milestones=[16, 22], end=24)),
        (dict(type='StepLR', step_size=4), 6, dict(step_size=2)),
        (dict(type='CosineAnnealingLR', begin=3, T_max=9, end=12), 2, dict(begin=1, T_max=2, end=2)),
        (dict(type='CosineAnnealingLR', begin=3), 1, dict(begin=0, end=1)),  # ends with the run, as ConvNeXt's
        (dict(type='CosineAnnealingLR', T_max=None, end=12), 24, dict(T_max=None, end=24)),
        (
            dict(type='CosineAnnealingLR', begin=2, T_max=10, end=12, convert_to_iter_based=True),
            1,
            dict(begin=0.166667, T_max=0.833333, end=1),
        ),
        (dict(type='LinearLR', end=500, by_epoch=False), 24, dict(end=500)),
    ],
)
def test_each_scheduler_moves_as_it_counts(scheduler, epochs, moved):
    cfg = Config(dict(train_cfg=dict(max_epochs=12), param_scheduler=[scheduler]))
    before = run_length(cfg)
    cfg.train_cfg.max_epochs = epochs
    fit_schedule(cfg, before)
    assert {name: cfg.param_scheduler[0][name] for name in moved} == moved


def test_steps_that_end_before_the_run_are_meant(capfd):
    """Some of mmdet's configs have them; only a decay is known to be meant for the whole run."""
    steps = dict(type='MultiStepLR', begin=1, milestones=[8], end=12)
    cfg = Config(dict(train_cfg=dict(max_epochs=24), param_scheduler=[steps]))
    fit_schedule(cfg, run_length(cfg))
    assert cfg.param_scheduler[0].milestones == [8] and not capfd.readouterr().out
