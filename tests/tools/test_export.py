"""``export.py``: the backbone alone, in files that plain PyTorch and safetensors read."""

import json

import pytest
import torch
from mmengine.registry import MODELS
from processes import TINY, call, refuse
from safetensors import safe_open

from coma_mm.engine.running import read_config
from coma_mm.models import CoMA, DyViT, read_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as pre-training writes it."""
    torch.manual_seed(0)
    cfg = read_config(str(TINY))
    model = CoMA(cfg.model.backbone, cfg.model.decoder)
    path = tmp_path / 'epoch_2.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text, epoch=2, iter=6)), path)
    return path


def test_export_and_load_without_us(checkpoint, tmp_path):
    printed = call(tmp_path, 'export.py', checkpoint, 'backbone.pth')
    assert "matched 72 of 72 tensors after 'backbone.'" in printed
    assert 'backbone.pth: DyViT ' in printed and 'epochs 2, config ' in printed
    call(tmp_path, 'export.py', 'backbone.pth', 'backbone.safetensors')  # what it wrote tells all it needs

    plain = torch.load(tmp_path / 'backbone.pth', weights_only=True)
    source = torch.load(checkpoint, weights_only=True)['state_dict']
    with safe_open(tmp_path / 'backbone.safetensors', 'pt') as file:
        meta = file.metadata()
        assert set(file.keys()) == set(plain['state_dict'])
        for name, value in plain['state_dict'].items():
            assert torch.equal(value, source[f'backbone.{name}']) and torch.equal(value, file.get_tensor(name))
    assert meta == plain['meta'] and meta['epochs'] == '2' and len(meta['config_sha256']) == 12
    assert json.loads(meta['arch'])['dims'] == [16, 32, 48, 64]
    settings = json.loads(meta['backbone'])
    assert settings.pop('type') == 'coma_mm.DyViT'
    DyViT(**settings).load_state_dict(plain['state_dict'])
    assert not list(tmp_path.glob('.*'))


def test_bare_weights_with_their_config(checkpoint, tmp_path, monkeypatch, capfd):
    bare = {
        key: value for key, value in read_checkpoint(checkpoint)['state_dict'].items() if key.startswith('backbone.')
    }
    torch.save(bare, tmp_path / 'bare.pth')
    error = refuse(monkeypatch, capfd, tmp_path, 'export.py', 'bare.pth', 'out.pth')
    assert 'does not say which backbone it has; name its config with --config' in error
    call(tmp_path, 'export.py', 'bare.pth', 'out.pth', '--config', TINY)
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['meta']['epochs'] == 'unknown'


def test_refusals_write_nothing(checkpoint, tmp_path, monkeypatch, capfd):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg='model = dict(head=3)')), tmp_path / 'head.pth')
    (tmp_path / 'broken.pth').write_bytes(checkpoint.read_bytes()[:5000])
    before = sorted(tmp_path.iterdir())
    for args, error in [
        (['none.pth', 'out.pth'], 'there is no file none.pth'),
        ([checkpoint, 'out.onnx'], 'give a name that ends in .pth or .safetensors, not out.onnx'),
        ([checkpoint, 'nowhere/out.pth'], 'there is no folder nowhere'),
        (['broken.pth', 'out.pth'], 'broken.pth is damaged or no checkpoint'),
        (['head.pth', 'out.pth'], 'no backbone can be read from the model of its config'),
        ([checkpoint, 'out.pth', '--prefix', 'teacher.'], "no weights that start with 'teacher.'"),
    ]:
        assert error in refuse(monkeypatch, capfd, tmp_path, 'export.py', *args)
    assert sorted(tmp_path.iterdir()) == before


def test_backbones_and_layers_of_the_toolboxes(tmp_path):
    settings = dict(
        type='ResNet',
        depth=18,
        base_channels=4,
        stem_channels=4,
        norm_cfg=dict(type='BN'),
        init_cfg=[dict(type='Kaiming', layer='Conv2d')],
    )
    cfg = f'default_scope = "mmpretrain"\nmodel = dict(backbone={settings})\n'
    state = dict(MODELS.build(settings | dict(type='mmpretrain.ResNet')).state_dict())
    torch.save(dict(state_dict=state, meta=dict(cfg=cfg)), tmp_path / 'resnet.pth')
    assert 'out.pth: ResNet ' in call(tmp_path, 'export.py', 'resnet.pth', 'out.pth')
