"""Images from several folders, and from a list."""

import codecs
import os
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
    listed.write_text(f'one/a.png\n\n{folders}/two/c.png\none/a.png\ntwo/c.png\n')
    assert found(str(listed)) == ['a.png', 'c.png']
    assert found([str(listed), str(folders / 'one')]) == ['a.png', 'c.png', 'b.png']


LINES = 'one/a.png\ntwo/c.png\n'
UTF16_BE = codecs.BOM_UTF16_BE + LINES.encode('utf-16-be')


@pytest.mark.parametrize(
    'content',
    [
        LINES.encode('utf-8-sig'),
        LINES.encode('utf-16'),  # of PowerShell's `>`
        UTF16_BE,
        LINES.encode('utf-32'),
        b'one/a.png\r\ntwo/c.png\r\n',
        b'one/a.png\rtwo/c.png',
        b'  one/a.png\t \n\n \ntwo/c.png  ',
        b'one\\a.png\ntwo\\c.png',
        b'one/a.png\ntwo\\c.png',
        b'.\\one\\..\\one\\a.png\r\n"two\\c.png"',
        b'"one/a.png"\n\'two/c.png\'',
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
        (b'x.png', "names 'x.png' first, and there is no .*x.png: write"),
        (b'\xff\xfe\x00', 'is no text .*truncated data in utf-16.*: save it as UTF-8'),
        (b'\x89PNG\r\n\x1a\n\x00\x00', r'is no text .*zero bytes.* begins with .*PNG'),
        ('one/a.png\n'.encode('utf-16-le'), 'is no text .*UTF-16 without a byte order mark'),
        (b'one/a.png\0two/c.png\0', '`find -print0`'),
        (b'one/a.png 3\ntwo/c.png 0', 'which is more than a path: leave out what follows .one/a.png.'),
        (b'one/a.png\tcat', 'leave out what follows .one/a.png., such as labels'),
        (b'one/a.png,0', 'leave out what follows .one/a.png.'),
        (b'"one/a.png";"cat"', 'leave out what follows .one/a.png.'),
        (b'n01440764/x_1.JPEG 0', 'leave out what follows .n01440764/x_1.JPEG.'),
        (b'C:\\photos\\a.png', 'which Windows would find, but not this machine'),
        (b'\\\\server\\a.png', 'which Windows would find'),
        (b'https://example.org/a.png', 'an address, .*: download them'),
        (b's3://bucket/a.png', 'an address'),
        (b'one', "'one' first, a folder"),
        (b'\x1b[31mx.png', r"'\\+x1b\[31mx.png' first"),
        (b'x' * 5000, 'x{200}. first'),
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
