import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.registry import MODELS, DefaultScope

from coma_mm.models import attention as module
from coma_mm.visualization import compute_features, draw_features, draw_neighbours, principal_colours
from coma_mm.visualization.features import find_nearest
from coma_mm.visualization.figures import ImageGrid

DYVIT = dict(
    type='coma_mm.DyViT',
    arch=dict(dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), heads=(4, 4, 4, 4)),
    windows=([(4, 8)] * 2 + [2] * 2, [(2, 4)], None, None),
    img_size=(48, 32),
    patch_size=2,
)
VIT = dict(type='coma_mm.MaskedViT', arch='deit-tiny', img_size=(48, 32), patch_size=16)


def build(backbone):
    torch.manual_seed(0)
    preprocessor = dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
    decoder = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)
    parts = dict(backbone=backbone, decoder=decoder, data_preprocessor=preprocessor)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='coma_mm.CoMA', **parts))
        model.init_weights()
    return model


@pytest.fixture
def images():
    return torch.randint(256, (3, 3, 48, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_stages_of_dyvit(images):
    model = build(DYVIT).train()
    features = compute_features(model, images)
    assert [tuple(x.shape) for x in features.maps] == [(3, 16, 24, 16), (3, 32, 12, 8), (3, 48, 6, 4), (3, 64, 3, 2)]
    for attention, maps in zip(features.attention, features.maps, strict=True):
        assert attention.shape == (3, *maps.shape[2:]) and (attention >= 0).all()
        torch.testing.assert_close(attention.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(features.originals, images / 255)
    # The last map is that of the model, but for the learned scale and offset, which are 1 and 0 at the start.
    with torch.no_grad():
        inputs = model.data_preprocessor(dict(inputs=images, data_samples=None))['inputs']
        expected = model.eval().extract_feat(inputs)[-1]
    torch.testing.assert_close(features.maps[-1], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features.pooled, expected.mean((2, 3)))


@pytest.mark.parametrize('backbone', [DYVIT, VIT], ids=['DyViT', 'ViT'])
def test_looking_leaves_the_model_as_it_was(images, backbone):
    model = build(backbone).train()
    model.backbone.eval()
    before = [module.training for module in model.modules()]
    calls = [module._compiled_call_impl for module in model.modules()]
    features = compute_features(model, images)
    assert [module.training for module in model.modules()] == before
    assert [module._compiled_call_impl for module in model.modules()] == calls
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert len(features.maps) == (4 if backbone is DYVIT else 1)


@pytest.mark.parametrize('token', [0, 37])
def test_attention_is_that_of_the_forward_pass(token, monkeypatch):
    """Queries and keys that the model itself attends with, seen where it does, softmax written out."""
    torch.manual_seed(0)
    units, side, seen = 6, 4, []
    attn = module.DMMSA(32, [(1, 2, 4), (2, 4), (2, 4), 4], side)
    x = torch.randn(2, units * side**2, 32)
    attend = module.attend
    monkeypatch.setattr(module, 'attend', lambda q, k, *more: seen.append((q, k)) or attend(q, k, *more))
    attn(x)
    total = torch.zeros(2, units, side**2)
    for (windows, heads), (q, k) in zip(attn.groups, seen, strict=True):
        weights = torch.einsum('bhd,bmhd->bhm', q[:, token], k) / q.shape[-1] ** 0.5
        weights = weights.softmax(-1).unflatten(-1, (units, -1))  # keys of a unit: those of each window in turn
        start = 0
        for window in windows:
            for i in range(side**2 // window**2):
                run = slice(i * window**2, (i + 1) * window**2)
                total[:, :, run] += weights[:, :, :, start + i].sum(1)[..., None] / window**2
            start += side**2 // window**2
        assert heads == q.shape[2]
    torch.testing.assert_close(module.attention_of(attn, x, token), total.flatten(1) / attn.num_heads)


def test_attention_from_the_place_asked_for():
    """With queries and keys that say where a token is, each token looks at itself."""
    arch = dict(DYVIT['arch'], heads=(1, 1, 1, 1))  # part of a channel vector may be more like another's
    model = build(dict(DYVIT, arch=arch, attention=('msa',) * 4, windows=None))
    images = torch.zeros(1, 3, 48, 32, dtype=torch.uint8)
    for stage in model.backbone.stages:
        attn = stage.blocks[-1].attn
        C = attn.proj.in_features
        with torch.no_grad():
            attn.qkv.bias.zero_()
            attn.qkv.weight[:C] = torch.eye(C) * 30
            attn.qkv.weight[C : 2 * C] = torch.eye(C)
    for query, place in (((0.1, 0.9), (2, 14)), ((0.5, 0.5), (12, 8)), ((1, 1), (23, 15))):
        attention = compute_features(model, images, query).attention[0][0]
        assert divmod(attention.argmax().item(), 16) == place


def test_one_set_of_colours_for_all_images():
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(10, 3)).Q
    places = torch.rand(2, 3, 5, 7)
    maps = torch.einsum('bkhw,ck->bchw', places * torch.tensor([9.0, 3, 1]).view(1, 3, 1, 1), directions)
    colours = principal_colours(maps)
    assert colours.shape == (2, 3, 5, 7) and colours.min() == 0 and colours.max() == 1
    for k in range(3):  # each is one of the directions, up to its sign and what is clipped
        assert abs(np.corrcoef(colours[:, k].flatten(), places[:, k].flatten())[0, 1]) > 0.95
    assert torch.equal(colours, principal_colours(maps))
    assert torch.isfinite(principal_colours(torch.ones(1, 2, 3, 3))).all()  # nothing to tell apart


def test_nearest():
    torch.manual_seed(0)
    gallery = torch.randn(9, 16)
    likeness, nearest = find_nearest(gallery[[4, 7]] + 0.01, gallery, 3)
    assert nearest[:, 0].tolist() == [4, 7] and likeness.shape == (2, 3)
    assert (likeness[:, 0] > 0.99).all() and (likeness.diff(dim=1) <= 0).all()


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_pictures(images, tmp_path, channels):
    features = compute_features(build(DYVIT), images)
    features.originals = torch.rand(3, channels, 48, 32)
    picture = draw_features(features, tmp_path / 'features.png', ['a', 'b', 'c' * 99])
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[1] > 800
    assert (tmp_path / 'features.png').stat().st_size > 10_000
    few = draw_neighbours(features.originals, features.pooled, features.originals[:2], features.pooled[:2])
    assert few.shape[2] == 3  # fewer than asked for


def test_other_backbones_are_refused(images):
    model = build(DYVIT)
    model.backbone = torch.nn.Sequential()
    with pytest.raises(ValueError, match='of DyViT and MaskedViT, not of Sequential'):
        compute_features(model, images)


@pytest.mark.parametrize('columns', [1, 3, 9])
def test_captions_are_no_wider_than_their_picture(columns):
    grid = ImageGrid({str(i): torch.rand(2, 3, 8, 8) for i in range(columns)}, ['a', 'b'], 40 * 'word ', height=1.15)
    box, whole = grid.figure.texts[0].get_window_extent(FigureCanvasAgg(grid.figure).get_renderer()), grid.figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= grid.axes.bbox.y0
