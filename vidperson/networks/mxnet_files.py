"""The two files of an MXNet checkpoint, ``-symbol.json`` and ``-NNNN.params``, read without MXNet.

The binary format is that of ``NDArray::Save`` in MXNet's ``src/ndarray/ndarray.cc``: a list of arrays, then a list of
their names. No number in a file is believed before the bytes that it speaks of are seen to be there.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ModelError

Array = NDArray[Any]

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MAX_DIMENSIONS = 32
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}  # mshadow's type flags
_MAX_SYMBOL_BYTES = 64 << 20  # the largest symbols of the zoo have some 0.5 MB


@dataclass(frozen=True)
class SymbolNode:
    """One node of a symbol; ``operator`` is ``null`` for a variable, ``inputs`` are (node, output) numbers."""

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Symbol:
    """Nodes, each behind those that it takes its inputs from, and the (node, output) numbers of the outputs."""

    nodes: tuple[SymbolNode, ...]
    heads: tuple[tuple[int, int], ...]


def read_symbol(path: str | os.PathLike[str]) -> Symbol:
    """A ``-symbol.json`` of any MXNet version: attributes under ``attrs``, ``attr`` or ``param``.

    Raises ModelError that names the file and the node for a file that is no such graph.
    """
    where = os.fspath(path)
    try:
        size = os.path.getsize(path)
        if size > _MAX_SYMBOL_BYTES:
            raise ModelError(f"{where}: expected an MXNet symbol of at most {_MAX_SYMBOL_BYTES} bytes, found {size}")
        graph = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{where}: not an MXNet symbol: {' '.join(str(error).split())}") from None
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list) or not graph["nodes"]:
        raise ModelError(f"{where}: not an MXNet symbol: expected an object with 'nodes', a list that is not empty")
    nodes = tuple(_node(entry, number, where) for number, entry in enumerate(graph["nodes"]))
    heads = _references(graph.get("heads"), len(nodes), f"{where}: heads")
    if not heads:
        raise ModelError(f"{where}: heads: expected at least one output, found none")
    return Symbol(nodes, heads)


def _node(entry: Any, number: int, where: str) -> SymbolNode:
    place = f"{where}: node {number}"
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("op", "name")):
        raise ModelError(f"{place}: expected an object with 'op' and 'name'")
    attributes: dict[str, str] = {}
    for key in ("attr", "param", "attrs"):
        values = entry.get(key) or {}
        if not isinstance(values, dict):
            raise ModelError(f"{place} ({entry['name']}): {key}: expected an object, found {values!r}")
        attributes |= {name: str(value) for name, value in values.items()}
    inputs = _references(entry.get("inputs"), number, f"{place} ({entry['name']}): inputs")
    return SymbolNode(entry["op"], entry["name"], attributes, inputs)


def _references(value: Any, count: int, place: str) -> tuple[tuple[int, int], ...]:
    """Pairs (node, output) of nodes before ``count``; a third number, the version, is of no use here."""
    found = []
    for item in value if isinstance(value, list) else [value]:
        good = isinstance(item, list) and len(item) in (2, 3) and all(type(number) is int for number in item[:2])
        if not good or not 0 <= item[0] < count or item[1] < 0:
            raise ModelError(f"{place}: expected a list of [node, output] with nodes before {count}, found {item!r}")
        found.append((item[0], item[1]))
    return tuple(found)


def read_params(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Name (without ``arg:`` or ``aux:``) to array of a ``.params`` file; arrays without content are left out.

    Raises ModelError that names the file, the array, what was expected and what was found.
    """
    reader = _Reader(path)
    magic = reader.number("Q", "the start of the file")
    if magic != _LIST_MAGIC:
        raise ModelError(f"{reader.where}: not an MXNet params file: expected it to start with 0x112, found {magic:#x}")
    reader.number("Q", "the reserved field")
    count = reader.number("Q", "the number of arrays")
    reader.expect(4 * count, f"{count} arrays")
    arrays = [_array(reader, f"array {index + 1} of {count}") for index in range(count)]
    names = reader.number("Q", "the number of names")
    if names != count:
        raise ModelError(f"{reader.where}: expected a name for each of {count} arrays, found {names} names")
    found: dict[str, Array] = {}
    for array in arrays:
        length = reader.number("Q", "the length of a name")
        try:
            name = bytes(reader.take(length, "a name")).decode()
        except UnicodeDecodeError:
            raise ModelError(f"{reader.where}: expected names in UTF-8, found other bytes") from None
        if array is not None:
            found[name.removeprefix("arg:").removeprefix("aux:")] = array
    if reader.left:
        raise ModelError(f"{reader.where}: expected nothing after the names, found {reader.left} bytes more")
    return found


class _Reader:
    """Takes values off the front of a file; each is there in full, or it is a ModelError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.where = os.fspath(path)
        try:
            self._content = memoryview(Path(path).read_bytes())
        except OSError as error:
            raise ModelError(f"{self.where}: cannot be read: {error.strerror}") from None
        self._offset = 0

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._content) - self._offset

    def expect(self, size: int, what: str) -> None:
        """Raises ModelError unless ``size`` bytes are left."""
        if size > self.left:
            raise ModelError(
                f"{self.where}: {what}: expected {size} bytes from byte {self._offset} on, found {self.left}; "
                "the file is cut short or damaged"
            )

    def take(self, size: int, what: str) -> memoryview:
        """The next ``size`` bytes."""
        self.expect(size, what)
        self._offset += size
        return self._content[self._offset - size : self._offset]

    def number(self, kind: str, what: str) -> int:
        """The next integer, of a kind of :mod:`struct`."""
        value: int = struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind), what))[0]
        return value


def _array(reader: _Reader, what: str) -> Array | None:
    """One array, as a view of the file; None where it was saved without content."""

    def refuse(expected: str, found: object) -> ModelError:
        return ModelError(f"{reader.where}: {what}: expected {expected}, found {found}")

    magic = reader.number("I", what)
    if magic in (_V2, _V3):
        storage = reader.number("i", what)
        if storage != 0:
            raise refuse("a dense array (storage type 0)", f"storage type {storage}")
    # Before there were magic numbers, the number of dimensions stood here, and sizes had 32 bits.
    legacy = magic not in (_V1, _V2, _V3)
    dimensions = magic if legacy else reader.number("i", what)
    if dimensions == (-1 if magic == _V3 else 0):
        return None
    if not 0 <= dimensions <= _MAX_DIMENSIONS:
        raise refuse(f"at most {_MAX_DIMENSIONS} dimensions", dimensions)
    shape = [reader.number("I" if legacy else "q", what) for _ in range(dimensions)]
    if any(size < 0 for size in shape):
        raise refuse("sizes that are not negative", shape)
    reader.take(8, what)  # the device that it lay on
    flag = reader.number("i", what)
    if flag not in _TYPES:
        raise refuse(f"a number type of {' '.join(np.dtype(t).name for t in _TYPES.values())}", f"type flag {flag}")
    dtype = np.dtype(_TYPES[flag])
    count = math.prod(shape)
    content = reader.take(count * dtype.itemsize, f"{what} of shape {tuple(shape)}, {dtype.name}")
    return np.frombuffer(content, dtype).reshape(shape) if count else None
