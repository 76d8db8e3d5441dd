#!/usr/bin/env python3
"""Gather the results of all test sets of a system into tables and one HTML report.

Inputs:
  RESULTS_DIR/<set>.json        what evaluate.py wrote, one per test set
  FACE_DET/status               per set of faces: <segment> <state>[: <why>]
  FACE_DET/contact_sheet.jpg    optional
Outputs in RESULTS_DIR:
  results.txt    aligned tables: one line per test set (EER in per cent), one line per set of faces
  results.csv    one line per test set and prior, at full precision (EER 0..1), with costs and normalisation
  results.json   the same and the segments that are not ok
  report.html    the same with score histograms and contact sheets, in one file that needs no network
The tables and the path of the report go to stdout. Equal inputs give equal bytes.

Example:
  steps_face/make_report.py --results-dir exp/results/r100/max --sets sre19_test \\
    --face-det exp/face_det/retinaface/sre19_enroll_ref exp/face_det/retinaface/sre19_test
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def make_report(results_dir: Path, sets: Sequence[str], face_det: Sequence[Path]) -> None:
    """See the top of this file.

    Raises DataError when a set has no result, or one that evaluate.py did not write, or a status list is
    missing.
    """
    import json

    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_scp
    from vidperson.report import html, plots, tables

    results, rows = [], []
    sections: list[html.Section] = []
    for path in (results_dir / f"{name}.json" for name in sets):
        if not path.is_file():
            raise DataError("no such result; run steps_face/evaluate.py for the set first", path)
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            rows += tables.result_rows([result])
            images = {"Score histogram": plots.score_histogram(**result["histogram"])} if result["has_key"] else {}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a result of evaluate.py ({error!r}); delete it or evaluate again", path) from None
        results.append(result)
        note = "" if result["has_key"] else "There is no key: nothing to evaluate."
        sections.append(html.Section(f"{result['name']}, {result['system']}", note, images=images))

    faces = []
    for folder in dict.fromkeys(face_det):  # test sets may share their enrolment set
        statuses = read_scp(folder / "status")
        name = "/".join(folder.resolve().parts[-2:])
        faces.append(tables.status_row(name, statuses) | {"problems": tables.problems(statuses)})
        sheet = folder / "contact_sheet.jpg"
        images = {f"Some segments of {name}": sheet.read_bytes()} if sheet.is_file() else {}
        sections.append(html.Section(f"Faces: {name}", images=images, details=faces[-1]["problems"]))

    table, note = tables.result_table(results), tables.result_note(results)
    sections.insert(0, html.Section("Results", note, table=table))
    text = tables.text_table(*table) + note + "\n"
    if faces:
        counts = [{key: value for key, value in row.items() if key != "problems"} for row in faces]
        face_head, face_body = list(counts[0]), [tables.cells(row) for row in counts]
        sections.insert(1, html.Section("Segments by state of the face detection", table=(face_head, face_body)))
        text += "\n" + tables.text_table(face_head, face_body)

    systems = ", ".join(dict.fromkeys(str(result["system"]) for result in results))
    outputs = {
        "results.txt": text,
        "results.csv": tables.csv_table(rows),
        "results.json": json.dumps({"results": rows, "faces": faces}, indent=1, ensure_ascii=False) + "\n",
        "report.html": html.page(f"Results of {systems}", sections),
    }
    for name, content in outputs.items():
        with atomic_write(results_dir / name) as stream:
            stream.write(content)
    print(text)
    print(f"report: {results_dir / 'report.html'}")


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--results-dir", type=Path, required=True, help="folder with the results of each set")
    parser.add_argument("--sets", nargs="+", required=True, help="names of the test sets, as evaluated")
    parser.add_argument("--face-det", type=Path, nargs="*", default=[], help="output folders of the face detection")
    cli.main(make_report, parser.parse_args())
