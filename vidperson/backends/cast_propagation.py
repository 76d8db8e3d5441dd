"""Cast search by propagation: links of identity and appearance, persons of a frame that object, and competition.

The recipe of the third place of WIDER Person Search 2019 (github.com/lknight8631), on sparse links; see
``propagation`` for its core.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import sparse

from vidperson.backends.cast import (
    APPEARANCE,
    EXCLUDED,
    EXPANSION,
    IDENTITY,
    NONE,
    NOTHING,
    Film,
    Index,
    Ranking,
    nothing_known,
    reranked,
    stacked,
    together,
)
from vidperson.backends.exact import Double
from vidperson.backends.propagation import propagate

K1, K2, WEIGHT = 55, 8, 0.2
NEAREST = 50


def propagation(film: Film, rerank: Collection[str] = ()) -> Ranking:
    """Scores are beliefs, 0..1, with what is left of the similarity to the portrait where these are equal.

    rerank: which of ``identity`` and ``appearance`` to re-rank by k-reciprocal encoding.
    """
    count_cast = len(film.cast)
    both = stacked(film.cast, film.identity)
    same = reranked(both, K1, K2, WEIGHT) if "identity" in rerank else both.cosines(both)
    portraits, among = same[:count_cast, count_cast:], same[count_cast:, count_cast:]
    worn = film.appearance.cosines(film.appearance)
    if "appearance" in rerank:
        worn = reranked(film.appearance, K1, K2, WEIGHT)
    links = [np.maximum(np.nan_to_num(each), 0.0) for each in (among, worn)]
    joint = _sparse((links[0] + links[1]) / 2)
    beliefs = propagate(np.maximum(np.nan_to_num(portraits), 0.0), joint, film.frames).astype(np.float64)
    reasons, evidence = _explain(film, portraits, links, beliefs)
    return Ranking(beliefs.astype(np.float32), reasons, evidence)


def _sparse(links: Double) -> sparse.csr_array:
    """The (N, N) links to the nearest of each candidate, and those that have it among theirs."""
    count = len(links)
    kept = np.zeros(links.shape, dtype=bool)
    nearest = np.argsort(-links, axis=1, kind="stable")[:, :NEAREST]
    kept[np.arange(count)[:, None], nearest] = True
    return sparse.csr_array(np.where(kept | kept.T, links, 0.0))


def _explain(film: Film, portraits: Double, links: list[Double], beliefs: Double) -> tuple[Index, Index]:
    """What spoke most for each candidate and cast member: the portrait, or the candidate that is surest and nearest."""
    count_cast, count = film.shape
    reasons, evidence = nothing_known(film.shape)
    same = together(film.frames)
    columns = np.arange(count)
    for c in range(count_cast):
        sure = beliefs[c]
        told = [each * sure[None] for each in links]
        for each in told:
            np.fill_diagonal(each, 0.0)
            each[same] = 0.0
        best = [each.argmax(axis=1) if count else columns for each in told]
        values = [each[columns, first] for each, first in zip(told, best, strict=True)]
        own = np.nan_to_num(portraits[c])
        which = np.argmax(np.stack([own, *values]), axis=0)
        for kind, candidates in ((IDENTITY, count + c), (EXPANSION, best[0]), (APPEARANCE, best[1])):
            chosen = which == (IDENTITY, EXPANSION, APPEARANCE).index(kind)
            reasons[c, chosen] = kind
            evidence[c, chosen] = np.broadcast_to(candidates, count)[chosen]
        blank = np.max(np.stack([own, *values]), axis=0) <= 0
        reasons[c, blank], evidence[c, blank] = NONE, NOTHING
        rival = np.where(same, sure[None], 0.0)
        better = rival.max(axis=1, initial=0.0)
        beaten = better > np.maximum(sure, 0.5)
        reasons[c, beaten], evidence[c, beaten] = EXCLUDED, rival.argmax(axis=1)[beaten]
    return reasons, evidence
