"""The persons of an enrolment set, as vectors that tracks are compared with.

With many persons a track is first compared with all of them by vectors of 8-bit numbers, then exactly with the nearest.
Products of whole numbers below 2^24 are exact in float32, so the first comparison does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise
from vidperson.types import Calibration

Float = NDArray[np.float32]
Index = NDArray[np.int64]

NEAREST, ALWAYS = 64, 5
"""Persons that a track is compared with exactly, of a gallery that is larger than ``ALL``: so many whom it rather shows
than somebody else, and so many in any case. Of thousands of tracks more would not fit into memory."""
ALL = 1024
_LEVELS = 127
_PERSONS_AT_ONCE = 4096
_TRACKS_AT_ONCE = 64


@dataclass(frozen=True)
class Portrait:
    """A segment of the enrolment set: an image or a video of a person.

    person: id. vector: (D,) unit vector of the person's track in it; None where nothing was found.
    status: that of stage 2. together: how many items the frame with the most has.
    """

    segment: str
    person: str
    vector: Double | None
    status: str = "ok"
    together: int = 1


@dataclass(frozen=True)
class Gallery:
    """Persons and the unit mean of the vectors of each one's portraits; no person is a normal case.

    persons: P ids, in C-locale order. vectors: (P, D) float32 of length 1.
    missing: ids of persons of whom no portrait shows anything.
    """

    persons: tuple[str, ...]
    vectors: Float
    missing: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, portraits: Iterable[Portrait]) -> Gallery:
        """From portraits in any order; a vector per person is held, not those of the portraits.

        Raises ValueError for vectors of different sizes.
        """
        sums: dict[str, Double | None] = {}
        for one in portraits:
            total = sums.setdefault(one.person, None)
            if one.vector is not None:  # on the grid of exact.length_normalise: sums are exact
                sums[one.person] = one.vector.copy() if total is None else total + one.vector
        missing = tuple(sorted((person for person, total in sums.items() if total is None), key=str.encode))
        persons = tuple(sorted(sums.keys() - set(missing), key=str.encode))
        size = next((len(total) for total in sums.values() if total is not None), 0)
        vectors = np.empty((len(persons), size), np.float32)
        for row, person in enumerate(persons):
            total = sums.pop(person)
            assert total is not None
            vectors[row] = length_normalise(total[None])[0]
        return cls(persons, vectors, missing)

    def __len__(self) -> int:
        return len(self.persons)

    def cosines(self, units: Double, rows: Index | None = None) -> Double:
        """(T, D) unit vectors of tracks to their (T, K) cosines with persons, exact: each depends on its pair only.

        rows: (K,) which persons; None: all.
        """
        vectors = self.vectors if rows is None else self.vectors[rows]
        if not len(units) or not len(vectors):
            return np.zeros((len(units), len(vectors)))
        return np.asarray(units @ vectors.T.astype(np.float64))

    def nearest(self, units: Double, calibration: Calibration, most: int = NEAREST) -> tuple[Index, Double]:
        """The persons to compare some tracks with exactly, and what all the others together say.

        units: (T, D) unit vectors of tracks, such as those of a video.
        Returns (K,) int64 rows, ascending: everybody in a gallery of up to ``ALL`` persons, else of the ``most``
        nearest of each track those with a positive ratio, and the first ``ALWAYS``; and (T,) ln of the sum of the
        likelihood ratios of the others, -inf where there are none.
        """
        if len(self) <= ALL or not len(units):
            return np.arange(len(self)), np.full(len(units), -np.inf)
        parts = [units[begin : begin + _TRACKS_AT_ONCE] for begin in range(0, len(units), _TRACKS_AT_ONCE)]
        chosen = np.zeros(0, np.int64)
        for part in parts:
            scores = self._scores(part)
            near = np.argpartition(scores, (-most, -ALWAYS), axis=1)[:, -most:]
            keep = np.take_along_axis(scores, near, axis=1) >= calibration.cosine(0.0)
            keep[:, -ALWAYS:] = True
            chosen = np.union1d(chosen, near[keep])
        # Of many tracks the scores are made twice, so that memory does not grow with the video.
        rest = [_log_sums(calibration, scores if len(parts) == 1 else self._scores(part), chosen) for part in parts]
        return chosen, np.concatenate(rest)

    @cached_property
    def _small(self) -> tuple[NDArray[np.int8], Float]:
        """(P, D) 8-bit vectors, and the (P,) lengths of their steps."""
        return _quantised(self.vectors)

    def _scores(self, units: Double) -> Float:
        """(T, P) float32: cosines by 8-bit vectors, off by 0.002 or so."""
        numbers, steps = self._small
        queries, sizes = _quantised(units.astype(np.float32))
        left = queries.astype(np.float32)
        found = np.empty((len(units), len(self)), np.float32)
        for begin in range(0, len(self), _PERSONS_AT_ONCE):
            some = slice(begin, begin + _PERSONS_AT_ONCE)
            np.matmul(left, numbers[some].T.astype(np.float32), out=found[:, some])
        found *= sizes[:, None]
        found *= steps
        return found


def _quantised(vectors: Float) -> tuple[NDArray[np.int8], Float]:
    """(N, D) vectors as whole numbers from -127 to 127 times (N,) steps."""
    numbers, steps = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    for some in _blocks(len(vectors)):
        largest = np.abs(vectors[some]).max(axis=1)
        steps[some] = np.where(largest > 0, largest / _LEVELS, 1)
        numbers[some] = np.rint(vectors[some] / steps[some, None])
    return numbers, steps


def _blocks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + _PERSONS_AT_ONCE) for begin in range(0, count, _PERSONS_AT_ONCE))


def _log_sums(calibration: Calibration, cosines: Float, without: Index) -> Double:
    """(T, P) cosines to the (T,) ln of the sum of the likelihood ratios, without some of the P columns."""
    llrs = calibration.offset + calibration.slope * cosines.astype(np.float64)
    llrs[:, without] = -np.inf
    most = llrs.max(axis=1, keepdims=True)
    return np.asarray(most[:, 0] + np.log(np.exp(llrs - most).sum(axis=1)))
