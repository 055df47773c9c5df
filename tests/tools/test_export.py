"""``export.py``: the backbone alone, in files that plain PyTorch and safetensors read, as graphs, for the hub."""

import json

import pytest
import torch
from mmengine.registry import MODELS
from processes import TINY, refuse, run
from safetensors import safe_open

from coma_mm.engine.runner.config_files import read_config
from coma_mm.models import CoMA, DyViT, read_checkpoint

GRAPHS = hasattr(getattr(getattr(torch, 'export', None), 'Dim', None), 'DYNAMIC')  # or the tool says so


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as pre-training writes it."""
    torch.manual_seed(0)
    cfg = read_config(str(TINY))
    model = CoMA(cfg.model.backbone, cfg.model.decoder)
    path = tmp_path / 'epoch_2.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text, epoch=2, iter=6)), path)
    return path


def test_export_and_load_without_us(perform, checkpoint, tmp_path):
    printed = perform(tmp_path, 'export.py', checkpoint, 'backbone.pth')
    assert "matched 76 of 76 tensors after 'backbone.'" in printed
    assert 'backbone.pth: DyViT ' in printed and 'epochs 2, config ' in printed
    perform(tmp_path, 'export.py', 'backbone.pth', 'backbone.safetensors')  # what it wrote tells all it needs

    plain = torch.load(tmp_path / 'backbone.pth', weights_only=True)
    source = torch.load(checkpoint, weights_only=True)['state_dict']
    with safe_open(tmp_path / 'backbone.safetensors', 'pt') as file:
        meta = file.metadata()
        assert set(file.keys()) == set(plain['state_dict'])
        for name, value in plain['state_dict'].items():
            assert torch.equal(value, source[f'backbone.{name}']) and torch.equal(value, file.get_tensor(name))
    assert meta == plain['meta'] and meta['epochs'] == '2' and len(meta['config_sha256']) == 12
    assert json.loads(meta['arch'])['dims'] == [16, 32, 48, 64]
    settings = json.loads(meta['backbone'])
    assert settings.pop('type') == 'coma_mm.DyViT'
    DyViT(**settings).load_state_dict(plain['state_dict'])
    assert not list(tmp_path.glob('.*'))


def test_a_run_stands_for_its_best_or_newest_checkpoint(perform, checkpoint, tmp_path, monkeypatch, capfd):
    perform(tmp_path, 'export.py', '.', 'newest.pth')
    of_file = dict(backbone=json.dumps(dict(type='coma_mm.DyViT', arch='pico')), scope='mmengine')
    torch.save(dict(state_dict=DyViT('pico').state_dict(), meta=of_file), tmp_path / 'classifier.pth')
    perform(tmp_path, 'export.py', '.', 'best.pth')
    newest, best = (torch.load(tmp_path / name, weights_only=True)['state_dict'] for name in ('newest.pth', 'best.pth'))
    assert len(newest['patch_embed.weight']) == 16 and len(best['patch_embed.weight']) == 32
    error = refuse(monkeypatch, capfd, tmp_path, 'export.py', '.', 'classifier.pth', '--force')
    assert 'is also read by this command' in error and 'meta' in torch.load(tmp_path / 'classifier.pth')


def test_bare_weights_with_their_config(perform, checkpoint, tmp_path, monkeypatch, capfd):
    weights = read_checkpoint(checkpoint)['state_dict']
    bare = {key: value for key, value in weights.items() if key.startswith('backbone.')}
    torch.save(bare, tmp_path / 'bare.pth')
    error = refuse(monkeypatch, capfd, tmp_path, 'export.py', 'bare.pth', 'out.pth')
    assert 'does not say which backbone it has: coma-mm export FILE backbone.safetensors --config CONFIG' in error
    perform(tmp_path, 'export.py', 'bare.pth', 'out.pth', '--config', TINY)
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['meta']['epochs'] == 'unknown'


def test_refusals_write_nothing(checkpoint, tmp_path, monkeypatch, capfd):
    head = {'head.fc.weight': torch.ones(2, 64), 'head.fc.bias': torch.ones(2)}
    head['neck.1.bn.running_mean'] = torch.ones(64)
    whole = read_checkpoint(checkpoint)
    torch.save(dict(state_dict=whole['state_dict'] | head, meta=whole['meta']), tmp_path / 'necked.pth')
    windowed = tmp_path / 'windowed.pth'
    of_windows = json.dumps(dict(type='coma_mm.DyViT', arch='pico', attn_window=2))
    torch.save(dict(state_dict=DyViT('pico').state_dict(), meta=dict(backbone=of_windows, scope='mmdet')), windowed)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'file').touch()
    before = sorted(tmp_path.iterdir())
    for args, error in [
        (['full', 'out.pth'], 'so it is no folder of a run'),
        ([checkpoint, 'out.npz'], 'give a name that ends in .pth, .safetensors, .onnx or .pt2, not out.npz'),
        ([checkpoint, 'out.pt'], 'give a name that ends in .pth, .safetensors, .onnx or .pt2, not out.pt'),
        ([checkpoint, 'out.pth', '--dynamic'], '--size, --dynamic, --out-indices and --head are for .onnx and .pt2'),
        ([checkpoint], 'say what to write: OUT, --hub-dir DIR or both'),
        ([checkpoint, '--hub-dir', 'full'], 'full is there already; name a new or an empty folder'),
        ([checkpoint, 'new.pth', '--hub-dir', 'full'], 'full is there already; name a new or an empty folder'),
        ([checkpoint, 'new.pth', '--hub-dir', './new.pth'], 'OUT is, or lies in, --hub-dir'),
        ([checkpoint, 'empty/new.pth', '--hub-dir', 'empty'], 'OUT is, or lies in, --hub-dir'),
        (['.', checkpoint.name, '--force'], 'is also read by this command'),
        ([checkpoint, '--hub-dir', 'hub', '--license', 'as: is'], "--license takes the hub's name of a licence"),
        ([str(windowed), 'out.onnx', '--dynamic'], 'with attn_window' if GRAPHS else 'takes torch 2.6 or newer'),
        (['necked.pth', 'out.onnx', '--head'], '(neck.1.bn.running_mean), which --head cannot export'),
        ([checkpoint, 'out.pth', '--prefix', 'teacher.'], "no weights that start with 'teacher.'"),
    ]:
        assert error in refuse(monkeypatch, capfd, tmp_path, 'export.py', *args)
    assert sorted(tmp_path.iterdir()) == before and not list((tmp_path / 'empty').iterdir())


def test_a_graph_of_a_backbone_that_counts_its_channels(perform, tmp_path):
    """MobileNet has the channels of its last stage as ``in_channels``, once it is built."""
    if not GRAPHS:
        return  # see below
    cfg = 'default_scope = "mmpretrain"\nmodel = dict(backbone=dict(type="MobileNetV2", widen_factor=0.1))\n'
    state = dict(MODELS.build(dict(type='mmpretrain.MobileNetV2', widen_factor=0.1)).state_dict())
    torch.save(dict(state_dict=state, meta=dict(cfg=cfg)), tmp_path / 'mobile.pth')
    printed = perform(tmp_path, 'export.py', 'mobile.pth', 'out.pt2', '--size', 32, 32)
    assert 'out.pt2: MobileNetV2 ' in printed and 'at 2 x 3 x 32 x 32' in printed


NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], channel_order='BGR')


def of_a_detector(path, **options):
    """Write a checkpoint of a tiny detector's backbone; its pipeline reads BGR."""
    torch.manual_seed(0)
    arch = dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 4, 4, 4))
    settings = dict(type='coma_mm.DyViT', arch=arch, img_size=96, out_indices=(0, 1, 2, 3), **options)
    preprocessor = {name: NORMALISATION[name] for name in ('mean', 'std')}
    cfg = f"""default_scope = 'mmdet'
model = dict(type='FCOS', backbone={settings}, data_preprocessor={preprocessor})
train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
"""
    model = MODELS.build(settings)
    for term in model.global_positions.values():
        torch.nn.init.normal_(term.weight, std=0.1)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(cfg=cfg, epoch=3, iter=9)), path)
    return model.eval()


