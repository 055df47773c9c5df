import io
from zipfile import ZipFile

import numpy as np
import pytest
from noise import write_shade
from tiny_cifar import write_archive

from coma_mm.datasets import CIFAR, read_images


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp('archive') / 'images.npz'
    return path, write_archive(path)


def test_archive(archive):
    path, images = archive
    dataset = CIFAR(str(path))
    assert len(dataset) == len(images['train']) and len(CIFAR(str(path), split='test')) == len(images['test'])
    assert dataset.metainfo['classes'] == ('red', 'green', 'blue')
    item = dataset[4]
    assert item['img'].dtype == np.uint8 and item['img'].shape == (32, 32, 3) and item['img_shape'] == (32, 32)
    assert item['gt_label'] == 1 and item['img'].mean((0, 1)).argmax() == 1  # RGB
    assert np.abs(item['img'].astype(int) - images['train'][4]).mean() < 3  # JPEG


def test_a_share_of_the_labels_is_balanced_and_the_same_for_a_seed(archive):
    path, images = archive
    labels = [item['gt_label'] for item in CIFAR(str(path), fraction=0.25)]
    assert np.bincount(labels).tolist() == [4, 4, 4]
    assert np.bincount([item['gt_label'] for item in CIFAR(str(path), fraction=1e-6)]).tolist() == [1, 1, 1]

    def chosen(seed):
        return np.stack([item['img'] for item in CIFAR(str(path), fraction=0.25, seed=seed)])

    assert (chosen(0) == chosen(0)).all() and (chosen(0) != chosen(1)).any()
    with pytest.raises(ValueError, match=r'fraction must be a number > 0 and <= 1, got 0'):
        CIFAR(str(path), fraction=0)


def test_folder(tmp_path):
    for split in ('train', 'val'):
        for number, name in enumerate(('cat', 'dog')):
            write_shade(tmp_path / split / name / '0.png', 100 * number, (60, 40))
    dataset = CIFAR(str(tmp_path), split='test', size=16)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    found = [(item['gt_label'], item['img'].shape, item['img'][0, 0, 0]) for item in dataset]
    assert found == [(label, (16, 16, 3), 100 * label) for label in range(2)]


def test_what_is_no_data_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere is neither an .npz file of JPEG bytes, nor a folder'):
        read_images(str(tmp_path / 'nowhere'), 'train')
    np.savez(tmp_path / 'other.npz', x=np.zeros(3))
    with pytest.raises(ValueError, match='other.npz is not an .npz file of JPEG bytes'):
        read_images(str(tmp_path / 'other.npz'), 'train')
    (tmp_path / 'folder/train/cat').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='no images in the sub-folders of'):
        read_images(str(tmp_path / 'folder'), 'train')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(y_train=np.array([10**18])), 'it has not one label'),
        (dict(y_train=np.array([-1])), 'it has not one label'),
        (dict(y_train=np.array([0.5])), 'Cannot cast'),
        (dict(train_offsets=np.array([0, 5])), 'is not an .npz file of JPEG bytes'),
        (dict(train_offsets=np.array(5)), 'is not an .npz file of JPEG bytes'),
        (dict(train_offsets=np.array([5, 0])), 'do not lie one after the other'),
        (dict(train_offsets=np.array([-5, 0])), 'do not lie one after the other'),
        (dict(train_bytes=np.array(['x'], dtype=object)), 'Object arrays'),
    ],
)
def test_archives_of_odd_content(changes, words, archive, tmp_path):
    whole = dict(np.load(archive[0]))
    whole |= dict(train_offsets=whole['train_offsets'][:2], y_train=np.array([0]))
    np.savez(tmp_path / 'x.npz', **{**{k: v for k, v in whole.items() if k != 'classes'}, **changes})
    with pytest.raises(ValueError, match=words):
        read_images(str(tmp_path / 'x.npz'), 'train')


def test_an_array_that_says_it_is_larger(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr='|u1', fortran_order=False, shape=(10**12,)))
    with ZipFile(tmp_path / 'y.npz', 'w') as bomb:
        for name in ('train_bytes', 'train_offsets', 'y_train'):
            bomb.writestr(f'{name}.npy', header.getvalue())
    with pytest.raises(ValueError, match='y.npz is not an .npz file of JPEG bytes'):
        read_images(str(tmp_path / 'y.npz'), 'train')
