"""Files of ``torch.save``, of today (zip) and of before torch 1.6, read without running anything."""

import io
import os
import struct
import sys
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..utils.reading import open_regular
from .archive import LOCAL, list_members
from .builders import Budget, Refused, Storage, StorageKind
from .unpickler import Unpickler

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # with which older files start


def read_torch_file(path: str | os.PathLike, device: torch.device | str = 'cpu') -> Any:
    """Read a file of ``torch.save`` that holds data only.

    What it takes of memory is at most its own size, four times that of the pickle in it, and 64 MiB; what it takes of
    time is bounded by the pickle's steps. Tensors that shared memory share it again.

    Returns:
        Containers of tensors, arrays of numpy, log histories of mmengine, numbers and text. No container contains
        itself, and none is nested more than 100 deep.

    Raises:
        OSError: If the file cannot be read.
        Refused: If it holds anything else, or describes more than it has bytes; ``GLOBAL`` stands before the name of
            something that could act.
        ValueError: If it is damaged.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_zip = file.read(4) == LOCAL
        file.seek(0)
        return (_read_zip if is_zip else _read_old)(file, size, device)


def _storage(saved: Any, parts: int) -> tuple:
    """Return what a pickle says of a storage, its parts checked."""
    if type(saved) is not tuple or len(saved) != parts or saved[0] not in ('storage', b'storage'):
        raise Refused('it holds a persistent object that is no storage')
    _, kind, key, _, count, *more = saved
    if not isinstance(kind, StorageKind) or type(count) is not int or count < 0:
        raise Refused('a storage of it is of a kind that checkpoints do not have')
    if type(key) not in (str, int):
        raise Refused('a storage of it has no name')
    return kind.dtype, key, count * kind.dtype.itemsize, *more


def _fill(values: Tensor, file: BinaryIO) -> None:
    """Read bytes into a tensor, without a copy between."""
    if file.readinto(values.numpy()) < len(values):  # type: ignore[attr-defined]
        raise ValueError('it is cut short')


# ---- since torch 1.6 ----


def _read_zip(file: BinaryIO, size: int, device: torch.device | str) -> Any:
    members = list_members(file)
    folder = next((name.removesuffix('data.pkl') for name in members if name.endswith('/data.pkl')), None)
    if folder is None or f'{folder}constants.pkl' in members:
        raise ValueError(
            'it is a zip file, but none of torch.save' if folder is None else 'it is a TorchScript program'
        )

    def content(name: str) -> bytes:
        file.seek(members[folder + name].offset)
        return file.read(members[folder + name].size)

    order = content('byteorder') if f'{folder}byteorder' in members else b'little'
    if order not in (b'little', b'big'):
        raise ValueError('it does not say the order of its bytes')
    loaded: dict[str, torch.UntypedStorage] = {}

    def persistent(saved: Any) -> Storage:
        dtype, key, length = _storage(saved, 5)
        member = members.get(f'{folder}data/{key}')
        if member is None or length > member.size:
            raise ValueError('a storage of it is missing' if member is None else 'a storage of it is cut short')
        if key not in loaded:
            values = torch.empty(member.size, dtype=torch.uint8)
            file.seek(member.offset)
            _fill(values, file)
            if order.decode() != sys.byteorder:
                values.untyped_storage().byteswap(dtype)
            loaded[key] = values.to(device).untyped_storage()
        return Storage(loaded[key], dtype)

    pickled = content('data.pkl')
    return Unpickler(io.BytesIO(pickled), Budget(size, len(pickled)), persistent).load()


# ---- before ----


def _read_old(file: BinaryIO, size: int, device: torch.device | str) -> Any:
    """Read a file of several pickles and the storages after them."""
    loaded: dict[Any, tuple[torch.UntypedStorage, torch.dtype]] = {}
    views: dict[Any, torch.UntypedStorage] = {}
    room = size

    def persistent(saved: Any) -> Storage:
        nonlocal room
        dtype, key, length, view = _storage(saved, 6)
        if key not in loaded:
            room -= length
            if room < 0:
                raise Refused('its storages are larger than the file')
            loaded[key] = torch.zeros(length, dtype=torch.uint8, device=device).untyped_storage(), dtype
        whole = loaded[key][0]
        if view is None:
            return Storage(whole, dtype)
        name, offset, count = view
        sound = type(name) in (str, int) and all(type(number) is int and number >= 0 for number in (offset, count))
        if not sound or (offset + count) * dtype.itemsize > whole.nbytes():
            raise Refused('a storage of it lies beyond another')
        if name not in views:
            views[name] = whole[offset * dtype.itemsize : (offset + count) * dtype.itemsize]
        return Storage(views[name], dtype)

    reader = Unpickler(file, Budget(size, 0), persistent)
    first = file.read(1)
    file.seek(0)
    if first != b'\x80' or reader.load() != MAGIC or reader.load() != VERSION:
        raise ValueError('it is no file of torch.save')
    reader.load()  # sizes of the machine's types
    result, keys = reader.load(), reader.load()
    if type(keys) is not list or not all(type(key) in (str, int) for key in keys) or {*keys} != {*loaded}:
        raise ValueError('a storage of it is missing')
    for key in keys:
        storage, dtype = loaded[key]
        (count,) = struct.unpack('<q', reader.take(8))
        if count * dtype.itemsize != storage.nbytes():
            raise ValueError('a storage of it has another size')
        values = torch.empty(storage.nbytes(), dtype=torch.uint8)
        _fill(values, file)
        storage.copy_(values.untyped_storage())
    return result