def check_maps(model, run_file, shapes):
    for shape in shapes:
        images = torch.randn(*shape)
        with torch.no_grad():
            expected = model(images)
        for here, there in zip(expected, run_file(images), strict=True):
            torch.testing.assert_close(torch.as_tensor(there), here, rtol=0, atol=1e-4)


def check_meta(meta, size, count=4):
    found = {name: json.loads(meta[name]) for name in ('strides', 'out_channels', *NORMALISATION)}
    assert found == dict(strides=[4, 8, 16, 32][:count], out_channels=[16, 32, 48, 64][:count], **NORMALISATION)
    assert meta['layout'] == 'NCHW' and meta['size'] == size and meta['epochs'] == '3'
    assert json.loads(meta['backbone'])['img_size'] == [96, 96]


def load_onnx(path):
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.get_modelmeta().custom_metadata_map, lambda images: session.run(None, {'images': images.numpy()})


def load_program(path):
    files = {'meta.json': ''}
    program = torch.export.load(path, extra_files=files).module()
    return json.loads(files['meta.json']), program


SIZES = dict(
    onnx=[(2, 3, 64, 160), (1, 3, 100, 131), (3, 3, 32, 32), (1, 3, 224, 31)],
    pt2=[(2, 3, 64, 160), (1, 3, 96, 96), (3, 3, 224, 64)],  # a program wants whole units
)
SLOW = ('onnx', (0, 1, 2, 3)), ('pt2', (0, 1)), ('pt2', (0, 1, 2, 3))  # a program's export is that of the ONNX file


