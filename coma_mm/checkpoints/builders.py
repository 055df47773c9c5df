"""Constructors that a pickle in a checkpoint may call: tensors, arrays, log histories and plain containers.

Each function checks its arguments, whose types the file chooses, before it makes anything of them.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from ..utils.text import printable

MAX_VIEWS = 16  # times the bytes of a file that all its tensors together may show
ROOM = 64 * 2**20  # bytes that may be built beyond those of the file
MAX_DIMENSIONS = 32
MAX_ITEM = 1024  # characters of a text in an array
CODES = tuple('efdFDbhilqBHILQ?SUuc')  # of numpy's types of numbers and text
STORAGES = dict(
    Double=torch.float64,
    Float=torch.float32,
    Half=torch.float16,
    BFloat16=torch.bfloat16,
    Long=torch.int64,
    Int=torch.int32,
    Short=torch.int16,
    Char=torch.int8,
    Byte=torch.uint8,
    Bool=torch.bool,
    ComplexDouble=torch.complex128,
    ComplexFloat=torch.complex64,
    Untyped=torch.uint8,
)
HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
QUANTISED = torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4


class Refused(ValueError):
    """Content of a file that is not read."""


def shown(value: object) -> str:
    """Return a name in a file for a message; of anything else its type, since its text may have no end."""
    return printable(value)[:200] if isinstance(value, str) else f'a {type(value).__name__}'


class Placeholder:
    """A value on the stack that stands for something else and may not be part of the result."""


class Name(str, Placeholder):
    """A function or class that a file names."""


class Budget:
    """Bytes that may still be built.

    Args:
        size: Bytes of the file.
        pickled: Bytes of the pickle in it: text becomes bytes, and these an array, before the first can go.
    """

    def __init__(self, size: int, pickled: int):
        self.size = size
        self.left = size + 4 * pickled + ROOM
        self.views = MAX_VIEWS * size + ROOM  # bytes that tensors may show, those that share them included

    def take(self, size: int) -> None:
        """Count something that is about to be built."""
        self.left -= size
        if self.left < 0:
            raise Refused('it describes far more than it has bytes')


def is_key(value: object) -> bool:
    """Return whether a value may be a key of a dict: its hash is found at once, and few others share it."""
    return value is None or type(value) in (str, bytes, bool, float) or type(value) is int and abs(value) < 2**60


@dataclass
class StorageKind(Placeholder):
    """Type of a storage's values."""

    dtype: torch.dtype


@dataclass
class Storage(Placeholder):
    """Bytes of tensors, and the type of their values."""

    values: torch.UntypedStorage
    dtype: torch.dtype


def find(name: Name) -> Any:
    """Return what a name stands for where that is a plain value; else the name."""
    module, _, last = name.rpartition('.')
    if name in DTYPES and DTYPES[name] not in QUANTISED:
        return DTYPES[name]
    if module in ('torch', 'torch.cuda', 'torch.storage') and last.endswith('Storage'):
        dtype = STORAGES.get(last.removesuffix('Storage'))
        if dtype is None:
            raise Refused(f'GLOBAL {shown(name)}')
        return StorageKind(dtype)
    if module == HISTORY and last.isidentifier() and not last.startswith('_'):
        return None  # a statistic, see _statistic
    if name not in BUILDERS and name not in TYPES:
        raise Refused(f'GLOBAL {shown(name)}')
    return name


def build(name: str, arguments: tuple, budget: Budget) -> Any:
    """Build an object by the table.

    Raises:
        Refused: If the name is not in it, or its arguments describe more than there is room for.
        TypeError, ValueError: If the arguments are wrong otherwise.
    """
    if name not in BUILDERS:
        raise Refused(f'GLOBAL {shown(name)}')
    return BUILDERS[name](budget, *arguments)


def restore(target: Any, state: Any, budget: Budget) -> None:
    """Give an object the state that a pickle has for it."""
    if isinstance(target, HistoryBuffer):
        _restore_history(target, state)
    elif type(target) is OrderedDict:  # versions of modules; nothing else reads attributes of a dict
        metadata = state.get('_metadata') if type(state) is dict else None
        if isinstance(metadata, dict):
            target._metadata = OrderedDict(  # type: ignore[attr-defined]
                (name, {key: value for key, value in entry.items() if type(key) is str and type(value) is int})
                for name, entry in metadata.items()
                if isinstance(entry, dict)
            )
    elif type(target) is np.ndarray:
        _restore_array(target, state, budget)
    elif isinstance(target, np.dtype):
        _restore_type(target, state)
    else:
        raise Refused(f'it changes a {type(target).__name__}')


