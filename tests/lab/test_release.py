"""Weights that others can use: made by ``release.py``, loaded by name."""

import json

import pytest
import torch
from mmengine.config import Config
from processes import TINY, refuse, run
from safetensors import safe_open
from tiny_run import save_tiny

from coma_mm.checkpoints import reading
from coma_mm.models import DyViT, read_checkpoint

LINE = dict(study='method', size='cpu', seed=0, images=512, commit='abc')


@pytest.fixture
def folder(tmp_path):
    """The work dir of a run, and a file of results."""
    cfg = Config.fromfile(TINY)
    (tmp_path / 'run').mkdir()
    cfg.dump(tmp_path / 'run/tiny.py')
    save_tiny(tmp_path / 'run/epoch_2.pth')
    (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / 'run/epoch_2.pth'))
    lines = [dict(LINE, cell='copy', qualities=dict(probe=50)), dict(LINE, cell='random', qualities=dict(probe=40))]
    (tmp_path / 'results.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return tmp_path


def test_release_and_load_by_name(folder, monkeypatch, capfd):
    run(
        monkeypatch, folder, 'lab/release.py', 'run', 'tiny', '--data', 'photos', '--results', 'results.jsonl:copy-0'
    )  # fmt: skip
    card = (folder / 'weights/tiny.md').read_text()
    assert '| linear probe (%) | 50 | 40 |' in card and '512 images seen' in card and 'commit abc' in card
    with safe_open(folder / 'weights/tiny.safetensors', 'pt') as file:
        assert {key.partition('.')[0] for key in file.keys()} == {'backbone', 'decoder'}
        assert {file.get_tensor(key).dtype for key in file.keys() if 'position' not in key} == {torch.float16}
        assert json.loads(file.metadata()['model'])['type'] == 'coma_mm.CoMA'

    monkeypatch.setattr(reading, 'resource_dir', lambda name: folder / name)
    original = torch.load(folder / 'run/epoch_2.pth', weights_only=True)['state_dict']
    settings = Config.fromfile(TINY).model.backbone
    settings.pop('type')
    backbone = DyViT(**settings, init_cfg=dict(type='coma_mm.Pretrained', checkpoint='coma_mm://tiny'))
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, original[f'backbone.{name}'].half().to(value.dtype))
    with pytest.raises(FileNotFoundError, match='no weights coma_mm://none; the package comes with coma_mm://tiny'):
        read_checkpoint('coma_mm://none')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nowhere', 'tiny', '--data', 'x'], 'there is no folder nowhere'),
        (['run', 'tiny', '--data', 'x', '--results', 'results.jsonl:joint-0'], "'joint-0'; it has copy-0"),
        (['empty', 'tiny', '--data', 'x'], 'there is no config in empty'),
    ],
)
def test_wrong_calls(folder, monkeypatch, capfd, args, message):
    (folder / 'empty').mkdir()
    assert message in refuse(monkeypatch, capfd, folder, 'lab/release.py', *args)
    assert not (folder / 'weights').exists()
