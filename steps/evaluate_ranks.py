#!/usr/bin/env python3
"""Evaluate ranked lists against the segments that are relevant.

Inputs:
  RANKS      <model> <rank> <segment> <score>, best first
  RELEVANT   <model> <segment>: what belongs to each model; a model without a list counts 0
  SEARCH     optional, <model> <group>, such as the film that a model is searched in
  PERSONS    optional, <segment> <rank> <model> <score>: the best models of each segment
  SEGMENTS   optional, <segment> ..., such as utt2group or vid.scp: all that were searched. Those in
             no line of RELEVANT are strangers; one without a line in PERSONS was rejected. Without
             it, the segments of RELEVANT and PERSONS
  NOBODY     optional, <segment> <probability that it shows no model>
Outputs, on stdout and in JSON:
  mAP        mean average precision over the models, 0..1, divided by all relevant segments as the
             challenges iQIYI-VID and WIDER Person Search do
             (its 95 % interval, by the bootstrap over models, is in the JSON)
  mAP capped, with --max-rank: at most that many relevant segments are counted on
  mAP per group, with SEARCH: the mean of the means of the groups, which are in the JSON
  rank-1, rank-5, rank-10   share of the models with a relevant segment so far up
  counts     models, models without a list, lists of other models, relevant segments, segments that
             came again
  with PERSONS: segment rank-1, rank-5, share of the segments that show a model with a right one so
             far up; FNIR and DIR at each of --fpirs, where there are strangers; with --threshold the
             share of false alarms among strangers and of misses among the others
  with NOBODY: cross-entropy of the probability (bits) beside its minimum and that of a constant,
             and the Brier score

Example:
  steps/evaluate_ranks.py --ranks ranks --relevant relevant
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.metrics.open_set import Searches

RANKS_SHOWN = (1, 5, 10)
SEGMENT_RANKS = (1, 5)


@dataclass(frozen=True)
class EvaluateRanksOptions:
    ranks: Path = cli.option(help="ranked lists")
    relevant: Path = cli.option(help="what belongs to each model")
    search: Path | None = cli.option(None, "list: model and the group that it is searched in")
    persons: Path | None = cli.option(None, "list: the best models of each segment")
    segments: Path | None = cli.option(None, "list that begins with each segment that was searched")
    nobody: Path | None = cli.option(None, "list: probability that a segment shows no model")
    threshold: float | None = cli.option(None, "score of PERSONS from which a model is found", convert=cli.finite)
    fpirs: str = cli.option("0.01 0.001", "shares of false positives at which misses are told")
    max_rank: int | None = cli.option(None, "longer lists are refused; by default none is", convert=cli.whole(1))
    json: Path | None = cli.option(None, "file to write all figures to, those of each model included")


@dataclass(frozen=True)
class Lists:
    """What is evaluated, read.

    ranked: model -> segments. relevant: model -> segments. groups: model -> groups. persons: segment -> (model, score);
    None where there is no such list. segments: all that were searched. nobody: segment -> probability.
    """

    ranked: Mapping[str, Sequence[str]]
    relevant: Mapping[str, Sequence[str]]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    persons: Mapping[str, Sequence[tuple[str, float]]] | None = None
    segments: Sequence[str] = ()
    nobody: Mapping[str, float] | None = None

    def shown(self) -> dict[str, set[str]]:
        """Segment -> the models that it shows; strangers are not in it."""
        shown: dict[str, set[str]] = {}
        for model, segments in self.relevant.items():
            for segment in segments:
                shown.setdefault(segment, set()).add(model)
        return shown


def evaluate_ranks(options: EvaluateRanksOptions) -> dict[str, Any]:
    """See the top of this file. Returns what goes into the JSON.

    Raises DataError for malformed lists, ScoringError for too long a list, for models without a group, for segments
    that were not searched, and shares that cannot be.
    """
    import json

    from vidperson.io.atomic import atomic_write

    lists = read_lists(options)
    if not lists.relevant.keys() & lists.ranked.keys():
        logging.warning(
            "no model of %s has a list in %s; are these lists of the same models, '<model> <segment>' and "
            "'<model> <rank> <segment> <score>'?", *(options.relevant, options.ranks)
        )  # fmt: skip
    result = all_figures(lists, options.max_rank, rates(options.fpirs), options.threshold)
    for line in printed(result):
        print(line)
    if options.json:
        with atomic_write(options.json) as stream:
            stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def read_lists(options: EvaluateRanksOptions) -> Lists:
    """Raises DataError for malformed lists, ScoringError for segments not searched and a threshold of no scores."""
    from vidperson.errors import ScoringError
    from vidperson.io.lines import read_scp, sort_key
    from vidperson.io.ranks import read_persons, read_probabilities, read_ranks, read_relevant, read_search

    if options.threshold is not None and options.persons is None:
        raise ScoringError("--threshold: expected --persons beside it, whose scores it is of")
    relevant = in_order(read_relevant(options.relevant))
    persons = read_persons(options.persons) if options.persons else None
    if options.segments:
        segments = list(read_scp(options.segments))
    else:
        segments = list(dict.fromkeys([*(s for listed in relevant.values() for s in listed), *(persons or {})]))
    lists = Lists(
        read_ranks(options.ranks),
        relevant,
        read_search(options.search) if options.search else {},
        persons,
        sorted(segments, key=sort_key),
        read_probabilities(options.nobody) if options.nobody else None,
    )
    if options.segments:
        refuse_unknown(lists, options.segments)
    return lists


def in_order(relevant: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The models in C-locale order, so that the draws of the bootstrap are the same for any order of the lines."""
    from vidperson.io.lines import sort_key

    return {model: relevant[model] for model in sorted(relevant, key=sort_key)}


