"""The commands, one module each; ``coma-mm COMMAND`` and ``tools/*.py`` start them."""

import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

from ..environment import end_with_launcher, prepare_cpu
from ..version import __version__

SLOW_TO_START = ('train', 'test')  # which say at once that they have understood
COMMANDS = {
    'pretrain': 'pre-train a DyViT on a folder of images',
    'train': 'train any config of mmpretrain, mmdet or mmseg',
    'test': 'evaluate a checkpoint',
    'browse': 'draw what training gets to see of its images',
    'visualize': 'draw what a pre-trained model makes of images',
    'embed': 'write the features of images',
    'export': "write a checkpoint's backbone for use elsewhere",
    'flops': 'count parameters and operations',
    'shards': 'pack a folder of images into tar files',
    'report': 'write the page of a run anew',
}


def main() -> None:
    """Run ``coma-mm COMMAND``."""
    command = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if command in COMMANDS:
        sys.argv = [f'coma-mm {command}', *sys.argv[2:]]  # what the command's own help calls it
        run(command)
        return
    usage = 'usage: coma-mm COMMAND ...; coma-mm COMMAND --help tells more\n\n' + '\n'.join(
        f'  {name:<10} {what}' for name, what in COMMANDS.items()
    )
    if command in ('-h', '--help'):
        print(usage)
        return
    from .errors import finish
    from .parser import UsageError

    finish(UsageError(f'{usage}\n\nerror: there is no command {command!r}'), 'coma-mm')


def run(command: str, main: Callable[[], None] | None = None) -> None:
    """Run a command with the arguments of this process; what cannot be done ends it with one line that says why.

    Args:
        command: Its name.
        main: What it does; by default the ``main`` of the module here that is called like it.
    """
    end_with_launcher()
    # of an mmcv without compiled operations, which pre-training and classification do not need
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
    if command in SLOW_TO_START and not {'-h', '--help'} & {*sys.argv} and os.environ.get('RANK', '0') == '0':
        print(f'coma_mm {__version__}: {command} {" ".join(sys.argv[1:])}; loading PyTorch ...', flush=True)
    try:
        if main is None:
            prepare_cpu()  # before torch is loaded
            main = import_module(f'.{command}', __name__).main
        main()
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            raise
        error: BaseException = stop
    except (Exception, KeyboardInterrupt) as raised:
        error = raised
    else:
        return
    from .errors import finish  # here: it is not needed otherwise

    finish(error, command)
