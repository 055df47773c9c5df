from math import ceil, floor

import numpy as np
import pytest
import torch
from PIL import Image

from coma_mm.datasets import ComplementaryMask

SIZES = [(224, 224), (224, 160), (32, 320), (64, 96), (448, 480)]
STRATEGIES = ['random', 'stratified']


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)


def draw(transform, times):
    return np.stack([transform({})['mask'] for _ in range(times)])


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('ratio', [0.1, 0.25, 0.5, 0.6, 0.75, 0.9])
@pytest.mark.parametrize('size', SIZES)
def test_shape_and_exact_count(size, ratio, strategy):
    masks = draw(ComplementaryMask(size, ratio=ratio, strategy=strategy), 30)
    assert masks.dtype == bool
    assert masks.shape == (30, size[0] // 32, size[1] // 32)
    assert (masks.sum((1, 2)) == round(ratio * masks[0].size)).all()


@pytest.mark.parametrize('ratio', [0.1, 0.3, 0.6, 0.75])
@pytest.mark.parametrize('size', SIZES)
def test_stratified_gives_every_neighbourhood_its_share(size, ratio):
    masks = draw(ComplementaryMask(size, ratio=ratio, strategy='stratified'), 100)
    fraction = masks[0].mean()
    for row in range(0, masks.shape[1], 2):
        for col in range(0, masks.shape[2], 2):
            block = masks[:, row : row + 2, col : col + 2].reshape(100, -1)
            expected = fraction * block.shape[1]
            assert set(block.sum(1)) <= {floor(expected), ceil(expected)}


def test_random_does_not_spread_evenly():
    masks = draw(ComplementaryMask(224), 1000)
    assert {0, 4} <= set(masks[:, :2, :2].sum((1, 2)))


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_units_are_equally_likely_and_masks_differ(strategy):
    masks = draw(ComplementaryMask(224, strategy=strategy), 5000)
    assert np.abs(masks.mean(0) - 29 / 49).max() < 0.035  # five standard deviations
    assert len(np.unique(masks, axis=0)) > 4990


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_masks_follow_from_the_seed_of_numpy(strategy):
    """Loading workers set this seed (tests/datasets/test_seeding.py)."""
    masks = []
    for seed in (3, 3, 5):
        np.random.seed(seed)
        masks.append(draw(ComplementaryMask(224, strategy=strategy), 4))
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


@pytest.mark.parametrize('img', [torch.zeros(3, 64, 96), np.zeros((64, 96), np.uint8), Image.new('RGB', (96, 64))])
def test_other_images(img):
    assert ComplementaryMask((64, 96), unit_size=16)(dict(img=img))['mask'].shape == (4, 6)


@pytest.mark.parametrize('img', [torch.zeros(3, 96, 64), np.zeros((96, 64, 3), np.uint8), Image.new('RGB', (64, 96))])
def test_an_image_of_another_size(img):
    message = r'got an image of \(height, width\) = \(96, 64\) but has input_size=\(64, 96\): make the crop'
    with pytest.raises(ValueError, match=message):
        ComplementaryMask((64, 96), unit_size=16)(dict(img=img))


def test_repr_names_the_arguments():
    text = "ComplementaryMask(input_size=(224, 224), unit_size=32, ratio=0.6, strategy='stratified')"
    assert repr(ComplementaryMask(224, strategy='stratified')) == text
