"""Text from files, shown to people: names and messages that may hold anything."""

import os
import re
from collections.abc import Sequence

# Control characters (C0 but tab and newline, DEL, C1), text direction marks, and halves of surrogate pairs.
_UNSHOWABLE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


def printable(text: object) -> str:
    r"""Return text without characters that act on a terminal or cannot be encoded; each becomes an escape: ``\x1b``.

    File names that are no UTF-8 hold half surrogates (``os.fsdecode``), which print, JSON and HTML cannot encode.
    """
    return _UNSHOWABLE.sub(
        lambda found: _escape(found[0]), os.fspath(text) if isinstance(text, os.PathLike) else str(text)
    )


def one_line(text: object) -> str:
    """Return text as :func:`printable` does, with line breaks and tabs escaped too: names of files, beside others."""
    return printable(text).replace('\n', '\\n').replace('\t', '\\t')


def first_few(names: Sequence[str], count: int) -> str:
    """Return the first names, with ``...`` where there are more."""
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


def counted(number: int | float, thing: str) -> str:
    """Return a number of things: ``1 image``, ``12 images``, ``1,230 images``, ``0.5 minutes``."""
    return f'{number:,.12g} {thing}{"s" * (number != 1)}'


def three_digits(value: float) -> str:
    """Return a positive number rounded to three digits, in full: ``0.123``, ``1.23``, ``1,230``."""
    return f'{float(f"{value:.3g}"):,.10g}'


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        code -= 0xDC00
    return f'\\x{code:02x}' if code < 0x100 else f'\\u{code:04x}'
