"""``coma-mm finetune``: weights and labelled images in, a classifier out, as its users call it."""

import json
from shutil import copytree

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain import ImageClassificationInferencer
from tiny_weights import ARCH, MEAN, save, write_weights

import coma_mm
from coma_mm.checkpoints.reading import read_checkpoint
from coma_mm.export.following import follow_weights
from coma_mm.export.graph import Classifier, write_graph
from coma_mm.finetuning import PASSES
from coma_mm.utils import manifest
from coma_mm.utils.files import resource_dir
from coma_mm.visualization.classification import draw_confusion, draw_mistakes


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('labelled')
    for number in range(10):
        save(folder / f'dark {{{{x}}}} $a/{number}.png', 20, number)  # braces are variables to mmengine
        save(folder / f'light/{number}.png', 150, number)
    save(folder / 'lonely/0.png', 90)
    (folder / 'empty').mkdir()
    return folder


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.pth')


def test_from_weights_to_a_classifier(photos, weights, call, tmp_path):
    options = '--steps', 2, '--batch-size', 8, '--workers', 0, '--lr', 0.01
    printed = call('finetune', weights, photos, '--out', 'run', *options)
    assert '17 images of 3 classes to learn from, 1 (lonely) to 8 (' in printed and '4 to classify' in printed
    assert 'classes without an image to classify: 1' in printed and '2 steps of 8 images' in printed
    assert 'folders without an image: 1 (empty)' in printed and 'INFO' not in printed
    assert 'step 2: ' in printed and '% right: run/classifier.pth' in printed
    run = tmp_path / 'run'
    report = (run / 'report.html').read_text()
    assert 'Confusion matrix' in report and 'Accuracy on images held out' in report
    owned = manifest.read_manifest(run)
    assert owned['classifier.pth']['kind'] == 'weights' and manifest.find_kind(run, 'best checkpoint')
    cfg = Config.fromfile(run / 'config.py')
    assert cfg.model.backbone.patch_size == 2 and cfg.model.data_preprocessor.mean == MEAN
    assert cfg.train_dataloader.dataset.metainfo.classes[0] == 'dark {{x}} $a' and cfg.model.head.in_channels == 64
    # a run that was killed goes on, and ends as if it had not been
    copytree(run, tmp_path / 'part')
    for name in ('iter_2.pth', 'classifier.pth'):
        (tmp_path / 'part' / name).unlink()
    assert 'another command began the run' in call('pretrain', '--out', 'part', '--resume', succeeds=False)
    said = call('finetune', '--out', 'part', '--resume')
    assert 'run/classifier.pth' not in said and 'dataset metainfo' not in said
    # what users do with it
    tested = call('test', 'run/config.py', 'run/classifier.pth', '--work-dir', 'tested')
    assert 'accuracy/top1' in tested
    check_classifier(tmp_path / 'run')
    inferencer = ImageClassificationInferencer('run/config.py', 'run/classifier.pth', device='cpu')
    (found,) = inferencer(str(photos / 'light/0.png'), show=False)
    assert found['pred_class'] in cfg.val_dataloader.dataset.metainfo.classes
    assert 'has results of an earlier run' in call('finetune', weights, photos, '--out', 'run', succeeds=False)


def check_classifier(run):
    """Check that what is exported with its head gives the scores of the model."""
    checkpoint, cfg = read_checkpoint(run / 'classifier.pth'), Config.fromfile(run / 'config.py')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(checkpoint['state_dict'])
    classifier, images = Classifier(model.backbone, checkpoint).eval(), torch.randn(2, 3, 32, 32)
    assert json.loads(classifier.classes)[1:] == ['light', 'lonely']
    torch.testing.assert_close(classifier(images), model(images))


def test_a_graph_of_scores(tmp_path):
    backbone = torch.nn.Conv2d(3, 4, 4, 4).eval()
    weights = {'head.fc.weight': torch.randn(2, 4), 'head.fc.bias': torch.randn(2)}
    model = Classifier(backbone, weights)
    assert model(torch.randn(3, 3, 8, 8)).shape == (3, 2)
    if hasattr(getattr(torch.export, 'Dim', None), 'DYNAMIC'):  # otherwise the tool says so
        assert write_graph(model, str(tmp_path / 'x.pt2'), (8, 8), False, {})[0] < 1e-4
    with pytest.raises(ValueError, match='no linear head'):
        Classifier(backbone, {})


def test_random_weights_of_the_same_backbone(photos, weights, call):
    call('finetune', weights, photos, '--out', 'run', '--init', 'none', '--steps', 1, '--batch-size', 4, '--workers', 0)
    backbone = Config.fromfile('run/config.py').model.backbone
    assert 'init_cfg' not in backbone and backbone.patch_size == 2


