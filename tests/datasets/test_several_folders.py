"""Images from several folders, and from a list."""

import os
from pathlib import Path

import pytest
from noise import write_shade

from coma_mm.datasets import ImageFolder


@pytest.fixture
def folders(tmp_path):
    for name in ('one/a.png', 'one/train/b.png', 'two/c.png', 'two/train/d.png'):
        write_shade(tmp_path / name)
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
    listed.write_text(f'one/a.png\n\n{folders}/two/c.png\none/a.png\ntwo/c.png\n')
    assert found(str(listed)) == ['a.png', 'c.png']
    assert found([str(listed), str(folders / 'one')]) == ['a.png', 'c.png', 'b.png']


LINES = 'one/a.png\ntwo/c.png\n'


@pytest.mark.parametrize(
    'content',
    [
        LINES.encode('utf-8-sig'),
        b'one/a.png\r\ntwo/c.png\r\n',
        b'one/a.png\rtwo/c.png',
        b'  one/a.png\t \n\n \ntwo/c.png  ',
        b'# the images\none/a.png\n#two/d.png\ntwo/c.png',
    ],
)
def test_ways_to_write_a_list(folders, content):
    (folders / 'images.txt').write_bytes(content)
    assert found(str(folders / 'images.txt')) == ['a.png', 'c.png']
    (folders / 'images.txt').rename(folders / 'images.TXT')
    assert found(str(folders / 'images.TXT')) == ['a.png', 'c.png']


def test_odd_names_in_a_list(folders):
    for name in '#1.png', '"quoted".png', "'", 'a b.png', 'back\\slash.png', '{{ x }}.png', os.fsdecode(b'\xe9.png'):
        (folders / 'one' / 'a.png').rename(folders / name)
        (folders / 'images.txt').write_bytes(os.fsencode(name))
        assert found(str(folders / 'images.txt')) == [name]
        (folders / name).rename(folders / 'one' / 'a.png')


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        (b'', 'names no image'),
        (b'# none\n', 'names no image'),
        (b'x.png', 'names .*/x.png first, which is no file: write the path of an image in each line'),
        ('one/a.png\n'.encode('utf-16'), 'is no text in UTF-8, it begins with'),
        (b'\x89PNG\r\n\x1a\n\x00\x00', r'is no text .* begins with .*PNG'),
        (b'one/a.png 3\ntwo/c.png 0', 'one/a.png 3 first, which is no file: .* and nothing else'),
        (b'https://example.org/a.png', 'which is no file'),
        (b'one', 'one first, which is no file'),
        (b'\x1b[31mx.png', r'\\x1b\[31mx.png first'),
        (b'x' * 5000, 'x{200} first'),
    ],
)
def test_lists_that_are_none(folders, content, error):
    (folders / 'images.txt').write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=error) as raised:
        found(str(folders / 'images.txt'))
    assert '\n' not in str(raised.value) and len(str(raised.value)) < 1000


def test_a_file_that_is_no_list(folders):
    with pytest.raises(ValueError, match='a.png is a file, but a folder of images is wanted, or a list'):
        found(str(folders / 'one/a.png'))
