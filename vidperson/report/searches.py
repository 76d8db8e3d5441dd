"""What the report says of searched sets: tables of systems, persons and segments, and the items that decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidperson.report.tables import Result, Row, Table, cell, several_modalities

MODEL_RANKS = (1, 5, 10)
REASONS = "Reasons"


def search_rows(results: Sequence[Result]) -> list[Row]:
    """One row per result, every figure at full precision; None where a set has no key, or no strangers.

    Raises KeyError for a result that lacks a field.
    """
    several = several_modalities(results)
    rows = []
    for result in results:
        segments, nobody = result.get("segments") or {}, result.get("nobody") or {}
        row: Row = {"set": result["name"]} | ({"modality": result["modality"]} if several else {})
        row |= {key: result[key] for key in ("system", "backend", "calibrated_on", "num_segments", "num_models")}
        row |= {"num_keyed_models": result.get("number of models"), "max_rank": result["max_rank"]}
        row |= {"map": result.get("mAP"), "map_capped": result.get("mAP capped")}
        row |= dict(zip(("map_low", "map_high"), result.get("mAP interval", (None, None)), strict=True))
        row |= {"map_per_group": result.get("mAP per group"), "num_groups": len(result.get("groups", ())) or None}
        row |= {f"rank_{rank}": result.get(f"rank-{rank}") for rank in MODEL_RANKS}
        row["models_without_list"] = result.get("models without a list")
        row |= {"cmc_rank_1": segments.get("rank-1"), "cmc_rank_5": segments.get("rank-5")}
        row["num_strangers"] = segments.get("strangers")
        points = {point["fpir"]: point for point in segments.get("points", ())}
        for fpir in result["fpirs"]:
            row |= {f"{name}_at_fpir_{fpir:g}": points.get(fpir, {}).get(name) for name in ("fnir", "dir")}
        decided = segments.get("decided") or {}
        row |= {"threshold": decided.get("threshold"), "false_alarms": decided.get("false alarms")}
        row["misses"] = decided.get("misses")
        for name in ("cross-entropy", "minimum cross-entropy", "constant cross-entropy", "Brier score"):
            row["nobody_" + name.lower().replace(" ", "_").replace("-", "_")] = nobody.get(name)
        row["segments_without_items"] = sum(result["without_items"].values())
        row["models_without_items"] = len(result["models_without_items"])
        rows.append(row)
    return rows


def best_first(results: Sequence[Result]) -> list[Result]:
    """Sorted by mAP within each set, the sets in their order; systems of equal mAP in theirs."""
    sets = list(dict.fromkeys(result["name"] for result in results))
    return sorted(results, key=lambda result: (sets.index(result["name"]), -result.get("mAP", 0.0)))


def map_table(results: Sequence[Result]) -> Table:
    """Systems with the figures of their lists per model and per segment, in per cent; those of sets with a key.

    Where models are searched in several groups, such as films, or by several modalities, those of models come first.
    """
    results = [result for result in results if result.get("mAP") is not None]
    columns, of_models = _columns(results), _of_models(results)
    length = "/".join(dict.fromkeys(f"{result['max_rank']}" for result in results))
    head = [*columns, f"mAP@{length} %", "95 % interval"]
    head += ["per group %", *(f"rank-{rank} %" for rank in MODEL_RANKS)] if of_models else ["capped %"]
    head += ["segment rank-1 %", *([] if of_models else ["rank-5 %"])]
    body = []
    for result in best_first(results):
        segments = result.get("segments") or {}
        interval = result.get("mAP interval")
        line = [*(result[field] for field in columns.values()), _percent(result.get("mAP"))]
        line.append(f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else "-")
        names = ["mAP per group", *(f"rank-{rank}" for rank in MODEL_RANKS)] if of_models else ["mAP capped"]
        line += [_percent(result.get(name)) for name in names]
        body.append(line + [_percent(segments.get(f"rank-{rank}")) for rank in ((1,) if of_models else (1, 5))])
    return head, body


def _of_models(results: Sequence[Result]) -> bool:
    """Whether the table of systems tells more of models than of segments."""
    return any("mAP per group" in result or "cues" in result for result in results)


def open_set_table(results: Sequence[Result]) -> Table:
    """Systems with FNIR and DIR, the decision at the calibrated threshold, and the quality of P(nobody)."""
    columns = _columns(results)
    shown = [result for result in best_first(results) if (result.get("segments") or {}).get("points")]
    fpirs = list(dict.fromkeys(fpir for result in shown for fpir in result["fpirs"]))
    marks = {fpir: "*" if fpir in _unresolved(shown) else "" for fpir in fpirs}
    head = list(columns)
    head += [f"{name} at FPIR {100 * fpir:g} %{marks[fpir]}" for fpir in fpirs for name in ("FNIR", "DIR")]
    more = ["false alarms %", "misses %", "P(nobody), bits", "least", "constant"]
    decided = any("decided" in result["segments"] or result.get("nobody") for result in shown)
    body = []
    for result in shown:
        points = {point["fpir"]: point for point in result["segments"]["points"]}
        line = [result[field] for field in columns.values()]
        for fpir in fpirs:
            line += [_percent(points.get(fpir, {}).get(name)) for name in ("fnir", "dir")]
        at, nobody = result["segments"].get("decided") or {}, result.get("nobody") or {}
        entropies = [f"{kind}cross-entropy" for kind in ("", "minimum ", "constant ")]
        cells = [_percent(at.get("false alarms")), _percent(at.get("misses"))]
        cells += [cell(nobody.get(name), 3) for name in entropies]
        body.append(line + (cells if decided else []))
    return head + (more if decided else []), body


def set_table(results: Sequence[Result]) -> Table:
    """How large each searched set is; a line per set and modality. Without any key, its counts are left out."""
    keyed = any(result.get("segments") or result.get("relevant segments") is not None for result in results)
    single = [result for result in results if "cues" not in result] or results
    several = several_modalities(single)
    head = ["set", *(["modality"] if several else []), "segments", *(["of strangers"] if keyed else [])]
    head += ["persons searched", *(["with a key", "right segments"] if keyed else []), "persons without a list"]
    head += ["without a usable item", "by status"]
    body = []
    for result in {(result["name"], result["modality"]): result for result in single}.values():
        states = result["without_items"]
        strangers = (result.get("segments") or {}).get("strangers")
        counts = [result["num_segments"], *([strangers] if keyed else []), result["num_models"]]
        counts += [result.get("number of models"), result.get("relevant segments")] if keyed else []
        counts += [len(result["models_without_items"]), sum(states.values())]
        cells = ["-" if count is None else str(count) for count in counts]
        by_status = ", ".join(f"{state} {count}" for state, count in states.items()) or "-"
        body.append([result["name"], *([result["modality"]] if several else []), *cells, by_status])
    return head, body


def cue_table(results: Sequence[Result]) -> Table:
    """Of the sets that are searched by several modalities together: persons without an item, segments by status."""
    sets = {result["name"]: result for result in results if "cues" in result}
    modalities = list(dict.fromkeys(modality for result in sets.values() for modality in result["statuses"]))
    head = ["set", "persons searched", "without a usable item", "segments", *modalities]
    body = []
    for name, result in sets.items():
        states = [result["statuses"].get(modality, {}) for modality in modalities]
        told = [", ".join(f"{state} {count}" for state, count in found.items()) or "-" for found in states]
        counts = [result["num_models"], len(result["models_without_items"]), result["num_segments"]]
        body.append([name, *map(str, counts), *told])
    return head, body


def reason_table(results: Sequence[Result]) -> Table:
    """Systems that tell why a segment has its rank, with the number of lines of each reason."""
    shown = [result for result in best_first(results) if "reasons" in result]
    columns = _columns(shown)
    reasons = list(dict.fromkeys(reason for result in shown for reason in result["reasons"]))
    cues: Mapping[str, str] = next((result["cues"] for result in shown), {})
    head = [*columns, *(reason_name(reason, cues) for reason in reasons)]
    lines = [
        [*(result[field] for field in columns.values()), *(str(result["reasons"][reason]) for reason in reasons)]
        for result in shown
    ]
    return head, lines


def count_tables(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Titles and tables of what was counted, those with lines."""
    titles = {"Searched sets": set_table, REASONS: reason_table, "Status of what is searched": cue_table}
    made = [(title, table(results)) for title, table in titles.items()]
    return [(title, table) for title, table in made if table[1]]


