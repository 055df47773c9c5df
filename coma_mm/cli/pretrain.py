"""Pre-train a DyViT on your own images, without labels: a folder in, weights, a picture and a report out."""

import signal
from argparse import Namespace
from pathlib import Path

from ..settings import PretrainSettings
from ..utils.paths import quoted_path
from ..utils.stopping import Stopped, nothing_to_lose
from ..utils.text import one_line
from ..version import __version__
from . import types
from .parser import ArgumentParser, add_settings

OBEYED = ('data', 'out', 'resume', 'overwrite', 'serve', 'traceback')  # the others are settings of a new run


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm pretrain', description=__doc__)
    parser.add_argument('data', nargs='*', type=types.images, help='folders of images, or .txt files of their paths')
    parser.add_argument('--out', required=True, type=types.output_folder, help="the run's folder")
    add_settings(parser, PretrainSettings)
    parser.add_argument(
        '--serve',
        type=types.port,
        nargs='?',
        const=8000,
        metavar='PORT',
        help='show the report at http://localhost:8000',
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        '--resume', action='store_true', help='go on; all settings come from the run in --out, so give no others'
    )
    again.add_argument('--overwrite', action='store_true', help='start anew in a folder that has a run in it')
    args = parser.parse_args()
    if not args.data and not args.resume:
        parser.error('name a folder of images')
    if args.data and args.resume:
        parser.error('--resume takes all settings from the run in --out: leave the images out')
    given = [name for name, value in vars(args).items() if value is not None and name not in OBEYED]
    if args.resume and given:
        options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
        parser.error(f'--resume takes all settings from the run in --out: leave {options} out')
    return args


def main() -> None:
    """Pre-train."""
    args = parse_args()
    what = f'going on in {args.out}' if args.resume else f'pre-training on {", ".join(args.data)}'
    print(one_line(f'coma_mm {__version__}: {what}; loading PyTorch ...'), flush=True)

    with nothing_to_lose():
        from ..checkpoints.finding import find_checkpoints
        from ..engine import RunInterrupted
        from ..pretraining import pretrain

    try:
        settings = {name: value for name, value in vars(args).items() if name != 'traceback'}
        pretrain(**{**settings, 'data': args.data or None})
    except (KeyboardInterrupt, RunInterrupted) as end:
        stop = Stopped(end.code - 128 if isinstance(end, (RunInterrupted, Stopped)) else signal.SIGINT)
        if find_checkpoints(Path(args.out)):
            stop.way_on = (
                f'; to go on from the last checkpoint: coma-mm pretrain --out {quoted_path(args.out)} --resume'
            )
        else:
            stop.way_on = ' before there was a checkpoint; the same command starts anew'
        raise stop from end
