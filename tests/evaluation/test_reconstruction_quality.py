import math

import pytest
import torch

from coma_mm.evaluation import mean_colour_baseline, psnr


def baseline_by_hand(image, mask, s):
    """The definition, unit by unit."""
    rows, columns = mask.shape
    colour = {
        (y, x): image[:, y * s : y * s + s, x * s : x * s + s].mean((1, 2)) for y in range(rows) for x in range(columns)
    }
    filled = torch.empty_like(image)
    for y, x in colour:
        seen = [unit for unit in colour if mask[unit] != mask[y, x]]
        near = [unit for unit in seen if max(abs(unit[0] - y), abs(unit[1] - x)) == 1]
        value = torch.stack([colour[unit] for unit in near or seen]).mean(0)
        filled[:, y * s : y * s + s, x * s : x * s + s] = value[:, None, None]
    return filled


@pytest.mark.parametrize('hidden', [1, 7, 15, 23])
def test_baseline_follows_its_definition(hidden):
    # 1 and 23 of 24 leave units without a visible neighbour.
    torch.manual_seed(hidden)
    images = torch.rand(3, 3, 16, 24, dtype=torch.float64)
    mask = torch.stack([(torch.randperm(24) < hidden).view(4, 6) for _ in images])
    filled = mean_colour_baseline(images, mask, 4)
    for image, its_mask, its_filled in zip(images, mask, filled, strict=True):
        torch.testing.assert_close(its_filled, baseline_by_hand(image, its_mask, 4))


def test_baseline_of_one_colour_is_perfect_and_batches_do_not_mix():
    images = torch.tensor([0.2, 0.9])[:, None, None, None].expand(2, 3, 8, 8)
    mask = torch.eye(2, dtype=torch.bool).expand(2, 2, 2)
    torch.testing.assert_close(mean_colour_baseline(images, mask, 4), images)


def test_psnr():
    images = torch.zeros(3, 3, 5, 7)
    others = images + torch.tensor([0.1, 0.5, 0.0])[:, None, None, None]
    values = psnr(images, others)
    torch.testing.assert_close(values[:2], torch.tensor([20.0, -20 * math.log10(0.5)]))
    assert values[2] == 100  # perfect, and still a number that can be averaged
