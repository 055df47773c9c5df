"""Losses and times for the log, and a warning where training waits for its images."""

import os
import time
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook, IterTimerHook, LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils.arguments import require_number, require_whole


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's hook of that name, but losses stay on the device until a log line or a checkpoint needs them.

    mmengine reads every logged value in every step, for which the host waits. Log lines, averages and checkpoints stay
    the same.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._pending: list[tuple[str, torch.Tensor]] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the values of this step; hand over those of the last steps if they are needed now."""
        for key, value in (outputs or {}).items():
            if isinstance(value, torch.Tensor):
                self._pending.append((f'train/{key}', value.detach().float().reshape(())))
            else:
                runner.message_hub.update_scalar(f'train/{key}', value)
        if self._needed_now(runner, batch_idx):
            self.hand_over(runner)

    def hand_over(self, runner: Runner) -> None:
        """Read the values that have been kept."""
        if self._pending:
            keys, values = zip(*self._pending)
            for key, value in zip(keys, torch.stack(values).tolist()):
                runner.message_hub.update_scalar(key, value)
            self._pending.clear()

    def _needed_now(self, runner: Runner, batch_idx: int) -> bool:
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or self.is_last_train_iter(runner):
            return True
        return any(
            self.every_n_inner_iters(batch_idx, hook.interval) or self.every_n_train_iters(runner, hook.interval)
            for hook in runner.hooks
            if isinstance(hook, LoggerHook) or (isinstance(hook, CheckpointHook) and not hook.by_epoch)
        )


@HOOKS.register_module()
class LoadTimerHook(IterTimerHook):
    """mmengine's hook, but ``data_time`` is the wait for a batch alone: no pictures, checkpoints or validations."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        waited = getattr(runner.train_loop, 'waited', None)
        if waited is None:
            super().before_train_iter(runner, batch_idx, data_batch)
        else:
            runner.message_hub.update_scalar('train/data_time', waited)


@HOOKS.register_module()
class DataTimeHook(Hook):
    """Warns in the log when training waits for data. ``tools/train.py`` adds it to all runs.

    It adds up how long the loops of this package wait for batches; of other loops it says nothing. The first iteration
    of an epoch, or after a validation, does not count.

    Args:
        share: Fraction of the time since the last check above which it warns. Defaults to 0.2.
        interval: Iterations between checks; doubled after each warning. Defaults to 100.
    """

    priority = 'LOWEST'

    def __init__(self, share: float = 0.2, interval: int = 100):
        require_number('[0, 1]', share=share)
        require_whole(1, interval=interval)
        self.share = share
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        self.end: float | None = None
        self.waited, self.total, self.count = 0.0, 0.0, 0

    def before_train_epoch(self, runner: Runner) -> None:
        self.end = None

    before_val_epoch = before_train_epoch

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        end, self.end = self.end, time.perf_counter()
        waited = getattr(runner.train_loop, 'waited', None)
        if end is None or waited is None:
            return
        self.waited += waited
        self.total += self.end - end
        self.count += 1
        if self.count < self.interval:
            return
        fraction = self.waited / self.total
        if fraction > self.share:
            if is_main_process():
                runner.logger.warning(
                    f'{fraction:.0%} of the time of the last {self.count} iterations went to waiting for data. Raise '
                    f'train_dataloader.num_workers (now {runner.train_dataloader.num_workers} for each process; this '
                    f'machine has {os.cpu_count()} CPU cores; coma-mm pretrain: --workers), pack the images into '
                    'shards (tools/make_shards.py, with --short-side if they are large), or use fewer augmentations'
                )
            self.interval *= 2
        self.waited, self.total, self.count = 0.0, 0.0, 0
