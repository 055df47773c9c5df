"""The schema of a checkpoint that a run goes on from, checked once before any of it is used.

Loops, schedulers, hooks and the optimizer take numbers, names and tensors from the file as they are. Each check names
the place in the file and what stands there.
"""

import math
from numbers import Real
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from .builders import shown

MOST = 2**40  # iterations, epochs, batches
WORDS = {dict: 'a dict', list: 'a list', str: 'text', bool: 'true or false', HistoryBuffer: 'a log history'}
START = 'start from its weights with --cfg-options load_from={source}, without --resume'


def check_run_state(checkpoint: dict, source: str) -> None:
    """Refuse a checkpoint that no run of mmengine has written, or from which none can go on."""
    start = START.format(source=source)
    missing = [name for name in ('meta', 'message_hub', 'optimizer') if checkpoint.get(name) is None]
    if {'message_hub', 'optimizer'} <= {*missing}:
        raise ValueError(f'{source} holds weights alone, and no run goes on from them; {start}')
    if missing:
        raise ValueError(f'{source} has no {missing[0]}, and no run goes on without; {start}')
    try:
        for name in ('meta', 'message_hub', 'optimizer'):
            _typed(checkpoint[name], name, dict)
        _check_weights(checkpoint.get('state_dict'), 'state_dict')
        _check_weights(checkpoint.get('ema_state_dict', {}), 'ema_state_dict')
        _check_meta(checkpoint['meta'])
        _check_budget(checkpoint['meta'])
        _check_message_hub(checkpoint['message_hub'])
        _check_schedulers(checkpoint.get('param_schedulers', []))
        _check_optimizers(checkpoint['optimizer'])
    except _Wrong as error:
        raise ValueError(f'{source} is damaged, or no run of mmengine has written it: {error}; {start}') from None


def check_progress(meta: dict, epoch_length: int | None, is_known: bool, source: str) -> None:
    """Refuse numbers of epochs and iterations that do not belong together.

    Args:
        epoch_length: Iterations in an epoch, of a loop that counts epochs.
        is_known: Whether the checkpoint says so; else it is a guess.
    """
    if epoch_length is None:
        return
    epoch, iteration = meta['epoch'], meta['iter']
    least, most = epoch * epoch_length, (epoch + 1) * epoch_length
    if not is_known:
        least, most = epoch, 1000 * most
    if not least <= iteration <= most:
        raise ValueError(
            f'{source} says that it has {epoch} epochs and {iteration} iterations, which do not belong together: an '
            f'epoch has {epoch_length}; go on from another checkpoint'
        )


def check_end(done: int, end: int, unit: str, source: str) -> None:
    """Refuse a checkpoint of more epochs or iterations than the run will have, which would end at once, untrained."""
    if done > end:
        raise ValueError(
            f'{source} says that it has {done} {unit}, more than the {end} of this run: go on from another checkpoint, '
            f'or train longer with --cfg-options train_cfg.max_{unit.replace("iterations", "iters")}={done + 1}'
        )


def check_moments(saved: dict, own: list[dict], source: str) -> None:
    """Refuse an optimizer's state for other parameters."""
    for number, (theirs, ours) in enumerate(zip(saved['param_groups'], own)):
        if len(theirs['params']) != len(ours['params']):
            raise ValueError(
                f'{source} has {len(theirs["params"])} parameters in group {number} of its optimizer, this run '
                f'{len(ours["params"])}; {START.format(source=source)}'
            )
        for key, parameter in zip(theirs['params'], ours['params']):
            for name, value in saved['state'].get(key, {}).items():
                like = name.startswith('exp_avg') or name == 'momentum_buffer'
                if like and isinstance(value, torch.Tensor) and value.shape != parameter.shape and value.dim() > 0:
                    raise ValueError(
                        f'{source} has {name} of the shape {tuple(value.shape)} for a parameter of '
                        f'{tuple(parameter.shape)}; {START.format(source=source)}'
                    )


class _Wrong(Exception):
    """A value in a file of another kind than expected."""


def _expect(value: Any, place: str, wanted: str, holds: bool) -> None:
    if not holds:
        what = repr(value) if type(value) in (int, float, bool, type(None)) else shown(value)[:60]
        raise _Wrong(f'{place} is {what}, not {wanted}')


def _typed(value: Any, place: str, kind: type, optional: bool = False) -> None:
    _expect(value, place, WORDS[kind], isinstance(value, kind) or (optional and value is None))


def _whole(value: Any, place: str, least: int = 0) -> None:
    _expect(value, place, f'a whole number from {least} to 2^40', type(value) is int and least <= value <= MOST)


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not value.is_complex() and bool(torch.isfinite(value).all())
    return isinstance(value, Real) and math.isfinite(value)  # NumPy's are Real too: metrics come as such


def _check_weights(weights: Any, place: str) -> None:
    _typed(weights, place, dict)
    for name, value in weights.items():
        _typed(name, f'a name in {place}', str)
        is_weight = isinstance(value, torch.Tensor) or name.endswith('_extra_state')
        _expect(value, f'{place}: {shown(name)[:60]}', 'a tensor', is_weight)


