"""A trial list of any length: read once, kept as numbers on the disk, handed out some trials at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.columns import IdCollector
from vidperson.io.lines import PathLike
from vidperson.io.lists import line_number, trial_blocks

Numbers = NDArray[np.int32]

_IN_MEMORY = 2**25  # bytes of numbers that no file is made for
_KEYS_AT_ONCE = 2**22
_AT_ONCE = 2**20
_PAIR_BYTES = 8


class TrialList:
    """The model and the segment of each line, as numbers; a context that removes its file at the end.

    path: the list. model_ids, segment_ids: the different ids, in order of first appearance.
    by_model: whether the lines of each model stand together.
    """

    def __init__(self, path: PathLike, folder: PathLike) -> None:
        """Read ``<model> <segment> [target|nontarget]``; folder: where the file is made, which has no name.

        Raises DataError as :func:`vidperson.io.lists.read_trials`, OSError where there is no room.
        """
        self.path = path
        self._file = cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=os.fspath(folder)))  # noqa: SIM115
        models, segments = IdCollector("model"), IdCollector("segment")
        self._count, self.by_model = 0, True
        ascending, last = True, -1
        try:
            for block, _ in trial_blocks(path):
                pairs = np.stack([models.numbers(block, 0), segments.numbers(block, 1)], axis=1)
                if not len(pairs):
                    continue
                keys = _keys(pairs)
                ascending &= last < keys[0] and bool((keys[1:] > keys[:-1]).all())
                self.by_model &= last >> 32 <= keys[0] >> 32 and bool((pairs[1:, 0] >= pairs[:-1, 0]).all())
                last = int(keys[-1])
                self._file.write(pairs.tobytes())
                self._count += len(pairs)
            self.model_ids, self.segment_ids = models.names, segments.names
            if not self._count:
                raise DataError("no trials", path)
            if not ascending:
                self._refuse_repeated()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TrialList:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def parts(self, most: int = _AT_ONCE) -> Iterator[Numbers]:
        """(T, 2) int32 positions in ``model_ids`` and ``segment_ids``, at most ``most`` lines at a time, in order."""
        for begin in range(0, self._count, most):
            self._file.seek(begin * _PAIR_BYTES)
            content = self._file.read(min(most, self._count - begin) * _PAIR_BYTES)
            yield np.frombuffer(content, dtype=np.int32).reshape(-1, 2)

    def where(self, row: int) -> str:
        """``<file>:<line>`` of the ``row``-th trial, for messages; blank lines count."""
        return f"{os.fspath(self.path)}:{line_number(self.path, row)}"

    def name(self, pair: Numbers) -> str:
        """``<model> <segment>`` of (2,) numbers."""
        return f"{self.model_ids[pair[0]]} {self.segment_ids[pair[1]]}"

    def first_with(self, column: int, number: int) -> int:
        """The first line with a model (column 0) or a segment (column 1)."""
        begin = 0
        for pairs in self.parts():
            rows = np.flatnonzero(pairs[:, column] == number)
            if len(rows):
                return begin + int(rows[0])
            begin += len(pairs)
        raise KeyError(number)

    def _refuse_repeated(self) -> None:
        """Raises DataError for the first line with a pair that is there before it.

        Pairs are compared in as many turns as keep each small.
        """
        turns = 1 << max(0, (self._count // _KEYS_AT_ONCE)).bit_length()
        repeated: set[int] = set()
        for turn in range(turns):
            chosen = [keys[(keys >> 32) + keys & turns - 1 == turn] for keys in map(_keys, self.parts())]
            keys = np.concatenate(chosen)
            del chosen
            keys.sort()
            repeated.update(keys[1:][keys[1:] == keys[:-1]].tolist())
        if repeated:
            self._refuse(np.array(sorted(repeated)))

    def _refuse(self, repeated: NDArray[np.int64]) -> None:
        seen: set[int] = set()
        begin = 0
        for pairs in self.parts():
            for row in np.flatnonzero(np.isin(keys := _keys(pairs), repeated)).tolist():
                key = int(keys[row])
                if key in seen:
                    line = line_number(self.path, begin + row)
                    raise DataError(f"trial '{self.name(pairs[row])}' appears twice", self.path, line)
                seen.add(key)
            begin += len(pairs)


def _keys(pairs: Numbers) -> NDArray[np.int64]:
    """(T,) int64, different for different pairs, ascending by model and then by segment."""
    keys = pairs[:, 0].astype(np.int64)
    keys <<= 32
    keys |= pairs[:, 1]
    return keys
