"""Reader of a PyTorch checkpoint in the format before 1.6: pickles, then the data of the tensors.

It interprets the 28 opcodes that a state dict needs and calls nothing that the file names, so that
the file cannot run code. It does not detect changed values: check the digest of the file first.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickletools import genops
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_ORDERED_DICT = "collections OrderedDict"
_REBUILD = "torch._utils _rebuild_tensor_v2"
_STORAGES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_GLOBALS = {_ORDERED_DICT, _REBUILD, *_STORAGES}


class InvalidCheckpoint(Exception):
    """The file is not a checkpoint of plain tensors; ``str()`` is the reason."""


@dataclass(frozen=True)
class _Global:
    """A name in the file, which is never imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_checkpoint(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict by name. Raises InvalidCheckpoint."""
    try:
        return _read(content)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"it cannot be read: {error}") from error


def _read(content: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(content)
    plain: frozenset[str] = frozenset()
    if _Machine(plain).run(file) != MAGIC or _Machine(plain).run(file) != PROTOCOL:
        raise InvalidCheckpoint("it does not begin as a checkpoint")
    system = _Machine(plain).run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InvalidCheckpoint("its numbers are not little-endian")
    tensors = _Machine(frozenset(_GLOBALS)).run(file)
    keys = _Machine(plain).run(file)
    if not isinstance(tensors, dict) or not isinstance(keys, list):
        raise InvalidCheckpoint("it has no state dict with a list of storages")
    storages: dict[str, _Storage] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise InvalidCheckpoint("its state dict has an entry that is not a named tensor")
        # Otherwise a small file could be expanded to tensors of any total size.
        if tensor.storage.key in storages:
            raise InvalidCheckpoint(f"the storage {tensor.storage.key} has two tensors")
        storages[tensor.storage.key] = tensor.storage
    if keys != sorted(storages):
        raise InvalidCheckpoint("its list of storages differs from that of its tensors")
    data = {key: _data(file, content, storages[key]) for key in keys}
    if file.tell() != len(content):
        raise InvalidCheckpoint("it has bytes after the last storage")
    return {name: _view(name, data[each.storage.key], each) for name, each in tensors.items()}


def _data(file: io.BytesIO, content: bytes, storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    width = np.dtype(storage.dtype).itemsize
    if count != storage.count or not 0 <= count <= (len(content) - file.tell()) // width:
        raise InvalidCheckpoint(f"the storage {storage.key} does not have its number of elements")
    return np.frombuffer(file.read(count * width), storage.dtype)


def _view(name: str, data: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Return the tensor in C order: its strides need not be those of its shape."""
    end = tensor.offset + sum(
        (size - 1) * step for size, step in zip(tensor.size, tensor.stride, strict=True)
    )
    values = 1
    for size in tensor.size:
        values *= size
    if (
        min((tensor.offset, *tensor.stride)) < 0
        or min((1, *tensor.size)) < 1
        or end >= len(data)
        or values > len(data)
    ):
        raise InvalidCheckpoint(f"the tensor {name!r} is outside of its storage")
    strides = tuple(step * data.itemsize for step in tensor.stride)
    view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.size, strides)
    return np.array(view, order="C")


class _Machine:
    """An interpreter of one pickle whose globals are among ``allowed``."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        for opcode, argument, _ in genops(file):
            if opcode.name == "STOP":
                (result,) = self._stack
                return result
            if opcode.name not in _STEPS:
                raise InvalidCheckpoint(f"it has the opcode {opcode.name}, which no tensor needs")
            _STEPS[opcode.name](self, argument)
        raise InvalidCheckpoint("a pickle has no end")

    def protocol(self, version: int) -> None:
        if version != 2:
            raise InvalidCheckpoint(f"a pickle has the protocol {version}; 2 is expected")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def take(self, count: int) -> tuple[Any, ...]:
        if count > len(self._stack):
            raise InvalidCheckpoint("a pickle takes more values than it has")
        taken = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        return taken

    def take_marked(self) -> tuple[Any, ...]:
        return self.take(len(self._stack) - self._marks.pop())

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def get(self, index: int) -> None:
        self.push(self._memo[index])

    def append_marked(self) -> None:
        values = self.take_marked()
        if type(self._stack[-1]) is not list:
            raise InvalidCheckpoint("a pickle appends to something other than a list")
        self._stack[-1].extend(values)

    def set_items(self, values: tuple[Any, ...]) -> None:
        if type(self._stack[-1]) is not dict or not all(type(key) is str for key in values[::2]):
            raise InvalidCheckpoint("a pickle sets items other than named ones of a dict")
        self._stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def find(self, name: str) -> None:
        if name not in self._allowed:
            raise InvalidCheckpoint(f"it names {name.replace(' ', '.')}, which is not allowed")
        self.push(_Global(name))

    def find_storage(self) -> None:
        (((tag, kind, key, _device, count, view),)) = self.take(1)
        known = isinstance(kind, _Global) and kind.name in _STORAGES
        if tag != "storage" or not known or view is not None or type(key) is not str:
            raise InvalidCheckpoint("it has a storage that is not one of plain numbers")
        if type(count) is not int:
            raise InvalidCheckpoint(f"the storage {key} has no number of elements")
        self.push(_Storage(_STORAGES[kind.name], key, count))

    def call(self) -> None:
        function, arguments = self.take(2)
        if function == _Global(_ORDERED_DICT) and arguments == ():
            self.push({})
        elif function == _Global(_REBUILD):
            storage, offset, size, stride, _gradient, hooks = arguments
            numbers = (offset, *size, *stride)
            if not isinstance(storage, _Storage) or hooks != {}:
                raise InvalidCheckpoint("it has a tensor without a storage, or with hooks")
            if len(size) != len(stride) or not all(type(each) is int for each in numbers):
                raise InvalidCheckpoint("it has a tensor whose shape is not one of whole numbers")
            self.push(_Tensor(storage, offset, tuple(size), tuple(stride)))
        else:
            raise InvalidCheckpoint("it calls something other than the constructor of a tensor")

    def build(self) -> None:
        """Ignore the versions of the modules, which PyTorch sets as an attribute."""
        (state,) = self.take(1)
        if type(self._stack[-1]) is not dict or list(state) != ["_metadata"]:
            raise InvalidCheckpoint("it sets an attribute other than _metadata of a state dict")


_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    **dict.fromkeys(("LONG1", "BININT", "BININT1", "BININT2", "BINUNICODE"), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(machine.take_marked()),
    "TUPLE1": lambda machine, _: machine.push(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.take(2)),
    "APPENDS": lambda machine, _: machine.append_marked(),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take_marked()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.find,
    "REDUCE": lambda machine, _: machine.call(),
    "BINPERSID": lambda machine, _: machine.find_storage(),
    "BUILD": lambda machine, _: machine.build(),
}
"""The opcodes of a state dict; with STOP they are 28."""
