import pytest
import torch
from mmpretrain.models import PCPVT, SwinTransformer
from studies.mask_token_encoder import MaskTokenEncoder

VISIBLE = torch.tensor([[3, 0, 5], [2, 1, 15]])


def swin():
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2])
    return SwinTransformer(arch, img_size=32, patch_size=1, window_size=4), 'patch_embed', 64


def pvt():
    arch = dict(
        embed_dims=[8, 16, 16, 32], depths=[1] * 4, num_heads=[1, 2, 2, 2], patch_sizes=[1, 2, 2, 2],
        strides=[1, 2, 2, 2], mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1],
    )  # fmt: skip
    return PCPVT(arch, norm_after_stage=[False, False, False, True]), 'patch_embeds.0', 32


@pytest.mark.parametrize('make', [swin, pvt])
def test_hidden_pixels_change_nothing(make):
    torch.manual_seed(0)
    backbone, embedding, channels = make()
    encoder = MaskTokenEncoder(backbone, embedding, embed_dims=8, unit_size=8, out_channels=channels)
    encoder.eval()
    images = torch.randn(2, 3, 32, 32)
    (tokens,) = encoder(images, VISIBLE)
    assert tokens.shape == (2, 3, channels)
    changed = images.clone()
    changed[0, :, 24:, 24:] = 9.0  # unit 15: hidden from the first image, seen of the second
    changed[1, :, 24:, 24:] = 9.0
    (other,) = encoder(changed, VISIBLE)
    assert torch.equal(tokens[0], other[0]) and not torch.allclose(tokens[1, 2], other[1, 2])
    # units come in the order asked for, and whole images know of no mask
    (reordered,) = encoder(images, VISIBLE.flip(1))
    torch.testing.assert_close(reordered.flip(1), tokens)
    torch.testing.assert_close(encoder(images)[-1], backbone(images)[-1])


def test_the_mask_token_learns():
    backbone, embedding, channels = pvt()
    encoder = MaskTokenEncoder(backbone, embedding, embed_dims=8, unit_size=8, out_channels=channels)
    assert encoder.train() is encoder
    encoder(torch.randn(2, 3, 32, 32), VISIBLE)[0].square().sum().backward()
    assert encoder.mask_token.grad.abs().sum() > 0
