"""Commands that begin a run or go on with one: their options and their start. Imports nothing that takes time."""

import signal
from argparse import Namespace
from pathlib import Path

from ..utils.folder_lock import require_unlocked
from ..utils.manifest import find_kind
from ..utils.paths import quoted_path
from ..utils.stopping import Stopped, nothing_to_lose
from . import types
from .parser import ArgumentParser
from .streams import announce

OBEYED = ('data', 'out', 'resume', 'overwrite', 'serve', 'traceback')  # the others are settings of a new run


def add_run_options(parser: ArgumentParser) -> None:
    """Add ``--out``, ``--serve``, ``--resume`` and ``--overwrite``."""
    parser.add_argument('--out', required=True, type=types.output_folder, help="the run's folder")
    parser.add_argument(
        '--serve',
        type=types.port,
        nargs='?',
        const=8000,
        metavar='PORT',
        help='show the report at http://localhost:PORT while the run goes on (default: 8000)',
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        '--resume', action='store_true', help='continue the run in --out with its settings; give no other options'
    )
    again.add_argument('--overwrite', action='store_true', help='replace the run in --out')


def check_run(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a locked folder, one of results to begin in, one of none to go on in, and settings without effect."""
    if args.data and args.resume:
        parser.error('--resume takes all settings from the run in --out: leave the images out')
    given = [name for name, value in vars(args).items() if value is not None and name not in OBEYED]
    if args.resume and given:
        options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
        parser.error(f'--resume takes all settings from the run in --out: leave {options} out')
    require_unlocked(args.out, '--out')
    if args.resume and not any(Path(args.out).glob('*.py')):
        raise FileNotFoundError(f'there is no run in {args.out} to go on with: it has no config.py')
    if not args.resume and not args.overwrite and (found := find_kind(args.out, 'checkpoint')):
        raise ValueError(
            f'{args.out} has results of an earlier run, up to {found[-1]}: go on with --resume, replace them with '
            '--overwrite, or choose another --out'
        )


def train(command: str, args: Namespace, what: str) -> None:
    """Call the function of the package that is named like a command with its options.

    The line of a run that is stopped names the command that goes on with it.

    Args:
        what: A new run of these options, in words.
    """
    announce(f'going on in {args.out}' if args.resume else what)
    with nothing_to_lose():
        import coma_mm

        from ..checkpoints.finding import find_checkpoints
        from ..engine import RunInterrupted

        function = getattr(coma_mm, command)
    try:
        function(**{name: value for name, value in vars(args).items() if name != 'traceback'})
    except (KeyboardInterrupt, RunInterrupted) as end:
        stop = Stopped(end.code - 128 if isinstance(end, (RunInterrupted, Stopped)) else signal.SIGINT)
        if find_checkpoints(Path(args.out)):
            where = getattr(end, 'where', '')
            again = f'coma-mm {command} --out {quoted_path(args.out)} --resume'
            stop.way_on = f'{where and " "}{where}; to go on from the last checkpoint: {again}'
        else:
            stop.way_on = ' before there was a checkpoint; the same command starts anew'
        raise stop from end
