"""The classification configs are built, take real steps and evaluate; only sizes and numbers of images are changed."""

import re
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from narrow import replace, shrink, train
from PIL import Image

from coma_mm.engine.runner.build import build_runner, require_matching_checkpoint
from coma_mm.models import CoMA

FOLDER = Path(__file__).parents[1] / 'configs/cls'
CONFIGS = sorted(FOLDER.glob('*.py'))
CLASSES = ('cat', 'dog')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of noise with three images to train on and two to validate on in each class."""
    path = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for part, count in (('train', 3), ('val', 2)):
        for name in CLASSES:
            (path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(256, size=(80, 100, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / part / name / f'{i}.JPEG', 'PNG')
    return path


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A checkpoint of pre-training, of a small model."""
    torch.manual_seed(0)
    model = CoMA(
        dict(type='coma_mm.DyViT', arch='pico', img_size=64),
        dict(type='coma_mm.ViTDecoder', dim=32, depth=1, num_heads=4),
    )
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def prepare(images, tmp_path):
    """Read a config and make it small."""

    def read(name, **options):
        cfg = Config.fromfile(FOLDER / f'{name}.py', format_python_code=False)
        replace(cfg._cfg_dict, shrink)
        loaders = [cfg.get(f'{part}_dataloader') for part in ('train', 'val', 'test')]
        for loader in [*loaders, cfg.test_cfg.get('bank')]:
            if loader:
                loader.update(batch_size=4, num_workers=0, persistent_workers=False)
                loader.dataset.data_root = str(images)
                if loader.dataset.type == 'ImageNet':
                    loader.dataset.metainfo = dict(classes=CLASSES)
        if 'train_cfg' in cfg:
            cfg.train_cfg.max_epochs = 1
        cfg.work_dir, cfg.experiment_name = str(tmp_path), uuid.uuid4().hex
        cfg.merge_from_dict(options)
        return cfg

    return read


def test_all_are_listed():
    kinds = ('finetune', 'linear', 'knn')
    data = [*(f'{size}_in1k' for size in 'tsbl'), 'b_folder']
    assert {path.stem for path in CONFIGS} == {f'{kind}_dyvit-{one}' for kind in kinds for one in data}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_parts_fit(path):
    """Without memory, so with the real architectures."""
    cfg = Config.fromfile(path, format_python_code=False)
    size, data = re.fullmatch(r'.*_dyvit-(.)_(.*)', path.stem).groups()
    assert cfg.model.backbone.arch.startswith(size)
    if 'init_cfg' in cfg.model.backbone:
        assert f'coma_dyvit-{size}_{data}/' in cfg.model.backbone.init_cfg.checkpoint
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
    outputs = model(torch.zeros(2, 3, 64, 64, device='meta'))
    features = dict(t=512, s=768, b=1024, l=1536)[size]
    assert outputs.shape == (2, features if path.stem.startswith('knn') else 1000 if data == 'in1k' else 10)


@pytest.mark.parametrize('kind', ['finetune', 'linear'])
def test_imagenet(kind, prepare):
    options = {'model.backbone.init_cfg': None, 'default_hooks.checkpoint': None}
    runner = train(prepare(f'{kind}_dyvit-t_in1k', **options))
    assert runner.iter == 2 and 'val/accuracy/top5' in runner.message_hub.log_scalars


FOLDER_OPTIONS = {
    'finetune': {'model.head.num_classes': 2, 'model.data_preprocessor.num_classes': 2},
    'linear': {'model.head.num_classes': 2, 'model.neck.1.input_features': 256},
}


@pytest.fixture
def prepare_folder(prepare, pretrained):
    def read(kind, **options):
        small = {'model.backbone.arch': 'pico', 'model.head.in_channels': 256}
        small['model.backbone.init_cfg.checkpoint'] = str(pretrained)
        return prepare(f'{kind}_dyvit-b_folder', **small, **FOLDER_OPTIONS[kind], **options)

    return read


def evaluate(cfg, checkpoint):
    """Do what tools/test.py does."""
    cfg.load_from = str(checkpoint)
    require_matching_checkpoint(cfg)
    return build_runner(cfg).test()


def test_folder_fine_tuned_then_neighbours(prepare_folder, prepare, tmp_path):
    cfg = prepare_folder('finetune')
    runner = train(cfg)
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert evaluate(prepare_folder('finetune'), tmp_path / 'epoch_1.pth') == {'accuracy/top1': accuracy}
    neighbours = evaluate(prepare('knn_dyvit-b_in1k', **{'model.backbone.arch': 'pico'}), tmp_path / 'epoch_1.pth')
    assert list(neighbours) == ['knn/top1_k10', 'knn/top1_k20', 'knn/top1_k100']


