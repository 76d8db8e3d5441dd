"""Result tables as aligned text, Markdown, CSV and plain rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vidperson.types import HEARD, ITEMS

_NOTHING = {items: f"no_{modality}" for modality, items in ITEMS.items()}

RESULT_COLUMNS = (
    *("set", "modality", "system", "backend", "submean_set", "snorm_cohort", "calibrated_on", "quality_measures"),
    *("num_trials", "num_targets", "num_nontargets"),
    *("eer", "eer_low", "eer_high", "eer_point"),
    *("min_cprimary", "act_cprimary", "primary_definition", "cllr", "min_cllr"),
    *("prior", "min_dcf", "min_dcf_low", "min_dcf_high", "act_dcf", "c_miss", "c_fa", "normalisation"),
)
"""Keys of a result row; the modality is left out where there is only one, _RARE ones where no result has any."""

_RARE = ("submean_set", "quality_measures")

INTERVAL_PRIORS = (0.05, 0.01)
"""Priors of the min DCF that reports on speaker verification give."""

MOST_LISTED = 1000
"""Lines of a long list beyond which a page cuts it off, with a word on where the rest is."""

Row = dict[str, Any]
Result = Mapping[str, Any]
"""What evaluate.py writes for one system and set."""

Table = tuple[list[str], list[list[str]]]
"""Head and lines of cells, as people read them."""


def label(result: Result, with_system: bool = False, with_modality: bool = False) -> str:
    """What a system is called in tables and plots, such as ``max, s-norm, calibrated``.

    with_system: where there are several, with the network before it. with_modality: likewise, and the modality first,
    as ``face/arcface_tiny/max``.
    """
    name = result["backend"] or result["system"]
    if is_fusion(result):  # its name says whether it is calibrated
        return str(name)
    if with_modality and result["backend"]:
        name = f"{result['modality']}/{result['system']}/{name}"
    elif with_system and result["backend"]:
        name = f"{result['system']} {name}"
    made = [word for word, key in (("sub-mean", "submean_set"), ("s-norm", "snorm_cohort")) if result.get(key)]
    calibrated = "with quality" if result.get("quality_measures") else "calibrated" if result["calibrated_on"] else ""
    return ", ".join([name, *made, *([calibrated] if calibrated else [])])


def is_fusion(result: Result) -> bool:
    """Whether a result is of the scores of several systems, in whatever way they are fused."""
    return str(result["backend"]).split("-")[0] == "fusion"


def several_modalities(results: Sequence[Result]) -> bool:
    """Whether the tables say which modality a result is of."""
    return len({result["modality"] for result in results}) > 1


def result_rows(results: Sequence[Result]) -> list[Row]:
    """One row per result and prior, with the keys of ``RESULT_COLUMNS``; a result without a key gives one row.

    Raises KeyError for a result that lacks a field.
    """
    rows: list[Row] = []
    left_out = {key for key in _RARE if not any(result.get(key) for result in results)}
    left_out |= set() if several_modalities(results) else {"modality"}
    columns = [key for key in RESULT_COLUMNS if key not in left_out]
    for result in results:
        about = ("modality", "system", "backend", "snorm_cohort", "calibrated_on", "num_trials")
        common = {key: result[key] for key in about} | {key: result.get(key) for key in _RARE}
        common["set"] = result["name"]
        if not result["has_key"]:
            rows.append(dict.fromkeys(columns) | common)
            continue
        once = ("num_targets", "num_nontargets", "eer", "cllr", "min_cllr", "c_miss", "c_fa", "normalisation")
        common |= {key: result[key] for key in once}
        common["eer_point"] = result.get("eer_point")
        common["eer_low"], common["eer_high"] = _interval(result, "eer") or (None, None)
        primary = result["primary"]
        common |= {"min_cprimary": primary["min"], "act_cprimary": primary["act"]}
        common["primary_definition"] = primary["definition"]
        for place, point in enumerate(result["dcf"]):
            low, high = _interval(result, "min_dcf", place) or (None, None)
            costs = {"min_dcf": point["min"], "min_dcf_low": low, "min_dcf_high": high, "act_dcf": point["act"]}
            rows.append(common | {"prior": point["prior"]} | costs)
    return [{key: row[key] for key in columns} for row in rows]


def result_table(results: Sequence[Result]) -> Table:
    """The table of systems and sets: EER, C_primary and Cllr; a line per result, in the order given."""
    several = several_modalities(results)
    head = [*_head(several), "EER %", "min Cp", "act Cp", "min Cllr", "Cllr"]
    body = []
    for result in results:
        figures = [None] * 5
        if result["has_key"]:
            primary = result["primary"]
            figures = [100 * result["eer"], primary["min"], primary["act"], result["min_cllr"], result["cllr"]]
        cells = [cell(value, 3 if i == 0 else 4) for i, value in enumerate(figures)]
        body.append(_names(result, several) + cells)
    return head, body


def best_first(results: Sequence[Result]) -> list[Result]:
    """Those with a key: by the minimum of C_primary, of equals by EER, then by the actual C_primary."""
    keyed = [result for result in results if result["has_key"]]
    return sorted(keyed, key=lambda one: (one["primary"]["min"], one["eer"], one["primary"]["act"]))


def best_table(results: Sequence[Result]) -> Table:
    """The best system of each set that has a key, with its main figures and the number of trials."""
    best = {result["name"]: result for result in reversed(best_first(results))}
    sets = [name for name in dict.fromkeys(result["name"] for result in results) if name in best]
    several = len({result["system"] for result in results if not is_fusion(result)}) > 1
    modalities = several_modalities(results)
    head = ["set", "best system", "EER %", "95 %", "min Cp", "act Cp", "Cllr", "trials", "targets"]
    body = []
    for result in map(best.__getitem__, sets):
        primary = result["primary"]
        line = [result["name"], label(result, several, modalities), cell(100 * result["eer"], 3)]
        line += [_span(_interval(result, "eer"), 100, 2), cell(primary["min"], 4), cell(primary["act"], 4)]
        body.append([*line, cell(result["cllr"], 4), str(result["num_trials"]), str(result["num_targets"])])
    return head, body


def on_itself(result: Result) -> bool:
    """Whether the figures of a result are too good, as its scores were calibrated on the same set."""
    return bool(result["calibrated_on"] == result["name"])


def with_labels(table: Table, results: Sequence[Result], labels: Sequence[str]) -> Table:
    """A table of one set, a line per result. One label names a system, in place of several columns."""
    names = len(_head(several_modalities(results)))
    head, lines = table
    return ["system", *head[names:]], [[one, *line[names:]] for one, line in zip(labels, lines, strict=True)]


def interval_table(results: Sequence[Result]) -> Table:
    """EER and min DCF at the INTERVAL_PRIORS with their intervals, ``-`` without any; a line per result with a key."""
    keyed = [result for result in results if result["has_key"]]
    priors = [prior for prior in INTERVAL_PRIORS if any(p["prior"] == prior for r in keyed for p in r["dcf"])]
    several = several_modalities(results)
    head = [*_head(several), "EER %", "95 %", "EER pt %"]
    head += [name for prior in priors for name in (f"min DCF {prior:g}", "95 %")]
    body = []
    for result in keyed:
        point = result.get("eer_point")
        cells = [cell(100 * result["eer"], 3), _span(_interval(result, "eer"), 100, 2)]
        cells.append(cell(None if point is None else 100 * point, 3))
        places = {point["prior"]: place for place, point in enumerate(result["dcf"])}
        for prior in priors:
            place = places.get(prior)
            cells.append(cell(None if place is None else result["dcf"][place]["min"], 4))
            cells.append(_span(None if place is None else _interval(result, "min_dcf", place), 1, 3))
        body.append(_names(result, several) + cells)
    return head, body


def _interval(result: Result, figure: str, place: int | None = None) -> list[float] | None:
    """The interval of a figure of a result; place: of several. None where there is none."""
    found = (result.get("interval") or {}).get(figure)
    return found if found is None or place is None else found[place]


def _span(interval: Sequence[float] | None, factor: float, digits: int) -> str:
    return "-" if interval is None else "..".join(cell(factor * end, digits) for end in interval)


def dcf_table(results: Sequence[Result]) -> Table:
    """min and act DCF at each prior; a line per result that has a key."""
    keyed = [result for result in results if result["has_key"]]
    priors = list(dict.fromkeys(point["prior"] for result in keyed for point in result["dcf"]))
    several = several_modalities(results)
    head = _head(several)
    head += [f"{kind} DCF {prior:g}" for prior in priors for kind in ("min", "act")]
    body = []
    for result in keyed:
        points = {point["prior"]: point for point in result["dcf"]}
        body.append(
            _names(result, several)
            + [cell(points.get(prior, {}).get(kind), 4) for prior in priors for kind in ("min", "act")]
        )
    return head, body


def trial_table(results: Sequence[Result]) -> Table:
    """How many trials each set has; a line per set."""
    sets = {result["name"]: result for result in results}
    counts = ("num_trials", "num_targets", "num_nontargets")
    body = [[name, *(cell(result.get(count), 0) for count in counts)] for name, result in sets.items()]
    return ["set", "trials", "targets", "nontargets"], body


def result_note(results: Sequence[Result]) -> str:
    """What the figures mean: definitions, costs, normalisation, and how far to trust them."""
    keyed = [result for result in results if result["has_key"]]
    parts = ["EER on the ROC convex hull; Cllr in bits."]
    definitions = {(p["definition"], tuple(p["priors"]), bool(p["partitions"])) for p in (r["primary"] for r in keyed)}
    for definition, priors, partitions in sorted(definitions):
        listed = " and ".join(f"{prior:g}" for prior in priors)
        mean = "the DCF at P = " if len(priors) == 1 else "the mean of the DCF at P = "
        parts.append(
            f"Cp is C_primary of {definition}: {mean}{listed}"
            + (", partitions of equal weight." if partitions else ".")
        )
    for miss, fa, by in sorted({(r["c_miss"], r["c_fa"], r["normalisation"]) for r in keyed}):
        parts.append(f"Costs: C_miss = {miss:g}, C_fa = {fa:g}, divided by {by}.")
    for cohort in sorted({r["snorm_cohort"] for r in results} - {None}):
        items = dict.fromkeys(ITEMS.get(word, "items") for r in results for word in r["modality"].split(" + "))
        parts.append(f"s-norm: by the {' and '.join(items)} of {cohort}.")
    for trained_on in sorted({r["calibrated_on"] for r in results} - {None}):
        parts.append(f"Calibration: trained on {trained_on}; its own calibrated figures (on itself) are too good.")
    parts.append(
        "act Cp, act DCF and Cllr take scores as natural log-likelihood ratios: without calibration they say little."
    )
    return " ".join(parts)


def interval_note(results: Sequence[Result]) -> str:
    """What the intervals are of."""
    parts = ["EER pt: at the nearest point of the ROC, the larger error, as AVCleanse reads it."]
    drawn = [(result, result["interval"]) for result in results if result.get("interval")]
    for name, found in {result["name"]: found for result, found in drawn}.items():
        parts.append(f"{name}: {found['persons']} persons, drawn {found['draws']} times.")
    if not drawn:
        parts.append("No intervals: they need 5 persons, and at most 2,000,000 trials.")
    return " ".join([parts[0], "Intervals: bootstrap over persons, as target trials tell them.", *parts[1:]])


def _head(several: bool) -> list[str]:
    return ["set", *(["modality"] if several else []), "system", "back-end", "s-norm", "calibrated"]


def _names(result: Result, several: bool) -> list[str]:
    trained_on = result["calibrated_on"]
    calibrated = "no" if not trained_on else "on itself" if on_itself(result) else "yes"
    if result.get("quality_measures"):
        calibrated += f", by {result['quality_measures']}"
    return [
        result["name"],
        *([result["modality"]] if several else []),
        result["system"],
        ", ".join([result["backend"] or "-", *(["sub-mean"] if result.get("submean_set") else [])]),
        "yes" if result["snorm_cohort"] else "no",
        calibrated,
    ]


def cell(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point; ``-`` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def states_of(items: str, statuses: Iterable[str] = ()) -> tuple[str, ...]:
    """What the status of a segment may begin with, the good one first. items: what is found, as ``faces``.

    statuses: what other states there are is taken from these.
    """
    usual = ("ok", "silent", "short", "no_audio") if items in HEARD else ("ok", "unsure", _NOTHING[items])
    bad = ("damaged", "unreadable")
    others = sorted({status.partition(":")[0] for status in statuses} - {*usual, *bad})
    return (*usual, *others, *bad)


def status_row(name: str, statuses: Mapping[str, str], items: str, count: int | None) -> Row:
    """How many items a set has and how many segments are in each state; a status is ``<state>[: <why>]``.

    items: what is counted, such as ``faces``.
    """
    states = [status.partition(":")[0] for status in statuses.values()]
    counts = {state: states.count(state) for state in states_of(items, states)}
    return {"set": name, "segments": len(states), items: count} | counts


def status_table(rows: Sequence[Row], items: str) -> Table:
    """Rows of :func:`status_row` as people read them."""
    found = [key for row in rows for key in row if key not in ("set", "segments", items, "problems")]
    head = ["set", "segments", items, *states_of(items, found)]
    return head, [["-" if row.get(key, 0) is None else str(row.get(key, 0)) for key in head] for row in rows]


def problems(statuses: Mapping[str, str]) -> dict[str, str]:
    """The segments that are not ``ok``, with their status."""
    return {segment: status for segment, status in statuses.items() if status != "ok"}


def is_number(text: str) -> bool:
    """Whether a cell holds a number or, as ``-``, none."""
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def number_columns(table: Table) -> list[bool]:
    """Which columns hold numbers only; the first one tells of what they are."""
    head, body = table
    return [i > 0 and all(is_number(line[i]) for line in body) for i in range(len(head))]


def text_table(table: Table) -> str:
    """Columns aligned with spaces: numbers to the right, words and the first column to the left."""
    lines = [table[0], *table[1]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table[0]))]
    rows = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, number_columns(table), strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(rows) + "\n"


def markdown_table(table: Table) -> str:
    """The table in GitHub's Markdown; what would be markup in a name is shown as it is."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_literal(text) for text in cells) + " |\n"

    head, body = table
    rule = ["--:" if right else "---" for right in number_columns(table)]
    return line(head) + "|" + "|".join(rule) + "|\n" + "".join(map(line, body))


def _literal(text: str) -> str:
    # an underscore within a word is no markup
    for sign in "\\`*|<>[]":
        text = text.replace(sign, "\\" + sign)
    return text


def csv_table(rows: Sequence[Row]) -> str:
    """Rows as CSV at full precision, with the keys of all of them; an empty field where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
