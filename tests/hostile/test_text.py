"""Text of files goes nowhere raw: no escape sequence to a terminal, no HTML or Markdown into a page."""

import json
import sys
from contextlib import suppress

import pytest
from torch import nn

from coma_mm.checkpoints.settings import read_settings
from coma_mm.cli import errors, main
from coma_mm.export.hub import write_hub_folder
from coma_mm.export.source import find_normalisation

ODD = [
    '<script>alert(1)</script>',
    '![x](http://evil.org/x.png)',
    '`; rm -rf ~`',
    '\n---\nlicense: mit\n---\n# Title',
    'a | b',
    '\x1b[2J\x07\x9b1m',
    '\ud800\u202e',
    'x' * 10**6,
]


@pytest.mark.parametrize('text', ODD)
def test_a_model_card_has_it_as_text(text, tmp_path):
    meta = dict(
        backbone='{}', arch=text, epochs=text, iterations='1', config_sha256=text, coma_mm='1.0', scope='coma_mm'
    )
    meta['channel_order'] = json.dumps(text)
    write_hub_folder(str(tmp_path / 'hub'), nn.Linear(2, 2), meta, 'mit', lambda path: open(path, 'w').close())
    card = (tmp_path / 'hub/README.md').read_text()
    plain = tmp_path / 'plain'
    meta |= dict(arch='a', epochs='a', config_sha256='a', channel_order='"a"')
    write_hub_folder(str(plain), nn.Linear(2, 2), meta, 'mit', lambda path: open(path, 'w').close())
    expected = (plain / 'README.md').read_text()
    assert card.count('\n') == expected.count('\n') and len(card) < len(expected) + 4000
    for raw in '<script', '![', '[x]', '\x1b', '\x9b', '\u202e', '`; ', 'a | b':
        assert raw not in card


@pytest.mark.parametrize(
    'value', ['[' * 600, '[' * 100_000, '{"a":' * 600, 'NaN', '["x"]', '[1e999]', '5', '"<b>"', '', ODD[5]]
)
@pytest.mark.parametrize('name', ['mean', 'std', 'channel_order'])
def test_what_cannot_be_true_of_images_is_named(name, value):
    with pytest.raises(ValueError, match=f'says that {name} is') as error:
        find_normalisation(dict(meta={name: value}), None)
    assert '\x1b' not in str(error.value) and len(str(error.value)) < 300
    with pytest.raises(ValueError, match='says that std is'):
        find_normalisation(dict(meta=dict(std='[1, 0, 1]')), None)


@pytest.mark.parametrize('depth', [600, 100_000])
def test_deep_settings_are_no_settings(depth):
    nested = '[' * depth + ']' * depth
    assert read_settings(dict(meta=dict(backbone=f'{{"type": "x", "y": {nested}}}'))) is None
    assert read_settings(dict(meta=dict(cfg=f'model = dict(backbone=dict(type="x", y={nested}))'))) is None
    assert find_normalisation(dict(meta=dict(cfg=f'model = dict(y={nested})')), None) == {}


@pytest.mark.parametrize('kind', [ValueError, RuntimeError, SystemExit, FileNotFoundError])
def test_a_last_line_acts_on_no_terminal(kind, capsys, monkeypatch):
    monkeypatch.setattr(errors, '_log_file', lambda: None)
    monkeypatch.setattr(sys, 'argv', ['x', '--traceback'])
    with pytest.raises(SystemExit):
        errors.finish(kind('error: bad \x1b[2J\x9b1m\u202e\ud800 name'), 'train')
    said = capsys.readouterr().err
    assert '\\x1b[2J' in said and not any(raw in said for raw in ('\x1b', '\x9b', '\u202e', '\ud800'))


@pytest.mark.parametrize(
    'args', [['report', 'run', '--out', 'ODD.html'], ['train', 'ODD'], ['pretrain', 'ODD', '--out', 'ODDX']]
)
def test_what_commands_print_acts_on_no_terminal(args, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run/1/vis_data').mkdir(parents=True)
    (tmp_path / 'run/1/vis_data/scalars.json').write_text('{"step": 1, "loss": 1.0, "lr": 1}')
    monkeypatch.setattr(sys, 'argv', ['coma-mm', *(arg.replace('ODD', 'a\x1b[2J') for arg in args)])
    with suppress(SystemExit):
        main()
    said = ''.join(capfd.readouterr())
    assert 'a\\x1b[2J' in said and '\x1b' not in said
