"""Kaldi float32 matrix archives; zero rows are legal.

Kaldi itself has no matrix of 0 x D, so a matrix without rows is stored as 0 x 0 and comes back as (0, 0) unless the
reader says how many columns there should be.

kaldiio writes them. It is not given anything to read: it understands far more than matrices in an scp and in an
archive, commands to run and pickles among them, and believes the sizes that it reads.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import kaldiio
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.io.places import Places
from vidperson.io.record import checked

Float = NDArray[np.float32]

_HEADER = struct.Struct("<5sxixi")  # kind, a byte that is 4, rows, a byte that is 4, columns
_VALUES: dict[bytes, np.dtype[np.floating]] = {b"\0BFM ": np.dtype("<f4"), b"\0BDM ": np.dtype("<f8")}


def matrix_bytes(key: str, matrix: NDArray[np.floating]) -> bytes:
    """One archive entry: key, space, binary float32 matrix. ``matrix`` is (rows, columns)."""
    if matrix.ndim != 2:
        raise ValueError(f"{key}: expected a matrix (rows, columns), found shape {matrix.shape}")
    stored = matrix.astype(np.float32) if len(matrix) else np.zeros((0, 0), np.float32)
    stream = io.BytesIO()
    kaldiio.save_ark(stream, {key: stored})
    return stream.getvalue()


class MatrixTable(Mapping[str, Float]):
    """The matrices that an scp lists, each read when it is asked for; paths are relative to it.

    columns: number of columns that every matrix must have; None takes them as they are.
    Raises DataError for an entry that cannot be read or has other columns.
    """

    def __init__(self, scp: str | os.PathLike[str], columns: int | None = None) -> None:
        self.scp, self.columns = scp, columns
        self._where = read_scp(scp)
        self._folder = os.path.join(Path(scp).parent, "")

    def __getitem__(self, key: str) -> Float:
        with Places() as places:
            return self._read(key, places)

    def read(self, keys: Iterable[str]) -> Iterator[tuple[str, Float]]:
        """Each key with its matrix, as with :meth:`__getitem__`, only faster: archives stay open."""
        with Places() as places:
            for key in keys:
                yield key, self._read(key, places)

    def _read(self, key: str, places: Places) -> Float:
        where = self._where[key]
        if not where.startswith("/"):
            where = self._folder + where  # as lines.resolved, of which hundreds of thousands take a while
        try:
            matrix = _read_matrix(*places.open(where))
        except (OSError, ValueError) as error:
            raise DataError(
                f"matrix '{key}' at {where} cannot be read ({error}); redo the stage that wrote it", self.scp
            ) from None
        if not len(matrix):
            return np.zeros((0, self.columns or 0), np.float32)
        if self.columns is not None and matrix.shape[1] != self.columns:
            raise DataError(f"matrix '{key}': expected {self.columns} columns, found {matrix.shape[1]}", self.scp)
        return np.asarray(matrix, dtype=np.float32)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def _read_matrix(stream: BinaryIO, left: int) -> NDArray[np.floating]:
    """The matrix that begins here, in a file with so many bytes ``left``.

    Raises ValueError unless a whole binary matrix of floats, not compressed, is there.
    """
    head = stream.read(_HEADER.size)
    if head[:5] not in _VALUES or len(head) < _HEADER.size or head[5] != 4 or head[10] != 4:
        raise ValueError("expected a binary Kaldi matrix of floats, not compressed")
    kind, rows, columns = _HEADER.unpack(head)
    if not (rows > 0 < columns or rows == columns == 0):
        raise ValueError(f"a matrix of {rows} x {columns}")
    size = rows * columns * _VALUES[kind].itemsize
    if size > left - _HEADER.size:
        raise ValueError(f"expected {size} bytes for {rows} x {columns} values, found {left - _HEADER.size}")
    matrix = np.empty((rows, columns), _VALUES[kind])
    if rows and stream.readinto(matrix.view(np.uint8).reshape(-1)) < size:  # type: ignore[attr-defined]
        raise ValueError(f"the file ended within a matrix of {rows} x {columns}")
    return matrix


def load_matrices(scp: str | os.PathLike[str], columns: int | None = None) -> MatrixTable:
    """Open ``<key> <archive>:<offset>`` as a mapping of lazily read (rows, columns) float32 matrices."""
    return MatrixTable(scp, columns)


def checked_matrices(folder: Path, name: str, columns: int | None = None) -> MatrixTable:
    """The matrices of an archive, after list and archive were checked against the folder's record.

    Raises DataError for a file that was edited, cut or swapped, or is missing.
    """
    table = load_matrices(checked(folder / f"{name}.scp"), columns)
    if (folder / f"{name}.ark").is_file():  # a user's own list may name others
        checked(folder / f"{name}.ark")
    return table
