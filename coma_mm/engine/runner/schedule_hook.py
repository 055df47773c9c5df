"""Schedules that follow the config and the images seen when a run is resumed."""

from dataclasses import asdict
from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner

from ...registry import HOOKS
from .schedule import BatchSchedule, Course, follow_config, iters_ratio, set_end


@HOOKS.register_module()
class ScheduleHook(ParamSchedulerHook):
    """mmengine's ``ParamSchedulerHook`` for runs that are resumed with another config, batch or number of processes.

    The tools put it in that one's place. See :func:`.schedule.follow_config`. Schedulers count iterations
    of the size that they had when the run began: they are stepped once for so many images. ``meta['batching']`` of
    checkpoints has the batching of now and of then. A run whose end was moved (:class:`.BudgetHook`) has the same steps
    of its schedule, spread over other iterations; ``meta['course']`` says how.
    """

    start: BatchSchedule | None = None
    course: Course | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rebuild the schedulers of a run that resumes, by its config."""
        if getattr(runner, '_resume', False):
            self.start, self.course = follow_config(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        self.now = BatchSchedule.of(runner)
        self.start = self.start or self.now
        self.iters_ratio = iters_ratio(runner, self.start, self.now)
        self.length = self.course.length if self.course else int(runner.max_iters * self.iters_ratio)

    def move_end(self, runner: Runner, done: int, end: int) -> None:
        """Move the end of the run, and of its schedule, to ``end`` iterations; ``done`` are done."""
        self.course = Course(done, self._steps_by(done), end, self.length)
        set_end(runner, end)
        runner.message_hub.update_info('max_iters', end)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Step schedulers that count iterations by as many as this one completes."""
        for _ in range(self._steps_by(runner.iter + 1) - self._steps_by(runner.iter)):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.start is not None:
            checkpoint['meta']['batching'] = dict(start=asdict(self.start), now=asdict(self.now))
        if self.course is not None:
            checkpoint['meta']['course'] = asdict(self.course)

    def fraction_done(self, iteration: int) -> float:
        """Return the share of the schedule that is done by an iteration."""
        return self._steps_by(iteration) / self.length

    def _steps_by(self, iteration: int) -> int:
        """Return how many steps of the schedule are taken by an iteration."""
        return self.course.at(iteration) if self.course else int(iteration * self.iters_ratio)
