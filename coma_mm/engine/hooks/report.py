"""The run as one page, while it trains and afterwards."""

import os.path as osp
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.runner import EpochBasedTrainLoop, Runner

from ...models import CoMA
from ...registry import HOOKS
from ...utils.paths import short_path
from ...utils.stopping import describe_signal
from ...visualization.report import write_report
from ...visualization.run_files import forget_pictures, write_facts
from ..common import unwrap
from ..runner.failures import tolerate
from ..runner.periodic import PeriodicHook
from ..runner.step_checkpoint import RunInterrupted, StepCheckpointHook
from .progress import duration, end_after

FRACTION = 0.05  # of the time, at most


@HOOKS.register_module()
class ReportHook(PeriodicHook):
    """Writes ``report.html`` into the work dir when there is a new checkpoint or picture, and when training ends.

    The page is one file of curves, pictures and settings (:mod:`coma_mm.visualization.report`). It says how the run
    ended, in which step, and what to type next. It takes at most a twentieth of the run's time: where news comes fast,
    some is passed over. ``tools/report.py`` writes it anew afterwards.
    """

    what = 'writing the report'
    priority = 'LOWEST'  # when pictures are drawn and checkpoints saved

    def __init__(self) -> None:
        super().__init__()
        self.start: int | None = 0  # None once a step is taken; another hook may end the run before this one begins

    def before_train(self, runner: Runner) -> None:
        self.start, self.shown, self.not_before = runner.iter, self._news(runner), 0.0
        self.is_new = runner.iter == 0  # what is shown of a run that goes on is out of date

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Leave out pictures that an earlier run has left in the folder; write if there is something new."""
        if self.start is not None:  # a run that fails before its first step changes nothing
            self._forget(runner)
            self.start = None
        self._write_news(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        self._write_news(runner, runner.iter)

    @master_only
    def on_stop(self, runner: Runner, error: BaseException) -> None:
        """Say what has ended the run before it was done, if it has taken a step."""
        if self.start is None:
            with tolerate(runner, self.what):
                step = runner.iter + isinstance(error, RunInterrupted)  # which ends a step
                self._write(runner, step, _describe_stop(runner, error))

    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        path = self._write(runner, step, 'Finished.' if last else _describe_rest(runner), last)
        if last:
            runner.logger.info(f'all of it on one page: {short_path(path)}')

    def _write(self, runner: Runner, step: int, state: str, last: bool = False) -> Path:
        self.shown, begin, self.is_new = self._news(runner), time.monotonic(), True
        loader, by_epoch = runner.train_dataloader, isinstance(runner.train_loop, EpochBasedTrainLoop)
        is_compared = last and isinstance(unwrap(runner.model), CoMA)
        write_facts(
            runner.work_dir,
            dict(
                config=osp.basename(runner.cfg.filename or ''),
                iterations=f'{step} of {runner.max_iters}',
                **dict(epochs=f'{runner.epoch + (not last)} of {runner.max_epochs}') if by_epoch else {},
                images=len(loader.dataset),
                images_per_iteration=loader.batch_size * get_world_size(),
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
                processes=get_world_size(),
                finished=last,
                state=state,
                **dict(next=f'coma-mm compare {short_path(runner.work_dir)} LABELLED_FOLDER') if is_compared else {},
                warnings=[text for _, text in (runner.message_hub.get_info('quality') or {}).get('warnings', ())],
            ),
        )
        path = write_report(runner.work_dir)
        self.not_before = time.monotonic() + (time.monotonic() - begin) / FRACTION
        return path

    def _write_news(self, runner: Runner, step: int) -> None:
        news = self._news(runner)
        is_first = bool(news[1]) and not self.shown[1]  # a picture, for which somebody waits
        if not self.is_new or is_first or (news != self.shown and time.monotonic() >= self.not_before):
            self.try_to_evaluate(runner, step)

    @master_only
    def _forget(self, runner: Runner) -> None:
        with tolerate(runner, self.what):
            is_drawn = self._news(runner)[1] != self.shown[1]  # after this, the first step
            forget_pictures(runner.work_dir, self.start + is_drawn)

    def _news(self, runner: Runner) -> tuple:
        return runner.message_hub.get_info('last_ckpt'), runner.message_hub.get_info('last_picture')


def _describe_rest(runner: Runner) -> str:
    """Return how long a run will still take, and until when, by the average of its steps so far."""
    now, left = time.localtime(), runner.message_hub.get_info('eta')
    written = f'Still training when this was written, {time.strftime("%A %H:%M", now)}'
    if left is None:
        return f'{written}.'
    return f'{written}: about {duration(left)} left, until {end_after(left)}.'


def _describe_stop(runner: Runner, error: BaseException) -> str:
    """Return what has ended a run, at which step, and what to type to go on."""
    where = f'in step {runner.iter + 1} of {runner.max_iters}'
    if isinstance(error, (RunInterrupted, KeyboardInterrupt)):
        signal = describe_signal(getattr(error, 'code', 130) - 128)
        text = f'Stopped by {signal} {getattr(error, "where", "") or where}.'
    else:
        text = f'Ended by an error {where}: {" ".join(str(error).split())[:300]}.'
    again = next((hook.way_on for hook in runner.hooks if isinstance(hook, StepCheckpointHook)), '')
    return f'{text} To go on: {again}' if again and runner.message_hub.get_info('last_ckpt') else text
