"""Ranked lists beside the relevant segments: average precision and first hits.

Average precision as in the iQIYI-VID and WIDER Person Search challenges: the sum of the precisions at the ranks of the
relevant segments, divided by the number of all relevant segments of the model. Cumulative match characteristic (CMC):
P. J. Phillips et al., "FRVT 2002", for models with several relevant segments by the first of them, as in
Zheng et al., "Scalable Person Re-identification: A Benchmark" (ICCV 2015).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean

from vidperson.errors import ScoringError


def average_precision(ranked: Iterable[str], relevant: Collection[str], most: int | None = None) -> float:
    """Average precision, 0..1, of one list, best first. A segment that comes again counts at its first place only.

    relevant: the segments that belong there.
    most: the most relevant segments that are counted on, such as the longest list allowed: then a list of that length
        can reach 1. None: all of them, so that it cannot.
    Raises ScoringError where nothing is relevant.
    """
    wanted = set(relevant)
    if not wanted:
        raise ScoringError("expected at least one relevant segment, found none")
    hits, total = 0, 0.0
    for rank, segment in enumerate(dict.fromkeys(ranked), 1):
        if segment in wanted:
            hits += 1
            total += hits / rank
    return total / (len(wanted) if most is None else min(len(wanted), most))


def mean_average_precision(
    ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, Collection[str]], max_rank: int | None = None
) -> float:
    """Mean over the models of ``relevant``; one without a list counts 0, a list of another model nothing.

    ranked: model -> segments, best first. relevant: model -> segments.
    max_rank: the longest list allowed, None for any.
    Raises ScoringError for a longer list, no model, or a model for which nothing is relevant.
    """
    check_lengths(ranked, max_rank)
    return fmean(average_precisions(ranked, relevant).values())


def average_precisions(
    ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, Collection[str]], most: int | None = None
) -> dict[str, float]:
    """Model -> :func:`average_precision`, for each model of ``relevant``; 0 without a list.

    Raises ScoringError where there is no model, or nothing is relevant for one.
    """
    if not relevant:
        raise ScoringError("expected relevant segments of at least one model, found none")
    return {model: average_precision(ranked.get(model, ()), segments, most) for model, segments in relevant.items()}


def first_hits(ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, Collection[str]]) -> dict[str, int | None]:
    """Model -> rank, from 1, of its first relevant segment; None where its list has none."""
    found: dict[str, int | None] = {}
    for model, segments in relevant.items():
        wanted, listed = set(segments), dict.fromkeys(ranked.get(model, ()))
        found[model] = next((rank for rank, segment in enumerate(listed, 1) if segment in wanted), None)
    return found


def match_rate(hits: Mapping[str, int | None], rank: int) -> float:
    """CMC at a rank, 0..1: the share of models whose first relevant segment is among the first ``rank``.

    hits: as :func:`first_hits` gives them. Raises ScoringError where there is no model.
    """
    if not hits:
        raise ScoringError("expected at least one model, found none")
    return sum(hit is not None and hit <= rank for hit in hits.values()) / len(hits)


def check_lengths(ranked: Mapping[str, Sequence[str]], max_rank: int | None) -> None:
    """Raises ScoringError for the first list of more than ``max_rank`` segments, repeats included."""
    for model, segments in ranked.items():
        if max_rank is not None and len(segments) > max_rank:
            raise ScoringError(f"model '{model}': expected at most {max_rank} ranks, found {len(segments)}")
