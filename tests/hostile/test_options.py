"""A folder's options.json, and configs in YAML, are data."""

import json
import os

import pytest
from mmengine.config import Config
from processes import TINY

from coma_mm.engine.runner.config_files import read_config
from coma_mm.engine.runner.run_folder import read_settings_again, recall_options

KEPT = dict(amp=False, save_minutes=0, log=None)
REFUSED = """
    default_hooks.evil.type=subprocess.Popen default_hooks.logger.type=os.system
    default_hooks.logger._scope_=os custom_hooks.0.type=os.system custom_hooks=[os.system]
    custom_imports.imports=[evil] _base_=evil.py default_scope=evil optim_wrapper.constructor=os.system
    optim_wrapper.optimizer=os.system train_dataloader.collate_fn.type=os.system
    train_dataloader.worker_init_fn=os.system train_dataloader.dataset.pipeline.0.type=os.system
    train_dataloader.dataset.ann_file=evil.pkl model.backbone.init_cfg.checkpoint=http://evil/x.pth
    model.backbone.arch=os.system model.backbone.norm_cfg.unknown=x model.type.x=1
    model.backbone.arch.dims.9=1 default_hooks.checkpoint.filename_tmpl=../x_{}.pth work_dir=../elsewhere
    unknown=x model=5 -h
""".split()
REFUSED += ['no equals', 'custom_hooks=["os.system"]', 'a' * 20_000 + '=1']
REFUSED += [f'model.backbone.arch.dims={brackets}' for brackets in ('[[[', '[' * 65 + ']' * 65)]
TAKEN = {
    'train_cfg.max_epochs=7': 7,
    'default_hooks.checkpoint.max_keep_ckpts=2': 2,
    'model.backbone.arch.dims=[8,16,24,32]': [8, 16, 24, 32],
    'custom_hooks=[]': [],
    'optim_wrapper.optimizer.lr=1e-4': 1e-4,
}


@pytest.mark.parametrize('text', REFUSED)
def test_options_that_can_name_code(text, tmp_path):
    with pytest.raises(ValueError, match='options.json has the option .* not taken up: .*command line; if not, remove'):
        read_settings_again([text], Config.fromfile(TINY), tmp_path)


def test_options_that_are_data(tmp_path):
    expected = {text.partition('=')[0]: value for text, value in TAKEN.items()}
    assert read_settings_again(list(TAKEN), Config.fromfile(TINY), tmp_path) == expected
    assert recall_options(tmp_path, KEPT) == {}
    (tmp_path / 'options.json').write_text(json.dumps(dict(cfg_options=['a=1'], amp=True, log=['wandb'], other=1)))
    assert recall_options(tmp_path, KEPT) == dict(cfg_options=['a=1'], amp=True, log=['wandb'])


ODD = [('cfg_options', 5), ('cfg_options', [5]), ('amp', 'x'), ('log', ['evil'])]
ODD += [('save_minutes', value) for value in (-1, float('inf'), 10**400)]


@pytest.mark.parametrize('content', ['[]', 'x', '[' * 100_000, *(json.dumps(dict([pair])) for pair in ODD)])
def test_options_of_another_form(content, tmp_path):
    (tmp_path / 'options.json').write_text(content)
    with pytest.raises(ValueError, match='options.*if it is meant, give it again on the command line'):
        recall_options(tmp_path, KEPT)


def test_options_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / 'options.json')
    with pytest.raises(ValueError, match='is no regular file'):
        recall_options(tmp_path, KEPT)


@pytest.mark.parametrize(
    'tag', ['object/apply:os.mkdir [ran]', 'object/new:os.mkdir [ran]', 'name:os.mkdir', 'module:os']
)
@pytest.mark.parametrize('base', [False, True])
def test_yaml_with_objects(tag, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.yaml').write_text(f'train_cfg: !!python/{tag}\n')
    (tmp_path / 'y.py').write_text('_base_ = "x.yaml"\n')
    with pytest.raises(ValueError, match='x.yaml.* holds an object of Python, which is not read'):
        read_config('y.py' if base else 'x.yaml')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('text', ['[' * 10**6, '- ' * 10**5 + 'x'])
def test_yaml_of_many_levels(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.yaml').write_text(text)
    with pytest.raises(ValueError, match='it is no YAML: RecursionError'):
        read_config('x.yaml')


def test_yaml_and_json_that_are_data(tmp_path):
    (tmp_path / 'x.yaml').write_text('train_cfg: {by_epoch: true, max_epochs: 3}\n')
    (tmp_path / 'x.json').write_text('{"train_cfg": {"by_epoch": true, "max_epochs": 3}}')
    for name in ('x.yaml', 'x.json'):
        assert read_config(str(tmp_path / name)).train_cfg.max_epochs == 3
