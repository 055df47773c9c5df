"""A checkpoint's words on itself build a backbone for its weights, or are refused by name; nothing runs."""

import cProfile
import json
import resource

import pytest
import torch
from mmengine.registry import MODELS
from processes import refuse, run
from safetensors.torch import save_file

import coma_mm
from coma_mm.checkpoints.pretrained import check_settings
from coma_mm.checkpoints.settings import read_settings
from coma_mm.models import DyViT, load_backbone, read_checkpoint

RUN = dict(command='mkdir ran')
HUGE = dict(depths=[1] * 4, heads=[4] * 4)


def backbone(**settings):
    return dict(backbone=json.dumps(settings), scope='mmpretrain', config_sha256='0')


def config(backbone):
    return dict(cfg=f'default_scope = "mmpretrain"\nmodel = dict(backbone={backbone})\n')


NO_BACKBONE = 'which is no registered backbone of coma_mm, mmpretrain'
NO_LAYER = 'which is no registered backbone or layer of coma_mm, mmpretrain'
UNREAD = 'no backbone can be read from the model of its config'
SILENT = 'does not say which backbone it has: coma-mm export FILE backbone.safetensors --config'
LARGE = 'describe far more weights than the file has'

# What the file says, and what is answered.
ATTACKS = {
    'function': (backbone(type='os.system', **RUN), f"'os.system', {NO_BACKBONE}"),
    'function in a config': (config("dict(type='os.system', command='mkdir ran')"), f"'os.system', {NO_BACKBONE}"),
    'process': (backbone(type='subprocess.Popen', args='mkdir ran', shell=True), f"'subprocess.Popen', {NO_BACKBONE}"),
    'scope of a type': (backbone(type='Popen', _scope_='subprocess', args='mkdir ran'), f"'Popen', {NO_BACKBONE}"),
    'scope of the file': (dict(backbone(type='system', **RUN), scope='os'), "is meant in the scope 'os'"),
    'scope of a list': (dict(backbone(type='ResNet', depth=18), scope=['os']), "is meant in the scope ['os']"),
    'layer': (backbone(type='VisionTransformer', norm_cfg=dict(type='os.system')), f"'os.system', {NO_LAYER}"),
    'in lists': (backbone(type='ResNet', depth=18, plugins=[[dict(cfg=dict(type='os.system'))]]), NO_LAYER),
    'dict for a name': (backbone(type=dict(type='os.system')), f"{{'type': 'os.system'}}, {NO_BACKBONE}"),
    'list for a name': (backbone(type=['os.system']), f"['os.system'], {NO_BACKBONE}"),
    'number for a name': (backbone(type=5), f'of 5, {NO_BACKBONE}'),
    'no name': (backbone(depth=18), f'of None, {NO_BACKBONE}'),
    'timm': (backbone(type='TIMMBackbone', model_name='resnet18', pretrained=True), f"'TIMMBackbone', {NO_BACKBONE}"),
    'timm in mmseg': (backbone(type='mmseg.TIMMBackbone', model_name='x'), f"'mmseg.TIMMBackbone', {NO_BACKBONE}"),
    'model': (backbone(type='ImageClassifier', backbone=dict(type='os.system')), f"'ImageClassifier', {NO_BACKBONE}"),
    'ours that builds others': (
        backbone(type='coma_mm.FeatureExtractor', backbone=dict(type='coma_mm.DyViT')),
        NO_BACKBONE,
    ),
    'language model': (backbone(type='mmdet.BertModel', name='bert'), f"'mmdet.BertModel', {NO_BACKBONE}"),
    'data parallel': (backbone(type='mmengine.MMDistributedDataParallel'), NO_BACKBONE),
    'wide': (backbone(type='coma_mm.DyViT', arch=dict(HUGE, dims=[4096, 8192, 16384, 32768])), LARGE),
    'wider than memory': (backbone(type='coma_mm.DyViT', arch=dict(HUGE, dims=[10**9] * 4)), LARGE),
    'deep': (backbone(type='coma_mm.DyViT', arch=dict(HUGE, dims=[32] * 4, depths=[1000] * 4)), 'file has'),
    'deeper': (backbone(type='coma_mm.DyViT', arch=dict(HUGE, dims=[32] * 4, depths=[30000] * 4)), 'from 1 to 1000'),
    'many positions': (backbone(type='VisionTransformer', img_size=30000, patch_size=1), LARGE),
    'all positions in a list': (backbone(type='LeViT', arch='128s', img_size=20000, patch_size=1), LARGE),
    'not finite': (backbone(type='ResNet', depth=18, base_channels=float('inf')), LARGE),
    'unknown argument': (backbone(type='coma_mm.DyViT', run='mkdir ran'), "unexpected keyword argument 'run'"),
    'compiler': (backbone(type='coma_mm.DyViT', arch='pico', compile=dict(backend='os.system')), 'does not fit'),
    'initialiser': (backbone(type='ResNet', depth=18, init_cfg=dict(type='os.system', **RUN)), 'does not fit'),
    'address of weights': (backbone(type='ResNet', depth=18, pretrained='http://127.0.0.1:9/x'), 'does not fit'),
    'call in a config': (config('__import__("os").mkdir("ran")'), UNREAD),
    'comprehension in a config': (config('[__import__("os").mkdir("ran") for _ in (1,)]'), UNREAD),
    'nested JSON': (dict(backbone='[' * 100_000 + ']' * 100_000, scope='mmpretrain'), SILENT),
    'nested config': (config('[' * 100_000 + ']' * 100_000), UNREAD),
    'nested signs': (config('-' * 100_000 + '1'), UNREAD),
    'long JSON': (dict(backbone='[' + '[],' * 5_000_000 + '[]]', scope='mmpretrain'), SILENT),
    'long config': (config('[' + '[],' * 1_000_000 + ']'), UNREAD),
    'zero byte': (dict(cfg='\0'), UNREAD),
    'no backbone': (dict(cfg='model = dict(head=3)'), UNREAD),
    'no text': (dict(cfg=5), SILENT),
    'no dict': (['x'], SILENT),
}


