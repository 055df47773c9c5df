"""A frozen teacher: what it sees, what is learnt from it, what is kept of it, what is refused."""

from copy import deepcopy

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from test_coma import BACKBONE, build, gradients, sample

from coma_mm.models import DyViT
from coma_mm.models.distillation import checksum

SOURCE = 'coma_mm://dyvit-p_cifar10'
TEACHER = dict(
    type='coma_mm.DyViT',
    arch='pico',
    img_size=32,
    patch_size=1,
    init_cfg=dict(type='coma_mm.Pretrained', checkpoint=SOURCE, prefix='backbone.'),
)
LOADED = dict(type='Pretrained', checkpoint='x.pth')
ViT = dict(type='coma_mm.MaskedViT', arch='deit-tiny', patch_size=16, init_cfg=LOADED)


def frozen(teacher=TEACHER, **options):
    return dict(mode='frozen', encoder=teacher, **options)


class Colours(torch.nn.Module):
    """A teacher whose map has the mean colour of each square of 4 x 4 pixels; it notes the images that it is shown."""

    def __init__(self, channels=3, img_size=None):
        super().__init__()
        self.in_channels, self.seen = channels, []
        self.scale = torch.nn.Parameter(torch.ones(1))
        if img_size:
            self.img_size = img_size

    def forward(self, images):
        self.seen.append((images, torch.is_grad_enabled(), self.training))
        return images, torch.nn.functional.avg_pool2d(images, 4) * self.scale


@pytest.mark.parametrize('options', [{}, dict(predict_visible=0.5)], ids=['hidden', 'visible'])
def test_the_teacher_sees_the_whole_image_and_each_unit_of_its_map_is_predicted(options):
    teacher = Colours()
    model, (images, mask) = build(evaluation=frozen(teacher, weight=2.0), **options), sample(grid=(3, 5))
    torch.nn.init.xavier_uniform_(model.distillation.head.weight)
    teacher.seen.clear()
    losses, grads = gradients(model, images, mask)
    ((seen, with_gradient, training),) = teacher.seen
    assert torch.equal(seen, images) and not with_gradient and not training
    target = model.distillation.encode(images, (3, 5))
    colours = images.unflatten(3, (5, 16)).unflatten(2, (3, 16)).mean((3, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target, colours, msg='the means over units')
    features = []
    hook = model.distillation.head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    assert losses['loss_teacher'] == model(images, dict(mask=mask), mode='loss')['loss_teacher']
    hook.remove()
    assert features[0].shape == (2, 15, 32), 'hidden and visible units'
    target = torch.nn.functional.layer_norm(target, (3,))
    expected = 2 * (model.distillation.head(features[0]) - target).square().mean()
    torch.testing.assert_close(losses['loss_teacher'], expected)
    assert grads.keys() == {name for name, _ in model.named_parameters()}
    assert teacher.scale.grad is None
    plain = build(evaluation=dict(mode='off'), **options)
    for name, value in plain(images, dict(mask=mask), mode='loss').items():
        torch.testing.assert_close(losses[name], value, msg='pixels are predicted as without a teacher')


def test_a_new_teacher_changes_nothing_of_the_encoder_at_first():
    model, (images, mask) = build(evaluation=frozen(Colours())), sample()
    model(images, dict(mask=mask), mode='loss')['loss_teacher'].backward()
    moved = [name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()]
    assert moved == ['distillation.head.weight', 'distillation.head.bias']


@pytest.mark.parametrize(
    'teacher, size',
    [
        (Colours(), (48, 80)),  # as they are
        (Colours(img_size=24), (24, 24)),
        (Colours(img_size=(96, 160)), (96, 160)),
        (DyViT('pico', img_size=32, patch_size=1), (32, 40)),  # a unit of 8 px for each of 3 x 5
        (DyViT('pico', img_size=64, patch_size=2), (64, 80)),
    ],
    ids=['any', 'smaller', 'larger', 'small DyViT', 'DyViT'],
)
def test_images_have_the_size_that_the_teacher_was_trained_with(teacher, size):
    images, mask = sample(grid=(3, 5))
    model = build(evaluation=frozen(teacher))
    shown = []
    teacher.register_forward_pre_hook(lambda _, args: shown.append(tuple(args[0].shape[-2:])))
    found = model.distillation.encode(images, (3, 5))
    assert shown == [size] and found.shape[:2] == (2, 15)
    assert found.shape[2] == model.distillation.head.out_features


def test_values_of_pixels_are_those_that_the_teacher_takes():
    preprocessor = BaseDataPreprocessor()
    preprocessor.mean, preprocessor.std = torch.full((3, 1, 1), 100.0), torch.full((3, 1, 1), 50.0)
    images, _ = sample()
    options = dict(mean=[120.0, 100.0, 90.0], std=[60.0])
    models = [build(evaluation=frozen(Colours(), **more), data_preprocessor=preprocessor) for more in ({}, options)]
    plain, other = (model.distillation.encode(images, (4, 4)) for model in models)
    shift = torch.tensor([20.0, 0.0, -10.0])
    torch.testing.assert_close(other, (plain * 50 - shift) / 60)
    same = build(evaluation=frozen(Colours(), mean=[100.0], std=[50.0]), data_preprocessor=preprocessor)
    assert same.distillation.rescaling is None
    grey = build(backbone={**BACKBONE, 'in_channels': 1}, evaluation=frozen(Colours()))
    assert torch.equal(grey.distillation.encode(images[:, :1], (4, 4)), plain[..., :1].expand(-1, -1, 3))


def test_weights_of_the_teacher_are_loaded_once_kept_apart_and_compared(tmp_path):
    source = DyViT('pico', img_size=32, patch_size=1)
    torch.save(source.state_dict(), tmp_path / 'x.pth')
    teacher = TEACHER | dict(init_cfg=dict(type='coma_mm.Pretrained', checkpoint=str(tmp_path / 'x.pth')))
    images, mask = sample(unit_size=8)
    batch = images, dict(mask=mask)
    student = dict(backbone={**BACKBONE, 'img_size': 32, 'patch_size': 1})
    model = build(evaluation=frozen(teacher), **student)
    torch.nn.init.xavier_uniform_(model.distillation.head.weight)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = model(*batch, mode='loss')
    assert torch.equal(state, torch.get_rng_state()), 'loading draws nothing'
    plain = build(evaluation=dict(mode='off'), **student)
    own = {'distillation.checksum', 'distillation.head.weight', 'distillation.head.bias'}
    assert model.state_dict().keys() == plain.state_dict().keys() | own
    assert model.state_dict()['distillation.checksum'] == checksum(source)
    kept = deepcopy(model)
    with torch.autocast('cpu', torch.bfloat16):
        half = kept(*batch, mode='loss')
    assert half['loss_teacher'].dtype == torch.float32
    torch.testing.assert_close(half['loss_teacher'], first['loss_teacher'], rtol=0.05, atol=0)

    again = build(evaluation=frozen(teacher), seed=1, **student)
    again.load_state_dict(model.state_dict())
    assert again(*batch, mode='loss')['loss_teacher'] == first['loss_teacher']
    with torch.no_grad():
        source.patch_embed.bias += 1
    torch.save(source.state_dict(), tmp_path / 'x.pth')
    again = build(evaluation=frozen(teacher), **student)
    again.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match='x.pth have changed since the run began'):
        again(*batch, mode='loss')
    (tmp_path / 'x.pth').unlink()
    for init_cfg in (teacher['init_cfg'], [teacher['init_cfg']]):
        again = build(evaluation=frozen(teacher | dict(init_cfg=init_cfg)), **student)
        with pytest.raises(FileNotFoundError, match="the teacher's weights .*x.pth are not there"):
            again(*batch, mode='loss')
    again.eval()  # nothing is learnt, so no teacher is looked for
    plain.eval()
    again.load_state_dict(plain.state_dict(), strict=False)
    losses = again(*batch, mode='loss')
    assert losses == plain(*batch, mode='loss') and again.reconstruct(*batch[:1], mask).shape == images.shape


