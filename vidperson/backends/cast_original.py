"""The search of rogeryang12's entry for WIDER Person Search 2019: seeds by portrait, expansions, then appearance.

Source: github.com/rogeryang12/cast_search_by_portrait (MIT), its constants and its order. Mended here: candidates
without an identity vector are never seeds, never expand and are no neighbours; each candidate is in the graph of the
re-ranking once; frames are told apart by the caller; sets may be smaller than five, films smaller than ten; ties and
the last candidates come in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidperson.backends.cast import (
    APPEARANCE,
    COSINE_BITS,
    EXCLUDED,
    EXPANSION,
    IDENTITY,
    NONE,
    NOTHING,
    RERANKINGS,
    Bool,
    Cue,
    Film,
    Index,
    Ranking,
    nothing_known,
    reranked,
    stacked,
    together,
)
from vidperson.backends.exact import Double, length_normalise, round_to_grid

SEED, EXPANSIONS = 0.5, (0.4, 0.3, 0.25)
LEAST_SEEDS, QUERIES, NEIGHBOURS = 5, 3, 9
SEEDS_LEVEL = 4 + len(EXPANSIONS)
"""Seeds rank first, then the expansions in turn, down to 4; after these the levels below."""
BY_APPEARANCE, BY_IDENTITY, SAME_FRAME, OF_OTHERS = 3, 2, 1, 0


@dataclass(frozen=True)
class _Set:
    """The set of a cast member: (N,) levels of its members, 0 for others; similarities, and whom they resemble."""

    levels: Index
    values: Double
    nearest: Index

    @property
    def members(self) -> Index:
        return np.flatnonzero(self.levels)


def original(film: Film, rerank: Iterable[str] = ()) -> Ranking:
    """Scores are a level, see above, plus a similarity as a share of 1.

    rerank: which of ``identity`` and ``appearance`` to re-rank, by k-reciprocal encoding; or, as ``identity:ecn``, by
        another of ``cast.RERANKINGS``.
    """
    ways = {cue: way or next(iter(RERANKINGS)) for cue, _, way in (word.partition(":") for word in rerank)}
    count_cast, count = film.shape
    portraits = film.cast.cosines(film.identity)
    similar = portraits
    if "identity" in ways:
        both = reranked(stacked(film.cast, film.identity), ways["identity"])
        similar = both[:count_cast, count_cast:]
    among = film.identity.cosines(film.identity)
    sets = [_grow(similar[c], among) for c in range(count_cast)]
    best_levels = np.array([each.levels for each in sets]).reshape(count_cast, count)
    looks = _appearances(film.appearance, ways.get("appearance"))
    same = together(film.frames)
    reasons, evidence = nothing_known(film.shape)
    scores = np.zeros(film.shape)
    for c, own in enumerate(sets):
        scores[c], reasons[c], evidence[c] = _ranked(c, own, best_levels, portraits[c], looks, same)
    return Ranking(scores.astype(np.float32), reasons, evidence)


def _grow(similar: Double, among: Double) -> _Set:
    """The set of a cast member: seeds by the (N,) similarities to the portrait, expanded by the (N, N) among all."""
    count = len(similar)
    seen = ~np.isnan(similar)
    levels, values, nearest = np.zeros(count, np.int64), np.zeros(count), np.full(count, NOTHING)
    seeds = seen & (similar > SEED)
    if seeds.sum() < LEAST_SEEDS:
        order = np.argsort(-np.where(seen, similar, -np.inf), kind="stable")[:LEAST_SEEDS]
        seeds[order[seen[order]]] = True
    levels[seeds], values[seeds] = SEEDS_LEVEL, similar[seeds]
    for step, threshold in enumerate(EXPANSIONS, 1):
        members = np.flatnonzero(levels)
        if not len(members):
            break
        known = ~np.isnan(among[:, members])  # of several embedders two may have none in common
        to_set = np.where(known, among[:, members], -1.0)
        means = np.where(known, to_set, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        new = seen & (levels == 0) & (means > threshold)
        levels[new], values[new] = SEEDS_LEVEL - step, means[new]
        nearest[new] = members[np.argmax(to_set[new], axis=1)]
    return _Set(levels, values, nearest)


def _appearances(cue: Cue, way: str | None) -> Double:
    """(N, N) mean of the similarity and that of vectors averaged with their neighbours; NaN where there is none.

    way: to re-rank the similarity by; None: it is the cosine.
    """
    cosines = cue.cosines(cue)
    known = np.flatnonzero(cue.known)
    if not len(known):
        return cosines
    inner = cosines[np.ix_(known, known)]
    inner = np.where(np.isnan(inner), -1.0, inner)  # of several embedders none in common
    nearest = np.argsort(-inner, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.exp(np.take_along_axis(inner, nearest, axis=1))
    weights /= weights.sum(axis=1, keepdims=True)
    joined = cue.joined()[known]
    means = length_normalise(np.einsum("nk,nkd->nd", weights, joined[nearest]))
    similar = reranked(cue, way)[np.ix_(known, known)] if way else inner
    found = np.full(cosines.shape, np.nan)
    found[np.ix_(known, known)] = round_to_grid((similar + means @ means.T) / 2, COSINE_BITS)
    return found


def _ranked(
    c: int, own: _Set, levels: Index, portrait: Double, looks: Double, same: Bool
) -> tuple[Double, Index, Index]:
    """Scores, reasons and evidence of all candidates for cast member c.

    levels: (C, N) of all sets. portrait: (N,). looks, same: (N, N) similarity, and whether two share a frame.
    """
    count = len(portrait)
    members = own.members
    value, example = _asked(looks, members)
    level = np.full(count, BY_APPEARANCE)
    reason, evidence = np.full(count, APPEARANCE), example.copy()
    unlike = np.isnan(value)  # no appearance to compare
    level[unlike], reason[unlike], evidence[unlike] = BY_IDENTITY, IDENTITY, count + c
    value = np.where(unlike, portrait, value)
    blank = np.isnan(value)
    reason[blank], evidence[blank], value[blank] = NONE, NOTHING, -1.0
    shared = same[:, members]
    clash = shared.any(axis=1)
    level[clash], reason[clash] = SAME_FRAME, EXCLUDED
    if len(members):
        first = members[np.argmax(np.where(shared, (own.levels + own.values)[members], -np.inf), axis=1)]
        evidence[clash] = first[clash]
    others = (levels > 0).any(axis=0) & (own.levels == 0)
    level[others], reason[others] = OF_OTHERS, EXCLUDED
    evidence[others] = count + np.argmax(levels, axis=0)[others]
    inside = own.levels > 0
    level[inside], value[inside] = own.levels[inside], own.values[inside]
    reason[inside] = np.where(own.levels[inside] == SEEDS_LEVEL, IDENTITY, EXPANSION)
    evidence[inside] = np.where(own.nearest[inside] == NOTHING, count + c, own.nearest[inside])
    return level + (1 + np.clip(value, -1, 1)) / 2 * 0.999, reason, evidence


def _asked(looks: Double, members: Index) -> tuple[Double, Index]:
    """The best similarities of each candidate to the members of a set, weighted by their softmax, and the best member.

    NaN and NOTHING where there is none.
    """
    asked = looks[:, members]
    best = np.argsort(-np.where(np.isnan(asked), -np.inf, asked), axis=1, kind="stable")[:, :QUERIES]
    top = np.take_along_axis(asked, best, axis=1)
    weights = np.where(np.isnan(top), 0.0, np.exp(top))
    total = weights.sum(axis=1)
    there = total > 0
    value = np.full(len(looks), np.nan)
    value[there] = (weights * np.where(np.isnan(top), 0.0, top)).sum(axis=1)[there] / total[there]
    example = np.full(len(looks), NOTHING)
    example[there] = members[best[there, 0]] if len(members) else NOTHING
    return value, example
