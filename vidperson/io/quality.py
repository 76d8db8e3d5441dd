"""``<test set>_quality``: what is known of the models and the test segments beside their embeddings.

One line each, ``model <name> items=3 norm=12.1 ...`` or ``segment <name> ...``. ``items=0`` says that nothing was
found to compare: the score of its trials is 0, and tells nothing. A measure that is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import PathLike, read_lines
from vidperson.io.lists import Pairs

Double = NDArray[np.float64]
SIDES = ("model", "segment")
ITEMS = "items"
_LINES_AT_ONCE = 4096


@dataclass(frozen=True)
class Qualities:
    """Measures of some names, which are all models, or all segments.

    names: N of them. measures: measure -> (N,) float64, NaN where it is not known; ``items`` is always there.
    """

    names: Sequence[str]
    measures: Mapping[str, Double]

    def of(self, names: Sequence[str], measure: str) -> Double:
        """(M,) values of other names; NaN for a name or measure that is not there."""
        where = {name: i for i, name in enumerate(self.names)}
        rows = np.array([where.get(name, -1) for name in names], dtype=np.int64)
        values = np.append(self.measures.get(measure, np.full(len(self.names), np.nan)), np.nan)
        return np.asarray(values[rows])


@dataclass(frozen=True)
class QualityList:
    """What a list holds of both sides of the trials."""

    models: Qualities
    segments: Qualities

    def of(self, pairs: Pairs, measure: str) -> Double:
        """(N, 2) values of the model and of the segment of N trials, NaN where they are not known."""
        sides = self.models.of(pairs.model_ids, measure), self.segments.of(pairs.segment_ids, measure)
        return np.column_stack([sides[0][pairs.model_index], sides[1][pairs.segment_index]])

    def scored(self, pairs: Pairs) -> NDArray[np.bool_]:
        """(N,) whether something was found of both sides; True for names that the list does not have."""
        return np.asarray(~(self.of(pairs, ITEMS) == 0).any(axis=1))


def write_qualities(path: PathLike, qualities: QualityList) -> None:
    """Write the list, numbers with six digits, whole or not at all."""
    with atomic_write(path) as stream:
        for side, ours in zip(SIDES, (qualities.models, qualities.segments), strict=True):
            for begin in range(0, len(ours.names), _LINES_AT_ONCE):
                some = slice(begin, begin + _LINES_AT_ONCE)
                columns = [[f" {name}={x:.6g}" if x == x else "" for x in values[some].tolist()]
                           for name, values in ours.measures.items()]  # fmt: skip
                cells = zip(ours.names[some], *columns, strict=True)
                stream.writelines(f"{side} {name}{''.join(texts)}\n" for name, *texts in cells)


def read_qualities(path: PathLike) -> QualityList:
    """Raises DataError naming the line where it is not as :func:`write_qualities` writes it, or a name is there twice.

    Lines in any order, as of another program, are fine.
    """
    names: dict[str, dict[str, int]] = {side: {} for side in SIDES}
    found: dict[str, dict[str, dict[int, float]]] = {side: {} for side in SIDES}
    for number, line in read_lines(path):
        side, *rest = line.split()
        if side not in names or not rest or not any(word.startswith(f"{ITEMS}=") for word in rest[1:]):
            expected = f"'model|segment <name> {ITEMS}=<n> <measure>=<number> ...'"
            raise DataError(f"expected {expected}, found '{line}'", path, number)
        row = len(names[side])
        if names[side].setdefault(rest[0], row) != row:
            raise DataError(f"{side} '{rest[0]}' appears twice", path, number)
        for word in rest[1:]:
            measure, _, text = word.partition("=")
            try:
                value = float(text)
            except ValueError:
                value = np.nan
            if not np.isfinite(value):
                raise DataError(f"expected <measure>=<finite number>, found '{word}'", path, number)
            found[side].setdefault(measure, {})[row] = value
    return QualityList(*(_qualities(list(names[side]), found[side]) for side in SIDES))


def _qualities(names: list[str], found: Mapping[str, Mapping[int, float]]) -> Qualities:
    measures = {}
    for measure, values in found.items():
        measures[measure] = np.full(len(names), np.nan)
        measures[measure][list(values)] = list(values.values())
    return Qualities(names, {ITEMS: np.zeros(len(names)), **measures})