def reason_name(reason: str, cues: Mapping[str, str]) -> str:
    """A reason as people read it: the modality for a cue. cues: cue -> modality."""
    return cues.get(reason, reason)


def _unresolved(results: Sequence[Result]) -> list[float]:
    """The FPIRs that some set has too few strangers for."""
    points = [point for result in results for point in result["segments"].get("points", ())]
    return sorted({point["fpir"] for point in points if not point["resolved"]})


def map_note(results: Sequence[Result]) -> str:
    """What the figures of :func:`map_table` mean, and which are too good."""
    learnt = [(result["backend"], name) for result in results for name in (result.get("learnt_from") or "").split()]
    too_good = "its figures there, and what is calibrated there, are too good."
    parts = [
        "mAP: mean average precision over the persons of the key, divided by all right segments, as iQIYI-VID and "
        "WIDER Person Search define it; a person without a list counts 0."
    ]
    parts += [OF_MODELS_NOTE] if _of_models(results) else [OF_SEGMENTS_NOTE]
    parts.append(
        "Intervals: bootstrap over persons. Segment rank-1: share of the segments with a person for which the right "
        "one is the best."
    )
    parts += [f"{system} learnt from {name}: {too_good}" for system, name in dict.fromkeys(learnt)]
    return " ".join(parts)


