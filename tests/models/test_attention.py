"""Attention against a softmax written by hand; that windows are convolutions is shown in test_masked_vs_dense."""

import pytest
import reference
import torch
import torch.nn.functional as F

from coma_mm.models import DyViT
from coma_mm.models.attention import DMMSA, MSA, WindowConv, attend


def softmax_attention(q, k, v):
    """(B, N, h, d) by the definition, head by head."""
    outs = []
    for head in range(q.shape[2]):
        scores = q[:, :, head] @ k[:, :, head].transpose(1, 2) / q.shape[-1] ** 0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        outs.append(weights @ v[:, :, head])
    return torch.stack(outs, 2)


def test_attention_equals_its_definition():
    q, k, v = (torch.randn(2, n, 3, 8, dtype=torch.float64) for n in (12, 6, 6))
    torch.testing.assert_close(attend(q, k, v), softmax_attention(q, k, v), rtol=0, atol=1e-12)


def test_on_a_cpu_bf16_attends_in_fp32():
    q, k, v = (torch.randn(2, n, 4, 8).bfloat16().requires_grad_() for n in (64, 16, 16))
    with torch.autocast('cpu', torch.bfloat16):
        out = attend(q, k, v, ((2, 32),))
    assert out.dtype == torch.bfloat16 and out.equal(attend(q.float(), k.float(), v.float(), ((2, 32),)).bfloat16())
    out.float().sum().backward()
    assert v.grad.dtype == torch.bfloat16 and v.grad.abs().sum() > 0


def test_blocks_attend_to_themselves_only():
    q, k, v = (torch.randn(2, n, 3, 8, dtype=torch.float64) for n in (40, 10, 10))
    out = attend(q, k, v, ((2, 8), (3, 4), (1, 12)))
    spans = [(0, 8), (8, 16), (16, 20), (20, 24), (24, 28), (28, 40)]
    for start, stop in spans:
        keys = slice(start // 4, stop // 4)
        expected = softmax_attention(q[:, start:stop], k[:, keys], v[:, keys])
        torch.testing.assert_close(out[:, start:stop], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('window', [1, 2, 4, 8])
def test_window_convolution_equals_conv2d(window):
    conv = WindowConv(6, 10, window, bias=True).double()
    image = torch.randn(2, 16, 24, 6, dtype=torch.float64)
    tokens = reference.units_of(image, (2, 3)).flatten(1, 2)
    expected = F.conv2d(
        image.permute(0, 3, 1, 2), reference.to_kernel(conv.weight, window), conv.bias, stride=window
    ).permute(0, 2, 3, 1)
    expected = reference.units_of(expected, (2, 3)).flatten(1, 2)
    torch.testing.assert_close(conv(tokens), expected, rtol=0, atol=1e-12)


def test_window_one_is_plain_attention():
    plain, windowed = MSA(32, 4).double(), DMMSA(32, (1, 1, 1, 1), 8, kv_conv='dense').double()
    windowed.q.weight.data, windowed.kv[0][0].weight.data = plain.qkv.weight.data.split([32, 64])
    windowed.q.bias.data, windowed.kv[0][0].bias.data = plain.qkv.bias.data.split([32, 64])
    windowed.proj.load_state_dict(plain.proj.state_dict())
    x = torch.randn(2, 64, 32, dtype=torch.float64)
    torch.testing.assert_close(windowed(x), plain(x), rtol=0, atol=1e-12)


def test_queries_weigh_the_windows_of_a_head_against_each_other():
    """One softmax over the keys of all of them, which two softmaxes side by side would not be."""
    attn = DMMSA(32, ((2, 8), (2, 8), 4, (8, 2)), 8).double()
    assert attn.groups == (((2, 8), 3), ((4,), 1)) and [len(convs) for convs in attn.kv] == [2, 1]
    x = torch.randn(2, 3 * 64, 32, dtype=torch.float64)
    q = attn.q(x).unflatten(-1, (4, 8))
    several = [conv(x).unflatten(-1, (2, 3, 8)).unbind(2) for conv in attn.kv[0]]
    k, v = (torch.cat([scale[i] for scale in several], 1) for i in range(2))
    assert k.shape[1] == 3 * (16 + 1)
    single_k, single_v = attn.kv[1][0](x).unflatten(-1, (2, 1, 8)).unbind(2)
    heads = [softmax_attention(q[:, :, :3], k, v), softmax_attention(q[:, :, 3:], single_k, single_v)]
    torch.testing.assert_close(attn(x), attn.proj(torch.cat(heads, 2).flatten(2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize('bias', [True, False])
def test_averaged_convolution_starts_as_the_mean(bias):
    model = DyViT('pico', img_size=32, patch_size=1, kv_conv='averaged', qkv_bias=bias)
    conv = model.stages[0].blocks[0].attn.kv[0][1]
    x = torch.randn(2, 128, 32)
    mean = x.view(2, 2, 64, 32).mean(2)
    torch.testing.assert_close(conv(x), F.linear(mean, conv.weight[:, :32], conv.bias))
    assert conv.weight[:, :32].std() > 0.1  # as large as those of queries, whatever the window


def test_an_adam_step_moves_keys_as_far_as_queries():
    moved = {}
    for kind in ('depthwise', 'averaged', 'dense'):
        torch.manual_seed(0)
        model = DyViT('pico', img_size=32, patch_size=1, kv_conv=kind)
        attn = model.stages[0].blocks[0].attn
        layers = dict(query=attn.q, key=attn.kv[0][1])
        tokens = torch.randn(4, 1, 32) + 0.1 * torch.randn(4, 64, 32)  # neighbours are much alike
        before = {name: layer(tokens) for name, layer in layers.items()}
        optimizer = torch.optim.AdamW(attn.parameters(), lr=1e-3)
        (attn(tokens) * torch.randn(4, 64, 32)).sum().backward()
        optimizer.step()
        change = {name: (layer(tokens) - before[name]).abs().mean().item() for name, layer in layers.items()}
        moved[kind] = change['key'] / change['query']
    assert moved['depthwise'] < 1.5 and moved['averaged'] < 1.5 and moved['dense'] > 20, moved


def test_depthwise_convolution_starts_as_the_mean():
    attn = DMMSA(16, (4, 4), 8, kv_conv='depthwise')
    x = torch.randn(2, 64, 16)
    conv = attn.kv[0][0]
    torch.testing.assert_close(conv(x), conv.pointwise(x.view(2, 4, 16, 16).mean(2)))
