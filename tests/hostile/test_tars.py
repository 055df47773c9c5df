"""Shards of strangers: each member is read right, or it, or the shard, is named; an index is believed if it can be."""

import json
import logging
import os
import tarfile

import pytest
from tars import picture, shades, write_tar

from coma_mm.datasets import ImageShards, LoadImage
from coma_mm.datasets.shards import index_shard

BLOCK = tarfile.BLOCKSIZE


@pytest.fixture
def shard(tmp_path):
    return write_tar(tmp_path / 'a.tar', *((f'{i}.png', picture(i)) for i in range(1, 5)))


def fields(**values):
    """The bytes of a header with some fields written anew, and its checksum."""

    def change(header):
        header = bytearray(header)
        for place, value in values.items():
            start = dict(size=124, kind=156, magic=257)[place]
            header[start : start + len(value)] = value
        header[148:156] = b' ' * 8
        header[148:156] = b'%06o\0 ' % sum(header)
        return bytes(header)

    return change


def second(change):
    """Change the second of four headers; each member has one and one block of data."""

    def damage(data):
        return data[: 2 * BLOCK] + change(data[2 * BLOCK : 3 * BLOCK]) + data[3 * BLOCK :]

    return damage


DAMAGED = 'a.tar is damaged at byte 1024, behind 1 members: there is no header, but there are data .at byte'
NO_TAR = 'a.tar is no whole, uncompressed tar file'


@pytest.mark.parametrize(
    ('damage', 'error'),
    [
        (second(lambda header: bytes([header[0] ^ 1]) + header[1:]), DAMAGED),
        (second(lambda header: b'\xff' * BLOCK), DAMAGED),
        (second(lambda header: bytes(BLOCK)), DAMAGED),
        (second(lambda header: header[:100]), NO_TAR + '|' + DAMAGED),
        (second(fields(size=b'77777777777\0')), NO_TAR),
        (second(fields(size=b'\xff' * 12)), NO_TAR),  # -1 to some
        (second(fields(size=b'\xff' * 8 + b'\xff\xff\xf8\x00')), NO_TAR),  # back to the header: round and round
        (second(fields(size=b'\x80' + b'\xff' * 11)), NO_TAR),
        (second(fields(kind=b'L', size=b'77777777777\0')), NO_TAR),
        (lambda data: data + data, 'several archives put one after the other: unpack them'),
        (lambda data: data + b'x', 'is damaged at byte 4096, behind 4 members'),
        (lambda data: data[:2000], NO_TAR),
        (lambda data: b'', NO_TAR),
        (lambda data: b'x' * 5000, NO_TAR),
    ],
)
def test_damaged(damage, error, shard):
    shard.write_bytes(damage(shard.read_bytes()))
    for _ in range(2):  # and no index is left that would hide it
        with pytest.raises(ValueError, match=error):
            shades(shard.parent)
    assert [path.name for path in shard.parent.iterdir()] == ['a.tar']


def test_ends(shard, caplog):
    whole = shard.read_bytes()
    for end in whole[4096:5120], whole[4096:], bytes(3 * 2**20), bytes(512), b'':
        shard.write_bytes(whole[:4096] + end)
        os.utime(shard, ns=(0, len(end)))
        assert shades(shard.parent) == [1, 2, 3, 4]


