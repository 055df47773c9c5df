import pytest
import torch

from coma_mm.evaluation import LinearProbe, draw_labelled, rankme
from coma_mm.evaluation.accuracy import measure


def clusters(count=300, classes=3, dim=8, noise=0.3):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    labels = torch.arange(count) % classes
    return centres[labels] + noise * torch.randn(count, dim, generator=generator), labels


def solve(features, labels, penalty):
    """Return weights and bias by torch.linalg, of a regression with a column of ones that has no penalty."""
    x = features.double()
    x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-6) / x.shape[1] ** 0.5
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    penalties = torch.full((x.shape[1],), penalty, dtype=torch.float64)
    penalties[-1] = 0
    return x, torch.linalg.inv(x.T @ x + penalties.diag()) @ x.T @ torch.eye(3, dtype=torch.float64)[labels]


@pytest.mark.parametrize('count, dim', [(300, 8), (12, 8), (9, 8), (8, 8), (12, 40)])
@pytest.mark.parametrize('penalty', [1e-3, 1.0])
def test_it_is_the_ridge_regression_of_a_textbook(count, dim, penalty):
    features, labels = clusters(count, dim=dim, noise=2.0)
    probe = LinearProbe(features, labels, penalties=[penalty])
    x, weight = solve(features, labels, penalty)
    torch.testing.assert_close(torch.cat([probe.weight, probe.bias[None]]), weight, atol=1e-7, rtol=1e-6)
    assert torch.equal(probe.predict(features), (x @ weight).argmax(1))


@pytest.mark.parametrize('dim', [6, 40])
def test_the_penalty_is_the_best_one_for_images_left_out(dim):
    features, labels = clusters(30, dim=dim, noise=1.5)
    y, right = torch.eye(3, dtype=torch.float64)[labels], {}
    for penalty in (1e-3, 1e-1, 1e-2, 10.0):
        x, out = solve(features, labels, penalty)[0], []
        penalties = torch.tensor([penalty] * dim + [0]).double().diag()
        for i in range(len(x)):
            kept = torch.arange(len(x)) != i
            out.append(x[i] @ torch.linalg.inv(x[kept].T @ x[kept] + penalties) @ x[kept].T @ y[kept])
        right[penalty] = int((torch.stack(out).argmax(1) == labels).sum())
    most = max(right.values())
    enough = most - (most * (1 - most / 30)) ** 0.5
    best = max(penalty for penalty, count in right.items() if count >= enough)
    assert LinearProbe(features, labels, penalties=list(right)).penalty == best
    assert LinearProbe(features[:3], labels[:3]).penalty == 1  # nothing can be left out


def test_classes_that_a_plane_divides_are_found_whatever_their_order_and_scale():
    features, labels = clusters()
    order = labels.argsort(stable=True)
    features = features * torch.logspace(-3, 3, features.shape[1]) + 100
    features = torch.cat([features, torch.full((len(features), 1), 7.0)], 1)  # says nothing
    probe = LinearProbe(features[order][::2], labels[order][::2])
    assert (probe.predict(features) == labels).float().mean() > 0.98


def test_few_labels_are_drawn_by_seed_and_nested():
    features, labels = clusters(600, noise=0.8)
    labels[labels == 2] = 3  # a class without images
    few = [set(draw_labelled(labels, count, seed=1).tolist()) for count in (1, 5, 500, None)]
    assert few[0] < few[1] < few[2] == few[3] and [len(drawn) for drawn in few] == [3, 15, 600, 600]
    assert set(draw_labelled(labels, 5, seed=2).tolist()) != few[1]
    found = measure([(features[:300], features[300:])], labels[:300], labels[300:], seeds=4)
    means = [found[name].mean for name in ('1 label', '5 labels', '20 labels', 'all labels')]
    assert 50 < means[0] < means[1] < means[2] <= means[3] + 1
    assert len({*found['1 label'].draws}) > 1 == len(found['all labels'].draws)


@pytest.mark.parametrize(
    'features, labels, reason',
    [
        (torch.ones(9, 2), torch.zeros(9, dtype=torch.long), 'two classes'),
        (torch.full((2, 2), torch.nan), torch.arange(2), 'NaN'),
    ],
)
def test_what_nothing_can_be_learnt_from(features, labels, reason):
    with pytest.raises(ValueError, match=reason):
        LinearProbe(features, labels)


def test_rankme_counts_directions():
    basis, _ = torch.linalg.qr(torch.randn(100, 6, generator=torch.Generator().manual_seed(0)))
    assert rankme(basis) == pytest.approx(6, rel=1e-3)
    assert rankme(basis[:, :1].expand(-1, 6)) == pytest.approx(1, rel=1e-2)
    assert 1 < rankme(basis * torch.tensor([1, 0.1, 0.1, 0.1, 0.1, 0.1])) < 5
