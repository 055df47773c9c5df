"""``benchmark.py`` compares what it is asked to, prints a table, and writes what it takes to believe it."""

import json
import subprocess

import numpy as np
import pytest
from benchmarks.timing import find_commit
from PIL import Image
from processes import call, refuse
from tiny_run import write_scalars


def log_demo(folder):
    """The part of the demo's two logs that is read."""
    for name, lines in dict(
        photos=[dict(psnr=15.0, psnr_baseline=14.0), dict(loss=1.0), dict(psnr=19.5, psnr_baseline=14.0)],
        digits=[{'knn/top1_k20': 92.0}, dict(loss=1.0), {'knn/top1_k20': 96.0}],
        digits_seed1=[{'knn/top1_k20': 97.0}, {'knn/top1_k20': 95.0}],
    ).items():
        write_scalars(folder / f'work_dirs/coma_dyvit-p_{name}', 'a', lines)


@pytest.mark.slow
def test_tables_json_and_plots(tmp_path):
    suites = ['step', 'forward', 'data', 'profile', 'imports', 'start', 'demo']
    log_demo(tmp_path)
    rows = 'DyViT-T', 'shards', 'decoder, GELU', 'import', 'first line', 'refusal'
    options = ['--only', *rows, '--batch', 1, '--rounds', 1, '--json', 'out.json']
    printed = call(tmp_path, 'lab/benchmark.py', *suites, *options)
    assert '| step | ms per image, median (min-max) | ratio | GFLOP per image | TFLOP/s | share of ' in printed
    assert printed.count('| CoMA DyViT-T | ') == printed.count('| DyViT-T | ') == 1 and 'MAE' not in printed
    results = json.loads((tmp_path / 'out.json').read_text())
    tables, machine = results['tables'], results['machine']
    assert {name: len(values) for name, values in tables['step']['rows'].items()} == {'CoMA DyViT-T': 1}
    assert list(tables['forward']['rows']) == ['DyViT-T']
    assert tables['forward']['columns']['GMACs']['DyViT-T'] == pytest.approx(3, abs=0.3)
    assert tables['psnr']['rows'] == {'mean colour': [14.0], 'reconstruction': [19.5]}
    accuracies = tables['knn']['rows']
    assert accuracies['random weights'] == [92.0, 97.0] and accuracies['weights just trained'] == [96.0, 95.0]
    assert 97 < accuracies['pixels'][0] < 98
    assert list(tables['data']['rows']) == ['CoMA, shards', 'CoMA, shards of 256 px']
    linear = [f'{place}, first linear' for place in ('stage 1', 'stage 2', 'stage 3', 'stage 4', 'decoder')]
    assert list(tables['profile']['columns']['least ms']) == [*linear, 'decoder, GELU']  # 'first line' names them, too
    assert list(tables['imports']['rows'])[0] == 'import coma_mm'
    assert list(tables['start']['rows']) == ['first line', 'refusal of a folder that is not there']
    assert machine['torch'] and machine['device'] and machine['settings']['precision'] == 'fp32'
    # Twice as many operations as multiply-adds: two forward passes of the encoder, one of them also backward, and more.
    assert 10 < tables['step']['columns']['GFLOP per image']['CoMA DyViT-T'] < 40

    call(tmp_path, 'lab/plot_benchmark.py', 'out.json')
    drawn = {path.name for path in tmp_path.glob('*.png')}
    assert drawn == {f'out-{table}.png' for table in ('step', 'forward', 'data', 'start')}
    with Image.open(tmp_path / 'out-data.png') as picture:
        assert len(np.unique(np.asarray(picture.convert('RGB')).reshape(-1, 3), axis=0)) > 10  # not blank


def test_the_commit_is_that_of_the_code(tmp_path):
    def git(*args):
        command = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b.c', *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git('init', '-q')
    assert find_commit(tmp_path / 'docs') is None  # a folder of somebody's repository, as an installed package is
    for name in ('code.py', 'docs/result.json'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('1')
    git('add', '.')
    git('commit', '-qm', 'first')
    (tmp_path / 'docs/result.json').write_text('2')
    assert find_commit(tmp_path) == git('rev-parse', '--short', 'HEAD')
    (tmp_path / 'code.py').write_text('2')
    assert find_commit(tmp_path) == git('rev-parse', '--short', 'HEAD') + '-dirty'


def test_refusals(tmp_path, monkeypatch, capfd):
    for args, error in [
        (['nothing'], "invalid choice: 'nothing'"),
        (['step', '--only', 'ResNet'], "no row has one of ['ResNet'] in its name; there are: MAE ViT-B"),
        (['step', '--json', 'nowhere/out.json'], 'there is no folder nowhere'),
        (['data', '--data', 'nowhere'], 'there is no folder nowhere'),
        (['demo'], 'work_dirs/coma_dyvit-p_photos has no log of a run; call `make demo` first'),
    ]:
        assert error in refuse(monkeypatch, capfd, tmp_path, 'lab/benchmark.py', *args)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'other.json').write_text('[1]')
    (tmp_path / 'other.png').touch()
    (tmp_path / 'gpu.txt').touch()
    for tool, args in [
        ('benchmark', ['step', '--json', 'other.json']),
        ('chaos', ['--runs', 0, '--json', 'other.json']),
        ('chaos', ['--runs', 0, '--steps', 8, '--plot', 'other.png']),
        ('counts', ['--json', 'other.json']),
        ('check_gpu', ['--out', '.']),
    ]:
        error = refuse(monkeypatch, capfd, tmp_path, f'lab/{tool}.py', *args)
        assert 'exists already and is not known to be as coma-mm wrote it: name another' in error
    error = refuse(monkeypatch, capfd, tmp_path, 'lab/plot_benchmark.py', 'other.json')
    assert 'other.json was not written by benchmark.py --json' in error
