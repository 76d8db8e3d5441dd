#!/usr/bin/env python3
"""Pick the persons that went best and worst in a search, and the items that show why.

Inputs:
  RANKS, PERSONS, NOBODY      what steps/search.py wrote of a system and the test set
  DATA_DIR/<test set>         utt2group: <segment> <group>, all segments; optional relevant: <model>
                              <segment>
  DATA_DIR/<enrolment set>/spk2utt
                              <model> <segment> ...
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
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from steps.evaluate_ranks import Lists
from steps.pick_trials import ItemSet
from steps.score import items_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Content = dict[str, Any]
Scores = Mapping[str, Sequence[tuple[str, float]]]

MOST_WRONG = MOST_MISSED = 3
MOST_BEST = 5


@dataclass(frozen=True)
class Searched:
    """Where the items of a search are, of one embedder.

    enrolment: the sets that the models are enrolled from. test: the searched one.
    groups: model -> its segments, with the number of the set of each.
    """

    modality: str
    enrolment: Sequence[ItemSet]
    test: ItemSet
    groups: Mapping[str, Sequence[tuple[int, str]]]


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
            members = [(self.searched.enrolment[at], name) for at, name in self.searched.groups.get(model, ())]
            found = [(items, name, tracks_of(items, name)) for items, name in members]
            self._enrolled[model] = [one for one in found if one[2].main is not None]
        return self._enrolled[model]

    def decided(self, model: str, segment: str) -> dict[str, Any]:
        """The items that decided: "enrolment", "test", "cosine", "tracks"; or "why" there are none."""
        import numpy as np

        empty = {"cosine": None, "enrolment": None, "test": None, "tracks": 0}
        searched, enrolled = self.searched, self.enrolled(model)
        items = items_of(searched.modality)
        tested = tracks_of(searched.test, segment)
        if tested.main is None:
            return {**empty, "why": f"no {items}: {self.statuses.get(segment, 'not in the lists of stage 2')}"}
        if not enrolled:
            return {**empty, "why": f"no {items} in what the person was enrolled with"}
        own = np.stack([tracks.vectors[tracks.main] for _, _, tracks in enrolled])
        track = int(np.argmax(tested.vectors @ own.mean(axis=0)))
        cosines = own @ tested.vectors[track]
        items_there, name, tracks = enrolled[nearest := int(np.argmax(cosines))]
        return {
            "cosine": float(cosines[nearest]),
            "enrolment": items_there.item(name, tracks.heaviest[tracks.main or 0]),
            "test": searched.test.item(segment, tested.heaviest[track]),
            "tracks": len(tested.vectors),
            "why": None,
        }


def pick_ranks(lists: Lists, scores: Scores, picker: Picker, precisions: Mapping[str, float], count: int) -> Content:
    """What the JSON holds, see the top of this file.

    scores: model -> (segment, score), best first. precisions: model -> average precision; empty without a key.
    count: persons of each kind.
    """
    from vidperson.report.html import MOST_LISTED

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
