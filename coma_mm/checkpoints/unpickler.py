"""A reader of pickles that builds data and calls nothing a file names.

A pickle is a program for a small machine. This one runs it over values and :class:`.Name`; a name is text, never the
function or class that it stands for. What may be built of a name is a table (``builders.py``). Bytes, steps, the
depth of nesting and repetitions are counted as the program runs.
"""

import pickle
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

from ..utils.text import printable
from .builders import Budget, Name, Placeholder, Refused, build, find, is_key, restore

MAX_STEPS = 5_000_000  # of the program
MAX_DEPTH = 100  # of containers within each other
MAX_TUPLE_KEYS = 10_000  # of dicts: their hashes can be made to collide
_DAMAGE = ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, struct.error
COSTS = {list: 72, dict: 80, tuple: 64, set: 232}  # bytes of memory, about


class Unpickler:
    """Reads one pickle after another of a file.

    Args:
        file: Stands at the beginning of a pickle.
        budget: Bytes that may be built.
        persistent: Called for each tensor's storage.
    """

    def __init__(self, file: BinaryIO, budget: Budget, persistent: Callable[[Any], Any]):
        self.file, self.budget, self.persistent = file, budget, persistent
        self.steps = self.tuple_keys = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Read a pickle.

        Raises:
            Refused: If it holds more than data, or more of it than the file has bytes.
            ValueError: If it is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        begun = self.steps
        read, operations, stop = self.file.read, _OPERATIONS, pickle.STOP
        try:
            while (code := read(1)) != stop:
                self.steps += 1
                if self.steps > MAX_STEPS:
                    raise Refused(f'it takes more than {MAX_STEPS} steps to read')
                operation = operations.get(code)
                if operation is None:
                    raise ValueError(
                        f'it holds the operation {code!r}, which checkpoints do not' if code else 'it ends'
                    )
                operation(self)
            (result,) = self.stack
        except Refused:
            raise
        except _DAMAGE as error:
            raise ValueError(f'its pickle is damaged: {printable(error)[:200]}') from None
        check_tree(result, 1_000_000 + 16 * (self.steps - begun))
        return result

    def take(self, size: int) -> bytes:
        data = self.file.read(size) if size <= self.budget.size else b''
        if len(data) < size:
            raise ValueError('it is cut short')
        return data

    def unpack(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, value: Any, cost: int = 32) -> None:
        self.budget.take(cost)
        self.stack.append(value)

    def pop_mark(self) -> list:
        """Take what lies above the last mark from the stack."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop(self) -> Any:
        """Take a value from the stack, not from below a mark."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise ValueError('its pickle is damaged')
        return self.stack.pop()

    def name(self) -> None:
        module, name = (self.file.readline(300) for _ in range(2))
        if not (module.endswith(b'\n') and name.endswith(b'\n')):
            raise ValueError('its pickle is damaged')
        self.push(find(Name(f'{module[:-1].decode()}.{name[:-1].decode()}')))

    def stack_name(self) -> None:
        """Put a name on the stack that is made of two texts there."""
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str or len(module) + len(name) > 600:
            raise ValueError('its pickle is damaged')
        self.push(find(Name(f'{module}.{name}')))

    def reduce(self) -> None:
        """Replace a name and arguments by what they build."""
        arguments, name = self.pop(), self.pop()
        if type(name) is not Name or type(arguments) is not tuple:
            raise Refused(f'it calls a {type(name).__name__}')
        self.push(build(name, arguments, self.budget))

    def restore_state(self) -> None:
        state = self.pop()
        restore(self.stack[-1], state, self.budget)

    def append(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f'it appends to a {type(target).__name__}')
        self.budget.take(8 * len(items))
        target.extend(items)

    def update(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict, Counter) or len(items) % 2:
            raise Refused(f'it sets keys of a {type(target).__name__}')
        self.budget.take(100 * len(items) // 2)
        self.check_keys(items[::2])
        target.update(zip(items[::2], items[1::2]))

    def add(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise Refused(f'it adds to a {type(target).__name__}')
        self.check_keys(items)
        self.budget.take(100 * len(items))
        target.update(items)

    def freeze(self) -> None:
        items = self.pop_mark()
        self.check_keys(items)
        self.push(frozenset(items), COSTS[set] + 100 * len(items))

    def check_keys(self, keys: list) -> None:
        """Refuse keys whose hashes take long."""
        for key in keys:
            if type(key) is tuple and len(key) <= 16 and all(map(is_key, key)):
                self.tuple_keys += 1
            elif not is_key(key):
                raise Refused(f'it has a {type(key).__name__} for a key')
        if self.tuple_keys > MAX_TUPLE_KEYS:
            raise Refused(f'it has more than {MAX_TUPLE_KEYS} tuples for keys')

    def tuple_of(self, count: int) -> None:
        """Replace the last values by a tuple of them."""
        self.push(tuple([self.pop() for _ in range(count)][::-1]), COSTS[tuple])

    def text(self, size: int) -> None:
        text = str(self.take(size), 'utf-8', 'surrogatepass')
        self.push(text, sys.getsizeof(text))

    def old_text(self, size: int) -> None:
        """Put a text of Python 2 on the stack; what is no UTF-8 stays bytes."""
        data = self.take(size)
        try:
            self.push(data.decode(), 64 + 2 * size)
        except UnicodeDecodeError:
            self.push(data, 64 + size)

    def data(self, size: int, kind: type = bytes) -> None:
        self.push(kind(self.take(size)), 64 + size)

    def whole_number(self) -> None:
        """Put a number of up to 255 bytes on the stack."""
        self.push(int.from_bytes(self.take(self.unpack('B')), 'little', signed=True), 300)

    def keep(self, index: int) -> None:
        """Keep the last value under a number."""
        if index not in self.memo:
            self.budget.take(100)
        self.memo[index] = self.stack[-1]

    def set_mark(self) -> None:
        self.budget.take(8)
        self.marks.append(len(self.stack))


def _pushes(make: Callable[[], Any], cost: int = 8) -> Callable[[Unpickler], None]:
    return lambda machine: machine.push(make(), cost)


# Codes have the standard library's names; pickletools says what each does. Texts of protocol 0, extensions, INST, OBJ,
# NEWOBJ_EX and buffers out of band are left out: no checkpoint has them.
_OPERATIONS: dict[bytes, Callable[[Unpickler], Any]] = {
    pickle.PROTO: lambda machine: machine.take(1),  # the protocol
    pickle.FRAME: lambda machine: machine.take(8),  # length of a frame
    pickle.MARK: Unpickler.set_mark,
    pickle.POP: Unpickler.pop,
    pickle.POP_MARK: Unpickler.pop_mark,
    pickle.DUP: lambda machine: machine.push(machine.stack[-1], 8),
    pickle.NONE: _pushes(lambda: None),
    pickle.NEWTRUE: _pushes(lambda: True),
    pickle.NEWFALSE: _pushes(lambda: False),
    pickle.BININT: lambda machine: machine.push(machine.unpack('<i')),
    pickle.BININT1: lambda machine: machine.push(machine.unpack('B')),
    pickle.BININT2: lambda machine: machine.push(machine.unpack('<H')),
    pickle.BINFLOAT: lambda machine: machine.push(machine.unpack('>d')),
    pickle.LONG1: Unpickler.whole_number,
    pickle.BINUNICODE: lambda machine: machine.text(machine.unpack('<I')),
    pickle.SHORT_BINUNICODE: lambda machine: machine.text(machine.unpack('B')),
    pickle.BINUNICODE8: lambda machine: machine.text(machine.unpack('<Q')),
    pickle.SHORT_BINSTRING: lambda machine: machine.old_text(machine.unpack('B')),
    pickle.BINSTRING: lambda machine: machine.old_text(machine.unpack('<I')),
    pickle.SHORT_BINBYTES: lambda machine: machine.data(machine.unpack('B')),
    pickle.BINBYTES: lambda machine: machine.data(machine.unpack('<I')),
    pickle.BINBYTES8: lambda machine: machine.data(machine.unpack('<Q')),
    pickle.BYTEARRAY8: lambda machine: machine.data(machine.unpack('<Q'), bytearray),
    pickle.EMPTY_LIST: _pushes(list, COSTS[list]),
    pickle.EMPTY_DICT: _pushes(dict, COSTS[dict]),
    pickle.EMPTY_SET: _pushes(set, COSTS[set]),
    pickle.EMPTY_TUPLE: _pushes(tuple),
    pickle.LIST: lambda machine: machine.push(machine.pop_mark(), COSTS[list]),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.pop_mark()), COSTS[tuple]),
    pickle.TUPLE1: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3: lambda machine: machine.tuple_of(3),
    pickle.APPEND: lambda machine: machine.append([machine.pop()]),
    pickle.APPENDS: lambda machine: machine.append(machine.pop_mark()),
    pickle.SETITEM: lambda machine: machine.update([machine.pop(), machine.pop()][::-1]),
    pickle.SETITEMS: lambda machine: machine.update(machine.pop_mark()),
    pickle.ADDITEMS: Unpickler.add,
    pickle.FROZENSET: Unpickler.freeze,
    pickle.BINPUT: lambda machine: machine.keep(machine.unpack('B')),
    pickle.LONG_BINPUT: lambda machine: machine.keep(machine.unpack('<I')),
    pickle.MEMOIZE: lambda machine: machine.keep(len(machine.memo)),
    pickle.BINGET: lambda machine: machine.push(machine.memo[machine.unpack('B')], 8),
    pickle.LONG_BINGET: lambda machine: machine.push(machine.memo[machine.unpack('<I')], 8),
    pickle.GLOBAL: Unpickler.name,
    pickle.STACK_GLOBAL: Unpickler.stack_name,
    pickle.REDUCE: Unpickler.reduce,
    pickle.NEWOBJ: Unpickler.reduce,  # a class's __new__: the tables do not tell it from a call
    pickle.BUILD: Unpickler.restore_state,
    pickle.BINPERSID: lambda machine: machine.push(machine.persistent(machine.pop())),
}


