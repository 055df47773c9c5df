"""The contract of a backbone."""

import itertools

import pytest
import torch
from mmengine.analysis import get_model_complexity_info

from coma_mm.models import ARCHITECTURES, DyViT
from coma_mm.models.layers import DropPath
from coma_mm.models.mask_units import sincos_positions

SMALL = dict(arch='pico', img_size=64, patch_size=2)
IMAGE = torch.randn(2, 3, 32, 48)
SHALLOW = dict(dims=(32, 64, 128, 256), depths=(1, 1, 1, 1), heads=(4, 8, 4, 8))  # where depth costs time alone


def test_exporting_leaves_the_process_as_it_was():
    model, image = DyViT(SHALLOW, attn_window=2).eval(), torch.randn(2, 3, 96, 160)
    if not hasattr(torch.compiler, 'is_compiling'):  # before torch 2.2
        return
    program = torch.export.export(model, (image,))
    expected = model(image)[0]
    assert type(expected) is torch.Tensor
    torch.testing.assert_close(program.module()(image)[0], expected)
    torch.testing.assert_close(torch.export.export(model, (image,)).module()(image)[0], expected)


def test_padding_is_zero_pixels():
    model = DyViT(**SMALL, attn_window=4).eval()  # without blocks the image's size would set its positions
    padded = torch.zeros(2, 3, 48, 48)
    padded[:, :, :32, :47] = IMAGE[..., :47]
    padded, image = padded[:, :, :32], IMAGE[..., :47]
    assert torch.equal(model(image)[0], model(padded)[0])


def test_positions_span_the_image_not_what_completes_its_last_unit():
    """The map of an image without content is its positions: first and last pixel see those of pre-training."""
    model = DyViT(**SMALL, out_indices=(0,)).double()
    positions = model._positions((64, 40), (4, 3), None).view(4, 3, 8, 8, -1)
    # coordinates grow by base / size a token: 64 px of pre-training over 40 px of the image
    scale = (64 / 64, 64 / 40)
    expected = sincos_positions((4, 3), 8, 32, scale, dtype=torch.float64)
    assert torch.equal(positions.flatten(0, 1).flatten(1, 2), expected)
    assert 64 / 40 * (40 / 2 - 0.5) + 0.5 * 64 / 40 == 64 / 2  # the last token's far edge is that of pre-training


@pytest.mark.parametrize('out_indices', [(3,), (0, 1, 2, 3), (1,), [0, -1]])
def test_every_parameter_gets_a_gradient(out_indices):
    model = DyViT(**SMALL, out_indices=out_indices, layer_scale=0.1)
    outs = model(IMAGE)
    assert len(outs) == len(out_indices)
    sum(out.square().sum() for out in outs).backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert not unused


@pytest.mark.parametrize('frozen, out_indices', [*itertools.product(range(-1, 5), [(3,), (0, 1, 2, 3)])])
def test_frozen_stages(frozen, out_indices):
    model = DyViT(**SMALL, out_indices=out_indices, frozen_stages=frozen).train()
    if frozen < 4:
        sum(out.square().sum() for out in model(IMAGE)).backward()
    for name, parameter in model.named_parameters():
        # the patch embedding freezes from 0 on, stage i and its norm from i + 1 on
        freezes_at = (
            0 if name.startswith('patch_embed') else 1 + int(name.split('.')[name.startswith('stages')].strip('norm'))
        )
        assert parameter.requires_grad == (frozen < freezes_at), name
        assert parameter.requires_grad == (parameter.grad is not None), name
    for i, stage in enumerate(model.stages):
        assert stage.training == (i >= frozen)


def test_train_returns_the_model():
    model = DyViT(**SMALL, norm_eval=True)
    assert model.train() is model
    assert model.stages[0].blocks[0].mlp.training


def test_recomputing_changes_nothing():
    model = DyViT(**SMALL)
    results = []
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        out = model(IMAGE)[0]
        out.square().sum().backward()
        results.append([out, *(p.grad.clone() for p in model.parameters())])
    for a, b in zip(*results):
        assert torch.equal(a, b)


