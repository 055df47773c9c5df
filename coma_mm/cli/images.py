"""How commands read images: as the run did, or as the weights' file says."""

import json
from argparse import Namespace

from ..datasets.loading import read_channels
from ..engine.common import read_loading
from ..export.source import find_normalisation
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


def image_settings(cfg: dict, checkpoint: dict, args: Namespace) -> dict:
    """Return ``channels``, ``value_range`` and ``max_pixels`` as :func:`.read_image` takes them.

    Args:
        cfg: The config; its pipeline decides, or else the channels that its backbone takes.
        checkpoint: What it says of ``value_range`` holds if the config says nothing.
        args: Its ``max_pixels``, if there is one.

    Raises:
        ValueError: If they are not such as images can be read by.
    """
    settings = read_loading(cfg)
    known = {name: json.loads(value) for name, value in find_normalisation(checkpoint, None).items()}
    if settings.get('value_range') is None and known.get('channels') == settings['channels']:
        settings['value_range'] = known.get('value_range')
    if args.max_pixels is not None:
        settings['max_pixels'] = args.max_pixels
    settings['channels'], settings['value_range'] = read_channels(settings['channels'], settings.get('value_range'))
    return settings
