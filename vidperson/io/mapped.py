"""Rows of Kaldi float32 archives, mapped into memory: any of them at once, without reading the others.

What is held for a matrix is where it lies, not its rows, so that memory does not grow with the number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.lines import read_scp, resolved

Float = NDArray[np.float32]
Index = NDArray[np.int64]

_HEADER = np.dtype([("kind", "S5"), ("four", "u1"), ("rows", "<i4"), ("also_four", "u1"), ("columns", "<i4")])
_VALUE = 4  # bytes
_CURE = "redo the stage that wrote it"


class MappedRows:
    """Matrices that an scp lists, ``<key> <archive>:<offset>``, as one table of rows.

    keys: the S names that are wanted. counts: (S,) int64 rows of each; 0 is legal.
    columns: of every matrix that has rows; 0 where none has.
    Raises DataError, naming the matrix, for one that is not listed, an archive that is missing or cut off, another form
    than float32 that is not compressed, and other columns than those before.
    """

    def __init__(self, scp: str | os.PathLike[str], keys: Sequence[str]) -> None:
        where = read_scp(scp)
        self.scp, self.keys = scp, tuple(keys)
        self.counts: Index = np.zeros(len(keys), np.int64)
        self._starts: Index = np.zeros(len(keys), np.int64)
        self._file = np.zeros(len(keys), np.int64)
        self.columns = 0
        self._paths: list[str] = []
        self._maps: list[NDArray[np.uint8]] = []
        members: dict[str, list[int]] = {}
        for number, key in enumerate(self.keys):
            if key not in where:
                raise self._broken(number, "it is not listed")
            path, colon, text = where[key].rpartition(":")
            if not (colon and text.isdecimal() and text.isascii() and len(text) < 19):
                raise self._broken(number, f"expected '<archive>:<offset>', found '{where[key]}'")
            self._starts[number] = int(text)
            members.setdefault(path, []).append(number)
        for path, numbers in members.items():
            self._open(resolved(Path(scp).parent, path), np.array(numbers, np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, matrices: Index, rows: Index) -> Float:
        """(K,) positions in ``keys`` and (K,) rows of those matrices -> (K, columns) float32, copied."""
        size = _VALUE * self.columns
        found = np.empty((len(rows), size), np.uint8)
        files = self._file[matrices]
        starts = self._starts[matrices] + rows * size
        for file in np.unique(files).tolist():
            mine = files == file
            windows = np.lib.stride_tricks.sliding_window_view(self._map(file), size)
            found[mine] = windows[starts[mine]]
        return found.view("<f4").astype(np.float32, copy=False)

    def _open(self, path: str, numbers: Index) -> None:
        """Read the headers of the matrices of one archive."""
        if not os.path.isfile(path):
            raise self._broken(int(numbers[0]), f"no such file: '{path}'")
        file = len(self._paths)
        self._paths.append(path)
        content = self._map(file)
        starts = self._starts[numbers]
        size = _HEADER.itemsize
        short = starts > len(content) - size
        if short.any():
            raise self._broken(int(numbers[np.argmax(short)]), f"'{path}' ends before it")
        heads = np.lib.stride_tricks.sliding_window_view(content, size)[starts].view(_HEADER)[:, 0]
        good = (heads["kind"] == b"\0BFM ") & (heads["four"] == 4) & (heads["also_four"] == 4)
        if not good.all():
            what = "a binary Kaldi matrix of float32, not compressed"
            raise self._broken(int(numbers[np.argmin(good)]), f"expected {what} in '{path}'")
        rows, columns = heads["rows"].astype(np.int64), heads["columns"].astype(np.int64)
        room = (len(content) - size - starts) // _VALUE  # not rows * columns in bytes: that may be too large a number
        whole = (rows >= 0) & (columns >= np.sign(rows)) & (rows * columns <= room)
        if not whole.all():
            at = int(np.argmin(whole))
            raise self._broken(int(numbers[at]), f"expected {rows[at]} x {columns[at]} values, '{path}' ends before")
        filled = np.flatnonzero(rows)
        if len(filled):
            self.columns = self.columns or int(columns[filled[0]])
            other = filled[columns[filled] != self.columns]
            if len(other):
                found = f"expected {self.columns} columns as before, found {columns[other[0]]}"
                raise DataError(f"matrix '{self.keys[numbers[other[0]]]}': {found}; {_CURE}", self.scp)
        self.counts[numbers], self._file[numbers] = rows, file
        self._starts[numbers] = starts + size

    def _map(self, file: int) -> NDArray[np.uint8]:
        """An archive as bytes; mapped anew in another process."""
        while len(self._maps) <= file:
            path = self._paths[len(self._maps)]
            empty = os.path.getsize(path) == 0
            self._maps.append(np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r"))
        return self._maps[file]

    def _broken(self, number: int, reason: str) -> DataError:
        return DataError(f"matrix '{self.keys[number]}' cannot be read ({reason}); {_CURE}", self.scp)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": []}
