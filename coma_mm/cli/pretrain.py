"""Pre-train a DyViT or a ViT on your own images, without labels; write weights, a picture and a report."""

from argparse import Namespace

from ..settings import PretrainSettings
from ..utils.stopping import nothing_to_lose
from . import types
from .parser import ArgumentParser, add_settings
from .runs import add_run_options, check_run, way_on
from .streams import announce


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm pretrain', description=__doc__)
    parser.add_argument('data', nargs='*', type=types.images, help='folders of images, or .txt files of their paths')
    add_run_options(parser)
    add_settings(parser, PretrainSettings)
    args = parser.parse_args()
    if not args.data and not args.resume:
        parser.error('name a folder of images')
    check_run(parser, args)
    return args


def main() -> None:
    """Pre-train."""
    args = parse_args()
    announce(f'going on in {args.out}' if args.resume else f'pre-training on {", ".join(args.data)}')

    with nothing_to_lose():
        from ..pretraining import pretrain

    with way_on('pretrain', args.out):
        settings = {name: value for name, value in vars(args).items() if name != 'traceback'}
        pretrain(**{**settings, 'data': args.data or None})
