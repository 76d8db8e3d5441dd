"""Set-to-set scoring: which back-ends there are and what each does with the faces of a video.

A back-end turns the embeddings of each enrolment and each test video into others (pools, clusters or refines them),
unites those of a model's videos, and takes the largest score of a model's and a test video's embeddings. The names
v1 to v9 are those of the JHU-MIT system for NIST SRE19 (Villalba et al., Advances in Speaker Recognition for
Telephone and Audio-Visual Data, Odyssey 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.backends import pair_means, pooling
from vidperson.backends.enrolment import replace_missing_reference
from vidperson.backends.scorers import CohortScorer, Cosine, Scorer, SourceTargetAttention
from vidperson.backends.sets import EmbeddingSets, Float
from vidperson.backends.snorm import AdaptiveSNorm
from vidperson.backends.tracks import track_means
from vidperson.backends.trials import score_pairs
from vidperson.errors import ScoringError

__all__ = [
    "BACKENDS",
    "AdaptiveSNorm",
    "Backend",
    "Context",
    "EmbeddingSets",
    "Scorer",
    "get_backend",
    "replace_missing_reference",
    "score_pairs",
]


@dataclass(frozen=True)
class Context:
    """What a back-end may need beside the embeddings.

    thr_ahc: average cosine down to which clusters are merged.
    cluster_bytes: memory for clustering one video, see ``average_linkage``.
    items: per video, the (n, 6 or more) float32 frame, time_s, x1, y1, x2, y2 of what was embedded, row by row;
        needed for videos of two and more embeddings by the back-ends that say so.
    """

    thr_ahc: float = 0.8
    cluster_bytes: int = 2**30
    items: Mapping[str, NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        """Raises ScoringError for a threshold that is no cosine."""
        if not -1 <= self.thr_ahc <= 1:
            raise ScoringError(f"thr_ahc: expected a cosine, -1..1, found {self.thr_ahc:g}")


Refine = Callable[[EmbeddingSets, Context], EmbeddingSets]
"""The embeddings of each video to those that are scored; one embedding or none stays as it is."""


def _as_they_are(sets: EmbeddingSets, context: Context) -> EmbeddingSets:
    return sets


def _each(function: Callable[[Float], NDArray[np.floating]]) -> Refine:
    return lambda sets, context: sets.refine(function)


def _clusters(sets: EmbeddingSets, context: Context) -> EmbeddingSets:
    return sets.refine(lambda rows: pooling.cluster_means(rows, context.thr_ahc, context.cluster_bytes))


def _tracks(sets: EmbeddingSets, context: Context) -> EmbeddingSets:
    """Raises ScoringError for a video whose items are missing or are not as many as its embeddings."""

    def refined(key: str, rows: Float) -> NDArray[np.floating]:
        if len(rows) < 2:
            return rows
        items = None if context.items is None else context.items.get(key)
        if items is None or len(items) != len(rows) or items.shape[1] < 6:
            found = "no list of items" if items is None else f"{len(items)} items of {items.shape[1]} numbers"
            raise ScoringError(f"'{key}': {len(rows)} embeddings, {found}; run stages 2 and 3 for the set")
        return track_means(rows, items)

    return EmbeddingSets.from_items((key, refined(key, sets[i])) for i, key in enumerate(sets.keys))


def _same(rows: EmbeddingSets) -> EmbeddingSets:
    return rows


@dataclass(frozen=True)
class Backend:
    """How sets of embeddings are compared.

    alias: its number in the published recipe, empty for those that are not in it.
    enrolment, test: what becomes of the embeddings of each video of either side.
    scorer: what compares the embeddings of a model and of a test video.
    cohort: what becomes of the rows of a cohort of s-norm, each of which counts as a set.
    needs_items: whether ``enrolment`` and ``test`` need the frames and boxes of what was embedded.
    """

    alias: str
    enrolment: Refine
    test: Refine
    scorer: Callable[[EmbeddingSets, EmbeddingSets], CohortScorer] = Cosine
    cohort: Callable[[EmbeddingSets], EmbeddingSets] = _same
    needs_items: bool = False

    @property
    def clusters(self) -> bool:
        """Whether ``thr_ahc`` counts."""
        return _clusters in (self.enrolment, self.test)


def _vectors(function: Callable[[EmbeddingSets], EmbeddingSets]) -> Refine:
    return lambda sets, context: function(sets)


_mean, _median, _norm_mean = _each(pooling.mean), _each(pooling.median), _each(pooling.norm_mean)
_self_attention = _each(pooling.self_attention)
_whole, _crops = _vectors(pair_means.first_rows), _vectors(pair_means.later_rows)
_both, _all = _vectors(pair_means.first_and_later_rows), _vectors(pair_means.all_rows)

BACKENDS: dict[str, Backend] = {
    "max": Backend("v1", _as_they_are, _as_they_are),
    "mean": Backend("v2", _mean, _as_they_are),
    "median": Backend("v3", _median, _as_they_are),
    "ahc-test": Backend("v4", _median, _clusters),
    "ahc": Backend("v5", _clusters, _clusters),
    "selfatt-test": Backend("v6", _median, _self_attention),
    "xatt": Backend("v7", _median, _self_attention, SourceTargetAttention),
    "selfatt-all": Backend("v8", _as_they_are, _self_attention),
    "selfatt": Backend("v9", _self_attention, _self_attention),
    "norm-mean": Backend("", _norm_mean, _as_they_are),
    "track": Backend("", _tracks, _tracks, needs_items=True),
    "whole": Backend("", _whole, _whole),
    "crops": Backend("", _crops, _crops, pair_means.InnerProduct),
    "whole-crops": Backend("", _both, _both, pair_means.InnerProduct, cohort=pair_means.twice),
    "mean-cosine": Backend("", _all, _all, pair_means.InnerProduct),
}


def get_backend(name: str) -> Backend:
    """The back-end of this name or alias. Raises ScoringError naming the valid ones for any other."""
    for known, backend in BACKENDS.items():
        if name and name in (known, backend.alias):
            return backend
    valid = " ".join(known + (f" ({backend.alias})" if backend.alias else "") for known, backend in BACKENDS.items())
    raise ScoringError(f"no back-end '{name}'; valid: {valid}")
