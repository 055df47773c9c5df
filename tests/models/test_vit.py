import pytest
import torch
from mmpretrain.models import VisionTransformer

from coma_mm.models import CoMA
from coma_mm.models.vit import MaskedViT

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def build(**options):
    torch.manual_seed(0)
    model = MaskedViT(arch=ARCH, img_size=(32, 64), patch_size=8, **options)
    model.init_weights()
    return model.eval()


def test_weights_and_names_are_those_of_mmpretrain():
    model, plain = build(), VisionTransformer(arch=ARCH, img_size=(32, 64), patch_size=8, out_type='featmap')
    plain.eval()  # returns nothing in mmpretrain
    plain.load_state_dict(model.state_dict(), strict=True)
    image = torch.randn(2, 3, 32, 64)
    torch.testing.assert_close(model(image)[0], plain(image)[0])


def test_all_patches_visible_equals_the_whole_image():
    model, image = build(), torch.randn(2, 3, 32, 64)
    order = torch.stack([torch.randperm(32), torch.randperm(32)])
    expected = model(image)[0].flatten(2).transpose(1, 2)
    expected = expected[torch.arange(2)[:, None], order]
    torch.testing.assert_close(model(image, order)[0], expected, atol=1e-5, rtol=1e-5)


def test_hidden_pixels_change_nothing():
    model, image = build(), torch.randn(1, 3, 32, 64)
    other = image.clone()
    other[..., 8:, :] = 100
    idx = torch.arange(8)[None]
    assert torch.equal(model(image, idx)[0], model(other, idx)[0])


def test_coma_trains_it():
    model = CoMA(
        dict(type='coma_mm.MaskedViT', arch=ARCH, img_size=(32, 64), patch_size=8),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4),
    )
    model.init_weights()
    position = model.backbone.pos_embed[0, 1:].view(4, 8, 32)
    assert (position[0, :, :16] == position[0, :1, :16]).all(), 'rows first: y does not change along a row'
    mask = torch.arange(32).view(1, 4, 8).expand(2, 4, 8) < 19
    losses = model.train()(torch.randn(2, 3, 32, 64), dict(mask=mask), mode='loss')
    (losses['loss_adaptive'] + losses['loss_evaluation']).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {'backbone.pos_embed'}
    assert model.get_layer_depth('backbone.layers.1.ln1.weight') == (2, 4)


@pytest.mark.parametrize('others', [[], [dict(type='TruncNormal', layer='Linear', std=0.02)]])
def test_init_weights_keeps_pretrained_weights(tmp_path, others):
    source = build()
    torch.save(source.state_dict(), tmp_path / 'vit.pth')
    torch.manual_seed(1)
    target = MaskedViT(
        arch=ARCH,
        img_size=(32, 64),
        patch_size=8,
        init_cfg=[dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth')), *others],
    )
    target.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
