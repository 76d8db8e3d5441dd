"""Janus Multimedia, CORE condition: LDC2019E55.

Column names and conditions are those that the public recipe of Hyperion reads
(hyperion/data_prep/janus_multimedia.py); file places, and the test video 1041 left out of eval because the
release holds it unreadable, are those of its older recipe (egs/sre19-av-v/v0.1/local/make_janus_core.sh).
That older recipe takes columns 14 and 15 for width and height; here FACE_W and FACE_H are found by name, in
any order.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath

from vidperson.corpora.data_folder import (
    Segment,
    Trial,
    report_missing,
    safe_id,
    shortened,
    unique_ids,
    write_data_folder,
)
from vidperson.corpora.tables import Column, Row, read_table
from vidperson.errors import DataError
from vidperson.io.lists import LabelledBox

log = logging.getLogger(__name__)

MEDIA_COLUMNS = {
    "video": Column(("VIDEO", "FILE", "FILENAME")),
    "subject": Column(("SUBJECT_ID", "SUBJECTID", "SUBJECT")),
    "dev enroll": Column(("DEV.ENROLL", "DEV.CORE.ENROLL")),
    "dev test": Column(("DEV.CORE.TEST",)),
    "eval enroll": Column(("EVAL.ENROLL", "EVAL.CORE.ENROLL")),
    "eval test": Column(("EVAL.CORE.TEST",)),
    "frame": Column(("FACE_FRAME", "FRAME")),
    "x": Column(("FACE_X",)),
    "y": Column(("FACE_Y",)),
    "width": Column(("FACE_W", "FACE_WIDTH")),
    "height": Column(("FACE_H", "FACE_HEIGHT")),
}
TRIAL_COLUMNS = {
    "model": Column(("ENROLL_FILE", "ENROLL")),
    "segment": Column(("TEST_FILE", "TEST")),
    "label": Column(("LABEL", "TARGET")),
    "condition": Column(("CONDITION", "PARTITION")),
}
UNREADABLE = {"dev": (), "eval": ("1041",)}
BOX_UNIT = "frames 61"


def prepare(data_dir: str | os.PathLike[str], janus_dir: str | os.PathLike[str]) -> list[Path]:
    """Write `janus_{dev,eval}_enroll` and `janus_{dev,eval}_test_core` below data_dir.

    janus_dir: the release, holding `docs/` and `videos/`. A video's id is its path in the list with
        everything unusual replaced (see `unique_ids`), e.g. `video/12.mp4` -> `video_12`; an enrolment video
        is a model of that name, and its segment is `<model>-<model>`.

    Returns the folders written. Raises DataError when a list or column is missing, or the lists contradict
    each other.
    """
    root = Path(os.path.abspath(janus_dir))
    media_list = root / "docs" / "janus_multimedia.tsv"
    trial_list = root / "docs" / "janus_multimedia_trials.tsv"
    rows = read_table(media_list, MEDIA_COLUMNS)
    ids = unique_ids({row["video"]: safe_id(str(PurePosixPath(row["video"]).with_suffix(""))) for row in rows})
    trial_rows = read_table(trial_list, TRIAL_COLUMNS)
    written: list[Path] = []
    for part in UNREADABLE:
        enroll_rows = [row for row in rows if _yes(row, f"{part} enroll")]
        tested_names = dict.fromkeys(row["video"] for row in rows if _yes(row, f"{part} test"))
        left_out = [name for name in tested_names if PurePosixPath(name).stem in UNREADABLE[part]]
        tested = [Segment(ids[n], _media_file(root, n), ids[n]) for n in tested_names if n not in left_out]
        models = {row["video"]: ids[row["video"]] for row in enroll_rows}
        enrolled = [Segment(f"{model}-{model}", _media_file(root, name), model) for name, model in models.items()]
        tests = {name: ids[name] for name in tested_names}
        trials = _read_trials(trial_rows, part, models, tests, {ids[name] for name in left_out})
        if left_out:
            log.info("%s: %s is known to be unreadable, left out with its trials", part, ", ".join(left_out))
        report_missing(enrolled, media_list)
        report_missing(tested, media_list)
        boxes = _read_boxes(enroll_rows, models)
        written += [
            write_data_folder(Path(data_dir) / f"janus_{part}_enroll", enrolled, boxes=boxes, box_unit=BOX_UNIT),
            write_data_folder(Path(data_dir) / f"janus_{part}_test_core", tested, trials=trials),
        ]
    return written


def _yes(row: Row, column: str) -> bool:
    value = row.get(column).upper()
    if value not in ("Y", "N", ""):
        raise row.error(f"column '{column}': expected Y or N, found '{row[column]}'")
    return value == "Y"


def _media_file(root: Path, name: str) -> Path:
    """The lists say `video/`, the release has `videos/`."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"media path '{name}' leaves the release", root)
    return root.joinpath(*(("videos", *path.parts[1:]) if path.parts[0] == "video" else path.parts))


def _read_boxes(rows: list[Row], models: dict[str, str]) -> dict[str, list[LabelledBox]]:
    """Labels per enrolment segment id, positions in frames."""
    boxes: dict[str, list[LabelledBox]] = {}
    subjects: dict[str, str] = {}
    without: list[str] = []
    for row in rows:
        name = row["video"]
        if subjects.setdefault(name, row["subject"]) != row["subject"]:
            both = f"{subjects[name]} and {row['subject']}"
            raise row.error(f"'{name}' enrols two subjects, {both}; trials cannot tell them apart")
        if not any(row.get(column) for column in ("frame", "x", "y", "width", "height")):
            without.append(name)
            continue
        frame, x, y, width, height = (row.number(column) for column in ("frame", "x", "y", "width", "height"))
        if frame < 0 or width <= 0 or height <= 0:
            found = f"frame {frame:g}, {width:g} x {height:g}"
            raise row.error(f"expected a frame >= 0 and a box with a size, found {found}")
        labels = boxes.setdefault(f"{models[name]}-{models[name]}", [])
        label = LabelledBox(frame, (x, y, x + width, y + height))
        if label not in labels:
            labels.append(label)
    if without:
        log.warning("%s: %d enrolment rows have no box: %s", rows[0].path, len(without), shortened(without))
    return boxes


def _read_trials(
    rows: list[Row], part: str, models: dict[str, str], tested: dict[str, str], left_out: set[str]
) -> list[Trial]:
    found: dict[tuple[str, str], bool] = {}
    for row in rows:
        if row["condition"].upper() != f"{part.upper()}.CORE":
            continue
        for column, known in (("model", models), ("segment", tested)):
            if row[column] not in known:
                raise row.error(f"{column} '{row[column]}' is not in the {part} part of janus_multimedia.tsv")
        label = row["label"].upper()
        if label not in ("Y", "N"):
            raise row.error(f"expected Y or N, found '{row['label']}'")
        pair = models[row["model"]], tested[row["segment"]]
        if found.setdefault(pair, label == "Y") != (label == "Y"):
            raise row.error(f"trial '{row['model']} {row['segment']}' is both Y and N")
    if not found:
        raise DataError(f"no {part.upper()}.CORE trials in janus_multimedia_trials.tsv")
    return [Trial(model, name, target) for (model, name), target in found.items() if name not in left_out]
