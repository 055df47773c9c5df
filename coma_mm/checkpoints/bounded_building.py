"""A limit of what modules allocate while they are built by settings that stand in a file."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from time import thread_time
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

ROOM = 200_000_000, 5_000  # bytes and operators that nothing in the file has to justify
TIMES = 6, 40  # bytes for each byte of the weights in float32, and operators for each weight
SECONDS = 8, 20  # of this thread, and more for each GB of weights: plain Python that no operator shows
NUMBER, NUMBERS = 2**15, 2**18  # the largest number in the settings, and the sum of all
SIDE, SIDES = 2**11, ('size', 'window', 'resolution')  # of an image, and its names: plain Python lists all positions
UNFORESEEN = 'aten::repeat_interleave', 'aten::bincount'  # as large as the values in a tensor say
LARGE = 'they describe far more weights than the file has'


@contextmanager
def bounded_building(weights: dict[str, Tensor], settings: object) -> Iterator[None]:
    """Stop modules that a file describes from growing far beyond the weights that it has for them.

    A file that says ``dims=(10**9, ...)`` or ``depths=(10**9, ...)`` would otherwise fill the memory. Sizes are known
    before anything is allocated. Other threads are not affected, nor is what comes after.

    Args:
        weights: Weights of the file.
        settings: Arguments of the modules: numbers in dicts and lists.

    Raises:
        ValueError: Before, if the settings have numbers that cannot be meant; inside, as soon as more is allocated, or
            more operators are called, than :data:`TIMES` what the file has and :data:`ROOM`, or it takes too long.
    """
    total = 0.0
    for is_side, value in _numbers(settings):
        total += abs(value)
        if not abs(value) <= (SIDE if is_side else NUMBER):  # nan, too
            raise ValueError(f'{LARGE}: a number is more than {NUMBER}, or a side more than {SIDE}')
    if total > NUMBERS:
        raise ValueError(f'{LARGE}: all numbers add up to more than {NUMBERS}')
    size = sum(max(4, value.element_size()) * value.numel() for value in weights.values())
    end = thread_time() + SECONDS[0] + SECONDS[1] * size / 1e9

    events = count()

    def watch(*event: object) -> None:
        if not next(events) % 256 and thread_time() > end:  # asking the system for the time is slow
            raise ValueError(f'{LARGE}: building takes too long')

    free = sys.getprofile() is None  # a profiler at work, in C, could not be set again
    try:
        with _Counter(TIMES[0] * size + ROOM[0], TIMES[1] * len(weights) + ROOM[1]):
            if free:
                sys.setprofile(watch)  # of this thread alone, at each call
            yield
    finally:
        if free:
            sys.setprofile(None)


def _numbers(settings: object) -> Iterator[tuple[bool, float]]:
    """Yield whether a number is a side, of an image or window, and the number, at any depth."""
    todo = [(False, settings)]
    while todo:
        is_side, value = todo.pop()
        if isinstance(value, dict):
            todo.extend((is_side or any(part in str(name) for part in SIDES), x) for name, x in value.items())
        elif isinstance(value, (list, tuple, set)):
            todo.extend((is_side, x) for x in value)
        elif isinstance(value, (int, float)):
            yield is_side, value


class _Counter(TorchDispatchMode):
    """Counts bytes and operators, before they are run."""

    def __init__(self, size: int, operators: int) -> None:
        super().__init__()
        self.size, self.operators = size, operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operators -= 1
        kind, size = _kind(func), 0
        if kind == 'empty':  # the commonest by far
            size = math.prod(args[0]) * (kwargs.get('dtype') or torch.get_default_dtype()).itemsize
        elif kind != 'none':
            try:
                size = self._foresee(func, kind, args, kwargs)
            except RuntimeError:
                if kind != 'dynamic':
                    raise
                result = func(*args, **kwargs)  # no larger than what it is made of
                self._take(_bytes(result))
                return result
        self._take(size)
        return func(*args, **kwargs)

    def _take(self, size: int) -> None:
        self.size -= size
        if min(self.size, self.operators) < 0:
            raise ValueError(LARGE)

    def _foresee(self, func: Any, kind: str, args: Any, kwargs: dict) -> int:
        """Return the bytes of an operator's result, from tensors without content."""
        args, kwargs = tree_map_only(Tensor, lambda value: value.to('meta'), (args, kwargs))
        kwargs = {name: value for name, value in kwargs.items() if name not in ('generator', 'pin_memory')}
        return _bytes(func(*args, **kwargs | ({'device': torch.device('meta')} if kind == 'factory' else {})))


@cache
def _kind(func: Any) -> str:
    """Say how the size of an operator's result is found."""
    name = func._schema.name
    if func is torch.ops.aten.empty.memory_format:
        return 'empty'
    if func.is_view or (name.endswith('_') and name != 'aten::resize_'):  # in place
        return 'none'
    if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*func.tags} and name not in UNFORESEEN:
        return 'dynamic'
    return 'factory' if any(argument.name == 'device' for argument in func._schema.arguments) else 'other'


def _bytes(result: Any) -> int:
    return sum(value.numel() * value.element_size() for value in tree_flatten(result)[0] if isinstance(value, Tensor))
