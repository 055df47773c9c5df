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
            assert name.startswith('backbone.patch_embed') and id(parameter) not in free | decayed
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


def settings(model, **paramwise):
    """Return learning rate and weight decay of each trainable parameter, and the number of groups."""
    found = groups(model, **paramwise)
    by_id = {id(p): (group['lr'], group['weight_decay']) for group in found for p in group['params']}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}, len(found)


@pytest.mark.parametrize('spelling', [dict(layer_decay_rate=0.5), dict(decay_rate=0.5, num_layers=12)])
def test_rates_follow_depth(spelling):
    model = Detector()
    found, count = settings(model, **spelling)
    assert len(found) == len(list(model.parameters())) and count < 20
    for name, (lr, _) in found.items():
        depth, depths = model.backbone.get_layer_depth(name, 'backbone.')
        assert lr == 0.5 ** (depths - 1 - depth)
    assert found['head.weight'][0] == 1
    assert found['backbone.patch_embed.weight'][0] == 0.5 ** (model.backbone.num_blocks + 1)


def test_classifier_of_mmpretrain():
    """It has a ``get_layer_depth`` of its own, which asks the backbone."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = dict(type='LinearClsHead', num_classes=3, in_channels=256)
        backbone, neck = dict(type='coma_mm.DyViT', arch='pico'), dict(type='GlobalAveragePooling')
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))
    found, _ = settings(model, layer_decay_rate=0.5)
    assert len(found) == len(list(model.parameters())) and found['head.fc.weight'][0] == 1
    assert found['backbone.stages.3.blocks.0.norm1.bias'][0] == 0.5
    assert found['backbone.patch_embed.weight'][0] == 0.5 ** (model.backbone.num_blocks + 1)


def test_a_model_without_depths_is_an_error():
    with pytest.raises(ValueError, match='needs get_layer_depth of a backbone, and nothing in Linear'):
        groups(nn.Linear(4, 4), layer_decay_rate=0.9)
    assert len(groups(nn.Linear(4, 4), layer_decay_rate=1.0)) == 2


def test_one_output_is_no_norm():
    model = nn.ModuleDict(dict(score=nn.Linear(8, 1), mask=nn.Conv2d(8, 1, 1), norm=nn.GroupNorm(1, 8)))
    model.token = nn.Parameter(torch.zeros(1, 1, 8))
    decays = {name: decay for name, (_, decay) in settings(model)[0].items()}
    assert decays['score.weight'] == decays['mask.weight'] == 0.05
    assert all(decay == 0 for name, decay in decays.items() if name not in ('score.weight', 'mask.weight'))


def test_the_config_decides_on_flat_parameters_too():
    model = nn.ModuleDict(dict(fc=nn.Linear(4, 4), norm=nn.LayerNorm(4)))
    found, _ = settings(model, norm_decay_mult=1.0)
    assert (found['norm.weight'][1], found['fc.bias'][1]) == (0.05, 0)
    found, _ = settings(model, custom_keys={'fc': dict(decay_mult=0.5), 'norm': dict(lr_mult=2.0)})
    assert found['fc.weight'] == found['fc.bias'] == (1.0, 0.025) and found['norm.bias'] == (2.0, 0)
    found, _ = settings(model, custom_keys={'fc': dict(lr_mult=0.1), 'fc.weight': dict(weight_decay=0.3, lr=0.2)})
    assert found['fc.weight'] == (0.2, 0.3) and found['fc.bias'] == (0.1, 0)  # longest key first, values as they are


def test_other_options_reach_the_group():
    model = nn.ModuleDict(dict(fc=nn.Linear(4, 4), norm=nn.LayerNorm(4)))
    found = groups(model, custom_keys={'fc.bias': dict(lars_exclude=True)})
    assert [len(group['params']) for group in found if group.get('lars_exclude')] == [1]
    assert not any({'lr_mult', 'decay_mult'} & set(group) for group in found)


def test_shared_parameters_stand_in_one_group():
    layer = nn.Linear(4, 4)
    found = groups(nn.ModuleList([layer, layer]), custom_keys={'1.': dict(lr_mult=0.1)}, bypass_duplicate=True)
    assert [len(group['params']) for group in found] == [1, 1] and {group['lr'] for group in found} == {1.0}


@pytest.mark.parametrize(
    ('paramwise', 'optimizer', 'error'),
    [
        (dict(norm_deacy_mult=0.0), {}, "no key 'norm_deacy_mult', .*did you mean 'norm_decay_mult'"),
        (dict(layer_decay=0.8), {}, "no key 'layer_decay', .*did you mean 'layer_decay_rate'"),
        (dict(decay_rate=0.9, decay_type='stage_wise'), {}, "decay_type='stage_wise' is not offered"),
        (dict(norm_decay_mult=0.0), dict(weight_decay=None), 'set optim_wrapper.optimizer.weight_decay=0.05'),
        (dict(flat_decay_mult=0.0), dict(weight_decay=None), 'set optim_wrapper.optimizer.weight_decay=0.05'),
        (dict(custom_keys={'fc': dict(decay_mult=0)}), dict(weight_decay=None), 'multiplies weight_decay'),
        (dict(layer_decay_rate=0.8), dict(lr=None), 'set optim_wrapper.optimizer.lr='),
    ],
)
def test_what_nothing_reads_and_factors_of_nothing_are_errors(paramwise, optimizer, error):
    with pytest.raises(ValueError, match=error):
        groups(DyViT('pico'), optimizer, **paramwise)


def test_without_weight_decay_the_optimizer_uses_its_own():
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get('coma_mm.LayerDecayOptimWrapperConstructor')
    wrapper = constructor(dict(optimizer=dict(type='AdamW', lr=1.0)), dict(layer_decay_rate=1.0))(DyViT('pico'))
    assert [group['weight_decay'] for group in wrapper.optimizer.param_groups] == [0, 0.01]


def test_backbones_of_a_retriever_and_of_a_student():
    for place in ('image_encoder.0', 'student.backbone'):
        model = nn.ModuleDict(dict(head=nn.Linear(4, 4)))
        parent = nn.Sequential() if place.endswith('0') else nn.Module()
        backbone = DyViT('pico')
        parent.add_module(place.split('.')[1], backbone)
        model[place.split('.')[0]] = parent
        found, _ = settings(model, layer_decay_rate=0.5)
        assert found[f'{place}.patch_embed.weight'][0] == 0.5 ** (backbone.num_blocks + 1)
        assert found[f'{place}.norm3.weight'][0] == found['head.weight'][0] == 1
