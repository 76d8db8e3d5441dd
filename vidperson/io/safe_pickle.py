"""Pickles of plain data and NumPy arrays, read without Python's unpickler: nothing in them is ever run.

Read are dictionaries of numbers, strings, bytes, lists, tuples, dictionaries and arrays of numbers, in protocols 0 to
5, as Python 2 and 3 write them. A pickle is a program for a small machine. This machine knows seven functions, and
they only make arrays, data types, scalars and bytes; whatever else a pickle asks for is refused by name.

The items of the dictionary are handed out while the file is read, in the pickler's own portions of 1,000 (one by one in
protocol 0). Picklers number almost every object, in case that it comes again. Of items that were handed out only short
strings, data types and names of functions are kept, at 4 bytes a number: a pickle that comes back to one of the other
objects is refused.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from vidperson.errors import DataError

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 24
_LONGEST_NUMBER = 64  # bytes of an integer
_LONGEST_KEPT = 64  # characters or bytes of a string that may come again
_MOST_DIMENSIONS = 8
_DTYPE = re.compile(r"f[248]|[iu][1248]|b1")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}  # as Python 2 writes strings
_ADMITTED = "only numbers, strings, lists, tuples, dictionaries and NumPy arrays of numbers are read"

_FUNCTIONS = {
    **{
        (f"numpy.{core}.{module}", name): name
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    },
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
}
_OTHER_INSTRUCTIONS = {
    b"i": "INST", b"o": "OBJ", b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX", b"\x82": "EXT1", b"\x83": "EXT2",
    b"\x84": "EXT4", b"P": "PERSID", b"Q": "BINPERSID", b"\x8f": "EMPTY_SET", b"\x90": "ADDITEMS",
    b"\x91": "FROZENSET", b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER", b"0": "POP",
    b"1": "POP_MARK", b"2": "DUP",
}  # fmt: skip


class _Refused(Exception):
    """The pickle asks for something that is not read."""


class _Function:
    """The name of a function that this machine knows."""

    def __init__(self, name: str) -> None:
        self.name = name


_KNOWN = {name: _Function(name) for name in _FUNCTIONS.values()}


class _Made:
    """An array or a data type: its pickle first names it, then fills it. value: None until then."""

    __slots__ = ("code", "value")

    def __init__(self, code: np.dtype[Any] | None = None) -> None:
        self.code = code
        self.value: Any = None


class _Root:
    """The dictionary itself, which is never held."""


def read_items(path: str | os.PathLike[str]) -> Iterator[tuple[str | bytes | int, Any]]:
    """The keys and values of the dictionary in a pickle, as they come; strings of Python 2 are bytes.

    Raises DataError, with the byte at which the instruction begins, for a file that is no pickle, is damaged or cut
    short, holds anything else than a dictionary of plain data, or goes on behind it. Raises OSError where the file
    cannot be read.
    """
    with open(path, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise DataError("expected a pickle, found no regular file", path)
        yield from _Machine(stream, path).items()


class _Machine:
    def __init__(self, stream: BinaryIO, path: str | os.PathLike[str]) -> None:
        self._stream, self._path = stream, path
        self._buffer, self._base = b"", 0  # a part of the file, and the byte of the file at which it begins
        self._size = os.fstat(stream.fileno()).st_size
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below each mark
        self._root = _Root()
        self._ready: list[tuple[str | bytes | int, Any]] = []
        self._memo: dict[int, Any] = {}  # of the items under way
        self._next: int | None = 0  # number that the next object gets; None where the pickle tells numbers itself
        self._places = array("i")  # number of an object of earlier items -> its place in _kept; -1: it is not kept
        self._kept: list[Any] = []
        self._place_of: dict[tuple[type, Any], int] = {}
        self._used_up: dict[int, Any] = {}  # by id(): bytes under way that became numbers, and text that became bytes
        self._ended = False

    def items(self) -> Iterator[tuple[str | bytes | int, Any]]:
        """See :func:`read_items`."""
        at = 0
        try:
            at = self._begin()
            while not self._ended:
                if at > _CHUNK:
                    self._drop(at)
                    at = 0
                handler = _HANDLERS.get(self._byte(at))
                if handler is None:
                    raise _Refused(_why_not(self._buffer[at : at + 1]))
                after = handler(self, at + 1)
                if self._ready:
                    yield from self._hand_out()
                at = after
            self._end(at)
        except _Refused as why:
            raise DataError(f"{why} (byte {self._base + at})", self._path) from None
        except MemoryError:
            message = f"what it holds at byte {self._base + at} needs more memory than there is"
            raise DataError(message, self._path) from None
        except (LookupError, struct.error, TypeError, ValueError, OverflowError, AttributeError, RecursionError):
            raise DataError(f"damaged at byte {self._base + at}; expected a pickle", self._path) from None

    def _begin(self) -> int:
        """The dictionary's own beginning. Raises _Refused for other pickles, before anything is read of them."""
        at = 0
        self._load(_CHUNK)
        if self._buffer[:1] == b"\x80":
            at = self._proto(1)
        if self._buffer[at : at + 1] == b"\x95":
            at += 9
        if self._buffer[at : at + 1] == b"}":
            at += 1
        elif self._buffer[at : at + 2] == b"(d":
            at += 2
        else:
            raise _Refused("expected the pickle of a dictionary, found something else")
        self._stack.append(self._root)
        return at

    def _end(self, at: int) -> None:
        if self._buffer[at : at + 1] or self._stream.read(1):
            raise _Refused("expected the end of the file behind the pickle, found more")

    def _hand_out(self) -> Iterator[tuple[str | bytes | int, Any]]:
        """The items that are done. What they are made of is forgotten, except for what comes again in good pickles."""
        for index, value in self._memo.items():
            if type(value) is _Made:
                value = value.value
            kind = type(value)
            short = (kind is str or kind is bytes) and len(value) <= _LONGEST_KEPT
            if (short and id(value) not in self._used_up) or kind is _Function or isinstance(value, np.dtype):
                place = self._place_of.setdefault((kind, value), len(self._kept))
                if place == len(self._kept):
                    self._kept.append(value)
                self._places.extend([-1] * (index + 1 - len(self._places)))
                self._places[index] = place
        self._memo.clear()
        self._used_up.clear()
        ready, self._ready = self._ready, []
        ready.reverse()
        while ready:  # each is given away
            yield ready.pop()

    # The file

    def _load(self, size: int) -> bool:
        """Read more. Returns whether there is more."""
        more = self._stream.read(size)
        self._buffer += more
        return bool(more)

    def _drop(self, at: int) -> None:
        """Let go of what was read."""
        self._buffer, self._base = self._buffer[at:], self._base + at
        self._load(2 * _CHUNK - len(self._buffer))

    def _byte(self, at: int) -> int:
        if at >= len(self._buffer) and not self._load(_CHUNK):
            raise _Refused("the file is cut short")
        return self._buffer[at]

    def _bytes(self, at: int, size: int) -> bytes:
        if self._base + at + size > self._size:
            raise _Refused("the file is cut short")
        while at + size > len(self._buffer):
            if not self._load(min(at + size - len(self._buffer), 64 * _CHUNK)):
                raise _Refused("the file is cut short")
        return self._buffer[at : at + size]

    def _line(self, at: int) -> bytes:
        """Up to the line end, without it."""
        searched = at
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched - at > _LONGEST_LINE:
                raise _Refused("a line without an end")
            if not self._load(_CHUNK):
                raise _Refused("the file is cut short")
        return self._buffer[at:end]

    def _number(self, at: int, layout: struct.Struct) -> Any:
        return layout.unpack(self._bytes(at, layout.size))[0]

    # Instructions: each is called with the place behind its byte and returns the place behind its argument

    def _proto(self, at: int) -> int:
        if (protocol := self._byte(at)) > 5:
            raise _Refused(f"a pickle of protocol {protocol}; known are 0 to 5")
        return at + 1

    def _frame(self, at: int) -> int:
        return at + 8

    def _stop(self, at: int) -> int:
        if self._marked or self._stack != [self._root]:
            raise _Refused("damaged: its end comes before the dictionary is complete")
        self._ended = True
        return at

    def _mark(self, at: int) -> int:
        self._marked.append(self._stack)
        self._stack = []
        return at

    def _marked_items(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _none(self, at: int) -> int:
        self._stack.append(None)
        return at

    def _true(self, at: int) -> int:
        self._stack.append(True)
        return at

    def _false(self, at: int) -> int:
        self._stack.append(False)
        return at

    def _int(self, at: int) -> int:
        line = self._line(at)
        self._stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))
        return at + len(line) + 1

    def _long(self, at: int) -> int:
        line = self._line(at)
        self._stack.append(int(line.removesuffix(b"L")))
        return at + len(line) + 1

    def _long1(self, at: int) -> int:
        return self._long_of(at + 1, self._byte(at))

    def _long4(self, at: int) -> int:
        return self._long_of(at + 4, self._number(at, _INT4))

    def _long_of(self, at: int, size: int) -> int:
        if not 0 <= size <= _LONGEST_NUMBER:
            raise _Refused(f"an integer of {size} bytes")
        self._stack.append(int.from_bytes(self._bytes(at, size), "little", signed=True))
        return at + size

    def _binint(self, at: int) -> int:
        self._stack.append(self._number(at, _INT4))
        return at + 4

    def _binint1(self, at: int) -> int:
        self._stack.append(self._byte(at))
        return at + 1

    def _binint2(self, at: int) -> int:
        self._stack.append(self._number(at, _UINT2))
        return at + 2

    def _float(self, at: int) -> int:
        line = self._line(at)
        self._stack.append(float(line))
        return at + len(line) + 1

    def _binfloat(self, at: int) -> int:
        self._stack.append(self._number(at, _DOUBLE))
        return at + 8

    def _string(self, at: int) -> int:
        line = self._line(at)
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise _Refused("damaged: a string without quotes")
        self._stack.append(_ESCAPE.sub(_unescaped, line[1:-1]))
        return at + len(line) + 1

    def _unicode(self, at: int) -> int:
        line = self._line(at)
        self._stack.append(str(line, "raw-unicode-escape"))
        return at + len(line) + 1

    def _short_bytes(self, at: int) -> int:
        size = self._byte(at)
        self._stack.append(self._bytes(at + 1, size))
        return at + 1 + size

    def _bytes4(self, at: int) -> int:
        size = self._number(at, _UINT4)
        self._stack.append(self._bytes(at + 4, size))
        return at + 4 + size

    def _bytes8(self, at: int) -> int:
        size = self._number(at, _UINT8)
        self._stack.append(self._bytes(at + 8, size))
        return at + 8 + size

    def _short_text(self, at: int) -> int:
        size = self._byte(at)
        self._stack.append(str(self._bytes(at + 1, size), "utf-8", "surrogatepass"))
        return at + 1 + size

    def _text4(self, at: int) -> int:
        size = self._number(at, _UINT4)
        self._stack.append(str(self._bytes(at + 4, size), "utf-8", "surrogatepass"))
        return at + 4 + size

    def _text8(self, at: int) -> int:
        size = self._number(at, _UINT8)
        self._stack.append(str(self._bytes(at + 8, size), "utf-8", "surrogatepass"))
        return at + 8 + size

    def _empty_list(self, at: int) -> int:
        self._stack.append([])
        return at

    def _list(self, at: int) -> int:
        items = self._marked_items()
        self._stack.append(items)
        return at

    def _append(self, at: int) -> int:
        value = self._stack.pop()
        self._list_on_top().append(value)
        return at

    def _appends(self, at: int) -> int:
        items = self._marked_items()
        self._list_on_top().extend(items)
        return at

    def _list_on_top(self) -> list[Any]:
        if type(self._stack[-1]) is not list:
            raise _Refused("damaged: items for something that is no list")
        return self._stack[-1]

    def _empty_tuple(self, at: int) -> int:
        self._stack.append(())
        return at

    def _tuple(self, at: int) -> int:
        items = self._marked_items()
        self._stack.append(tuple(items))
        return at

    def _tuple1(self, at: int) -> int:
        return self._tuple_of(at, 1)

    def _tuple2(self, at: int) -> int:
        return self._tuple_of(at, 2)

    def _tuple3(self, at: int) -> int:
        return self._tuple_of(at, 3)

    def _tuple_of(self, at: int, count: int) -> int:
        if len(self._stack) < count:
            raise IndexError
        self._stack[-count:] = [tuple(self._stack[-count:])]
        return at

    def _empty_dict(self, at: int) -> int:
        self._stack.append({})
        return at

    def _dict(self, at: int) -> int:
        items = self._marked_items()
        self._stack.append({})
        self._set(items)
        return at

    def _setitem(self, at: int) -> int:
        items = [self._stack.pop(), self._stack.pop()]
        self._set(items[::-1])
        return at

    def _setitems(self, at: int) -> int:
        self._set(self._marked_items())
        return at

    def _set(self, items: list[Any]) -> None:
        """Keys and values in turn, of the dictionary on top."""
        target = self._stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        wrong = [key for key, _ in pairs if type(key) not in (str, bytes, int)]
        if wrong:
            raise _Refused(f"a key of the type {type(wrong[0]).__name__.strip('_')}; expected strings or integers")
        if target is self._root:
            self._ready += pairs
        elif type(target) is dict:
            target.update(pairs)
        else:
            raise _Refused("damaged: items for something that is no dictionary")

    def _global(self, at: int) -> int:
        module = self._line(at)
        name = self._line(at + len(module) + 1)
        self._push_function(module.decode(), name.decode())
        return at + len(module) + len(name) + 2

    def _stack_global(self, at: int) -> int:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_function(module, name)
        return at

    def _push_function(self, module: str, name: str) -> None:
        known = _FUNCTIONS.get((module, name))
        if known is None:
            raise _Refused(f"it asks for {_short(f'{module}.{name}')}, which is refused: {_ADMITTED}")
        self._stack.append(_KNOWN[known])

    def _reduce(self, at: int) -> int:
        arguments, function = self._stack.pop(), self._stack[-1]
        if type(function) is not _Function or type(arguments) is not tuple:
            raise _Refused("damaged: a call of something that is no function")
        call = _CALLS.get(function.name)
        if call is None:
            raise _Refused(f"a call of {function.name}: {_ADMITTED}")
        used = arguments[_USES_UP[function.name]] if function.name in _USES_UP else ""
        if len(used) > _LONGEST_KEPT and id(used) in self._used_up:  # picklers do not; memory would have no bound
            raise _Refused(f"damaged: {function.name} of {len(used)} values that were used before")
        self._stack[-1] = call(*arguments)
        if len(used) > 1:
            self._used_up[id(used)] = used
        return at

    def _build(self, at: int) -> int:
        state, made = self._stack.pop(), self._stack[-1]
        if type(made) is not _Made or made.value is not None or type(state) is not tuple:
            raise _Refused(f"it sets the state of an object: {_ADMITTED}")
        made.value = _new_array(state) if made.code is None else _ordered(made.code, state)
        self._stack[-1] = made.value
        return at

    def _put(self, at: int) -> int:
        line = self._line(at)
        self._remember(int(line))
        return at + len(line) + 1

    def _binput(self, at: int) -> int:
        self._next = None
        value = self._stack[-1]
        if value is not self._root:
            self._memo[self._byte(at)] = value
        return at + 1

    def _long_binput(self, at: int) -> int:
        self._remember(self._number(at, _UINT4))
        return at + 4

    def _remember(self, index: int) -> None:
        self._next = None
        value = self._stack[-1]
        if not 0 <= index <= self._base + len(self._buffer):  # each takes a byte at least
            raise _Refused("damaged: an object with too large a number")
        if value is not self._root:
            self._memo[index] = value

    def _memoize(self, at: int) -> int:
        if self._next is None:
            raise _Refused("damaged: objects are numbered in two ways")
        value = self._stack[-1]
        if value is not self._root:
            self._memo[self._next] = value
        self._next += 1
        return at

    def _get(self, at: int) -> int:
        line = self._line(at)
        self._recall(int(line))
        return at + len(line) + 1

    def _binget(self, at: int) -> int:
        self._recall(self._byte(at))
        return at + 1

    def _long_binget(self, at: int) -> int:
        self._recall(self._number(at, _UINT4))
        return at + 4

    def _recall(self, index: int) -> None:
        if index in self._memo:
            value = self._memo[index]
            if type(value) is _Made:
                value = value.value
                if value is None:
                    raise _Refused("damaged: an array within itself")
        else:
            place = self._places[index] if 0 <= index < len(self._places) else -1
            if place < 0:
                message = "it comes back to an object of an earlier item, or to none; what was handed out is not kept"
                raise _Refused(f"{message}: write the pickle without objects that items share")
            value = self._kept[place]
        self._stack.append(value)


