"""Train a classifier on labelled images, from pre-trained weights; write its weights and a report."""

from argparse import Namespace

from ..settings import FinetuneSettings
from . import types
from .parser import ArgumentParser, add_settings
from .runs import add_run_options, check_run, train


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm finetune', description=__doc__)
    parser.add_argument(
        'weights',
        nargs='?',
        type=types.weights,
        help='folder of a run, a file of weights that states its architecture, or an address such as '
        'coma_mm://dyvit-p_cifar10',
    )
    parser.add_argument(
        'data',
        nargs='?',
        metavar='labelled_folder',
        type=types.folder,
        help='a sub-folder of images for each class, or train and val with such sub-folders',
    )
    add_run_options(parser)
    add_settings(parser, FinetuneSettings)
    args = parser.parse_args()
    if not args.resume and args.data is None:
        parser.error('give weights, a folder of labelled images, and --out')
    check_run(parser, args)
    return args


def main() -> None:
    """Fine-tune."""
    args = parse_args()
    train('finetune', args, f'fine-tuning {args.weights} on {args.data}')
