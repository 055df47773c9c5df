"""A backbone takes all its weights from whatever holds them, or says what is wrong; no file runs code."""

import json

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from safetensors.torch import save_file
from torch import nn

from coma_mm.checkpoints.settings import read_config_text, read_settings
from coma_mm.models import CoMA, DyViT, load_backbone, read_checkpoint

DECODER = dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4)


def backbone(checkpoint=None, seed=1, **options):
    torch.manual_seed(seed)
    init_cfg = checkpoint and dict(type='coma_mm.Pretrained', checkpoint=str(checkpoint))
    model = DyViT('pico', init_cfg=init_cfg, **options)
    if checkpoint:
        model.init_weights()
    return model


def weights(evaluation=None):
    """Return the weights of pre-training and those of its backbone."""
    torch.manual_seed(0)
    model = CoMA(dict(type='coma_mm.DyViT', arch='pico'), DECODER, evaluation=evaluation)
    if evaluation:
        for parameter in model.evaluation.parameters():
            parameter.data.add_(1)
    return model.state_dict(), model.backbone.state_dict()


def runner_checkpoint(state):
    """Return what mmengine's runner saves: log histories of numpy arrays, optimiser state and all."""
    history = HistoryBuffer([0.5, np.float64(0.25)], [1, 1])
    hub = dict(log_scalars={'train/loss': history}, runtime_info=dict(iter=2, loss=np.float32(1)), resumed_keys={})
    meta = dict(epoch=2, cfg='model = dict()', dataset_meta=dict(palette=np.zeros((2, 3), np.uint8)))
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))]).state_dict()
    return dict(meta=meta, state_dict=state, message_hub=hub, optimizer=optimizer, param_schedulers=[dict(step=1)])


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


LAYOUTS = {
    'runner': lambda whole, bare: runner_checkpoint(whole),
    'data-parallel runner': lambda whole, bare: runner_checkpoint(prefixed(whole, 'module.')),
    'pre-training': lambda whole, bare: whole,
    'backbone': lambda whole, bare: prefixed(bare, 'backbone.'),
    'bare': lambda whole, bare: bare,
    'module': lambda whole, bare: prefixed(bare, 'module.'),
    'wrapped': lambda whole, bare: dict(model=bare, epoch=3),
    'wrapped twice': lambda whole, bare: dict(model=dict(state_dict=prefixed(bare, 'model.backbone.'))),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_layouts(layout, ending, tmp_path):
    whole, bare = weights(dict(mode='ema') if 'runner' in layout else None)
    stored, path = LAYOUTS[layout](whole, bare), tmp_path / f'weights{ending}'
    if ending == '.pth':
        torch.save(stored, path)
    else:  # which holds nothing but tensors
        while not all(isinstance(value, torch.Tensor) for value in stored.values()):
            stored = stored.get('state_dict', stored.get('model'))
        save_file({key: value.contiguous().clone() for key, value in stored.items()}, path)
    model = backbone(path)
    for name, value in bare.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_log_and_expected_differences(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handle', lambda record: lines.append(record.getMessage()))
    _, bare = weights()
    torch.save(bare, tmp_path / 'weights.pth')
    backbone(tmp_path / 'weights.pth', out_indices=(0, 1, 2, 3))
    (line,) = (line for line in lines if 'matched' in line)
    assert line.startswith(f'DyViT: matched {len(bare)} of {len(bare) + 6} tensors in {tmp_path / "weights.pth"}; ')
    assert 'missing, as expected: norm0.weight, norm0.bias, norm1.weight' in line
    assert line.endswith('unexpected, not needed: none; not of the backbone: 0')
    # Stages 3 and 4 are not built, their weights not needed.
    model = backbone(tmp_path / 'weights.pth', out_indices=(1,))
    assert torch.equal(model.stages[1].blocks[0].norm1.weight, bare['stages.1.blocks.0.norm1.weight'])


def test_evaluation_weights_are_taken_by_name_only():
    whole, bare = weights(dict(mode='ema'))
    model = backbone()
    load_backbone(model, whole, 'it', prefix='evaluation.module.')
    torch.testing.assert_close(model.patch_embed.bias, bare['patch_embed.bias'] + 1)
    with pytest.raises(ValueError, match="it has no weights that start with 'teacher.'; its first is"):
        load_backbone(model, whole, 'it', prefix='teacher.')


def test_init_weights_keeps_what_was_loaded(tmp_path):
    expected = weights()[1]
    torch.save(expected, tmp_path / 'weights.pth')
    by_hand = backbone()
    by_hand.load_state_dict(expected)
    for model in backbone(tmp_path / 'weights.pth'), by_hand:
        model.init_weights()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        (lambda state: DyViT('tiny').state_dict(), r'of other shapes: patch_embed.weight \(64, 48\)'),
        (
            lambda state: {key: value for key, value in state.items() if 'blocks.3' not in key},
            'missing .*: stages.2.blocks.3',
        ),
        (lambda state: state | {'stages.0.blocks.9.bias': torch.zeros(1)}, 'unknown to the model: stages.0'),
        (lambda state: state | {'stages.norm.bias': torch.zeros(1)}, 'unknown to the model: stages.norm.bias'),
        (lambda state: nn.Linear(2, 2).state_dict(), 'missing in the checkpoint: patch_embed.weight'),
        (lambda state: dict(epoch=3), 'it holds no weights; its keys are epoch'),
        (
            lambda state: state | {'patch_embed.weight': state['patch_embed.weight'] * float('nan')},
            'it has NaN or infinite weights, .*: patch_embed.weight; take an earlier checkpoint',
        ),
    ],
)
def test_what_does_not_fit(change, error):
    with pytest.raises(ValueError, match=error):
        load_backbone(backbone(), change(weights()[1]), 'it')


