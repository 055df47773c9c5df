"""Options of commands that read images."""

from . import types
from .parser import ArgumentParser


def add_max_pixels(parser: ArgumentParser) -> None:
    """Add ``--max-pixels``."""
    parser.add_argument(
        '--max-pixels',
        type=types.max_pixels,
        metavar='N',
        help='height times width beyond which an image is refused (10^8)',
    )
