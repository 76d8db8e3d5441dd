"""Result tables as text, CSV and plain rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

STATES = ("ok", "no_face", "damaged", "unreadable")

SET_COLUMNS = {
    "set": "set",
    "system": "system",
    "num_trials": "trials",
    "num_targets": "targets",
    "num_nontargets": "nontargets",
    "eer": "EER %",
}
"""Keys of a result that it has once per set, and what stands above them in a table."""

RESULT_COLUMNS = (*SET_COLUMNS, "prior", "min_dcf", "act_dcf", "c_miss", "c_fa", "normalisation")
"""Keys of a result row."""

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
            key: result[key] for key in ("num_targets", "num_nontargets", "eer", "c_miss", "c_fa", "normalisation")
        }
        for point in result["dcf"]:
            rows.append(common | {"prior": point["prior"], "min_dcf": point["min"], "act_dcf": point["act"]})
    return [{key: row[key] for key in RESULT_COLUMNS} for row in rows]


def result_table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table that people read: a line per set, two columns per prior."""
    points = {
        (row["prior"], name): None
        for row in result_rows(results)
        if row["prior"] is not None
        for name in ("min", "act")
    }
    head = [*SET_COLUMNS.values(), *(f"{name} DCF {prior:g}" for prior, name in points)]
    body = []
    for result in results:
        rows = result_rows([result])
        values = {(row["prior"], name): row[f"{name}_dcf"] for row in rows for name in ("min", "act")}
        line = {key: rows[0][key] for key in SET_COLUMNS} | {
            f"{name}_dcf_{prior}": values.get((prior, name)) for prior, name in points
        }
        body.append(cells(line))
    return head, body


def result_note(results: Sequence[Mapping[str, Any]]) -> str:
    """What the figures of :func:`result_table` mean: costs, normalisation, and how far to trust them."""
    costs = {(r["c_miss"], r["c_fa"], r["normalisation"]) for r in results if r["has_key"]}
    meaning = "; ".join(f"C_miss = {miss:g}, C_fa = {fa:g}, divided by {by}" for miss, fa, by in sorted(costs))
    return (
        "EER on the ROC convex hull. min and act DCF at the prior P that is named"
        + (f": {meaning}. " if meaning else ". ")
        + "The act DCF takes scores as natural log-likelihood ratios: without calibration it says little."
    )


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
        if key.startswith(("min_dcf", "act_dcf")):
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
