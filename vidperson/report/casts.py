"""What the report shows of a cast search: per group and model the portraits, the ranked segments and the misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vidperson.report import page
from vidperson.report.searches import reason_name
from vidperson.report.tables import Table, cell

if TYPE_CHECKING:
    from markupsafe import Markup

Content = Mapping[str, Any]

MOST_OPEN = 3
"""Groups that are unfolded; with more, the first one is."""
USABLE = ("ok", "unsure")
CHECK, CROSS, DOT, NUMBER = "\N{CHECK MARK}", "\N{MULTIPLICATION X}", " \N{MIDDLE DOT} ", "#"


def cast_part(picked: Content) -> Markup:
    """The part of the report about a searched set, as steps/pick_casts.py wrote it."""
    groups = picked["groups"]
    shown = [_group(group, picked, place == 0 or len(groups) <= MOST_OPEN) for place, group in enumerate(groups)]
    return page.part(
        "casts.html.j2",
        system=picked["system"],
        note=cast_note(picked),
        table=group_table(groups, picked["names"]),
        groups=shown,
        most_open=MOST_OPEN,
    )


def cast_note(picked: Content) -> str:
    """What is shown, and what the marks mean."""
    parts = ["Each person's portrait, and the segments that were ranked best."]
    if any(model["average_precision"] is not None for group in picked["groups"] for model in group["models"]):
        parts.append(
            f"{CHECK} right, {CROSS} wrong; right ones that were ranked last; in a group, the worst come first."
        )
    if picked["system"].partition("/")[0] == "calibrated":
        parts.append("Above a score of 0 it is more likely this person than not, below 0 less.")
    if picked["has_reasons"]:
        identity = reason_name("identity", picked["cues"])
        reasons = [f"{identity}: that of the portrait", f"expansion: the {identity} of another segment"]
        if "appearance" in picked["cues"]:
            reasons.append(f"{picked['cues']['appearance']}: that of another segment")
        reasons += ["excluded: somebody else in the frame is this person, or this is another one"]
        reasons += ["none: nothing could be compared"]
        parts.append(f"Reasons, what the score was decided by: {'; '.join(reasons)}. Behind it is that segment's rank.")
    if picked["num_shown"] < picked["num_models"]:
        parts.append(f"There are pictures of {picked['num_shown']} of {picked['num_models']} persons.")
    return " ".join(parts)


def group_table(groups: Sequence[Content], names: Mapping[str, str]) -> Table:
    """A line per group."""
    keyed = any(group["mean_average_precision"] is not None for group in groups)
    head = ["group", "persons", "segments", *(["mAP %", "rank-1 %"] if keyed else [])]
    body = []
    for group in groups:
        figures = [_percent(group["mean_average_precision"]), _percent(group["rank_1"])] if keyed else []
        body.append([_named(group["group"], names), str(group["num_models"]), str(group["num_segments"]), *figures])
    return head, body


def model_table(group: Content, picked: Content) -> Table:
    """A line per model of a group."""
    models = group["models"]
    keyed = any(model["average_precision"] is not None for model in models)
    reasons = list(dict.fromkeys(reason for model in models for reason in model["reasons"]))
    head = ["person", *(["AP %", "first right", "right segments"] if keyed else []), "listed"]
    head += [reason_name(reason, picked["cues"]) for reason in reasons]
    body = []
    for model in models:
        first = "-" if model["first_hit"] is None else str(model["first_hit"])
        figures = [_percent(model["average_precision"]), first, str(model["relevant"])] if keyed else []
        counts = [str(model["reasons"].get(reason, 0)) for reason in reasons]
        body.append([_named(model["model"], picked["names"]), *figures, str(model["listed"]), *counts])
    return head, body


def _group(group: Content, picked: Content, is_open: bool) -> dict[str, Any]:
    facts = [f"{group['num_models']} persons", f"{group['num_segments']} segments"]
    if group["mean_average_precision"] is not None:
        facts.append(f"mAP {_percent(group['mean_average_precision'])} %")
    return {
        "name": _named(group["group"], picked["names"]),
        "facts": DOT.join(facts),
        "open": is_open,
        "models": [_model(model, picked, group["group"]) for model in group["models"] if "best" in model],
        "table": model_table(group, picked),
    }


def _model(model: Content, picked: Content, group: str) -> dict[str, Any]:
    facts = []
    if model["average_precision"] is not None:
        facts.append(f"AP {_percent(model['average_precision'])} %")
        first = model["first_hit"]
        facts.append("no right segment listed" if first is None else f"first right segment at rank {first}")
        facts.append(f"right segments: {model['relevant']}")
    facts.append(f"listed: {model['listed']}")
    missed = model["missed"]
    of = "" if len(missed) == model["not_found"] else f", {len(missed)} of {model['not_found']}"
    return {
        "name": _named(model["model"], picked["names"]),
        "facts": DOT.join(facts),
        "portrait": _portrait(model["portrait"]),
        "best": [_case(case, picked, model, group) for case in model["best"]],
        "missed": [_case(case, picked, model, group, missed=True) for case in missed],
        "missed_title": f"Right segments that were ranked last{of}",
    }


def _portrait(portrait: Content | None) -> dict[str, Any]:
    """A portrait; its status, unless it is usable, and how many others there are."""
    nothing = {"kind": "portrait", "rank": "", "score": ""}
    if portrait is None:
        return {"segment": "", "jpeg": None, "why": "no portrait", "boxes": [], "lines": ["portrait"], **nothing}
    state, _, why = portrait["status"].partition(": ")
    line = "portrait" if state in USABLE else f"portrait, {state.replace('_', ' ')}{': ' if why else ''}{why}"
    line += f" (1 of {portrait['others'] + 1})" if portrait["others"] else ""
    return {**portrait, "lines": [line], **nothing}


def _case(case: Content, picked: Content, model: Content, group: str, missed: bool = False) -> dict[str, Any]:
    """A segment with its rank, score and reason."""
    evidence = _evidence(case, model["portrait"])
    mark = {True: f" {CHECK}", False: f" {CROSS}", None: ""}[None if missed else case["right"]]
    score = "" if case["score"] is None else f" {case['score']:.3f}"
    kind = {True: "right", False: "wrong", None: "unknown"}[case["right"]]
    return {
        **case,
        "kind": "missed" if missed else kind,
        "rank": "not listed" if case["rank"] is None else f"{NUMBER}{case['rank']}",
        "score": f"{score}{mark}",
        "lines": [why_missed(case, picked, evidence)] if missed else why_ranked(case, picked, evidence, group),
    }


def why_ranked(case: Content, picked: Content, evidence: str, group: str) -> list[str]:
    """Reason and evidence of a segment, and whom it shows, if it is wrong: without its group before it."""
    lines = []
    if case["reason"] is not None:
        lines.append(reason_name(case["reason"], picked["cues"]) + evidence)
    if case["right"] is False:
        shown = [model.removeprefix(f"{group}_") for model in case["shows"]]
        lines.append(f"shows {' '.join(shown) or 'nobody who is searched'}")
    return lines


def why_missed(case: Content, picked: Content, evidence: str) -> str:
    """Why a right segment came late: it has no item, or is not like them; and the reason of its rank."""
    state, _, why = case["status"].partition(": ")
    told = [f"{state.replace('_', ' ')}{': ' if why else ''}{why}"] if state not in USABLE else []
    if case["reason"] != "excluded" and not told:
        told.append("low similarity")
    if case["reason"] not in (None, "none"):
        told.append(reason_name(case["reason"], picked["cues"]) + evidence)
    return "; ".join(told)


def _evidence(case: Content, portrait: Content | None) -> str:
    """What decided, with a blank before it: the portrait, a segment by its rank in the list, or a name."""
    if case["evidence"] is None:
        return ""
    if portrait is not None and case["evidence"] == portrait["segment"]:
        return ": portrait"
    return f" {NUMBER}{case['evidence_rank']}" if case["evidence_rank"] else f": {case['evidence']}"


def _named(name: str, names: Mapping[str, str]) -> str:
    original = names.get(name, name)
    return name if original == name else f"{name} ({original})"


def _percent(share: float | None) -> str:
    return cell(None if share is None else 100 * share, 1)
