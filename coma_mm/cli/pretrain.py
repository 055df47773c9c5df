"""Pre-train a DyViT or a ViT on your own images, without labels; write weights, a picture and a report."""

from argparse import Namespace

from ..settings import PretrainSettings
from . import types
from .parser import ArgumentParser, add_settings
from .runs import add_run_options, check_run, train


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm pretrain', description=__doc__)
    parser.add_argument('data', nargs='*', type=types.images, help='folders of images, or .txt files of their paths')
    add_run_options(parser)
    add_settings(parser, PretrainSettings)
    args = parser.parse_args()
    if not args.data and not args.resume:
        parser.error('name a folder of images')
    if args.crop_scale and args.crop_scale[0] > args.crop_scale[1]:
        parser.error('argument --crop-scale: give the smaller share first')
    check_run(parser, args)
    return args


def main() -> None:
    """Pre-train."""
    args = parse_args()
    what = f'pre-training on {", ".join(args.data)}'
    args.data = args.data or None
    train('pretrain', args, what)
