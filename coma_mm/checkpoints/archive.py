"""Members of the zip files that ``torch.save`` writes: stored as they are, one after another, each once."""

import os
import struct
from typing import BinaryIO, NamedTuple

MAX_MEMBERS = 500_000
_END, _END64, _LOCATOR = b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07'
_MEMBER = b'PK\x01\x02'
LOCAL = b'PK\x03\x04'  # begins a zip file


class Member(NamedTuple):
    """Place and size of a member's content, in bytes."""

    offset: int
    size: int


def list_members(file: BinaryIO) -> dict[str, Member]:
    """Return the members of a zip file by name, after the checks that make them worth reading.

    No member is packed, encrypted or there twice, and none shares bytes with another. So all members together have at
    most as many bytes as the file.

    Raises:
        ValueError: If the file is cut short, damaged or built otherwise.
    """
    size = file.seek(0, os.SEEK_END)
    directory, start = _read_directory(file, size)
    members: dict[str, Member] = {}
    spans = [(start, size)]
    position = 0
    while position < len(directory):
        name, method, stored, whole, header, position = _read_entry(directory, position)
        if method or stored != whole:
            raise ValueError('its parts are packed, where torch stores them as they are')
        if name in members:
            raise ValueError('it has a part twice')
        if len(members) >= MAX_MEMBERS:
            raise ValueError(f'it has more than {MAX_MEMBERS} parts')
        offset = _content_offset(file, header)
        spans.append((header, offset + whole))
        members[name] = Member(offset, whole)
    spans.sort()
    if any(end > following for (_, end), (following, _) in zip(spans, spans[1:])):
        raise ValueError('its parts overlap')
    return members


def _read_directory(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """Return the table of contents and where it stands."""
    file.seek(max(size - 22, 0))
    end = file.read(22)
    if len(end) < 22 or end[:4] != _END:
        raise ValueError('its end is missing')
    count, length, start = struct.unpack('<HII', end[10:20])
    if 0xFFFFFFFF in (length, start) or count == 0xFFFF:
        file.seek(max(size - 42, 0))
        locator = file.read(20)
        if locator[:4] != _LOCATOR:
            raise ValueError('its end is damaged')
        file.seek(min(struct.unpack('<Q', locator[8:16])[0], size))
        record = file.read(56)
        if len(record) < 56 or record[:4] != _END64:
            raise ValueError('its end is damaged')
        length, start = struct.unpack('<QQ', record[40:56])
    if start + length > size or length > 400 * MAX_MEMBERS:
        raise ValueError('its table of contents is damaged')
    file.seek(start)
    return file.read(length), start


def _read_entry(directory: bytes, at: int) -> tuple[str, int, int, int, int, int]:
    """Return name, method, stored and whole size, place of the header, and where the next entry starts."""
    if directory[at : at + 4] != _MEMBER or len(directory) < at + 46:
        raise ValueError('its table of contents is damaged')
    flags, method = struct.unpack_from('<HH', directory, at + 8)
    stored, whole, name_length, extra_length, comment_length = struct.unpack_from('<IIHHH', directory, at + 20)
    (header,) = struct.unpack_from('<I', directory, at + 42)
    name = directory[at + 46 : at + 46 + name_length].decode('utf-8', 'replace')
    extra = directory[at + 46 + name_length : at + 46 + name_length + extra_length]
    if flags & 1:
        raise ValueError('its parts are encrypted')
    while len(extra) >= 4:
        kind, length = struct.unpack_from('<HH', extra)
        if kind == 1:  # sizes of 64 bits, of those that are not said above, in this order
            wanted = [field == 0xFFFFFFFF for field in (whole, stored, header)]
            if length < 8 * sum(wanted) or len(extra) < 4 + 8 * sum(wanted):
                raise ValueError('its table of contents is damaged')
            values = iter(struct.unpack_from(f'<{sum(wanted)}Q', extra, 4))
            whole, stored, header = (
                next(values) if wide else field for wide, field in zip(wanted, (whole, stored, header))
            )
        extra = extra[4 + length :]
    end = at + 46 + name_length + extra_length + comment_length
    if end > len(directory):
        raise ValueError('its table of contents is damaged')
    return name, method, stored, whole, header, end


def _content_offset(file: BinaryIO, header: int) -> int:
    """Return where a member's content starts, behind its own header."""
    file.seek(header)
    local = file.read(30)
    if len(local) < 30 or local[:4] != LOCAL:
        raise ValueError('a part of it is missing')
    return header + 30 + sum(struct.unpack('<HH', local[26:30]))
