"""Every option of every command has a type of the one table, and each number is in its range."""

import argparse
import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

import coma_mm
from coma_mm import cli, settings
from coma_mm.checkpoints.run_state import START, check_run_state
from coma_mm.cli import errors, types
from coma_mm.cli.parser import ArgumentParser, UsageError
from coma_mm.datasets import ImageFolder, LoadImage
from coma_mm.engine.common import note_builds
from coma_mm.engine.runner.loggers import BACKENDS
from coma_mm.given_weights import read_encoder
from coma_mm.recipe import VARIANTS
from coma_mm.utils import ranges
from coma_mm.utils.manifest import write_own

NUMBERS = int, float, int | None, float | None
RANGES = {
    field.name: field.metadata['range']
    for field in fields(settings.PretrainSettings)
    if 'range' in field.metadata and 'nargs' not in field.metadata
} | dict(serve=ranges.PORT)
ODD = '-1', '0', 'nan', 'inf', '-inf', '1e309', '1.5', '-0.5', str(10**12), str(10**400), '', ' ', 'x', '0x10', '\0'
FREE = {  # options without a type, and why
    ('export', 'prefix'): 'an empty one is that of bare weights',
    ('test', 'cfg_options'): 'has an action of its own',
}
COMMANDS = sorted(cli.COMMANDS)


class _Caught(Exception):
    """The parser that a command has made."""


def parser_of(command, monkeypatch):
    """Return a command's parser, which it does not get to use."""

    def catch(self, *args, **kwargs):
        raise _Caught(self)

    module = import_module(f'coma_mm.cli.{command}')
    with monkeypatch.context() as patched:
        patched.setattr(ArgumentParser, 'parse_args', catch)
        patched.setattr(ArgumentParser, 'parse_known_args', catch)
        with pytest.raises(_Caught) as caught:
            getattr(module, 'parse_args', module.main)()
    return caught.value.args[0]


def is_flag(action):
    return action.nargs == 0


def is_number(read):
    try:
        return isinstance(read('1'), (int, float)) or isinstance(read('9'), (int, float))
    except argparse.ArgumentTypeError:
        return False


@pytest.mark.parametrize('command', COMMANDS)
def test_every_option_has_a_type_of_the_table(command, monkeypatch):
    parser = parser_of(command, monkeypatch)
    for action in parser._actions:
        if is_flag(action) or action.choices or action.dest == 'cfg_options' or (command, action.dest) in FREE:
            continue
        assert getattr(action.type, '__module__', None) == types.__name__, f'{command} {action.dest}'
        name = '/'.join(action.option_strings) or action.metavar or action.dest
        for text in ODD:
            if not is_number(action.type):
                if not text.strip() or '\0' in text:
                    with pytest.raises(argparse.ArgumentTypeError):
                        action.type(text)
                continue
            given = [f'{action.option_strings[-1]}={text}']
            try:
                parser.parse_args(given)
            except UsageError as error:
                line = str(error).splitlines()[-1]
                if f'argument {name}' in line:
                    continue
                assert 'required' in line, line  # of the others: this one was read
            assert text in ('0', '1.5', str(10**12), '0x10')
            assert math.isfinite(action.type(text)) and 0 <= action.type(text) < 2**31


@pytest.mark.parametrize('command', COMMANDS)
def test_advice_is_of_options_that_a_command_has(command, monkeypatch):
    has_overrides = '--cfg-options' in parser_of(command, monkeypatch)._option_string_actions
    assert has_overrides != (command in errors.OVERRIDING)
    said = errors._say_whose('error: x; set --cfg-options a=1', command)
    assert said.endswith('a=1' if has_overrides else ')')


def unreadable(folder):
    """Return a data set of an image that is none."""
    Path(folder, 'a.png').write_text('none')
    return ImageFolder(folder, pipeline=[LoadImage()])


@pytest.mark.parametrize(
    ('command', 'advice'),
    [
        ('pretrain', 'start from its weights with --init runs/a b.pth, in a new run'),
        ('finetune', 'start from its weights with coma-mm finetune runs/a b.pth LABELLED_FOLDER --out ANOTHER'),
        ('train', START.format(source='runs/a b.pth')),
    ],
)
def test_weights_of_a_checkpoint_that_no_run_goes_on_from(command, advice, monkeypatch):
    monkeypatch.setattr('sys.argv', [f'coma-mm {command}', '--resume'])
    with pytest.raises(ValueError) as error:
        check_run_state(dict(state_dict={}), 'runs/a b.pth')
    assert errors._say_whose(str(error.value), command).endswith(f'; {advice}')


