"""The parts of a checkpoint that a run goes on from, checked before any of them is used.

The numbers that a run counts with are checked one by one. What else a part holds is checked by who reads it: mmengine
and torch.
"""

from collections.abc import Iterator
from typing import Any

import torch

from .builders import shown

MOST = 2**40  # iterations, epochs, batches
# Numbers that a run counts with, by their place in `meta`, and the least of each.
COUNTS = {
    'epoch': 0,
    'iter': 0,
    'position.batch': 0,
    'position.batches': 1,
    'course.iter': 0,
    'course.steps': 0,
    'course.end': 1,
    'course.length': 1,
    'budget.fitted': 1,
}
START = 'start from its weights with --cfg-options load_from={source}, without --resume'


def check_run_state(checkpoint: dict, source: str) -> None:
    """Refuse a checkpoint that no run of mmengine has written, or from which none can go on."""
    start = START.format(source=source)
    missing = [name for name in ('meta', 'message_hub', 'optimizer') if checkpoint.get(name) is None]
    if {'message_hub', 'optimizer'} <= {*missing}:
        raise ValueError(f'{source} holds weights alone, and no run goes on from them; {start}')
    if missing:
        raise ValueError(f'{source} has no {missing[0]}, and no run goes on without; {start}')
    parts = {name: checkpoint.get(name) for name in ('meta', 'message_hub', 'optimizer', 'state_dict')}
    wrong = [f'{name} is {_show(part)}, not a dict' for name, part in parts.items() if not isinstance(part, dict)]
    wrong = wrong or list(_wrong_counts(checkpoint['meta']))
    if wrong:
        raise ValueError(f'{source} is damaged, or no run of mmengine has written it: {wrong[0]}; {start}')


def _wrong_counts(meta: dict) -> Iterator[str]:
    """Yield what is wrong with numbers in ``meta``."""
    for place, least in COUNTS.items():
        part, _, name = place.rpartition('.')
        values: Any = meta.get(part) if part else meta
        if values is None:
            continue
        value = values.get(name) if isinstance(values, dict) else None
        if type(value) is not int or not least <= value <= MOST:
            yield f'meta: {place} is {_show(value)}, not a whole number from {least} to 2^40'


def _show(value: object) -> str:
    return repr(value) if type(value) in (int, float, bool, type(None)) else shown(value)[:60]


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
