"""Looking at a model every now and then while it trains, without getting in its way."""

from abc import abstractmethod

from mmengine.dist import master_only
from mmengine.hooks import Hook


class PeriodicHook(Hook):
    """Looks at the model every few epochs (or iterations), and at the end of training, in one process.

    A look that fails is named in the log and counted; the run goes on.

    Args:
        interval: Epochs (or iterations) between looks.
        by_epoch: Whether ``interval`` counts epochs.
    """

    failures = 0

    def __init__(self, interval: int = 10, by_epoch: bool = True):
        self.interval = interval
        self.by_epoch = by_epoch

    @abstractmethod
    def look(self, runner, step: int, last: bool) -> None:
        """Look at the model after ``step`` iterations, ``last`` at the end of training."""

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Look every ``interval`` iterations."""
        due = not self.by_epoch and self.every_n_train_iters(runner, self.interval)
        if due and not self.is_last_train_iter(runner):
            self.try_to_look(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        """Look every ``interval`` epochs."""
        due = self.by_epoch and self.every_n_epochs(runner, self.interval)
        if due and not self.is_last_train_epoch(runner):
            self.try_to_look(runner, runner.iter)

    def after_train(self, runner) -> None:
        """Look at the end."""
        self.try_to_look(runner, runner.iter, last=True)

    @master_only
    def try_to_look(self, runner, step: int, last: bool = False) -> None:
        """Look; say what went wrong, if anything."""
        try:
            self.look(runner, step, last)
        except Exception as error:
            self.failures += 1
            runner.logger.warning(
                f'{type(self).__name__} failed after {step} iterations (failure {self.failures} of this run), which '
                f'training does not depend on: {type(error).__name__}: {error}'
            )