def _check_meta(meta: dict) -> None:
    for name in ('epoch', 'iter'):
        _whole(meta.get(name), f'meta: {name}')
    seed = meta.get('seed')
    is_seed = seed is None or (type(seed) is int and 0 <= seed < 2**32)
    _expect(seed, 'meta: seed', 'a whole number from 0 to 2^32', is_seed)
    for name in ('cfg', 'time', 'experiment_name', 'mmengine_version'):
        _typed(meta.get(name), f'meta: {name}', str, optional=True)
    position = meta.get('position')
    if position is not None:
        _typed(position, 'meta: position', dict)
        _whole(position.get('batch'), 'meta: position: batch')
        _whole(position.get('batches'), 'meta: position: batches', 1)
        batch, batches = position['batch'], position['batches']
        _expect(batch, 'meta: position: batch', f'at most {batches}', batch <= batches)
        _typed(position.get('validated'), 'meta: position: validated', bool)


def _check_budget(meta: dict) -> None:
    """Check what a budget of time has written."""
    course: Any = meta.get('course')
    if course is not None:
        names = {'iter', 'steps', 'end', 'length'}
        _expect(course, 'meta: course', 'the course of a schedule', isinstance(course, dict) and set(course) == names)
        for name in names:
            _whole(course[name], f'meta: course: {name}', int(name in ('end', 'length')))
        held = course['steps'] <= course['length'] and course['iter'] <= meta['iter'] <= course['end']
        _expect(course['end'], 'meta: course: end', f'that of a run of {meta["iter"]} iterations', held)
    budget: Any = meta.get('budget')
    if budget is not None:
        _typed(budget, 'meta: budget', dict)
        used = budget.get('used')
        _expect(used, 'meta: budget: used', 'a number of seconds', _is_number(used) and 0 <= used <= MOST)
        _whole(budget.get('fitted'), 'meta: budget: fitted', 1)


def _check_message_hub(hub: dict) -> None:
    for name in ('log_scalars', 'runtime_info', 'resumed_keys'):
        part: Any = hub.get(name)
        _typed(part, f'message_hub: {name}', dict)
        for key in part:
            _typed(key, f'a name in message_hub: {name}', str)
    for part, kind in ((hub['log_scalars'], HistoryBuffer), (hub['resumed_keys'], bool)):
        for name, value in part.items():
            _typed(value, f'message_hub: {shown(name)[:60]}', kind)
    for name, value in hub['runtime_info'].items():
        place = f'message_hub: {shown(name)[:60]}'
        if name in ('epoch', 'iter'):
            _whole(value, place)
        elif name == 'keep_ckpt_ids':
            _typed(value, place, list)
        elif name.startswith('best_score'):
            _expect(value, place, 'a number', value is None or isinstance(value, (Real, torch.Tensor)))
        elif name.startswith(('best_ckpt', 'last_ckpt')):
            _expect(value, place, 'the name of a file', value is None or isinstance(value, str))


def _check_schedulers(schedulers: Any) -> None:
    for states in schedulers.values() if isinstance(schedulers, dict) else [schedulers]:
        _typed(states, 'param_schedulers', list)
        for state in states:
            _typed(state, 'a scheduler', dict)
            for name, value in state.items():  # mmengine makes attributes of all of these
                known = isinstance(name, str) and name.isidentifier() and name != 'optimizer'
                is_setting = known and not callable(getattr(_ParamScheduler, name, None))
                _expect(name, 'a name in a scheduler', 'one of its settings', is_setting)
                place = f'a scheduler: {name}'
                if name in ('last_step', '_global_step'):
                    _whole(value, place, -1)
                elif isinstance(value, list):
                    _expect(value, place, 'a list of numbers', all(map(_is_number, value)))
                else:
                    plain = value is None or isinstance(value, (str, dict, Real, tuple, torch.Tensor))
                    _expect(value, place, 'a number or text', plain)


def _check_optimizers(saved: dict) -> None:
    """Check the state of one optimizer, or of several by name."""
    states = [value for value in (saved, *saved.values()) if isinstance(value, dict) and 'param_groups' in value]
    _expect(saved, 'optimizer', 'the state of one', bool(states))
    for state in states:
        _check_optimizer(state)


def _check_optimizer(saved: dict) -> None:
    groups: Any = saved['param_groups']
    state: Any = saved.get('state')
    _typed(state, 'optimizer: state', dict)
    _expect(groups, 'optimizer: param_groups', 'a list of groups', isinstance(groups, list) and bool(groups))
    for group in groups:
        _typed(group, 'a group of the optimizer', dict)
        keys = group.get('params')
        numbered = isinstance(keys, list) and all(type(key) is int for key in keys)
        _expect(keys, 'params of a group', 'a list of whole numbers', numbered)
        lr = group.get('lr')
        _expect(lr, 'lr of a group', 'a number >= 0', _is_number(lr) and lr >= 0)
    for key, moments in state.items():
        _typed(moments, f'optimizer: state: {shown(key)[:60]}', dict)
        for name, value in moments.items():
            plain = isinstance(name, str) and (value is None or isinstance(value, (torch.Tensor, Real, list)))
            _expect(value, f'optimizer: state: {shown(name)[:60]}', 'a tensor or a number', plain)
        step = moments.get('step', 0)
        _expect(step, 'optimizer: step', 'a number >= 0', _is_number(step) and step >= 0)
