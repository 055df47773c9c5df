"""``coma-mm pretrain --init`` and ``--teacher``: weights of any origin go on or teach, and compute what they did."""

import json
import os
from functools import partial

import pytest
import skimage.data
import timm
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import VisionTransformer
from safetensors import safe_open
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional

import coma_mm.timm  # noqa: F401 - which has timm know DyViT
from coma_mm.checkpoints.settings import read_settings
from coma_mm.given_weights import add_teacher, start_from
from coma_mm.models import DyViT
from coma_mm.planning import plan_pretraining
from coma_mm.recipe import choose_encoder, make_config
from coma_mm.settings import PretrainSettings
from coma_mm.trial import Trial
from coma_mm.utils.paths import short_path

BGR = dict(mean='[1, 1, 1]', std='[1, 1, 1]', channel_order='"BGR"')
SMALL = dict(embed_dim=192, depth=2, num_heads=3)


def vit(**options):
    """Return timm's ViT of MAE's name with random weights, positions and biases too."""
    torch.manual_seed(0)
    model = timm.create_model('vit_base_patch16_224.mae', pretrained=False, num_classes=0, **(SMALL | options))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


class MAE(nn.Module):
    """The decoder of MAE's official code, for its names: ``decoder_*`` and ``mask_token``."""

    def __init__(self, width=192, dim=64, patch=16):
        super().__init__()
        self.decoder_embed = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, 1 + 14 * 14, dim), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(Block(dim, 2, 4, qkv_bias=True) for _ in range(2))
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-5)
        self.decoder_pred = nn.Linear(dim, 3 * patch**2)
        quarter = dim // 4
        angles = torch.arange(14)[:, None] / 10000 ** (torch.arange(quarter) / quarter)
        table = torch.cat([angles.sin(), angles.cos()], 1)  # of one axis; x comes first
        of_x, of_y = table[None].expand(14, -1, -1), table[:, None].expand(-1, 14, -1)
        self.decoder_pos_embed.data[:, 1:] = torch.cat([of_x, of_y], -1).flatten(0, 1)

    def forward(self, tokens, ids):
        tokens = self.decoder_embed(tokens)
        places = self.mask_token.repeat(len(tokens), 14 * 14, 1)
        places[torch.arange(len(tokens))[:, None], ids] = tokens[:, 1:]
        x = torch.cat([tokens[:, :1], places], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


def make(cfg):
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def build(path, **given):
    """Return the model that pre-training from a file builds, its settings and what is said."""
    settings, encoder = start_from(PretrainSettings(['images'], 'out', init=str(path), **given))
    cfg = make_config(settings, encoder)
    return make(cfg).eval(), settings, encoder


def encode(model, images, ids):
    """Return what timm's ViT makes of some patches alone, the class token first."""
    patches = model.patch_embed(images)
    if model.cls_token is None:
        tokens = patches + model.pos_embed
    else:
        tokens = torch.cat([model.cls_token.expand(len(images), -1, -1), patches], 1) + model.pos_embed
    extra = tokens.shape[1] - patches.shape[1]
    kept = tokens[:, extra:].gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
    tokens = torch.cat([tokens[:, :extra], kept], 1)
    return model.norm(model.blocks(model.norm_pre(tokens)))


@pytest.mark.parametrize(
    'options',
    [{}, dict(init_values=0.1), dict(class_token=False, global_pool=''), dict(pre_norm=True), dict(in_chans=1)],
    ids=str,
)
@torch.no_grad()
def test_timm_and_we_compute_the_same(tmp_path, options):
    theirs = vit(**options)
    torch.save(theirs.state_dict(), tmp_path / 'vit.pth')
    model, settings, encoder = build(tmp_path / 'vit.pth')
    assert settings.size == 224 and settings.channels == theirs.patch_embed.proj.in_channels
    images, ids = torch.randn(2, settings.channels, 224, 224), torch.randperm(196)[:50].expand(2, -1)
    expected = encode(theirs, images, ids)[:, -50:]
    torch.testing.assert_close(model.backbone(images, ids)[0], expected, rtol=1e-4, atol=1e-4)
    whole = theirs.forward_features(images)[:, -196:]
    torch.testing.assert_close(model.backbone(images)[0].flatten(2).transpose(1, 2), whole, rtol=1e-4, atol=1e-4)
    assert f'{len(theirs.state_dict())} tensors of the encoder, and a decoder of random weights' in encoder.origin
    assert model.keep_apart == 0.3


@torch.no_grad()
def test_the_decoder_of_mae_goes_on(tmp_path):
    theirs, decoder = vit(), MAE()
    weights = theirs.state_dict() | decoder.state_dict()
    torch.save(dict(model=weights), tmp_path / 'mae_visualize_vit_base.pth')
    model, _, encoder = build(tmp_path / 'mae_visualize_vit_base.pth')
    assert f'{len(weights) - len(decoder.state_dict())} tensors of the encoder, 31 of the decoder' in encoder.origin
    assert '1 (decoder_pos_embed)' in encoder.origin and model.backbone.extra_tokens == 1 and not model.keep_apart
    images, ids = torch.randn(2, 3, 224, 224), torch.randperm(196)[:50].expand(2, -1)
    expected = decoder(encode(theirs, images, ids), ids).unflatten(-1, (256, 3)).transpose(-1, -2).flatten(-2)
    filled = model.decoder.append_mask_tokens(model.backbone(images, ids), ids, 196)
    torch.testing.assert_close(model.decoder(filled, (14, 14)), expected, rtol=1e-3, atol=1e-3)


def test_mmpretrain_and_positions_of_another_size(tmp_path):
    theirs = VisionTransformer('deit-tiny', img_size=64, out_type='featmap')
    theirs.init_weights()
    weights = {f'backbone.{name}': value for name, value in theirs.state_dict().items()}
    torch.save(dict(state_dict=weights | {'head.fc.weight': torch.ones(2)}, meta={}), tmp_path / 'vit.pth')
    model, settings, encoder = build(tmp_path / 'vit.pth', size=96)
    assert encoder.name == 'ViT of 12 blocks, 192 wide' and model.decoder.dim == 256
    assert 'not taken: 1 (head.fc.weight). Positions of 64 px are interpolated to 96 px.' in encoder.origin
    assert model.backbone.pos_embed.shape[1] == 1 + 6 * 6


def save_run(folder):
    """Write a checkpoint as a run of pre-training has it, and return its model."""
    model = make(make_config(PretrainSettings(['images'], 'out', arch='pico', size=32)))
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT') | model.backbone.settings), epoch=0, iter=1)
    os.mkdir(folder)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), f'{folder}/iter_1.pth')
    return model


