"""Measures of how well a trial can be judged, as further inputs of calibration.

Calibration with measures beside the score goes back to the quality measure functions of J. Thienpondt, B. Desplanques
and K. Demuynck, "The IDLAB VoxCeleb Speaker Recognition Challenge 2020 System Description" (arXiv 2010.12468).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.pair_means import all_rows
from vidperson.backends.scorers import row_lengths
from vidperson.backends.sets import EmbeddingSets, Index
from vidperson.backends.snorm import require_cohort
from vidperson.errors import ScoringError

Values = NDArray[np.float64]


def _log(least: float) -> Callable[[Values], Values]:
    return lambda values: np.log(np.maximum(values, least))


MEASURES: Mapping[str, Callable[[Values], Values]] = {
    "items": _log(1.0),
    "duration": _log(0.01),
    "snr": lambda values: values,
    "norm": _log(1e-6),
    "cohort": lambda values: values,
}
"""Measure -> what calibration takes of it. items: what was embedded, a count. duration: seconds. snr: dB. norm: mean
length of the embeddings. cohort: mean cosine with the nearest of the cohort."""


def check_measures(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once. Raises ScoringError naming the valid ones for any other."""
    for name in names:
        if name not in MEASURES:
            raise ScoringError(f"no quality measure '{name}'; valid: {' '.join(MEASURES)}")
    return tuple(dict.fromkeys(names))


def inputs_of(measure: str, values: Values) -> Values:
    """(N, 2) values of a measure of model and segment to what calibration takes: of the poorer side, of the better."""
    taken = MEASURES[measure](values)
    return np.column_stack([taken.min(axis=1), taken.max(axis=1)])


def input_names(measure: str, of: str = "") -> tuple[str, str]:
    """What :func:`inputs_of` gives is called; of: the embedder, where there are several."""
    name = f"{of}/{measure}" if of else measure
    return f"{name}_min", f"{name}_max"


def mean_norms(sets: EmbeddingSets) -> Values:
    """(S,) mean length of the embeddings of each set; NaN for a set without any."""
    return set_means(row_lengths(sets.embeddings), sets)


def set_means(values: Values, sets: EmbeddingSets) -> Values:
    """(N,) values of the rows to the (S,) mean of each set; NaN for a set without rows."""
    means = np.full(len(sets), np.nan)
    there = np.flatnonzero(sets.counts > 0)
    if len(there):
        means[there] = np.add.reduceat(values, sets.offsets[there]) / sets.counts[there]
    return means


def cohort_means(sets: EmbeddingSets, cohort: EmbeddingSets, count: int) -> Values:
    """(S,) mean cosine of each set's mean unit vector with the ``count`` nearest of a cohort; NaN without rows.

    Raises ScoringError for a cohort that is smaller, or of another size.
    """
    require_cohort(cohort, sets.dim if len(sets.embeddings) else 0, count)
    means = np.full(len(sets), np.nan)
    vectors, there = all_rows(sets), np.flatnonzero(sets.counts > 0)
    others = length_normalise(cohort.embeddings)
    for begin in range(0, len(there), 1024):
        scores: Double = length_normalise(vectors.embeddings[begin : begin + 1024]) @ others.T
        best = np.partition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]
        best.sort(axis=1)
        means[there[begin : begin + 1024]] = best.mean(axis=1)
    return means


def by_model(values: Values, weights: Values, segments: Index, models: Index, count: int) -> Values:
    """(S,) values of segments to the (M,) weighted means of models; NaN for a model without a value of any weight.

    segments, models: (F,) positions of what belongs together. count: M.
    """
    values, weights = values[segments], weights[segments]
    weights = np.where(np.isfinite(values), weights, 0.0)
    sums = np.bincount(models, np.where(weights > 0, values, 0.0) * weights, count)
    total = np.bincount(models, weights, count)
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)
