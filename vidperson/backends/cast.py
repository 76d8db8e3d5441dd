"""Cast search: the candidates of a film ranked for each member of its cast, by who they are and what they wear.

Portraits show who a cast member is (*identity*, such as faces). Candidates are persons seen in frames: some show who
they are, most show what they wear (*appearance*, such as bodies), which portraits do not. So the surest candidates of
a cast member become examples for the others, and a person is in a frame only once. What the back-ends share is here;
each is in a module of its own.

Candidates come in an order of their own, that of their names in the C locale. Of equal scores the earlier one is the
better one. Cosines are rounded to 2^-40, so that their sums are exact and no result depends on the order otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise, round_to_grid
from vidperson.backends.reranking import expanded_cross_neighbourhood, k_reciprocal
from vidperson.errors import ScoringError

Float = NDArray[np.float32]
Index = NDArray[np.int64]
Bool = NDArray[np.bool_]

REASONS = ("identity", "expansion", "appearance", "excluded", "none")
IDENTITY, EXPANSION, APPEARANCE, EXCLUDED, NONE = range(len(REASONS))
NOTHING = -1
"""As evidence: none."""

COSINE_BITS = 40  # 4,096 cosines are summed without error
_LOW, _HIGH = 10.0, 40.0  # percentiles of cosines that pairs of the same person hardly touch
_NORMAL_LOW, _NORMAL_HIGH = -1.2815515655446004, -0.2533471031357997  # those of the standard normal distribution
_TYPICAL_IDENTITY, _TYPICAL_APPEARANCE = (0.0, 0.1), (0.45, 0.1)
_TYPICAL_PAIRS = 20
_NO_SUPPORT = 1e-6


class Cue:
    """What one or several embedders tell of N persons; a person may have no vector of one or of all.

    embeddings: per embedder (N, D) rows as the network gave them, which count where the (N,) bool beside them is true.
    units: per embedder (N, D) float64 of length 1, 0 where there is none. there: (N, K) bool.
    known: (N,) bool, whether there is any.
    Raises ScoringError for shapes that do not fit and vectors that are not finite.
    """

    def __init__(self, count: int, embeddings: Sequence[tuple[NDArray[np.floating], Bool]]) -> None:
        self.there = np.zeros((count, len(embeddings)), dtype=bool)
        self.units: list[Double] = []
        for k, (rows, there) in enumerate(embeddings):
            if rows.ndim != 2 or len(rows) != count or there.shape != (count,):
                raise ScoringError(f"expected vectors of {count} persons, found {rows.shape} and {there.shape}")
            if not np.isfinite(rows[there]).all():
                raise ScoringError("NaN or infinite embedding; extract it again")
            self.there[:, k] = there
            self.units.append(length_normalise(np.where(there[:, None], rows, 0.0)))
        self.known = self.there.any(axis=1)

    def __len__(self) -> int:
        return len(self.there)

    def cosines(self, other: Cue) -> Double:
        """(N, M) mean cosine over the embedders that both have; NaN where there is none in common.

        Raises ScoringError where the embedders differ.
        """
        _check_alike(self, other)
        shared = self.there.astype(np.float64) @ other.there.T.astype(np.float64)
        total = np.zeros(shared.shape)
        for k, (own, others) in enumerate(zip(self.units, other.units, strict=True)):
            if self.there[:, k].any() and other.there[:, k].any():
                total += own @ others.T
        with np.errstate(invalid="ignore"):
            return round_to_grid(np.where(shared > 0, total / np.maximum(shared, 1), np.nan), COSINE_BITS)

    def joined(self) -> Double:
        """(N, D) vectors of length 1, those of the embedders side by side; 0 for who has none.

        Their inner products are the cosines of those who have the same embedders.
        """
        side_by_side = np.concatenate([np.zeros((len(self), 0)), *self.units], axis=1)
        return side_by_side / np.sqrt(np.maximum(self.there.sum(axis=1, keepdims=True), 1))


def stacked(one: Cue, other: Cue) -> Cue:
    """The persons of both, by the same embedders. Raises ScoringError where these differ."""
    _check_alike(one, other)
    parts = []
    for k, (own, others) in enumerate(zip(one.units, other.units, strict=True)):
        size = max(own.shape[1], others.shape[1])  # one of them may have no vector at all
        both = np.zeros((len(one) + len(other), size))
        both[: len(one), : own.shape[1]], both[len(one) :, : others.shape[1]] = own, others
        parts.append((both, np.concatenate([one.there[:, k], other.there[:, k]])))
    return Cue(len(one) + len(other), parts)


def _check_alike(one: Cue, other: Cue) -> None:
    sizes = [
        [rows.shape[1] if cue.there[:, k].any() else None for k, rows in enumerate(cue.units)] for cue in (one, other)
    ]
    alike = len(sizes[0]) == len(sizes[1])
    if not alike or any(None not in pair and len(set(pair)) > 1 for pair in zip(*sizes, strict=True)):
        raise ScoringError(f"expected embeddings of the same embedders, found the sizes {sizes[0]} and {sizes[1]}")


@dataclass(frozen=True)
class Film:
    """The cast and the candidates of a film.

    cast: C members by their portraits. identity: N candidates, by the same embedders. appearance: the candidates by
        others. frames: (N,) number of the frame that each candidate is seen in.
    Raises ScoringError for numbers of candidates that differ.
    """

    cast: Cue
    identity: Cue
    appearance: Cue
    frames: Index

    def __post_init__(self) -> None:
        counts = {len(self.identity), len(self.appearance), len(self.frames)}
        if len(counts) > 1:
            raise ScoringError(f"expected as many candidates in each list, found {sorted(counts)}")

    @property
    def shape(self) -> tuple[int, int]:
        """Cast members, candidates."""
        return len(self.cast), len(self.identity)


@dataclass(frozen=True)
class Ranking:
    """How the candidates of a film rank for each cast member, and why.

    scores: (C, N) float32, larger is better. reasons: (C, N) int64, places in ``REASONS``.
    evidence: (C, N) int64: the candidate that decided, from 0, or N + c for the portrait of cast member c, or NOTHING.
    """

    scores: Float
    reasons: Index
    evidence: Index


@dataclass(frozen=True)
class Compared:
    """Cosines of a film in units of those of different persons: 0 is their centre, 1 their standard deviation.

    portraits: (C, N) of cast members and candidates. identity, appearance: (N, N) of candidates. NaN where nothing can
    be compared, and on the diagonals.
    """

    portraits: Double
    identity: Double
    appearance: Double


def compared(film: Film) -> Compared:
    """Centre and deviation come from the film itself, so that any embedder may be used.

    Most pairs of a film show two persons. The 10th and the 40th percentile of their cosines are where hardly any pair
    of the same person is; they give the normal distribution of the others. Few pairs count beside typical ones.
    """
    portraits = film.cast.cosines(film.identity)
    identity, appearance, cast = (cue.cosines(cue) for cue in (film.identity, film.appearance, film.cast))
    for square in (identity, appearance, cast):
        np.fill_diagonal(square, np.nan)
    centre, spread = _background([portraits, portraits, identity, cast], _TYPICAL_IDENTITY)
    middle, width = _background([appearance], _TYPICAL_APPEARANCE)
    return Compared((portraits - centre) / spread, (identity - centre) / spread, (appearance - middle) / width)


def _background(cosines: Sequence[Double], typical: tuple[float, float]) -> tuple[float, float]:
    """Centre and standard deviation of the cosines of different persons."""
    values = np.concatenate([some[~np.isnan(some)] for some in cosines])
    if not len(values):
        return typical
    low, high = np.percentile(values, [_LOW, _HIGH])
    spread = float(high - low) / (_NORMAL_HIGH - _NORMAL_LOW)
    own = len(values) / (len(values) + 2 * _TYPICAL_PAIRS)  # each pair of candidates is there twice
    centre = own * (float(high) - _NORMAL_HIGH * spread) + (1 - own) * typical[0]
    return centre, own * spread + (1 - own) * typical[1]


def nothing_known(shape: tuple[int, int]) -> tuple[Index, Index]:
    """Reasons and evidence to begin with."""
    return np.full(shape, NONE, dtype=np.int64), np.full(shape, NOTHING, dtype=np.int64)


RERANKINGS: Mapping[str, Callable[[Double, None], Float]] = {
    "k-reciprocal": k_reciprocal,
    "ecn": expanded_cross_neighbourhood,
}
"""Ways to re-rank, with the settings of their authors; the first one is the default."""


def reranked(cue: Cue, way: str) -> Double:
    """(N, N) similarities by one of ``RERANKINGS``, 1 - distance; NaN for persons without a vector."""
    found = np.full((len(cue), len(cue)), np.nan)
    known = np.flatnonzero(cue.known)
    if len(known):
        distances = RERANKINGS[way](cue.joined()[known], None)
        found[np.ix_(known, known)] = round_to_grid(1.0 - distances.astype(np.float64), COSINE_BITS)
    return found


def together(frames: Index) -> Bool:
    """(N, N) whether two different candidates share a frame."""
    same = frames[:, None] == frames[None]
    np.fill_diagonal(same, False)
    return same


def explain(
    portraits: Double, identity: Double, appearance: Double, beliefs: Double, same: Bool
) -> tuple[Index, Index]:
    """Reasons and evidence: what speaks most for each candidate and cast member.

    portraits: (C, N), identity, appearance: (N, N) probabilities that two show the same person, 0 where they cannot be
        compared. beliefs: (C, N) probabilities that a candidate is the cast member. same: see :func:`together`.
    The portrait speaks with its probability, a candidate with its belief times the probability. A portrait that says
    yes rather than no decides, then a candidate by identity, then what says most. Who shares a frame with one that is
    rather the cast member is excluded by it.
    """
    count_cast, count = beliefs.shape
    reasons, evidence = nothing_known(beliefs.shape)
    if not count:
        return reasons, evidence
    columns = np.arange(count)
    blocked = same | np.eye(count, dtype=bool)
    links = [np.where(blocked, 0.0, each) for each in (identity, appearance)]
    for c in range(count_cast):
        best = [(each * beliefs[c]).argmax(axis=1) for each in links]
        told = [each[columns, first] * beliefs[c, first] for each, first in zip(links, best, strict=True)]
        support = np.stack([portraits[c], *told])
        strongest = np.where(support[:2] > 0.5, 2.0, support[:2]).argmax(axis=0)
        strongest = np.where(support[:2].max(axis=0) > 0.5, strongest, support.argmax(axis=0))
        told_by = np.stack([np.full(count, count + c), *best])[strongest, columns]
        there = support.max(axis=0) > _NO_SUPPORT
        reasons[c, there] = np.array([IDENTITY, EXPANSION, APPEARANCE])[strongest[there]]
        evidence[c, there] = told_by[there]
        rivals = np.where(same, beliefs[c], 0.0)
        beaten = rivals.max(axis=1) > np.maximum(beliefs[c], 0.5)
        reasons[c, beaten], evidence[c, beaten] = EXCLUDED, rivals.argmax(axis=1)[beaten]
    return reasons, evidence