def test_a_run_goes_on_from_another_one(photos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    first = save_run('first')
    settings = PretrainSettings([str(photos)], 'out', init='first', steps=1, batch_size=4, workers=0)
    second = make(plan_pretraining(settings))
    out = ' '.join(capfd.readouterr().out.split())
    assert 'DyViT-pico and its decoder' in out and 'crops of 32 px in patches of 1 px' in out
    own = [sum(name.startswith(part) for name in first.state_dict()) for part in ('backbone.', 'decoder.')]
    assert f'starts from first/iter_1.pth: {own[0]} tensors of the encoder, {own[1]} of the decoder; not' in out
    assert '(alignment.projector.0.weight, ' in out
    weights = second.state_dict()
    for name, value in first.state_dict().items():
        assert name.startswith('alignment.') or torch.equal(weights[name], value), name


@pytest.fixture
def call(call):
    """Call ``coma-mm pretrain``; return what it printed."""
    return partial(call, 'pretrain')


def test_a_dyvit_goes_on_at_another_size(call, photos):
    save_run('first')
    options = '--size 64 --steps 2 --batch-size 4 --workers 0'.split()
    out = ' '.join(call(photos, '--out', 'out', '--init', 'first', *options).split())
    assert 'by masked autoencoding, on crops of 64 px in patches of 2 px' in out
    assert 'of the decoder; not taken' in out and 'Patches of 1 px are resized to 2 px.' in out
    assert 'interpolated' not in out
    backbone = coma_mm.load_backbone('out/backbone.safetensors')
    assert backbone.img_size == (64, 64) and backbone.patch_size == 2
    call('--out', 'out', '--resume')


@torch.no_grad()
def test_units_of_another_size_are_predicted_as_well():
    image = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None].float()
    places = torch.arange(4)
    mask, errors = ((places + places[:, None]) % 2 > 0)[None], {}  # a chequerboard
    for size in 32, 64, 128:
        model, _, encoder = build('coma_mm://dyvit-p_cifar10', size=size)
        assert '31 of the decoder' in encoder.origin and model.backbone.patch_size == size // 32
        small = functional.interpolate(image, (32, 32), mode='area')
        images = functional.interpolate(small, (size, size), mode='bilinear')
        mean, std = (torch.tensor(encoder.normalisation[name]).view(3, 1, 1) for name in ('mean', 'std'))
        errors[size] = model((images - mean) / std, dict(mask=mask), mode='loss')['mse_adaptive'].item()
    assert max(errors.values()) < 0.75  # a decoder of random weights: above 1


