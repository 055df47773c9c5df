import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image

from coma_mm.datasets import PHOTOS, Digits, Photos, load_digits_images
from coma_mm.datasets.photos import Photo, photo_path


def test_every_photo_is_here_and_may_be_published():
    photos = Photos()
    assert len(photos) == len(PHOTOS) == 7
    for idx, name in enumerate(PHOTOS):
        results = photos[idx]
        assert name in results['img_path']
        assert results['img'].dtype == np.uint8
        assert results['img'].shape == (*results['ori_shape'], 3)
        assert min(results['img_shape']) >= 300
        assert results['sample_idx'] == idx
        assert PHOTOS[name].licence in ('public domain', 'CC0', 'CC BY 2.0')


def test_colours_are_rgb():
    img = Photos(names=['china'])[0]['img']
    assert np.abs(img.astype(int) - load_sample_image('china.jpg')).mean() < 1


def test_an_epoch_may_be_longer_than_the_list():
    photos = Photos(length=5, names=['coffee', 'rocket'])
    assert len(photos) == 5
    assert ['coffee' in photos[i]['img_path'] for i in range(5)] == [True, False, True, False, True]
    assert photos[4]['sample_idx'] == 4


def test_images_in_memory_are_not_changed_by_a_pipeline():
    photos = Photos(names=['rocket'])
    before = photos[0]['img'].copy()
    photos[0]['img'][:] = 0
    assert np.array_equal(photos[0]['img'], before)


@pytest.mark.parametrize(
    ('place', 'package', 'folder'),
    [
        ('skimage/data', 'scikit-image', False),
        *(('not_installed', 'not_installed', folder) for folder in (False, True)),
    ],
)
def test_photo_of_a_package_that_lacks_it_or_is_not_installed(place, package, folder, monkeypatch, tmp_path):
    if folder:  # of the same name, which is no package
        (tmp_path / 'not_installed').mkdir()
        monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PHOTOS, 'dog', Photo(f'{place}/dog.png', 'CC0', 'nobody'))
    with pytest.raises(FileNotFoundError, match=f'comes with {package} .*pip install --upgrade {package}'):
        photo_path('dog')


def test_digits():
    images, labels = load_digits_images(32)
    assert images.shape == (1797, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.array_equal(labels, load_digits().target)
    assert set(labels) == set(range(10))
    assert (images[:, 0] == images[:, 2]).all()
    originals, _ = load_digits_images(8)
    assert np.array_equal(originals[:, 1], np.round(load_digits().images * 255 / 16))


def test_scaled_to_a_short_side():
    for photo in Photos(short_side=64):
        assert min(photo['img'].shape[:2]) == 64 and photo['img_shape'] == photo['img'].shape[:2]


def test_digits_are_a_data_set():
    images, labels = load_digits_images(16)
    dataset = Digits(16)
    assert len(dataset) == len(labels) == 1797
    item = dataset[5]
    assert (item['img'] == images[5].transpose(1, 2, 0)).all() and item['gt_label'] == labels[5]
