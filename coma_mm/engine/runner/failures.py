"""Failures that stop no run: those of pictures, reports and loggers."""

import functools
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS


@contextmanager
def tolerate(runner: Runner, what: str) -> Iterator[None]:
    """Let a run go on after an error in this block, or function: the first of its kind is logged, all are counted.

    Use it for work of one process that no later step needs. Do not use it before the first step: there a mistake in a
    config has cost nothing yet, and is an error.

    Args:
        what: The work, as the subject of a sentence.
    """
    try:
        yield
    except Exception as error:
        _count(runner, what, error)


def _count(runner: Runner, what: str, error: BaseException) -> None:
    counts = vars(runner).setdefault('failures', Counter())
    counts[what] += 1
    if counts[what] == 1:
        text = ' '.join(str(error).split()) or 'no reason given'
        runner.logger.warning(f'{what} failed ({type(error).__name__}: {text}); training goes on without')


@HOOKS.register_module()
class SpareRunHook(Hook):
    """Lets a run go on when its log file or a visualizer's backend fails, and says at the end what failed.

    ``tools/train.py`` adds it to all runs.
    """

    priority = 'LOWEST'

    def before_run(self, runner: Runner) -> None:
        """Tolerate errors of the visualizer's backends and of the log files."""
        for name, backend in runner.visualizer._vis_backends.items():
            for method in ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars', 'close'):
                setattr(backend, method, tolerate(runner, f'{name}.{method}')(getattr(backend, method)))
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.FileHandler):
                vars(handler)['handleError'] = functools.partial(
                    _tolerate_line, runner, handler
                )  # this handler's alone

    def after_run(self, runner: Runner) -> None:
        if failures := getattr(runner, 'failures', None):
            counts = ', '.join(f'{what} ({count} x)' for what, count in failures.items())
            runner.logger.warning(f'Skipped after errors; training was not affected: {counts}')


def _tolerate_line(runner: Runner, handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """Count a line that could not be written to the log file, within the handler of the exception."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        _count(runner, f'writing to {handler.baseFilename}', error)  # which may log a line that fails, too
    else:
        logging.FileHandler.handleError(handler, record)  # a mistake in the call
