"""Schedules that follow the length of a run: ``max_epochs`` or ``max_iters`` is all that has to be changed."""

import logging

from mmengine.config import Config
from mmengine.logging import print_log

from ...utils.configs import type_name, walk_dicts
from ..common import EVALUATING

# Arguments of mmengine's schedulers that are places in the run, or lengths.
PLACES = 'begin', 'end', 'T_max', 'milestones', 'step_size', 'total_steps'
DECAYS = 'CosineAnnealingLR', 'LinearLR', 'PolyLR'  # whose end is meant to be that of the run
WARM_UPS = 'LinearLR', 'LinearParamScheduler', 'QuadraticWarmupLR', 'QuadraticWarmupParamScheduler'


def run_length(cfg: Config) -> tuple[str, int] | None:
    """Return the name and the value of the setting that says how long a run is, if there is one."""
    loop = cfg.get('train_cfg')
    loop = loop if isinstance(loop, dict) else {}
    name = 'max_epochs' if loop.get('max_epochs') else 'max_iters'
    return (name, loop[name]) if isinstance(loop.get(name), int) and loop[name] > 0 else None


def fit_schedule(cfg: Config, before: tuple[str, int] | None) -> None:
    """Stretch the schedule of a run whose length has been changed, so that warm-up and decay keep their shares of it.

    Only schedules in the unit of the loop (epochs or iterations) are stretched. Places that count epochs are rounded,
    unless ``convert_to_iter_based`` is set. The log says what has moved.

    Args:
        before: :func:`run_length` of the config file alone. A file that builds on another one may change nothing but
            the length: then its last decay ends elsewhere than the run, and tells the length that was meant.
    """
    now = run_length(cfg)
    by_epoch = now is not None and now[0] == 'max_epochs'
    schedulers = [x for _, x in walk_dicts(cfg.get('param_scheduler')) if 'type' in x]
    ours = [x for x in schedulers if x.get('by_epoch', True) == by_epoch]
    if now is None or not ours:
        return
    meant = before[1] if before and before[0] == now[0] else now[1]
    last = max(ours, key=lambda x: x.get('end') or float('inf'))
    if meant == now[1] and type_name(last['type']) in DECAYS and last.get('begin', 0) and last.get('end'):
        meant = last['end']
    if meant == now[1]:
        return
    factor = now[1] / meant
    for scheduler in ours:
        for key in PLACES:
            value = scheduler.get(key)
            exact = scheduler.get('convert_to_iter_based', False) and key in ('begin', 'end', 'T_max')
            if isinstance(value, (list, tuple)):
                scheduler[key] = [_move(place, factor, exact) for place in value]
            elif isinstance(value, (int, float)):
                scheduler[key] = _move(value, factor, exact)
    _keep_apart(ours, now[1])
    print_log(
        f'train_cfg.{now[0]} is {now[1]}, and param_scheduler was made for {meant}: it is stretched to the run, now '
        + ', '.join(f'{type_name(x["type"])} {x.get("begin", 0):g} to {x.get("end", now[1]):g}' for x in ours),
        'current',
    )


def fit_intervals(cfg: Config, before: tuple[str, int] | None) -> None:
    """Shorten intervals of a shorter run, so that it saves and evaluates as often as the whole one."""
    now = run_length(cfg)
    if not now or not before or now[0] != before[0] or now[1] >= before[1]:
        return
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    periodic = [hook for hook in cfg.get('custom_hooks') or () if type_name(hook.get('type')) in EVALUATING]
    for hook in (checkpoint, *periodic):
        counts_alike = hook.get('by_epoch', True) == (now[0] == 'max_epochs')
        if counts_alike and isinstance(hook.get('interval'), int) and hook['interval'] > 0:
            hook['interval'] = max(1, round(hook['interval'] * now[1] / before[1]))


def settle_warm_ups(cfg: Config, epoch_length: int, max_iters: int) -> bool:
    """Remove warm-ups of a single step from a config, and warn of those that are longer than the run.

    A warm-up of a single step never ends: mmengine lowers the rate at its begin, and raises it in the steps after.
    Schedules of several optimizers stay as they are. Returns whether the config has changed.
    """
    schedulers = cfg.get('param_scheduler')
    if not isinstance(schedulers, list):
        return False
    kept = list(schedulers)
    for i, scheduler in enumerate(schedulers):
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if type_name(scheduler['type']) not in WARM_UPS or not isinstance(end, (int, float)):
            continue
        by_epoch = scheduler.get('by_epoch', True)
        unit = epoch_length if by_epoch and scheduler.get('convert_to_iter_based') else 1
        if int(end * unit) - int(begin * unit) < 2:
            kept.remove(scheduler)
            for other in kept:
                if other.get('by_epoch', True) == by_epoch and other.get('begin', 0) == end:
                    other.begin = begin
                    if other.get('T_max') is not None:
                        other.T_max += end - begin
        elif not by_epoch and end > max_iters:
            print_log(
                f'the warm-up of {end} iterations is longer than the run, which has {max_iters}: shorten it with '
                f'--cfg-options param_scheduler.{i}.end={max(2, max_iters // 10)}',
                'current',
                level=logging.WARNING,
            )
    cfg.param_scheduler = kept
    return len(kept) < len(schedulers)


def _move(place: float, factor: float, exact: bool) -> float:
    moved = place * factor
    if exact and moved != round(moved):
        return round(moved, 6)
    return max(1, round(moved)) if place > 0 else 0


def _keep_apart(schedulers: list[dict], length: float) -> None:
    """Lengthen schedulers that end where they begin, which rounding can do. One without ``end`` ends with the run."""
    for scheduler in schedulers:
        end = scheduler.get('end', length)
        if isinstance(end, (int, float)) and end <= scheduler.get('begin', 0):
            scheduler['begin'] = max(0, end - 1)
            scheduler['end'] = min(length, scheduler['begin'] + 1)
