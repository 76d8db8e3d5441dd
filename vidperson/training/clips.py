"""Clips to train identifiers on: what was prepared of each, and batches that pool some items of each anew.

Memory is for a row of numbers per clip at most, the items stay in their archives: both are mapped into memory.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import TrainingError
from vidperson.io.mapped import MappedRows
from vidperson.io.record import differences, read_record, write_record
from vidperson.training.batches import Arrays, ShuffledBatches

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.int64]
ALL = "all"
_AT_ONCE = 4096  # clips
_FILES = {"vectors": "<f4", "rows": "<i8", "weights": "<f4", "ends": "<i8", "part": "<i8", "number": "<i8"}


@dataclass(frozen=True)
class Prepared:
    """What is known of clips that have an item, as :class:`ClipWriter` wrote it; all of it is mapped.

    vectors: (N, D) float32, the vector of each clip, or track. ends: (N,) int64 where its items end among the M items.
    rows: (M,) int64 their rows in the clip's matrix. weights: (M,) float32 of each, without the length of its
    embedding. part, number: (N,) int64 the set that the clip is of, and its place in the set's list.
    digest: of what it was made from.
    """

    vectors: Float
    rows: Index
    weights: Float
    ends: Index
    part: Index
    number: Index
    digest: str

    def __len__(self) -> int:
        return len(self.ends)


class ClipWriter:
    """Writes what is prepared of clips, one after the other, to a folder; a context that removes what is not finished.

    command, inputs: what it is made by and from, for the record, which is written last.
    """

    def __init__(self, folder: Path, command: Sequence[str], inputs: Iterable[Path]) -> None:
        self.folder, self._command, self._inputs = folder, command, inputs
        self._streams: dict[str, BinaryIO] = {}
        self._end = 0

    def __enter__(self) -> ClipWriter:
        self._new = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._streams = {name: (self.folder / name).open("wb") for name in _FILES}
        return self

    def add(self, part: int, number: int, vector: Float, rows: Index, weights: NDArray[np.floating]) -> None:
        """A (D,) vector, and the (n,) rows and weights of its items."""
        self._end += len(rows)
        values: dict[str, Any] = {"vectors": vector, "rows": rows, "weights": weights, "ends": self._end}
        for name, value in {**values, "part": part, "number": number}.items():
            self._streams[name].write(np.asarray(value, _FILES[name]).tobytes())

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for stream in self._streams.values():
            stream.close()
        if kind is None:
            write_record(self.folder, self._command, self._inputs, [self.folder / name for name in _FILES])
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in self._new[1:]:  # made for it alone
            with contextlib.suppress(OSError):
                path.rmdir()


def read_prepared(folder: Path, size: int, command: Sequence[str], inputs: Sequence[Path]) -> Prepared | None:
    """What was prepared by this command from these inputs; None where that has to be done.

    size: D. Raises DataError for a damaged record.
    """
    record = read_record(folder)
    if record is None or differences(record, command, inputs):
        return None
    sizes = [folder / name for name in _FILES]
    if any(not path.is_file() or path.stat().st_size != record.outputs[path.name].bytes for path in sizes):
        return None
    found: dict[str, Any] = {}
    for name, kind in _FILES.items():
        path = folder / name
        found[name] = np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
    found["vectors"] = found["vectors"].reshape(-1, size)
    return Prepared(**found, digest=" ".join(record.outputs[name].sha256 for name in ("vectors", "rows", "weights")))


@dataclass(frozen=True)
class Clips:
    """Clips to train on. tables: of each set, those of its embedders, whose rows are the clips' items.

    persons: P names in the order of the outputs. labels: (N,) int64 the person of each clip, -1 for a stranger.
    """

    prepared: Prepared
    tables: Sequence[Sequence[MappedRows]]
    persons: tuple[str, ...]
    labels: Index

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return int(self.prepared.vectors.shape[1])

    def means(self, clips: Index, classes: Index, count: int, origin: Double, matrix: Double) -> Double:
        """(K,) clips and the class of each, among ``count``, to the (count, D) sums of each class's vectors.

        origin: (D,), matrix: (D, D): a unit vector x is first brought to (x - origin) @ matrix, and to length 1.
        """
        found = np.zeros((count, self.size))
        for begin in range(0, len(clips), _AT_ONCE):
            some = _units(self.prepared.vectors[clips[begin : begin + _AT_ONCE]])
            np.add.at(found, classes[begin : begin + _AT_ONCE], _units((some - origin) @ matrix))
        return found

    def pool(self, clips: Index, chosen: Index) -> Float:
        """(B,) clips and (B, K) which of their items, by position, -1 for none -> (B, D) vectors.

        As ``backends.identification.pool`` makes them of the items of one track.
        """
        prepared, there = self.prepared, chosen >= 0
        clip = np.repeat(np.arange(len(clips)), there.sum(axis=1))
        starts = prepared.ends[clips] - self.counts(clips)
        items = (starts[:, None] + chosen)[there]
        weights, rows = prepared.weights[items], prepared.rows[items]
        part, number = prepared.part[clips[clip]], prepared.number[clips[clip]]
        firsts = np.cumsum(there.sum(axis=1)) - there.sum(axis=1)
        none = np.maximum.reduceat(weights, firsts)[clip] <= 0
        found = []
        for embedder in range(len(self.tables[0])):
            values = np.empty((len(rows), self.tables[0][embedder].columns), np.float32)
            for one in np.unique(part).tolist():
                mine = part == one
                values[mine] = self.tables[one][embedder].take(number[mine], rows[mine])
            if none.any():
                length = np.linalg.norm(values[none], axis=1, keepdims=True)
                values[none] /= np.where(length > 0, length, 1)
            sums = np.add.reduceat(values * np.where(none, 1, weights)[:, None], firsts)
            length = np.linalg.norm(sums, axis=1, keepdims=True)
            found.append(sums / np.where(length > 0, length, 1))
        return np.concatenate(found, axis=1)

    def counts(self, clips: Index) -> Index:
        """(B,) items of each of (B,) clips."""
        ends = self.prepared.ends
        return np.asarray(ends[clips] - np.where(clips > 0, ends[clips - 1], 0))


@dataclass(frozen=True)
class Draw:
    """How many items of a clip a training sample is pooled of: numbers, and how probable each is; 0: all items."""

    numbers: tuple[int, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Draw:
        """``1=0.25 3=0.65 all=0.1``; the probabilities are divided by their sum. Raises TrainingError."""
        numbers, shares = [], []
        for word in text.split():
            name, _, share = word.partition("=")
            try:
                number, probability = 0 if name == ALL else int(name), float(share)
            except ValueError:
                number, probability = -1, 0.0
            if not (0 <= number <= 1000 and 0 < probability < float("inf")) or (number == 0 and name != ALL):
                raise TrainingError(f"items: expected <number or all>=<probability> ..., found '{word}'")
            numbers.append(number)
            shares.append(probability)
        if not numbers:
            raise TrainingError("items: expected such as '1=0.25 3=0.65 5=0.1', found nothing")
        return cls(tuple(numbers), tuple(share / sum(shares) for share in shares))

    def __call__(self, counts: Index, rng: np.random.Generator) -> Index:
        """(B,) items of each clip to (B, K) different ones of each, by position; -1 where it is fewer than K.

        A clip of which all are meant has none: its vector is known.
        """
        wanted = np.array(self.numbers)[rng.choice(len(self.numbers), len(counts), p=self.probabilities)]
        wanted = np.where(wanted >= counts, 0, wanted)
        most = max(self.numbers)
        chosen = np.full((len(counts), most), -1, np.int64)
        draws = rng.random((most, len(counts)))
        for k in range(most):  # Floyd's algorithm, for all clips at once
            last = counts - wanted + k
            drawn = (draws[k] * (last + 1)).astype(np.int64)
            drawn = np.where((chosen[:, :k] == drawn[:, None]).any(axis=1), last, drawn)
            chosen[:, k] = np.where(k < wanted, drawn, -1)
        return chosen


class ClipBatches(ShuffledBatches):
    """Batches of ``vectors`` (B, D) float32 and ``labels`` (B,) int64 of random clips, each pooled of random items.

    items: (N,) the clips to take. classes: (N,) the class of each.
    """

    def __init__(
        self,
        clips: Clips,
        items: Index,
        classes: Index,
        draw: Draw,
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
    ) -> None:
        if min(len(items), batch_size) < 2 * ranks:
            raise TrainingError(
                f"expected 2 clips a step or more for each process, found {min(len(items), batch_size)}"
            )
        super().__init__(len(items), batch_size, seed, rank, ranks, workers)
        self.clips, self.items, self.classes, self.draw = clips, items, classes, draw

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        whole = self.per_rank * self.ranks
        places = self.order(epoch)[step * whole : (step + 1) * whole]
        clips = self.items[places]
        rng = np.random.default_rng([self.seed, epoch, step + 1])
        chosen = self.draw(self.clips.counts(clips), rng)[self.rank :: self.ranks]
        clips, places = clips[self.rank :: self.ranks], places[self.rank :: self.ranks]
        vectors = np.array(self.clips.prepared.vectors[clips])
        some = (chosen >= 0).any(axis=1)
        if some.any():
            vectors[some] = self.clips.pool(clips[some], chosen[some])
        return {"vectors": vectors, "labels": self.classes[places]}, []


def stratified(labels: Index, folds: int, seed: int) -> Index:
    """(N,) labels, -1 for strangers, to the (N,) fold of each, from 0 on; -1: in none, since its person has no other.

    Each person's clips, and the strangers', are spread evenly.
    """
    order = np.random.default_rng([seed, folds]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    values, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    within = np.arange(len(labels)) - np.repeat(starts, counts)
    # Persons begin in different folds, so that folds are of one size.
    found = np.empty(len(labels), np.int64)
    found[order] = (within + np.repeat(np.arange(len(values)), counts)) % folds
    lonely = values[(counts == 1) & (values >= 0)]
    found[np.isin(labels, lonely)] = -1
    return found


def clusters(vectors: Float, count: int, rounds: int = 20) -> Index:
    """(N, D) vectors to the (N,) cluster of each, by k-means of unit vectors; the same on any machine.

    Raises TrainingError for more clusters than vectors.
    """
    if count > len(vectors):
        raise TrainingError(f"expected at least as many strangers as their {count} classes, found {len(vectors)}")
    units = np.rint(_units(vectors) * 2.0**20) * 2.0**-20  # products of two are summed without rounding: in any order
    centres = units[np.linspace(0, len(units) - 1, count).astype(np.int64)]
    found = np.full(len(units), -1)
    for _ in range(rounds):
        nearest = np.concatenate(
            [np.argmax(units[begin : begin + 4096] @ centres.T, axis=1) for begin in range(0, len(units), 4096)]
        )
        if np.array_equal(nearest, found):
            break
        found = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, found, units)
        length = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
        centres = np.where(length > 0, np.rint(sums / np.where(length > 0, length, 1) * 2.0**20) * 2.0**-20, centres)
    return found


def _units(vectors: NDArray[np.floating]) -> Double:
    """(N, D) vectors at length 1, float64; one of zeros stays so."""
    rows = np.asarray(vectors, np.float64)
    return np.asarray(rows / np.maximum(np.sqrt(np.square(rows).sum(axis=1, keepdims=True)), 1e-12))
