"""A run that has gone wrong stops at once and leaves its last good checkpoint alone."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...utils.arguments import require_whole
from .step_checkpoint import saves_after_this_step

NEVER = torch.iinfo(torch.int64).max


@HOOKS.register_module()
class StopOnNaNHook(Hook):
    """Stops training when the loss becomes NaN or infinite, and says when it did.

    The first bad iteration is noted on the device in every step and read every ``interval`` iterations, so the hook
    adds no host synchronisation to the step. It is read before any checkpoint is saved as well, and the weights are
    looked at then: no checkpoint of broken weights is written, and none is deleted to make room for one.

    Args:
        interval: Iterations between two checks of the loss.
    """

    priority = 'ABOVE_NORMAL'  # before hooks that draw pictures and save checkpoints

    def __init__(self, interval: int = 50):
        require_whole(1, interval=interval)
        self.interval = interval
        self.first_bad: torch.Tensor | None = None  # before the first step

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        assert outputs is not None  # a step of training returns its losses
        loss = torch.as_tensor(outputs['loss']).detach()
        if self.first_bad is None:
            self.first_bad = torch.full((), NEVER, device=loss.device)
        good = torch.isfinite(loss) | (self.first_bad != NEVER)
        self.first_bad = torch.where(good, self.first_bad, runner.iter + 1)
        if saves_after_this_step(runner):
            self._check(runner, runner.iter + 1, weights=True)
        elif self.every_n_train_iters(runner, self.interval):
            self._check(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look before a checkpoint of the epoch, or the best one, is saved."""
        self._check(runner, runner.iter, weights=True)

    before_val = after_train_epoch

    def _check(self, runner: Runner, done: int, weights: bool = False) -> None:
        """Stop if anything went wrong in the ``done`` iterations so far."""
        if self.first_bad is None:
            return
        intact = torch.ones_like(self.first_bad)
        if weights:
            parameters = [p.detach() for p in runner.model.parameters()]
            intact &= torch.stack([torch.isfinite(p).all() for p in parameters]).all()
        # All ranks stop, and name the same iteration, whichever of them got the bad loss.
        found = torch.stack([self.first_bad, intact])
        all_reduce(found, 'min')
        first_bad, intact = found.tolist()
        if first_bad == NEVER and intact:
            return
        what = (
            f'the loss became NaN or infinite at iteration {first_bad}'
            if first_bad != NEVER
            else f'weights became NaN or infinite in one of the iterations up to {done}'
        )
        last_good = runner.message_hub.get_info('last_ckpt')
        advice = (
            f'the last good checkpoint is {last_good}; go on from it with `--resume {last_good}`'
            if last_good
            else 'no checkpoint had been saved; start again'
        )
        raise FloatingPointError(
            f'{what}, so training was stopped: {advice} with a lower learning rate '
            '(coma-mm pretrain: --lr, in a new run), a longer warm-up, or gradients clipped (optim_wrapper.clip_grad)'
        )
