import pytest
from noise import write_noise
from PIL import Image
from processes import TINY, call, refuse
from tiny_run import save_tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkpoint, photos and things that are none."""
    folder = tmp_path_factory.mktemp('visualize')
    save_tiny(folder / 'tiny.pth')
    write_noise(folder / 'photos/colour.png', (60, 90))
    write_noise(folder / 'photos/more/grey.jpg', (60, 90), 256)
    (folder / 'broken.jpg').write_bytes((folder / 'photos' / 'more' / 'grey.jpg').read_bytes()[:300])
    (folder / 'empty').mkdir()
    return folder


def test_pictures_of_files_and_folders(folder):
    options = ['photos', 'photos/colour.png', '--max-images', '3', '--seed', '1']
    printed = call(folder, 'visualize.py', TINY, 'tiny.pth', *options, '--out', 'new/picture.png')
    expected = ['colour.png', 'grey.jpg', 'colour.png', 'average of 3', 'written to new/picture.png']
    assert [line.split(': ')[0] for line in printed.splitlines()[-5:]] == expected
    with Image.open(folder / 'new' / 'picture.png') as picture:
        assert picture.size[0] > 500


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        (['tiny.pth', 'photos', 'broken.jpg'], 'error: broken.jpg: '),
        (['tiny.pth', 'empty'], 'error: there is no image in the folder empty'),
        (['tiny.pth', 'photos/colour.pn'], 'error: there is no file photos/colour.pn'),
        (['tiny.pth', 'photos', '--cfg-options', 'train_dataloader=None'], 'draws no ComplementaryMask'),
        (['tiny.pth', 'photos', '--cfg-options', 'model.decoder.dim=32'], 'tiny.pth does not fit the model CoMA'),
        (['broken.jpg', 'photos'], 'error: broken.jpg is damaged or no checkpoint'),
    ],
)
def test_one_clear_error(monkeypatch, capfd, folder, args, error):
    assert error in refuse(monkeypatch, capfd, folder, 'visualize.py', TINY, *args)
    assert not (folder / 'reconstruction.png').exists()
