"""``benchmark.py`` compares what it is asked to, prints a table, and writes what it takes to believe it."""

import json

from processes import call, refuse


def test_table_and_json(tmp_path):
    options = ['--only', 'DyViT-T', '--batch', 1, '--rounds', 2, '--json', 'out.json']
    printed = call(tmp_path, 'benchmark.py', 'step', 'forward', *options)
    assert '| step | ms per image, median (min-max) | ratio |' in printed
    assert printed.count('| CoMA DyViT-T | ') == printed.count('| DyViT-T | ') == 1 and 'MAE' not in printed
    results = json.loads((tmp_path / 'out.json').read_text())
    assert {name: len(values) for name, values in results['step'].items()} == {'CoMA DyViT-T': 2}
    assert list(results['forward']) == ['DyViT-T']
    machine = results['machine']
    assert machine['torch'] and machine['device'] and machine['settings']['precision'] == 'fp32'


def test_refusals(tmp_path, monkeypatch, capfd):
    for args, error in [
        (['nothing'], "invalid choice: 'nothing'"),
        (['step', '--only', 'ResNet'], "no model has one of ['ResNet'] in its name; there are: MAE ViT-B"),
        (['step', '--json', 'nowhere/out.json'], 'there is no folder nowhere'),
    ]:
        assert error in refuse(monkeypatch, capfd, tmp_path, 'benchmark.py', *args)
    assert not list(tmp_path.iterdir())
