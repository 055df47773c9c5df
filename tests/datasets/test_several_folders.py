"""Images from several folders, and from a list."""

from pathlib import Path

import pytest
from PIL import Image

from coma_mm.datasets import ImageFolder


@pytest.fixture
def folders(tmp_path):
    for name in ('one/a.png', 'one/train/b.png', 'two/c.png', 'two/train/d.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(path)
    return tmp_path


def found(*args, **kwargs):
    return [Path(path).name for path in ImageFolder(*args, **kwargs).find_files('images', ('.png',))]


def test_several_folders_each_image_once(folders):
    roots = [str(folders / name) for name in ('two', 'one', 'one/train')]
    assert found(roots) == ['c.png', 'd.png', 'a.png', 'b.png']
    assert found(roots[:2], 'train') == ['d.png', 'b.png']
    with pytest.raises(FileNotFoundError, match=f'there is no folder {folders}/three'):
        found([roots[0], str(folders / 'three')])


def test_a_list_of_paths(folders):
    listed = folders / 'images.txt'
    listed.write_text(f'one/a.png\n\n{folders}/two/c.png\n')
    assert found(str(listed)) == ['a.png', 'c.png']
    assert found([str(listed), str(folders / 'one')]) == ['a.png', 'c.png', 'b.png']


@pytest.mark.parametrize(
    ('content', 'error'), [(b'', 'names no image'), (b'x.png', 'names .*x.png first'), (b'\xff\xfe\x00', 'is no text')]
)
def test_lists_that_are_none(tmp_path, content, error):
    listed = tmp_path / 'images.txt'
    listed.write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=error):
        found(str(listed))
