#!/usr/bin/env python3
"""Pick the persons that went best and worst in a search, and the items that show why.

Inputs:
  RANKS, PERSONS, NOBODY      what steps/search.py wrote of a system and the test set
  DATA_DIR/<test set>         utt2group: <segment> <group>, all segments; optional relevant: <model>
                              <segment>
  DATA_DIR/<enrolment set>/utt2spk
                              <segment> <model>
  EMBED_DIR/<set>/embed.scp   an (N, dim) float32 matrix per segment
  ITEMS_DIR/<set>             what stage 2 found: (N, 17) float32 items that the rows are of,
                              quality.scp, crops.scp with N images per segment, and status
Output:
  OUTPUT                      JSON: the COUNT persons with the lowest and the COUNT with the highest
                              average precision. For each the right segment that was ranked best,
                              wrong ones that were ranked best and right ones that were ranked last
                              or not at all. For each segment the track nearest to the mean of the
                              person's enrolment segments, the nearest of these, and the heaviest
                              item of both; with the lists of all persons and all segments, the
                              wrong ones first, as far as the report shows them

Example:
  steps/pick_ranks.py --modality face --embed-dir exp/face_embed/arcface_tiny \\
    --items-dir exp/face_det/retinaface_tiny --data-dir data --enroll-sets clips_train \\
    --test-set clips_test --ranks exp/scores/arcface_tiny/class-mean/clips_test_ranks \\
    --persons exp/scores/arcface_tiny/class-mean/clips_test_persons --output picked.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.evaluate_ranks import Lists
from steps.evaluate_searches import searched_set
from steps.parts import Part
from steps.pick_trials import ItemSet
from steps.score import items_of
from steps.search import SearchPairOptions
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Content = dict[str, Any]
Place = tuple[str, str]  # set and segment
Scores = Mapping[str, Sequence[tuple[str, float]]]

MOST_WRONG = MOST_MISSED = 3
MOST_BEST = 5


@dataclass(frozen=True)
class PickRanksOptions:
    ranks: Path = cli.option(help="ranked segments of each model")
    persons: Path = cli.option(help="ranked models of each segment")
    output: Path = cli.option(help="JSON file to write")
    pair: SearchPairOptions = cli.group(SearchPairOptions)
    nobody: Path | None = cli.option(None, "probability that a segment shows no model")
    system: str = cli.option("", "what the report calls the system that wrote them")
    count: int = cli.option(4, "persons of each kind", convert=cli.whole(1))


@dataclass(frozen=True)
class Searched:
    """Where the items of a search are, of one embedder.

    parts, sets: name of the set -> its embeddings and its items. test: the searched one.
    groups: model -> its enrolment segments, each with the name of its set before it.
    statuses: segment of the searched set -> status, as stage 2 gave it.
    """

    modality: str
    parts: Mapping[str, Part]
    sets: Mapping[str, ItemSet]
    test: str
    groups: Mapping[str, Sequence[Place]]
    statuses: Mapping[str, str]


@dataclass(frozen=True)
class Tracks:
    """The tracks of a segment: (T, D) float32 unit vectors, and the row of the heaviest item of each."""

    vectors: NDArray[np.float32]
    heaviest: Sequence[int]
    main: int | None


def read_tracks(searched: Searched, places: Iterable[Place]) -> dict[Place, Tracks]:
    """Those of some segments, as steps/search.py makes them. Raises DataError for matrices that do not fit."""
    import numpy as np

    wanted: dict[str, dict[str, None]] = {}
    for name, segment in places:
        wanted.setdefault(name, {})[segment] = None
    found = {}
    for name, segments in wanted.items():
        for segment, pooled, weights in searched.parts[name].pooled(segments, {}):
            heavy = weights * np.linalg.norm(searched.sets[name].embeddings[segment], axis=1)
            of_tracks = [np.where(pooled.labels == track, heavy, -1.0) for track in range(len(pooled))]
            heaviest = [int(np.argmax(of_track)) for of_track in of_tracks]
            found[name, segment] = Tracks(pooled.vectors, heaviest, pooled.main)
    return found


def decided(searched: Searched, tracks: Mapping[Place, Tracks], model: str, segment: str) -> Content:
    """What decided about a segment's score for a model: the items "enrolment" and "test"; or "why" there are none.

    "cosine": of their two tracks. "tracks": how many the segment has.
    """
    import numpy as np

    items, statuses = items_of(searched.modality), searched.statuses
    empty = {"cosine": None, "enrolment": None, "test": None, "tracks": 0}
    tested = tracks[searched.test, segment]
    enrolled = [place for place in searched.groups.get(model, ()) if tracks[place].main is not None]
    if tested.main is None:
        return {**empty, "why": f"no {items}; status {statuses.get(segment, 'unknown')}"}
    if not enrolled:
        return {**empty, "why": f"no {items} in what the person was enrolled with"}
    own = np.stack([tracks[place].vectors[tracks[place].main or 0] for place in enrolled])
    track = int(np.argmax(tested.vectors @ own.mean(axis=0)))
    cosines = own @ tested.vectors[track]
    nearest = int(np.argmax(cosines))
    name, member = enrolled[nearest]
    row = tracks[name, member].heaviest[tracks[name, member].main or 0]
    return {
        "cosine": float(cosines[nearest]),
        "enrolment": searched.sets[name].item(member, row),
        "test": searched.sets[searched.test].item(segment, tested.heaviest[track]),
        "tracks": len(tested.vectors),
        "why": None,
    }


def pick_ranks(options: PickRanksOptions) -> None:
    """See the top of this file.

    Raises DataError for malformed or edited lists and matrices, ScoringError for lists of another set.
    """
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.ranks import read_scored_ranks

    files = searched_set(options.pair)
    lists = files.lists(options.ranks, options.persons, options.nobody)
    searched, scores = read_searched(options.pair, files.statuses), read_scored_ranks(options.ranks, may_be_empty=True)
    content = {"system": options.system, "files": {"ranks": str(options.ranks), "persons": str(options.persons)}}
    content |= picked_content(lists, scores, searched, options.count)
    with atomic_write(options.output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_searched(pair: SearchPairOptions, statuses: Mapping[str, str]) -> Searched:
    """Raises ScoringError for embeddings that are missing or of other items, DataError for edited files."""
    from vidperson.io.lines import read_scp

    names = [*pair.enroll_sets.split(), pair.test_set]
    groups: dict[str, list[Place]] = {}
    for data in pair.enrolment():
        for segment, model in read_scp(data / "utt2spk").items():
            groups.setdefault(model, []).append((data.name, segment))
    items = items_of(pair.modality)
    sets = {name: ItemSet(pair.embed_dir / name, pair.items_dir and pair.items_dir / name, items) for name in names}
    parts = {name: pair.part(name, [pair.embedder]) for name in names}
    return Searched(pair.modality, parts, sets, pair.test_set, groups, statuses)


def picked_content(lists: Lists, scores: Scores, searched: Searched, count: int) -> Content:
    """What the JSON says of persons and segments.

    scores: model -> (segment, score), best first. count: persons of each kind.
    """
    from vidperson.metrics.ranking import average_precisions
    from vidperson.report.html import MOST_LISTED

    precisions = average_precisions(lists.ranked, lists.relevant) if lists.relevant else {}
    worst = sorted(precisions, key=lambda model: (precisions[model], model))
    best = [model for model in reversed(worst) if model not in worst[:count]][:count]
    models = worst + [model for model in scores if model not in precisions]
    cases = {model: cases_of(scores.get(model, ()), lists, model) for model in (*worst[:count], *best)}
    places = [(searched.test, case["segment"]) for ours in cases.values() for case in ours]
    tracks = read_tracks(searched, [*places, *(place for model in cases for place in searched.groups.get(model, ()))])
    content: Content = {"modality": searched.modality}
    for title, chosen in (("worst", worst[:count]), ("best", best)):
        content[title] = [
            person_line(model, lists, scores, precisions)
            | {"enrolled": len(searched.groups.get(model, ()))}
            | {"cases": [case | decided(searched, tracks, model, case["segment"]) for case in cases[model]]}
            for model in chosen
        ]
    content["num_persons"], content["num_segments"] = len(models), len(lists.segments)
    content["persons"] = [person_line(model, lists, scores, precisions) for model in models[:MOST_LISTED]]
    content["segments"] = segment_lines(lists, searched.statuses)[:MOST_LISTED]
    return content


def person_line(model: str, lists: Lists, scores: Scores, precisions: Mapping[str, float]) -> Content:
    """What the table of all persons says of one."""
    from vidperson.metrics.ranking import first_hits

    right, listed = set(lists.relevant.get(model, ())), scores.get(model, ())
    keyed = model in precisions
    return {
        "model": model,
        "average_precision": precisions.get(model),
        "first_hit": first_hits(lists.ranked, {model: right})[model],
        "relevant": len(right),
        "found": len(right & {segment for segment, _ in listed}),
        "best": [[segment, score, segment in right if keyed else None] for segment, score in listed[:MOST_BEST]],
    }


def cases_of(listed: Sequence[tuple[str, float]], lists: Lists, model: str) -> list[Content]:
    """The segments to show of a model: "kind", "segment", "rank" and "score" in its list, and whom it "shows"."""
    right, shown = set(lists.relevant[model]), lists.shown()
    ranks: dict[str, tuple[int, float]] = {}
    for segment, score in listed:
        ranks.setdefault(segment, (len(ranks) + 1, score))
    wrong = [segment for segment in ranks if segment not in right]
    found = [segment for segment in ranks if segment in right]
    late = [segment for segment in found[1:] if wrong and ranks[segment] > ranks[wrong[0]]]
    missed = sorted(right - ranks.keys()) + late[::-1]
    kinds = {"right": found[:1], "wrong": wrong[:MOST_WRONG], "missed": missed[:MOST_MISSED]}
    return [
        {
            "kind": kind,
            "segment": segment,
            "rank": ranks[segment][0] if segment in ranks else None,
            "score": ranks[segment][1] if segment in ranks else None,
            "shows": sorted(shown.get(segment, ())),
        }
        for kind, segments in kinds.items()
        for segment in segments
    ]


def segment_lines(lists: Lists, statuses: Mapping[str, str]) -> list[Content]:
    """What the table of all segments says, what went wrong first, then strangers; of each the highest scores first."""
    shown, persons, nobody = lists.shown(), lists.persons or {}, lists.nobody or {}
    lines: list[Content] = []
    for segment in lists.segments:
        best = list(persons.get(segment, ()))
        result = _result([model for model, _ in best], shown.get(segment), bool(lists.relevant))
        lines.append(
            {
                "segment": segment,
                "shows": sorted(shown.get(segment, ())) if lists.relevant else None,
                "result": result,
                "nobody": nobody.get(segment),
                "best": best[:MOST_BEST],
                "status": statuses.get(segment, "-"),
            }
        )
    order = {"stranger": 1, "right": 2}
    return sorted(lines, key=lambda line: (order.get(line["result"], 0), -line["best"][0][1] if line["best"] else inf))


def _result(models: Sequence[str], shown: set[str] | None, keyed: bool) -> str:
    """How a search went: right, rank 3, wrong, no list, stranger; a dash without a key."""
    if not keyed:
        return "-"
    if shown is None:
        return "stranger"
    rank = next((rank for rank, model in enumerate(models, 1) if model in shown), None)
    if rank is None:
        return "wrong" if models else "no list"
    return "right" if rank == 1 else f"rank {rank}"


if __name__ == "__main__":
    cli.run(pick_ranks, PickRanksOptions, __doc__)