@pytest.mark.parametrize('format', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names(format, tmp_path):
    """Names are names: no file is opened or written by them."""
    names = ['../../out.png', '/etc/out.png', 'b/../../out.png', 'same.png', 'same.png', f'{"x" * 90}/{"y" * 60}.png']
    if format != tarfile.USTAR_FORMAT:
        names += ['long/' * 100 + 'z.png', '\u00fc\n\x1b[2J.png', 'bytes\udcff.png']
    members = [(name, picture(i % 12)) for i, name in enumerate(names)]
    write_tar(tmp_path / 'a.tar', *members, format=format)
    for _ in range(2):  # from the headers, and from the index
        assert shades(tmp_path) == list(range(len(names)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.tar', 'a.tar.index.json']


def test_links_and_others(tmp_path, caplog):
    write_tar(
        tmp_path / 'a.tar',
        ('folder', dict(type=tarfile.DIRTYPE)),
        ('folder/1.png', picture(1)),
        ('hard.png', dict(type=tarfile.LNKTYPE, linkname='folder/1.png')),
        ('folder/soft.png', dict(type=tarfile.SYMTYPE, linkname='../later.png')),
        ('later.png', picture(2)),
        ('out.png', dict(type=tarfile.SYMTYPE, linkname='/etc/passwd')),
        ('up.png', dict(type=tarfile.LNKTYPE, linkname='../../secret.png')),
        ('self.png', dict(type=tarfile.SYMTYPE, linkname='self.png')),
        ('fifo.png', dict(type=tarfile.FIFOTYPE)),
        ('zero.png', dict(type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    )
    with caplog.at_level(logging.WARNING):
        files = index_shard(tmp_path / 'a.tar')
    assert [name for name, _, _ in files] == ['folder/1.png', 'hard.png', 'folder/soft.png', 'later.png']
    assert shades(tmp_path) == [1, 1, 2, 2]


def test_nothing_and_sparse_members_are_named(tmp_path):
    (tmp_path / 'folder').mkdir()
    with open(tmp_path / 'folder/holes.png', 'wb') as file:
        file.write(picture(5))
        file.truncate(2**22)
    assert not os.system(f'tar -C {tmp_path}/folder --sparse -cf {tmp_path}/sparse.tar holes.png')
    assert index_shard(tmp_path / 'sparse.tar') == []
    (tmp_path / 'sparse.tar').unlink()
    write_tar(tmp_path / 'a.tar', ('empty.png', b''), ('1.png', picture(1)))
    dataset = ImageShards(str(tmp_path), pipeline=[LoadImage()], test_mode=True)
    with pytest.raises(ValueError, match='a.tar/empty.png: cannot identify'):
        dataset[0]


# Places of members that cannot be, in an index whose stamp is right, and files that are no index.
PLACES = [
    *([['1.png', *place]] for place in ((0, 10**9), (-512, 512), (4096, -1), (10**30, 1))),
    *([['1.png', *place]] for place in ((512.0, 60), (True, 60), (512,), ())),
    *([[1, 512, 60]], [None], {'1.png': 512}, 'nothing', 5, [['1.png', 512, 60]] * 100),
    *([['x' * 20_000, 512, 60]], [[[[]], 512, 60]]),
]
NONSENSE = b'[' * 5000, b'\xff\xfe', b'', b'[[1,2],[]]', b'{}', b'[]', b'5', b'NaN'


@pytest.mark.parametrize('content', [*PLACES, *NONSENSE])
def test_index(content, shard, caplog):
    expected = index_shard(shard)
    index = shard.with_name('a.tar.index.json')
    stamp = json.loads(index.read_text())[0]
    index.write_bytes(content if isinstance(content, bytes) else json.dumps([stamp, content]).encode())
    assert index_shard(shard) == expected
    assert index_shard(shard) == expected
    if content in NONSENSE:  # perhaps a file of the user's
        assert index.read_bytes() == content
    else:
        assert json.loads(index.read_text())[0] == stamp


def test_no_files(shard, tmp_path):
    """A pipe blocks nothing: neither as a shard nor as an index."""
    os.mkfifo(tmp_path / 'fifo.tar')
    os.symlink('/dev/zero', tmp_path / 'zero.tar')
    os.mkfifo(tmp_path / 'a.tar.index.json')
    assert shades(tmp_path) == [1, 2, 3, 4]
    with pytest.raises(ValueError, match='fifo.tar is no regular file'):
        index_shard(tmp_path / 'fifo.tar')
