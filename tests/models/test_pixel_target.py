import pytest
import torch

from coma_mm.models.pixel_target import PixelTarget, unit_errors


@pytest.mark.parametrize('norm_pix', [False, True])
def test_predicting_the_target_gives_back_the_image(norm_pix):
    image = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    target = PixelTarget(16, norm_pix)
    torch.testing.assert_close(target.to_image(target(image), image), image)


def test_normalised_units_have_mean_zero_and_deviation_one():
    image = torch.randn(2, 3, 32, 48) * 40 + 100
    units = PixelTarget(16)(image)
    assert units.shape == (2, 6, 3 * 16 * 16)
    torch.testing.assert_close(units.mean(-1), torch.zeros(2, 6), atol=1e-4, rtol=0)
    torch.testing.assert_close(units.std(-1), torch.ones(2, 6), atol=1e-4, rtol=0)


def test_plain_units_are_the_pixels():
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(PixelTarget(16, False)(image)[0, 1], image[0, :, :16, 16:].flatten())


def test_errors_are_computed_in_float32():
    prediction, target = torch.full((1, 1, 4), 300.0, dtype=torch.float16), torch.zeros(1, 1, 4, dtype=torch.float16)
    assert unit_errors(prediction, target).tolist() == [[90000.0]]
