import pytest
import torch

from coma_mm.evaluation.accuracy import Accuracy, count_labels, judge, make_table, measure


def hits(fraction, draws=1, images=400, seed=0):
    return Accuracy(torch.rand(draws, images, generator=torch.Generator().manual_seed(seed)) < fraction)


@pytest.mark.parametrize('draws, other_draws', [(1, 1), (5, 5), (1, 3), (5, 1)])
def test_a_lead_has_to_be_clear(draws, other_draws):
    low, high, like_low = hits(0.3, draws), hits(0.5, other_draws, seed=1), hits(0.32, other_draws, seed=2)
    assert high.lead(low) == 1 and low.lead(high) == -1
    assert low.lead(like_low) == like_low.lead(low) == low.lead(low) == 0
    few = Accuracy(low.hits[:, :12])
    assert Accuracy(high.hits[:, :12]).lead(few) == 0  # of twelve images nothing can be said


def test_the_error_is_that_of_images_and_of_draws():
    one = hits(0.5)
    assert one.error == pytest.approx(100 * (one.mean / 100 * (1 - one.mean / 100) / 400) ** 0.5)
    apart = Accuracy(torch.stack([torch.ones(400), torch.zeros(400)]).bool())  # draws that agree on no image
    assert apart.error == pytest.approx(100 * (0.5 / 2) ** 0.5) and apart.draws == [100, 0]


def test_features_that_tell_classes_gain_over_those_that_do_not():
    generator = torch.Generator().manual_seed(0)
    labels, truth = torch.arange(90) % 3, torch.arange(60) % 3
    centres = 3 * torch.randn(3, 16, generator=generator)

    def draw(labels, scale):
        return scale * centres[labels] + torch.randn(len(labels), 16, generator=generator)

    rows = dict(
        mine=measure([(draw(labels, 1), draw(truth, 1))], labels, truth, seeds=4),
        noise=measure([(draw(labels, 0), draw(truth, 0)) for _ in range(3)], labels, truth, seeds=4),
        same=measure([(draw(labels, 1), draw(truth, 1))], labels, truth, seeds=4),
    )
    assert list(rows['mine']) == ['kNN', '1 label', '5 labels', '20 labels', 'all labels']
    assert [len(cell.draws) for cell in rows['noise'].values()] == [3, 4, 4, 4, 3]
    *verdicts, last = judge(rows, 'noise')
    assert len(verdicts) == 5 and all(text.endswith(': a gain') for text in verdicts)
    assert verdicts[2].startswith('with 5 labels a class: ') and ' %, noise ' in verdicts[2]
    assert last == 'against same: no clear difference (kNN, 1 label, 5 labels, 20 labels, all labels)'
    assert len({len(line) for line in make_table(rows).splitlines()}) == 1
    with pytest.raises(ValueError, match='NaN'):
        measure([(torch.full((90, 2), torch.nan), torch.ones(60, 2))], labels, truth)


def test_only_numbers_of_labels_that_are_fewer_than_all():
    assert list(count_labels(torch.tensor([0, 0, 1, 1, 1, 1, 1]))) == ['1 label', 'all labels']
    assert list(count_labels(torch.tensor([0, 1]))) == ['all labels']