@pytest.mark.parametrize(
    ('ending', 'indices'), [('onnx', (0, 1)), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_graph_of_any_size(ending, indices, tmp_path, monkeypatch, capfd):
    """A program is written from an exported file."""
    model, source = of_a_detector(tmp_path / 'detector.pth'), 'detector.pth'
    if ending == 'pt2':
        run(monkeypatch, tmp_path, 'export.py', source, 'out.pth')
        source = 'out.pth'
    args = 'export.py', source, f'out.{ending}', '--dynamic', '--out-indices', *indices
    if not GRAPHS:
        error = refuse(monkeypatch, capfd, tmp_path, *args)
        assert f'writing .{ending} takes torch 2.6 or newer, and this is {torch.__version__}' in error
        return
    run(monkeypatch, tmp_path, *args)
    assert 'as computed by the model, to ' in capfd.readouterr().out
    meta, run_file = dict(onnx=load_onnx, pt2=load_program)[ending](tmp_path / f'out.{ending}')
    check_meta(meta, 'dynamic', len(indices))
    check_maps(lambda images: model(images)[: len(indices)], run_file, SIZES[ending])
    assert not list(tmp_path.glob('.*'))


@pytest.mark.slow
def test_graph_of_one_size_in_windows(tmp_path, monkeypatch):
    if not GRAPHS:
        return  # see above
    model = of_a_detector(tmp_path / 'detector.pth', attn_window=2)
    run(monkeypatch, tmp_path, 'export.py', 'detector.pth', 'out.pt2', '--size', 96, 160, '--out-indices', 0, 2)
    meta, program = load_program(tmp_path / 'out.pt2')
    assert meta['strides'] == '[4, 16]' and meta['size'] == '[96, 160]'
    check_maps(lambda images: model(images)[:3:2], program, [(1, 3, 96, 160), (4, 3, 96, 160)])


def test_graph_that_differs_is_not_written(tmp_path, monkeypatch, capfd):
    if not GRAPHS:
        return  # see above
    of_a_detector(tmp_path / 'detector.pth')
    monkeypatch.setattr('coma_mm.export.graph.TOLERANCE', -1.0)
    error = refuse(monkeypatch, capfd, tmp_path, 'export.py', 'detector.pth', 'out.pt2', '--size', 64, 64)
    assert 'out.pt2 would differ from the model by' in error
    assert [path.name for path in tmp_path.iterdir()] == ['detector.pth']


def test_hub_folder(checkpoint, tmp_path, monkeypatch, capfd):
    from huggingface_hub import ModelCard

    run(monkeypatch, tmp_path, 'export.py', checkpoint, '--hub-dir', 'hub', '--license', 'cc-by-nc-4.0')
    assert {path.name for path in (tmp_path / 'hub').iterdir()} == {'README.md', 'config.json', 'model.safetensors'}
    card = ModelCard.load(tmp_path / 'hub' / 'README.md')
    assert card.data.license == 'cc-by-nc-4.0' and card.data.library_name == 'coma_mm' and 'dyvit' in card.data.tags
    assert 'less [123.675, 116.28, 103.53], over [58.395, 57.12, 57.375]' in card.text and 'timm' not in card.text
    config = json.loads((tmp_path / 'hub' / 'config.json').read_text())
    backbone = config['backbone']
    assert backbone.pop('type') == 'coma_mm.DyViT' and config['channel_order'] == 'RGB'
    DyViT(**backbone).load_state_dict(read_checkpoint(tmp_path / 'hub')['state_dict'])
    run(monkeypatch, tmp_path, 'export.py', 'hub', 'again.pth')  # a folder of the hub is a checkpoint
    assert torch.load(tmp_path / 'again.pth', weights_only=True)['meta']['epochs'] == '2'


def test_hub_folder_of_a_named_architecture_is_one_of_timm(tmp_path, monkeypatch):
    import timm

    import coma_mm
    import coma_mm.timm

    torch.manual_seed(0)
    model = coma_mm.dyvit_pico(patch_size=2, windows=(4, 2, None, None), in_channels=4, img_size=64).eval()
    settings = dict(type='DyViT', arch='pico', patch_size=2, windows=(4, 2, None, None), in_channels=4, img_size=64)
    meta = dict(backbone=json.dumps(settings), scope='coma_mm')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'some.pth')
    run(monkeypatch, tmp_path, 'export.py', 'some.pth', '--hub-dir', 'hub')
    assert "timm.create_model('hf-hub:USER/NAME'" in (tmp_path / 'hub' / 'README.md').read_text()
    images = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        (expected,) = model(images)
        assert torch.equal(coma_mm.load_backbone(tmp_path / 'hub')(images)[0], expected)
        options = dict(pretrained=True, features_only=True, out_indices=(3,))
        (found,) = timm.create_model(f'local-dir:{tmp_path}/hub', **options)(images)
        assert torch.equal(found, expected)