def test_recomputing_halves_what_is_kept_for_the_backward_pass():
    kept = []
    for with_cp in (False, True):
        model, storages = DyViT('tiny', attn_window=2, with_cp=with_cp), {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(x, storages=storages, weights=weights):
            storage = x.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = (storage.nbytes(), x)  # x itself, so that no address is used twice
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            model(torch.zeros(1, 3, 128, 96))
        kept.append(sum(size for size, _ in storages.values()))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize('size', [(1, 1), (20, 31), (33, 5)])
def test_images_smaller_than_a_unit_are_padded_to_one(size):
    model = DyViT('pico', out_indices=(0, 1, 2, 3), attn_window=2)
    image = torch.randn(2, 3, *size)
    padded = torch.zeros(2, 3, 64 if size[0] > 32 else 32, 32)
    padded[..., : size[0], : size[1]] = image
    for out, whole, stride in zip(model(image), model(padded), model.strides):
        height, width = (-(-side // stride) for side in size)
        assert out.shape[2:] == (height, width)
        assert torch.equal(out, whole[..., :height, :width])


def test_layer_depths_are_monotone_and_cover_every_parameter():
    for arch in ARCHITECTURES:
        with torch.device('meta'):
            model = DyViT(arch, out_indices=(0, 1, 2, 3))
        names = [name for name, _ in model.named_parameters()]
        body = [name for name in names if not name.startswith('norm')]
        depths = [model.get_layer_depth('backbone.' + name, 'backbone.') for name in body]
        count = model.num_blocks + 2
        assert {total for _, total in depths} == {count}
        order = [depth for depth, _ in depths]
        assert order == sorted(order) and set(order) == set(range(count - 1)), arch
        heads = [name for name in names if name.startswith('norm')] + ['neck.fc.weight']
        assert {model.get_layer_depth(name) for name in heads} == {(count - 1, count)}


def test_arch_by_letter_and_by_dict():
    assert DyViT('p').out_channels == (256,)
    custom = DyViT(dict(dims=(16, 32, 64, 128), depths=(1, 1, 1, 1), heads=(4, 8, 2, 4)), out_indices=(0, 3))
    assert custom.out_channels == (16, 128) and custom.unit_channels == (16 * 64, 128)


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(20000, 1, 1)
    out = drop(x)
    torch.testing.assert_close(out.unique(), torch.tensor([0, 1 / 0.75]))
    assert abs(out.mean() - 1) < 0.02
    assert drop.eval()(x) is x


def test_settings_name_the_function():
    """The same for every way to write it, and other for other functions of the same weights."""
    default = DyViT('pico').settings
    written = dict(arch=ARCHITECTURES['pico'], img_size=[224, 224], windows=([[8, 4]] * 4, [[2, 4]], None, None))
    assert DyViT(**written).settings == default
    for other in (
        dict(img_size=64),
        dict(arch={**ARCHITECTURES['pico'], 'heads': (2, 8, 4, 8)}),
        dict(windows=([8, 4, 4, 8], [(2, 4)], None, None)),
        dict(mlp_ratio=2.0),
    ):
        assert DyViT(**{'arch': 'pico', **other}).settings != default
    for same in (
        dict(attn_window=7, global_window=1),
        dict(out_indices=(0, 1)),
        dict(drop_path_rate=0.1, with_cp=True),
    ):
        assert DyViT('pico', **same).settings == default


def test_residual_stream_stays_fp32_under_autocast():
    model, seen = DyViT(**SMALL, out_indices=(0, 1, 2, 3)).eval(), []
    for stage in model.stages:
        for block in stage.blocks:
            block.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        model(IMAGE)
    assert seen == [(torch.float32, torch.float32)] * model.num_blocks


ODD = [
    dict(),
    dict(attn_window=1, out_indices=(0, 1, 2, 3)),
    dict(attn_window=2, kv_conv='averaged', layer_scale=0.1),
    dict(kv_conv='dense', out_indices=(1,), with_cp=True),
]


@pytest.mark.parametrize('options', ODD, ids=str)
def test_no_image_gives_empty_maps(options):
    """A detector's second stage, or the last process of several, may have no image."""
    model = DyViT(**SMALL, **options).train()
    outs = model(torch.zeros(0, 3, 50, 33))
    for stride, channels, out in zip(model.strides, model.out_channels, outs, strict=True):
        assert out.shape == (0, channels, -(-50 // stride), -(-33 // stride))
    sum(out.sum() for out in outs).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if not model.attn_window:
        hidden = model(torch.zeros(0, 3, 32, 48), torch.zeros(0, 4, dtype=torch.long))
        assert [out.shape[:2] for out in hidden] == [(0, 4 * (8 >> i) ** 2) for i in model.out_indices]


@pytest.mark.filterwarnings('ignore')  # the tracer says that sizes are constants from now on
@pytest.mark.parametrize('options', ODD, ids=str)
def test_tracing_and_counting_by_the_toolboxes(options):
    """mmengine's analysis, which get_flops.py of the toolboxes calls, traces a model."""
    model = DyViT(**{**SMALL, 'arch': SHALLOW}, **options).eval()
    counts = get_model_complexity_info(model, (3, 50, 33), show_table=False, show_arch=False)
    assert counts['params'] == sum(parameter.numel() for parameter in model.parameters()) and counts['flops'] > 1e6
    traced, image = torch.jit.trace(model, torch.randn(1, 3, 50, 33)), torch.randn(2, 3, 50, 33)  # two of a size
    for mine, expected in zip(traced(image), model(image), strict=True):
        assert torch.equal(mine, expected)
