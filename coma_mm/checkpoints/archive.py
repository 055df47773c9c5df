"""Members of the zip files that ``torch.save`` writes: stored as they are, one after another, each once."""

import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile

MAX_MEMBERS = 500_000
MAX_TABLE = 400 * MAX_MEMBERS  # bytes of the table of contents
LOCAL = b'PK\x03\x04'  # begins a zip file


class Member(NamedTuple):
    """Place and size of a member's content, in bytes."""

    offset: int
    size: int


class _Table:
    """A file from which ``zipfile`` reads no table of contents beyond the limit."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.seek: Callable[..., int] = file.seek
        self.tell: Callable[[], int] = file.tell

    def read(self, size: int = -1) -> bytes:
        if size > MAX_TABLE:
            raise ValueError(f'its table of contents has {size} bytes')
        return self.file.read(size)


def list_members(file: BinaryIO) -> dict[str, Member]:
    """Return the members of a zip file by name, after the checks that make them worth reading.

    No member is packed, encrypted or there twice. All members together have at most as many bytes as the file.
    """
    try:
        with ZipFile(_Table(file)) as archive:  # which is all that it reads
            entries, end = archive.infolist(), archive.start_dir
    # NotImplementedError: what zipfile raises of a version of zip files that it does not know
    except (BadZipFile, NotImplementedError, OSError, struct.error) as error:
        raise ValueError(f'its table of contents is damaged ({error})') from None
    if len(entries) > MAX_MEMBERS:
        raise ValueError(f'it has more than {MAX_MEMBERS} parts')
    members = {}
    for entry in entries:
        if entry.flag_bits & 1:
            raise ValueError('its parts are encrypted')
        if entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError('its parts are packed, where torch stores them as they are')
        if entry.filename in members:
            raise ValueError('it has a part twice')
        members[entry.filename] = Member(_content_offset(file, entry.header_offset), entry.file_size)
    if sum(size for _, size in members.values()) > end or any(sum(member) > end for member in members.values()):
        raise ValueError('its parts overlap')
    return members


def _content_offset(file: BinaryIO, header: int) -> int:
    """Return where a member's content starts, behind its own header."""
    file.seek(max(header, 0))
    local = file.read(30)
    if len(local) < 30 or local[:4] != LOCAL:
        raise ValueError('a part of it is missing')
    return header + 30 + sum(struct.unpack('<HH', local[26:30]))
