"""Warned runs save at the next step and end; clocks save, too. Real signals, real runs, real ranks."""

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_run
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from ranks import on_ranks
from tiny_run import read_logs, same

from coma_mm.checkpoints.finding import find_checkpoints
from coma_mm.engine import RunInterrupted, StepCheckpointHook
from coma_mm.engine.runner.signals import stop_listening
from coma_mm.utils.stopping import describe_signal

REPORT = dict(type='coma_mm.ReportHook')


@pytest.fixture(autouse=True)
def as_before():
    """Leave the process as it was."""
    yield
    stop_listening()


@HOOKS.register_module()
class SignalHook(Hook):
    """A signal as a cluster sends it in a step, to loading workers, too."""

    def __init__(self, at, number):
        self.at, self.number = at, number

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.at:
            workers = [worker.pid for worker in torch.multiprocessing.active_children()]
            command = ['kill', f'-{self.number}', *map(str, workers), str(os.getpid())]
            subprocess.run(command, check=True)  # from elsewhere: a loader's own signals do end its workers


@HOOKS.register_module()
class EndHook(Hook):
    """Raises an error in a step, if there is one."""

    def __init__(self, at, error):
        self.at, self.error = at, error

    def before_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.at and self.error:
            raise {'bug': RuntimeError('no\nroom'), 'keyboard': KeyboardInterrupt()}[self.error]


@HOOKS.register_module()
class ClockHook(Hook):
    """Lets the clock of checkpoints run out in some steps, and notes what lies in the folder after each."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at, self.seen = at, []

    def after_train_iter(self, runner, **kwargs):
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, StepCheckpointHook))
        if runner.iter + 1 in self.at:
            hook.since -= 3600
        self.seen.append([path.name for path in find_checkpoints(Path(runner.work_dir))])


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Build the tiny run with some hooks, as train.py does, to be trained."""
    monkeypatch.chdir(tmp_path)

    def build(folder, *hooks, resume=False, minutes=0, **options):
        return tiny_run.start(folder, {'custom_hooks': list(hooks), **options}, resume, save_minutes=minutes)

    return build


@pytest.mark.parametrize(
    ('number', 'workers'), [(signal.SIGTERM, 2), (signal.SIGUSR1, 0), (signal.SIGINT, 1), (signal.SIGHUP, 0)]
)
def test_a_warned_run_saves_and_goes_on_to_the_bit(start, number, workers):
    options = {'train_dataloader.num_workers': workers}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a new process; loggers of earlier tests change it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored
    start('whole', **options).train()
    with pytest.raises(RunInterrupted) as end:
        start('warned', dict(type='SignalHook', at=4, number=int(number)), REPORT, **options).train()
    assert end.value.code == 128 + number and end.value.where == 'at step 5 of 6'
    again = f'Stopped by {describe_signal(number)} at step 5 of 6. To go on: the same command and --resume<'
    assert again in Path('warned/report.html').read_text()
    assert [path.name for path in find_checkpoints(Path('warned'))] == ['epoch_1.pth', 'epoch_1_iter_5.pth']
    (line,) = re.findall('.*stopped by.*', read_logs('warned'))
    assert f'by {describe_signal(number)} at step 5 of 6' in line and 'warned/epoch_1_iter_5.pth; go on with' in line
    start('warned', REPORT, resume=True, **options).train()
    assert same('whole/epoch_2.pth', 'warned/epoch_2.pth')
    assert 'Stopped' not in Path('warned/report.html').read_text()
    # One checkpoint of the schedule later it is of no more use.
    assert [path.name for path in find_checkpoints(Path('warned'))] == ['epoch_1.pth', 'epoch_2.pth']
    files = json.loads(Path('warned/manifest.json').read_text())['files']
    assert [name for name in files if name.endswith('.pth')] == ['epoch_1.pth', 'epoch_2.pth']


def test_the_report_says_what_has_ended_a_run(start):
    """An error and a second Ctrl-C have a step; a run that ends before its first leaves no page."""
    for at, error, expected in [
        (5, 'bug', 'Ended by an error in step 5 of 6: no room. To go on: the same'),
        (2, 'keyboard', 'Stopped by the keyboard in step 2 of 6.<'),
        (6, None, 'Finished.'),
    ]:
        with suppress(RuntimeError, KeyboardInterrupt):
            start(f'run{at}', dict(type='EndHook', at=at, error=error), REPORT).train()
        assert expected in Path(f'run{at}/report.html').read_text()
    with pytest.raises(KeyboardInterrupt):
        start('none', dict(type='EndHook', at=1, error='keyboard'), REPORT).train()
    assert not Path('none/report.html').exists()


