"""Which cast member is each candidate: labels of portraits spread over links between candidates, and compete.

Progressive propagation via competitive consensus (PPCC; Huang, Liu and Lin, *Person Search in Videos with One
Portrait Through Visual and Temporal Links*, ECCV 2018). Each candidate believes its strongest evidence for each cast
member, and the cast members compete for its belief. The surest candidates pass their beliefs on first.

Links are sparse: where there is none, nothing passes. A link below 0 is an objection: what one candidate is, the
other is not. Persons seen in the same frame object to one another. Results do not depend on the order of the
candidates nor on that of the cast.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from vidperson.backends.exact import Double
from vidperson.errors import ScoringError

Float = NDArray[np.float32]
Index = NDArray[np.int64]
Links: TypeAlias = sparse.sparray | NDArray[np.floating]
"""(N, N) what each candidate, a column, tells each other, a row: similarity, 0 for nothing, below 0 to object."""

_WORTH_PASSING = 0.001  # beliefs below are not passed on


def exclude_frames(links: Links, frames: Index) -> sparse.csr_array:
    """Links in which candidates of the same frame object to one another with -1, whatever their similarity.

    links: (N, N). frames: (N,) the number of the frame that each candidate is seen in.
    A candidate has no link to itself in the result.
    """
    found = sparse.csr_array(links, dtype=np.float64)
    _check(np.zeros((0, len(frames))), found)
    names, frame = np.unique(frames, return_inverse=True)
    seen = sparse.csr_array((np.ones(len(frame)), (np.arange(len(frame)), frame)), shape=(len(frame), len(names)))
    same = (seen @ seen.T).tocsr()
    found = found - found.multiply(same)
    found.eliminate_zeros()
    return sparse.csr_array(found - (same - sparse.eye_array(len(frame), format="csr")))


def competitive_consensus(
    portraits: NDArray[np.floating],
    links: Links,
    frozen: float = 0.5,
    steps: int = 5,
    temperature: float = 0.03,
    nobody: float = -math.inf,
) -> Double:
    """Scores of the candidates for each cast member after progressive propagation.

    In each step, the evidence of a candidate for a cast member is the largest of its similarity to the portrait and of
    the links to it, each times the belief passed on, minus the strongest objection. Beliefs are the softmax of the
    evidence over the cast. The surest candidates are frozen and pass their beliefs on in later steps. Candidates
    without evidence are never frozen.

    portraits: (C, N) similarities of the portraits of the cast to the candidates; 0 where one cannot be seen.
    links: (N, N).
    frozen: share of the candidates frozen in the first step, 0..1. It grows evenly to all in the last of the steps.
        Candidates that are as sure as the last of the share are frozen, too.
    temperature: of the softmax, above 0. The lower, the more the strongest evidence takes.
    nobody: evidence that a candidate is none of the cast; it competes with the cast. By default there is none.
    Returns (C, N) float64: portraits + beliefs.
    Raises ScoringError for shapes that do not fit, numbers that are not finite and settings out of range.

    As published, but that portraits keep their labels, where the authors' program forgets them after a step, and that
    there are objections and ``nobody``.
    """
    if not 0 <= frozen <= 1 or steps < 1:
        raise ScoringError(f"frozen must be 0..1 and steps >= 1; found frozen {frozen}, steps {steps}")
    arrows = sparse.csc_array(links, dtype=np.float64)
    _check(portraits, arrows)
    own = np.asarray(portraits, dtype=np.float64).T
    total = len(own)
    passed, beliefs = np.zeros(own.shape), np.zeros(own.shape)
    doubt = np.full(total, np.inf)
    done = np.zeros(total, dtype=bool)
    for step in range(steps):
        evidence = _evidence(own, arrows, passed)
        new, doubtful = _softmax(evidence, temperature, nobody)
        beliefs = np.where(done[:, None], beliefs, new)
        if step < steps - 1:
            doubtful[(evidence <= 0).all(axis=1)] = np.inf
            doubt = np.where(done, doubt, doubtful)
            share = frozen + step * (1 - frozen) / (steps - 1)
            count = total - int(total * (1 - share))
            if count:
                done |= np.isfinite(doubt) & (doubt <= np.sort(doubt)[count - 1])
            passed = np.where(done[:, None] & (beliefs >= _WORTH_PASSING), beliefs, 0.0)
    return (own + beliefs).T


def compete(scores: NDArray[np.floating], temperature: float = 0.3, nobody: float = -math.inf) -> Double:
    """(C, N) scores to the (C, N) softmax over the cast: one person, one label.

    temperature, nobody: as for :func:`competitive_consensus`.
    """
    return _softmax(np.asarray(scores, dtype=np.float64).T, temperature, nobody)[0].T


def propagate(
    portraits: NDArray[np.floating],
    links: Links,
    frames: Index,
    rounds: int = 2,
    frozen: float = 0.3,
    steps: int = 2,
    temperature: float = 0.03,
    between: float = 0.3,
    nobody: float = -math.inf,
) -> Float:
    """Scores of the candidates for each cast member: consensus, competition, and both again with the result.

    The default settings are those of the third place of WIDER Person Search 2019.

    portraits: (C, N). links: (N, N). frames: (N,) the frame of each candidate, see :func:`exclude_frames`.
    rounds: how often. The scores of a round are the portraits' similarities in the next.
    between: temperature of the softmax between the cast, see :func:`compete`. nobody: in both softmaxes.
    frozen, steps, temperature: see :func:`competitive_consensus`.
    Returns (C, N) float32 in 0..1; those of a candidate sum to 1, or less where it may be nobody.
    Raises ScoringError for shapes that do not fit, numbers that are not finite and settings out of range.
    """
    if rounds < 1:
        raise ScoringError(f"rounds must be >= 1; found {rounds}")
    separated = exclude_frames(links, frames)
    scores = np.asarray(portraits, dtype=np.float64)
    for _ in range(rounds):
        scores = compete(competitive_consensus(scores, separated, frozen, steps, temperature, nobody), between, nobody)
    return scores.astype(np.float32)


def _check(portraits: NDArray[np.floating], links: sparse.sparray) -> None:
    if portraits.ndim != 2:
        raise ScoringError(f"portraits: expected an array of the shape (cast, candidates), found {portraits.shape}")
    count = portraits.shape[1]
    if links.shape != (count, count):
        raise ScoringError(f"links: expected the shape {(count, count)} for {count} candidates, found {links.shape}")
    if not np.isfinite(portraits).all() or not np.isfinite(links.data).all():
        raise ScoringError("portraits and links: expected finite numbers, found NaN or infinity")


def _evidence(own: Double, arrows: sparse.csc_array, passed: Double) -> Double:
    """(N, C) strongest support of each candidate for each cast member, minus the strongest objection.

    own: (N, C) similarities to portraits. passed: (N, C) beliefs that are passed on.
    """
    support, objection = np.maximum(own, 0.0), np.zeros(own.shape)
    for label in range(own.shape[1]):
        senders = np.flatnonzero(passed[:, label])
        sent = arrows[:, senders]
        told = sent.data * np.repeat(passed[senders, label], np.diff(sent.indptr))
        np.maximum.at(support[:, label], sent.indices, told)
        np.minimum.at(objection[:, label], sent.indices, told)
    return support + objection


def _softmax(evidence: Double, temperature: float, nobody: float) -> tuple[Double, Double]:
    """(N, C) evidence to (N, C) beliefs, their softmax, and (N,) doubts.

    Beliefs of a row sum to 1, or less where there is a ``nobody``. A doubt is the sum of all beliefs but the largest
    of the cast, over that one. It still tells apart beliefs that are as close to 1 as numbers can be.
    """
    if not temperature > 0:
        raise ScoringError(f"temperatures must be above 0; found {temperature}")
    if evidence.size == 0:
        return np.zeros(evidence.shape), np.full(len(evidence), np.inf)
    ascending = np.sort(evidence, axis=1)  # so that sums do not depend on the order of the cast
    best = ascending[:, -1:]
    with np.errstate(over="ignore"):
        doubt = np.exp((ascending[:, :-1] - best) / temperature).sum(axis=1)
        doubt += np.exp((nobody - best[:, 0]) / temperature)
    return np.exp((evidence - best) / temperature) / (1 + doubt[:, None]), doubt
