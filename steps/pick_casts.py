#!/usr/bin/env python3
"""Pick what the report shows of a cast search: per cast member the ranked candidates and the misses.

Inputs:
  RANKS           <model> <rank> <segment> <score>, of any system that searched the test set
  REASONS         optional: <model> <segment> <reason> <evidence>, as steps/search_cast.py writes it
  DATA_DIR/<test set>/
                  search, utt2group; optional: relevant, names
  DATA_DIR/<enrolment set>/utt2spk
                  <segment> <model>: the portraits
  ITEMS_DIR/<set>, EMBED_DIR/<test set>/status
                  per word of SEARCHES, a modality: items, crops.scp and status of stage 2
Output:
  OUTPUT          JSON: per group, such as a film, its figures and its models, those that went worst
                  first. Per model the portraits, the RANKED best segments and the MISSED right ones
                  that were ranked last, with score, reason, evidence and picture. All pictures
                  together are at most PICTURES: with many models fewer are shown of each, and the
                  last ones are shown without

A picture is the crop of the modality that cuts what is in its box, as those of bodies, with the
boxes of the others drawn on it. Without such a modality it is the crop of the first one.

Example:
  face="--modality face --embed-dir exp/face_embed/arcface_tiny --items-dir exp/face_det/retinaface_tiny"
  face+=" --data-dir data --enroll-sets csm_val_cast --test-set csm_val_candidates"
  steps/pick_casts.py --searches "$face" --identity face --output picked.json \\
    --ranks exp/scores/original/csm/csm_val_candidates_ranks \\
    --reasons exp/scores/original/csm/csm_val_candidates_reasons
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from steps.casts import Reasons
from steps.evaluate_searches import read_searches, read_statuses
from steps.pick_trials import ItemSet
from steps.score import items_of
from vidperson import cli

if TYPE_CHECKING:
    from steps.search import SearchPairOptions

Content = dict[str, Any]
Listed = Sequence[tuple[str, float]]

FEWEST = 6
"""Pictures of a model below which not all models have some."""
USABLE = ("ok", "unsure")
PICTURE = (120, 144)
"""Most pixels of a picture: width, height."""


@dataclass(frozen=True)
class PickCastsOptions:
    ranks: Path = cli.option(help="ranked segments of each model")
    output: Path = cli.option(help="JSON file to write")
    searches: list[str] = cli.option(help="a word per modality of the set: its options as steps/search.py takes")
    identity: str = cli.option(help="the modality that portraits and segments are compared by")
    appearance: str = cli.option("", "the modality that segments are compared by; empty: none")
    reasons: Path | None = cli.option(None, "why each segment has its rank")
    system: str = cli.option("", "what the report calls the system that wrote them")
    ranked: int = cli.option(12, "best segments shown per model", convert=cli.whole(1))
    missed: int = cli.option(3, "right segments shown that were ranked last", convert=cli.whole(0))
    pictures: int = cli.option(3000, "most pictures in all", convert=cli.whole(0))


@dataclass(frozen=True)
class Lists:
    """What is known of a searched set and a system, read.

    ranked: model -> (segment, score), best first. relevant: model -> segments; None where the truth is not known.
    groups: model -> its groups. sizes: group -> number of segments. statuses: modality -> segment -> status.
    cues: cue -> modality. portraits: model -> set, segment and its status by the identity.
    """

    ranked: Mapping[str, Listed]
    reasons: Reasons | None
    relevant: Mapping[str, Sequence[str]] | None
    groups: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]
    statuses: Mapping[str, Mapping[str, str]]
    cues: Mapping[str, str]
    portraits: Mapping[str, Sequence[tuple[str, str, str]]]

    def shows(self) -> dict[str, list[str]]:
        """Segment -> the models that it shows."""
        shown: dict[str, list[str]] = {}
        for model, segments in (self.relevant or {}).items():
            for segment in segments:
                shown.setdefault(segment, []).append(model)
        return shown


def pick_casts(options: PickCastsOptions) -> None:
    """See the top of this file. Raises DataError for malformed or edited files."""
    import json

    from vidperson.io.atomic import atomic_write

    pairs = read_searches(options.searches)
    lists = read_lists(options, pairs)
    pictures = Pictures(pairs)
    content: Content = {"system": options.system, "cues": lists.cues, "has_reasons": lists.reasons is not None}
    content["files"] = {"ranks": str(options.ranks), "reasons": str(options.reasons) if options.reasons else None}
    content |= picked_content(lists, pictures, options)
    content["names"] = original_names(pairs[0], content)
    with atomic_write(options.output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_lists(options: PickCastsOptions, pairs: Sequence[SearchPairOptions]) -> Lists:
    """Raises DataError for malformed or edited files."""
    from collections import Counter

    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_reasons, read_relevant, read_scored_ranks, read_search
    from vidperson.io.record import checked

    data = pairs[0].test_data
    relevant = data / "relevant"
    identity = next(pair for pair in pairs if pair.modality == options.identity)
    portraits: dict[str, list[tuple[str, str, str]]] = {}
    for enrolled in identity.enrolment():
        statuses = read_statuses(identity.embed_dir / enrolled.name)
        for segment, model in read_scp(enrolled / "utt2spk").items():
            portraits.setdefault(model, []).append((enrolled.name, segment, statuses.get(segment, "unknown")))
    cues = {"identity": options.identity, "appearance": options.appearance}
    return Lists(
        read_scored_ranks(checked(options.ranks), may_be_empty=True),
        read_reasons(checked(options.reasons)) if options.reasons else None,
        read_relevant(relevant) if relevant.is_file() else None,
        read_search(data / "search"),
        Counter(read_scp(data / "utt2group").values()),
        {pair.modality: read_statuses(pair.embed_dir / pair.test_set) for pair in pairs},
        {cue: modality for cue, modality in cues.items() if modality},
        portraits,
    )


class Pictures:
    """Pictures of segments: the crop of one modality with the boxes of the others.

    pairs: the modalities of a searched set.
    """

    def __init__(self, pairs: Sequence[SearchPairOptions]) -> None:
        from vidperson.types import CUT_BY_BOX

        self.test_set = pairs[0].test_set
        self._sets: dict[tuple[str, str], ItemSet] = {}
        self._statuses: dict[tuple[str, str], Mapping[str, str]] = {}
        for pair in pairs:
            for name in (*pair.enroll_sets.split(), pair.test_set):
                folder = pair.items_dir and pair.items_dir / name
                self._sets[pair.modality, name] = ItemSet(pair.embed_dir / name, folder, items_of(pair.modality))
                self._statuses[pair.modality, name] = read_statuses(pair.embed_dir / name)
        modalities = list(dict.fromkeys(pair.modality for pair in pairs))
        cut = [modality for modality in modalities if items_of(modality) in CUT_BY_BOX]
        self._shown, self._is_cut = (cut or modalities)[0], bool(cut)
        self._drawn = [modality for modality in modalities if cut and modality != self._shown]

    def of(self, name: str, segment: str) -> Content:
        """The first item of a segment: "jpeg", and "boxes" on it in per cent of its sides, or "why" there is none."""
        from vidperson.report.pictures import fitted_jpeg

        items = self._sets[self._shown, name]
        rows = items.rows.get(segment)
        if rows is None or not len(rows):
            status = self._statuses[self._shown, name].get(segment, "unknown")
            return {"jpeg": None, "why": f"no {items.items}: {status}", "boxes": []}
        frame, (x1, y1, x2, y2) = rows[0, 0], rows[0, 2:6].tolist()
        size = (x2 - x1, y2 - y1) if self._is_cut else (1.0, 1.0)
        picture = items.picture(segment, 0, lambda png: fitted_jpeg(png, size, PICTURE))
        boxes = []
        for modality in self._drawn:
            found = self._sets[modality, name].rows.get(segment, rows[:0])
            if not len(found):  # then it may have no columns
                continue
            for left, top, right, bottom in found[found[:, 0] == frame, 2:6].tolist():
                sides = (left - x1) / size[0], (top - y1) / size[1], (right - left) / size[0], (bottom - top) / size[1]
                boxes.append([round(100 * side, 1) for side in sides])
        return {**picture, "boxes": boxes}


@dataclass(frozen=True)
class Budget:
    """How much is shown. models: those with pictures. ranked, missed: most segments of each."""

    models: frozenset[str]
    ranked: int
    missed: int


def budget_of(options: PickCastsOptions, models: Sequence[str]) -> Budget:
    """What the pictures suffice for; models: the ones to show first come first."""
    each = max(FEWEST, options.pictures // max(1, len(models)))
    missed = min(options.missed, each // 4)
    ranked = min(options.ranked, each - missed - 1)
    return Budget(frozenset(models[: options.pictures // (1 + ranked + missed)]), ranked, missed)


def picked_content(lists: Lists, pictures: Pictures, options: PickCastsOptions) -> Content:
    """What the JSON says of groups and models."""
    from vidperson.io.lines import sort_key
    from vidperson.metrics.ranking import average_precisions

    ranked = {model: [segment for segment, _ in listed] for model, listed in lists.ranked.items()}
    precisions = average_precisions(ranked, lists.relevant) if lists.relevant else {}
    models = sorted(lists.groups, key=lambda model: (precisions.get(model, 2.0), sort_key(model)))
    budget, shows = budget_of(options, models), lists.shows()
    groups: dict[str, list[Content]] = {}
    for model in models:
        line = model_line(model, lists, precisions.get(model))
        if model in budget.models:
            line |= shown_line(model, lists, shows, budget)
            line["portrait"] = portrait_of(lists.portraits.get(model, ()), pictures)
            for case in (*line["best"], *line["missed"]):
                case |= pictures.of(pictures.test_set, case["segment"])
        groups.setdefault(" ".join(sorted(lists.groups[model])), []).append(line)
    lines = [group_line(group, groups[group], lists) for group in sorted(groups, key=sort_key)]
    return {"num_models": len(models), "num_shown": len(budget.models), "groups": lines}


def portrait_of(portraits: Sequence[tuple[str, str, str]], pictures: Pictures) -> Content | None:
    """The first usable portrait, or else the first, with its status and picture; None where there is none."""
    if not portraits:
        return None
    usable = [one for one in portraits if one[2].partition(":")[0] in USABLE]
    name, segment, status = (usable or portraits)[0]
    return {"segment": segment, "status": status, "others": len(portraits) - 1, **pictures.of(name, segment)}


def group_line(group: str, models: Sequence[Content], lists: Lists) -> Content:
    """The figures of a group, and its models."""
    precisions = [line["average_precision"] for line in models if line["average_precision"] is not None]
    hits = [line["first_hit"] for line in models if line["average_precision"] is not None]
    return {
        "group": group,
        "num_models": len(models),
        "num_segments": sum(lists.sizes.get(name, 0) for name in group.split()),
        "mean_average_precision": fmean(precisions) if precisions else None,
        "rank_1": sum(hit == 1 for hit in hits) / len(hits) if hits else None,
        "models": list(models),
    }


def model_line(model: str, lists: Lists, precision: float | None) -> Content:
    """What the tables say of a model."""
    from vidperson.metrics.ranking import first_hits

    right, listed = set((lists.relevant or {}).get(model, ())), lists.ranked.get(model, ())
    segments = [segment for segment, _ in listed]
    counts: dict[str, int] = {}
    for reason, _ in (lists.reasons or {}).get(model, {}).values():
        counts[reason] = counts.get(reason, 0) + 1
    return {
        "model": model,
        "average_precision": precision,
        "first_hit": first_hits({model: segments}, {model: right})[model],
        "relevant": len(right),
        "listed": len(segments),
        "reasons": counts,
    }


def shown_line(model: str, lists: Lists, shows: Mapping[str, Sequence[str]], budget: Budget) -> Content:
    """The segments that are shown of a model: the best ones, and right ones that were ranked last or not at all."""
    listed = lists.ranked.get(model, ())
    ranks = {segment: rank for rank, (segment, _) in enumerate(listed, 1)}
    right = None if lists.relevant is None else set(lists.relevant.get(model, ()))
    best = [segment for segment, _ in listed[: budget.ranked]]
    late = sorted((right or set()) - set(best), key=lambda segment: (-ranks.get(segment, len(ranks) + 1), segment))
    cases = {"best": best, "missed": late[: budget.missed]}
    scores = dict(listed)
    line: Content = {"not_found": len(late)}
    for kind, segments in cases.items():
        line[kind] = [
            {
                "segment": segment,
                "rank": ranks.get(segment),
                "score": scores.get(segment),
                "right": None if right is None else segment in right,
                "shows": shows.get(segment, []),
                **reason_of(model, segment, lists, ranks),
            }
            for segment in segments
        ]
    return line


def reason_of(model: str, segment: str, lists: Lists, ranks: Mapping[str, int]) -> Content:
    """Why a segment has its rank: "reason", "evidence" with its rank, and "status" where the identity has no item."""
    from vidperson.io.ranks import NO_EVIDENCE

    reason, evidence = (lists.reasons or {}).get(model, {}).get(segment, (None, NO_EVIDENCE))
    status = lists.statuses.get(lists.cues["identity"], {}).get(segment, "unknown")
    return {
        "reason": reason,
        "evidence": None if evidence == NO_EVIDENCE else evidence,
        "evidence_rank": ranks.get(evidence),
        "status": status,
    }


def original_names(pair: SearchPairOptions, content: Content) -> dict[str, str]:
    """Id -> original name, of groups and models, where a data folder has a list of names."""
    from vidperson.io.lines import read_scp

    folders = [data for data in (*pair.enrolment(), pair.test_data) if (data / "names").is_file()]
    names = {name: original for data in folders for name, original in read_scp(data / "names").items()}
    shown = [name for group in content["groups"] for name in (group["group"], *(m["model"] for m in group["models"]))]
    return {name: names[name] for name in shown if name in names}


if __name__ == "__main__":
    cli.run(pick_casts, PickCastsOptions, __doc__)
