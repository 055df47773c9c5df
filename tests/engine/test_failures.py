"""A failing picture or report stops no run; a checkpoint that cannot be saved does."""

import resource
import signal
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, VISBACKENDS
from mmengine.visualization import LocalVisBackend
from tiny_run import masked_photos, read_logs, start

from coma_mm.checkpoints.finding import find_checkpoints, is_whole
from coma_mm.engine import KNNHook


@VISBACKENDS.register_module()
class LostConnection(LocalVisBackend):
    """A logger's service that does not answer any more."""

    def add_scalars(self, *args, **kwargs):
        raise ConnectionError('the server is gone')


@HOOKS.register_module()
class FullDiskHook(Hook):
    """Lets no file grow beyond a size, from a step on."""

    def __init__(self, at, size):
        self.at, self.size = at, size

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


@HOOKS.register_module()
class UnreadableHook(Hook):
    """Fails before the first step."""

    def before_train(self, runner):
        raise ValueError('too many images are unreadable')


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train the tiny config with some hooks; return the log."""
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def run(*hooks, **options):
        try:
            start('work', {'custom_hooks': list(hooks), **options}).train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return read_logs('work')

    return run


def test_pictures_reports_and_loggers_are_named_counted_and_left_out(train, monkeypatch):
    accuracies = iter([10.0])  # what comes before the first step must work

    def evaluate(*_):
        for accuracy in accuracies:
            return accuracy
        raise MemoryError

    monkeypatch.setattr(KNNHook, '_evaluate', evaluate)
    dataset = masked_photos('coffee')
    digits = dict(type='coma_mm.datasets.load_digits_images', size=16)
    log = train(
        dict(type='coma_mm.ReconstructionHook', dataset=dataset, interval=1, out='tiny_coma.py/picture.png'),
        dict(type='coma_mm.KNNHook', data=digits, interval=1),
        dict(type='coma_mm.ReportHook'),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='LostConnection')]),
    )
    assert [path.name for path in find_checkpoints(Path('work'))] == ['epoch_1.pth', 'epoch_2.pth']
    assert Path('work/report.html').is_file()
    assert log.count('drawing tiny_coma.py/picture.png failed (FileExistsError: ') == 1
    assert log.count('LostConnection.add_scalars failed (ConnectionError: the server is gone)') == 1
    last = log.rstrip().splitlines()[-1]
    assert 'Skipped after errors; training was not affected: ' in last
    for what in ('drawing tiny_coma.py/picture.png (3 x)', 'kNN evaluation (2 x)'):
        assert what in last


def test_a_full_disk_stops_no_run_for_a_log(train, capsys):
    train(
        dict(type='FullDiskHook', at=2, size=0),
        **{'default_hooks.checkpoint.interval': 5, 'default_hooks.checkpoint.save_last': False},
    )
    printed = capsys.readouterr()
    assert printed.out.count('failed (OSError: [Errno 27] File too large); training goes on without') == 2
    assert 'Traceback' not in printed.err + printed.out
    assert 'Skipped after errors; training was not affected: ' in printed.out


def test_a_full_disk_stops_a_run_that_cannot_be_saved(train):
    with pytest.raises(OSError, match='File too large: .*epoch_2.pth'):
        train(dict(type='FullDiskHook', at=4, size=40_000))
    assert [path.name for path in find_checkpoints(Path('work'))] == ['epoch_1.pth']
    assert is_whole(Path('work/epoch_1.pth')) and not list(Path('work').glob('.*.pth'))


def test_what_fails_before_the_first_step_is_not_lost_in_the_report(train):
    with pytest.raises(ValueError, match='too many images are unreadable'):
        train(dict(type='UnreadableHook'), dict(type='coma_mm.ReportHook'))
    assert not Path('work/report.html').exists()
