"""A run that ends when its time is up, with its schedule."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...registry import HOOKS
from ...utils import ranges
from ...utils.arguments import require_whole
from ...utils.clock import command_begin
from .periodic import PeriodicHook
from .schedule import ScheduleHook

# A guess, in parts of the time until the first iteration: of the ending, and of an evaluation until one is timed.
ENDING = 0.25
LONGEST = 10.0  # seconds of either: where there are very many images, finding them takes most of the start
EVALUATION_FRACTION = 0.2  # of the time, at most
FITTED = 2.0  # how much longer or shorter a run becomes before its intervals follow
LOST = 0.1  # of the schedule that may be left when the time is up
CHANGES = 20  # how often the end moves while what is left of the run becomes a third of it


@HOOKS.register_module()
class BudgetHook(Hook):
    """Moves the end of a run of iterations so that it takes a given time.

    The time counts from the start of the command, and after a resume goes on from that of the checkpoint. It includes
    checkpoints, pictures, measurements and what comes after the last iteration. The hook measures the speed all along.
    :class:`.ScheduleHook` spreads what is left of the schedule over the iterations that are left, so rates never jump.
    Intervals of checkpoints and pictures follow when the run becomes twice as long as planned, or half as long.
    Runs with this hook cannot be repeated to the bit: their length depends on the machine.

    Args:
        minutes: The time.
        planned: Iterations that the run will have about, for which the intervals of the config are meant;
            ``max_iters`` if ``None``. The schedule may have more, so that it begins slowly until the speed is known.
        clock: Returns seconds.
    """

    priority = 'LOWEST'  # after all that takes time in an iteration, and all that asks whether it is the last one

    def __init__(self, minutes: float, planned: int | None = None, clock: Callable[[], float] = time.monotonic):
        ranges.require_in(ranges.MINUTES, minutes=minutes)
        if planned is not None:
            require_whole(1, planned=planned)
        self.minutes, self.planned, self.clock = minutes, planned, clock
        self.begin = command_begin() if clock is time.monotonic else clock()
        self.used = 0.0  # seconds, until the checkpoint that the run goes on from
        self.fitted: int | None = None  # iterations that the intervals are meant for

    @property
    def spent(self) -> float:
        """Seconds of the budget that are used up."""
        return self.used + self.clock() - self.begin

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Count the time that a run to go on with has used up."""
        state = checkpoint['meta'].get('budget')
        if getattr(runner, '_resume', False) and state is not None:
            self.used, self.fitted = state['used'], state['fitted']

    def before_train(self, runner: Runner) -> None:
        """Take up the intervals that a run to go on with had; refuse a run that counts epochs."""
        schedule = next((hook for hook in runner.hooks if isinstance(hook, ScheduleHook)), None)
        if schedule is None or not isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError('coma_mm.BudgetHook needs a run of iterations that coma-mm train or pretrain has prepared')
        self.schedule = schedule
        self.counts = schedule.now.accumulative_counts  # iterations in a step of the optimizer
        self.evaluating = [hook for hook in runner.hooks if _counts_iterations(hook, PeriodicHook)]
        self.saving = [hook for hook in runner.hooks if _counts_iterations(hook, CheckpointHook)]
        planned = self.planned or schedule.length
        self.fitted = self.fitted or planned
        _scale_intervals([*self.evaluating, *self.saving], self.fitted / planned)
        self.evaluations: deque[float] = deque(maxlen=4)  # seconds that they added to iterations
        self.saves: deque[float] = deque(maxlen=4)
        self.plain, self.count = 0.0, 0  # seconds of the other iterations, and how many these are
        self.marks: deque[tuple[float, int]] = deque()  # when so many iterations were done
        self.last = 0.0  # when the last one was
        self.next = 0  # the iteration after which the end may move

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure; move the end every now and then."""
        done, is_first = runner.iter + 1, not self.marks
        decides = done >= self.next and done % self.counts == 0 and not self.is_last_train_iter(runner)
        if decides and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # the time is that of work done
        now = self.clock()
        if is_first:  # it waits for the processes that load, and tells nothing about the speed
            self.first, self.ending = done, min(LONGEST, ENDING * (now - self.begin))
            self.marks.append((now, done))
        else:
            self._note(runner, now - self.last)
        self.last = now
        if not decides:
            return
        found = [self._find_end(runner, now, done) if is_main_process() else 0]
        broadcast_object_list(found)
        (end,) = found
        if end != runner.max_iters:
            self.schedule.move_end(runner, done, end)
        self._fit_intervals(end)
        self.next = done + max(1, min((end - done) // CHANGES, done - self.first))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['budget'] = dict(used=self.spent, fitted=self.fitted)

    def _find_end(self, runner: Runner, now: float, done: int) -> int:
        """Return after how many iterations the time will be up, by the speed in the later half of the run so far."""
        ending = self.ending + max(self.evaluations, default=self.ending) + max(self.saves, default=0.0)
        left = 60 * self.minutes - self.spent - ending
        if done == self.first:
            return runner.max_iters if left > 0 else self._cut(runner, done)
        self.marks.append((now, done))
        while len(self.marks) > 2 and self.marks[1][0] < (now + self.marks[0][0]) / 2 and self.marks[1][1] < done - 8:
            self.marks.popleft()
        since, count = self.marks[0]
        each = max(1e-9, (now - since) / (done - count))
        steps = round(left / each)
        return self._whole_steps(done + steps) if steps > 0 else self._cut(runner, done)

    def _cut(self, runner: Runner, done: int) -> int:
        """Return the next end there can be; say so if much of the schedule is left."""
        fraction = self.schedule.fraction_done(done)
        if fraction < 1 - LOST:
            runner.logger.warning(
                f'the {self.minutes:g} minutes are up after {fraction:.0%} of the schedule, so the learning rate has '
                'not come down; more minutes, or smaller images or models, give better weights'
            )
        return self._whole_steps(done + 1)

    def _note(self, runner: Runner, passed: float) -> None:
        """Note the seconds of an iteration, or what an evaluation or a checkpoint added to it."""
        added = passed - self.plain / max(1, self.count)
        if any(hook.latest == runner.iter + 1 for hook in self.evaluating):
            self.evaluations.append(added)
        elif any(self.every_n_train_iters(runner, hook.interval) for hook in self.saving):
            self.saves.append(added)
        else:
            self.plain, self.count = self.plain + passed, self.count + 1

    def _fit_intervals(self, end: int) -> None:
        """Fit the intervals of evaluations and checkpoints to the length, and bound the time of evaluations."""
        assert self.fitted is not None
        ratio = end / self.fitted
        if 1 / FITTED <= ratio <= FITTED:
            ratio = 1.0
        else:
            self.fitted = end
        _scale_intervals(self.saving, ratio)
        if len(self.evaluations) < 2 or not self.count:  # the first evaluation imports what it needs
            _scale_intervals(self.evaluating, max(1.0, ratio))
            return
        _scale_intervals(self.evaluating, ratio)
        least = math.ceil(min(self.evaluations) / EVALUATION_FRACTION / (self.plain / self.count))
        for hook in self.evaluating:
            if least > FITTED * hook.interval:
                hook.interval = least

    def _whole_steps(self, iterations: int) -> int:
        return math.ceil(iterations / self.counts) * self.counts


def _counts_iterations(hook: Hook, kind: type) -> bool:
    return isinstance(hook, kind) and not hook.by_epoch and hook.interval > 0  # type: ignore[attr-defined]


def _scale_intervals(hooks: list, ratio: float) -> None:
    for hook in hooks:
        hook.interval = max(1, math.ceil(hook.interval * ratio))
