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
Outputs:
  OUTPUT_DIR/<system>/<test set>.json
      what made the lists; counts, those of segments without an item by state; the figures of
      steps/evaluate_ranks.py, which tells how they are defined

A word of SEARCHES holds the options of steps/search.py that describe one searched test set.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.evaluate_ranks import Lists, all_figures, refuse_unknown

FPIRS = (0.01, 0.001)


@dataclass(frozen=True)
class SearchedSet:
    """What was searched, and where its files are.

    data: the data folder of the test set; its name is that of the set.
    statuses: segment -> status, as stage 2 gave it.
    """

    data: Path
    statuses: Mapping[str, str]

    def lists(self, ranks: Path, persons: Path, nobody: Path | None) -> Lists:
        """What a system wrote, with the key if there is one.

        Raises DataError for malformed or edited lists, ScoringError for those of another set.
        """
        from vidperson.io.lines import read_scp
        from vidperson.io.ranks import read_persons, read_probabilities, read_ranks, read_relevant, read_search
        from vidperson.io.record import checked

        relevant = self.data / "relevant"
        segments = self.data / "utt2group"
        lists = Lists(
            read_ranks(checked(ranks)),
            read_relevant(relevant) if relevant.is_file() else {},
            read_search(self.data / "search"),
            read_persons(checked(persons)),
            list(read_scp(segments)),
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
    states = Counter(searched.statuses.get(segment, "unknown").partition(":")[0] for segment in missing)
    result: dict[str, Any] = {"name": output.name.removesuffix(".json"), **about, "searched": True}
    result |= {"has_key": bool(lists.relevant), "num_segments": len(lists.segments), "num_models": len(lists.groups)}
    result |= {"max_rank": max_rank, "fpirs": list(fpirs), "without_items": dict(sorted(states.items()))}
    if lists.relevant:
        shown = lists.shown()
        result["without_items_of_models"] = sum(segment in shown for segment in missing)
        several = len({group for groups in lists.groups.values() for group in groups}) > 1
        with_key = lists if several else Lists(**{**vars(lists), "groups": {}})
        result |= all_figures(with_key, max_rank, fpirs, threshold)
    else:
        logging.info("%s has no key (relevant): nothing to evaluate", searched.data)
    with atomic_write(output) as stream:
        stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result
