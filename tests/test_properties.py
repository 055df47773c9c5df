"""Whatever is asked for is either built, and then runs, or refused with an error of ours that says why."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import coma_mm
from coma_mm.masking import num_hidden, unit_grid
from coma_mm.models import CoMA, DyViT

PACKAGE = Path(coma_mm.__file__).parent
# The same examples in every run: what they are depends on this file alone.
properties = settings(
    derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=list(HealthCheck)
)

HEADS = st.sampled_from([1, 2, 4])
WINDOW = st.sampled_from([1, 2])
# What may be built, if its parts go together, and what may not in any case.
GOOD = dict(
    arch=st.fixed_dictionaries(
        dict(
            dims=st.lists(st.sampled_from([8, 16, 24]), min_size=4, max_size=4),
            depths=st.lists(st.sampled_from([1, 1, 2]), min_size=4, max_size=4),
            heads=st.lists(HEADS, min_size=4, max_size=4),
        )
    ),
    patch_size=st.sampled_from([1, 2, 3, 4]),
    img_size=st.one_of(st.sampled_from([8, 16, 32, 33]), st.tuples(st.integers(1, 40), st.integers(1, 40))),
    in_channels=st.sampled_from([1, 3, 4]),
    out_indices=st.lists(st.integers(-4, 3), min_size=1, max_size=4),
    attention=st.lists(st.sampled_from(['msa', 'dm_msa']), min_size=2, max_size=2).map(
        lambda two: [*two, 'msa', 'msa']
    ),
    windows=st.one_of(
        st.none(),
        st.lists(
            st.one_of(
                WINDOW,
                st.lists(st.one_of(WINDOW, st.just([1, 4]), st.just((2, 1))), min_size=1, max_size=1),
                st.lists(st.one_of(WINDOW, st.just((4, 2))), min_size=2, max_size=4),
            ),
            min_size=4,
            max_size=4,
        ),
    ),
    kv_conv=st.sampled_from(['depthwise', 'averaged', 'dense']),
    mlp_ratio=st.sampled_from([4.0, 1, 0.5]),
    qkv_bias=st.booleans(),
    layer_scale=st.sampled_from([None, 1e-5, 1, -0.5]),
    attn_window=st.sampled_from([None, 1, 2, 7]),
    global_blocks=st.lists(st.integers(-4, 3), max_size=3),
    frozen_stages=st.integers(-1, 4),
    drop_path_rate=st.sampled_from([0.0, 0.2, 0]),
    with_cp=st.booleans(),
    norm_eval=st.booleans(),
)
REQUIRED = {key: GOOD[key] for key in ('arch', 'patch_size')}


@st.composite
def arguments(draw):
    optional = {name: GOOD[name] for name in sorted(GOOD.keys() - REQUIRED.keys())}
    return draw(st.fixed_dictionaries(REQUIRED, optional=optional))


DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


def build(make):
    """Return what can be built, or ``None`` for what is refused: by a ValueError that this package raised."""
    try:
        return make()
    except ValueError as error:
        refused(error)
        event('refused')


def refused(error):
    """Check that an error is one of ours, and a sentence."""
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    assert Path(frame.tb_frame.f_code.co_filename).is_relative_to(PACKAGE), repr(error)
    assert len(str(error)) > 20 and '\n' not in str(error)


@properties
@given(arguments(), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 2), DTYPES)
@example(dict(arch='pico', patch_size=1, layer_scale=1), (9, 9), 1, torch.float32)  # was an inner error
def test_maps_of_any_backbone(options, size, batch, dtype):
    backbone = build(lambda: DyViT(**options))
    if backbone is None:
        return
    event('built')
    backbone = backbone.to(dtype)
    images = torch.randn(batch, backbone.in_channels, *size, dtype=dtype, requires_grad=True)
    maps = backbone(images)
    assert len(maps) == len(backbone.out_indices) == len(backbone.out_channels)
    for out, channels, stride in zip(maps, backbone.out_channels, backbone.strides):
        assert out.shape == (batch, channels, *(math.ceil(side / stride) for side in size))
        assert out.dtype == dtype and out.isfinite().all()
        assert out.is_contiguous()  # mmcv's deformable convolutions and others read it as it lies in memory
    sum(out.double().sum() for out in maps).backward()
    assert images.grad.isfinite().all()


EVALUATIONS = st.one_of(
    st.none(),
    st.just(dict(mode='off')),
    *(
        st.fixed_dictionaries(dict(mode=st.just(mode)), optional=dict(interval=st.sampled_from([1, 2]), **options))
        for mode, options in dict(
            copy={}, ema=dict(momentum=st.sampled_from([0.1, 0.004])), align=dict(weight=st.sampled_from([0.25, 1]))
        ).items()
    ),
)
DIM = st.sampled_from([8, 16])
DECODERS = st.one_of(
    st.builds(dict, type=st.just('coma_mm.ViTDecoder'), dim=DIM, depth=st.sampled_from([1, 2]), num_heads=HEADS),
    st.builds(
        dict, type=st.just('coma_mm.ConvNeXtDecoder'), dim=DIM, depth=st.just(1), kernel_size=st.sampled_from([3, 7])
    ),
)


@st.composite
def pre_trainings(draw):
    names = 'in_channels', 'attention', 'kv_conv', 'frozen_stages', 'layer_scale', 'drop_path_rate', 'with_cp'
    backbone = draw(st.fixed_dictionaries(REQUIRED, optional={name: GOOD[name] for name in names}))
    return dict(
        backbone=dict(type='coma_mm.DyViT', img_size=32, **backbone),
        decoder=draw(DECODERS),
        evaluation=draw(EVALUATIONS),
        norm_pix=draw(st.booleans()),
        fuse_stages=draw(st.booleans()),
    )


@properties
@given(
    pre_trainings(),
    st.sampled_from([0.6, 0.5, 0.25, 0.75]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([0, 0, 0, 1, -1]),
    DTYPES,
)
def test_losses_of_any_pre_training(options, ratio, grid, beyond, dtype):
    model = build(lambda: CoMA(**options))
    if model is None:
        return
    model = model.to(dtype)
    size = tuple(side * model.unit_size + beyond for side in grid)  # of no whole number of units, sometimes
    images = torch.randn(2, model.backbone.in_channels, *size, dtype=dtype)
    hidden = build(lambda: num_hidden(math.prod(unit_grid(size, model.unit_size)), ratio))
    mask = torch.rand(2, math.prod(grid)).argsort(1).view(2, *grid) < (hidden or 0)
    if hidden is None:
        with pytest.raises(ValueError) as error:
            model.loss(images, dict(mask=mask))
        refused(error.value)
        return
    event('trained')
    losses = model.loss(images, dict(mask=mask))
    assert all(value.isfinite() and value.ndim == 0 for value in losses.values())
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or (parameter.grad is not None and parameter.grad.isfinite().all()), name
    pictures = model.reconstruct(images, mask)
    assert pictures.shape == images.shape and pictures.isfinite().all()
