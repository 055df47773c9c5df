"""The central promise: encoding some units equals encoding the whole image with the other units' keys removed."""

import pytest
import reference
import torch

from coma_mm.models import DyViT

OPTIONS = {
    'default': {},
    'averaged convolution': dict(kv_conv='averaged'),
    'ordinary convolution': dict(kv_conv='dense'),
    'one window': dict(windows=(4, 2, None, None)),
    'one window per head': dict(windows=((2, 4, 4, 8), (1, 1, 2, 2, 2, 2, 4, 4), None, None)),
    'heads of their own': dict(windows=((8, (2, 4), (1, 2, 4, 8), (2, 4)), [(1, 2)], None, None)),
    'plain attention': dict(attention=('msa',) * 4),
    'dm_msa everywhere': dict(attention=('dm_msa',) * 4, windows=((1, 2, 4, 8), 4, (1, 1, 2, 2), 1)),
    'patch size 1': dict(patch_size=1),
    'layer scale, no bias': dict(layer_scale=0.5, qkv_bias=False),
}


def build(**options):
    torch.manual_seed(0)
    options = {'img_size': 64, 'patch_size': 2, **options}
    model = DyViT('pico', out_indices=(0, 1, 2, 3), **options).double().eval()
    for parameter in model.parameters():  # biases, norms and scales away from their trivial initial values
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def sample(model, grid, batch=2, keep=4):
    image = torch.randn(batch, 3, grid[0] * model.unit_size, grid[1] * model.unit_size, dtype=torch.float64)
    idx = torch.rand(batch, grid[0] * grid[1]).argsort(1)[:, :keep]  # in random order
    visible = torch.zeros(batch, grid[0] * grid[1], dtype=torch.bool).scatter(1, idx, True)
    return image, idx, visible.view(batch, *grid)


@pytest.mark.parametrize('name', OPTIONS)
@pytest.mark.parametrize('grid', [(3, 3), (2, 5)])
def test_masked_equals_dense_with_hidden_keys(name, grid):
    model = build(**OPTIONS[name])
    image, idx, visible = sample(model, grid)
    for tokens, dense in zip(model(image, idx), reference.forward(model, image, visible)):
        units = reference.units_of(dense, grid)
        expected = units[torch.arange(len(idx))[:, None], idx].flatten(1, 2)
        torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('name', OPTIONS)
def test_whole_image_equals_raster_implementation(name):
    model = build(**OPTIONS[name])
    grid = (2, 3)
    image, _, visible = sample(model, grid)
    for out, expected in zip(model(image), reference.forward(model, image, torch.ones_like(visible))):
        torch.testing.assert_close(out, expected.permute(0, 3, 1, 2), rtol=0, atol=1e-10)


def test_hidden_pixels_change_nothing():
    model = build()
    image, idx, visible = sample(model, (3, 4))
    pixels = visible.repeat_interleave(model.unit_size, 1).repeat_interleave(model.unit_size, 2)[:, None]
    other = torch.where(pixels, image, torch.randn_like(image) * 100)
    for a, b in zip(model(image, idx), model(other, idx)):
        assert torch.equal(a, b)


def test_order_of_units_is_irrelevant():
    model = build()
    image, idx, _ = sample(model, (3, 4), keep=5)
    shuffle = torch.tensor([3, 0, 4, 1, 2])
    for a, b in zip(model(image, idx), model(image, idx[:, shuffle])):
        units = a.unflatten(1, (5, -1))[:, shuffle]
        torch.testing.assert_close(units.flatten(1, 2), b, rtol=0, atol=1e-12)


def test_all_units_visible_equals_whole_image():
    model = build()
    image, idx, _ = sample(model, (2, 3), keep=6)
    idx = idx.sort(1).values
    for tokens, dense in zip(model(image, idx), model(image)):
        expected = reference.units_of(dense.permute(0, 2, 3, 1), (2, 3)).flatten(1, 2)
        torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (2, 7), (5, 5)])
