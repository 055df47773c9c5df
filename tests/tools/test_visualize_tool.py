import pytest
from noise import write_noise
from PIL import Image
from processes import TINY, call
from tiny_run import save_tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkpoint and photos."""
    folder = tmp_path_factory.mktemp('visualize')
    save_tiny(folder / 'tiny.pth')
    write_noise(folder / 'photos/colour.png', (60, 90))
    write_noise(folder / 'photos/more/grey.jpg', (60, 90), 256)
    return folder


def test_pictures_of_files_and_folders(folder):
    options = ['photos', 'photos/colour.png', '--max-images', '3', '--seed', '1']
    printed = call(folder, 'visualize.py', TINY, 'tiny.pth', *options, '--out', 'new/picture.png')
    expected = ['colour.png', 'grey.jpg', 'colour.png', 'average of 3', 'written to new/picture.png']
    assert [line.split(': ')[0] for line in printed.splitlines()[-5:]] == expected
    with Image.open(folder / 'new' / 'picture.png') as picture:
        assert picture.size[0] > 500
