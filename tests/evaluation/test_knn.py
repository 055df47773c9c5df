import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from coma_mm.evaluation import KNN, NearestNeighbours, collect_features, knn
from coma_mm.models import DyViT, FeatureExtractor


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
    classifier = NearestNeighbours(features[:900], labels[:900], temperature, standardize=False)
    predicted = classifier.predict(features[900:], [10])[:, 0]
    assert np.array_equal(predicted, oracle.predict(features[900:].numpy()))
    assert 0.9 < (predicted == labels[900:]).double().mean() < 1


def vote(features, labels, query, k, temperature):
    """Classify one standardised query, as the protocol is written down."""
    similarity = [row @ query / np.linalg.norm(row) / np.linalg.norm(query) for row in features]
    votes = np.zeros(10)
    for i in np.argsort(similarity)[::-1][:k]:
        votes[labels[i]] += np.exp(similarity[i] / temperature)
    return votes.argmax()


def test_agrees_with_a_slow_reference(digits, monkeypatch):
    """Standardised, several numbers of neighbours, more than there are images among them, in chunks."""
    monkeypatch.setattr(knn, 'MAX_SIMILARITIES', 1000)
    features, labels = digits[0][:160] * 5 + 100, digits[1][:160]
    neighbours, queries = features[:100].numpy(), features[100:].numpy()
    mean, deviation = neighbours.mean(0), neighbours.std(0) + 1e-6
    ks = [1, 7, 20, 1000]
    classifier = NearestNeighbours(features[:100], labels[:100], temperature=1)
    expected = [
        [vote((neighbours - mean) / deviation, labels, (query - mean) / deviation, k, 1) for k in ks]
        for query in queries
    ]
    assert classifier.predict(features[100:], ks).tolist() == expected
    assert len({tuple(column) for column in zip(*expected)}) == 4


def test_an_image_is_its_own_nearest_neighbour(digits):
    features, labels = digits
    assert torch.equal(NearestNeighbours(features, labels).predict(features, [1])[:, 0], labels)


def test_metric():
    metric = KNN(k=(1, 3), standardize=False)
    sample = dict(feature=torch.tensor([1.0, 0.1]), gt_label=torch.tensor([1]))
    with pytest.raises(RuntimeError, match='KNNLoop'):
        metric.process(None, [sample])
    metric.set_bank(torch.tensor([[1.0, 0.0], [0.9, 0.5], [0.9, 0.5], [0.0, 1.0]]), torch.tensor([0, 1, 1, 2]))
    metric.process(None, [sample, dict(sample, gt_label=0), dict(sample, feature=torch.tensor([0.0, 2.0]), gt_label=2)])
    assert metric.evaluate(3) == {f'knn/top1_k{k}': pytest.approx(200 / 3) for k in (1, 3)}
    assert KNN(k=5).ks == (5,)


class Halved(nn.Module):
    """Maps as backbones return them."""

    def forward(self, images):
        return None, nn.functional.avg_pool2d(images, 2)


def test_features_and_labels_of_batches():
    images = torch.randint(256, (7, 3, 4, 6), dtype=torch.uint8)
    preprocessor = dict(type='mmengine.ImgDataPreprocessor', mean=[0.0] * 3, std=[2.0] * 3)
    samples = [BaseDataElement(gt_label=torch.tensor([i])) for i in range(7)]
    batches = [dict(inputs=images[i : i + 3], data_samples=samples[i : i + 3]) for i in (0, 3, 6)]
    features, labels = collect_features(FeatureExtractor(Halved(), data_preprocessor=preprocessor), batches)
    torch.testing.assert_close(features, images.float().mean((2, 3)) / 2)
    assert labels.tolist() == list(range(7))

    flat = FeatureExtractor(Halved(), pool='flat', data_preprocessor=preprocessor)
    features, labels = collect_features(flat, [dict(inputs=images)])
    assert features.shape == (7, 3 * 2 * 3) and labels is None
    torch.testing.assert_close(features, flat(images.float() / 2))


def test_statistics_of_the_last_maps():
    arch = dict(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4))
    images = torch.randn(2, 3, 64, 96)
    extractor = FeatureExtractor(dict(type='coma_mm.DyViT', arch=arch, img_size=64, patch_size=2), 'stats').eval()
    maps = [part.flatten(2) for part in extractor.backbone(images)]
    expected = [part for one in maps for part in (one.mean(2), one.std(2, correction=0))]
    assert [one.shape[1] for one in maps] == [48, 64]
    torch.testing.assert_close(extractor(images), torch.cat(expected, 1))
    three = dict(type=DyViT, arch=arch, img_size=64, patch_size=2, out_indices=(2,))
    assert FeatureExtractor(three, 'stats')(images).shape == (2, 2 * 48)
    assert FeatureExtractor(three | dict(out_indices=(3,)), 'stats')(images).shape == (2, 2 * (48 + 64))
    assert FeatureExtractor(nn.AvgPool2d(2), 'stats')(images).shape == (2, 6)
    assert torch.isfinite(FeatureExtractor(nn.Identity(), 'stats')(images[..., :1, :1])).all()


def test_what_is_no_map_is_taken_as_it_is():
    vectors = torch.randn(2, 5)
    assert torch.equal(FeatureExtractor(nn.Identity())(vectors), vectors)
    with pytest.raises(RuntimeError, match="got 'loss'"):
        FeatureExtractor(nn.Identity())(vectors, mode='loss')
    with pytest.raises(ValueError, match='no images'):
        collect_features(None, [])
