"""Annotations that do not fit images or model are named before training, or where they are met; mmseg, mmdet, kNN."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run
from test_det import CONFIG as DETECTOR
from test_det import OPTIONS
from test_seg import CONFIG as SEGMENTOR
from test_seg import changes, save_scenes
from tiny_coco import write_coco

from coma_mm.models import DyViT

KNN = Path(__file__).parents[2] / 'configs/cls/knn_dyvit-b_folder.py'


def each(folder, change):
    def damage(root):
        for path in sorted((root / folder).iterdir()):
            change(path)

    return damage


def one(folder, change):
    """Copy the first file, with what belongs to it, until there are some; change one in between."""

    def damage(root):
        for i in range(12):
            for path in (root / 'images/training/tall.jpg', root / 'annotations/training/tall.png'):
                shutil.copy(path, path.with_stem(f't{i:02d}'))
        change(root / folder / 't03.png')

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
        (
            each(MASKS, label(200)),
            'the mask scenes/annotations/training/tall.png has the label 199, but the model knows 150 classes, after '
            'reduce_zero_label labels 0 to 149 .255 is ignored.: set num_classes',
        ),
        (one(MASKS, label(200)), 'the mask scenes/annotations/training/t03.png has the label 199, but the model'),
        (each(MASKS, smaller), 'tall.png has 40 x 30 pixels, its image scenes/images/training/tall.jpg 75 x 117: they'),
        (each('annotations/validation', smaller), 'validation/tall.png has 40 x 30 pixels, its image .* 61 x 97'),
        (each(MASKS, coloured), 'the mask .*/tall.png is an image of 3 channels: a mask has one, .* convert'),
        (each(MASKS, garbage), r'ADE20KDataset\(scenes/images/training\): .*/tall.png or its annotations cannot be load'),
        (each(PHOTOS, garbage), 'cannot be loaded .AssertionError: failed to load image: scenes/images/training/tall.jpg'),
        (each(MASKS, Path.unlink), 'but there is no scenes/annotations/training/tall.png; set train_dataloader.dataset'),
        (lambda root: shutil.rmtree(root / PHOTOS), 'there is no scenes/images/training, which .* set train_dataloader'),
        (lambda root: shutil.rmtree(root), 'there is no scenes/images/training, which ADE20KDataset'),
        (each(MASKS, palette), None),
        (each(MASKS, label(255)), None),
        (each(MASKS, label(0)), None),
    ],
)  # fmt: skip
def test_masks(damage, error, tmp_path, monkeypatch):
    save_scenes(tmp_path / 'scenes')
    damage(tmp_path / 'scenes')
    steps = 12 if error and 't03' in error else 1
    options = [*changes(), f'train_cfg.max_iters={steps}', 'train_dataloader.batch_size=2']
    args = 'train.py', SEGMENTOR, '--work-dir', tmp_path.name, '--cfg-options', *options
    if error is None:
        run(monkeypatch, tmp_path, *args)
        return
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        run(monkeypatch, tmp_path, *args)


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
        (
            each('annotations', Path.unlink),
            'there is no photos/annotations/instances_train2017.json, which .* set train_dataloader.dataset.data_root',
        ),
        (each('annotations', garbage), f'{ANNOTATIONS} cannot be read .JSONDecodeError'),
        (edit(lambda content: content['images']), f'{ANNOTATIONS} cannot be read .AssertionError: annotation file format'),
        (edit(lambda content: content.update(images=[])), f'{ANNOTATIONS} has no image to use'),
        (edit(lambda content: content.pop('categories') and None), f'{ANNOTATIONS} cannot be read .KeyError'),
        (without('bbox'), f"{ANNOTATIONS} cannot be read .KeyError: 'bbox'"),
        (without('segmentation'), f"{ANNOTATIONS}: photos/train2017/0.jpg or its .* cannot be loaded .KeyError: 'mask'"),
        (each('train2017', garbage), 'cannot be loaded .AssertionError: failed to load image: photos/train2017/0.jpg'),
        (
            lambda root: 'model.roi_head.bbox_head.num_classes=5',
            f'{ANNOTATIONS} has 80 classes, model.roi_head.bbox_head knows 5: set model.roi_head.bbox_head.num_classes=80',
        ),
    ],
)  # fmt: skip
def test_boxes(damage, error, tmp_path, monkeypatch):
    write_coco(tmp_path / 'photos')
    option = damage(tmp_path / 'photos')
    options = [*OPTIONS, option] if option else OPTIONS
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        run(monkeypatch, tmp_path, 'train.py', DETECTOR, '--work-dir', tmp_path.name, '--cfg-options', *options)


@pytest.mark.parametrize(
    ('damage', 'error'),
    [
        (shutil.rmtree, 'there is no data/images/val, which CustomDataset.* set test_dataloader.dataset.data_root'),
        (lambda root: shutil.rmtree(root / 'val'), 'there is no data/images/val, which .* set test_dataloader.dataset'),
        (lambda root: shutil.rmtree(root / 'train'), 'there is no data/images/train, .* set test_cfg.bank.dataset'),
        (each('val', shutil.rmtree), 'CustomDataset.data/images/val. cannot be read .RuntimeError: Found 0 files'),
        (lambda root: shutil.rmtree(root / 'val/b'), 'have 2 classes, those to classify 1, .* they differ in b'),
    ],
)
def test_classes_of_folders(damage, error, tmp_path, monkeypatch):
    for part in 'train', 'val':
        for name in 'a', 'b':
            (tmp_path / f'data/images/{part}/{name}').mkdir(parents=True)
            Image.new('RGB', (40, 40)).save(tmp_path / f'data/images/{part}/{name}/1.png')
    damage(tmp_path / 'data/images')
    torch.save(dict(state_dict=DyViT('pico').state_dict()), tmp_path / 'pico.pth')
    options = ['model.backbone.arch=pico']
    for loader in 'test_dataloader', 'test_cfg.bank':
        options += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    args = 'test.py', KNN, 'pico.pth', '--work-dir', tmp_path.name, '--cfg-options', *options
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        run(monkeypatch, tmp_path, *args)
