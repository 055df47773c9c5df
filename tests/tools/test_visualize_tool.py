import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from processes import TINY, call, last_line, refuse


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkpoint, photos and things that are none."""
    folder = tmp_path_factory.mktemp('visualize')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(TINY).model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'tiny.pth')
    (folder / 'photos' / 'more').mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'photos' / 'colour.png')
    Image.fromarray(pixels[..., 0]).save(folder / 'photos' / 'more' / 'grey.jpg')
    (folder / 'broken.jpg').write_bytes((folder / 'photos' / 'more' / 'grey.jpg').read_bytes()[:300])
    (folder / 'empty').mkdir()
    return folder


def test_pictures_of_files_and_folders(folder):
    options = ['photos', 'photos/colour.png', '--max-images', '3', '--seed', '1']
    printed = call(folder, 'visualize.py', TINY, 'tiny.pth', *options, '--out', 'new/picture.png')
    lines = printed.splitlines()
    assert [line.split(': ')[0] for line in lines[-5:]] == [
        'colour.png',
        'grey.jpg',
        'colour.png',
        'average of 3',
        'written to new/picture.png',
    ]
    with Image.open(folder / 'new' / 'picture.png') as picture:
        assert picture.size[0] > 500


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        (['tiny.pth', 'photos', 'broken.jpg'], 'error: broken.jpg: '),
        (['tiny.pth', 'empty'], 'error: there is no image in the folder empty'),
        (['tiny.pth', 'photos/colour.pn'], 'error: there is no file photos/colour.pn'),
        (['no.pth', 'photos'], 'there is no file no.pth'),
        (['tiny.pth', 'photos', '--cfg-options', 'train_dataloader=None'], 'draws no ComplementaryMask'),
    ],
)
def test_one_clear_error(monkeypatch, capfd, folder, args, error):
    assert error in refuse(monkeypatch, capfd, folder, 'visualize.py', TINY, *args)
    assert not (folder / 'reconstruction.png').exists()


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        (
            ['tiny.pth', 'photos', '--cfg-options', 'model.decoder.dim=32'],
            'error: tiny.pth does not fit the model CoMA of this config',
        ),
        (['broken.jpg', 'photos'], 'error: broken.jpg is damaged or no checkpoint'),
    ],
)
def test_wrong_checkpoint(folder, args, error):
    printed = call(folder, 'visualize.py', TINY, *args, succeeds=False)
    assert error in last_line(printed) and 'Traceback' not in printed
