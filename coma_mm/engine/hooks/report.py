"""The run as one page, while it trains and afterwards."""

import os.path as osp
import time
from typing import Any

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.runner import EpochBasedTrainLoop, Runner

from ...models import CoMA
from ...registry import HOOKS
from ...utils.paths import short_path
from ...visualization.report import write_report
from ...visualization.run_files import forget_pictures, write_facts
from ..common import unwrap
from ..runner.failures import spare
from ..runner.periodic import PeriodicHook

SHARE = 0.05  # of the time, at most


@HOOKS.register_module()
class ReportHook(PeriodicHook):
    """Writes ``report.html`` into the work dir when there is a new checkpoint or picture, and at the end of training.

    Where those come fast, some are passed over: the page takes at most a twentieth of the run's time. One file
    with all in it: curves, pictures, settings (:mod:`coma_mm.visualization.report`). ``tools/report.py``
    writes it anew afterwards.
    """

    what = 'writing the report'
    priority = 'LOWEST'  # when pictures are drawn and checkpoints saved

    def __init__(self) -> None:
        super().__init__()

    def before_train(self, runner: Runner) -> None:
        self.start, self.shown, self.not_before = runner.iter, self._news(runner), 0.0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Leave out pictures that an earlier run has left in the folder; write if there is something new."""
        if self.start is not None:  # a run that fails before its first step changes nothing
            self._forget(runner)
            self.start = None
        self._look_at_news(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        self._look_at_news(runner, runner.iter)

    def look(self, runner: Runner, step: int, last: bool) -> None:
        self.shown, begin = self._news(runner), time.monotonic()
        loader, loop = runner.train_dataloader, runner.train_loop
        by_epoch, pretrains = isinstance(loop, EpochBasedTrainLoop), isinstance(unwrap(runner.model), CoMA)
        write_facts(
            runner.work_dir,
            dict(
                config=osp.basename(runner.cfg.filename or ''),
                iterations=f'{step} of {runner.max_iters}',
                **dict(epochs=f'{runner.epoch + (not last and by_epoch)} of {runner.max_epochs}') if by_epoch else {},
                images=len(loader.dataset),
                images_per_iteration=loader.batch_size * get_world_size(),
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
                processes=get_world_size(),
                finished=last,
                **dict(next=f'coma-mm compare {short_path(runner.work_dir)} LABELLED_FOLDER')
                if last and pretrains
                else {},
                warnings=[text for _, text in (runner.message_hub.get_info('quality') or {}).get('warnings', ())],
            ),
        )
        path = write_report(runner.work_dir)
        self.not_before = time.monotonic() + (time.monotonic() - begin) / SHARE
        if last:
            runner.logger.info(f'all of it on one page: {short_path(path)}')

    def _look_at_news(self, runner: Runner, step: int) -> None:
        if self._news(runner) != self.shown and time.monotonic() >= self.not_before:
            self.try_to_look(runner, step)

    @master_only
    def _forget(self, runner: Runner) -> None:
        with spare(runner, self.what):
            is_drawn = self._news(runner)[1] != self.shown[1]  # after this, the first step
            forget_pictures(runner.work_dir, self.start + is_drawn)

    def _news(self, runner: Runner) -> tuple:
        return runner.message_hub.get_info('last_ckpt'), runner.message_hub.get_info('last_picture')