def test_a_report_says_how_long_a_run_takes(start):
    runner = start('run', dict(type='EndHook', at=5, error='keyboard'), REPORT)
    seen = []
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'ReportHook')
    hook.on_stop = lambda runner, error: seen.append(Path('run/report.html').read_text())
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert re.search(r'Still training when this was written, \w+day \d\d:\d\d: about \d+ s left, until \w+day', seen[0])


def test_a_warning_waits_until_the_accumulated_batches_are_a_step(start):
    options = {'optim_wrapper.accumulative_counts': 2}
    with pytest.raises(RunInterrupted):
        start('warned', dict(type='SignalHook', at=2, number=int(signal.SIGTERM)), **options).train()
    assert Path('warned/epoch_1_iter_4.pth').is_file()
    start('whole', **options).train()
    start('warned', resume=True, **options).train()
    assert same('whole/epoch_2.pth', 'warned/epoch_2.pth')


def test_the_clock_keeps_the_newest(start):
    runner = start('run', dict(type='ClockHook', at=[1, 3, 4]), minutes=30)
    runner.train()
    (clock,) = (hook for hook in runner.hooks if isinstance(hook, ClockHook))
    assert clock.seen == [
        [],
        ['epoch_0_iter_2.pth'],
        ['epoch_0_iter_2.pth'],
        # The clock of step 3 has begun anew with the checkpoint of the epoch.
        ['epoch_0_iter_2.pth', 'epoch_1.pth'],
        ['epoch_1.pth', 'epoch_1_iter_5.pth'],
        ['epoch_1.pth', 'epoch_1_iter_5.pth'],
    ]
    assert [path.name for path in find_checkpoints(Path('run'))] == ['epoch_1.pth', 'epoch_2.pth']


def test_a_schedule_of_steps_saves_once(start):
    hook = dict(type='CheckpointHook', by_epoch=False, interval=2)
    options = {'default_hooks.checkpoint': hook}
    with pytest.raises(RunInterrupted):
        start('run', dict(type='SignalHook', at=3, number=int(signal.SIGTERM)), **options).train()
    assert [path.name for path in find_checkpoints(Path('run'))] == ['iter_2.pth', 'iter_4.pth']
    with pytest.raises(RunInterrupted):  # in the last step of all
        start('run', dict(type='SignalHook', at=5, number=int(signal.SIGTERM)), resume=True, **options).train()
    start('run', resume=True, **options).train()  # has nothing left but what comes after the last step
    assert [path.name for path in find_checkpoints(Path('run'))] == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


def test_broken_weights_are_not_saved(start):
    hooks = dict(type='coma_mm.StopOnNaNHook'), dict(type='SignalHook', at=4, number=int(signal.SIGTERM))
    options = {'optim_wrapper.optimizer.lr': 1e35, 'param_scheduler': None}
    with pytest.raises(FloatingPointError):
        start('run', *hooks, **options).train()
    assert not find_checkpoints(Path('run'))


def rank(number, path):
    """Train on two ranks: uninterrupted; with a warning to the second alone; with the first one's clock; resumed."""
    os.chdir(path)

    def run(folder, *hooks, resume=False):
        options = {'custom_hooks': list(hooks), 'train_dataloader.batch_size': 1}
        runner = tiny_run.start(folder, options, resume, launcher='pytorch')
        try:
            runner.train()
        except RunInterrupted as end:
            Path(folder, f'end-{number}').write_text(f'{end.code} {runner.iter + 1}')
        torch.distributed.barrier()

    warning = dict(type='SignalHook', at=8, number=int(signal.SIGUSR1))
    run('whole')
    run('warned', *([warning] if number else []))
    run('warned', resume=True)


def test_ranks_save_at_the_same_step(tmp_path):
    on_ranks(2, rank, tmp_path)
    # The warning comes in step 8, the ranks tell each other in step 9, and know in step 10.
    assert [(tmp_path / f'warned/end-{number}').read_text() for number in range(2)] == ['138 10'] * 2
    assert same(tmp_path / 'whole/epoch_2.pth', tmp_path / 'warned/epoch_2.pth')