OF_SEGMENTS_NOTE = "Capped: divided by at most as many segments as a list may hold."
OF_MODELS_NOTE = (
    "Per group: mean of the means of the groups, such as films. Rank-1, 5, 10: share of the persons with a right "
    "segment so far up."
)


def open_set_notes(results: Sequence[Result]) -> list[str]:
    """What the figures of :func:`open_set_table` mean, and how far to trust them."""
    parts = []
    keyed = [result for result in results if result.get("segments")]
    strangers = sorted({result["segments"]["strangers"] for result in keyed})
    if keyed and strangers[-1]:
        parts.append(
            "FNIR: share of the segments with a person without the right one at the threshold that lets pass at most "
            "that share of strangers (FPIR). DIR: share with the right person first, at that threshold."
        )
        if unresolved := _unresolved(keyed):
            shares = " and ".join(f"{100 * fpir:g} %" for fpir in unresolved)
            parts.append(
                f"* {' to '.join(map(str, dict.fromkeys((strangers[0], strangers[-1]))))} strangers cannot resolve an "
                f"FPIR of {shares}: the figures are those without any false positive."
            )
    elif keyed:
        parts.append("There are no strangers, so there are no open-set figures.")
    if any(result.get("nobody") for result in keyed):
        parts.append(
            "False alarms: share of the strangers that reach the threshold of the wished false-alarm rate; misses: "
            "share of the other segments without the right person there. P(nobody): cross-entropy in bits of the "
            "probability that a segment shows no person that is searched; least: after the best monotone map; "
            "constant: of the share of strangers."
        )
    on = sorted({result["calibrated_on"] for result in results if result["calibrated_on"]})
    if on:
        counts = {result["name"]: result["segments"]["strangers"] for result in keyed}
        sets = " and ".join(f"{name} with {counts[name]} strangers" if name in counts else name for name in on)
        parts.append(f"The threshold and P(nobody) were set on {sets}: its own figures are too good.")
    return parts


def curve_names(results: Sequence[Result]) -> list[str]:
    """What systems are called in plots: with the network, where there are several."""
    several = len({result["system"] for result in results if result["backend"] != "fusion"}) > 1
    fused = [result["backend"] == "fusion" or not several for result in results]
    return [
        result["backend"] if short else f"{result['system']} {result['backend']}"
        for result, short in zip(results, fused, strict=True)
    ]


def _columns(results: Sequence[Result]) -> dict[str, str]:
    """Head and field of the columns that tell the results apart; a network alone is in the title of the report."""
    fields = {"set": "name", "modality": "modality", "system": "backend", "network": "system"}
    return {
        head: field
        for head, field in fields.items()
        if head == "system" or len({result[field] for result in results}) > 1
    }


def _percent(share: float | None) -> str:
    return cell(None if share is None else 100 * share, 2)


PICKED_NOTE = (
    "Each person with the right segment that was ranked best, wrong ones that were ranked best, and right ones that "
    "were ranked behind a wrong one or not at all. Shown are the track that gave the score, and the nearest track that "
    "the person was enrolled with."
)
NOT_COMPARED = (
    "This system compares a track with persons, not with their segments: the nearest is that with the largest cosine "
    "of embeddings."
)


