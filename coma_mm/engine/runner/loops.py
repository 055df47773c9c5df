"""Training loops that go on where a checkpoint was saved, also within an epoch."""

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from ...datasets.seeding import seed_samples
from ...registry import LOOPS
from .run_length import settle_warm_ups
from .signals import shield_workers


class _Resumable(BaseLoop):
    """The common part of both loops; ``coma_mm.StepCheckpointHook`` writes :meth:`position` into checkpoints."""

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        self.batches = seed_samples(self.dataloader)
        shield_workers(self.dataloader)
        if self.batches is not None:
            self.batches.closed = True  # mmengine before 0.10.8 starts workers here, which must not take any
        super().__init__(runner, self.dataloader, *args, **kwargs)
        if self.batches is not None:
            self.batches.closed = False
        # Nothing is built of the schedule yet. That of a resumed run, which began with other batches perhaps, may have
        # to be built anew (schedule.py), by a config that is as it was.
        cfg = runner.cfg
        if runner._resume:
            cfg = Config(dict(param_scheduler=deepcopy(cfg.get('param_scheduler'))))
        if settle_warm_ups(cfg, len(self.dataloader), self.max_iters):
            runner.param_schedulers = deepcopy(cfg.param_scheduler)
        self.loading: Iterator | None = None
        self.served = 0  # batches of this epoch
        self.validation_due = False
        self.waited = 0.0  # seconds, for the latest batch alone

    def run(self) -> nn.Module:
        """Train, then end the processes that load images: garbage collection would take 5 s for each.

        Hooks with a method ``on_stop`` get the exception that ends a run early.
        """
        try:
            return self._train()
        except BaseException as error:
            for hook in self.runner.hooks:
                if hasattr(hook, 'on_stop'):
                    hook.on_stop(self.runner, error)
            raise
        finally:
            for hook in self.runner.hooks:
                if hasattr(hook, 'close'):
                    hook.close()
            validation = getattr(self.runner._val_loop, 'dataloader', None)
            for workers in (self.loading, getattr(validation, '_iterator', None)):
                if workers is not None and hasattr(workers, '_shutdown_workers'):
                    workers._shutdown_workers()
            for loader in filter(None, (self.dataloader, validation)):
                loader._iterator = None  # which persistent_workers=True would have it use again

    def _load(self) -> Iterator:
        """Yield the batches of an epoch, or of a pass; note how long the loop has waited for each."""
        self.loading, begin = iter(self.dataloader), time.perf_counter()
        for batch in self.loading:
            self.waited = time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()

    def position(self, epoch: int) -> dict:
        """Return the place in its epoch of a checkpoint of so many epochs.

        That is ``batch``, how many of the epoch are done, ``batches``, how many it has, and ``validated``, whether a
        validation after it is done or just ending.
        """
        return dict(
            batch=self.served if epoch == self._epoch else 0,
            batches=len(self.dataloader),
            validated=self.runner.message_hub.get_info('loop_stage') == 'val',
        )

    def go_on_from(self, position: dict) -> None:
        """Take up a position; where epochs have another number of batches now, the fraction of the epoch counts."""
        self.served = round(position['batch'] * len(self.dataloader) / max(position['batches'], 1))
        self.validation_due = not position['validated']

    def _validate(self, done: int, end: int) -> None:
        """Validate, if it is time to and there is something to do it with."""
        self._decide_current_val_interval()
        is_due = done >= self.val_begin and (done % self.val_interval == 0 or done == end)
        if is_due and self.runner.val_loop is not None:
            self.runner.val_loop.run()

    def _start_at(self, epoch: int, batch: int) -> None:
        """Start the loader at a batch of an epoch, or of a pass, without loading those before it."""
        if self.batches is not None:
            self.batches.epoch, self.batches.start = epoch, batch


@LOOPS.register_module()
class EpochLoop(_Resumable, EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``; ``tools/train.py`` puts it in that one's place."""

    def _train(self) -> nn.Module:
        self.runner.call_hook('before_train')
        if self.validation_due and not self.served and self._epoch:
            self._validate(self._epoch, self._max_epochs)  # it was killed between checkpoint and end of the validation
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for an epoch, or for the rest of one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self._start_at(self._epoch, self.served)
        if self.served < len(self.dataloader):
            for idx, data_batch in enumerate(self._load(), self.served):
                self.served = idx + 1
                self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.served = 0


@LOOPS.register_module()
class IterLoop(_Resumable, IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop``; ``tools/train.py`` puts it in that one's place."""

    def _train(self) -> nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self.validation_due and self._iter:
            self._validate(self._iter, self._max_iters)
        self.dataloader_iterator = self._endless()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _endless(self) -> Iterator:
        """Yield batches of one pass over the data after another, from the step on that comes next.

        How many batches a pass has is seen when it ends: samplers made for this loop never end.
        """
        number, batch = 0, self._iter
        while True:
            self._set_epoch(number)
            self._start_at(number, batch)
            count = 0
            for data_batch in self._load():
                count += 1
                yield data_batch
            length = count if self.batches is None else self.batches.length
            if not length:
                raise ValueError('train_dataloader has no batch: fewer images than batch_size, with drop_last?')
            passes = max(1, batch // length)
            number, batch = number + passes, max(0, batch - passes * length)

    def _set_epoch(self, number: int) -> None:
        """Seed the sampler for a pass, as mmengine's ``DistSamplerSeedHook`` does for an epoch."""
        for sampler in (self.dataloader.sampler, getattr(self.dataloader.batch_sampler, 'sampler', None)):
            if sampler is not None and hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(number)
