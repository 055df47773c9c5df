"""Schedules that follow the config and the images seen when a run is resumed."""

import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

from mmengine.config import Config
from mmengine.hooks import ParamSchedulerHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from ...checkpoints.run_state import START, check_end, check_moments, check_progress
from ...checkpoints.settings import read_config_text
from ...registry import HOOKS
from ...utils.configs import type_name
from ...utils.paths import short_path
from .run_length import settle_warm_ups

SECTIONS = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr')


@dataclass(frozen=True)
class BatchSchedule:
    """Sizes of a batch, a step and an epoch (``batching`` in checkpoints)."""

    world_size: int  # processes
    batch_size: int  # images that each of them has in an iteration
    accumulative_counts: int  # iterations in a step of the optimizer
    epoch_length: int  # iterations in an epoch

    @property
    def images(self) -> int:
        """Images in an iteration."""
        return self.world_size * self.batch_size

    @property
    def step(self) -> int:
        """Images in a step of the optimizer."""
        return self.images * self.accumulative_counts

    def __str__(self) -> str:
        counts = f', {self.accumulative_counts} iterations a step' if self.accumulative_counts > 1 else ''
        return f'{self.world_size} x {self.batch_size} images{counts}, {self.epoch_length} iterations an epoch'

    @classmethod
    def of(cls, runner: Runner) -> 'BatchSchedule':
        loader, wrapper = runner.train_dataloader, runner.optim_wrapper
        sampler = getattr(loader, 'batch_sampler', None)
        size = getattr(loader, 'batch_size', None) or getattr(sampler, 'batch_size', None) or 1
        counts = getattr(wrapper, '_accumulative_counts', 1)
        return cls(runner.world_size, size, counts, len(loader))

    @classmethod
    def read(cls, stored: object) -> 'BatchSchedule | None':
        """Return what a checkpoint says, if it is what :func:`dataclasses.asdict` wrote."""
        names = {field.name for field in fields(cls)}
        if not isinstance(stored, dict) or set(stored) != names:
            return None
        return cls(**stored) if all(type(value) is int and 0 < value < 2**24 for value in stored.values()) else None


