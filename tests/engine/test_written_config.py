"""A config is read back as it was, whatever folders and classes are called."""

import os
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from coma_mm.engine import ConfigHook
from coma_mm.engine.runner.config_files import read_config
from coma_mm.recipe import make_config
from coma_mm.settings import PretrainSettings

NAMES = [
    '{{ fileDirname }}',
    ' {{fileBasename}} ',
    '{{$HOME:x}}',
    "{{'$NO_SUCH:y'}}",
    '{{$NO_SUCH:}}',
    '{{ _base_.model }}',
    '{{{ fileBasename }}}',
    '{{{{ fileExtname }}}}',
    '\\{{ fileDirname }}',
    "it's '''",
    'a "b" """',
    'back\\slash\\',
    '\\x7b',
    'new\nline\ttab\u2028',
    '100%s %(x)d',
    '_base_',
    '}}{{ {x}',
    '#c $HOME ~',
    '\u00fc\u6f22 ' * 100,
    os.fsdecode(b'\xe9'),
]


def test_odd_names_survive(tmp_path):
    cfg = make_config(PretrainSettings(NAMES, NAMES[0]))
    cfg.names = dict(classes=(*NAMES, [NAMES]))
    path = tmp_path / 'config.py'
    for _ in range(2):  # of a run, and of one that goes on with it
        cfg.dump(path)
        cfg = read_config(str(path))
        assert cfg.work_dir == NAMES[0] and cfg.train_dataloader.dataset.data_root == NAMES
        assert cfg.names.classes == (*NAMES, [NAMES])
    assert Config.fromstring(cfg.pretty_text, '.py').work_dir == NAMES[0]  # as in a checkpoint


@pytest.mark.parametrize('kind', ['json', 'yaml', 'yml'])
def test_odd_names_survive_in_other_files(tmp_path, kind):
    path, names = tmp_path / f'config.{kind}', NAMES[:-1]  # these files are UTF-8
    path.write_text('{}')
    cfg = read_config(str(path), dict(work_dir=names[0]))
    cfg.names = names
    cfg.dump(path)
    assert read_config(str(path)).names == names and Config.fromstring(cfg.dump(), f'.{kind}').work_dir == names[0]


def test_a_run_writes_its_config_once(tmp_path):
    hook, runner = ConfigHook('a = 1'), SimpleNamespace(work_dir=tmp_path)
    hook.before_train(runner)
    (tmp_path / 'config.py').write_text('a = 2')  # while it trains
    hook.before_val(runner)
    assert (tmp_path / 'config.py').read_text() == 'a = 2' and not list(tmp_path.glob('*.kept*'))
