"""A work dir has one run at a time, and nothing in it is lost unasked."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import TINY, refuse, run

from coma_mm.checkpoints.finding import find_checkpoints, newest_whole_checkpoint
from coma_mm.utils import folder_lock
from coma_mm.utils.folder_lock import forget_start, lock_work_dir, require_unlocked

FAST = ['--cfg-options', 'custom_hooks=[]', 'train_cfg.max_epochs=1', 'train_dataloader.dataset.length=4']


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).rglob('*') if path.is_file()}


@pytest.fixture
def earlier(tmp_path):
    """A work dir with the results of an earlier run, and what a user has put beside them."""
    folder = tmp_path / 'work'
    folder.mkdir()
    for name in ('epoch_9.pth', 'epoch_9_iter_95.pth', 'best_loss_epoch_3.pth', 'backbone.pth'):
        torch.save(dict(state_dict={}, meta=dict(epoch=9, iter=90)), folder / name)
    return folder


def test_results_are_not_overwritten_unasked(earlier, monkeypatch, capfd):
    before = content(earlier)
    error = refuse(monkeypatch, capfd, earlier.parent, 'train.py', TINY, '--work-dir', 'work', *FAST)
    assert 'error: work has results of an earlier run, up to best_loss_epoch_3.pth' in error
    assert 'go on with --resume, replace them with --overwrite, or choose another --work-dir' in error
    assert content(earlier) == before
    # Going back to an older checkpoint would leave a later --resume with those of two runs.
    options = [TINY, '--work-dir', 'work', '--resume', 'work/epoch_9.pth', *FAST]
    assert 'go on from the last with --resume alone' in refuse(monkeypatch, capfd, earlier.parent, 'train.py', *options)
    assert content(earlier) == before


def test_overwriting_removes_what_would_be_mixed_up(earlier, monkeypatch):
    run(monkeypatch, earlier.parent, 'train.py', TINY, '--work-dir', 'work', '--overwrite', *FAST)
    assert sorted(path.name for path in earlier.glob('*.pth')) == ['backbone.pth', 'epoch_1.pth']


def test_a_run_that_cannot_begin_removes_nothing(earlier, monkeypatch):
    before = content(earlier)
    options = ['--work-dir', 'work', '--overwrite', *FAST, 'model.backbone.patch_size=3']
    with pytest.raises(SystemExit):
        run(monkeypatch, earlier.parent, 'train.py', TINY, *options)
    assert before.items() <= content(earlier).items()


@pytest.mark.parametrize('damaged', [False, True])
def test_nothing_to_resume_is_an_error_and_costs_nothing(tmp_path, monkeypatch, capfd, damaged):
    if damaged:
        (tmp_path / 'work').mkdir()
        for name in ('epoch_1.pth', 'epoch_2.pth'):
            (tmp_path / 'work' / name).write_text('cut short')
    before = content(tmp_path)
    options = [TINY, '--work-dir', 'work', '--resume', *FAST, 'default_hooks.checkpoint.max_keep_ckpts=1']
    error = refuse(monkeypatch, capfd, tmp_path, 'train.py', *options)
    assert 'error: there is no whole checkpoint in work to resume; leave --resume out to start anew' in error
    assert content(tmp_path) == before


def hold(folder):
    """Start a process that makes a work dir its own, and wait until it has."""
    code = f'from coma_mm.utils.folder_lock import *; file = lock_work_dir({str(folder)!r}); print(flush=True); input()'
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    owner = subprocess.Popen([sys.executable, '-c', code], **pipes)
    owner.stdout.readline()
    return owner


def test_a_live_run_keeps_others_out(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    owner = hold(tmp_path / 'work')
    for options in ['--resume'], []:
        error = refuse(monkeypatch, capfd, tmp_path, 'train.py', TINY, '--work-dir', 'work', *options, *FAST)
        assert 'error: another run is at work in work: wait for its end, stop it' in error
    monkeypatch.setenv('RANK', '1')  # the first rank has the lock
    assert lock_work_dir('work') is None
    monkeypatch.setenv('RANK', '0')
    owner.kill()
    owner.wait()
    lock_work_dir('work').close()


@pytest.mark.parametrize('step', ['_open_lock', '_take'])
def test_who_loses_the_start_leaves_the_lock_of_the_winner(tmp_path, monkeypatch, step):
    """The loser made the folder, or even the lock, and is paused before the next step until another run has both."""
    monkeypatch.chdir(tmp_path)
    true, winners = getattr(folder_lock, step), []

    def late(*args):
        winners.append(hold('new/work'))
        return true(*args)

    with monkeypatch.context() as patch:
        patch.setattr(folder_lock, step, late)
        with pytest.raises(ValueError, match='another run is at work in new/work'):
            lock_work_dir('new/work')
    forget_start(None)
    with pytest.raises(ValueError, match='another run is at work'):
        lock_work_dir('new/work')
    winners[0].kill()
    winners[0].wait()
    lock_work_dir('new/work').close()


@pytest.mark.parametrize('again', [True, False])
def test_a_lock_that_its_owner_removes_meanwhile_is_no_lock(tmp_path, monkeypatch, again):
    lock = tmp_path / '.lock'
    lock.touch()
    true = folder_lock._open_lock

    def early(*args):
        file = true(*args)
        lock.unlink()
        if again:
            lock.touch()
        return file

    monkeypatch.setattr(folder_lock, '_open_lock', early)
    with pytest.raises(ValueError, match='another run is at work'):
        lock_work_dir(tmp_path)
    forget_start(None)
    assert lock.exists() == again


def test_file_systems_without_locks_are_named(tmp_path, monkeypatch, capfd):
    def refused(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', refused)
    assert lock_work_dir(tmp_path) is None
    assert 'cannot be locked (No locks available): nothing keeps a second run out' in ''.join(capfd.readouterr())


def test_checkpoints_of_another_tool_are_in_the_order_of_their_iterations(tmp_path):
    named = {'epoch_9': 90, 'epoch_9_iter_95': 95, 'epoch_10': 100, 'epoch_10_iter_101': 101, 'iter_120': 120}
    for name in [*reversed(named), 'best_loss_epoch_99', 'backbone', 'resnet_50']:
        torch.save(dict(state_dict={}, meta=dict(epoch=1, iter=named.get(name, 1))), tmp_path / f'{name}.pth')
    assert [path.stem for path in find_checkpoints(tmp_path)] == list(named)
    assert newest_whole_checkpoint(tmp_path).stem == 'iter_120'


def test_a_lock_is_never_written_to(tmp_path):
    lock = tmp_path / '.lock'
    lock_work_dir(tmp_path).close()
    assert lock.read_bytes() == b'' and [path.name for path in tmp_path.iterdir()] == ['.lock']
    forget_start(None)
    assert not lock.exists()
    lock.write_text('of the user')
    before = lock.stat()
    require_unlocked(tmp_path)
    lock_work_dir(tmp_path).close()
    forget_start(None)
    assert lock.stat().st_ctime_ns == before.st_ctime_ns and lock.read_text() == 'of the user'
