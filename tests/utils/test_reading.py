"""Files that may come from strangers: only regular ones, of bounded size and nesting."""

import os

import pytest

from coma_mm.utils.reading import open_regular, parse_json, read_bytes, read_json, read_text
from coma_mm.utils.text import printable


@pytest.mark.parametrize('make', [os.mkfifo, lambda path: os.symlink('/dev/zero', path), os.mkdir])
def test_what_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / 'x')
    with pytest.raises((ValueError, IsADirectoryError)):
        read_bytes(tmp_path / 'x')


def test_links_are_followed_only_where_named(tmp_path):
    (tmp_path / 'file').write_text('text')
    (tmp_path / 'link').symlink_to('file')
    assert read_text(tmp_path / 'link') == 'text'
    with pytest.raises(ValueError, match='is a link'):
        open_regular(tmp_path / 'link', follow=False)


def test_limits_are_kept(tmp_path):
    (tmp_path / 'file').write_bytes(b'12345')
    assert read_bytes(tmp_path / 'file', 5) == b'12345'
    with pytest.raises(ValueError, match='more than 4 bytes'):
        read_bytes(tmp_path / 'file', 4)


@pytest.mark.parametrize('text', ['[' * 600 + ']' * 600, '{"a":' * 100_000, '[' * 100_000])
def test_deep_json_is_refused(text):
    with pytest.raises(ValueError, match='within each other'):
        parse_json(text)


def test_brackets_within_text_are_no_nesting(tmp_path):
    (tmp_path / 'file').write_bytes(b'\xef\xbb\xbf["' + b'[' * 200 + b'\\"[", [' + b'[], ' * 100 + b'[]]]')
    text, empty = read_json(tmp_path / 'file')
    assert text == '[' * 200 + '"[' and len(empty) == 101


def test_unprintable_text_is_escaped():
    assert printable('a\x1b[31m\u202eb\udcff\n') == 'a\\x1b[31m\\u202eb\\xff\n'
