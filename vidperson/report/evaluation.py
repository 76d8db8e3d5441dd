"""The report on an evaluation: one page, of each set the best system first and the others folded.

The functions return parts of the page as markup, out of what the steps of stage 5 wrote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidperson.report import page, plots, searches, sounds, tables
from vidperson.report.tables import Result, Table
from vidperson.types import HEARD, ITEMS

if TYPE_CHECKING:
    from markupsafe import Markup

INTERVALS, COSTS = "Error rates with 95 % intervals", "Detection costs at each prior"


@dataclass
class Section:
    """A part of the report under a title. ``parts``: markup, as the functions below return it."""

    title: str
    parts: list[Markup] = field(default_factory=list)


@dataclass(frozen=True)
class SystemPlots:
    """A system with the plots that are its own."""

    name: str
    histogram: plots.Plot
    calibration: plots.Plot


def evaluation_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    return page.render("evaluation.html.j2", title=title, subtitle=subtitle, sections=sections)


def summary(results: Sequence[Result], searched: Sequence[Result]) -> list[Markup]:
    """What comes first: the best system of each set, and what the figures mean."""
    parts = []
    if results:
        blind = {result["name"]: result["num_trials"] for result in results if not result["has_key"]}
        found = {"best": tables.best_table(results), "blind": blind, "note": tables.result_note(results)}
        parts.append(page.part("summary.html.j2", **found))
    if searched:
        best: dict[str, Result] = {}
        for result in searches.best_first(searched):
            best.setdefault(result["name"], result)
        ranked, strangers = searches.map_table(list(best.values())), searches.open_set_table(list(best.values()))
        note = searches.map_note(searched) if ranked[1] else ""
        values = {"ranked": ranked, "note": note, "strangers": strangers, "notes": searches.open_set_notes(searched)}
        counts = [found for found in searches.count_tables(searched) if found[0] != searches.REASONS]
        parts.append(page.part("searched_summary.html.j2", counts=counts, **values))
    return parts


def test_set(results: Sequence[Result], picked: Sequence[Markup] = ()) -> Markup:
    """The part about a set of trials. picked: parts that come last.

    Raises KeyError, TypeError or ValueError for results that are none.
    """
    ordered = tables.best_first(results)
    several = len({result["system"] for result in results if not tables.is_fusion(result)}) > 1
    modalities = tables.several_modalities(results)
    named = {tables.label(result, several, modalities): result for result in ordered}
    values: dict[str, Any] = {"facts": _facts(results[0]) if results else "", "systems": [], "picked": picked}
    if named:
        primary = ordered[0]["primary"]
        thresholds = ", ".join(f"{threshold:.2f}" for threshold in primary["thresholds"])
        shown = dict(list(named.items())[: plots.MOST_CURVES])
        left_out = f" The best {len(shown)} of {len(named)} systems." if len(shown) < len(named) else ""
        best = next(iter(named))
        values |= {
            "det": plots.det_plot({name: found["det"] for name, found in shown.items()}, f"DET curves; best: {best}"),
            "det_caption": DET_NOTE + left_out,
            "histogram_caption": f"Scores of {best}. The Bayes threshold for log-likelihood ratios: {thresholds}.",
            "calibration_caption": f"Calibration of {best}. {CALIBRATION_NOTE}",
            "systems": [_system(name, result) for name, result in named.items()],
            "tables_title": f"Tables of all systems: {len(ordered)}",
            "others_title": f"Plots of the other systems: {len(ordered) - 1}",
            "tables": _set_tables(named),
        }
    return page.part("test_set.html.j2", **values)


DET_NOTE = (
    "DET curves: misses over false alarms, on axes of normal deviates. Systems with the same curve share a line: "
    "calibration alone does not move it. A curve that is not seen makes fewer errors than the axes show."
)
CALIBRATION_NOTE = (
    "Actual and minimum DCF (normalised Bayes error rate) over the log-odds of the prior: what is between the curves "
    "is lost by calibration. Above 1, guessing is better."
)


def _facts(result: Result) -> str:
    """How many trials a set has."""
    counts = f"{result['num_trials']} trials"
    return (
        f"{counts}: {result['num_targets']} targets, {result['num_nontargets']} non-targets"
        if result["has_key"]
        else counts
    )


def _system(name: str, result: Result) -> SystemPlots:
    primary = result["primary"]
    log_odds = [math.log(prior / (1 - prior)) for prior in primary["priors"]]
    return SystemPlots(
        name,
        plots.histogram_plot(result["histogram"], primary["thresholds"], f"Scores of {name}"),
        plots.calibration_plot(result["dcf_over_log_odds"], log_odds, f"Calibration of {name}"),
    )


def _set_tables(named: Mapping[str, Result]) -> list[tuple[str, Table, str]]:
    """Title, table and note of all figures of a set."""
    results = list(named.values())
    systems = [f"{name} (on itself)" if tables.on_itself(result) else name for name, result in named.items()]
    found = [
        ("Error rates", tables.result_table(results), ""),
        (INTERVALS, tables.interval_table(results), tables.interval_note(results)),
        (COSTS, tables.dcf_table(results), ""),
    ]
    return [(title, tables.with_labels(table, results, systems), note) for title, table, note in found]


def trials(picked: Mapping[str, Any]) -> Markup:
    """The instructive trials of a set, as steps/pick_trials.py writes them."""
    items = ITEMS[picked["modality"]]
    system = tables.label({"system": "", **picked})
    if items in HEARD:
        seconds = f"the first {sounds.SHOWN_S:g} s of what was compared, up to 8 kHz"
        why = f"Shown is the {items} of each side: {seconds}. Its level is that of all of it, to full scale."
    elif picked["pair_gave_score"]:
        why = f"The {items} shown are those that gave the score."
    else:
        why = f"This system compares more than one pair of {items}; shown is the pair with the largest cosine."
    heading = f"Instructive trials of {system}: {items}"
    return page.part("trials.html.j2", heading=heading, why=why, groups=picked["groups"])


def searched_set(results: Sequence[Result], picked: Sequence[Markup], persons: Sequence[Markup]) -> Markup:
    """The part about a searched set. picked: parts that come first; persons: last."""
    keyed = [result for result in searches.best_first(results) if result.get("segments")]
    values: dict[str, Any] = {"picked": picked, "persons": persons, "figures": [], "tables": []}
    if keyed:
        shown = keyed[: plots.MOST_CURVES]
        left_out = f" The best {len(shown)} of {len(keyed)} systems." if len(shown) < len(keyed) else ""
        curves = dict(zip(searches.curve_names(shown), (result["segments"] for result in shown), strict=True))
        if rates := {name: segments["curve"] for name, segments in curves.items() if "curve" in segments}:
            drawn = plots.open_set_plot(rates, keyed[0]["fpirs"], "Misses over false positives")
            values["figures"].append((drawn, FNIR_NOTE + left_out))
        drawn = plots.match_plot({name: segments["cmc"] for name, segments in curves.items()}, "CMC curves")
        values["figures"].append((drawn, CMC_NOTE + left_out))
        found = {
            "Ranked lists": searches.map_table(results),
            "Strangers": searches.open_set_table(results),
            searches.REASONS: searches.reason_table(results),
        }
        values["tables"] = [(title, table) for title, table in found.items() if table[1]]
    return page.part("searched_set.html.j2", tables_title=f"Tables of all systems: {len(results)}", **values)


FNIR_NOTE = (
    "Misses (FNIR): segments with a person without the right one at the threshold, over the share of strangers that "
    "somebody is named for (FPIR)."
)
CMC_NOTE = "CMC: share of the segments with a person that have the right one so far up."


def ranked_persons(picked: Mapping[str, Any]) -> Markup:
    """The persons that went worst and best and the two lists, as steps/pick_ranks.py writes them."""
    lists = [
        (*searches.persons_table(picked), picked["files"]["ranks"]),
        (*searches.segments_table(picked), picked["files"]["persons"]),
    ]
    note = f"{searches.picked_note(picked)} The {ITEMS[picked['modality']]} are the heaviest of their tracks."
    worst, best = ([searches.shown_person(one, picked["names"]) for one in picked[kind]] for kind in ("worst", "best"))
    return page.part("persons.html.j2", system=picked["system"], note=note, worst=worst, best=best, lists=lists)


def items_found(items: str, rows: Sequence[tables.Row], parts: Sequence[Mapping[str, Any]]) -> Markup:
    """Of each part of stage 2 how many items there are, which segments are not ok, and some of it as pictures.

    rows: of ``tables.status_row``, one a part. parts: ``name``, ``folds`` (summary and table each), ``sheet``, a
    JPEG file or None, and its ``caption``.
    """
    return page.part(
        "items.html.j2", title=f"{items.capitalize()} found", table=tables.status_table(rows, items), parts=parts
    )
