"""How a run ends that breaks off: the reason is the last line, where it comes from is in the log."""

import sys

import pytest
from processes import TINY, last_line, run

# A transform with a bug, a hook that presses Ctrl-C, and one that has no memory.
PLUGIN = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Bug(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        None.nothing

@HOOKS.register_module()
class Keyboard(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        os.kill(os.getpid(), signal.SIGINT)

@HOOKS.register_module()
class Memory(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        import torch
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...')
"""


@pytest.fixture
def train(monkeypatch, capfd, tmp_path):
    """Return a function that trains with a hook of the plugin; it returns the exit code, what was printed, the log."""
    (tmp_path / 'plugin_of_hooks.py').write_text(PLUGIN)
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])

    def train(*options, more=()):
        name = f'experiment_name={abs(hash((tmp_path, *options, *more)))}'
        imports = 'custom_imports.imports=[plugin_of_hooks,os]'
        config = f"_base_ = '{TINY}'\ncustom_imports = dict(imports=['plugin_of_hooks'])\n"
        (tmp_path / 'config.py').write_text(config)
        with pytest.raises(SystemExit) as stop:
            run(
                monkeypatch,
                tmp_path,
                'train.py',
                'config.py',
                '--work-dir',
                'run',
                *more,
                '--cfg-options',
                name,
                *options,
            )
        logs = sorted((tmp_path / 'run').glob('*/*.log'))
        return stop.value.code, capfd.readouterr().err, logs[-1].read_text()

    return train


def test_what_may_be_a_bug_keeps_its_type_and_is_in_the_log(train):
    code, printed, log = train('custom_hooks.0.type=Bug')
    line = last_line(printed)
    assert code == 1 and line.startswith(
        "error: AttributeError: 'NoneType' object has no attribute 'nothing' (traceback: "
    )
    assert 'Traceback' not in printed and 'None.nothing' in log and line.endswith('.log)')


def test_traceback_on_the_screen(train):
    code, printed, log = train('custom_hooks.0.type=Bug', more=['--traceback'])
    assert code == 1 and 'None.nothing' in printed and last_line(printed).startswith('error: AttributeError')


def test_ctrl_c_says_how_to_go_on(train):
    code, printed, _ = train('custom_hooks.0.type=Keyboard')
    expected = 'stopped by the keyboard; the same command with --resume goes on from the last checkpoint'
    assert (code, last_line(printed)) == (130, expected)


def test_memory(train):
    line = last_line(train('custom_hooks.0.type=Memory')[1])
    assert line.startswith('error: there is not enough memory on the GPU for 2.00 GiB more: lower the batch size')


def test_too_many_unreadable_images_are_the_last_line(train, tmp_path):
    """In a loading worker, whose traceback the error comes in."""
    (tmp_path / 'images').mkdir()
    for number in range(12):
        (tmp_path / 'images' / f'{number}.png').write_bytes(b'no image')
    options = ['type=coma_mm.ImageFolder', 'data_root=images', '_delete_=True']
    pipeline = 'pipeline=[]'
    line = last_line(
        train(
            *(f'train_dataloader.dataset.{option}' for option in (*options, pipeline)),
            'train_dataloader.num_workers=1',
            'custom_hooks=[]',
        )[1]
    )
    assert line.startswith('error: 1 of the 1 images read so far (12 in all) are unreadable, more than 5%: repair or')


def test_no_workers_with_options_of_workers(monkeypatch, tmp_path):
    """What one sets to debug works, whatever the config says of workers."""
    options = ['train_dataloader.persistent_workers=True', 'train_dataloader.prefetch_factor=2', 'custom_hooks=[]']
    options += ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'experiment_name=noworkers']
    run(monkeypatch, tmp_path, 'train.py', TINY, '--work-dir', 'run', '--cfg-options', *options)
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
