"""Losses for the log, without waiting for the device in every step."""

from typing import Any

import torch
from mmengine.hooks import CheckpointHook, LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ...registry import HOOKS


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