# ---- tensors ----


def _whole(*values: Any) -> None:
    """Refuse what is no whole number from 0 to 2**48."""
    if not all(type(value) is int and 0 <= value < 2**48 for value in values):
        raise Refused('a tensor has a size that is no whole number >= 0')


def _tensor(
    budget: Budget,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """Return a tensor on a storage that has all of its values."""
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple) or metadata:
        raise Refused('a tensor of it is of a kind that checkpoints do not have')
    dtype = storage.dtype
    _whole(offset, *size, *stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise Refused('a tensor has other numbers of sizes and strides')
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if count else offset - 1
    if (last + 1) * dtype.itemsize > storage.values.nbytes():
        raise Refused('a tensor has values beyond its storage')
    budget.take(800 + max(0, count * dtype.itemsize - storage.values.nbytes()))
    budget.views -= count * dtype.itemsize
    if budget.views < 0:
        raise Refused(f'its tensors share bytes, and together have more than {MAX_VIEWS} times those of the file')
    tensor = torch.empty(0, dtype=dtype, device=storage.values.device)
    tensor.set_(storage.values, offset, size, stride)
    return tensor.requires_grad_() if requires_grad is True and dtype.is_floating_point else tensor


def _tensor_v3(
    budget: Budget, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    """Return a tensor of a type that has no storage type of its own."""
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise Refused('a tensor of it is of a kind that checkpoints do not have')
    return _tensor(budget, Storage(storage.values, dtype), offset, size, stride, grad, hooks, *rest)


def _parameter(budget: Budget, values: Any, requires_grad: Any = True, *rest: Any) -> Tensor:
    """Return a parameter, without hooks and attributes."""
    if not isinstance(values, Tensor):
        raise Refused('a parameter of it is no tensor')
    budget.take(800)
    return torch.nn.Parameter(values.detach(), requires_grad is True and values.is_floating_point())


def _with_attributes(budget: Budget, name: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Return a tensor that had attributes, without them."""
    allowed = 'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_tensor_v3', 'torch._utils._rebuild_parameter'
    if name not in allowed or kind not in ('torch.Tensor', 'torch.nn.parameter.Parameter'):
        raise Refused(f'GLOBAL {shown(kind)}')
    return build(name, tuple(arguments), budget)


# ---- arrays ----


def _new_type(budget: Budget, code: Any, *flags: Any) -> np.dtype:
    """Return a dtype of numpy of its own, whose order of bytes is set later."""
    digits = code[1:] if type(code) is str else 'x'
    if digits and not (digits.isdecimal() and len(digits) < 6 and int(digits) <= MAX_ITEM) or code[:1] not in CODES:
        raise Refused(f'an array has values of the type {shown(code)[:20]}')
    budget.take(100)
    return np.dtype(code, False, True)


def _restore_type(target: np.dtype, state: Any) -> None:
    order = state[1] if isinstance(state, tuple) and len(state) > 4 else None
    if order not in ('<', '>', '|', '=') or state[2:5] != (None, None, None):
        raise Refused('an array has values of a type that checkpoints do not have')
    target.__setstate__((3, order, None, None, None, target.itemsize, target.alignment, target.flags))


def _check_array(budget: Budget, data: Any, kind: Any, shape: Any) -> None:
    if not isinstance(kind, np.dtype) or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise Refused('an array of it is of a kind that checkpoints do not have')
    _whole(*shape)
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * kind.itemsize != len(data):
        raise Refused('an array has more or fewer values than bytes')
    budget.take(200 + len(data))


def _new_array(budget: Budget, kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind != 'numpy.ndarray':
        raise Refused(f'GLOBAL {shown(kind)}')
    budget.take(200)
    return np.empty(0)


def _restore_array(target: np.ndarray, state: Any, budget: Budget) -> None:
    _, shape, kind, by_columns, data = state
    _check_array(budget, data, kind, shape)
    target.__setstate__((1, shape, kind, by_columns is True, bytes(data)))


def _buffered_array(budget: Budget, data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Return an array as protocol 5 has them."""
    _check_array(budget, data, kind, shape)
    return np.frombuffer(bytearray(data), kind).reshape(shape, order='F' if order == 'F' else 'C')


def _scalar(budget: Budget, kind: Any, data: Any) -> np.generic:
    _check_array(budget, data, kind, ())
    return np.frombuffer(data, kind)[0]


# ---- log histories ----


def _restore_history(target: HistoryBuffer, state: Any) -> None:
    values, counts = (state.get(name) for name in ('_log_history', '_count_history'))
    limit = state.get('max_length', 1_000_000)
    sound = all(isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype.kind in 'fiub' for x in (values, counts))
    if not sound or len(values) != len(counts) or type(limit) is not int or not 0 < limit < 2**48:
        raise Refused('a log history of it is damaged')
    target._log_history, target._count_history, target.max_length = values, counts, limit


def _history(budget: Budget) -> HistoryBuffer:
    budget.take(600)
    return HistoryBuffer()


def _statistic(budget: Budget, owner: Any, name: Any) -> None:
    """Stand in for ``getattr``, by which log histories name their statistics: mmengine has them anyway."""
    if owner != HISTORY or type(name) is not str or name.startswith('_'):
        raise Refused('GLOBAL builtins.getattr')


# ---- plain values ----


def _encode(budget: Budget, text: Any, encoding: Any = 'utf-8') -> bytes:
    """Return bytes, which protocol 2 writes as text."""
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        raise Refused('it encodes something in a way that checkpoints do not')
    budget.take(64 + len(text))
    return text.encode('latin-1')


def _bytearray(budget: Budget, *content: Any) -> bytearray:
    if not content or type(content[0]) is bytes:
        budget.take(64 + sum(map(len, content)))
        return bytearray(*content[:1])
    return bytearray(_encode(budget, *content))


def _members(budget: Budget, items: Any) -> list:
    """Return the members of a set, which need not be copied for nothing."""
    if type(items) is not list or not all(map(is_key, items)):
        raise Refused('a set of it has members that checkpoints do not have')
    budget.take(232 + 100 * len(items))
    return items


def _ordered(budget: Budget, *items: Any) -> OrderedDict:
    """Return an ordered dict; Python 2 gave its items as pairs."""
    pairs = items[0] if items else []
    sound = len(items) <= 1 and type(pairs) is list
    if not sound or not all(type(pair) in (list, tuple) and len(pair) == 2 and is_key(pair[0]) for pair in pairs):
        raise Refused('an ordered dict of it is of a kind that checkpoints do not have')
    budget.take(300 + 150 * len(pairs))
    return OrderedDict(pairs)


def _counter(budget: Budget, *items: Any) -> Counter:
    if len(items) > 1 or items and type(items[0]) is not dict:
        raise Refused('a counter of it is of a kind that checkpoints do not have')
    budget.take(300 + 100 * sum(map(len, items)))
    counter: Counter = Counter()
    dict.update(counter, *items)
    return counter


def _size(budget: Budget, sizes: Any) -> torch.Size:
    if type(sizes) is not tuple:
        raise Refused('a size of it is of a kind that checkpoints do not have')
    _whole(*sizes)
    budget.take(64 + 8 * len(sizes))
    return torch.Size(sizes)


def _device(budget: Budget, *arguments: Any) -> torch.device:
    if not all(type(part) is str and len(part) < 20 or type(part) is int and 0 <= part < 128 for part in arguments):
        raise Refused('a device of it is none')
    return torch.device(*arguments)


# Classes that a file may name, to be the argument of a builder.
TYPES = {'numpy.ndarray', 'torch.Tensor', 'torch.nn.parameter.Parameter'}
BUILDERS: dict[str, Callable[..., Any]] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_v3,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._tensor._rebuild_from_type_v2': _with_attributes,
    'torch.Size': _size,
    'torch.device': _device,
    'collections.OrderedDict': _ordered,
    'collections.Counter': _counter,
    HISTORY: _history,
    '_codecs.encode': _encode,
    'numpy.dtype': _new_type,
}
_ARRAYS: dict[str, Callable[..., Any]] = {
    'multiarray._reconstruct': _new_array,
    'multiarray.scalar': _scalar,
    'numeric._frombuffer': _buffered_array,
}
_PLAIN: dict[str, Callable[..., Any]] = {
    'getattr': _statistic,
    'bytes': lambda budget: b'',
    'bytearray': _bytearray,
    'complex': lambda budget, *parts: complex(*parts),
    'set': lambda budget, items: set(_members(budget, items)),
    'frozenset': lambda budget, items: frozenset(_members(budget, items)),
}
BUILDERS |= {f'numpy.{core}.{name}': builder for core in ('core', '_core') for name, builder in _ARRAYS.items()}
BUILDERS |= {f'{module}.{name}': builder for module in ('builtins', '__builtin__') for name, builder in _PLAIN.items()}
