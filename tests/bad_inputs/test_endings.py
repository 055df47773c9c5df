"""Runs that break off: the reason is the last line, its place is in the log."""

import signal
import sys

import pytest
from processes import TINY, last_line, run

# A hook with a bug, one that presses Ctrl-C, one that has no memory; and a transform that is killed.
PLUGIN = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

@HOOKS.register_module()
class Bug(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        None.nothing

@HOOKS.register_module()
class Keyboard(Hook):
    def __init__(self, times):
        self.times = times

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)

@HOOKS.register_module()
class Memory(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        import torch
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...')

@TRANSFORMS.register_module()
class Killed:
    def __call__(self, results):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def train(monkeypatch, capfd, tmp_path):
    """Return a function that trains with a hook of the plugin; it returns the exit code, what was printed, the log."""
    (tmp_path / 'plugin_of_hooks.py').write_text(PLUGIN)
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])

    def train(*options, config=''):
        (tmp_path / 'config.py').write_text(
            f"_base_ = '{TINY}'\ncustom_imports = dict(imports=['plugin_of_hooks'])\n{config}"
        )
        options = [*options, '--cfg-options', f'experiment_name={tmp_path.name}']  # or two runs would share a logger
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, tmp_path, 'train.py', 'config.py', '--work-dir', 'run', *options)
        (log,) = (tmp_path / 'run').glob('*/*.log')
        return stop.value.code, capfd.readouterr().err, log.read_text()

    return train


def test_what_may_be_a_bug_keeps_its_type_and_is_in_the_log(train):
    code, printed, log = train(config="custom_hooks = [dict(type='Bug')]")
    line = last_line(printed)
    assert code == 1 and 'Traceback' not in printed and 'None.nothing' in log
    assert line.startswith("error: AttributeError: 'NoneType' object has no attribute 'nothing' (traceback: run/")


def test_traceback_on_the_screen(train):
    code, printed, _ = train('--traceback', config="custom_hooks = [dict(type='Bug')]")
    assert code == 1 and 'None.nothing' in printed and last_line(printed).startswith('error: AttributeError')


@pytest.mark.parametrize('times', [1, 2])
def test_ctrl_c_saves_and_a_second_one_ends_at_once(train, tmp_path, times):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a new process; loggers of earlier tests change it
    code, printed, log = train(config=f"custom_hooks = [dict(type='Keyboard', times={times})]")
    found = [path.name for path in (tmp_path / 'run').glob('*.pth')]
    assert code == 130 and 'Traceback' not in printed and 'press it again to stop at once' in printed
    if times == 1:
        assert 'stopped by the keyboard at step 1 of' in log and found == ['epoch_0_iter_1.pth']
    else:
        expected = 'stopped by the keyboard before there was a checkpoint; the same command starts anew'
        assert last_line(printed) == expected and not found


def test_memory(train):
    line = last_line(train(config="custom_hooks = [dict(type='Memory')]")[1])
    assert line.startswith('error: there is not enough memory on the GPU for 2.00 GiB more: lower the batch size')


def test_a_loading_process_that_is_killed(train):
    dataset = "dataset=dict(pipeline=[dict(type='Killed')])"
    line = last_line(train(config=f'train_dataloader = dict(num_workers=1, {dataset})\ncustom_hooks = []')[1])
    assert line.startswith('error: a process that loads images was killed, as the system does when memory runs out')


UNREADABLE = """
pipeline = [
    dict(type='coma_mm.LoadRandomResizedCrop', scale=48),
    dict(type='coma_mm.ComplementaryMask', input_size=48, unit_size=16, ratio=0.6),
    dict(type='PackInputs'),
]
dataset = dict(_delete_=True, type='coma_mm.ImageFolder', data_root='images', pipeline=pipeline)
train_dataloader = dict(num_workers=1, dataset=dataset)
custom_hooks = []
"""


def test_too_many_unreadable_images_are_the_last_line(train, tmp_path):
    """In a loading worker, whose traceback the error comes in."""
    (tmp_path / 'images').mkdir()
    for number in range(12):
        (tmp_path / 'images' / f'{number}.png').write_bytes(b'no image')
    code, printed, log = train(config=UNREADABLE)
    reason = 'error: 1 of the 1 images read so far (12 in all) are unreadable, more than 5%: repair or remove them'
    assert code == 1 and last_line(printed).startswith(reason) and 'Traceback' not in printed
    assert 'in DataLoader worker process 0' in log


def test_no_workers_with_options_of_workers(monkeypatch, tmp_path):
    """Settings for debugging work, whatever the config says of workers."""
    options = ['train_dataloader.persistent_workers=True', 'train_dataloader.prefetch_factor=2', 'custom_hooks=[]']
    options += ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'experiment_name=noworkers']
    run(monkeypatch, tmp_path, 'train.py', TINY, '--work-dir', 'run', '--cfg-options', *options)
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
