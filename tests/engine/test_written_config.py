"""A config is read back as it was, whatever folders and classes are called."""

import os
from types import SimpleNamespace

from coma_mm.engine import ConfigHook
from coma_mm.engine.runner.config_files import read_config
from coma_mm.recipe import make_config
from coma_mm.settings import PretrainSettings

NAMES = [
    "it's '''",
    'a "b" """',
    'back\\slash\\',
    '\\x7b',
    'new\nline\ttab\u2028',
    '100%s %(x)d',
    '_base_',
    '}} { {x}',
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


def test_a_run_writes_its_config_once(tmp_path):
    hook, runner = ConfigHook('a = 1'), SimpleNamespace(work_dir=tmp_path)
    hook.before_train(runner)
    (tmp_path / 'config.py').write_text('a = 2')  # while it trains
    hook.before_val(runner)
    assert (tmp_path / 'config.py').read_text() == 'a = 2' and not list(tmp_path.glob('*.kept*'))
