"""DyViT keeps timm's promises, and takes its weights from wherever they were trained."""

import copy

import pytest
import timm
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope
from timm.models._helpers import load_checkpoint
from timm.optim import param_groups_layer_decay
from torch.testing import assert_close

import coma_mm.timm  # noqa: F401
from coma_mm.models import CoMA, DyViT, read_checkpoint

ADDS_GLOBALS = hasattr(torch.serialization, 'add_safe_globals')  # without, torch 2.1, timm reads exported files only


def create(name='dyvit_pico', **options):
    torch.manual_seed(0)
    return timm.create_model(name, **options)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_names():
    assert timm.list_models('dyvit_*') == [f'dyvit_{arch}' for arch in ('base', 'large', 'pico', 'small', 'tiny')]
    with torch.device('meta'):
        for arch in ('tiny', 'small', 'base', 'large'):
            model = timm.create_model(f'dyvit_{arch}')
            assert model.num_features == DyViT(arch).num_features and model.num_classes == 1000


def test_default_cfg_and_classifier():
    model = create().eval()
    cfg, state = model.default_cfg, model.state_dict()
    assert cfg['input_size'] == (3, 224, 224) and cfg['architecture'] == 'dyvit_pico'
    assert f'{cfg["classifier"]}.weight' in state
    assert model.get_classifier() is model.head.fc and model.get_classifier().out_features == 1000
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (1, model.num_features, *cfg['pool_size'])
        assert_close(model(x), model.forward_head(features))
        assert_close(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
        model.reset_classifier(7)
        assert model(x).shape == (1, 7) and model.num_classes == 7
        model.reset_classifier(0)
        assert_close(model(x), features.mean((2, 3)))
        model.reset_classifier(0, '')
        assert_close(model(x), features)
    assert create(num_classes=0, global_pool='').eval()(x).shape == features.shape


def test_four_channels_and_other_sizes():
    model = create(in_chans=4, num_classes=5, img_size=64, patch_size=2).eval()
    assert model.in_chans == 4 and model.patch_embed.in_features == 4 * 2 * 2
    assert model(images(2, 4, 64, 48)).shape == (2, 5)
    assert model.forward_features(images(1, 4, 50, 64)).shape == (1, 256, 4, 4)


@pytest.mark.parametrize('options', [{}, dict(features_only=True), dict(features_only=True, out_indices=(0, 2))])
def test_every_parameter_has_a_gradient(options):
    model = create(drop_path_rate=0.1, **(options or dict(num_classes=42))).train()
    outputs = model(images(2, 3, 64, 64))
    sum(output.square().mean() for output in (outputs if options else [outputs])).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    if not options:
        assert outputs.shape == (2, 42)


@pytest.mark.parametrize('attn_window', [None, 1])
def test_intermediates_are_those_of_forward(attn_window):
    model = create(attn_window=attn_window).eval()
    x = images(2, 3, 64, 96)
    with torch.no_grad():
        features = model.forward_features(x)
        last, maps = model.forward_intermediates(x)
        assert torch.equal(last, features) and torch.equal(maps[3], features)
        for info, image_map in zip(model.feature_info, maps, strict=True):
            size = tuple(side // info['reduction'] for side in (64, 96))
            assert image_map.shape == (2, info['num_chs'], *size)
        (second,) = model.forward_intermediates(x, indices=[1], intermediates_only=True)
        assert torch.equal(second, maps[1])
        assert len(model.forward_intermediates(x, indices=2)[1]) == 2
        # The maps of DyViT whose weights come from pre-training.
        backbone = DyViT('pico', out_indices=(0, 1, 2, 3), attn_window=attn_window).eval()
        backbone.load_state_dict(model.state_dict(), strict=False)
        for here, there in zip(maps, backbone(x), strict=True):
            assert torch.equal(here, there)
        # What is left after pruning.
        assert model.prune_intermediate_layers([1, 2]) == [1, 2]
        assert len(model.stages) == 3 and model(x).shape == maps[2].shape and model.num_features == 128
        _, pruned = model.forward_intermediates(x, indices=[1, 2])
        assert torch.equal(pruned[0], maps[1]) and torch.equal(pruned[1], maps[2])
    with pytest.raises(ValueError, match="output_fmt='NCHW', not 'NLC'"):
        model.forward_intermediates(x, output_fmt='NLC')


def test_features_only():
    model = create(features_only=True, out_indices=(1, 2, -1)).eval()
    assert model.feature_info.channels() == [64, 128, 256] and model.feature_info.reduction() == [8, 16, 32]
    assert [tuple(x.shape[1:]) for x in model(images(1, 3, 96, 64))] == [(64, 12, 8), (128, 6, 4), (256, 3, 2)]
    assert len(create(features_only=True)(images(1, 3, 64, 64))) == 4
    assert not [name for name in create(features_only=True, out_indices=(0, 1)).state_dict() if 'stages.2' in name]


def test_gradient_checkpointing():
    """The outputs stay as they are, which tests/models/test_dyvit.py shows."""
    model = create()
    for enable in (True, False):
        model.set_grad_checkpointing(enable)
        assert model.with_cp is enable


def test_layer_groups():
    model = create()
    groups = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=[])
    scales = {id(parameter): group['lr_scale'] for group in groups for parameter in group['params']}
    assert len(scales) == len(list(model.parameters()))
    order = [
        'patch_embed.weight',
        *(f'stages.{i}.blocks.{n}.attn.proj.weight' for i, n in ((0, 0), (1, 0), (2, 0), (2, 3), (3, 0))),
    ]
    found = [scales[id(model.get_parameter(name))] for name in [*order, 'head.fc.weight']]
    assert found == sorted(set(found)) and found[-1] == 1
    assert model.group_matcher(coarse=True)['blocks'] == r'^stages\.(\d+)'


def test_weights_of_pretraining(tmp_path):
    decoder = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
    source = CoMA(dict(type='coma_mm.DyViT', arch='pico'), decoder)
    exported = source.backbone.state_dict()
    torch.save(dict(state_dict=exported, meta=dict(arch='pico')), tmp_path / 'backbone.pth')
    hub = dict(log_scalars={'train/loss': HistoryBuffer([0.5, 0.25], [1, 1])})
    torch.save(dict(state_dict=source.state_dict(), meta=dict(epoch=2), message_hub=hub), tmp_path / 'epoch_2.pth')
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        expected = source.backbone.eval()(x)[0]
        read_checkpoint(tmp_path / 'epoch_2.pth')  # leaves what timm may read as it was
        for file in ('backbone.pth', *(['epoch_2.pth'] if ADDS_GLOBALS else [])):
            path = str(tmp_path / file)
            model = create(checkpoint_path=path, num_classes=4).eval()  # its classifier is new
            assert torch.equal(model.forward_features(x), expected)
            (last,) = create(checkpoint_path=path, features_only=True, out_indices=(3,)).eval()(x)
            assert torch.equal(last, expected)
            assert len(create(checkpoint_path=path, features_only=True, out_indices=(0, 1))(x)) == 2


def test_weights_of_a_classifier(tmp_path):
    parts = dict(backbone=dict(type='coma_mm.DyViT', arch='pico'), neck=dict(type='GlobalAveragePooling'))
    head = dict(type='LinearClsHead', num_classes=6, in_channels=256)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(dict(type='mmpretrain.ImageClassifier', **parts, head=head))
    torch.save(dict(state_dict=classifier.state_dict()), tmp_path / 'classifier.pth')
    x = images(2, 3, 64, 64)
    with torch.no_grad():
        model = create(checkpoint_path=str(tmp_path / 'classifier.pth'), num_classes=6).eval()
        assert_close(model(x), classifier.eval()(x))
        assert create(checkpoint_path=str(tmp_path / 'classifier.pth'), num_classes=0)(x).shape == (2, 256)


@pytest.mark.parametrize('channels, patch_size, factors', [(1, 4, [3]), (2, 4, [1.5] * 2), (5, 2, [0.6] * 5)])
def test_first_layer_is_converted_to_other_channels(tmp_path, channels, patch_size, factors):
    """Grey for one channel, which sums those of R, G and B; for more each is as loud as the three were."""
    torch.save(create(patch_size=patch_size).state_dict(), tmp_path / 'colour.pth')
    options = dict(checkpoint_path=str(tmp_path / 'colour.pth'), patch_size=patch_size)
    colour, other = create(**options).eval(), create(in_chans=channels, **options).eval()
    grey = images(1, 1, 64, 64)
    with torch.no_grad():
        if channels == 1:
            assert_close(other(grey), colour(grey.repeat(1, 3, 1, 1)))
        before, after = (model.patch_embed.weight.unflatten(1, (-1, patch_size**2)) for model in (colour, other))
        for i, factor in enumerate(factors):
            assert_close(after[:, i], before.sum(1) if channels == 1 else before[:, i % 3] * factor)
        features = create(in_chans=channels, features_only=True, **options)
        assert torch.equal(features.model.patch_embed.weight, other.patch_embed.weight)
    with pytest.raises(RuntimeError, match='size mismatch for patch_embed.weight'):
        create(in_chans=1, checkpoint_path=options['checkpoint_path'], patch_size=8)


def test_weights_of_timm_itself_and_of_others(tmp_path):
    model = create(features_only=True, out_indices=(1, 2))
    other = copy.deepcopy(model)
    torch.nn.init.ones_(other.model.norm1.bias)
    model.load_state_dict(other.state_dict())
    assert model.model.norm1.bias.sum() == 64  # norms of its own
    torch.save(create('dyvit_pico', patch_size=2).state_dict(), tmp_path / 'patch.pth')
    with pytest.raises(RuntimeError, match='size mismatch for patch_embed.weight'):
        create(checkpoint_path=str(tmp_path / 'patch.pth'))
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')
    with pytest.raises(RuntimeError, match='Missing key'):
        load_checkpoint(create(), str(tmp_path / 'linear.pth'))