@pytest.mark.parametrize('kind', ['finetune', 'linear', 'knn'])
def test_inferencers_of_mmpretrain(kind, prepare, prepare_folder, images):
    """They load images themselves, in BGR, and hand them to what follows ``LoadImageFromFile`` in a pipeline."""
    if kind == 'knn':
        cfg = prepare('knn_dyvit-b_folder', **{'model.backbone.arch': 'pico'})
    else:
        cfg = prepare_folder(kind, **{'model.backbone.init_cfg': None})
    file = str(next((images / 'val' / 'dog').iterdir()))
    pixels = np.array(Image.open(file))
    extractor = FeatureExtractor(cfg, pretrained=False, device='cpu')
    (of_file,), (of_array,) = (extractor(source) for source in (file, pixels[..., ::-1]))
    of_file, of_array = (x[-1] if isinstance(x, tuple) else x for x in (of_file, of_array))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        packed = Compose(cfg.test_dataloader.dataset.pipeline)(dict(img_path=file))
    with torch.no_grad():
        inputs = extractor.model.data_preprocessor(default_collate([packed]), False)['inputs']
        expected = extractor.model.extract_feat(inputs)
    expected = (expected[-1] if isinstance(expected, tuple) else expected)[0]
    assert torch.equal(of_file, expected) and torch.equal(of_array, expected)
    if kind != 'knn':
        inferencer = ImageClassificationInferencer(extractor.model, classes=CLASSES)
        (result,) = inferencer(file)
        assert result['pred_class'] in CLASSES and result['pred_scores'].shape == (2,)


def test_linear_probe_leaves_the_backbone_alone(prepare_folder, pretrained):
    runner = Runner.from_cfg(prepare_folder('linear', **{'train_cfg.max_epochs': 2}))
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    train(runner)
    given, after = torch.load(pretrained)['state_dict'], runner.model.state_dict()
    for name, value in after.items():
        if name.startswith('backbone.'):
            assert torch.equal(given[name], value), name
        else:
            assert not torch.equal(before[name], value), name
    trained = [name for name, p in runner.model.named_parameters() if p.requires_grad]
    assert trained == ['head.fc.weight', 'head.fc.bias']
    assert not runner.model.backbone.training


TEN = {'model.head.num_classes': 10}
TWICE_TEN = TEN | {'model.data_preprocessor.num_classes': 10}


@pytest.mark.parametrize(
    ('kind', 'options', 'renamed', 'error'),
    [
        ('finetune', TEN, False, r'have 2 classes \(cat, dog\), the model 10: add .* model.head.num_classes=2$'),
        ('finetune', TWICE_TEN, False, 'options model.head.num_classes=2 model.data_preprocessor.num_classes=2$'),
        ('linear', {}, True, 'val has images of cow, but those to train on have the classes cat, dog'),
        ('knn', {}, True, 'val has images of cow, but those to compare with have the classes cat, dog'),
    ],
)
def test_wrong_classes(prepare, images, tmp_path, kind, options, renamed, error):
    if renamed:
        shutil.copytree(images, tmp_path / 'images')
        for part in ('train', 'val'):
            (tmp_path / 'images' / part / 'dog').rename(tmp_path / 'images' / part / 'cow')
    options = {'model.backbone.arch': 'pico', **FOLDER_OPTIONS.get(kind, {}), **options}
    if kind != 'knn':
        options |= {'model.backbone.init_cfg': None, 'model.head.in_channels': 256}
    cfg = prepare(f'{kind}_dyvit-b_folder', **options)
    if renamed:
        (cfg.test_dataloader if kind == 'knn' else cfg.val_dataloader).dataset.data_root = str(tmp_path / 'images')
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=error):
        runner.test() if kind == 'knn' else runner.train()
    assert runner.iter == 0


def test_labels_of_a_test_are_the_checkpoints(prepare_folder, images, tmp_path):
    """A folder that lacks a class, has none to train on beside it, and another one with a class that nobody learnt."""
    train(prepare_folder('finetune', **{'default_hooks.checkpoint.by_epoch': True}))
    checkpoint = tmp_path / 'epoch_1.pth'
    shutil.copytree(images / 'val/dog', tmp_path / 'one/dog')
    cfg = prepare_folder('finetune')
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'one')
    cfg.load_from = str(checkpoint)
    tested = build_runner(cfg)
    tested.test()
    dataset = tested.test_dataloader.dataset
    assert dataset.metainfo['classes'] == CLASSES and dataset.get_cat_ids(0) == [1]
    assert tested.test_evaluator.dataset_meta['classes'] == CLASSES
    (tmp_path / 'one/zoo').mkdir()
    shutil.copy(images / 'val/dog/0.JPEG', tmp_path / 'one/zoo')
    shutil.copy(images / 'val/dog/0.JPEG', tmp_path / 'one/zoo/1.JPEG')
    with pytest.raises(ValueError, match='images of zoo, but the checkpoint names the classes cat, dog'):
        evaluate(prepare_folder('finetune', **{'test_dataloader.dataset.data_root': str(tmp_path / 'one')}), checkpoint)


@pytest.mark.parametrize('batch', [5, 6, 1])
def test_linear_probe_takes_a_last_batch_of_one(prepare_folder, batch):
    cfg = prepare_folder('linear', **{'default_hooks.checkpoint': None})
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = batch  # of six images
    runner = train(cfg)
    assert runner.iter == -(-6 // batch) and torch.isfinite(runner.model.neck[1].bn.running_var).all()
    neck = runner.model.neck[1].train()
    x, before = torch.randn(1, 256), neck.bn.running_mean.clone()
    assert torch.equal(neck([x])[0], neck.eval()([x])[0]) and torch.equal(neck.bn.running_mean, before)
    assert neck.train()([x[:0]])[0].shape == (0, 256)
