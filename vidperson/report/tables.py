"""Result tables as text, CSV and plain rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

STATES = ("ok", "no_face", "damaged", "unreadable")

RESULT_COLUMNS = {
    "set": "set",
    "system": "system",
    "num_trials": "trials",
    "num_targets": "targets",
    "num_nontargets": "nontargets",
    "eer": "EER %",
    "prior": "prior",
    "min_dcf": "min DCF",
    "act_dcf": "act DCF",
    "c_miss": "C_miss",
    "c_fa": "C_fa",
    "normalisation": "DCF normalised by",
}
"""Keys of a result row and what stands above them in a table."""

NOTE = (
    "EER on the ROC convex hull. The act DCF takes scores as natural log-likelihood ratios: "
    "without calibration it says little."
)

Row = dict[str, Any]


def result_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per set and prior out of the per-set JSON files' contents; a set without a key gives one row.

    Raises KeyError for a result that lacks a field.
    """
    rows: list[Row] = []
    for result in results:
        common = {"set": result["name"], "system": result["system"], "num_trials": result["num_trials"]}
        if not result["has_key"]:
            rows.append(dict.fromkeys(RESULT_COLUMNS) | common)
            continue
        common |= {
            key: result[key]
            for key in ("num_targets", "num_nontargets", "eer", "c_miss", "c_fa", "normalisation")
        }
        for point in result["dcf"]:
            rows.append(common | {"prior": point["prior"], "min_dcf": point["min"], "act_dcf": point["act"]})
    return [{key: row[key] for key in RESULT_COLUMNS} for row in rows]


def status_row(name: str, statuses: Mapping[str, str]) -> Row:
    """How many segments of a set are in each state; a status is ``<state>[: <why>]``."""
    states = [status.partition(":")[0] for status in statuses.values()]
    return {"set": name, "segments": len(states)} | {state: states.count(state) for state in STATES}


def problems(statuses: Mapping[str, str]) -> dict[str, str]:
    """The segments that are not ``ok``, with their status."""
    return {segment: status for segment, status in statuses.items() if status != "ok"}


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as people read it: rounded, EER in per cent, ``-`` for what there is none of."""

    def cell(key: str, value: Any) -> str:
        if value is None:
            return "-"
        if key == "eer":
            return f"{100 * value:.3f}"
        if key in ("min_dcf", "act_dcf"):
            return f"{value:.4f}"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return [cell(key, value) for key, value in row.items()]


def text_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces: numbers to the right, words and the first column to the left."""
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    numeric = [i > 0 and all(_is_number(line[i]) for line in body) for i in range(len(head))]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in (head, *body)
    ]
    return "\n".join(lines) + "\n"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def csv_table(rows: Sequence[Row]) -> str:
    """Rows with equal keys as CSV at full precision; an empty field where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
