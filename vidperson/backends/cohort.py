"""What a cohort of s-norm is made of, and whether it is of the domain of the test set; the mean of a set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise, mean_row
from vidperson.backends.pair_means import all_rows
from vidperson.backends.sets import EmbeddingSets
from vidperson.errors import ScoringError

USUAL_ITEMS, USUAL_MEANS = 1000, 300
"""How many of a cohort normalise a score; 300 means of persons are usual for voices."""

FAR = 0.8
"""Standard deviations of test scores between two medians from which a cohort is of another domain."""
COMPARED = 1000
"""Segments of a set that are compared, at most."""

_FEWEST = 10
_IQR_OF_NORMAL = 1.349

Items = Iterable[tuple[str, NDArray[np.floating]]]
"""Names of segments and their (n, dim) embeddings."""


def segment_means(items: Items) -> Iterator[tuple[str, Double]]:
    """Each segment's (1, dim) mean, as (name, mean); segments without embeddings are left out."""
    return ((key, _finite(key, mean_row(rows))) for key, rows in items if len(rows))


def person_means(items: Items, person_of: Mapping[str, str]) -> Iterator[tuple[str, Double]]:
    """Each person's (1, dim) mean of the means of the own segments, sorted by name; of persons with any embedding.

    Sums are float64, in the order of the segments. Raises KeyError for a segment without a person.
    """
    sums: dict[str, Double] = {}
    counts: dict[str, int] = {}
    for key, mean in segment_means(items):
        person = person_of[key]
        _same_size(key, mean, next(iter(sums.values()), mean))
        sums[person] = sums[person] + mean if person in sums else mean
        counts[person] = counts.get(person, 0) + 1
    return ((person, sums[person] / counts[person]) for person in sorted(sums))


def centre(items: Items) -> Double:
    """(dim,) mean of the segments' means: the mean of all utterances where each has one embedding.

    Raises ScoringError without any embedding, for some of another size, and for one that is not finite.
    """
    for _, mean in person_means(items, _Everybody()):
        return mean[0]
    raise ScoringError("no embeddings to take the mean of")


class _Everybody(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def _finite(key: str, mean: Double) -> Double:
    if not np.isfinite(mean).all():
        raise ScoringError(f"'{key}': NaN or infinite embedding; extract it again")
    return mean


def _same_size(key: str, mean: Double, other: Double) -> None:
    if mean.shape != other.shape:
        raise ScoringError(
            f"'{key}': embeddings have {mean.shape[1]} numbers, those before it {other.shape[1]}; "
            "extract all with the same network"
        )


@dataclass(frozen=True)
class Domains:
    """Medians of the cosines within a test set and of the test set with a cohort, and how far they are apart.

    shift: the difference of the medians in standard deviations of the former, told by its quartiles.
    """

    test: float
    cohort: float
    shift: float

    @property
    def differ(self) -> bool:
        return abs(self.shift) > FAR


def sample_units(sets: EmbeddingSets) -> Double:
    """(K, dim) unit vectors of up to 1,000 segments, evenly spaced: of the means of each one's unit vectors."""
    there = np.flatnonzero(sets.counts > 0)
    some = there[evenly_spaced(len(there))].tolist()
    chosen = EmbeddingSets.from_items((sets.keys[i], sets[i]) for i in some)
    return length_normalise(all_rows(chosen).embeddings)


def compare_domains(units: Double, others: Double) -> Domains | None:
    """Compare a cohort with a test set, of which most pairs show different persons; None for fewer than ten segments.

    units, others: as :func:`sample_units` makes them of the test set and of the segments of the cohort, even where
        means of persons are the cohort: these have other cosines in the same domain.
    Neither key nor labels are needed. A cohort is to tell what a segment scores with other persons of its domain, so
    both kinds of cosines should have the same distribution. With two kinds of speech, sets of one kind were 0.0 to 0.3
    standard deviations apart, and in most cases sets of both kinds 1.1 to 1.8 (``benchmarks/cohorts.py``).
    """
    if len(units) < _FEWEST or not len(others) or others.shape[1] != units.shape[1]:
        return None  # too few to tell, or to be refused
    within = (units @ units.T)[np.triu_indices(len(units), 1)]
    low, middle, high = np.quantile(within, [0.25, 0.5, 0.75])
    foreign = float(np.median(units @ others.T))
    spread = max((high - low) / _IQR_OF_NORMAL, 1e-6)
    return Domains(float(middle), foreign, float((foreign - middle) / spread))


def evenly_spaced(count: int) -> NDArray[np.int64]:
    """Up to COMPARED of so many places."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, COMPARED)).astype(np.int64))