class Windowed(nn.Linear):
    """A backbone whose settings leave no trace in its weights."""

    def __init__(self, arch='tiny', windows=None, img_size=32, init_cfg=None):
        super().__init__(2, 2)
        heads = dict(tiny=2, small=4)[arch] if isinstance(arch, str) else arch['heads']
        self.settings = dict(arch=dict(heads=heads), windows=tuple(windows or (4, 8)), img_size=img_size)


def with_settings(text=False, **arguments):
    """Return a checkpoint of a Windowed, as today's runs and exports write it, or as others do."""
    backbone = dict(type='anything.Windowed', **arguments)
    meta = dict(cfg=f'model = dict(backbone={backbone})') if text else dict(backbone=json.dumps(backbone))
    return dict(state_dict=Windowed().state_dict(), meta=meta)


@pytest.mark.parametrize('text', [False, True])
@pytest.mark.parametrize(
    ('there', 'here', 'error'),
    [
        (dict(arch='small'), {}, r'arch.heads is 4 in the checkpoint and 2 here\. Set model.backbone.arch.heads=4'),
        (dict(), dict(windows=(2, 4)), r'it was trained .* Windowed, .*: windows is \[4, 8\] .* and \[2, 4\] here'),
        (dict(arch='small', windows=[1]), {}, r'arch.heads is 4 .*; windows is \[1\] .* and \[4, 8\] here'),
        (dict(patch=3), {}, r'settings that Windowed does not take \(.*patch.*another version'),
    ],
)
def test_settings_that_change_the_function_must_agree(there, here, error, text):
    with pytest.raises(ValueError, match=error):
        load_backbone(Windowed(**here), with_settings(text, **there), 'it')


def test_settings_that_agree_or_are_meant_to_differ(monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handle', lambda record: lines.append(record.getMessage()))
    other_words = dict(arch=dict(heads=2), windows=[4, 8], init_cfg=dict(type='x'))
    for checkpoint in (
        with_settings(),
        with_settings(**other_words),
        dict(with_settings(), meta={}),
        dict(with_settings(), meta=dict(cfg='import os\nmodel = make()')),
        dict(with_settings(), meta=dict(backbone='{"type": "os.system", "command": "mkdir ran"}')),
    ):
        load_backbone(Windowed(), checkpoint, 'it')
    assert not [line for line in lines if 'other settings' in line]
    load_backbone(Windowed(), with_settings(img_size=64), 'it')
    assert 'Windowed: other settings than in it: img_size 64 there, 32 here' in lines
    # What is built to compare with draws nothing.
    model, checkpoint, before = Windowed(), with_settings(), torch.get_rng_state()
    load_backbone(model, checkpoint, 'it')
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('there, here', [(1, 2), (1, 4), (4, 2), (4, 1)])
@torch.no_grad()
def test_patches_of_another_size(there, here, tmp_path):
    theirs = backbone(seed=0, patch_size=there, img_size=32 * there, in_channels=2).eval()
    meta = dict(backbone=json.dumps(dict(type='coma_mm.DyViT') | theirs.settings))
    torch.save(dict(state_dict=theirs.half().state_dict(), meta=meta), tmp_path / 'x.pth')
    shape = dict(patch_size=here, img_size=32 * here, in_channels=2)
    with pytest.raises(ValueError, match=rf', or .*init_cfg.from_patch_size={there} .*img_size={32 * here}$'):
        backbone(tmp_path / 'x.pth', **shape)
    init_cfg = dict(type='coma_mm.Pretrained', checkpoint=str(tmp_path / 'x.pth'), from_patch_size=there)
    ours = DyViT('pico', init_cfg=init_cfg, **shape).eval()
    ours.init_weights()
    images = torch.randn(1, 2, 32, 32)  # a pixel for each token: what patches average, or what is enlarged to them
    maps = [one(nn.functional.interpolate(images, scale_factor=one.patch_size))[0] for one in (ours, theirs.float())]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match='Windowed cannot resize its patches: leave from_patch_size out'):
        load_backbone(Windowed(), with_settings(), 'it', from_patch_size=there)


def test_settings_are_read_not_run(tmp_path):
    cfg = f'model = dict(backbone=__import__("os").mkdir("{tmp_path}/ran"))'
    assert read_settings(dict(meta=dict(cfg=cfg))) is None and not list(tmp_path.iterdir())
    cfg = 'model = dict(dict(backbone=dict(type="A", b=[1, (2,)])), c=3)'
    assert read_settings(dict(meta=dict(cfg=cfg))) == dict(type='A', b=[1, [2]])
    for text in ('model = dict(5)', 'model = {[]: 1}', 'model = {**dict(a=1)}', 'model = dict([1])', 'model = f(1)'):
        with pytest.raises(ValueError):
            read_config_text(text)


def test_broken_files(tmp_path):
    torch.save(runner_checkpoint(weights()[0]), tmp_path / 'good.pth')
    torch.save([1], tmp_path / 'list.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'good.pth').read_bytes()[:9999])
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'text.safetensors').write_text('no weights at all')
    damaged = 'is damaged or no checkpoint'
    for name, words in {
        'cut.pth': damaged,
        'empty.pth': damaged,
        'text.safetensors': damaged,
        'list.pth': 'a list',
    }.items():
        with pytest.raises(ValueError, match=f'{name} .*{words}'):
            read_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='no checkpoint none.pth: name another with --cfg-options model'):
        backbone('none.pth')
