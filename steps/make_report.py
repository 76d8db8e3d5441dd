#!/usr/bin/env python3
"""Gather the results of all systems and test sets into tables and one HTML report.

Inputs:
  RESULTS_DIR/<system>/<set>.json  what evaluate.py wrote, one per system and test set
  RESULTS_DIR/trials/<set>.json    optional, what pick_trials.py wrote
  FACE_DET/status                  per set of faces: <segment> <state>[: <why>]
  FACE_DET/faces.scp               optional, to count the faces
  FACE_DET/contact_sheet.jpg       optional
Outputs in RESULTS_DIR:
  results.txt    aligned tables: a line per set and system, in the order of --sets and --systems; EER in per cent
  results.md     the same tables in Markdown
  results.csv    one line per set, system and prior, at full precision (EER 0..1), with costs and normalisation
  results.json   the same, and per set of faces the segments that are not ok
  report.html    the tables with DET curves, histograms, calibration plots, instructive trials and contact sheets, in
                 one file that needs no network
The tables and the path of the report go to stdout. Equal inputs give equal bytes.

Example:
  steps/make_report.py --results-dir exp/results/r100 --systems max max_cal --sets sre19_test \\
    --face-det exp/face_det/retinaface/sre19_enroll_ref exp/face_det/retinaface/sre19_test
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHEET_WIDTH = 1400


def make_report(results_dir: Path, systems: Sequence[str], sets: Sequence[str], face_det: Sequence[Path]) -> None:
    """See the top of this file.

    Raises DataError when a system has no result for a set, or one that evaluate.py did not write, or a status list
    is missing.
    """
    import json

    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.report import html, tables

    results, rows, sections = [], [], []
    for name in dict.fromkeys(sets):
        of_set = []
        for path in (results_dir / system / f"{name}.json" for system in dict.fromkeys(systems)):
            result = _read_json(path, "evaluate.py")
            try:
                rows += tables.result_rows([result])
                tables.label(result)
            except (KeyError, TypeError) as error:
                raise DataError(f"not a result of evaluate.py ({error!r}); delete it or evaluate again", path) from None
            of_set.append(result)
        results += of_set
        try:
            parts = _plots(of_set)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"not results of evaluate.py ({error!r}); delete them or evaluate again", results_dir / "*" / path.name
            ) from None
        picked = results_dir / "trials" / f"{name}.json"
        if picked.is_file():
            try:
                parts += _trials(_read_json(picked, "pick_trials.py"))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"not written by pick_trials.py ({error!r}); delete it", picked) from None
        sections.append(html.Section(f"Test set {name}", parts))

    faces = []
    face_parts = []
    for folder in dict.fromkeys(face_det):  # test sets may share their enrolment set
        row, parts = _face_set(folder)
        faces.append(row)
        face_parts += parts

    head = [tables.result_table(results), tables.dcf_table(results), tables.trial_table(results)]
    named = [("Results", head[0]), ("Detection costs at each prior", head[1]), ("Trials", head[2])]
    if faces:
        named.append(("Faces found", tables.status_table(faces)))
        summary = [html.table(named[-1][1])]
        sections.append(html.Section("Faces", summary + face_parts))
    named = [(title, table) for title, table in named if table[1]]
    note = tables.result_note(results)
    first = [html.table(head[0]), html.note(note)]
    if head[1][1]:
        first.append(html.folded("Detection costs at each prior", head[1]))
    first += [html.heading("Trials"), html.table(head[2])]
    sections.insert(0, html.Section("Results", first))

    networks = ", ".join(dict.fromkeys(str(result["system"]) for result in results))
    subtitle = f"{len(dict.fromkeys(systems))} systems on {len(dict.fromkeys(sets))} test sets"
    outputs = {
        "results.txt": "\n".join(
            tables.text_table(table) + (note + "\n" if title == "Results" else "") for title, table in named
        ),
        "results.md": "\n".join(
            f"## {title}\n\n{tables.markdown_table(table)}" + (f"\n{note}\n" if title == "Results" else "")
            for title, table in named
        ),
        "results.csv": tables.csv_table(rows),
        "results.json": json.dumps({"results": rows, "faces": faces}, indent=1, ensure_ascii=False) + "\n",
        "report.html": html.page(f"Face verification with {networks}", subtitle, sections),
    }
    for name, content in outputs.items():
        with atomic_write(results_dir / name) as stream:
            stream.write(content)
    print(outputs["results.txt"])
    print(f"report: {results_dir / 'report.html'}")


def _read_json(path: Path, writer: str) -> dict[str, Any]:
    """Raises DataError for a file that is not there or holds no JSON object."""
    import json

    from vidperson.errors import DataError

    if not path.is_file():
        raise DataError(f"no such result; run steps_face/{writer} for the set first", path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a result of {writer} ({error}); delete it or make it again", path) from None
    if not isinstance(content, dict):
        raise DataError(f"not a result of {writer}; delete it or make it again", path)
    return content


def _plots(results: Sequence[dict[str, Any]]) -> list[str]:
    """DET curves, histograms and calibration of the systems of one set."""
    from vidperson.report import html, plots, tables

    keyed = {tables.label(result): result for result in results if result["has_key"]}
    if not keyed:
        return [html.note("There is no key: nothing to evaluate.")]
    priors = next(iter(keyed.values()))["primary"]
    shown = dict(list(keyed.items())[: plots.MOST_PANELS])
    left_out = f" The first {len(shown)} of {len(keyed)} systems." if len(shown) < len(keyed) else ""
    thresholds = priors["thresholds"]
    return [
        html.heading("DET curves"),
        html.figure(
            "Misses over false alarms, on axes of normal deviates. Systems with the same curve share a line: "
            "calibration alone does not move it. A curve that is not seen makes fewer errors than the axes show.",
            plots.det_curves({name: result["det"] for name, result in keyed.items()}),
        ),
        html.heading("Scores"),
        html.figure(
            "Scores of target and non-target trials, and the Bayes threshold of the evaluation for log-likelihood "
            f"ratios: {', '.join(f'{threshold:.2f}' for threshold in thresholds)}.{left_out}",
            plots.score_histograms({name: result["histogram"] for name, result in shown.items()}, thresholds),
        ),
        html.heading("Calibration"),
        html.figure(
            "Actual and minimum DCF (normalised Bayes error rate) over the log-odds of the prior: what lies between "
            "the curves is lost by calibration. Above 1, guessing is better. Dotted: the evaluation's prior."
            f"{left_out}",
            plots.calibration_curves(
                {name: result["dcf_over_log_odds"] for name, result in shown.items()},
                [math.log(prior / (1 - prior)) for prior in priors["priors"]],
            ),
        ),
    ]


def _trials(picked: dict[str, Any]) -> list[str]:
    """The instructive trials of a set."""
    from vidperson.report import html, tables

    system = tables.label({"system": "", **picked})
    if picked["pair_gave_score"]:
        why = "The faces shown are those that gave the score."
    else:
        why = "This system looks at more than one pair of faces; shown is the pair with the largest cosine."
    parts = [html.heading(f"Instructive trials of {system}"), html.note(why)]
    for title, group in picked["groups"].items():
        parts += [html.heading(title.capitalize()), html.trials(group)]
    return parts


def _face_set(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Statistics of a set of faces, and the part of the report about it."""
    from vidperson.errors import DataError
    from vidperson.io.lists import read_scp
    from vidperson.io.matrices import load_matrices
    from vidperson.report import html, tables
    from vidperson.report.pictures import shrunken_jpeg

    statuses = read_scp(folder / "status")
    name = "/".join(folder.resolve().parts[-2:])
    scp = folder / "faces.scp"
    num_faces = sum(map(len, load_matrices(scp).values())) if scp.is_file() else None
    row = tables.status_row(name, statuses, num_faces) | {"problems": tables.problems(statuses)}
    parts = [html.heading(name)]
    for state in tables.STATES[1:]:
        listed = [
            [segment, status.partition(": ")[2] or "-"]
            for segment, status in row["problems"].items()
            if status.partition(":")[0] == state
        ]
        if listed:
            parts.append(
                html.folded(f"{state}: {len(listed)} of {len(statuses)} segments", (["segment", "why"], listed))
            )
    sheet = folder / "contact_sheet.jpg"
    if sheet.is_file():
        try:
            parts.append(
                html.figure(f"Some segments of {name}", shrunken_jpeg(sheet.read_bytes(), SHEET_WIDTH), "sheet")
            )
        except OSError as error:
            raise DataError(f"not a picture ({error}); run steps/make_contact_sheet.py again", sheet) from None
    if len(parts) == 1:
        parts.append(html.note("All segments are ok."))
    return row, parts


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--results-dir", type=Path, required=True, help="folder with a folder of results per system")
    parser.add_argument("--systems", nargs="+", required=True, help="names of the systems' folders")
    parser.add_argument("--sets", nargs="+", required=True, help="names of the test sets, as evaluated")
    parser.add_argument("--face-det", type=Path, nargs="*", default=[], help="output folders of the face detection")
    cli.main(make_report, parser.parse_args())
