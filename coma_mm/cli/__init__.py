"""The commands, one module each; ``coma-mm COMMAND`` and ``tools/*.py`` start them."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import import_module

from ..utils import clock, stopping
from ..utils.environment import end_with_launcher, prepare_cpu
from ..version import __version__
from .streams import announce, output_error, protect_streams

# Beginnings of warnings that libraries give each other, and users can do nothing about.
NOTICES = (
    'Fail to import ``MultiScaleDeformableAttention``',  # which pre-training and classification do not need
    'Setting (OMP|MKL)_NUM_THREADS environment variable',  # mmengine's own
    'faster_coco_eval is not installed',  # mmdet's metrics take pycocotools then
    '`broadcast_buffers` is deprecated',  # of torch to mmengine
    'The given NumPy array is not writable',  # of torch to mmpretrain
    'Default ``avg_non_ignore`` is False',  # mmseg's, of the loss in its own configs
    'The draw is False',  # mmseg's, without --show-dir
    '``build_loss`` would be deprecated',  # of the original mmseg to itself
    'Detected call of `scheduler.step',  # mmengine's, wherever batches are accumulated
)
SLOW_TO_START = ('train', 'test')  # which say at once that they have understood
COMMANDS = {
    'pretrain': 'pre-train a DyViT or a ViT on a folder of images',
    'finetune': 'train a classifier on labelled images, from pre-trained weights',
    'config': 'write a config of a detector or segmentor that starts from weights',
    'train': 'train any config of mmpretrain, mmdet or mmseg',
    'test': 'evaluate a checkpoint',
    'browse': 'draw the images that training gets, with their masks',
    'visualize': 'draw reconstructions of images by a pre-trained model',
    'embed': 'write the features of images',
    'compare': 'measure on labelled images whether pre-training helps',
    'export': "write a checkpoint's backbone for use elsewhere",
    'flops': 'count parameters and operations',
    'shards': 'pack a folder of images into tar files',
    'report': 'write the report of a run anew',
}


def main() -> None:
    """Run ``coma-mm COMMAND``."""
    command = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if command in COMMANDS:
        sys.argv = [f'coma-mm {command}', *sys.argv[2:]]  # what the command's own help calls it
        run(command)
    else:
        _guard(lambda: _show_usage(command), 'coma-mm')


def run(command: str, main: Callable[[], None] | None = None) -> None:
    """Run a command on ``sys.argv``; on failure exit with one line that says why.

    By default ``main`` is that of the module here that is named like the command.
    """
    with clock.command():
        _guard(lambda: _start(command, main), command)


def _show_usage(command: str) -> None:
    from ..utils.arguments import did_you_mean
    from .errors import UsageError

    usage = 'usage: coma-mm COMMAND ...\n\nFor the options of a command: coma-mm COMMAND --help\n\n' + '\n'.join(
        f'  {name:<10} {what}' for name, what in COMMANDS.items()
    )
    if command in ('-V', '--version'):
        print(f'coma_mm {__version__}')
        return
    if command not in ('-h', '--help'):
        raise UsageError(f'{usage}\n\nerror: there is no command {command!r}{did_you_mean(command, COMMANDS)}')
    print(usage)


def _start(command: str, main: Callable[[], None] | None) -> None:
    """Import a command's module, which for most loads torch, and run it."""
    end_with_launcher()
    for notice in NOTICES:
        warnings.filterwarnings('ignore', notice)
    asks_for_help = bool({'-h', '--help'} & {*sys.argv})
    if not asks_for_help:
        os.getcwd()  # fails if somebody has removed it
    if command in SLOW_TO_START and not asks_for_help and os.environ.get('RANK', '0') == '0':
        announce(' '.join([command, *sys.argv[1:]]))
    if main is None:
        prepare_cpu()  # before torch is loaded
        with stopping.nothing_to_lose():
            main = import_module(f'.{command}', __name__).main
    main()


def _guard(work: Callable[[], None], command: str) -> None:
    """Do a command's work; end the process if that fails, is stopped, or has printed what could not be written."""
    is_own = protect_streams()  # rather than a test's or a notebook's
    logging.raiseExceptions = not is_own  # a log file that cannot be written leaves no traceback
    if threading.current_thread() is threading.main_thread():
        stopping.listen()
    ended: BaseException | None = None
    try:
        try:
            work()
        except (Exception, KeyboardInterrupt, SystemExit) as raised:
            ended = raised
        if (number := stopping.received()) and not isinstance(ended, stopping.Stopped):  # lost in another error
            ended = stopping.Stopped(number)
        failed = output_error()
        if failed and (ended is None or (isinstance(ended, SystemExit) and not ended.code)):
            ended = SystemExit(f'error: cannot write to standard output: {failed.strerror}; name another place for it')
        if isinstance(ended, SystemExit) and not isinstance(ended.code, str):
            raise ended
        if ended is not None:
            _finish(ended, command, is_own)
    finally:
        stopping.end_listening(is_own)


def _finish(ended: BaseException, command: str, is_own: bool) -> None:
    try:
        from .errors import finish  # here: it is not needed otherwise
    except MemoryError:
        os.write(2, b'error: there is not enough memory to start: raise the limit (ulimit -v)\n')
        os._exit(1)
    finish(ended, command, is_own)
