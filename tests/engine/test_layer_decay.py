import pytest
import torch
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from mmengine.utils import digit_version
from torch import nn

from coma_mm.models import CoMA, DyViT


def groups(model, optimizer=None, **paramwise):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='coma_mm.LayerDecayOptimWrapperConstructor',
            optim_wrapper_cfg=dict(optimizer={'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05, **(optimizer or {})}),
            paramwise_cfg=paramwise,
        )
    )
    return constructor(model).optimizer.param_groups


def test_flat_parameters_have_no_weight_decay_and_there_are_two_groups():
    model = CoMA(
        dict(type='coma_mm.DyViT', arch='pico', frozen_stages=0),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4),
    )
    free, decayed = groups(model, layer_decay_rate=1.0)
    assert (free['weight_decay'], decayed['weight_decay']) == (0, 0.05)
    free, decayed = ({id(p) for p in group['params']} for group in (free, decayed))
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith('backbone.stem') and id(parameter) not in free | decayed
        else:
            flat = name.endswith('bias') or '.norm' in name or 'mask_token' in name
            assert id(parameter) in (free if flat else decayed), name


def test_adamw_is_fused_where_torch_can_and_nobody_objects():
    fused = digit_version(torch.__version__) >= digit_version('2.4')
    assert all(group['fused'] is fused for group in groups(DyViT('pico')))
    assert not any(group['fused'] for group in groups(DyViT('pico'), optimizer=dict(fused=False)))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = DyViT('pico')
        self.head = nn.Linear(4, 4)


@pytest.mark.parametrize('spelling', [dict(layer_decay_rate=0.5), dict(decay_rate=0.5, num_layers=12)])
def test_rates_follow_depth(spelling):
    model = Detector()
    rates = {id(p): group['lr'] for group in groups(model, **spelling) for p in group['params']}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        depth, depths = model.backbone.get_layer_depth(name, 'backbone.')
        assert rates[id(parameter)] == 0.5 ** (depths - 1 - depth)
    assert rates[id(model.head.weight)] == 1 and rates[id(model.backbone.stem.weight)] == 0.5**8
    assert len(groups(model, **spelling)) < 20


def test_classifier_of_mmpretrain():
    """It has a ``get_layer_depth`` of its own, which asks the backbone."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = dict(type='LinearClsHead', num_classes=3, in_channels=256)
        backbone, neck = dict(type='coma_mm.DyViT', arch='pico'), dict(type='GlobalAveragePooling')
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))
    rates = {id(p): group['lr'] for group in groups(model, layer_decay_rate=0.5) for p in group['params']}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.head.fc.weight)] == 1 and rates[id(model.backbone.stages[3].blocks[0].norm1.bias)] == 0.5
    assert rates[id(model.backbone.stem.weight)] == 0.5**8


def test_a_model_without_depths_is_an_error():
    with pytest.raises(ValueError, match='needs get_layer_depth of Linear'):
        groups(nn.Linear(4, 4), layer_decay_rate=0.9)
    assert len(groups(nn.Linear(4, 4), layer_decay_rate=1.0)) == 2
