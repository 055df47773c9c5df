import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import VisionTransformer

from coma_mm.models import CoMA
from coma_mm.models.masked_vit import MaskedViT

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


@pytest.mark.parametrize('size', [(32, 32), (64, 32), (64, 128)])
def test_images_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match=r'set img_size of the backbone to \('):
        build()(torch.zeros(1, 3, *size), torch.arange(4)[None])


def test_no_image_gives_empty_maps():
    model, nothing = build(), torch.zeros(0, 3, 32, 64)
    assert model(nothing)[0].shape == (0, 32, 4, 8)
    assert model(nothing, torch.zeros(0, 5, dtype=torch.long))[0].shape == (0, 5, 32)


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


@pytest.mark.parametrize('option', ['qkv_bias', 'with_cls_token'])
def test_it_can_lack_parts(option):
    model = build(**{option: False})
    assert model(torch.randn(1, 3, 32, 64), torch.arange(4)[None])[0].shape == (1, 4, 32)


def test_mae_proper_is_that_of_mmpretrain():
    """75 % hidden, class token decoded: the same loss and gradients on the same weights, images and masks."""
    decoder = dict(decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4, num_patches=16)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        stock = MODELS.build(
            dict(
                type='MAE',
                backbone=dict(type='MAEViT', arch=ARCH, img_size=32, patch_size=8, mask_ratio=0.75),
                neck=dict(type='MAEPretrainDecoder', patch_size=8, in_chans=3, embed_dim=32, mlp_ratio=4, **decoder),
                head=dict(
                    type='MAEPretrainHead',
                    norm_pix=True,
                    patch_size=8,
                    loss=dict(type='PixelReconstructionLoss', criterion='L2'),
                ),
            )
        )
    torch.manual_seed(0)
    stock.init_weights()
    ours = CoMA(
        dict(type='coma_mm.MaskedViT', arch=ARCH, img_size=32, patch_size=8, decode_cls_token=True),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=2, num_heads=4),
        evaluation=dict(mode='off'),
    )
    for module in (stock, ours):
        module.double().train()
    names = {name: name for name, _ in ours.named_parameters() if name.startswith('backbone')}
    names |= {
        'decoder.embeddings.0': 'neck.decoder_embed',
        'decoder.mask_token': 'neck.mask_token',
        'decoder.norm': 'neck.ln1',
        'decoder.prediction': 'neck.decoder_pred',
    }
    parts = {'norm1': 'ln1', 'norm2': 'ln2', 'attn': 'attn', 'mlp.0': 'ffn.layers.0.0', 'mlp.2': 'ffn.layers.1'}
    names |= {f'decoder.blocks.{i}.{a}': f'neck.decoder_blocks.{i}.{b}' for i in range(2) for a, b in parts.items()}
    theirs = dict(stock.named_parameters())

    def counterpart(name):
        start = max((start for start in names if name.startswith(start)), key=len)
        return names[start] + name[len(start) :]

    def as_ours(name, value):  # a patch's values are theirs (y, x, channel), ours (channel, y, x)
        if not name.startswith('decoder.prediction'):
            return value
        return value.unflatten(0, (8, 8, 3)).movedim(2, 0).flatten(0, 2)

    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(as_ours(name, theirs[counterpart(name)]))
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.manual_seed(7)
    _, hidden, _ = stock.backbone(images, mask=True)
    torch.manual_seed(7)  # the same masks again
    expected = stock.loss(images, None)['loss']
    expected.backward()
    loss = ours(images, dict(mask=hidden.view(3, 4, 4).bool()), mode='loss')['loss_adaptive']
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)  # its sines are of single precision
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            grad = as_ours(name, theirs[counterpart(name)].grad)
            torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-8, msg=name)


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
