"""Weights with the names of older versions load as today's do, in whatever way they are loaded."""

import hashlib
import re

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict

from coma_mm.checkpoints.older_names import rename_older
from coma_mm.checkpoints.pretrained import load_backbone, load_exactly
from coma_mm.models import CoMA, DyViT
from coma_mm.models.distillation import checksum

SMALL = dict(arch='pico', img_size=32, patch_size=1, layer_scale=0.1)


def build(evaluation=None, seed=0):
    torch.manual_seed(seed)
    if evaluation is None:
        return DyViT(**SMALL)
    decoder = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
    return CoMA(dict(type='coma_mm.DyViT', **SMALL), decoder, evaluation=evaluation)


def older(state):
    names = {name: re.sub(r'(^|\.)patch_embed\.', r'\1stem.', name) for name in state}
    return {re.sub(r'\.ls([12])\.', r'.scale\1.', names[name]): value for name, value in state.items()}


WAYS = {
    'exactly': lambda model, state: load_exactly(model, dict(state_dict=state)),
    'of a data-parallel run': lambda model, state: load_exactly(model, {f'module.{k}': v for k, v in state.items()}),
    'as a part': lambda model, state: load_backbone(getattr(model, 'backbone', model), dict(model=state), 'it'),
    'by torch': lambda model, state: model.load_state_dict(state),
    'by mmengine, as runs resume': lambda model, state: load_state_dict(model, state, strict=True),
    'in a wrapper': lambda model, state: torch.nn.Sequential(model).load_state_dict(
        {f'0.{k}': v for k, v in state.items()}
    ),
}


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('evaluation', [None, dict(mode='copy'), dict(mode='ema')], ids=str)
def test_older_weights_load(evaluation, way):
    state, model = build(evaluation).state_dict(), build(evaluation, seed=1)
    before = older(state)
    assert sum(name not in state for name in before) == (2 + 2 * 7) * (1 + (evaluation == dict(mode='ema')))
    WAYS[way](model, before)
    for name, value in model.state_dict().items():
        if way != 'as a part' or evaluation is None or name.startswith('backbone.'):
            assert torch.equal(value, state[name]), name


def test_timm_loads_older_weights(tmp_path):
    timm = pytest.importorskip('timm')
    import coma_mm.timm  # noqa: F401

    state = build(dict(mode='ema')).state_dict()
    torch.save(dict(state_dict=older(state)), tmp_path / 'x.pth')
    options = dict(num_classes=0, img_size=32, patch_size=1, layer_scale=0.1)
    model = timm.create_model('dyvit_pico', checkpoint_path=str(tmp_path / 'x.pth'), **options)
    assert all(
        torch.equal(value, model.state_dict()[name[9:]]) for name, value in state.items() if name[:9] == 'backbone.'
    )


def test_a_teacher_is_known_to_runs_from_before():
    teacher = build()
    digest = hashlib.sha256()
    for name, value in sorted(older(teacher.state_dict()).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    assert checksum(teacher) == int.from_bytes(digest.digest()[:7], 'big')


@pytest.mark.parametrize('name', ['stages.0.0.weight', 'stages.0.blocks.0.norm1.bias', 'encoder.scale1.weight'])
def test_other_networks_keep_their_names(name):
    state = {'stem.weight': torch.ones(1), name: torch.ones(1)}
    assert rename_older(state) == state
