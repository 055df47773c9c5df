"""Schedules that follow the config and the images seen when a run is resumed."""

from mmengine.hooks import ParamSchedulerHook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from ...registry import HOOKS
from ..schedule import Batching, describe, follow_config, pace


@HOOKS.register_module()
class ScheduleHook(ParamSchedulerHook):
    """mmengine's ``ParamSchedulerHook`` for runs that are resumed with another config, batch or number of processes.

    The tools put it in that one's place. See :func:`coma_mm.engine.schedule.follow_config`. Schedulers count iterations
    of the size that they had when the run began: they are stepped once for so many images. ``meta['batching']`` of
    checkpoints has the batching of now and of then.
    """

    start = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Have a run that resumes follow its config.

        Raises:
            ValueError: If the optimizer is another.
        """
        if getattr(runner, '_resume', False):
            self.start = follow_config(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Note how images are dealt out."""
        self.now = Batching.of(runner)
        self.start = self.start or self.now
        self.pace = pace(runner, self.start, self.now)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        """Step schedulers that count iterations by as many as this one completes."""
        for _ in range(int((runner.iter + 1) * self.pace) - int(runner.iter * self.pace)):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write how images are dealt out."""
        if self.start is not None:
            checkpoint['meta']['batching'] = describe(self.start, self.now)