def refuse_unknown(lists: Lists, listed_in: Path) -> None:
    """Raises ScoringError for a segment of the lists that is not among those that were searched."""
    from vidperson.errors import ScoringError

    known = set(lists.segments)
    of_models = (s for table in (lists.ranked, lists.relevant) for listed in table.values() for s in listed)
    for segment in (*of_models, *(lists.persons or {}), *(lists.nobody or {})):
        if segment not in known:
            raise ScoringError(f"segment '{segment}' is not in {listed_in}; expected the lists of one and the same set")


def rates(text: str) -> list[float]:
    """Shares with spaces between. Raises ScoringError for what is none."""
    from vidperson.errors import ScoringError

    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = [2.0]
    if not all(0 < rate < 1 for rate in found):
        raise ScoringError(f"expected shares above 0 and below 1 with spaces between, found '{text}'")
    return found


def all_figures(
    lists: Lists, max_rank: int | None, fpirs: Sequence[float], threshold: float | None = None
) -> dict[str, Any]:
    """Name -> figure: those of :func:`figures`, "segments" and "nobody" where there are such lists."""
    result = figures(lists.ranked, lists.relevant, lists.groups, max_rank)
    if lists.persons is not None:
        result["segments"] = segment_figures(lists, fpirs, threshold)
    if lists.nobody is not None:
        result["nobody"] = nobody_figures(lists)
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
    result["mAP interval"] = mean_interval(list(precisions.values()))
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
        model: {
            "average precision": precisions[model],
            "first relevant rank": hits[model],
            "relevant segments": len(set(relevant[model])),
        }
        for model in relevant
    }
    return result


def mean_interval(values: Sequence[float]) -> list[float]:
    """The 95 % interval, [low, high], of their mean, by the bootstrap over them."""
    import numpy as np

    from vidperson.metrics.intervals import drawn_units, intervals, num_draws

    table = np.array(values)
    draws = drawn_units(len(table), num_draws(len(table)))
    return intervals({"mean": lambda weights: float(weights @ table) / len(table)}, draws)["mean"]


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