@dataclass(frozen=True)
class Course:
    """Map from iterations to steps of the schedule, in a run whose end has been moved.

    The remaining steps of the schedule are spread evenly over the remaining iterations.
    """

    iter: int  # iterations that were done when the end was moved
    steps: int  # of the schedule, that were taken by then
    end: int  # iterations of the whole run
    length: int  # steps of the whole schedule

    def at(self, iteration: int) -> int:
        """Return how many steps are taken when so many iterations are done."""
        return self.steps + (iteration - self.iter) * (self.length - self.steps) // max(1, self.end - self.iter)

    def follow(self, done: int, now: int, scale: Fraction, length: int) -> 'Course':
        """Return the course of a run that goes on with other batches, or another schedule.

        Args:
            done: Iterations of before so far, which are ``now`` new ones.
            scale: New iterations that equal one of before.
            length: Steps of the schedule of now.
        """
        return Course(now, self.at(done) * length // self.length, max(now, -int(-self.end * scale // 1)), length)


@HOOKS.register_module()
class ScheduleHook(ParamSchedulerHook):
    """mmengine's ``ParamSchedulerHook`` for runs that are resumed with another config, batch or number of processes.

    The tools put it in that one's place. See :func:`follow_config`. Schedulers are stepped once for so many images as
    an iteration had when the run began. ``meta['batching']`` of checkpoints has the sizes of now and of then. A run
    whose end was moved (:class:`.BudgetHook`) has the same steps of its schedule, spread over other iterations:
    ``meta['course']``.
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
        """Return the fraction of the schedule that is done by an iteration."""
        return self._steps_by(iteration) / self.length

    def _steps_by(self, iteration: int) -> int:
        """Return how many steps of the schedule are taken by an iteration."""
        return self.course.at(iteration) if self.course else int(iteration * self.iters_ratio)


def iters_ratio(runner: Runner, reference: BatchSchedule, now: BatchSchedule) -> Fraction:
    """Return how many reference iterations equal one of now, by images or by the length of an epoch."""
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return Fraction(now.images, reference.images)
    return Fraction(reference.epoch_length, now.epoch_length)


def follow_config(runner: Runner, checkpoint: dict) -> tuple[BatchSchedule, Course | None]:
    """Apply the config to a run that resumes, where it differs from the checkpoint's config; log the differences.

    The checkpoint is changed before the runner reads it. The optimizer keeps its moments. Its groups and the schedulers
    become those of a run that had this config from the start. With another batch or number of processes, iterations are
    counted anew, and the schedule goes on by images seen. A step keeps its images by accumulation where that divides.
    With the same config and batch nothing is touched.

    Args:
        runner: Has built its loop; its optimizer may still be a config.
        checkpoint: With ``meta``; ``optimizer`` and ``param_schedulers`` may be missing.

    Returns:
        The batching of the run's beginning, which iterations in the config (``max_iters``, schedules) are meant for,
        and the course of the schedule if a budget of time has moved the end of the run.
    """
    meta, loop = checkpoint['meta'], runner.train_loop
    by_epoch, source = not isinstance(loop, IterBasedTrainLoop), short_path(runner._load_from or 'the checkpoint')
    if isinstance(runner.optim_wrapper, dict):
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    # Four batchings: `before` of the checkpoint, `reference` of the run's beginning, `now` as configured here, and
    # `ours`, which is `now` with so much accumulation that a step keeps its images.
    now = BatchSchedule.of(runner)
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        print_log('There are several optimizers: their rates and schedules are those of the checkpoint', 'current')
        return now, None
    before, reference, is_known = _read_batchings(meta, now, loop)
    check_progress(meta, before.epoch_length if by_epoch else None, is_known, source)
    settle_warm_ups(runner.cfg, reference.epoch_length, loop.max_iters)
    changes = _changes(meta, runner.cfg)
    _check_optimizer(runner, checkpoint, changes or {}, source)
    ours = _keep_step(runner, before, now, changes or {})
    max_iters, done = loop.max_iters, meta['iter']
    meta['iter'] = _convert(meta, before, ours, loop)
    course = _read_course(runner, meta)
    if course is not None and (changes or before != ours or course.length != max_iters):
        course = course.follow(done, meta['iter'], Fraction(before.images, ours.images), max_iters)
    if by_epoch:
        max_iters = loop.max_epochs * reference.epoch_length
        check_end(meta['epoch'], loop.max_epochs, 'epochs', source)
    else:
        set_end(runner, course.end if course else -int(-max_iters // iters_ratio(runner, reference, ours)))
        check_end(meta['iter'], loop.max_iters, 'iterations', source)
    if changes is None:
        print_log('The checkpoint does not say of which config it is: its rates and schedules are kept', 'current')
    if not changes and before == ours == reference and _has_schedulers(runner, checkpoint, course):
        return reference, course
    done = course.at(meta['iter']) if course else int(meta['iter'] * iters_ratio(runner, reference, ours))
    _rebuild(runner, checkpoint, reference, max_iters, done, scale=Fraction(ours.step, now.step))
    if changes:
        listed = ', '.join(f'{name} {old} -> {new}' for name, (old, new) in changes.items())
        print_log(f'The config is not that of the checkpoint, and holds from here on: {listed}', 'current')
    if before != ours:
        _say_batching(runner, before, ours, reference, meta)
    return reference, course


def _has_schedulers(runner: Runner, checkpoint: dict, course: Course | None) -> bool:
    """Say whether a checkpoint has the schedulers that the config builds, by their number and their course."""
    configs = runner.cfg.get('param_scheduler') or ()
    built = getattr(runner, 'strategy', runner).param_schedulers
    same_number = not isinstance(built, list) or len(built) == len(configs)
    same_course = course is not None or 'course' not in checkpoint['meta']
    return ('param_schedulers' in checkpoint or not configs) and same_number and same_course


def set_end(runner: Runner, end: int) -> None:
    """Set the last iteration of a run."""
    runner.train_loop._max_iters = end
    if hasattr(runner, 'strategy'):
        runner.strategy.dispatch_kwargs['max_iters'] = end
    wrapper = runner.optim_wrapper
    if hasattr(wrapper, '_max_counts'):  # whole steps, under accumulation
        wrapper._max_counts, wrapper._remainder_counts = end, end % wrapper._accumulative_counts


def _read_course(runner: Runner, meta: dict) -> Course | None:
    """Return the course in a checkpoint, if the config still has a budget; otherwise its own length holds."""
    has_budget = any(type_name(type(hook)) == 'BudgetHook' for hook in runner.hooks)
    return Course(**meta['course']) if has_budget and meta.get('course') else None


def _read_batchings(meta: dict, now: BatchSchedule, loop: BaseLoop) -> tuple[BatchSchedule, BatchSchedule, bool]:
    """Return the batchings of a checkpoint and of its run's beginning, and whether the checkpoint has both."""
    stored = meta.get('batching')
    stored = stored if isinstance(stored, dict) else {}
    before, reference = BatchSchedule.read(stored.get('now')), BatchSchedule.read(stored.get('start'))
    is_known = before is not None and reference is not None
    if before is None or reference is None:  # not of our tools: epochs tell their length
        length, rest = divmod(meta['iter'], meta['epoch'] or 1)
        known = meta['epoch'] and length and not rest and not isinstance(loop, IterBasedTrainLoop)
        before = reference = replace(now, epoch_length=length) if known else now
    return before, reference, is_known


def _convert(meta: dict, before: BatchSchedule, ours: BatchSchedule, loop: BaseLoop) -> int:
    """Return the iteration of now that has seen as many images as a checkpoint."""
    if isinstance(loop, IterBasedTrainLoop):
        return meta['iter'] * before.images // ours.images
    begun = meta['iter'] - meta['epoch'] * before.epoch_length
    return meta['epoch'] * ours.epoch_length + round(begun * ours.epoch_length / before.epoch_length)


def _changes(meta: dict, cfg: Config) -> dict[str, tuple] | None:
    """Return the settings that differ, with both values; None if a config is made of more than literals."""
    try:
        theirs, ours = (read_config_text(text, SECTIONS) for text in (meta['cfg'], cfg.pretty_text))
    except (KeyError, SyntaxError, TypeError, ValueError):
        return None
    for sections in (theirs, ours):  # of the loop, whose class and validation change no rate
        loop = sections.get('train_cfg')
        loop = loop if isinstance(loop, dict) else {}
        sections['train_cfg'] = {name: loop[name] for name in ('max_epochs', 'max_iters') if name in loop}
    return dict(_differences(theirs, ours))


def _differences(old: object, new: object, place: str = '') -> Iterator[tuple[str, tuple]]:
    """Yield the places below which two configs differ, as --cfg-options names them."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old | new:
            yield from _differences(old.get(name), new.get(name), f'{place}.{name}' if place else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and place.startswith('param_sch'):
        for i, pair in enumerate(zip(old, new)):
            yield from _differences(*pair, f'{place}.{i}')
    elif old != new:
        yield place, (old, new)


def _check_optimizer(runner: Runner, checkpoint: dict, changes: dict, source: str) -> None:
    """Refuse moments of another optimizer."""
    saved = checkpoint.get('optimizer')
    if not saved:
        return
    advice = f'go on with that of the checkpoint, or {START.format(source=source)}'
    for name, (old, new) in changes.items():
        if name == 'optim_wrapper.optimizer.type':
            raise ValueError(
                f'{name} is {new} here and {old} in the checkpoint, whose moments mean something else: {advice}'
            )
    theirs, ours = saved['param_groups'], runner.optim_wrapper.optimizer.param_groups
    if len(theirs) != len(ours):
        raise ValueError(
            f'the optimizer has {len(ours)} groups of parameters here and {len(theirs)} in the checkpoint, so '
            f'its moments cannot be told apart (optim_wrapper.paramwise_cfg?): {advice}'
        )
    if not hasattr(runner, 'strategy'):  # whose parameters are parts
        check_moments(saved, ours, source)


def _keep_step(runner: Runner, before: BatchSchedule, now: BatchSchedule, changes: dict) -> BatchSchedule:
    """Accumulate so many batches that a step has its images as before, unless the config asks for something else."""
    asked = any(name.startswith(('optim_wrapper.accumulative_counts', 'auto_scale_lr')) for name in changes)
    counts, rest = divmod(before.step, now.images)
    if asked or rest:
        return now
    runner.optim_wrapper._accumulative_counts = counts
    return replace(now, accumulative_counts=counts)


def _rebuild(
    runner: Runner, checkpoint: dict, start: BatchSchedule, max_iters: int, done: int, scale: Fraction
) -> None:
    """Build new schedulers, step them to the place of the run, and write them and the rates into the checkpoint.

    Schedulers count iterations as large as at the run's beginning (``start``); ``done`` of them are done.
    """
    scaling = getattr(runner, '_auto_scale_lr', None) or getattr(runner, 'auto_scale_lr', None) or {}
    wrapper, saved = runner.optim_wrapper, checkpoint.get('optimizer')
    _reset(wrapper)
    if scaling.get('enable'):  # the runner has scaled by the images of a step without what _keep_step did
        for group in wrapper.optimizer.param_groups:
            group['lr'] *= float(scale)
    configs = runner.cfg.get('param_scheduler') or []
    built = []
    for config in configs if isinstance(configs, (list, tuple)) else [configs]:
        config = deepcopy(config)
        config.setdefault('end', runner.max_epochs if config.get('by_epoch', True) else max_iters)
        defaults = dict(optimizer=wrapper, epoch_length=start.epoch_length)
        built.append(PARAM_SCHEDULERS.build(config, default_args=defaults))
    _advance(built, done, checkpoint['meta']['epoch'], start.epoch_length)
    if saved:
        groups = zip(saved['param_groups'], wrapper.optimizer.param_groups)
        saved['param_groups'] = [{**group, 'params': theirs['params']} for theirs, group in groups]
        if wrapper.base_param_settings is not None:  # mmengine's stand-in for a group without factors
            saved['base_param_settings'] = wrapper.base_param_settings
    if not built:
        return
    checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in built]
    runner.param_schedulers = built
    if hasattr(runner, 'strategy'):
        runner.strategy.param_schedulers = runner.param_schedulers


def _reset(wrapper: OptimWrapper) -> None:
    """Undo what building schedulers did to the groups of an optimizer."""
    for group in wrapper.param_groups:
        for key in [key for key in group if key.startswith('initial_')]:
            group[key.removeprefix('initial_')] = group.pop(key)
        if 'betas' in group and 'momentum' in group:  # a scheduler's stand-in for the first beta
            group['betas'] = (group.pop('momentum'), *group['betas'][1:])


def _advance(schedulers: list, iterations: int, epochs: int, epoch_length: int) -> None:
    """Step schedulers as a run does: they compute each value from the one before."""
    by_iteration = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no optimizer has stepped
        for step in range(1, iterations + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if step % epoch_length == 0 and step <= epochs * epoch_length:
                for scheduler in by_epoch:
                    scheduler.step()


def _say_batching(
    runner: Runner, before: BatchSchedule, ours: BatchSchedule, reference: BatchSchedule, meta: dict
) -> None:
    """Log what another number of processes, or another batch, changes."""
    if ours.step == before.step:
        step = f'a step keeps its {ours.step} images, with optim_wrapper.accumulative_counts={ours.accumulative_counts}'
    else:
        step = (
            f'a step has {ours.step} images instead of {before.step}, at the rates of the config (another batch_size '
            'may keep it; --auto-scale-lr scales the rates)'
        )
    counted = ''
    if reference.images != ours.images and isinstance(runner.train_loop, IterBasedTrainLoop):
        counted = (
            f'. max_iters and schedules of the config count iterations of {reference.images} images, as at the '
            'beginning of the run; intervals of checkpoints, validation and log those of now'
        )
    print_log(
        f'The run had {before}, and has {ours}: {step}; it goes on at iteration {meta["iter"]} of '
        f'{runner.train_loop.max_iters}, and its schedule by the images seen{counted}',
        'current',
    )