@pytest.mark.parametrize('meta, answer', ATTACKS.values(), ids=ATTACKS)
def test_export(meta, answer, tmp_path, monkeypatch, capfd):
    torch.save(dict(state_dict={'backbone.a': torch.ones(1)}, meta=meta), tmp_path / 'x.pth')
    before, limits = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrlimit(resource.RLIMIT_AS)
    assert answer in refuse(monkeypatch, capfd, tmp_path, 'export.py', 'x.pth', 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # 1 GiB, mostly of toolboxes
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


@pytest.mark.parametrize('name', ['function', 'process', 'layer', 'wide'])
def test_export_of_safetensors(name, tmp_path, monkeypatch, capfd):
    meta, answer = ATTACKS[name]
    save_file({'backbone.a': torch.ones(1)}, tmp_path / 'x.safetensors', metadata=meta)
    assert answer in refuse(monkeypatch, capfd, tmp_path, 'export.py', 'x.safetensors', 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['x.safetensors']


@pytest.mark.parametrize(
    'settings',
    [
        dict(type='coma_mm.DyViT', arch=dict(HUGE, dims=[32] * 4, depths=[10**9] * 4)),
        dict(type='coma_mm.DyViT', arch=dict(HUGE, dims=[32] * 4, heads=[10**10] * 4)),
        dict(type='coma_mm.DyViT', arch=[]),
        dict(type='coma_mm.DyViT', windows='os.system'),
        dict(type='coma_mm.DyViT', init_cfg=dict(type='os.system', **RUN), unknown=1),
    ],
)
def test_settings_that_are_compared(settings, tmp_path, monkeypatch):
    """With Pretrained, test.py, visualize.py, extract_features.py and --resume."""
    monkeypatch.chdir(tmp_path)
    model = DyViT('pico')
    checkpoint = dict(state_dict=model.state_dict(), meta=backbone(**settings))
    with pytest.raises(ValueError, match=r'x.pth says that it was trained with settings that DyViT does not take \('):
        load_backbone(model, checkpoint, 'x.pth')
    assert not (tmp_path / 'ran').exists()


def test_a_profiler_at_work_is_left_alone(tmp_path):
    """Building watches its own calls by Python's one hook for this."""
    meta = backbone(type='coma_mm.DyViT', arch='pico')
    torch.save(dict(state_dict=DyViT('pico').state_dict(), meta=meta), tmp_path / 'x.pth')
    profile = cProfile.Profile()
    profile.runcall(coma_mm.load_backbone, str(tmp_path / 'x.pth'))
    assert any('load_backbone' in str(entry.code) for entry in profile.getstats())


def test_a_type_is_not_looked_up_to_be_compared():
    model = DyViT('pico')
    for meta in (backbone(type='os.system', **RUN), ATTACKS['nested JSON'][0], ATTACKS['long config'][0], [], 'x'):
        check_settings(model, dict(state_dict={}, meta=meta), 'x.pth')
    assert read_settings(dict(meta=ATTACKS['long JSON'][0])) is None


@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
def test_a_resumed_config_is_not_run(kind, code, start, tmp_path):
    meta = dict(epoch=0, iter=0, config=f'import os; os.mkdir("{code.path}")')
    if kind == 'pth':
        start().train()
        whole = torch.load('work/epoch_1.pth', weights_only=False)
        torch.save(dict(whole, meta=dict(whole['meta'], **meta)), 'x.pth')
        start('x.pth').load_or_resume()
    else:
        runner = start()
        save_file(runner.model.state_dict(), 'x.safetensors', metadata={key: str(x) for key, x in meta.items()})
        with pytest.raises((KeyError, TypeError)):  # weights are not all that a run is resumed from
            runner.resume('x.safetensors')
        with pytest.raises(ValueError, match='x.safetensors holds weights alone, and no run goes on from them'):
            start('x.safetensors')
    assert 'config' not in read_checkpoint(f'x.{kind}')['meta']


def test_a_run_does_not_end_untrained(start, tmp_path):
    start().train()
    whole = torch.load('work/epoch_1.pth', weights_only=False)
    for meta, words in [
        (dict(iter=10**10), 'x.pth says that it has 1 epochs and 10000000000 iterations, which do not belong together'),
        (dict(iter=-5), 'x.pth is damaged, or no run of mmengine has written it: meta: iter is -5'),
        (dict(epoch=2, iter=6), 'x.pth says that it has 2 epochs, more than the 1 of this run'),
    ]:
        torch.save(dict(whole, meta=dict(whole['meta'], **meta)), 'x.pth')
        with pytest.raises(ValueError, match=words):
            start('x.pth').load_or_resume()


def test_backbones_and_layers_of_the_toolboxes_are_exported(tmp_path, monkeypatch):
    kaiming = [dict(type='Kaiming', layer='Conv2d')]
    for kind, settings in {
        'mmpretrain.VisionTransformer': dict(arch='deit-tiny', norm_cfg=dict(type='LN'), img_size=32),
        'mmdet.ResNet': dict(depth=18, base_channels=4, stem_channels=4, norm_cfg=dict(type='BN')),
        'mmpretrain.ResNet': dict(depth=18, base_channels=4, stem_channels=4, init_cfg=kaiming),
        'mmseg.MixVisionTransformer': dict(embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4),
        'coma_mm.DyViT': dict(arch='pico'),
    }.items():
        settings = dict(settings, type=kind)
        state = MODELS.build(settings).state_dict()
        meta = config(settings) if 'init_cfg' in settings else backbone(**settings)  # text, as other tools write it
        torch.save(dict(state_dict=state, meta=meta), tmp_path / 'x.pth')
        run(monkeypatch, tmp_path, 'export.py', 'x.pth', 'out.pth', '--force')
        assert torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'].keys() == state.keys()
