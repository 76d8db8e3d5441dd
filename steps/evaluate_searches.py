#!/usr/bin/env python3
"""Evaluate the ranked lists of all systems on all searched sets.

Inputs:
  SCORES_DIR/<system>/<test set>_ranks, _persons, _nobody
      what steps/search.py wrote with the same options; lists that it would make again are refused
  DATA_DIR/<test set>/
      search: <model> <group>; utt2group: <segment> <group>; optional relevant: <model> <segment>,
      without which only counts are written
  EMBED_DIR/<test set>/status
      optional: <segment> <state>[: <why>]
  SCORES_DIR/<back-end>/<experiment>/<test set>_ranks, _persons, _reasons
      with CASTS: what steps/search_cast.py wrote, likewise
Outputs:
  OUTPUT_DIR/<system>/<test set>.json
      what made the lists; counts of segments by state and of models without an item; the figures
      of steps/evaluate_ranks.py, which tells how they are defined; with CASTS, counts by reason

A word of SEARCHES holds the options of steps/search.py that describe one searched test set and
modality, a word of CASTS those of steps/search_cast.py that describe one searched test set.

Example:
  search="--modality face --embed-dir exp/face_embed/arcface_tiny --data-dir data"
  search+=" --items-dir exp/face_det/retinaface_tiny --enroll-sets clips_train"
  search+=" --test-set clips_test"
  steps/evaluate_searches.py --searches "$search" --scores-dir exp/scores \\
    --embedders arcface_tiny --test-sets clips_test --output-dir exp/results/clips
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.calibrate_search import plan_calibrations
from steps.casts import (
    CastSearches,
    about_cast,
    cues_of,
    models_without_items,
    read_casts,
    reason_counts,
)
from steps.evaluate import refuse_unplanned
from steps.evaluate_ranks import Lists, all_figures, in_order, refuse_unknown
from steps.search import SearchPairOptions, SearchSystemOptions, check_search, learnt_from, plan_searches
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.backends.systems import System

FPIRS = (0.01, 0.001)
CURE = "these are not the lists of these options; run ./run_004_score.sh with the same options first"


@dataclass(frozen=True)
class EvaluateSearchesOptions:
    searches: list[str] = cli.option(help="a word per searched set and modality: its options as steps/search.py takes")
    output_dir: Path = cli.option(help="results folder")
    systems: SearchSystemOptions = cli.group(SearchSystemOptions)
    casts: list[str] = cli.option((), "a word per searched set: its options as steps/search_cast.py takes")
    cast_systems: str = cli.option("", "a word with the options of steps/search_cast.py that say which systems search")


def evaluate_searches(options: EvaluateSearchesOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, lists of other options or inputs, or of another set; DataError for
    malformed or edited lists. Nothing is written where the lists are not those of the options.
    """
    from vidperson.io.record import RECORD

    systems = options.systems
    check_search(systems)
    pairs = read_searches(options.searches)
    refuse_other_lists(systems, pairs)
    casts = read_casts(options.casts, options.cast_systems)
    refuse_other_casts(casts)
    # Until the report is made, a record would tell of other results.
    (options.output_dir / RECORD).unlink(missing_ok=True)
    for (test_set, system), ours in searched_by(systems, pairs).items():
        searched = searched_set(ours[0])
        nobody = systems.nobody(system, test_set) if systems.calibration_set else None
        lists = searched.lists(systems.ranks(system, test_set), systems.persons(system, test_set), nobody)
        output = options.output_dir / system.folder / f"{test_set}.json"
        about = about_search(system, ours, systems)
        evaluate_search(searched, lists, output, about, systems.search_top, wished_threshold(systems, system))
    evaluate_casts(casts, options.output_dir)
    for data in dict.fromkeys(pair.test_data for pair in pairs):
        if not (data / "relevant").is_file():
            logging.info("%s has no key (relevant): nothing to evaluate", data)


def evaluate_casts(casts: CastSearches, output_dir: Path) -> None:
    """Evaluate the systems that compare several modalities. Raises as :func:`evaluate_searches`."""
    from vidperson.io.ranks import read_reasons
    from vidperson.io.record import checked

    told: set[str] = set()
    for pair, system, files in casts.searched():
        statuses = {cue.modality: read_statuses(cue.embed_dirs[0] / pair.test_set) for cue in cues_of(pair)}
        searched = SearchedSet(pair.test_data, statuses)
        lists = searched.lists(files.ranks, files.persons, None)
        about = about_cast(pair, system) | {"reasons": reason_counts(read_reasons(checked(files.reasons)))}
        about["models_without_items"] = lacking = models_without_items(pair)
        if lacking and pair.test_set not in told:
            logging.warning("%s: nothing usable in the enrolment of %s", pair.test_set, " ".join(lacking))
        told.add(pair.test_set)
        output = output_dir / system.folder / f"{pair.test_set}.json"
        evaluate_search(searched, lists, output, about, files.most)


def read_searches(words: Sequence[str]) -> list[SearchPairOptions]:
    """Searched sets from their options. Leaves the process with status 2 for wrong ones."""
    import shlex

    return [cli.parse(SearchPairOptions, None, shlex.split(word)) for word in words]


def searched_by(
    options: SearchSystemOptions, pairs: Sequence[SearchPairOptions]
) -> dict[tuple[str, System], list[SearchPairOptions]]:
    """Test set and system -> its pairs: one, or of a fusion those of all modalities."""
    found: dict[tuple[str, System], list[SearchPairOptions]] = {}
    for pair in pairs:
        for system in options.systems(pair.embedder):
            found.setdefault((pair.test_set, system), []).append(pair)
    return found


