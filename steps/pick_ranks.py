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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.evaluate_ranks import Lists
from steps.evaluate_searches import searched_set
from steps.pick_trials import ItemSet
from steps.score import items_of
from steps.search import SearchPairOptions
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Content = dict[str, Any]
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

    sets: name -> items. test: name of the searched one.
    groups: model -> its enrolment segments, with the name of the set of each.
    """

    modality: str
    sets: Mapping[str, ItemSet]
    test: str
    groups: Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Tracks:
    """The tracks of a segment: (T, D) float32 unit vectors, and the row of the heaviest item of each."""

    vectors: NDArray[np.float32]
    heaviest: Sequence[int]
    main: int | None


def tracks_of(items: ItemSet, segment: str) -> Tracks:
    """As steps/search.py makes them, of one embedder."""
    import numpy as np

    from vidperson.backends.identification import item_weights, pool

    rows = items.embeddings.get(segment, np.zeros((0, 1), np.float32))
    found, quality = items.rows.get(segment), items.quality.get(segment)
    given = items.weights.get(segment)
    weights = item_weights(len(rows), found, None if given is not None else quality, given)
    pooled = pool([rows], found if found is not None and len(rows) else None, weights)
    heavy = weights * np.linalg.norm(rows, axis=1)
    heaviest = [int(np.argmax(np.where(pooled.labels == track, heavy, -1.0))) for track in range(len(pooled))]
    return Tracks(pooled.vectors, heaviest, pooled.main)


class Picker:
    """What decided about a segment's score for a model."""

    def __init__(self, searched: Searched, statuses: Mapping[str, str], scores: Scores) -> None:
        self.searched, self.statuses, self._scores = searched, statuses, scores
        self._enrolled: dict[str, list[tuple[ItemSet, str, Tracks]]] = {}

    def score(self, model: str, segment: str) -> float | None:
        """What the model's list says of a segment; None where it is not there."""
        return next((score for name, score in self._scores.get(model, ()) if name == segment), None)

    def enrolled(self, model: str) -> list[tuple[ItemSet, str, Tracks]]:
        """The enrolment segments of a model that have an item."""
        if model not in self._enrolled:
            members = [(self.searched.sets[at], name) for at, name in self.searched.groups.get(model, ())]
            found = [(items, name, tracks_of(items, name)) for items, name in members]
            self._enrolled[model] = [one for one in found if one[2].main is not None]
        return self._enrolled[model]

    def decided(self, model: str, segment: str) -> dict[str, Any]:
        """The items that decided: "enrolment", "test", "cosine", "tracks"; or "why" there are none."""
        import numpy as np

        empty = {"cosine": None, "enrolment": None, "test": None, "tracks": 0}
        searched, enrolled = self.searched, self.enrolled(model)
        items = items_of(searched.modality)
        tested = tracks_of(searched.sets[searched.test], segment)
        if tested.main is None:
            return {**empty, "why": f"no {items}; status {self.statuses.get(segment, 'unknown')}"}
        if not enrolled:
            return {**empty, "why": f"no {items} in what the person was enrolled with"}
        own = np.stack([tracks.vectors[tracks.main] for _, _, tracks in enrolled])
        track = int(np.argmax(tested.vectors @ own.mean(axis=0)))
        cosines = own @ tested.vectors[track]
        items_there, name, tracks = enrolled[nearest := int(np.argmax(cosines))]
        return {
            "cosine": float(cosines[nearest]),
            "enrolment": items_there.item(name, tracks.heaviest[tracks.main or 0]),
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
    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_scored_ranks

    pair = options.pair
    searched = searched_set(pair)
    lists = searched.lists(options.ranks, options.persons, options.nobody)
    items = {name: ItemSet(pair.embed_dir / name, folder, items_of(pair.modality)) for name, folder in _folders(pair)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for data in pair.enrolment():
        for segment, model in read_scp(data / "utt2spk").items():
            groups.setdefault(model, []).append((data.name, segment))
    scores = read_scored_ranks(options.ranks)
    picker = Picker(Searched(pair.modality, items, pair.test_set, groups), searched.statuses, scores)
    content = {"system": options.system, "files": {"ranks": str(options.ranks), "persons": str(options.persons)}}
    content |= picked_content(lists, scores, picker, options.count)
    with atomic_write(options.output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _folders(pair: SearchPairOptions) -> list[tuple[str, Path | None]]:
    """The sets of a search, and where stage 2 wrote what it found in each."""
    names = [*pair.enroll_sets.split(), pair.test_set]
    return [(name, pair.items_dir / name if pair.items_dir else None) for name in names]


def picked_content(lists: Lists, scores: Scores, picker: Picker, count: int) -> Content:
    """What the JSON says of persons and segments.

    scores: model -> (segment, score), best first. count: persons of each kind.
    """
    from vidperson.metrics.ranking import average_precisions
    from vidperson.report.html import MOST_LISTED

    precisions = average_precisions(lists.ranked, lists.relevant) if lists.relevant else {}
    shown = lists.shown()
    worst = sorted(precisions, key=lambda model: (precisions[model], model))
    best = [model for model in reversed(worst) if model not in worst[:count]][:count]
    models = worst + [model for model in scores if model not in precisions]
    content: Content = {"modality": picker.searched.modality}
    for title, chosen in (("worst", worst[:count]), ("best", best)):
        content[title] = []
        for model in chosen:
            line = person_line(model, lists, scores, precisions)
            cases = [_case(model, *case, picker, shown) for case in cases_of(scores.get(model, ()), lists, model)]
            content[title].append(line | {"enrolled": len(picker.searched.groups.get(model, ())), "cases": cases})
    content["num_persons"], content["num_segments"] = len(models), len(lists.segments)
    content["persons"] = [person_line(model, lists, scores, precisions) for model in models[:MOST_LISTED]]
    content["segments"] = segment_lines(lists, picker.statuses)[:MOST_LISTED]
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


def cases_of(listed: Sequence[tuple[str, float]], lists: Lists, model: str) -> list[tuple[str, str, int | None]]:
    """The segments to show of a model: kind, segment, and rank if it is listed."""
    right = set(lists.relevant[model])
    ranks: dict[str, int] = {}
    for segment, _ in listed:
        ranks.setdefault(segment, len(ranks) + 1)
    wrong = [segment for segment in ranks if segment not in right]
    first_wrong = ranks[wrong[0]] if wrong else len(ranks) + 1
    best = [segment for segment in ranks if segment in right][:1]
    late = [segment for segment in ranks if segment in right and ranks[segment] > first_wrong and segment not in best]
    missed = sorted(right - ranks.keys()) + late[::-1]
    chosen = {"right": best, "wrong": wrong[:MOST_WRONG], "missed": missed[:MOST_MISSED]}
    return [(kind, segment, ranks.get(segment)) for kind, segments in chosen.items() for segment in segments]


def _case(
    model: str, kind: str, segment: str, rank: int | None, picker: Picker, shown: Mapping[str, set[str]]
) -> Content:
    """What is shown of a segment. Its score is that of the list."""
    case = {"kind": kind, "segment": segment, "rank": rank, "score": picker.score(model, segment)}
    return case | {"shows": sorted(shown.get(segment, ()))} | picker.decided(model, segment)


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
