"""model-index.yml: up to date, and read by those it is for; the tables for people, too."""

import sys
from pathlib import Path

import metafiles
import pytest
from metafiles import tabulate
from mmengine.config import Config
from mmpretrain.apis.model import ModelHub, get_model
from modelindex.load_model_index import load

from coma_mm.checkpoints.reading import get_state_dict, read_checkpoint

ROOT = Path(__file__).parents[2]


def test_all_recipes_are_listed_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['metafiles.py', '--check'])
    metafiles.main()  # exits where a file differs
    assert 'all is as it should be' in capsys.readouterr().out


def test_readers_find_every_recipe():
    index = load(str(ROOT / 'model-index.yml'))  # as mim does
    index.build_models_with_collections()
    models = {model.name: model for model in index.models}
    files = {
        path.stem for folder in ('pretrain', 'cls', 'det', 'seg') for path in (ROOT / 'configs' / folder).glob('*.py')
    }
    assert set(models) == files
    assert models['coma_dyvit-b_in1k'].metadata.parameters == 61816704
    ModelHub.register_model_index(ROOT / 'model-index.yml', config_prefix=ROOT)
    found = ModelHub.get('coma_dyvit-t_in1k')
    assert isinstance(found.config, Config) and found.config.model.backbone.arch == 'tiny'
    assert found.metadata.epochs == found.config.train_cfg.max_epochs
    assert type(get_model('coma_dyvit-t_in1k')).__name__ == 'CoMA'
    # with the weights that come along
    weights = get_model('mae_dyvit-p_cifar10', pretrained=True).state_dict()
    shipped = get_state_dict(read_checkpoint('coma_mm://dyvit-p_cifar10'))
    assert len(shipped) > 100 and all(weights[name].equal(value.float()) for name, value in shipped.items())
    assert models['mae_dyvit-p_cifar10'].results[0].metrics['Linear probe accuracy'] > 40.1 + 8  # random weights: 40.0


def test_tables_say_what_the_texts_on_top_say(tmp_path, monkeypatch):
    monkeypatch.setattr('_lab.ROOT', tmp_path)
    model = dict(Config='x.py', Metadata=dict(Description='Of <class>.', Iterations=20000))
    text = 'Of <class>.\n\n    tools/train.py x.py\n\nHardware: 8 GPUs x 2 images; more\nHours, result: not\nrun'
    (tmp_path / 'x.py').write_text(f'"""{text}\n"""\n')
    row = tabulate([model]).splitlines()[-1]
    assert row == '| [x.py](../x.py) | Of &lt;class>. | 20,000 iterations | 8 GPUs x 2 images | not run |'
    (tmp_path / 'x.py').write_text('"""Of <class>."""\n')
    with pytest.raises(ValueError, match='^x.py needs "Hardware: ..." and "Hours, result: ..."'):
        tabulate([model])