def segment_figures(lists: Lists, fpirs: Sequence[float], threshold: float | None) -> dict[str, Any]:
    """What the lists of models per segment give; open-set figures where there are strangers."""
    from vidperson.metrics.open_set import curve, operating_point, searches
    from vidperson.metrics.ranking import first_hits, match_rate

    shown, persons = lists.shown(), lists.persons or {}
    hits = first_hits({segment: [model for model, _ in found] for segment, found in persons.items()}, shown)
    result: dict[str, Any] = {f"rank-{rank}": match_rate(hits, rank) for rank in SEGMENT_RANKS}
    longest = max((len(found) for found in persons.values()), default=0)
    result["cmc"] = [match_rate(hits, rank) for rank in range(1, longest + 1)]
    strangers = [segment for segment in lists.segments if segment not in shown]
    result |= {"number": len(lists.segments), "strangers": len(strangers)}
    result["without a list"] = sum(segment not in persons for segment in lists.segments)
    if not strangers:
        return result
    found = searches(persons, shown, [*shown, *strangers])
    result["points"] = [operating_point(found, fpir) for fpir in fpirs]
    if threshold is not None:
        alarms, misses = found.fpir(threshold), found.fnir(threshold)
        result["decided"] = {"threshold": threshold, "false alarms": alarms, "misses": misses}
    result["curve"] = curve(found)
    return result | {"intervals": _segment_intervals(found, shown, fpirs)}


def _segment_intervals(
    found: Searches, shown: Mapping[str, set[str]], fpirs: Sequence[float]
) -> dict[str, list[float]]:
    """Names as of :func:`~vidperson.metrics.open_set.open_set_intervals`; a segment belongs to its first model."""
    import numpy as np

    from vidperson.metrics.open_set import open_set_intervals

    owners = [min(models) for models in shown.values()]
    numbers = {model: number for number, model in enumerate(sorted(set(owners)))}
    units = np.array([numbers[model] for model in owners], np.int64)
    return open_set_intervals(found, units, fpirs, SEGMENT_RANKS)


def nobody_figures(lists: Lists) -> dict[str, Any]:
    """How good the probability of "nobody" is, over the segments that have one, of both kinds."""
    import numpy as np

    from vidperson.metrics.probabilities import brier, constant_cross_entropy, cross_entropy, min_cross_entropy

    given, shown = lists.nobody or {}, lists.shown()
    strangers = np.array([p for segment, p in given.items() if segment not in shown])
    others = np.array([p for segment, p in given.items() if segment in shown])
    result: dict[str, Any] = {"strangers": len(strangers), "others": len(others)}
    if len(strangers) and len(others):
        result["cross-entropy"] = cross_entropy(strangers, others)
        result["minimum cross-entropy"] = min_cross_entropy(strangers, others)
        result["constant cross-entropy"] = constant_cross_entropy(len(strangers), len(others))
        result["Brier score"] = brier(strangers, others)
    return result


def printed(result: Mapping[str, Any]) -> list[str]:
    """A line per figure, those of segments and of "nobody" with that word before them."""
    lines = [f"{name} {_number(value)}" for name, value in result.items() if isinstance(value, int | float)]
    for part, prefix in (("segments", "segment"), ("nobody", "nobody")):
        content = result.get(part, {})
        plain = {name: value for name, value in content.items() if isinstance(value, int | float)}
        lines += [f"{prefix} {name} {_number(value)}" for name, value in plain.items()]
        for point in content.get("points", ()):
            note = "" if point["resolved"] else " (fewer strangers than that share needs: at no false positive)"
            lines += [f"{name.upper()} at FPIR {point['fpir']:g} {point[name]:.6f}{note}" for name in ("fnir", "dir")]
        lines += [f"decided {name} {_number(value)}" for name, value in content.get("decided", {}).items()]
    return lines


def _number(value: float) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(evaluate_ranks, EvaluateRanksOptions, __doc__)
