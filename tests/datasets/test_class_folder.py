"""Folders of images with a sub-folder for each class, and images held out of any folder."""

import shutil
from pathlib import Path

import pytest
from noise import write_shade

from coma_mm.datasets import ClassFolder, ImageFolder


def fill(folder, count):
    folder.mkdir(parents=True)
    for number in range(count):
        write_shade(folder / f'{number}.png', number)


@pytest.fixture
def pets(tmp_path):
    for name, count in (('cat', 20), ('dog', 30), ('axolotl', 2)):
        fill(tmp_path / 'pets' / name / 'more', count)
    return tmp_path / 'pets'


def names(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def test_classes_are_divided_the_same_way_everywhere(pets, tmp_path):
    train, val = (ClassFolder(str(pets), part) for part in ('train', 'val'))
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('axolotl', 'cat', 'dog')
    assert not set(names(train)) & set(names(val)) and len(train) + len(val) == 52
    labels = [val.get_data_info(i)['gt_label'] for i in range(len(val))]
    assert labels == [0, 1, 1, 2, 2, 2] and val.get_cat_ids(1) == [1]
    moved = tmp_path / 'elsewhere'
    shutil.move(pets, moved)
    assert [name.replace(str(moved), str(pets)) for name in names(ClassFolder(str(moved), 'val'))] == names(val)
    assert names(ClassFolder(str(moved), 'val', seed=1)) != names(ClassFolder(str(moved), 'val'))


def test_folders_of_both_parts_are_what_they_say(pets):
    for name in ('cat', 'dog'):
        fill(pets / 'val' / name, 1)
    with pytest.raises(FileNotFoundError, match='has a folder val, but none for the other part: put the images'):
        ClassFolder(str(pets), 'val')
    (pets / 'train').mkdir()
    shutil.move(pets / 'cat', pets / 'train')
    shutil.move(pets / 'dog', pets / 'train')
    train, val = (ClassFolder(str(pets), part) for part in ('train', 'val'))
    assert (len(train), len(val)) == (50, 2) and train.metainfo['classes'] == ('cat', 'dog')


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (shutil.rmtree, 'there is no folder .*pets: put the images there, or give yours as data_root of both'),
        (lambda pets: [shutil.rmtree(path) for path in pets.iterdir()], 'no images in .*pets and its sub-folders'),
        (lambda pets: fill(pets / 'newt', 1), 'newt has one image, so none can be held out'),
    ],
)
def test_what_cannot_be_divided(pets, damage, words):
    damage(pets)
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        ClassFolder(str(pets), 'val')


def test_images_without_classes(pets):
    fill(pets.parent / 'plain', 3)
    with pytest.raises(ValueError, match='no sub-folders with images: each class needs one'):
        ClassFolder(str(pets.parent / 'plain'))
    with pytest.raises(ValueError, match='has images of axolotl, but metainfo names the classes cat, dog'):
        ClassFolder(str(pets), metainfo=dict(classes=('cat', 'dog')))


@pytest.mark.parametrize(
    ('train', 'val', 'labels'),
    [
        ('ant bee cat', 'ant bee cat', dict(ant=0, bee=1, cat=2)),
        ('ant bee cat', 'cat', dict(cat=2)),
        ('ant bee cat', 'bee empty', dict(bee=1)),
        ('ant bee', 'ant bee empty', dict(ant=0, bee=1)),
        ('ant bee empty', 'ant bee', dict(ant=0, bee=1)),
        ('Zebra ant', 'ant', dict(ant=1)),
        ('caf\u00e9 ant', 'cafe\u0301', {'cafe\u0301': 1}),  # as macOS writes it
        ('caf\u00e9 cafe\u0301 ant', 'caf\u00e9', {'caf\u00e9': 1}),  # one class
        ('10 9 1', '9', {'9': 2}),
        ('ant bee cat', 'ant bee zoo', 'val has images of zoo, but .*train has the classes ant, bee, cat: take'),
        ('ant bee empty', 'ant bee dog eel', 'images of dog, eel, but'),
        ('ant', 'Ant', 'images of Ant, but .* ant: take'),
    ],
)
def test_labels_go_by_the_names_of_training(tmp_path, train, val, labels):
    for part, names in dict(train=train, val=val).items():
        for name in names.split():
            fill(tmp_path / part / name, 0 if name == 'empty' else 1)
    if isinstance(labels, str):
        with pytest.raises(ValueError, match=labels):
            ClassFolder(str(tmp_path), 'val')
        return
    dataset = ClassFolder(str(tmp_path), 'val')
    found = {
        Path(info['img_path']).parent.name: info['gt_label'] for info in map(dataset.get_data_info, range(len(dataset)))
    }
    assert found == labels
    assert dataset.metainfo['classes'] == ClassFolder(str(tmp_path), 'train').metainfo['classes']


def test_labels_follow_another_list(pets):
    dataset = ClassFolder(str(pets), 'val')
    order = names(dataset)
    dataset.number_as(['dog', 'cat', 'newt', 'axolotl'], 'the checkpoint names')
    assert names(dataset) == order and [dataset.get_cat_ids(i) for i in range(6)] == [[3], [1], [1], [0], [0], [0]]
    with pytest.raises(ValueError, match='images of axolotl, dog, but the checkpoint names the classes cat, newt'):
        dataset.number_as(['cat', 'newt'], 'the checkpoint names')


def test_a_share_is_held_out_of_any_folder(pets):
    every, train, val = (ImageFolder(str(pets), part=part, val=0.25) for part in (None, 'train', 'val'))
    assert sorted(names(train) + names(val)) == sorted(names(every)) and len(val) == 13
    before = set(names(val))
    fill(pets / 'hamster', 8)
    after = set(names(ImageFolder(str(pets), part='val', val=0.25)))
    assert len(after) == 15 and len(before & after) > 9
    assert len(ImageFolder(str(pets), part='val', val=0.001)) == 1
