import pytest

from coma_mm.masking import num_hidden, unit_grid


def test_num_hidden_is_the_paper_s_29_of_49():
    assert num_hidden(49, 0.6) == 29


@pytest.mark.parametrize('num_units, hidden', [(49, 24), (51, 26)])
def test_halves_round_to_the_even_neighbour(num_units, hidden):
    assert num_hidden(num_units, 0.5) == hidden


@pytest.mark.parametrize('ratio', [-0.1, 0, 1, 1.5, float('nan')])
def test_ratio_outside_0_and_1(ratio):
    with pytest.raises(ValueError, match=f'mask ratio of {ratio}'):
        num_hidden(49, ratio)


@pytest.mark.parametrize('num_units, ratio', [(1, 0.6), (4, 0.1), (4, 0.9)])
def test_a_branch_without_units(num_units, ratio):
    with pytest.raises(ValueError, match=f'{ratio} over {num_units} units leaves a branch without units'):
        num_hidden(num_units, ratio)


def test_unit_grid():
    assert unit_grid((224, 96), 32) == (7, 3)


@pytest.mark.parametrize(
    'size, nearest',
    [
        ((200, 224), r'\(192, 224\) or \(224, 224\)'),
        ((33, 95), r'\(32, 64\) or \(64, 96\)'),
        ((20, 32), r'\(32, 32\)$'),
    ],
)
def test_the_nearest_sizes_are_named(size, nearest):
    with pytest.raises(ValueError, match=f'no whole number of 32 px units: use {nearest}'):
        unit_grid(size, 32)
