"""Ragged sets of embeddings: how many faces a video or a model has differs, and may be none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ScoringError

Float = NDArray[np.float32]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Rows of several sets side by side.

    sets: (K,) int64 positions of the sets, in the order that was asked for; each has at least one row here.
    starts: (K,) int64 first row of each set within ``rows``, ascending, so that ``ufunc.reduceat`` applies.
    rows: (R,) int64 which rows of all sets these are.
    goes_on: whether the first set has rows in the block before, too.
    """

    sets: Index
    starts: Index
    rows: Index
    goes_on: bool

    @property
    def ends(self) -> Index:
        """(K,) int64 the row behind the last of each set."""
        return np.append(self.starts[1:], len(self.rows))

    @property
    def lengths(self) -> Index:
        """(K,) int64 rows of each set."""
        return self.ends - self.starts


def row_blocks(offsets: Index, sets: Index, block_size: int) -> Iterator[Block]:
    """Cut the rows of ``sets`` (positions, distinct) into blocks of at most ``block_size`` rows.

    offsets: (S + 1,) int64; set s has the rows ``offsets[s]`` to ``offsets[s + 1]``. A set may spread over several
    blocks; a set without rows is in none.
    """
    counts = np.diff(offsets)
    sets = sets[counts[sets] > 0]
    ends = np.cumsum(counts[sets])
    for begin in range(0, int(ends[-1]) if len(ends) else 0, block_size):
        end = min(begin + block_size, int(ends[-1]))
        first, last = np.searchsorted(ends, [begin, end - 1], side="right")
        inside = slice(first, last + 1)
        members = sets[inside]
        # Rows of the request and rows of all sets differ by a shift that is constant within a set.
        shift = offsets[members + 1] - ends[inside]
        starts = np.maximum(ends[inside] - counts[members], begin)
        lengths = np.minimum(ends[inside], end) - starts
        goes_on = bool(ends[first] - counts[members[0]] < begin)
        yield Block(members, starts - begin, np.arange(begin, end) + np.repeat(shift, lengths), goes_on)


@dataclass(frozen=True)
class EmbeddingSets:
    """Named sets of embeddings, held as one matrix; a set without embeddings is a normal case.

    keys: S unique names (segments or models).
    embeddings: (N, dim) float32, finite; N is the number of embeddings of all sets.
    offsets: (S + 1,) int64; set s is ``embeddings[offsets[s]:offsets[s + 1]]``.

    Raises ValueError when the shapes or names do not fit together, and ScoringError naming the first set with
    an embedding that is not finite.
    """

    keys: tuple[str, ...]
    embeddings: Float
    offsets: Index

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or self.embeddings.dtype != np.float32:
            found = f"{self.embeddings.shape} {self.embeddings.dtype}"
            raise ValueError(f"embeddings: expected (N, dim) float32, found {found}")
        n, s = len(self.embeddings), len(self.keys)
        offsets = np.ascontiguousarray(self.offsets, dtype=np.int64)
        object.__setattr__(self, "offsets", offsets)
        if offsets.shape != (s + 1,) or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
            raise ValueError(f"offsets: expected {s + 1} ascending numbers from 0 to {n}, found {offsets}")
        if len(set(self.keys)) != s:
            raise ValueError("keys: expected unique names")
        # The sum over a row is finite only if all its terms are, and needs no array of N x dim flags.
        with np.errstate(invalid="ignore"):
            broken = np.flatnonzero(~np.isfinite(self.embeddings.sum(axis=1, dtype=np.float64)))
        if len(broken):
            key = self.keys[int(np.searchsorted(offsets, broken[0], side="right")) - 1]
            raise ScoringError(f"'{key}': NaN or infinite embedding ({len(broken)} of {n} in all); extract it again")

    @classmethod
    def from_items(cls, items: Iterable[tuple[str, NDArray[np.generic]]]) -> EmbeddingSets:
        """Join ``(name, (n, dim) array)`` pairs; the width of an array without rows does not matter.

        Raises ScoringError naming the set whose embedding size differs from that of the sets before it.
        """
        keys: list[str] = []
        counts = [0]
        embeddings: Float = np.empty((0, 0), dtype=np.float32)
        end = 0
        for key, array in items:
            if array.ndim != 2:
                raise ScoringError(f"'{key}': expected a matrix with one embedding per row, found shape {array.shape}")
            if len(array):
                dim = embeddings.shape[1] if end else array.shape[1]
                if array.shape[1] != dim:
                    raise ScoringError(
                        f"'{key}': embeddings have {array.shape[1]} numbers, those before it {dim}; "
                        "extract all with the same network"
                    )
                begin, end = end, end + len(array)
                if end > len(embeddings):  # grown in place: arrays beside their union take twice the memory
                    embeddings.resize((end + end // 8, dim), refcheck=False)
                embeddings[begin:end] = array
            keys.append(key)
            counts.append(len(array))
        embeddings.resize((end, embeddings.shape[1]), refcheck=False)
        return cls(tuple(keys), embeddings, np.cumsum(counts, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, position: int) -> Float:
        """(n, dim) embeddings of the set at ``position``."""
        return self.embeddings[self.offsets[position] : self.offsets[position + 1]]

    @property
    def dim(self) -> int:
        """Numbers per embedding; without meaning where there is no embedding at all."""
        return int(self.embeddings.shape[1])

    @property
    def counts(self) -> Index:
        """(S,) int64 embeddings per set."""
        return np.diff(self.offsets)

    @property
    def mean_count(self) -> float:
        """Embeddings per set that has any; 0 where none has."""
        return len(self.embeddings) / max(1, int(np.count_nonzero(self.counts)))

    def empty_keys(self) -> list[str]:
        """Names of the sets without an embedding, in order."""
        return [self.keys[i] for i in np.flatnonzero(self.counts == 0)]

    def union(self, groups: Mapping[str, Sequence[str]]) -> EmbeddingSets:
        """One set per group with the embeddings of all its members, as a model unites its segments.

        Raises KeyError for a member that is not a set.
        """
        where = {key: i for i, key in enumerate(self.keys)}
        empty = self.embeddings[:0]
        return EmbeddingSets.from_items(
            (group, np.concatenate([empty, *(self[where[member]] for member in members)]))
            for group, members in groups.items()
        )

    def refine(self, function: Callable[[Float], NDArray[np.floating]]) -> EmbeddingSets:
        """The sets with the embeddings that ``function`` makes of those of each: (n, dim) to (m, dim), n and m > 0.

        A set without embeddings stays so, and a single embedding stays as it is.
        """
        return EmbeddingSets.from_items(
            (key, function(rows) if len(rows) > 1 else rows)
            for key, rows in ((key, self[i]) for i, key in enumerate(self.keys))
        )
