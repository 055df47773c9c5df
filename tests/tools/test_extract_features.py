import errno

import numpy as np
import pytest
import torch
from mmengine.config import Config
from noise import write_noise
from PIL import Image
from processes import TINY, call, refuse, run
from tiny_run import save_tiny

NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkpoint, images of classes that need no scaling, one that is broken."""
    folder = tmp_path_factory.mktemp('extract')
    save_tiny(folder / 'tiny.pth')
    for seed, name in enumerate(('cat/b', 'cat/deeper/a', 'dog/a', 'dog/c')):
        write_noise(folder / f'photos/{name}.png', seed=seed)
    (folder / 'photos/dog/b.png').write_bytes((folder / 'photos/dog/c.png').read_bytes()[:300])
    return folder


@pytest.fixture(scope='module')
def model(folder):
    return save_tiny(folder / 'tiny.pth')


def expect(model, folder, paths, bgr=False):
    """Compute the features of images in the plainest way."""
    features = []
    for path in paths:
        pixels = np.array(Image.open(folder / path)).astype(np.float32)
        image = (pixels - NORMALISATION['mean']) / NORMALISATION['std']
        if bgr:
            image = (pixels[..., ::-1] - NORMALISATION['mean']) / NORMALISATION['std']
        with torch.no_grad():
            (last,) = model.backbone(torch.tensor(image).permute(2, 0, 1)[None].float())
        features.append(last[0].mean((1, 2)).numpy())
    return np.stack(features)


def extract(monkeypatch, cwd, *args):
    run(monkeypatch, cwd, 'extract_features.py', *args)
    with np.load(cwd / 'features.npz') as arrays:
        return dict(arrays)


def test_a_folder_of_classes(folder, model, tmp_path):
    options = '--out', tmp_path / 'f.npz', '--batch-size', 2, '--pool', 'mean'
    printed = call(folder, 'extract_features.py', TINY, 'tiny.pth', 'photos', *options)
    with np.load(tmp_path / 'f.npz') as arrays:
        arrays = dict(arrays)
    assert arrays['paths'].tolist() == [f'photos/{name}.png' for name in ('cat/b', 'cat/deeper/a', 'dog/a', 'dog/c')]
    assert arrays['classes'].tolist() == ['cat', 'dog'] and arrays['labels'].tolist() == [0, 0, 1, 1]
    assert arrays['features'].dtype == np.float32
    np.testing.assert_allclose(arrays['features'], expect(model, folder, arrays['paths']), rtol=1e-4, atol=1e-5)
    assert 'skipped photos/dog/b.png: ' in printed
    assert printed.count('skipped') == 1 and '4 images of 2 classes, 64 features each' in printed
    assert [path.name for path in tmp_path.iterdir()] == ['f.npz']


def test_files_have_no_labels_and_maps_can_stay_whole(folder, model, tmp_path, monkeypatch):
    images = [folder / 'photos/cat/b.png', folder / 'photos/dog/a.png', folder / 'photos/dog']
    arrays = extract(monkeypatch, tmp_path, TINY, folder / 'tiny.pth', *images, '--pool', 'flat', '--size', 96)
    assert set(arrays) == {'features', 'paths'}
    assert arrays['features'].shape == (4, 64 * 6 * 6)


DETECTOR = """
default_scope = 'mmdet'
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', mean={mean}, std={std}, bgr_to_rgb={bgr_to_rgb}),
    backbone=dict(**{backbone}, out_indices=(0, 1, 2, 3)),
)
train_dataloader = dict(dataset=dict(pipeline=[dict(type={loading!r})]))
"""


@pytest.mark.parametrize(
    ('loading', 'bgr_to_rgb', 'bgr'),
    [('LoadImageFromFile', True, False), ('coma_mm.LoadImage', False, False), ('LoadImageFromFile', False, True)],
)
def test_channels_are_those_that_the_config_trains_on(folder, model, tmp_path, monkeypatch, loading, bgr_to_rgb, bgr):
    backbone = Config.fromfile(TINY).model.backbone.to_dict()
    text = DETECTOR.format(**NORMALISATION, bgr_to_rgb=bgr_to_rgb, backbone=backbone, loading=loading)
    (tmp_path / 'detector.py').write_text(text)
    arrays = extract(monkeypatch, tmp_path, 'detector.py', folder / 'tiny.pth', folder / 'photos/cat', '--pool', 'mean')
    expected = expect(model, folder, arrays['paths'], bgr)
    np.testing.assert_allclose(arrays['features'], expected, rtol=1e-4, atol=1e-5)


def test_nothing_half_written_is_left(folder, tmp_path, monkeypatch, capfd):
    (tmp_path / 'features.npz').write_bytes(b'of another run')

    def fill_the_disk(file, **arrays):
        file.write_bytes(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(np, 'savez', fill_the_disk)
    args = TINY, folder / 'tiny.pth', folder / 'photos/cat', '--pool', 'mean', '--force'
    assert 'No space left' in refuse(monkeypatch, capfd, tmp_path, 'extract_features.py', *args)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'of another run']