def test_a_run_teaches_another_one(call, photos):
    options = '--arch pico --size 32 --batch-size 4 --workers 0'.split()
    save_run('first')
    out = ' '.join(call(photos, '--out', 'second', '--steps', 1, '--teacher', 'first', *options).split())
    assert 'by masked autoencoding, on crops of 32 px' in out
    assert (
        'Its teacher is the DyViT-pico of first/iter_1.pth, frozen: it sees the whole images, and what it makes of'
        in out
    )
    state = torch.load('second/last.pth', weights_only=False)['state_dict']
    assert not any('teacher' in name for name in state) and state['distillation.checksum'] > 0
    with safe_open('second/backbone.safetensors', 'pt') as file:
        assert not any('distillation' in name for name in file.keys())


@pytest.mark.parametrize(
    'given, said',
    [
        (dict(arch='vit-tiny'), ''),
        (dict(arch='tiny'), ''),
        (dict(arch='tiny', size=64), ', scaled to 224 x 224 px'),
        (dict(arch='vit-tiny', size=64), ', scaled to 224 x 224 px'),
        (dict(arch='tiny', channels=1), ''),
    ],
    ids=str,
)
def test_a_vit_of_timm_teaches(tmp_path, given, said):
    torch.save(vit().state_dict(), tmp_path / 'vit.pth')
    settings = PretrainSettings(['images'], 'out', teacher=str(tmp_path / 'vit.pth'), **given)
    encoder = choose_encoder(settings)
    settings = add_teacher(settings, encoder)
    model = make(make_config(settings, encoder)).train()
    size, channels = given.get('size', 224), given.get('channels', 3)
    side = size // encoder.unit_size
    mask = torch.arange(side**2).view(1, side, side).expand(2, -1, -1) % 5 < 3
    losses = model(torch.randn(2, channels, size, size), dict(mask=mask), mode='loss')
    assert losses['loss_teacher'].isfinite() and 'loss_align' not in losses
    assert f'is the ViT of 2 blocks, 192 wide of {short_path(tmp_path / "vit.pth")}, frozen' in encoder.origin
    assert f': it sees the whole images{said}, and' in encoder.origin


