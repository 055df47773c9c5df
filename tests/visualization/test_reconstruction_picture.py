import sys

import numpy as np
import pytest
import torch
from PIL import Image

from coma_mm.evaluation import Reconstructions, mean_colour_baseline, reconstruct_images
from coma_mm.models.pixel_target import PixelTarget
from coma_mm.visualization import draw_reconstructions
from coma_mm.visualization.reconstruction import GREY


@pytest.fixture
def reconstructions():
    torch.manual_seed(0)
    originals = torch.rand(2, 3, 32, 48)
    mask = torch.rand(2, 4, 6) < 0.5
    return Reconstructions(originals, originals * 0.9, mask, unit_size=8, errors=torch.ones(2, 24))


def colours(path):
    return {tuple(colour) for colour in np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)}


def open_figures():
    return sys.modules['matplotlib.pyplot'].get_fignums() if 'matplotlib.pyplot' in sys.modules else []


def test_picture(reconstructions, tmp_path):
    before = open_figures()
    path = tmp_path / 'new' / 'picture.png'
    names = ['one.png', 'a name that is much too long for its place.png']
    array = draw_reconstructions(reconstructions, path, names)
    with Image.open(path) as picture:
        width, height = picture.size
        assert np.array_equal(np.asarray(picture.convert('RGB')), array)  # what loggers get
    assert array.dtype == np.uint8 and array.shape == (height, width, 3)
    assert width > height > 200
    assert {(round(GREY * 255),) * 3, (255, 255, 255)} <= {tuple(int(c) for c in colour) for colour in colours(path)}
    assert [file.name for file in path.parent.iterdir()] == ['picture.png']  # nothing half-written stays

    draw_reconstructions(reconstructions, path)  # without names, over an earlier one
    # The state of pyplot belongs to whoever uses the process.
    assert open_figures() == before


def test_a_failure_leaves_the_earlier_picture(reconstructions, tmp_path):
    path = tmp_path / 'picture.png'
    path.write_bytes(b'earlier')
    with pytest.raises(ValueError, match='1 names for 2 images'):
        draw_reconstructions(reconstructions, path, ['too few'])
    assert path.read_bytes() == b'earlier' and len(list(tmp_path.iterdir())) == 1


def test_of_normalised_units_the_given_means_stand_apart():
    """A model that predicts nothing adds 0 dB to the means, which have a column; one that predicts some of it more."""
    images = torch.randint(250, (2, 3, 16, 16), dtype=torch.uint8)
    model, mask = Model(), torch.tensor([[[0, 1], [1, 0]]] * 2).bool()
    before = reconstruct_images(model, images, mask)
    model.target = PixelTarget(8)
    for fraction, gain in ((0, 0.0), (0.5, 6.0)):
        model.predict_units = lambda inputs, mask, fraction=fraction: fraction * model.target(inputs)
        result = reconstruct_images(model, images, mask)
        said = result.summary()
        assert said.endswith(f': {gain:+.1f} dB') and 'mean brightness of each unit alone' in said
    assert result.means[0, :, :8, :8].flatten(1).std(1).max() < 1e-6
    assert draw_reconstructions(result).shape[1] > draw_reconstructions(before).shape[1] + 150  # pixels, of a column


def test_report(reconstructions):
    reconstructions.assembled = reconstructions.originals + 0.1
    lines = reconstructions.report(['one', 'two']).splitlines()
    assert [line.split(': ')[0] for line in lines] == ['one', 'two', 'average of 2']
    baseline = reconstructions.baseline.mean()
    expected = f'reconstruction 20.0 dB, mean-colour baseline {baseline:.1f} dB: {20 - baseline:+.1f} dB'
    assert lines[-1] == f'average of 2: {expected}'


class Model(torch.nn.Module):
    """Predicts the inputs' own values, shifted."""

    unit_size = 8
    target = PixelTarget(8, norm_pix=False)

    class data_preprocessor:  # noqa: N801
        mean, std = torch.tensor([100.0, 110, 120])[:, None, None], torch.tensor([50.0, 60, 70])[:, None, None]

        def __new__(cls, data):
            return dict(inputs=(data['inputs'].float() - cls.mean) / cls.std)

    def predict_units(self, inputs, mask):
        return self.target(inputs + 1 / self.data_preprocessor.std)


def test_images_come_back_from_normalised_space():
    images = torch.randint(250, (2, 3, 16, 16), dtype=torch.uint8)
    result = reconstruct_images(Model(), images, torch.zeros(2, 2, 2, dtype=torch.bool))
    torch.testing.assert_close(result.originals, images / 255)
    torch.testing.assert_close(result.assembled, (images + 1.0) / 255)


@pytest.mark.parametrize('channels', [1, 2, 4])
def test_any_number_of_channels(reconstructions, tmp_path, channels):
    three = reconstructions.originals
    path = tmp_path / 'picture.png'
    originals = torch.cat([three, 1 - three[:, :1]], 1)[:, :channels]
    r = Reconstructions(originals, originals * 0.9, reconstructions.mask, 8, reconstructions.errors)
    assert r.baseline.isfinite().all() and r.baseline.shape == (2,)
    draw_reconstructions(r, path)
    saturation = max(max(colour) - min(colour) for colour in picture_of_originals(path))
    assert (saturation > 100) == (channels == 4)
    # The baseline treats channels alike, and one by one.
    alone = mean_colour_baseline(originals[:, :1], r.mask, 8)
    assert torch.equal(mean_colour_baseline(originals, r.mask, 8)[:, :1], alone)


def picture_of_originals(path):
    """Return the colours left of the first gap between columns: labels and originals."""
    with Image.open(path) as picture:
        width, height = picture.size
        part = np.asarray(picture.convert('RGB').crop((0, 0, width // 4, height))).astype(int)
    return part.reshape(-1, 3).tolist()
