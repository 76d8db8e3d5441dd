#!/usr/bin/env python3
"""Pick the persons that went best and worst in a search, and the items that show why.

Inputs:
  RANKS, PERSONS, NOBODY      what steps/search.py wrote of a system and the test set
  DATA_DIR/<test set>         utt2group: <segment> <group>, all segments; optional relevant: <model>
                              <segment>
  DATA_DIR/<enrolment set>/utt2spk
                              <segment> <model>
  DATA_DIR/<set>/names        optional: <id> <original name>
  EMBED_DIR/<set>/embed.scp, TRAIN_ROOT/<identifier>
                              what steps/search.py compares; SEARCH_WITH has the system's words, a
                              back-end or identifier, or those of a fusion
  ITEMS_DIR/<set>             what stage 2 found: (N, 17) float32 items that the rows are of,
                              quality.scp, crops.scp with N images per segment, and status
Output:
  OUTPUT                      JSON: the COUNT persons with the lowest average precision, if below 1,
                              and the COUNT with the highest. For each the right segment that was
                              ranked best, wrong ones that were ranked best and right ones that were
                              ranked last or not at all. For each segment its score, the track that
                              gave it, the nearest of the person's enrolment segments, and the
                              heaviest item of both; with the lists of all persons and all segments, the wrong
                              ones first, as far as the report shows them

Example:
  steps/pick_ranks.py --modality face --embed-dir exp/face_embed/arcface_tiny \\
    --items-dir exp/face_det/retinaface_tiny --data-dir data --enroll-sets clips_train \\
    --test-set clips_test --search-with class-mean \\
    --ranks exp/scores/arcface_tiny/class-mean/clips_test_ranks \\
    --persons exp/scores/arcface_tiny/class-mean/clips_test_persons --output picked.json
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.evaluate_ranks import Lists
from steps.evaluate_searches import searched_set
from steps.pick_trials import ItemSet
from steps.score import items_of
from steps.search import Known, SearchPairOptions, make_searcher, read_known
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends.identification import Searcher

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
    search_with: str = cli.option(help="back-end or identifier that wrote them; several: their fusion")
    pair: SearchPairOptions = cli.group(SearchPairOptions)
    nobody: Path | None = cli.option(None, "probability that a segment shows no model")
    system: str = cli.option("", "what the report calls the system that wrote them")
    count: int = cli.option(4, "persons of each kind", convert=cli.whole(1))


@dataclass(frozen=True)
class Searched:
    """Where the items of a search are.

    words: the back-ends and identifiers of the system. sets: name of the set -> its items.
    groups: model -> its enrolment segments, each with the name of its set before it.
    statuses: segment of the searched set -> status, as stage 2 gave it.
    """

    pair: SearchPairOptions
    words: Sequence[str]
    sets: Mapping[str, ItemSet]
    groups: Mapping[str, Sequence[Place]]
    statuses: Mapping[str, str]


@dataclass(frozen=True)
class Tracks:
    """The tracks of a segment: (T, D) float32 vectors, and the row of the heaviest item of each."""

    vectors: NDArray[np.float32]
    heaviest: Sequence[int]
    main: int | None


class Decisions:
    """What gave the scores of some segments for some models.

    cases: model -> segments of the searched set.
    Raises as ``steps.search.search``: the searcher is made as it was for the lists.
    """

    def __init__(self, searched: Searched, cases: Mapping[str, Sequence[str]]) -> None:
        self._searched = searched
        # Stage 4 has told of segments without an item, and stage 5 shows them.
        self._known = read_known(searched.pair, searched.words, len(searched.words) > 1, logging.debug)
        places = [(searched.pair.test_set, segment) for ours in cases.values() for segment in ours]
        self._tracks = read_tracks(searched, self._known, places)
        some = any(tracks.main is not None for tracks in self._tracks.values())
        self._searcher = make_searcher(searched.words, self._known) if some else None
        enrolled = (place for model in cases for place in searched.groups.get(model, ()))
        self._tracks |= read_tracks(searched, self._known, enrolled)

    def of(self, model: str, segment: str) -> Content:
        """The score, and the items "enrolment" and "test" that gave it; or "why" there are none.

        "tracks": how many the segment has. "cosine": of the two tracks, as the system compares them, or, where
        "compares" is false, of their embeddings.
        """
        import numpy as np

        searched, searcher = self._searched, self._searcher
        items, pair = items_of(searched.pair.modality), searched.pair
        tested = self._tracks[pair.test_set, segment]
        empty = {"score": None, "cosine": None, "compares": False, "enrolment": None, "test": None, "tracks": 0}
        if tested.main is None or searcher is None:
            return {**empty, "why": f"no {items}; status {searched.statuses.get(segment, 'unknown')}"}
        if model not in searcher.models:
            return {**empty, "why": f"no {items} in what the person was enrolled with"}
        scores = searcher.scores(tested.vectors)[:, searcher.models.index(model)]
        track = int(np.argmax(scores))
        return {
            "score": float(str(scores[track])),  # as the lists write it
            "tracks": len(tested.vectors),
            "test": searched.sets[pair.test_set].item(segment, tested.heaviest[track]),
            **self._nearest(searcher, model, tested.vectors[track : track + 1]),
            "why": None,
        }

    def _nearest(self, searcher: Searcher, model: str, track: NDArray[np.float32]) -> Content:
        """The enrolment segment of a model with the main track nearest to a track, (1, D) float32."""
        import numpy as np

        from vidperson.backends.exact import length_normalise
        from vidperson.backends.identification import as_compared, columns_of

        found = {place: self._tracks[place] for place in self._searched.groups.get(model, ())}
        usable = [(place, tracks, tracks.main) for place, tracks in found.items() if tracks.main is not None]
        if not usable:
            why = f"no {items_of(self._searched.pair.modality)} in what the person was enrolled with"
            missing = {"segment": model, "time_s": None, "jpeg": None, "why": why}
            return {"enrolment": missing, "cosine": None, "compares": False}
        vectors = np.stack([*(tracks.vectors[main] for _, tracks, main in usable), track[0]])
        compared = as_compared(searcher, vectors)
        own = columns_of(self._known.sizes, [self._searched.pair.embedder])
        units = length_normalise(vectors[:, own]) if compared is None else compared
        cosines = units[:-1] @ units[-1]
        nearest = int(np.argmax(cosines))
        (name, segment), tracks, main = usable[nearest]
        item = self._searched.sets[name].item(segment, tracks.heaviest[main])
        return {"enrolment": item, "cosine": float(cosines[nearest]), "compares": compared is not None}


def read_tracks(searched: Searched, known: Known, places: Iterable[Place]) -> dict[Place, Tracks]:
    """Those of some segments, as steps/search.py makes them. Raises DataError for matrices that do not fit."""
    import numpy as np

    wanted: dict[str, dict[str, None]] = {}
    for name, segment in places:
        wanted.setdefault(name, {})[segment] = None
    found = {}
    for name, segments in wanted.items():
        part = searched.pair.part(name, known.embedders)
        for segment, pooled, weights in part.pooled(segments, known.sizes):
            heavy = weights * np.linalg.norm(searched.sets[name].embeddings[segment], axis=1)
            of_tracks = [np.where(pooled.labels == track, heavy, -1.0) for track in range(len(pooled))]
            heaviest = [int(np.argmax(of_track)) for of_track in of_tracks]
            found[name, segment] = Tracks(pooled.vectors, heaviest, pooled.main)
    return found


def pick_ranks(options: PickRanksOptions) -> None:
    """See the top of this file.

    Raises DataError for malformed or edited lists and matrices, ScoringError for lists of another set.
    """
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.ranks import read_scored_ranks

    files = searched_set(options.pair)
    lists = files.lists(options.ranks, options.persons, options.nobody)
    searched = read_searched(options.pair, options.search_with.split(), files.statuses[options.pair.modality])
    scores = read_scored_ranks(options.ranks, may_be_empty=True)
    content = {"system": options.system, "files": {"ranks": str(options.ranks), "persons": str(options.persons)}}
    content |= picked_content(lists, scores, searched, options.count)
    content["names"] = original_names(options.pair, content)
    with atomic_write(options.output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_searched(pair: SearchPairOptions, words: Sequence[str], statuses: Mapping[str, str]) -> Searched:
    """Raises DataError for malformed or edited files."""
    from vidperson.io.lines import read_scp

    names = [*pair.enroll_sets.split(), pair.test_set]
    groups: dict[str, list[Place]] = {}
    for data in pair.enrolment():
        persons = data / "utt2spk"  # identifiers search without it
        for segment, model in (read_scp(persons) if persons.is_file() else {}).items():
            groups.setdefault(model, []).append((data.name, segment))
    items = items_of(pair.modality)
    sets = {name: ItemSet(pair.embed_dir / name, pair.items_dir and pair.items_dir / name, items) for name in names}
    return Searched(pair, words, sets, groups, statuses)


def picked_content(lists: Lists, scores: Scores, searched: Searched, count: int) -> Content:
    """What the JSON says of persons and segments.

    scores: model -> (segment, score), best first. count: persons of each kind.
    """
    from vidperson.metrics.ranking import average_precisions
    from vidperson.report.tables import MOST_LISTED

    precisions = average_precisions(lists.ranked, lists.relevant) if lists.relevant else {}
    keyed = sorted(precisions, key=lambda model: (precisions[model], model))
    worst = [model for model in keyed if precisions[model] < 1][:count]
    best = [model for model in reversed(keyed) if model not in worst][:count]
    models = keyed + [model for model in lists.groups if model not in precisions]
    shown = lists.shown()
    cases = {model: cases_of(scores.get(model, ()), lists.relevant[model], shown) for model in (*worst, *best)}
    segments = {model: [case["segment"] for case in ours] for model, ours in cases.items()}
    decisions = Decisions(searched, segments) if segments else None
    content: Content = {"modality": searched.pair.modality}
    for title, chosen in (("worst", worst), ("best", best)):
        content[title] = [
            person_line(model, lists, scores, precisions)
            | {"enrolled": len(searched.groups.get(model, ()))}
            | {"cases": [case | decisions.of(model, case["segment"]) for case in cases[model]]}
            for model in chosen
            if decisions
        ]
    content["num_persons"], content["num_segments"] = len(models), len(lists.segments)
    content["persons"] = [person_line(model, lists, scores, precisions) for model in models[:MOST_LISTED]]
    content["segments"] = segment_lines(lists, searched.statuses)[:MOST_LISTED]
    return content


def original_names(pair: SearchPairOptions, content: Content) -> dict[str, str]:
    """Id -> original name, of the persons and segments in the tables, where their data folder has a list of names."""
    from vidperson.io.lines import read_scp

    folders = [data for data in (*pair.enrolment(), pair.test_data) if (data / "names").is_file()]
    names = {name: original for data in folders for name, original in read_scp(data / "names").items()}
    shown = [*(row["model"] for row in content["persons"]), *(row["segment"] for row in content["segments"])]
    return {name: names[name] for name in shown if name in names}


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


def cases_of(
    listed: Sequence[tuple[str, float]], relevant: Iterable[str], shown: Mapping[str, Iterable[str]]
) -> list[Content]:
    """The segments to show of a model: "kind", "segment", "rank" in its list, and whom the segment "shows".

    listed: its list. relevant: its segments. shown: segment -> the models that it shows.
    """
    right = set(relevant)
    ranks: dict[str, int] = {}
    for segment, _ in listed:
        ranks.setdefault(segment, len(ranks) + 1)
    wrong = [segment for segment in ranks if segment not in right]
    found = [segment for segment in ranks if segment in right]
    late = [segment for segment in found[1:] if wrong and ranks[segment] > ranks[wrong[0]]]
    missed = sorted(right - ranks.keys()) + late[::-1]
    kinds = {"right": found[:1], "wrong": wrong[:MOST_WRONG], "missed": missed[:MOST_MISSED]}
    return [
        {"kind": kind, "segment": segment, "rank": ranks.get(segment), "shows": sorted(shown.get(segment, ()))}
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