def test_attention_windows_equal_masked_attention(grid):
    """Blocks at the border are smaller, and attend exactly as if padded to full ones with the padding masked."""
    model = build(attn_window=2)
    image, _, visible = sample(model, grid)
    row, column = torch.meshgrid(torch.arange(grid[0]) // 2, torch.arange(grid[1]) // 2, indexing='ij')
    expected = reference.forward(model, image, torch.ones_like(visible), row * 100 + column)
    for out, dense in zip(model(image), expected):
        torch.testing.assert_close(out, dense.permute(0, 3, 1, 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize('name', OPTIONS)
@pytest.mark.parametrize('size', [(64, 96), (80, 48), (75, 100)])
@torch.no_grad()
def test_windows_alone_compute_each_block_as_an_image_of_its_own(name, size):
    """Pre-training saw such crops; smaller ones at the border, and pixels that complete the last units, included."""
    model = build(attn_window=2, global_blocks=(), **OPTIONS[name])
    image, side = torch.randn(2, 3, *size, dtype=torch.float64), 2 * model.unit_size
    outs = model(image)
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            crop = image[..., top : top + side, left : left + side]
            for out, own, stride in zip(outs, model(crop), model.strides):
                y, x = top // stride, left // stride
                part = out[..., y : y + own.shape[2], x : x + own.shape[3]]
                torch.testing.assert_close(part, own, rtol=0, atol=1e-10)


def test_a_block_of_the_size_of_pre_training_sees_what_pre_training_saw():
    model, trained = build(attn_window=4, global_blocks=()), build()
    image = torch.randn(1, 3, 128, 64, dtype=torch.float64)
    for out, crop in zip(model(image), trained(image[..., 64:, :])):
        torch.testing.assert_close(out[..., out.shape[2] // 2 :, :], crop, rtol=0, atol=1e-10)


def test_padding_right_and_below_changes_nothing_inside():
    """Nor do larger images of the same batch, which are the reason for padding."""
    model = build(attn_window=2, global_blocks=())
    image, side = torch.randn(1, 3, 64, 96, dtype=torch.float64), 2 * model.unit_size
    padded = torch.zeros(2, 3, 160, 128, dtype=torch.float64)
    padded[1] = torch.randn_like(padded[1])
    padded[0, :, :64, :96] = image
    for alone, together, stride in zip(model(image), model(padded), model.strides):
        inside = together[:1, :, : 64 // stride, : 96 // stride]
        torch.testing.assert_close(inside, alone, rtol=0, atol=1e-9)
    # Of blocks that the image does not fill the part inside the image is computed with the padding, which is real.
    cut = padded[:1, :, :64, : 96 - model.unit_size]
    for alone, together, stride in zip(model(cut), model(padded), model.strides):
        whole_blocks = (96 - model.unit_size) // side * side // stride
        torch.testing.assert_close(
            together[:1, :, : 64 // stride, :whole_blocks], alone[..., :whole_blocks], rtol=0, atol=1e-9
        )


def test_attention_window_as_large_as_the_image_is_global():
    image, _, _ = sample(build(), (4, 4))
    for a, b in zip(build(attn_window=4, global_blocks=())(image), build()(image)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_global_blocks_learn_absolute_positions_from_zero():
    model = DyViT('pico', img_size=64, patch_size=2, attn_window=2, out_indices=(0, 1, 2, 3)).double()
    assert list(model.global_positions) == [str(number) for number in sorted(model.global_blocks)]
    assert not any(term.weight.any() for term in model.global_positions.values())
    image, _, _ = sample(model, (2, 3))
    sum(out.square().mean() for out in model(image[..., :32, :32])).backward()  # also of an image of one block
    assert all(term.weight.grad.any() for term in model.global_positions.values())
    assert not DyViT('pico').global_positions and not DyViT('pico', attn_window=2, global_blocks=()).global_positions
    assert len(DyViT('pico', attn_window=2, out_indices=(1,)).global_positions) == 0  # in stage 3, which is not built
