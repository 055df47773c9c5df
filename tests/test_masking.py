import pytest

from coma_mm.masking import num_hidden, unit_grid


@pytest.mark.parametrize(
    'num_units, ratio, hidden',
    [(49, 0.6, 29), (49, 0.5, 24), (51, 0.5, 26)],  # the paper's; halves round to the even neighbour
)
def test_num_hidden(num_units, ratio, hidden):
    assert num_hidden(num_units, ratio) == hidden


@pytest.mark.parametrize(
    'num_units, ratio, words',
    [
        *((49, ratio, f'mask ratio of {ratio}') for ratio in (-0.1, 0, 1, 1.5, float('nan'))),
        *(
            (units, ratio, f'{ratio} over {units} units leaves a branch')
            for units, ratio in ((1, 0.6), (4, 0.1), (4, 0.9))
        ),
    ],
)
def test_ratios_that_cannot_be(num_units, ratio, words):
    with pytest.raises(ValueError, match=words):
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