@pytest.mark.parametrize('resume', [[], ['--resume']])
@pytest.mark.parametrize(
    ('cause', 'kept'),
    [
        (lambda folder: ImageFolder(folder), 'name yours as FOLDER of coma-mm pretrain'),
        (lambda folder: ImageFolder(f'{folder}/gone'), 'name yours as FOLDER of coma-mm pretrain'),
        (lambda folder: unreadable(folder)[0], 'leave them out'),
        (lambda folder: read_encoder({}, dict(a=torch.zeros(2)), 'a.pth', 3), 'CONFIG --cfg-options load_from=a.pth'),
    ],
)
def test_pretraining_advises_what_it_has(cause, kept, resume, tmp_path, monkeypatch):
    """Its errors name options of train where it has none: a run that goes on takes no folder."""
    monkeypatch.setattr('sys.argv', ['coma-mm pretrain', *resume])
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        cause(str(tmp_path))
    said = errors._say_whose(str(error.value), 'pretrain')
    assert kept in said
    assert ('train_dataloader' in said and said.endswith(')')) == (bool(resume) and 'load_from' not in said)
    assert errors._say_whose(str(error.value), 'train') == str(error.value)


NO_RUN = {
    'gone': 'there is no file gone',
    'empty': 'empty has no config .* no folder of a run',
    'notes': 'notes has no config .* no folder of a run',
    'gone.py': 'there is no config gone.py',
}
NO_CONFIG = {
    'gone': 'there is no config gone$',
    'tiny-comma': 'there is no config tiny-comma; did you mean .*tiny-coma.py',
    'run': 'there is no config run; did you mean run/config.py',
    'x.pth': 'x.pth is a checkpoint, but a config is wanted',
}
LOCK = 'y/.lock is no file that can be locked'
PLACES = {
    'embed visualize': NO_RUN,
    'compare finetune': {place: NO_RUN[place] for place in ('gone', 'empty', 'notes')},
    'train test browse flops': NO_CONFIG,
}
WRONG = {  # command lines, and what is said of them
    f'{command} {place} images': words
    for commands, places in PLACES.items()
    for command in commands.split()
    for place, words in places.items()
} | {
    'pretrain x.pth --out new': 'x.pth is a file, but a folder of images is wanted',
    'pretrain images --out new --minuts 3': "unrecognized arguments: --minuts 3; did you mean '--minutes'",
    'pretrain --out empty --resume': 'there is no run in empty to go on with',
    'pretrain images --out done': 'done has results of an earlier run, up to iter_1.pth: go on with --resume',
    'pretrain . --out x --seed -1': 'argument --seed: must be a whole number from 0 to 2147483647, got -1',
    'pretrain . --out y': f'{LOCK}: move it away, or choose another',
    'pretrain --out y --resume': LOCK,
    f'train {Path(__file__).parents[1]}/tools/tiny_coma.py --work-dir y': LOCK,
    'report nowhere': 'argument work_dir: there is no folder nowhere',
}
CALLS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from coma_mm.cli import main
for line in json.loads(sys.argv[1]):
    sys.argv = ['coma-mm', *line.split()]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
