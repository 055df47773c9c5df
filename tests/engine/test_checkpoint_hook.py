"""Runs that are killed or moved lose nothing: one tiny model, the real Runner."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import exists, get_file_backend
from mmengine.hooks import CheckpointHook
from tiny_run import TINY, same, start_saving

from coma_mm.checkpoints.finding import is_whole, newest_whole_checkpoint
from coma_mm.checkpoints.writing import WholeFileBackend
from coma_mm.engine.runner.build import prepare_resuming


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Build the tiny run with our hooks alone, as train.py does, to be trained."""
    monkeypatch.chdir(tmp_path)

    return start_saving


class Killed(BaseException):
    """The end of the process."""


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


DAMAGES = {
    'cut': lambda start, end: start,
    'empty': lambda start, end: b'',
    'flipped': lambda start, end: start + bytes([end[0] ^ 1]) + end[1:],
}


def damage(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(DAMAGES[how](content[:middle], content[middle:]))


@pytest.mark.parametrize('best', [None, 'loss'])
def test_validation_alone_saves_nothing(start, best):
    runner = start(save_best=best, rule='less')
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.after_val_epoch(runner, dict(loss=1.0))  # as at the end of runner.val(), with no training before it
    assert names('work') == []


def test_the_last_checkpoint_goes_when_the_next_is_there(start, monkeypatch):
    runner = start(max_keep_ckpts=1)
    save = runner.save_checkpoint

    def killed_in_the_second(out_dir, filename, *args, **kwargs):
        if filename == 'epoch_2.pth':
            mark = json.loads(Path('work/manifest.json').read_text())['mark']
            Path(out_dir, f'.epoch_2.{mark}.pth').write_bytes(b'half')
            Path(out_dir, '.backup.2024.pth').write_bytes(b'of the user')
            raise Killed
        save(out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(runner, 'save_checkpoint', killed_in_the_second)
    with pytest.raises(Killed):
        runner.train()
    assert len(names('work')) == 3 and names('work')[-1] == 'epoch_1.pth' and is_whole(Path('work/epoch_1.pth'))
    start(max_keep_ckpts=1, resume=True).train()
    assert names('work') == ['.backup.2024.pth', 'epoch_2.pth']
    assert Path('work/last_checkpoint').read_text() == str(Path('work/epoch_2.pth').absolute())


def test_the_newest_whole_one_is_resumed_wherever_the_run_lies_now(start):
    start().train()
    for how in DAMAGES:
        shutil.copytree('work', how)
        damage(Path(how, 'epoch_2.pth'), how)
        Path(how, 'last_checkpoint').write_text('')  # killed while it was written
        assert newest_whole_checkpoint(Path(how)) == Path(how, 'epoch_1.pth')
    start(True, work_dir='flipped').train()
    assert same('work/epoch_2.pth', 'flipped/epoch_2.pth')


def test_a_damaged_one_that_is_named_is_refused(start):
    start().train()
    cfg = Config.fromfile(TINY)
    cfg.update(resume=True, load_from='work/epoch_1.pth', work_dir='work')
    prepare_resuming(cfg)
    damage(Path('work/epoch_1.pth'), 'flipped')
    with pytest.raises(ValueError, match='epoch_1.pth is damaged: it is not what was written'):
        prepare_resuming(cfg)


def test_runs_write_files_whole(start):
    exists(TINY)  # as a notebook may have done before; mmengine keeps what it has made for that
    start(epochs=1)
    assert type(get_file_backend('anything')) is WholeFileBackend
    assert type(get_file_backend('anything', enable_singleton=True)) is WholeFileBackend
