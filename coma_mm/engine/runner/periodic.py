"""Common part of hooks that evaluate a model every few steps while it trains."""

from abc import ABC, abstractmethod
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.arguments import require_flag, require_whole
from .failures import tolerate


class PeriodicHook(Hook, ABC):
    """Evaluates the model every few epochs (or iterations), and at the end of training, in one process.

    An evaluation that fails is named in the log and counted (:func:`.failures.tolerate`); the run goes on.

    Args:
        interval: Epochs (or iterations) between evaluations.
        by_epoch: Whether ``interval`` counts epochs.
    """

    what = 'an evaluation'  # the subject of a sentence
    first_after: float | None = None  # share of the run after which a first evaluation comes, if none was due
    begun: int | None = None  # iterations done when this process began to train
    latest: int | None = None  # iterations done at the latest evaluation

    def __init__(self, interval: int = 10, by_epoch: bool = True):
        require_whole(0, interval=interval)
        require_flag(by_epoch=by_epoch)
        self.interval = interval
        self.by_epoch = by_epoch

    @abstractmethod
    def evaluate(self, runner: Runner, step: int, last: bool) -> None:
        """Evaluate the model after ``step`` iterations, ``last`` at the end of training."""

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.begun = runner.iter if self.begun is None else self.begun
        due = not self.by_epoch and self.every_n_train_iters(runner, self.interval)
        if (due or self._is_first(runner)) and not self.is_last_train_iter(runner):
            self.latest = runner.iter + 1
            self.try_to_evaluate(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        due = self.by_epoch and self.every_n_epochs(runner, self.interval)
        if due and not self.is_last_train_epoch(runner):
            self.latest = runner.iter
            self.try_to_evaluate(runner, runner.iter)

    def _is_first(self, runner: Runner) -> bool:
        """Say whether it is time for the first evaluation, by the run's length as it is known now."""
        if self.first_after is None or self.latest is not None:
            return False
        assert self.begun is not None  # a step has been done
        return self.begun < max(1, int(self.first_after * runner.max_iters)) <= runner.iter + 1

    def after_train(self, runner: Runner) -> None:
        self.try_to_evaluate(runner, runner.iter, last=True)

    @master_only
    def try_to_evaluate(self, runner: Runner, step: int, last: bool = False) -> None:
        with tolerate(runner, self.what):
            self.evaluate(runner, step, last)
