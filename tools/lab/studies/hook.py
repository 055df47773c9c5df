"""Notes of a run of a study, kept beside its checkpoint: curves, seconds, and other load on the machine."""

import os
import time

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from coma_mm.engine.common import unwrap
from coma_mm.engine.runner.step_checkpoint import saves_after_this_step
from coma_mm.evaluation import Validator
from coma_mm.registry import HOOKS


@HOOKS.register_module()
class StudyHook(Hook):
    """Follows a run: its seconds, its load, its training loss and, at some points, the loss on held-out images.

    All of it travels with the checkpoints, so a resumed run goes on where it was. Time for the held-out images is not
    counted.

    Args:
        batch_size: Images of a step.
        held_out: Arguments of :class:`coma_mm.evaluation.Validator`; ``None`` measures nothing on the way.
        points: Measurements on held-out images, beside the one before the first step.
    """

    priority = 'LOW'  # after the loss has been logged, before checkpoints are saved

    def __init__(self, batch_size: int, held_out: dict | None = None, points: int = 6):
        self.batch_size = batch_size
        self.held_out = Validator(**held_out) if held_out else None
        self.points = points

    def before_train(self, runner: Runner) -> None:
        """Start, or go on."""
        self.state = runner.message_hub.get_info('study') or dict(seconds=0.0, load=0.0, losses=[], curve=[])
        runner.message_hub.update_info('study', self.state)
        self.started = time.monotonic()
        steps = runner.max_iters
        self.due = {round(steps * i / self.points) for i in range(1, self.points + 1)}
        self.losses: list[torch.Tensor] = []
        if runner.iter == 0:
            self._measure(runner, 0)
        self.since = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        """Add up."""
        assert outputs is not None  # a step of training returns its losses
        step = runner.iter + 1
        self.losses.append(outputs['loss'].detach())
        regular = self.every_n_train_iters(runner, 10) or step in self.due or self.is_last_train_iter(runner)
        if regular or saves_after_this_step(runner):
            self._account()
            if time.monotonic() - self.started > 60:  # the load is that of the last minute
                self.state['load'] = max(self.state['load'], round(os.getloadavg()[0], 2))
            print(f'@train {step / runner.max_iters:.4f}', flush=True)  # for the process that waits
        if step in self.due:
            self._measure(runner, step)
            self.since = time.monotonic()

    def after_train_epoch(self, runner: Runner) -> None:
        """Be up to date before a checkpoint is saved."""
        self._account()

    def after_train(self, runner: Runner) -> None:
        """Short runs have no load of their own minute."""
        self.state['load'] = self.state['load'] or round(os.getloadavg()[0], 2)

    def _account(self) -> None:
        self.state['losses'] += [round(loss, 5) for loss in torch.stack(self.losses).tolist()] if self.losses else []
        self.losses = []
        now = time.monotonic()
        self.state['seconds'] += now - self.since
        self.since = now

    @master_only
    def _measure(self, runner: Runner, step: int) -> None:
        if self.held_out is None:
            return
        model = unwrap(runner.model)
        values = self.held_out.measure(model) | dict(rankme=self.held_out.measure_features(model)['rankme'])
        images = step * self.batch_size
        self.state['curve'].append(dict(images=images, seconds=round(self.state['seconds'], 1), **values))
        runner.logger.info(f'held-out images after {images}: {values}')