@pytest.mark.parametrize(
    'given, mode, name',
    [
        ({}, 'frozen', 'DyViT-pico'),
        (dict(minutes=10), 'frozen', 'DyViT-pico'),
        (dict(epochs=2.0, batch_size=1), 'frozen', 'DyViT-pico'),
        (dict(size=224), 'frozen', 'DyViT-pico'),
        (dict(arch='pico'), 'frozen', 'DyViT-pico'),
        (dict(arch='tiny'), 'frozen', 'DyViT-tiny'),
        (dict(arch='vit-tiny', channels=1), 'frozen', 'ViT-tiny'),
        (dict(channels=1), 'frozen', 'DyViT-tiny'),
        (dict(minutes=150), 'frozen', 'DyViT-pico'),
        (dict(minutes=150, arch='tiny'), 'frozen', 'DyViT-tiny'),
        (dict(steps=6_000, size=32), 'frozen', 'DyViT-pico'),
        (dict(minutes=200), 'align', 'DyViT-tiny'),
        (dict(minutes=200, arch='pico'), 'align', 'DyViT-pico'),
        (dict(steps=20_000), 'align', 'DyViT-tiny'),
        (dict(channels=4), 'align', 'DyViT-tiny'),
        (dict(method='align'), 'align', 'DyViT-tiny'),
        (dict(method='mae'), 'off', 'DyViT-tiny'),
        (dict(method='coma'), 'copy', 'DyViT-tiny'),
        (dict(init='coma_mm://dyvit-p_cifar10'), 'off', 'DyViT-pico'),
        (dict(teacher='coma_mm://dyvit-p_cifar10'), 'frozen', 'DyViT-tiny'),
    ],
    ids=str,
)
def test_short_runs_start_from_the_weights_that_come_along_or_learn_from_them(
    photos, monkeypatch, capsys, given, mode, name
):
    monkeypatch.setattr('coma_mm.planning.try_out', lambda cfg: Trial(0.01, 64, 10**6))
    length = {} if {'minutes', 'epochs'} & set(given) else dict(steps=100)
    settings = PretrainSettings([str(photos)], 'out', **dict(batch_size=64) | length | given)
    model = plan_pretraining(settings).model
    said = ' '.join(capsys.readouterr().out.split())
    starts = name == 'DyViT-pico' and 'arch' not in given
    apart = 0 if starts and mode == 'off' else dict(frozen=3.0, align=1.0, off=0.3, copy=0.0)[mode]
    assert model.evaluation.mode == mode and model.get('keep_apart', 0) == apart
    assert f'. {name} and its decoder' in said and ('init_cfg' in model.backbone) == starts
    side = 32 if 'init' in given else given.get('size', 64)  # the photos have 70 px
    assert f'on crops of {side} px' in said
    is_default = not {'method', 'init', 'teacher'} & set(given)
    weights = 'coma_mm://dyvit-p_cifar10' + '_taught' * (starts and is_default)
    assert (f'It starts from {weights}: ' in said) == starts
    assert (f'Its teacher is the DyViT-pico of {weights}, frozen' in said) == (mode == 'frozen')
    assert ('To train without it: --method align.' in said) == (mode == 'frozen' and is_default and not starts)
    assert ('that gains more than a DyViT-tiny of random weights (--arch tiny)' in said) == (starts and is_default)


def test_a_vit_by_its_name():
    cfg = make_config(PretrainSettings(['images'], 'out', arch='vit-tiny', size=32))
    assert cfg.train_dataloader.dataset.pipeline[2].unit_size == 4
    model = make(cfg)
    mask = torch.arange(64).view(1, 8, 8).expand(2, -1, -1) % 5 < 3
    assert set(model.train()(torch.randn(2, 3, 32, 32), dict(mask=mask), mode='loss')) >= {'loss_align', 'loss_visible'}


@pytest.mark.parametrize('settings', [True, False])
def test_a_dyvit_says_its_shape_or_is_known_by_it(tmp_path, settings):
    source = DyViT('pico', img_size=64, patch_size=2)
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT') | source.settings)) if settings else {}
    torch.save(dict(state_dict=source.state_dict(), meta=meta), tmp_path / 'x.pth')
    model, found, encoder = build(tmp_path / 'x.pth')
    assert encoder.name == 'DyViT-pico' and found.size == 64 and model.backbone.unit_size == 16
    assert torch.equal(model.backbone.patch_embed.weight, source.patch_embed.weight)
    _, _, encoder = build(tmp_path / 'x.pth', size=96, arch='p')
    assert encoder.origin.endswith('px are interpolated to 96 px.')
    _, _, encoder = build(tmp_path / 'x.pth', size=224)
    assert encoder.origin.endswith('of 2 px are resized to 4 px. Positions of 128 px are interpolated to 224 px.')
    if settings:
        path = str(tmp_path / 'x.pth')
        shaped = DyViT(f'from:{path}', out_indices=(0, 1), pretrained=path)
        shaped.init_weights()
        for one in shaped, timm.create_model('dyvit_tiny', arch=f'from:{path}', checkpoint_path=path, num_classes=0):
            assert one.settings == source.settings and torch.equal(one.patch_embed.weight, source.patch_embed.weight)
        with pytest.raises(ValueError, match=r'img_size=64 model.backbone.patch_size=2, or model.backbone.arch=from:'):
            DyViT('pico', pretrained=path).init_weights()


