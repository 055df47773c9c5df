"""Loaded weights stay through ``init_weights()``, in backbones of any class and at any place."""

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import FlexibleRunner
from torch import nn

import coma_mm.models  # noqa: F401
from coma_mm.models import DyViT

VIT = dict(arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8)
BACKBONES = {
    'DyViT': dict(type='coma_mm.DyViT', arch='pico', img_size=64),
    'MaskedViT': dict(type='coma_mm.MaskedViT', **VIT),
    'ViT': dict(type='mmpretrain.VisionTransformer', out_type='featmap', **VIT),
    'Swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2]),
        img_size=64,
        window_size=2,
        use_abs_pos_embed=True,
    ),
    'ResNet': dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4, zero_init_residual=True),
}
LOAD = dict(type='coma_mm.Pretrained')
CHANNELS = dict(DyViT=256, MaskedViT=16, ViT=16, Swin=64, ResNet=32)


@pytest.fixture(params=BACKBONES)
def name(request):
    return request.param


@pytest.fixture
def stored(name, tmp_path):
    """A backbone of random values, none of which an initialiser draws, and the file that holds them."""
    torch.manual_seed(0)
    backbone = MODELS.build(BACKBONES[name])
    state = {
        key: torch.randn(value.shape) if value.is_floating_point() else value
        for key, value in backbone.state_dict().items()
    }
    torch.save(dict(state_dict={f'backbone.{key}': value for key, value in state.items()}), tmp_path / 'weights.pth')
    return state, str(tmp_path / 'weights.pth')


def equal(backbone, state):
    return [key for key, value in backbone.state_dict().items() if not torch.equal(value.cpu(), state[key])] == []


FIRST = dict(type='TruncNormal', layer='Linear', std=0.02)


@pytest.mark.parametrize('others', [None, [FIRST, ...], [..., FIRST]])
def test_alone(name, stored, others):
    state, file = stored
    load = LOAD | dict(checkpoint=file)
    init_cfg = load if others is None else [load if other is ... else other for other in others]
    given = copy.deepcopy(init_cfg)
    backbone = MODELS.build(BACKBONES[name] | dict(init_cfg=init_cfg))
    backbone.init_weights()
    assert equal(backbone, state)
    assert init_cfg == given  # which is the user's


def models(name, backbone):
    """Return configs of a classifier, a segmentor and a detector on a backbone."""
    channels = CHANNELS[name]
    head = dict(type='mmseg.FCNHead', in_channels=channels, channels=8, num_classes=2, num_convs=1, in_index=0)
    return dict(
        mmpretrain=dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=channels),
        ),
        mmseg=dict(
            type='mmseg.EncoderDecoder', backbone=backbone, decode_head=head, train_cfg={}, test_cfg=dict(mode='whole')
        ),
        mmdet=dict(
            type='mmdet.FCOS',
            backbone=backbone,
            neck=dict(type='mmdet.ChannelMapper', in_channels=[channels], out_channels=32, num_outs=5),
            bbox_head=dict(type='mmdet.FCOSHead', num_classes=2, in_channels=32, feat_channels=32, stacked_convs=1),
        ),
    )


@pytest.mark.parametrize('toolbox', ['mmpretrain', 'mmseg', 'mmdet'])
def test_in_a_model(name, stored, toolbox):
    state, file = stored
    backbone = BACKBONES[name] | dict(init_cfg=LOAD | dict(checkpoint=file))
    with DefaultScope.overwrite_default_scope(toolbox):
        model = MODELS.build(models(name, backbone)[toolbox])
    model.init_weights()
    assert equal(model.backbone, state)


def test_with_the_flexible_runner(name, stored, tmp_path):
    state, file = stored
    model = models(name, BACKBONES[name] | dict(init_cfg=LOAD | dict(checkpoint=file)))['mmpretrain']
    runner = FlexibleRunner(model, work_dir=str(tmp_path / 'work'), experiment_name=file, default_scope='mmpretrain')
    runner.strategy.prepare(runner.model)
    assert equal(runner.strategy.model.backbone, state)


def test_weights_of_other_tools_survive_as_well(tmp_path):
    """Children that are no modules of mmengine's, loading by ``override``, and by mmengine's own name."""

    class Inner(nn.Linear):
        def init_weights(self):
            self.reset_parameters()

    class Outer(BaseModule):
        def __init__(self, init_cfg=None):
            super().__init__(init_cfg)
            self.inner = Inner(2, 2)

    state = dict(Outer().state_dict())
    torch.save(state, tmp_path / 'weights.pth')
    load = LOAD | dict(checkpoint=str(tmp_path / 'weights.pth'))
    for init_cfg in (load, load | dict(type='Pretrained', _scope_='coma_mm')):
        outer = Outer(init_cfg)
        outer.init_weights()
        assert equal(outer, state)

    class Model(BaseModule):
        def __init__(self):
            super().__init__(dict(type='Constant', layer='Linear', val=1, override=dict(load, name='backbone')))
            self.backbone = Outer()

    model = Model()
    model.init_weights()
    assert equal(model.backbone, state)


def test_classes_that_draw_weights_whatever_was_loaded(tmp_path):
    class Stubborn(DyViT):
        def init_weights(self):
            super().init_weights()
            nn.init.normal_(self.patch_embed.weight)

    torch.save(DyViT('pico').state_dict(), tmp_path / 'weights.pth')
    model = Stubborn('pico', pretrained=str(tmp_path / 'weights.pth'))
    with pytest.raises(ValueError, match=r'Stubborn.init_weights\(\) draws 1 weights after .* \(patch_embed.weight'):
        model.init_weights()
