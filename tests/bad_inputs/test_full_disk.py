"""A disk that is full ends each tool that writes in one line, and leaves no file that is half there."""

import json
import resource
from contextlib import contextmanager

import benchmark
import counts
import plot_benchmark
import pytest
import release
import study
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from noise import write_noise
from processes import TINY, last_line, run
from tiny_run import write_scalars

from coma_mm.cli import run as run_command

CLASSIFIER = TINY.with_name('tiny_classifier.py')
LIMIT = 9000  # bytes; less than each tool wants to write, more than a config


@contextmanager
def full_disk(limit=LIMIT):
    """Limit the size of files; the system's error for more is one of those of full disks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Photos of two classes, checkpoints, a run and results."""
    folder = tmp_path_factory.mktemp('full')
    for number in range(40):
        write_noise(folder / f'photos/{number % 2}/{number}.png', (64, 64), seed=number)
    (folder / 'run').mkdir()
    cfg = Config.fromfile(TINY)
    cfg.dump(folder / 'run' / 'tiny.py')
    for config, name in ((TINY, 'run/epoch_1.pth'), (CLASSIFIER, 'classifier.pth')):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(Config.fromfile(config).model)
        meta = dict(cfg=Config.fromfile(config).pretty_text, epoch=1, iter=3)
        torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / name)
    (folder / 'run' / 'last_checkpoint').write_text(str(folder / 'run' / 'epoch_1.pth'))
    for name, values in (('photos', dict(psnr=9.0, psnr_baseline=8.0)), ('digits', {'knn/top1_k20': 50.0})):
        write_scalars(folder / f'work_dirs/coma_dyvit-p_{name}', 'a', [values])
    machine = dict(device='cpu', date='today', settings=dict(precision='fp32', compile=False))
    table = dict(unit='ms', rows={f'row {i}': [1.0, 2.0] for i in range(9)}, columns={})
    (folder / 'results.json').write_text(json.dumps(dict(machine=machine, tables=dict(step=table))))
    return folder


TESTING = [CLASSIFIER, 'classifier.pth', '--work-dir', 'tested', '--cfg-options', 'log_level=ERROR']
TABLE = [
    ('test.py', [*TESTING, 'experiment_name=a', '--out', 'out.pkl'], 'out.pkl: File too large; make room, or name'),
    ('test.py', [*TESTING, 'experiment_name=b', '--show-dir', 'shown'], 'File too large; make room, or name another'),
    ('visualize.py', [TINY, 'run/epoch_1.pth', 'photos'], 'reconstruction.png: File too large'),
    ('extract_features.py', [TINY, 'run/epoch_1.pth', 'photos', '--pool', 'flat'], 'features.npz: File too large'),
    ('export.py', ['run/epoch_1.pth', 'backbone.pth'], 'backbone.pth: File too large'),
    ('export.py', ['run/epoch_1.pth', 'backbone.safetensors'], 'backbone.safetensors: File too large'),
    ('make_shards.py', ['photos', 'shards', '--workers', '0'], 'shards: File too large'),
    (benchmark, ['step', '--json', 'step.json'], 'step.json: File too large'),
    (counts, ['--json', 'counts.json'], 'counts.json: File too large'),
    (plot_benchmark, ['results.json'], 'results-step.png: File too large'),
    (release, ['run', 'tiny', '--data', 'x'], 'tiny.safetensors: File too large'),
]


@pytest.mark.parametrize(('tool', 'args', 'words'), TABLE)
def test_full_disk(monkeypatch, capsys, folder, tool, args, words):
    # What these two measure and count takes minutes, and it is about how that is written.
    table = benchmark.Table('ms', {f'row {number}': [1.0, 2.0] for number in range(999)})
    monkeypatch.setitem(benchmark.SUITES, 'step', lambda args: dict(step=table))
    counted = dict(variants=counts.make_table(['dims'], {'x' * LIMIT: ['1']}))
    monkeypatch.setattr(counts, 'count_documented', lambda: counted)
    end(monkeypatch, capsys, folder, tool, args, words)


def test_full_disk_in_training_and_in_studies(monkeypatch, capsys, folder):
    """Past logs and configs: while a checkpoint is saved, and when the first cell of a study is made."""
    quiet = ['log_level=ERROR', 'custom_hooks=[]', 'default_hooks.logger.interval=99']
    args = [TINY, '--work-dir', 'trained', '--cfg-options', *quiet]
    end(monkeypatch, capsys, folder, 'train.py', args, 'epoch_1.pth: File too large; make room, or name', 100_000)
    make_cells = study.make_cells

    def fill_the_disk(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return make_cells(*args)

    monkeypatch.setattr(study, 'make_cells', fill_the_disk)
    end(monkeypatch, capsys, folder, study, ['coverage', '--size', 'smoke'], 'cell.json: File too large')


def end(monkeypatch, capsys, folder, tool, args, words, limit=LIMIT):
    """Run a tool on a disk that gets full; check how it ends."""
    # Asked for the version, git would refresh the index of this checkout, be killed by the limit, and leave its lock.
    monkeypatch.setenv('GIT_DIR', str(folder / 'no repository'))
    before = {path for path in folder.rglob('*') if path.is_file()}
    with full_disk(limit), pytest.raises(SystemExit) as stop:
        if isinstance(tool, str):
            run(monkeypatch, folder, tool, *args)
        else:  # of the laboratory
            monkeypatch.chdir(folder)
            monkeypatch.setattr('sys.argv', [tool.__name__, *args])
            run_command(tool.__name__, tool.main)
    line = last_line(capsys.readouterr().err)
    assert stop.value.code == 1 and line.startswith('error: cannot write ') and words in line
    for path in {path for path in folder.rglob('*') if path.is_file()} - before:
        assert (
            path.suffix in ('.log', '.py')
            or path.parent.name == 'vis_data'
            or path.name in ('lock', '.lock', 'options.json', 'manifest.json')
        ), path
