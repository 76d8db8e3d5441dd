"""Kaldi float32 matrix archives, through kaldiio; zero rows are legal.

Kaldi itself has no matrix of 0 x D, so a matrix without rows is stored as 0 x 0 and comes back as (0, 0) unless the
reader says how many columns there should be.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping

import kaldiio
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.lists import read_scp

Float = NDArray[np.float32]


def matrix_bytes(key: str, matrix: NDArray[np.floating]) -> bytes:
    """One archive entry: key, space, binary float32 matrix. ``matrix`` is (rows, columns)."""
    if matrix.ndim != 2:
        raise ValueError(f"{key}: expected a matrix (rows, columns), found shape {matrix.shape}")
    stored = matrix.astype(np.float32) if len(matrix) else np.zeros((0, 0), np.float32)
    stream = io.BytesIO()
    kaldiio.save_ark(stream, {key: stored})
    return stream.getvalue()


class MatrixTable(Mapping[str, Float]):
    """The matrices that an scp lists, each read when it is asked for.

    columns: number of columns that every matrix must have; None takes them as they are.
    Raises DataError for an entry that cannot be read or has other columns.
    """

    def __init__(self, scp: str | os.PathLike[str], columns: int | None = None) -> None:
        self.scp, self.columns = scp, columns
        self._where = read_scp(scp)

    def __getitem__(self, key: str) -> Float:
        where = self._where[key]
        try:
            matrix = kaldiio.load_mat(where)
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            raise DataError(
                f"matrix '{key}' at {where} cannot be read ({error}); redo the stage that wrote it", self.scp
            ) from None
        if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
            raise DataError(f"'{key}' at {where} is not a matrix", self.scp)
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


def load_matrices(scp: str | os.PathLike[str], columns: int | None = None) -> MatrixTable:
    """Open ``<key> <archive>:<offset>`` as a mapping of lazily read (rows, columns) float32 matrices."""
    return MatrixTable(scp, columns)
