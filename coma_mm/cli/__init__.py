"""The commands, one module each; ``tools/*.py`` start them."""

import sys
from importlib import import_module

from ..environment import prepare_cpu

TIMED = ('benchmark', 'check_gpu')  # commands that set up what they time by themselves


def run(command: str) -> None:
    """Run a command with the arguments of this process; what cannot be done ends it with one line that says why."""
    if command not in TIMED:
        prepare_cpu()  # before torch is loaded
    main = import_module(f'.{command}', __name__).main
    if command in ('train', 'test'):  # for torchrun, the error itself
        main()
        return
    try:
        main()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
