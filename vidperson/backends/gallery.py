"""The persons of an enrolment set, as vectors that tracks are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise, mean_row

Float = NDArray[np.float32]


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

    persons: P ids, in C-locale order. vectors: (P, D) float64, see ``exact.length_normalise``.
    missing: ids of persons of whom no portrait shows anything.
    """

    persons: tuple[str, ...]
    vectors: Double
    missing: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, portraits: Iterable[Portrait]) -> Gallery:
        """From portraits in any order."""
        found: dict[str, list[Double]] = {}
        for one in portraits:
            ours = found.setdefault(one.person, [])
            if one.vector is not None:
                ours.append(one.vector)
        persons = sorted((person for person, some in found.items() if some), key=str.encode)
        missing = sorted((person for person, some in found.items() if not some), key=str.encode)
        means = [length_normalise(mean_row(np.stack(found[person])))[0] for person in persons]
        return cls(tuple(persons), np.stack(means) if means else np.zeros((0, 0)), tuple(missing))

    def __len__(self) -> int:
        return len(self.persons)

    def cosines(self, units: Double) -> Double:
        """(T, D) unit vectors of tracks to their (T, P) cosines with the persons."""
        if not len(units) or not len(self):
            return np.zeros((len(units), len(self)))
        return np.asarray(units @ self.vectors.T)