@pytest.mark.parametrize(
    ('args', 'reason'),
    [
        (('tiny.pth',), 'give weights, a folder of labelled images'),
        (('bare.pth', 'photos'), 'which backbone it has: coma-mm export FILE backbone.safetensors --config'),
        (('tiny.pth', 'photos/light'), 'no sub-folders with images'),  # more of these are in test_compare.py
        (('tiny.pth', 'photos', '--val', 'photos'), 'also learnt from'),
        (('tiny.pth', 'photos', '--epochs', '1', '--steps', '2'), 'not allowed with argument'),
        (('tiny.pth', 'photos', '--exclude', '*.png'), 'no image is left'),
        (('tiny.pth', 'photos', '--resume'), 'leave the images out'),
        (('--resume',), 'there is no run in run to go on with'),
        (('five.pth', 'photos'), 'channels'),
    ],
)
def test_what_cannot_be_fine_tuned_ends_in_a_line(args, reason, photos, weights, call, tmp_path):
    (tmp_path / 'tiny.pth').symlink_to(weights)
    (tmp_path / 'photos').symlink_to(photos)
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'bare.pth')
    if args[0] == 'five.pth':
        write_weights(tmp_path / 'five.pth', in_channels=5)
    before = sorted(tmp_path.rglob('*'))
    last = call('finetune', *args, '--out', 'run', succeeds=False).splitlines()[-1]
    assert last.startswith('error: ') and reason in last
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('kind', ['linear', 'finetune'])
def test_configs_of_classifiers_follow_a_file(kind, tmp_path, call):
    for number in range(6):
        save(tmp_path / f'images/dark/{number}.png', 20, number)
        save(tmp_path / f'images/light/{number}.png', 150, number)
    file = write_weights(tmp_path / 'grey.pth', img_size=64, in_channels=1)
    config = str(resource_dir('configs') / f'cls/{kind}_dyvit-b_folder.py')
    shared = ['model.head.num_classes=2', *['model.data_preprocessor.num_classes=2'] * (kind == 'finetune')]
    for part in ('train', 'val', 'test'):
        shared += [f'{part}_dataloader.{name}' for name in ('dataset.data_root=images', 'batch_size=4')]
        shared += [f'{part}_dataloader.num_workers=0']
    names = f'model.backbone.arch=from:{file}', f'model.backbone.init_cfg.checkpoint={file}'
    said = call('train', config, '--work-dir', 'run', '--cfg-options', *names, 'train_cfg.max_epochs=1', *shared)
    assert not any(notice in said for notice in ('OneDL', 'requires_grad', 'paramwise_options'))
    cfg = Config.fromfile(f'run/{kind}_dyvit-b_folder.py')
    assert cfg.model.head.in_channels == 64 and cfg.model.backbone.arch == json.loads(json.dumps(ARCH))
    assert cfg.model.backbone.patch_size == 2 and cfg.model.data_preprocessor.mean == MEAN[:1]
    assert [step.get('scale') for step in cfg.val_dataloader.dataset.pipeline] == [64, None]
    assert 'accuracy/top1' in call('test', f'run/{kind}_dyvit-b_folder.py', 'run/epoch_1.pth', '--work-dir', 'tested')


def test_what_is_set_by_hand_does_not_follow(tmp_path):
    cfg = Config.fromfile(resource_dir('configs') / 'cls/linear_dyvit-b_folder.py')
    cfg.model.backbone.arch = f'from:{write_weights(tmp_path / "tiny.pth")}'
    options = {'model.head.in_channels': 0, 'model.data_preprocessor.mean': 0, 'train_dataloader.dataset.pipeline': 0}
    before = json.dumps([cfg.train_dataloader, cfg.model.data_preprocessor, cfg.model.head])
    follow_weights(cfg, options)
    assert json.dumps([cfg.train_dataloader, cfg.model.data_preprocessor, cfg.model.head]) == before
    assert cfg.model.neck[1].input_features == 64
    cfg.model.backbone.arch, cfg.model.head = f'from:{tmp_path / "tiny.pth"}', None
    follow_weights(cfg)
    for name, reason in (('nowhere.pth', 'nowhere.pth'), ('bare.pth', 'does not say which DyViT')):
        torch.save(dict(weight=torch.zeros(1)), tmp_path / 'bare.pth')
        cfg.model.backbone.arch = f'from:{tmp_path / name}'
        with pytest.raises((ValueError, FileNotFoundError), match=reason):
            follow_weights(cfg)


def test_arguments_of_the_function(tmp_path):
    for weights, data, reason in ((None, 'a', 'weights must name'), ('x', ['a', 'b'], 'data must be a folder')):
        with pytest.raises(ValueError, match=reason):
            coma_mm.finetune(weights, data, tmp_path / 'run')


def test_few_images_are_seen_more_often():
    assert [PASSES.over(images) for images in (10, 1_000, 10_000, 10**6)] == [200, 100, 50, 20]


def test_pictures_of_many_classes_and_few_mistakes():
    counts = np.eye(60, dtype=int) * 3
    counts[5, 50] = 2
    picture = draw_confusion(counts, [f'class $ {number}' * 5 for number in range(60)])
    assert picture.dtype == np.uint8 and 400 < picture.shape[0] < 1500
    assert draw_confusion(np.zeros((2, 2), int), ['a', 'b']).shape[2] == 3
    for channels in (1, 3, 5):
        picture = draw_mistakes([np.zeros((8, 8, channels), np.uint8)] * 5, ['a\nb'] * 5)
        assert picture.shape[2] == 3
    for number in range(1, 7):
        picture = draw_mistakes(
            [np.zeros((8, 8, 3), np.uint8)] * number, ['other, taken for\nface (50%)\na.png'] * number
        )
        assert picture[:2].min() > 250, f'words above {number} images are cut off'
