"""Killed runs end as if they had been left alone: a few kinds of kills here, all of them in the slow test."""

import json

import pytest
from processes import run

FEW = ['checkpoint', 'SIGTERM']


@pytest.mark.slow  # kills of other kinds are tried in each run of the tests
def test_killed_runs_end_as_those_left_alone(monkeypatch, tmp_path, capfd):
    run(monkeypatch, tmp_path, 'lab/chaos.py', '--runs', len(FEW), '--kinds', *FEW, '--json', 'chaos.json')
    columns = json.loads((tmp_path / 'chaos.json').read_text())['tables']['kills']['columns']
    assert columns['runs'] == {**dict.fromkeys(FEW, 1), 'all': len(FEW)}
    assert columns['resumed to the bit'] == columns['runs']
    assert columns['steps lost, most']['SIGTERM'] == 0
    assert f'{len(FEW)} of {len(FEW)}  SIGTERM' in capfd.readouterr().out


@pytest.mark.slow
def test_every_kind_of_kill_full_disks_and_memory(monkeypatch, tmp_path):
    options = ['--runs', 24, '--disk', '--steps', 400, '--plot', 'memory.png', '--seed', 1, '--json', 'chaos.json']
    run(monkeypatch, tmp_path, 'lab/chaos.py', *options)
    tables = json.loads((tmp_path / 'chaos.json').read_text())['tables']
    assert tables['kills']['columns']['resumed to the bit']['all'] == 24
    assert set(tables['disk']['columns']['whole checkpoints only'].values()) == {'yes'}
    assert set(tables['memory']['columns']['MB after 400 steps']) == {'training process', 'loading worker'}
    assert (tmp_path / 'memory.png').is_file()