def about_search(
    system: System, pairs: Sequence[SearchPairOptions], options: SearchSystemOptions
) -> dict[str, str | None]:
    """What results say of a system. learnt_from: the set and the calibration set, where its identifiers learnt them."""
    sets = list(dict.fromkeys([pairs[0].test_set, *options.calibration_set.split()]))
    learnt = {name for pair in pairs for word in options.members(system) for name in learnt_from(pair, word, sets)}
    return {
        "modality": " + ".join(dict.fromkeys(pair.modality for pair in pairs)),
        "system": " + ".join(dict.fromkeys(pair.embedder for pair in pairs)),
        "backend": system.backend,
        "snorm_cohort": None,
        "calibrated_on": options.calibration_set or None,
        "learnt_from": " ".join(name for name in sets if name in learnt) or None,
    }


def searched_set(pair: SearchPairOptions) -> SearchedSet:
    """Raises DataError for statuses that were edited."""
    return SearchedSet(pair.test_data, {pair.modality: read_statuses(pair.embed_dir / pair.test_set)})


def read_statuses(folder: Path) -> dict[str, str]:
    """Segment -> status; none where the folder has no such list. Raises DataError where it was edited."""
    from vidperson.io.lines import read_scp
    from vidperson.io.record import checked

    path = folder / "status"
    return read_scp(checked(path)) if path.is_file() else {}


def wished_threshold(options: SearchSystemOptions, system: System) -> float | None:
    """The score that the wished share of strangers reaches; None without a calibration set."""
    import json

    from vidperson.errors import DataError
    from vidperson.io.record import checked

    if not options.calibration_set:
        return None
    path = checked(options.folder(system) / "nobody.json")
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["threshold"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"expected a threshold ({error!r}); run ./run_004_score.sh again", path) from None


def refuse_other_lists(options: SearchSystemOptions, pairs: Sequence[SearchPairOptions]) -> None:
    """Raises ScoringError, with what differs, unless stage 4 would keep all of these lists."""
    from vidperson.errors import ScoringError

    try:
        planned = [one for pair in pairs for ours in plan_searches(pair, options).values() for one in ours]
        if options.calibration_set:
            planned += [one for ours in plan_calibrations(options, pairs[0].data_dir).values() for one in ours.values()]
    except ScoringError as error:
        raise ScoringError(f"{error}\n{CURE}") from None
    refuse_unplanned(planned, CURE)


def refuse_other_casts(casts: CastSearches) -> None:
    """Likewise of the systems that compare several modalities."""
    from vidperson.errors import ScoringError

    try:
        planned = casts.planned()
    except ScoringError as error:
        raise ScoringError(f"{error}\n{CURE}") from None
    refuse_unplanned(planned, CURE)


@dataclass(frozen=True)
class SearchedSet:
    """What was searched, and where its files are.

    data: the data folder of the test set; its name is that of the set.
    statuses: modality -> segment -> status, as stage 2 gave it.
    """

    data: Path
    statuses: Mapping[str, Mapping[str, str]]

    def lists(self, ranks: Path, persons: Path, nobody: Path | None) -> Lists:
        """What a system wrote, with the key if there is one.

        Raises DataError for malformed or edited lists, ScoringError for those of another set.
        """
        from vidperson.io.lines import read_scp, sort_key
        from vidperson.io.ranks import read_persons, read_probabilities, read_ranks, read_relevant, read_search
        from vidperson.io.record import checked

        relevant = self.data / "relevant"
        segments = self.data / "utt2group"
        lists = Lists(
            read_ranks(checked(ranks), may_be_empty=True),
            in_order(read_relevant(relevant)) if relevant.is_file() else {},
            read_search(self.data / "search"),
            read_persons(checked(persons)),
            sorted(read_scp(segments), key=sort_key),
            read_probabilities(checked(nobody)) if nobody else None,
        )
        refuse_unknown(lists, segments)
        return lists


def evaluate_search(
    searched: SearchedSet,
    lists: Lists,
    output: Path,
    about: Mapping[str, str | None],
    max_rank: int,
    threshold: float | None = None,
    fpirs: Sequence[float] = FPIRS,
) -> dict[str, Any]:
    """Evaluate the lists of one system; ``output`` is called as the test set. Returns what was written.

    about: what made them. max_rank: the most segments that a list may hold. threshold: of the scores per segment.
    Raises ScoringError for longer lists, and for models without a group; nothing is written then.
    """
    import json

    from vidperson.io.atomic import atomic_write

    missing = [segment for segment in lists.segments if segment not in (lists.persons or {})]
    result: dict[str, Any] = {"name": output.name.removesuffix(".json"), **about, "searched": True}
    result |= {"has_key": bool(lists.relevant), "num_segments": len(lists.segments), "num_models": len(lists.groups)}
    result |= {"max_rank": max_rank, "fpirs": list(fpirs)}
    result["statuses"] = {name: _states(statuses, lists.segments) for name, statuses in searched.statuses.items()}
    result["without_items"] = next(iter(_states(statuses, missing) for statuses in searched.statuses.values()))
    result.setdefault("models_without_items", [model for model in lists.groups if model not in lists.ranked])
    if lists.relevant:
        shown = lists.shown()
        result["without_items_of_models"] = sum(segment in shown for segment in missing)
        several = len({group for groups in lists.groups.values() for group in groups}) > 1
        with_key = lists if several else replace(lists, groups={})
        result |= all_figures(with_key, max_rank, fpirs, threshold)
    with atomic_write(output) as stream:
        stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _states(statuses: Mapping[str, str], segments: Sequence[str]) -> dict[str, int]:
    """State -> how many of some segments have it."""
    states = Counter(statuses.get(segment, "unknown").partition(":")[0] for segment in segments)
    return dict(sorted(states.items()))


if __name__ == "__main__":
    cli.run(evaluate_searches, EvaluateSearchesOptions, __doc__)
