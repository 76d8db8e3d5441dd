#!/usr/bin/env python3
"""Evaluate ranked lists against the segments that are relevant.

Inputs:
  RANKS      <model> <rank> <segment> <score>, best first
  RELEVANT   <model> <segment>: what belongs to each model; a model without a list counts 0
  SEARCH     optional, <model> <group>, such as the film that a model is searched in
Outputs, on stdout and in JSON:
  mAP        mean average precision over the models, 0..1, divided by all relevant segments as the
             challenges iQIYI-VID and WIDER Person Search do
  mAP capped, with --max-rank: at most that many relevant segments are counted on
  mAP per group, with SEARCH: the mean of the means of the groups, which are in the JSON
  rank-1, rank-5, rank-10   share of the models with a relevant segment so far up
  counts     models, models without a list, lists of other models, relevant segments, segments that
             came again

Example:
  steps/evaluate_ranks.py --ranks ranks --relevant relevant
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidperson import cli

RANKS_SHOWN = (1, 5, 10)


@dataclass(frozen=True)
class EvaluateRanksOptions:
    ranks: Path = cli.option(help="ranked lists")
    relevant: Path = cli.option(help="what belongs to each model")
    search: Path | None = cli.option(None, "list: model and the group that it is searched in")
    max_rank: int | None = cli.option(None, "longer lists are refused; by default none is", convert=cli.whole(1))
    json: Path | None = cli.option(None, "file to write all figures to, those of each model included")


def evaluate_ranks(options: EvaluateRanksOptions) -> dict[str, Any]:
    """See the top of this file. Returns what goes into the JSON.

    Raises DataError for malformed lists, ScoringError for too long a list and for models without a group.
    """
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.ranks import read_ranks, read_relevant, read_search

    ranked, relevant = read_ranks(options.ranks), read_relevant(options.relevant)
    groups = read_search(options.search) if options.search else {}
    result = figures(ranked, relevant, groups, options.max_rank)
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name} {value:.6f}")
        elif isinstance(value, int):
            print(f"{name} {value}")
    if options.json:
        with atomic_write(options.json) as stream:
            stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def figures(
    ranked: Mapping[str, Sequence[str]],
    relevant: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    max_rank: int | None,
) -> dict[str, Any]:
    """Name -> figure; "models": model -> its average precision and the rank of its first relevant segment."""
    from statistics import fmean

    from vidperson.metrics.ranking import average_precisions, first_hits, match_rate, mean_average_precision

    result: dict[str, Any] = {"mAP": mean_average_precision(ranked, relevant, max_rank)}
    precisions, hits = average_precisions(ranked, relevant), first_hits(ranked, relevant)
    if max_rank is not None:
        result["mAP capped"] = fmean(average_precisions(ranked, relevant, max_rank).values())
    if groups:
        means = {" ".join(group): fmean(values) for group, values in by_group(precisions, groups).items()}
        result |= {"mAP per group": fmean(means.values()), "groups": means}
    result |= {f"rank-{rank}": match_rate(hits, rank) for rank in RANKS_SHOWN}
    result["number of models"] = len(relevant)
    result["models without a list"] = sum(model not in ranked for model in relevant)
    result["lists of other models"] = sum(model not in relevant for model in ranked)
    result["relevant segments"] = sum(map(len, relevant.values()))
    result["segments that came again"] = sum(len(segments) - len(set(segments)) for segments in ranked.values())
    result["models"] = {
        model: {"average precision": precisions[model], "first relevant rank": hits[model]} for model in relevant
    }
    return result


def by_group(
    precisions: Mapping[str, float], groups: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], list[float]]:
    """The groups that are searched -> the precisions of the models that search them.

    Raises ScoringError for a model without a group.
    """
    from vidperson.errors import ScoringError

    found: dict[tuple[str, ...], list[float]] = {}
    for model, precision in precisions.items():
        if model not in groups:
            raise ScoringError(f"model '{model}' has no group in the search list")
        found.setdefault(tuple(sorted(groups[model])), []).append(precision)
    return found


if __name__ == "__main__":
    cli.run(evaluate_ranks, EvaluateRanksOptions, __doc__)