def picked_note(picked: Mapping[str, Any]) -> str:
    """What is shown of the persons."""
    cases = [case for kind in ("worst", "best") for person in picked[kind] for case in person["cases"]]
    compared = all(case["compares"] for case in cases if case["cosine"] is not None)
    return PICKED_NOTE if compared else f"{PICKED_NOTE} {NOT_COMPARED}"


def persons_table(picked: Mapping[str, Any]) -> tuple[str, int, Table]:
    """Title, number in all, and table of the persons that steps/pick_ranks.py wrote: those that went worst first."""
    some = any(row["average_precision"] is not None for row in picked["persons"])
    head = ["person", *(["AP %", "first right", "right segments", "found"] if some else []), "best segments"]
    body = []
    for row in picked["persons"]:
        keyed = row["average_precision"] is not None
        first = "-" if row["first_hit"] is None else str(row["first_hit"])
        counts = [str(row["relevant"]), str(row["found"])] if keyed else ["-", "-"]
        figures = [_percent(row["average_precision"]), first, *counts] if some else []
        segments = " ".join(_segment(*segment) for segment in row["best"])
        body.append([_named(row["model"], picked["names"]), *figures, segments or "-"])
    return "Persons", picked["num_persons"], (head, body)


def _named(name: str, names: Mapping[str, str]) -> str:
    """An id, with its original name after it where that is another one."""
    original = names.get(name, name)
    return name if original == name else f"{name} ({original})"


def _segment(segment: str, score: float, right: bool | None) -> str:
    mark = {True: "\N{CHECK MARK}", False: "\N{MULTIPLICATION X}", None: ""}[right]
    return f"{mark}{segment} ({score:.3f})"


def segments_table(picked: Mapping[str, Any]) -> tuple[str, int, Table]:
    """Likewise of segments: what went wrong first."""
    probable = any(row["nobody"] is not None for row in picked["segments"])
    keyed = any(row["shows"] is not None for row in picked["segments"])
    head = ["segment", *(["shows", "result"] if keyed else []), *(["P(nobody)"] if probable else [])]
    head += ["score", "best persons", "status"]
    body = []
    for row in picked["segments"]:
        best = row["best"]
        truth = [" ".join(row["shows"] or ()) or "nobody", row["result"]] if keyed else []
        persons = " ".join(f"{model} ({score:.3f})" for model, score in best) or "-"
        score = f"{best[0][1]:.3f}" if best else "-"
        chance = [cell(row["nobody"], 3)] if probable else []
        body.append([_named(row["segment"], picked["names"]), *truth, *chance, score, persons, row["status"]])
    return "Segments", picked["num_segments"], (head, body)


def shown_person(person: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of a person and of the items that decided. names: id -> original name, where there is one.

    Gives ``name``, ``facts`` and ``cases``, each with what it was given and ``title``, ``shows`` and ``note``.
    """
    first = (
        "no right segment listed"
        if person["first_hit"] is None
        else f"first right segment at rank {person['first_hit']}"
    )
    facts = [f"AP {100 * person['average_precision']:.1f} %", first, f"right segments: {person['relevant']}"]
    facts.append(f"enrolled with {person['enrolled']}")
    return {
        "name": _named(person["model"], names),
        "facts": " \N{MIDDLE DOT} ".join(facts),
        "cases": [_case(case) for case in person["cases"]],
    }


_KINDS = {"right": "right, ranked best", "wrong": "wrong", "missed": "right, ranked too low"}


def _case(case: Mapping[str, Any]) -> dict[str, Any]:
    title = _KINDS[case["kind"]] if case["rank"] is not None else "right, not listed"
    shows = (" ".join(case["shows"]) or "nobody") if case["kind"] == "wrong" else ""
    note = ""
    if not case["why"] and case["cosine"] is not None:
        tracks = f", 1 of {case['tracks']} tracks" if case["tracks"] > 1 else ""
        of = "two tracks" if case["compares"] else "two tracks' embeddings"
        note = f"cosine {case['cosine']:.3f} of the {of}{tracks}"
    return {**case, "title": title, "shows": shows, "note": note}
