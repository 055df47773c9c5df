import json
import signal
from concurrent.futures import Future
from contextlib import closing

import pytest
from processes import refuse, run
from rich.progress import Progress
from studies.grid import Cell
from study import Work, run_cell

COVERAGE = ('lab/study.py', 'coverage', '--size', 'smoke')


def test_cells_run_once_and_are_reported(monkeypatch, capfd, tmp_path):
    run(monkeypatch, tmp_path, *COVERAGE, '--only', 'coma', 'mae60', '--jobs', '2')
    results = tmp_path / 'work_dirs/studies/coverage/smoke/results.jsonl'
    lines = {line['cell']: line for line in map(json.loads, results.read_text().splitlines())}
    line = lines['coma']
    assert set(lines) == {'coma', 'mae60'} and (line['seed'], line['threads']) == (0, 1)
    assert line['qualities']['never_predicted after 10'] == 0
    said = capfd.readouterr().out
    assert 'coma-0: never_encoded after 10 0' in said and 'mae60-0: never' in said and 'stopped' not in said
    run(monkeypatch, tmp_path, *COVERAGE, '--only', 'coma-0')
    assert 'all 1 cells are finished' in capfd.readouterr().out and len(results.read_text().splitlines()) == 2
    run(monkeypatch, tmp_path, *COVERAGE, '--list')
    assert capfd.readouterr().out.split() == ['mae75-0', 'finished', 'mae60-0', 'finished', 'coma-0']
    run(monkeypatch, tmp_path, *COVERAGE, '--minutes', '0')
    assert 'stopped; the same command goes on' in capfd.readouterr().out
    run(monkeypatch, tmp_path, *COVERAGE, '--report')
    assert 'wrote work_dirs/studies/coverage/smoke/coverage.md' in capfd.readouterr().out


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_others_at_work(monkeypatch, capfd, tmp_path):
    study = tmp_path / 'mixed.py'
    study.write_text(
        'coverage = dict(coverage=dict(ratio=0.6, complementary=True, images=10, epochs=10))\n'
        'cells = dict(\n'
        '    broken=dict(config=None, measures=dict(memory=dict())),\n'
        "    after=dict(config=None, measures=coverage, start='broken'),\n"
        '    sound=dict(config=None, measures=coverage),\n'
        ')\n'
        'sizes = dict(smoke=dict(seeds=[0]))\n'
    )
    said = refuse(monkeypatch, capfd, tmp_path, 'lab/study.py', study, '--size', 'smoke')
    assert said.count('broken-0 failed: ') == 1 and 'broken-0 trains no config' in said
    lines = (tmp_path / 'work_dirs/studies/mixed/smoke/results.jsonl').read_text().splitlines()
    assert [json.loads(line)['cell'] for line in lines] == ['sound']


def work(**options):
    return Work([], **{**dict(jobs=1, deadline=float('inf'), lock=0, progress=Progress(disable=True)), **options})


def test_a_cell_waits_for_the_one_that_it_starts_from():
    cell = Cell('transfer', 'smoke', 'camvid100_copy', 0)
    stopped = Future()
    stopped.set_result(False)
    assert run_cell(cell, work(), stopped) is False
    failed = Future()
    failed.set_exception(ValueError('pretrain_copy-0 failed'))
    with pytest.raises(ValueError, match='pretrain_copy-0 failed'):
        run_cell(cell, work(), failed)
    assert not cell.work_dir.exists()


def test_an_error_ends_the_processes_of_other_cells(tmp_path):
    with pytest.raises(ZeroDivisionError), open(tmp_path / 'lock', 'w') as lock:
        with closing(work(jobs=2, lock=lock.fileno())) as at_work:
            process = at_work.start(tmp_path / 'cell.json')  # there is none, but to notice takes seconds
            raise ZeroDivisionError
    assert process.poll() == -signal.SIGTERM and at_work.is_over()


@pytest.mark.slow
def test_a_cell_that_fails_says_why(monkeypatch, capfd, tmp_path):
    args = ('lab/study.py', 'method', '--size', 'smoke', '--only', 'random', '--data', 'nowhere.npz')
    assert 'nowhere.npz is neither an .npz file' in refuse(monkeypatch, capfd, tmp_path, *args)
    assert not (tmp_path / 'work_dirs/studies/method/smoke/results.jsonl').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nothing'], 'there is no study nothing; choose one of attention'),
        (['coverage', '--only', 'simmim'], 'there is no cell simmim; there are mae75, mae60, coma'),
        (['coverage', '--extra'], 'the study measures on demand: nothing'),
        (['method', '--extra', 'votes'], 'the study measures on demand: finetune_100; not votes'),
        (['coverage', '--report'], 'there are no results of size cpu'),
        (['coverage', '--size', 'huge'], 'invalid choice'),
        (['coverage', '--jobs', '0'], '--jobs: must be a whole number'),
    ],
)
def test_what_makes_no_sense_is_refused(args, message, monkeypatch, capfd, tmp_path):
    assert message in refuse(monkeypatch, capfd, tmp_path, 'lab/study.py', *args)