print(json.dumps('torch' in sys.modules))
"""


def test_arguments_are_read_before_torch(tmp_path):
    """It takes seconds to load: what cannot be meant is said at once, and so is the help of each command."""
    for name in ('empty', 'notes', 'images', 'run', 'done', 'y/.lock'):
        (tmp_path / name).mkdir(parents=True)
    for name in ('notes/x.txt', 'tiny-coma.py', 'run/config.py', 'x.pth'):
        (tmp_path / name).touch()
    write_own(tmp_path / 'done', 'iter_1.pth', 'checkpoint', '')
    lines = json.dumps([*WRONG, *(f'{command} -h' for command in COMMANDS)])
    done = subprocess.run([sys.executable, '-c', CALLS, lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *ends, has_torch = map(json.loads, done.stdout.splitlines())
    assert has_torch is False and len(ends) == len(WRONG) + len(COMMANDS)
    for (line, words), (code, _, said) in zip(WRONG.items(), ends):
        assert code in (1, 2) and re.search(words, said.splitlines()[-1]), f'{line}: {said}'
    for command, (code, said, _) in zip(COMMANDS, ends[len(WRONG) :]):
        assert not code and f'usage: coma-mm {command}' in said


@pytest.mark.parametrize('command', COMMANDS)
def test_defaults_are_in_range(command, monkeypatch):
    for action in parser_of(command, monkeypatch)._actions:
        if action.type is not None and isinstance(action.default, (int, float)) and is_number(action.type):
            assert action.type(str(action.default)) == action.default


def test_the_python_function_has_the_same_ranges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = {one.name for one in fields(settings.PretrainSettings) if one.type in NUMBERS}
    assert numbers == RANGES.keys() - {'serve'}
    odd = (True, '1', 'x', [1], math.nan, math.inf, -1, 10**12, 1.5)
    tried = {name: [value for value in odd if value not in RANGES[name]] for name in RANGES}
    assert 10**12 in tried['epochs'] and 1.5 in tried['batch_size']
    texts = dict(out=['', ' ', None, 3], data=['', 3, [], ['a', ''], [None]], labels=['', 3])
    texts |= dict(arch=[3, 'huge'], method=[3, 'huge'])
    flags = dict(resume=['yes', 1, None], overwrite=['no', 0], no_flip=['yes', 1])
    lists = dict(exclude=['*.png', [''], [1], ['/']], log=['wandb', ['csv']], crop_scale=[0.5, [0.5], [1, 0.5], [0, 1]])
    for name, values in (tried | texts | flags | lists).items():
        for value in values:
            with pytest.raises(ValueError, match=name):
                coma_mm.pretrain(**(dict(data='nowhere', out='run') | {name: value}))
    with pytest.raises(ValueError, match="init must be 'none', got 'random'"):
        coma_mm.finetune('coma_mm://dyvit-p_cifar10', 'nowhere', 'run', init='random')
    assert not list(tmp_path.iterdir())


def test_the_parser_knows_the_architectures_and_loggers():
    assert (*settings.DYVITS, *settings.VITS) == tuple(VARIANTS)
    assert types.arch('b') == 'base'
    assert settings.LOGGERS == tuple(BACKENDS)


def test_the_largest_seed_leaves_room_for_ranks_and_workers():
    assert ranges.SEED.high + 2**16 * 8 < 2**32


FILES = [
    (types.picture, 'x.jpg', 'give a name that ends in .png, .pdf or .svg'),
    (types.picture, '.png', 'give a name that ends in'),
    (types.output_file('.npz'), 'folder.npz', 'is a folder, but the name of a file is wanted'),
    (types.output_file('.npz'), 'nowhere/a.npz', 'there is no folder nowhere'),
    (types.output_path('.pkl', '.pickle'), 'a.json', 'give a name that ends in .pkl or .pickle, not a.json'),
    (types.output_path(), 'a/', 'is a folder'),
    (types.output_path(), 'file/a', 'is a file; choose another folder'),
    (types.output_folder, '/proc/a', '/proc cannot be written to'),
    (types.output_folder, 'dangling', 'dangling is a link to nothing; choose another folder'),
    (types.output_folder, 'dangling/a', 'dangling is a link to nothing; choose another folder'),
    (types.folder, 'file', 'there is no folder file'),
    (types.images, 'nowhere', 'there is no folder nowhere, and no list of that name'),
    (types.file, 'nowhere', 'there is no file nowhere'),
    (types.checkpoint_file, 'nowhere.pth', 'there is no file nowhere.pth'),
    (types.checkpoint_file, 'run', 'there is no file run; did you mean run/last.pth?'),
    (types.arch, 'hug', "there is no arch 'hug'; choose one of pico"),
    (types.device, 'gpu', "nothing can be computed on 'gpu' here"),
]


@pytest.mark.parametrize(('read', 'name', 'words'), FILES)
def test_files_and_names(read, name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.npz').mkdir()
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'last.pth').touch()
    (tmp_path / 'file').touch()
    (tmp_path / 'dangling').symlink_to('nothing')
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        read(name)


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'a.pth').touch()
    for read in (types.path, types.checkpoint_file, types.output_path('.pth'), types.output_file()):
        assert read('~/a.pth') == str(tmp_path / 'a.pth')
    assert types.output_folder('~/x') == str(tmp_path / 'x') and types.picture('~/x.PNG') == str(tmp_path / 'x.PNG')


@pytest.mark.parametrize(
    ('kind', 'settings', 'words'),
    [
        ('MaskedViT', dict(decode_cls_tokn=True), "takes no argument 'decode_cls_tokn'; did you mean 'decode_"),
        ('FeatureExtractor', dict(backbone=dict(type='coma_mm.DyViT', depth=3)), "DyViT takes no argument 'depth'"),
        ('FeatureExtractor', dict(backbone=dict(type='coma_mm.DyVit')), "did you mean 'coma_mm.DyViT'"),
        ('FeatureExtractor', {}, "FeatureExtractor needs 'backbone'"),
    ],
)
def test_errors_say_what_was_being_built(kind, settings, words):
    """Whichever class refused an argument: that of the config is named, and one of its own arguments."""
    note_builds()
    with pytest.raises((KeyError, TypeError)) as raised:
        MODELS.build(dict(type=f'coma_mm.{kind}', **settings))
    assert words in errors.explain(raised.value)
    assert '(while building coma_mm.' in errors.name_error(raised.value)


def test_an_assertion_without_words_is_shown():
    def check(in_channels):
        assert isinstance(in_channels, list)

    with pytest.raises(AssertionError) as raised:
        check(512)
    raised.value.args = ()  # pytest's own words
    assert errors.name_error(raised.value) == 'AssertionError: assert isinstance(in_channels, list)'