def check_tree(root: Any, limit: int) -> None:
    """Refuse data that contains itself, is nested deeply, or repeats a part so often that printing it would not end.

    It may have ``limit`` values, each part counted as often as it is there.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of containers that have been seen whole: values below, and depth
    open_: set[int] = set()
    todo: list[tuple[Any, bool]] = [(root, False)]
    while todo:
        node, done = todo.pop()
        children = _children(node)
        if done:
            below = [sizes.get(id(child), (1 + _length(child) // 64, 0)) for child in children]
            size, depth = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
            if size > limit or depth > MAX_DEPTH:
                raise Refused('it repeats its parts without end' if size > limit else f'it is nested {depth} deep')
            sizes[id(node)] = size, depth
            open_.discard(id(node))
        elif id(node) in open_:
            raise Refused('it contains itself')
        elif id(node) not in sizes:
            open_.add(id(node))
            todo.append((node, True))
            if wrong := next((child for child in children if isinstance(child, Placeholder)), None):
                raise Refused(f'GLOBAL {printable(wrong)}' if isinstance(wrong, Name) else 'it holds a bare storage')
            # Each child is looked at with all below it before the next: whatever is open is one of its parents.
            todo.extend((child, False) for child in children if isinstance(child, _CONTAINERS))


_CONTAINERS = dict, list, tuple, set, frozenset


def _children(node: Any) -> list:
    if isinstance(node, dict):
        return [*node, *node.values()]
    return list(node) if isinstance(node, _CONTAINERS) else []


def _length(leaf: Any) -> int:
    return len(leaf) if isinstance(leaf, (str, bytes, bytearray)) else 0
