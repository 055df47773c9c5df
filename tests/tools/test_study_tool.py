import json

import pytest
from processes import refuse, run

COVERAGE = ('study.py', 'coverage', '--size', 'smoke')


def test_cells_run_once_and_are_reported(monkeypatch, capfd, tmp_path):
    run(monkeypatch, tmp_path, *COVERAGE, '--only', 'coma')
    results = tmp_path / 'work_dirs/studies/coverage/smoke/results.jsonl'
    (line,) = map(json.loads, results.read_text().splitlines())
    assert (line['cell'], line['seed'], line['threads']) == ('coma', 0, 1)
    assert line['qualities']['never_predicted after 10'] == 0
    assert 'coma-0: never_encoded after 10 0' in capfd.readouterr().out
    run(monkeypatch, tmp_path, *COVERAGE, '--only', 'coma-0')
    assert 'all 1 cells are finished' in capfd.readouterr().out and len(results.read_text().splitlines()) == 1
    run(monkeypatch, tmp_path, *COVERAGE, '--list')
    assert capfd.readouterr().out.split() == ['mae75-0', 'mae60-0', 'finished', 'coma-0']
    run(monkeypatch, tmp_path, *COVERAGE, '--minutes', '0')
    assert 'stopped; the same command goes on' in capfd.readouterr().out
    run(monkeypatch, tmp_path, *COVERAGE, '--report')
    assert 'wrote work_dirs/studies/coverage/smoke/coverage.md' in capfd.readouterr().out


@pytest.mark.slow
def test_a_cell_that_fails_says_why(monkeypatch, capfd, tmp_path):
    args = ('study.py', 'method', '--size', 'smoke', '--only', 'random', '--data', 'nowhere.npz')
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
    ],
)
def test_what_makes_no_sense_is_refused(args, message, monkeypatch, capfd, tmp_path):
    assert message in refuse(monkeypatch, capfd, tmp_path, 'study.py', *args)
