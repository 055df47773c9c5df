"""Pre-train a DyViT on your own images, without labels: a folder in, weights, a picture and a report out."""

import signal
from argparse import Namespace
from pathlib import Path

from ..utils.paths import quoted_path
from ..utils.stopping import Stopped, nothing_to_lose
from ..utils.text import one_line
from ..version import __version__
from . import types
from .parser import ArgumentParser

OBEYED = ('data', 'out', 'resume', 'overwrite', 'serve', 'traceback')  # the others are settings of a new run


def parse_args() -> Namespace:
    """Parse the options; imports nothing that takes time."""
    parser = ArgumentParser(prog='coma-mm pretrain', description=__doc__)
    parser.add_argument('data', nargs='*', type=types.images, help='folders of images, or .txt files of their paths')
    parser.add_argument('--out', required=True, type=types.output_folder, help="the run's folder")
    parser.add_argument('--arch', type=types.arch, help='pico, tiny, small, base or large (tiny)')
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--epochs', type=types.epochs, help='passes over the images (from their number: 400 for 10,000)'
    )
    length.add_argument('--steps', type=types.steps, help='steps of the optimiser')
    length.add_argument('--minutes', type=types.minutes, help='from the start of this command to its end')
    parser.add_argument('--size', type=types.image_size, help='side of the crops in pixels (224)')
    parser.add_argument('--batch-size', type=types.batch_size, help='images of a step (from the memory there is)')
    parser.add_argument('--workers', type=types.workers, help='processes that load images (from the cores there are)')
    parser.add_argument(
        '--method',
        choices=types.METHODS,
        help='masked autoencoding, CoMA, or both halves of a photo aligned; docs/pretraining.md has the default',
    )
    parser.add_argument('--lr', type=types.learning_rate, help='peak of the learning rate (from arch and batch)')
    parser.add_argument('--mask-ratio', type=types.mask_ratio, metavar='R', help='hidden share of an image (0.6)')
    parser.add_argument(
        '--crop-scale',
        type=types.crop_scale,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help="share of an image's area that a random crop has (0.2 1)",
    )
    parser.add_argument('--no-flip', action='store_true', default=None, help='mirror no image')
    parser.add_argument(
        '--exclude',
        type=types.pattern,
        nargs='+',
        metavar='GLOB',
        help="leave out images whose path below the folder matches, e.g. '*_mask.png' 'masks/*', in quotes",
    )
    parser.add_argument(
        '--labels',
        type=types.folder,
        help='folder with a sub-folder for each class: a linear probe at each look (none)',
    )
    parser.add_argument('--log', nargs='+', choices=types.LOGGERS, help='log there as well: curves and pictures')
    parser.add_argument('--seed', type=types.seed, help='of weights, crops and masks (0)')
    parser.add_argument('--val', type=types.fraction, help='share of the images to hold out, e.g. 0.02 (none)')
    parser.add_argument('--channels', type=types.channels, help='of the images, e.g. 1, or 4 of a TIFF (3)')
    parser.add_argument(
        '--value-range',
        type=types.any_number,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='values of 16-bit or float images that become black and white (found in the files)',
    )
    parser.add_argument(
        '--max-pixels',
        type=types.max_pixels,
        metavar='N',
        help='height times width beyond which an image is refused (10^8)',
    )
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
