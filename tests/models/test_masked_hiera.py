"""``MaskedHiera`` computes what timm's Hiera does, of whole images and of some units, and CoMA trains it."""

import pytest
import timm
import torch
from mmengine.registry import MODELS

from coma_mm import MaskedHiera

IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[7, 0, 4, 2], [1, 8, 3, 5]])


@pytest.fixture(scope='module')
def theirs():
    torch.manual_seed(0)
    return timm.create_model('hiera_tiny_224', img_size=96, num_classes=10).eval()


@pytest.fixture(scope='module')
def ours(theirs, tmp_path_factory):
    file = tmp_path_factory.mktemp('hiera') / 'hiera_tiny_224.pth'
    weights = theirs.state_dict()
    weights['encoder_norm.weight'] = weights.pop('head.norm.weight') + 1  # as its authors call it
    weights['encoder_norm.bias'] = weights.pop('head.norm.bias')
    torch.save(weights, file)
    model = MaskedHiera('tiny', 96, out_indices=(2, 3), init_cfg=dict(type='coma_mm.Pretrained', checkpoint=str(file)))
    model.init_weights()
    return model.eval()


@torch.no_grad()
def test_whole_images(theirs, ours):
    _, maps = theirs.forward_features(IMAGES, return_intermediates=True)
    third, last = ours(IMAGES)
    assert third.shape == (2, 384, 6, 6) and last.shape == (2, 768, 3, 3)
    torch.testing.assert_close(third, maps[2].permute(0, 3, 1, 2))
    torch.testing.assert_close(last, 2 * theirs.head.norm(maps[3]).permute(0, 3, 1, 2))


@torch.no_grad()
def test_visible_units_in_the_order_given(theirs, ours):
    (tokens,) = ours(IMAGES, IDS)
    mask = torch.zeros(2, 9, dtype=torch.bool).scatter(1, IDS, True)
    expected = 2 * theirs.head.norm(theirs.forward_features(IMAGES, mask))
    for image, ids in enumerate(IDS.tolist()):
        for place, number in enumerate(ids):
            torch.testing.assert_close(tokens[image, place], expected[image, sorted(ids).index(number)])
    changed = IMAGES.clone()
    changed[0, :, :32, 32:64] = 5  # unit 1, which is hidden
    torch.testing.assert_close(ours(changed, IDS)[0][0], tokens[0], rtol=0, atol=0)


def test_coma_trains_it():
    model = MODELS.build(
        dict(
            type='coma_mm.CoMA',
            backbone=dict(type='coma_mm.MaskedHiera', arch='tiny', img_size=96),
            decoder=dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=2),
        )
    )
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    mask.flatten(1)[:, :5] = True
    losses = model.loss(IMAGES, dict(mask=mask))
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    missing = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not missing


def test_refusals():
    with pytest.raises(ValueError, match="arch must be one of tiny, .* got 'bse'; did you mean 'base'"):
        MaskedHiera('bse')
    with pytest.raises(ValueError, match='one size: set img_size of the backbone to 96'):
        MaskedHiera('tiny')(IMAGES)
