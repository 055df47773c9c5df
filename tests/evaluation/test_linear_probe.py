import pytest
import torch

from coma_mm.evaluation import LinearProbe, rankme


def clusters(count=300, classes=3, dim=8, noise=0.3):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    labels = torch.arange(count) % classes
    return centres[labels] + noise * torch.randn(count, dim, generator=generator), labels


def test_classes_that_a_plane_divides_are_found_whatever_their_order_and_scale():
    features, labels = clusters()
    order = labels.argsort(stable=True)
    features = features * torch.logspace(-3, 3, features.shape[1]) + 100
    probe = LinearProbe(features[order][::2], labels[order][::2])
    assert (probe.predict(features) == labels).float().mean() > 0.98


def test_it_is_the_ridge_regression_of_a_textbook():
    features, labels = (x[:, None] if x.ndim == 1 else x for x in clusters(noise=2.0))
    labels = labels[:, 0]
    probe = LinearProbe(features, labels, penalties=[0.01])
    x = (features.double() - features.double().mean(0)) / (features.double().std(0, correction=0) + 1e-6)
    learn = torch.arange(len(x)) % 10 != 0
    y = torch.eye(3, dtype=torch.float64)[labels]
    weight = torch.linalg.inv(x[learn].T @ x[learn] + 0.01 * learn.sum() * torch.eye(8)) @ x[learn].T @ y[learn]
    torch.testing.assert_close(probe.weight.double(), weight, atol=1e-5, rtol=1e-4)
    expected = (x @ weight + y[learn].mean(0)).argmax(1)
    assert (probe.predict(features) == expected).float().mean() > 0.99


def test_the_penalty_is_chosen_on_images_that_are_not_learnt_from():
    generator = torch.Generator().manual_seed(0)
    features, labels = clusters(count=100, noise=1.0)
    noise = torch.randn(100, 90, generator=generator)  # as many features as images: little penalty, little sense
    assert LinearProbe(torch.cat([features, noise], 1), labels, penalties=[1e-8, 1.0]).penalty == 1.0


def test_too_few_images():
    with pytest.raises(ValueError, match='ten labelled images or more, got 9'):
        LinearProbe(torch.zeros(9, 2), torch.zeros(9, dtype=torch.long))


def test_rankme_counts_directions():
    basis, _ = torch.linalg.qr(torch.randn(100, 6, generator=torch.Generator().manual_seed(0)))
    assert rankme(basis) == pytest.approx(6, rel=1e-3)
    assert rankme(basis[:, :1].expand(-1, 6)) == pytest.approx(1, rel=1e-2)
    assert 1 < rankme(basis * torch.tensor([1, 0.1, 0.1, 0.1, 0.1, 0.1])) < 5