def _why_not(code: bytes) -> str:
    name = _OTHER_INSTRUCTIONS.get(code)
    return f"the instruction {name}: {_ADMITTED}" if name else "damaged: an unknown instruction; expected a pickle"


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """Raises KeyError for an escape that Python 2 does not write."""
    return bytes([int(escape[1], 16)]) if escape[1] else _ESCAPED[escape[2]]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if type(value) is bytes else str(value)


# What a pickle may call


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Made:
    if type(kind) is not _Function or kind.name != "ndarray":
        raise _Refused(f"an array of its own kind: {_ADMITTED}")
    return _Made()


def _dtype(code: Any, align: Any = False, copy: Any = True) -> _Made:
    if type(code) not in (str, bytes) or not _DTYPE.fullmatch(_text(code)):
        shown = _short(_text(code)) if type(code) in (str, bytes) else f"of the type {type(code).__name__}"
        raise _Refused(f"an array of the data type {shown}: {_ADMITTED}")
    return _Made(np.dtype(_text(code)))


def _ordered(code: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    """A data type with the order of its bytes."""
    order = _text(state[1])
    if order not in ("<", ">", "|") or any(part is not None for part in state[2:5]):
        raise _Refused(f"a data type that is no plain number: {_ADMITTED}")
    return code if order == "|" else code.newbyteorder(order)  # type: ignore[arg-type]


def _new_array(state: tuple[Any, ...]) -> Any:
    _, shape, code, is_fortran, raw = state
    return _array_of(raw, code, shape, "F" if is_fortran else "C")


def _array_of(raw: Any, code: Any, shape: Any, order: Any) -> Any:
    if not isinstance(code, np.dtype) or type(raw) is not bytes or type(shape) is not tuple or order not in ("C", "F"):
        raise _Refused(f"an array that is not made of bytes: {_ADMITTED}")
    if len(shape) > _MOST_DIMENSIONS or any(type(side) is not int or side < 0 for side in shape):
        raise _Refused("damaged: an array of an impossible shape")
    count = 1
    for side in shape:
        count *= side
    if count * code.itemsize != len(raw):
        raise _Refused(f"damaged: expected {count} values of {code.itemsize} bytes, found {len(raw)} bytes")
    return np.frombuffer(raw, code).reshape(shape, order=order)


def _scalar(code: Any, raw: Any) -> Any:
    return _array_of(raw, code, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"a call of encode for something else than latin1: {_ADMITTED}")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _reconstruct,
    "dtype": _dtype,
    "scalar": _scalar,
    "_frombuffer": _array_of,
    "encode": _encode,
    "bytes": _no_bytes,
}
_USES_UP = {"scalar": 1, "encode": 0}  # the argument of which nothing is left but the outcome
_INT4, _UINT2, _UINT4, _UINT8, _DOUBLE = (struct.Struct(layout) for layout in ("<i", "<H", "<I", "<Q", ">d"))
_HANDLERS: dict[int, Callable[[_Machine, int], int]] = {
    code[0]: handler
    for code, handler in {
        b"\x80": _Machine._proto, b"\x95": _Machine._frame, b".": _Machine._stop, b"(": _Machine._mark,
        b"N": _Machine._none, b"\x88": _Machine._true, b"\x89": _Machine._false,
        b"I": _Machine._int, b"L": _Machine._long, b"\x8a": _Machine._long1, b"\x8b": _Machine._long4,
        b"J": _Machine._binint, b"K": _Machine._binint1, b"M": _Machine._binint2,
        b"F": _Machine._float, b"G": _Machine._binfloat,
        b"S": _Machine._string, b"T": _Machine._bytes4, b"U": _Machine._short_bytes,
        b"B": _Machine._bytes4, b"C": _Machine._short_bytes, b"\x8e": _Machine._bytes8, b"\x96": _Machine._bytes8,
        b"V": _Machine._unicode, b"X": _Machine._text4, b"\x8c": _Machine._short_text, b"\x8d": _Machine._text8,
        b"]": _Machine._empty_list, b"l": _Machine._list, b"a": _Machine._append, b"e": _Machine._appends,
        b")": _Machine._empty_tuple, b"t": _Machine._tuple,
        b"\x85": _Machine._tuple1, b"\x86": _Machine._tuple2, b"\x87": _Machine._tuple3,
        b"}": _Machine._empty_dict, b"d": _Machine._dict, b"s": _Machine._setitem, b"u": _Machine._setitems,
        b"c": _Machine._global, b"\x93": _Machine._stack_global, b"R": _Machine._reduce, b"b": _Machine._build,
        b"p": _Machine._put, b"q": _Machine._binput, b"r": _Machine._long_binput, b"\x94": _Machine._memoize,
        b"g": _Machine._get, b"h": _Machine._binget, b"j": _Machine._long_binget,
    }.items()
}  # fmt: skip