def test_what_a_file_says_names_no_other_file():
    said = json.dumps(dict(type='coma_mm.DyViT', arch='from:other.pth'))
    assert read_settings(dict(meta=dict(backbone=said))) is None
    assert read_settings(dict(meta=dict(cfg="model = dict(backbone=dict(type='DyViT', arch='from:x'))"))) is None


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['nowhere.pth'], 'there is no file nowhere.pth'),
        (['text.pth'], 'is damaged or no checkpoint'),
        (['config.py'], 'is a config'),
        (['.'], 'has no whole checkpoint and no backbone.safetensors: name a file'),
        (['detector.pth'], 'coma-mm train CONFIG --cfg-options load_from=detector.pth'),
        (['empty.pth'], 'has neither a DyViT nor a plain ViT'),
        (['hiera.pth'], 'which --init takes: a Hiera of timm goes by a config'),
        (['wide.pth'], 'has a ViT of width 200, and does not say how many heads it has'),
        (['oblong.pth'], 'positions are no square'),
        (['grey.pth', '--channels', '3'], 'give --channels 1, in place of 3'),
        (['grey.pth', '--arch', 'tiny'], 'leave --arch tiny out'),
        (['grey.pth', '--size', '100'], 'give size 96 or 112'),
        (['half.pth'], 'missing in the checkpoint: layers.1.'),
        (['deep.pth'], 'missing in the checkpoint'),
        (['flat.pth'], 'positions have another number of dimensions'),
        (['huge.pth'], 'huge.pth says settings that DyViT does not take'),
        (['grey.pth', '--arch', 'vit-bas'], "did you mean 'vit-base'?"),
        (['--teacher', 'detector.pth'], 'which --teacher takes: name a run, an exported backbone, or weights of timm'),
        (['--teacher', 'wide.pth'], 'does not say how many heads it has, so --teacher does not take it'),
        (['--teacher', 'grey.pth'], 'grey.pth takes images of 1 channels, and those of the run have 3'),
        (['--teacher', 'half.pth', '--channels', '1'], 'missing in the checkpoint: layers.1.'),
        (['--teacher', 'huge.pth', '--method', 'align'], 'leave --method align out'),
        (['--teacher', 'coma_mm://nothing'], 'there are no weights coma_mm://nothing'),
        (['--teacher', 'bgr.pth'], 'takes images in the order BGR'),
        (['--teacher', 'mean.pth'], 'which cannot be'),
        (['--teacher', 'huge.pth', '--resume'], 'takes all settings from the run in --out'),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(photos, tmp_path, call, args, words):
    grey = vit(in_chans=1, img_size=32).state_dict()
    contents = {
        'detector': {'backbone.conv1.weight': torch.ones(2), 'roi_head.weight': torch.ones(2)},
        'hiera': {
            **{f'blocks.{i}.attn.qkv.weight': torch.ones(6, 2) for i in range(2)},
            **{f'blocks.{i}.norm1.weight': torch.ones(2 * (i + 1)) for i in range(2)},
            **dict.fromkeys(('patch_embed.proj.weight', 'pos_embed', 'blocks.1.proj.weight'), torch.ones(2)),
        },
        'empty': {},
        'wide': vit(embed_dim=200, num_heads=4, img_size=32).state_dict(),
        'oblong': vit(img_size=(32, 64)).state_dict(),
        'grey': grey,
        'deep': grey | {'blocks.999999999.norm1.weight': torch.ones(192)},
        'flat': grey | dict(pos_embed=torch.ones(2)),
        **dict.fromkeys(('huge', 'bgr', 'mean'), DyViT('pico').state_dict()),
        'half': {name: value for name, value in grey.items() if name != 'blocks.1.attn.qkv.weight'},
    }
    args = args if args[0] == '--teacher' else ['--init', *args]
    name = args[1].removesuffix('.pth')
    if name in contents:
        said = dict(type='DyViT', arch=dict(dims=[10**6] * 4, depths=[900] * 4, heads=[1] * 4))
        meta = dict(huge=dict(backbone=json.dumps(said)), bgr=BGR, mean=dict(mean='[1e999]', std='[1]')).get(name, {})
        torch.save(dict(state_dict=contents[name], meta=meta), args[1])
    (tmp_path / 'text.pth').write_text('weights')
    (tmp_path / 'config.py').write_text('a = 1')
    line = call(photos, '--out', 'run', *args, succeeds=False).strip().splitlines()[-1]
    assert 'error: ' in line and words in line
    assert not (tmp_path / 'run').exists()