class Other(torch.nn.Module):
    """A decoder of one's own, as far as :class:`CoMA` builds it."""

    in_channels, out_channels, extra_tokens = (256,), 768, 0


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mode='frozen'), r'takes encoder=\.\.\., the teacher'),
        (frozen('x.pth'), r'takes encoder=\.\.\., the teacher'),
        (frozen(BACKBONE), 'a teacher of random weights has nothing to teach'),
        (frozen(TEACHER | dict(init_cfg=[dict(type='Constant', val=0)])), 'a teacher of random weights'),
        (frozen(weight=0), 'evaluation weight must be a number > 0'),
        (frozen(weight='1'), 'evaluation weight must be a number > 0'),
        (frozen(jitter=0.4), "evaluation jitter goes with mode='align' only, not with 'frozen'"),
        (dict(mode='align', encoder=TEACHER), "evaluation encoder goes with mode='frozen' only, not with 'align'"),
        (dict(mode='off', weight=1.0), "evaluation weight goes with mode='align' or 'frozen' only, not with 'off'"),
        (frozen(interval=2), 'interval 2 goes with copy, ema and align only'),
        (frozen(momentum=0.1), "momentum goes with mode='ema' or 'align' only"),
        (frozen(torch.nn.Flatten()), r'the teacher Flatten returns \(1, 150528\) of an image, and no map'),
        (frozen(ViT | dict(out_type='cls_token')), "and no map .* a ViT does with out_type='featmap'"),
        (frozen(TEACHER | dict(in_channels=4)), 'the teacher takes images of 4 channels, and those of the run have 3'),
        (frozen(mean=[1.0, 2.0], std=[1.0, 1.0]), 'evaluation mean takes 3 numbers'),
        (frozen(mean=[1.0]), 'evaluation std takes 3 numbers'),
        (frozen(mean=[1.0], std=[0.0]), 'evaluation std must be a number > 0'),
        (frozen(mean=[1.0, float('nan'), 1.0], std=[1.0]), 'evaluation mean must be a number, got nan'),
        (frozen(mean=[1.0], std=[2.0]), 'need a data_preprocessor that says'),
    ],
    ids=str,
)
def test_wrong_teachers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(evaluation=options)


def test_a_decoder_without_features_is_named():
    with pytest.raises(ValueError, match="mode='frozen' goes with our decoders, not with a Other"):
        build(decoder=Other(), evaluation=frozen())


@pytest.mark.parametrize(
    'teacher',
    [
        ViT | dict(img_size=64),
        dict(type='mmpretrain.ResNet', depth=18, init_cfg=LOADED),
        dict(type='mmpretrain.ConvNeXt', arch='atto', gap_before_final_norm=False, init_cfg=LOADED),
    ],
    ids=lambda teacher: teacher['type'],
)
def test_any_backbone_that_returns_maps_can_teach(tmp_path, monkeypatch, teacher):
    monkeypatch.chdir(tmp_path)
    torch.save(MODELS.build(teacher).state_dict(), 'x.pth')
    images, mask = sample()
    losses = build(evaluation=frozen(teacher))(images, dict(mask=mask), mode='loss')
    assert losses['loss_teacher'].isfinite()
