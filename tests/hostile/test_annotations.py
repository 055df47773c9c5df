"""Annotations that do not fit images or model are named before training, or where they are met; mmseg, mmdet, kNN."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import DictAction
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from noise import write_shade
from PIL import Image
from processes import refuse
from test_det import CONFIG as DETECTOR
from test_det import OPTIONS
from test_seg import CONFIG as SEGMENTOR
from test_seg import changes, save_scenes
from tiny_coco import write_coco
from tiny_run import start

from coma_mm.engine import CheckDataHook
from coma_mm.engine.checks.data import explain_data
from coma_mm.models import DyViT

KNN = Path(__file__).parents[2] / 'configs/cls/knn_dyvit-b_folder.py'


@pytest.fixture(scope='module')
def data_of(tmp_path_factory):
    """Return a function that builds the data of a config and checks them, as a run does; with one model for all."""
    runners = {}

    def build(config, *options):
        if config not in runners:
            pairs = [option.split('=', 1) for option in options if isinstance(option, str)]
            options = {key: DictAction._parse_iterable(value) for key, value in pairs}
            runners[config] = start(tmp_path_factory.mktemp('work') / config.stem, options, config=config)
        runner = runners[config]
        with DefaultScope.overwrite_default_scope(runner.cfg.default_scope), explain_data():
            runner._train_dataloader, runner._val_dataloader = (
                deepcopy(runner.cfg[f'{part}_dataloader']) for part in ('train', 'val')
            )
            runner._train_loop = runner.build_train_loop(deepcopy(runner.cfg.train_cfg))
            runner._val_loop = runner.build_val_loop(deepcopy(runner.cfg.val_cfg))
            CheckDataHook().before_train(runner)
            return runner.train_dataloader.dataset

    before = dict(CheckpointLoader._schemes)
    yield build
    CheckpointLoader._schemes = before


def each(folder, change):
    def damage(root):
        for path in sorted((root / folder).iterdir()):
            change(path)

    return damage


def label(value):
    return lambda path: Image.fromarray(np.full_like(np.array(Image.open(path)), value)).save(path)


def smaller(path):
    Image.open(path).resize((40, 30), Image.Resampling.NEAREST).save(path)


def coloured(path):
    Image.open(path).convert('RGB').save(path)


def palette(path):
    img = Image.open(path)
    img.putpalette(list(range(256)) * 3)
    img.save(path)


def garbage(path):
    path.write_bytes(b'<html>')


MASKS, PHOTOS = 'annotations/training', 'images/training'


@pytest.mark.parametrize(
    ('damage', 'error'),
    [
        (each(MASKS, label(200)), 'tall.png has the label 199, but .* 150 classes, .* 0 to 149 .*: set num_classes'),
        (each(MASKS, smaller), 'tall.png has 40 x 30 pixels, its image scenes/images/training/tall.jpg 75 x 117: they'),
        (each('annotations/validation', smaller), 'validation/tall.png has 40 x 30 pixels, its image .* 61 x 97'),
        (each(MASKS, coloured), 'the mask .*/tall.png is an image of 3 channels: a mask has one, .* convert'),
        (each(MASKS, garbage), 'ADE20KDataset.scenes/images/training.: .*/tall.png or its annotations cannot'),
        (each(PHOTOS, garbage), 'AssertionError: failed to load image: scenes/images/training/tall.jpg'),
        (each(PHOTOS, lambda path: path.rename(f'{path}.jpeg')), 'ADE20K.*/training. has no image to use.*img_suffix'),
        (each(MASKS, Path.unlink), 'there is no scenes/annotations/training/tall.png; set train_dataloader.dataset'),
        (lambda root: shutil.rmtree(root / PHOTOS), 'there is no scenes/images/training, which .* set train_data'),
        (lambda root: shutil.rmtree(root), 'there is no scenes/images/training, which ADE20KDataset'),
        (each(MASKS, palette), None),
        (each(MASKS, label(255)), None),
        (each(MASKS, label(0)), None),
    ],
)  # fmt: skip
def test_masks(damage, error, tmp_path, monkeypatch, data_of):
    monkeypatch.chdir(tmp_path)
    save_scenes(tmp_path / 'scenes')
    damage(tmp_path / 'scenes')
    if error is None:
        dataset = data_of(SEGMENTOR, *changes())
        assert all(dataset[i]['data_samples'].gt_sem_seg.data.shape[0] == 1 for i in range(len(dataset)))
        return
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        data_of(SEGMENTOR, *changes())


def test_a_mask_among_others_is_named_in_training(tmp_path, monkeypatch, capfd):
    save_scenes(tmp_path / 'scenes')
    for i in range(12):
        for path in (tmp_path / f'scenes/{PHOTOS}/tall.jpg', tmp_path / f'scenes/{MASKS}/tall.png'):
            shutil.copy(path, path.with_stem(f't{i:02d}'))
    label(200)(tmp_path / f'scenes/{MASKS}/t03.png')
    options = [*changes(), 'train_cfg.max_iters=20', 'train_dataloader.num_workers=1']
    args = 'train.py', SEGMENTOR, '--work-dir', tmp_path.name, '--cfg-options', *options
    words = f'the mask scenes/{MASKS}/t03.png has the label 199, but the model knows 150'
    assert re.search(words, refuse(monkeypatch, capfd, tmp_path, *args))


def edit(change):
    def damage(root):
        path = root / 'annotations/instances_train2017.json'
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return damage


def without(key):
    def change(content):
        for annotation in content['annotations']:
            del annotation[key]

    return edit(change)


ANNOTATIONS = 'CocoDataset.photos/annotations/instances_train2017.json.'


@pytest.mark.parametrize(
    ('damage', 'error'),
    [
        (each('annotations', Path.unlink), 'no photos/annotations/instances_train2017.json, .* set train_.*.data_root'),
        (each('annotations', garbage), f'{ANNOTATIONS} cannot be read .JSONDecodeError'),
        (edit(lambda content: content['images']), f'{ANNOTATIONS} cannot be read .AssertionError: annotation file'),
        *(
            (edit(lambda content, part=part: content.update({part: []})), f'{ANNOTATIONS} has no image to use')
            for part in ('images', 'annotations')
        ),
        (edit(lambda content: content.pop('categories') and None), f'{ANNOTATIONS} cannot be read .KeyError'),
        (
            edit(lambda content: content['categories'][16].update(name='dg')),
            f'{ANNOTATIONS} has no category dog, but person, .*: set train_dataloader.dataset.metainfo.classes',
        ),
        (without('bbox'), f"{ANNOTATIONS} cannot be read .KeyError: 'bbox'"),
        (without('segmentation'), f"{ANNOTATIONS}: photos/train2017/0.jpg or its .* loaded .KeyError: 'mask'"),
        (each('train2017', Path.unlink), 'there is no photos/train2017/0.jpg; set train_dataloader.dataset.data_root'),
        (each('train2017', garbage), 'cannot be loaded .AssertionError: failed to load image: photos/train2017/0.jpg'),
    ],
)  # fmt: skip
def test_boxes(damage, error, tmp_path, monkeypatch, data_of):
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / 'photos')
    damage(tmp_path / 'photos')
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        data_of(DETECTOR, *OPTIONS)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.roi_head.bbox_head.num_classes=5', 'has 80 classes, .* knows 5: set model.*bbox_head.num_classes=80'),
        ('model.neck.in_channels=[64,128,256,512]', r'set model.neck.in_channels=\[32,64,128,256\]'),
    ],
)
def test_a_detector_that_does_not_fit(option, words, tmp_path, monkeypatch, capfd):
    write_coco(tmp_path / 'photos')
    args = 'train.py', DETECTOR, '--work-dir', tmp_path.name, '--cfg-options', *OPTIONS, option
    assert re.search(words, refuse(monkeypatch, capfd, tmp_path, *args))


BANK = """
_base_ = {base!r}
theirs = dict(_delete_=True, type='CustomDataset', data_root='elsewhere', pipeline=[])
test_cfg = dict(bank=dict(dataset=theirs))
"""


# More damages are in tests/datasets/test_class_folder.py.
@pytest.mark.parametrize(
    ('config', 'damage', 'error'),
    [
        (KNN, lambda root: shutil.rmtree(root / 'val'), 'has a folder train, but none for the other part: put'),
        (KNN, lambda root: (root / 'val/b').rename(root / 'val/zoo'), 'zoo'),  # of no class that was learnt
        ('bank.py', lambda root: None, 'there is no elsewhere/, which .*, or set test_cfg.bank.dataset.data_root'),
    ],
)  # fmt: skip
def test_neighbours(config, damage, error, tmp_path, monkeypatch, capfd):
    for name in 'train/a', 'train/b', 'val/a', 'val/b':
        write_shade(tmp_path / f'data/images/{name}/1.png', size=(40, 40))
    damage(tmp_path / 'data/images')
    (tmp_path / 'bank.py').write_text(BANK.format(base=str(KNN)))
    torch.save(dict(state_dict=DyViT('pico').state_dict()), tmp_path / 'pico.pth')
    options = ['model.backbone.arch=pico']
    for loader in 'test_dataloader', 'test_cfg.bank':
        options += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    args = 'test.py', config, 'pico.pth', '--work-dir', tmp_path.name, '--cfg-options', *options
    assert re.search(error, refuse(monkeypatch, capfd, tmp_path, *args))
