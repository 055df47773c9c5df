"""Checkpoints between those of the schedule: at a signal such as SIGTERM or Ctrl-C, and every few minutes."""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import distributed
from torch.utils.data import DataLoader

from ...checkpoints.finding import STEP_CHECKPOINT
from ...checkpoints.writing import announce_checkpoint, note_validated, remove_checkpoint, was_validated
from ...registry import HOOKS
from ...utils import manifest
from ...utils.paths import short_path
from ...utils.stopping import describe_signal
from .log_values import DeferredRuntimeInfoHook
from .signals import ShutdownSignals, shield_workers, stop_listening

NOTHING, TIME = 0, 1  # why a checkpoint is saved; larger numbers are those of signals, plus TIME


class RunInterrupted(SystemExit):
    """End of a run that a signal has stopped, once a checkpoint is saved; ``code`` is 128 + the signal's number.

    Attributes:
        where: ``at step 7 of 12``.
    """

    code: int

    def __init__(self, number: int, where: str = ''):
        super().__init__(128 + number)
        self.where = where


@HOOKS.register_module()
class StepCheckpointHook(Hook):
    """Saves a checkpoint at the next step after a signal and ends the run, and one every ``minutes``.

    The signals are SIGTERM, SIGUSR1, SIGHUP and Ctrl-C (SIGINT); a second Ctrl-C raises KeyboardInterrupt at once.

    The files are called ``epoch_<done>_iter_<done>.pth`` and lie beside those of the schedule. Each replaces the one
    before, once it is whole. All ranks save at the same step: they agree through an asynchronous reduction on the CPU,
    read one step later. Nobody waits for it, nor for a GPU. Under gradient accumulation the step is one that updates
    the weights. A signal during a validation is obeyed after it.

    The hook also writes into all checkpoints where in the epoch they were saved, and has the run go on from there.
    ``tools/train.py`` adds it to all runs.

    Args:
        minutes: Between two checkpoints, of whatever kind; 0 saves none by the clock.
        way_on: What the user types to go on, for the log line that a stopped run ends with and its report.
    """

    priority = 'VERY_LOW'  # with mmengine's, after schedules and averages have taken their step

    def __init__(self, minutes: float = 0, way_on: str = 'the same command and --resume'):
        self.minutes = minutes
        self.way_on = way_on
        self.signals = ShutdownSignals()
        self.meta: dict = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note where in the epoch the checkpoint was saved; it is used only if the run is resumed."""
        self.meta = checkpoint.get('meta') or {}

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if runner.iter:  # what the checkpoint says of itself is where it was written, on whatever machine
            runner.message_hub.update_info('last_ckpt', runner._load_from)
        if runner.iter and hasattr(loop, 'go_on_from'):
            position = self.meta.get('position')
            if position is None:  # saved by another tool, which does not write it down
                batches = len(loop.dataloader)
                batch = runner.iter - runner.epoch * batches
                position = dict(batch=batch if 0 <= batch <= batches else 0, batches=batches, validated=True)
            loop.go_on_from(position | dict(validated=position['validated'] or self._was_validated(runner)))
        elif runner.iter:
            runner.logger.warning(
                f'{type(loop).__name__} is a training loop of its own, which cannot start within an epoch: '
                'a checkpoint saved there goes on with the first batch of the epoch'
            )
        self.due = NOTHING
        self.pending: tuple[distributed.Work, torch.Tensor] | None = None
        self.group = distributed.new_group(backend='gloo') if get_world_size() > 1 else None
        self._restart_clock(runner)
        validation = getattr(runner._val_loop, 'dataloader', None)
        if isinstance(validation, DataLoader):
            shield_workers(validation)
        self.signals.listen()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Decide whether this step ends with a checkpoint, with the other ranks."""
        if runner.message_hub.get_info('last_ckpt') != self.last:
            self._restart_clock(runner)
        if reason := self._agree():
            self.due = max(reason, self.due)
            self._restart_clock(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if not self.saves_now(runner):
            return
        reason, self.due = self.due, NOTHING
        self._save(runner)
        if self.group is not None:
            distributed.barrier(group=self.group)  # whoever ends first might take the others along
        path = short_path(runner.message_hub.get_info('last_ckpt'))
        if reason == TIME:
            runner.logger.info(f'Saved {path}: {self.minutes:g} minutes have gone by')
            return
        stop = RunInterrupted(reason - TIME, f'at step {runner.iter + 1} of {runner.max_iters}')
        runner.logger.info(
            f'stopped by {describe_signal(reason - TIME)} {stop.where}, all of which is in {path}; go on with '
            f'{self.way_on}'
        )
        stop_listening()
        raise stop

    def after_train(self, runner: Runner) -> None:
        """Leave no checkpoint behind that those of the schedule have overtaken."""
        stop_listening()
        if self.pending is not None:
            self.pending[0].wait()
        last = runner.message_hub.get_info('last_ckpt')
        if is_main_process() and last and not STEP_CHECKPOINT.fullmatch(Path(last).name):
            self._remove_all_but(runner, Path(last).name)

    def after_val(self, runner: Runner) -> None:
        """Write down that the validation after the last checkpoint need not be done again."""
        last = runner.message_hub.get_info('last_ckpt')
        if last and is_main_process():
            note_validated(Path(last))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write down where in the epoch this is, and have the file noted as the run's own."""
        announce_checkpoint(checkpoint)
        if hasattr(runner.train_loop, 'position'):
            checkpoint['meta']['position'] = runner.train_loop.position(checkpoint['meta']['epoch'])

    def saves_now(self, runner: Runner) -> bool:
        """Say whether this hook saves a checkpoint at the end of this step."""
        if not self.due:
            return False
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)  # also what a resume has made of it
        return (runner.iter + 1) % counts == 0 or self.is_last_train_iter(runner)

    def _was_validated(self, runner: Runner) -> bool:
        """Say whether the validation after the resumed checkpoint was done, and changed nothing for training."""
        path, schedulers = Path(runner._load_from or ''), runner.param_schedulers or []
        if isinstance(schedulers, dict):
            schedulers = sum(schedulers.values(), [])
        listen = any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers)
        found = [was_validated(path) and not listen]
        broadcast_object_list(found)  # ranks may see other files
        return found[0]

    def _agree(self) -> int:
        """Return why any of the ranks wanted a checkpoint, when all of them know."""
        late = self.minutes and is_main_process() and time.monotonic() - self.since > 60 * self.minutes
        signalled = self.signals.received + TIME if self.signals.received else NOTHING
        wanted = signalled or (TIME if late else NOTHING)
        if self.group is None:
            return wanted
        reason = NOTHING
        if self.pending is not None:
            work, flag = self.pending
            work.wait()
            reason = int(flag)
        flag = torch.tensor(signalled if reason else wanted)
        self.pending = distributed.all_reduce(flag, distributed.ReduceOp.MAX, self.group, async_op=True), flag
        return reason

    def _restart_clock(self, runner: Runner) -> None:
        self.last = runner.message_hub.get_info('last_ckpt')
        self.since = time.monotonic()

    def _save(self, runner: Runner) -> None:
        """Save, unless the schedule has just done so."""
        done, schedule = runner.iter + 1, self._schedule(runner)
        if schedule is not None and not schedule.by_epoch and _is_due(schedule, runner):
            return
        for hook in runner.hooks:
            if isinstance(hook, DeferredRuntimeInfoHook):
                hook.hand_over(runner)
        name = f'epoch_{runner.epoch}_iter_{done}.pth'
        folder = self._folder(runner)
        path = get_file_backend(folder).join_path(folder, name)
        runner.message_hub.update_info('last_ckpt', path)
        runner.save_checkpoint(
            folder,
            name,
            save_param_scheduler=runner.param_schedulers is not None,
            meta=dict(epoch=runner.epoch, iter=done),
            by_epoch=False,
        )
        if is_main_process():
            manifest.write_own(runner.work_dir, 'last_checkpoint', 'last_checkpoint', path)
            self._remove_all_but(runner, name)
        self._restart_clock(runner)

    def _remove_all_but(self, runner: Runner, name: str) -> None:
        folder = self._folder(runner)
        backend = get_file_backend(folder)
        for other in list(backend.list_dir_or_file(folder, list_dir=False)):
            if STEP_CHECKPOINT.fullmatch(other) and other != name:
                remove_checkpoint(backend, backend.join_path(folder, other))

    def _folder(self, runner: Runner) -> str:
        return getattr(self._schedule(runner), 'out_dir', None) or runner.work_dir

    @staticmethod
    def _schedule(runner: Runner) -> CheckpointHook | None:
        return next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)


def _is_due(hook: CheckpointHook, runner: Runner) -> bool:
    return hook.every_n_train_iters(runner, hook.interval, hook.save_begin) or (
        hook.save_last and hook.is_last_train_iter(runner)
    )


def saves_after_this_step(runner: Runner) -> bool:
    """Say whether any hook saves a checkpoint at the end of this step, other than for the end of an epoch."""
    return any(
        hook.saves_now(runner)
        if isinstance(hook, StepCheckpointHook)
        else isinstance(hook, CheckpointHook) and not hook.by_epoch and _is_due(hook, runner)
        for hook in runner.hooks
    )
