import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from coma_mm.evaluation import extract_features, knn_accuracy, standardize


@pytest.fixture(scope='module')
def digits():
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float64), torch.tensor(data.target)


@pytest.mark.parametrize('temperature', [0.07, 0.001])
def test_agrees_with_scikit_learn(digits, temperature):
    features, labels = digits
    oracle = KNeighborsClassifier(
        n_neighbors=10,
        metric='cosine',
        algorithm='brute',
        # Distance is 1 - similarity; relative to the nearest, so that nothing vanishes at small temperatures.
        weights=lambda distance: torch.exp(
            torch.tensor(distance.min(1, keepdims=True) - distance) / temperature
        ).numpy(),
    )
    oracle.fit(features[:900].numpy(), labels[:900].numpy())
    expected = 100 * oracle.score(features[900:].numpy(), labels[900:].numpy())
    actual = knn_accuracy(features[:900], labels[:900], features[900:], labels[900:], 10, temperature, chunk_size=100)
    assert actual == pytest.approx(expected)
    assert 90 < actual < 100


def test_an_image_is_its_own_nearest_neighbour(digits):
    features, labels = digits
    assert knn_accuracy(features, labels, features, labels, k=1) == 100


def test_more_neighbours_than_images():
    features, labels = torch.eye(3), torch.arange(3)
    assert knn_accuracy(features, labels, features, labels, k=20) == 100


class Model(nn.Module):
    """Maps as backbones return them, batch by batch; remembers the mode that it ran in."""

    def __init__(self, pooled):
        super().__init__()
        self.pooled = pooled

    def data_preprocessor(self, data):
        return dict(inputs=data['inputs'].double())

    def backbone(self, x):
        self.ran_training = self.training
        return (x, x.mean((2, 3))) if self.pooled else (None, x)


@pytest.mark.parametrize('pooled', [False, True])
def test_features_are_the_mean_of_the_last_map(pooled):
    images = torch.randint(256, (7, 3, 4, 6), dtype=torch.uint8)
    model = Model(pooled).train()
    features = extract_features(model, images, batch_size=3)
    torch.testing.assert_close(features, images.double().mean((2, 3)))
    assert model.training and not model.ran_training


def test_standardised_by_the_training_features():
    train, test = torch.randn(50, 3) * 7 + 100, torch.randn(20, 3) * 7 + 100
    train_out, test_out = standardize(train, test)
    torch.testing.assert_close(train_out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(train_out.std(0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(test_out, (test - train.mean(0)) / train.std(0), atol=1e-3, rtol=1e-3)


def test_features_of_all_positions_or_their_mean():
    class HalfSize(nn.Module):
        backbone = staticmethod(lambda images: (nn.functional.avg_pool2d(images, 2),))
        data_preprocessor = staticmethod(lambda data: dict(inputs=data['inputs'].float()))

    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    assert extract_features(HalfSize(), images, pool=False).shape == (2, 12)
    torch.testing.assert_close(extract_features(HalfSize(), images), images.float().mean((2, 3)))
