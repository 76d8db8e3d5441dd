"""NIST SRE19 audio-visual, visual part: LDC2019E56 (dev), LDC2019E57 (eval), or LDC2023V01 (both).

File names, and the columns modelid, segmentid and targettype, are those that the public recipes of Hyperion
read (egs/sre19-av-v/v0.1/local/make_sre19av_v_dev.sh, hyperion/data_prep/sre19_av.py). Of the box list those
recipes show the positions only: column 1 segment, 3 time in seconds, 4 box "x1,y1,x2,y2". The names below are
likely ones; when none is in the header, the published position is read, provided that its values look right.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from vidperson.corpora.data_folder import Segment, Trial, report_missing, shortened, write_data_folder
from vidperson.corpora.tables import NUMBER, Column, Row, read_table
from vidperson.errors import DataError
from vidperson.io.lists import LabelledBox

log = logging.getLogger(__name__)

MODEL = Column(("modelid", "model_id", "model"))
SEGMENT = Column(("segmentid", "segment_id", "segment", "filename"))
TARGET = Column(("targettype", "target_type", "target", "label"))
TIME_NAMES = ("frame_sec", "frame_seconds", "frame_time", "time_sec", "time", "seconds", "timestamp")
BOX_NAMES = ("bounding_box", "face_bounding_box", "bbox", "box", "bb")
BOX_PATTERN = rf"[\[(]?\s*{NUMBER}(\s*,\s*{NUMBER}){{3}}\s*[\])]?"
BOX_COLUMNS = {
    "model": Column(MODEL.spellings, optional=True),
    "segment": SEGMENT,
    "seconds": Column(TIME_NAMES, fallback=3, matches=NUMBER),
    "box": Column(BOX_NAMES, fallback=4, matches=BOX_PATTERN),
}
BOX_UNIT = "seconds 5"


def prepare(
    data_dir: str | os.PathLike[str],
    dev_dir: str | os.PathLike[str] | None,
    eval_dir: str | os.PathLike[str] | None,
    prefix: str = "sre19_av_v",
) -> list[Path]:
    """Write `<prefix>_{dev,eval}_{enroll,test}` below data_dir; a part whose folder is None or "" is skipped.

    dev_dir, eval_dir: the release of that part, holding `docs/` and `data/` (or `docs/dev/`, `data/dev/` and
        so on, as in the joint release, which may be given for both).

    Returns the folders written. Raises DataError when both parts are skipped, a list or column is missing, or
    a list contradicts itself or another one.
    """
    if not dev_dir and not eval_dir:
        raise DataError("neither a dev nor an eval folder is given")
    written: list[Path] = []
    for part, root in (("dev", dev_dir), ("eval", eval_dir)):
        if root:
            written += _prepare_part(Path(os.path.abspath(root)), part, Path(data_dir), prefix)
        else:
            log.info("%s: no folder given, skipped", part)
    return written


def _prepare_part(root: Path, part: str, data_dir: Path, prefix: str) -> list[Path]:
    docs, media = root / "docs", root / "data"
    if not docs.is_dir():
        raise DataError("no such folder; expected the folder of the release, with docs and data in it", docs)
    if (docs / part).is_dir():
        docs, media = docs / part, media / part

    def table(name: str) -> Path:
        return docs / f"sre19_av_{part}_{name}.tsv"

    enrolled = _read_enrolment(table("enrollment"), media / "enrollment")
    boxes = _read_boxes(table("enrollment_boundingbox"), enrolled)
    trials = _read_trials(table("trials"), table("trial_key"), {s.model for s in enrolled})
    names = dict.fromkeys(trial.segment for trial in trials)
    tested = [Segment(name, _media_file(media / "test", name), name) for name in names]
    report_missing(enrolled, table("enrollment"))
    report_missing(tested, table("trials"))
    enroll_dir, test_dir = data_dir / f"{prefix}_{part}_enroll", data_dir / f"{prefix}_{part}_test"
    return [
        write_data_folder(enroll_dir, enrolled, boxes=boxes, box_unit=BOX_UNIT),
        write_data_folder(test_dir, tested, trials=trials),
    ]


def _segment_name(row: Row) -> str:
    """The segment id of a row; lists have it with or without the file's extension."""
    return row.id("segment").removesuffix(".mp4")


def _media_file(folder: Path, name: str) -> Path:
    """`<name>.mp4`, or the file named exactly so if only that is there."""
    bare = folder / name
    return bare if bare.is_file() else folder / f"{name}.mp4"


def _read_enrolment(path: Path, media: Path) -> list[Segment]:
    pairs: dict[tuple[str, str], None] = {}
    rows = read_table(path, {"model": MODEL, "segment": SEGMENT})
    for row in rows:
        pairs[row.id("model"), _segment_name(row)] = None
    if not pairs:
        raise DataError("no enrolment segments", path)
    if len(pairs) < len(rows):
        log.warning("%s: %d repeated rows left out", path, len(rows) - len(pairs))
    return [Segment(f"{model}-{name}", _media_file(media, name), model) for model, name in pairs]


def _read_boxes(path: Path, enrolled: list[Segment]) -> dict[str, list[LabelledBox]]:
    """Labels per enrolment segment id; boxes of segments that enrol nobody are left out with a warning."""
    boxes: dict[str, list[LabelledBox]] = {}
    foreign: list[str] = []
    by_name: dict[str, list[Segment]] = {}
    for segment in enrolled:
        by_name.setdefault(segment.id.removeprefix(segment.model + "-"), []).append(segment)
    for row in read_table(path, BOX_COLUMNS):
        name, model = _segment_name(row), row.get("model")
        label = _labelled_box(row)
        owners = [s for s in by_name.get(name, []) if not model or s.model == model]
        if not owners:
            foreign.append(f"{model} {name}".strip())
        for segment in owners:
            labels = boxes.setdefault(segment.id, [])
            if label not in labels:
                labels.append(label)
    if foreign:
        log.warning("%s: %d boxes of segments not enrolled left out: %s", path, len(foreign), shortened(foreign))
    without = [segment.id for segment in enrolled if segment.id not in boxes]
    if len(without) == len(enrolled):
        raise DataError(f"no box for any enrolment segment, e.g. '{without[0]}'; do both lists' ids agree?", path)
    if without:
        message = "%s: %d of %d enrolment segments have no box: %s"
        log.warning(message, path, len(without), len(enrolled), shortened(without))
    return boxes


def _labelled_box(row: Row) -> LabelledBox:
    seconds = row.number("seconds")
    if not re.fullmatch(BOX_PATTERN, row["box"]):
        raise row.error(f"expected a box 'x1,y1,x2,y2', found '{row['box']}'")
    x1, y1, x2, y2 = (float(v) for v in row["box"].strip("[]() ").split(","))
    if seconds < 0 or x2 <= x1 or y2 <= y1:
        found = f"{seconds:g} and '{row['box']}'"
        raise row.error(f"expected a time >= 0 and a box with x1 < x2 and y1 < y2, found {found}")
    return LabelledBox(seconds, (x1, y1, x2, y2))


def _read_trials(path: Path, key_path: Path, models: set[str]) -> list[Trial]:
    """The trial list, with the key where the release has one."""
    first: dict[tuple[str, str], Row] = {}
    repeated = 0
    for row in read_table(path, {"model": MODEL, "segment": SEGMENT}):
        pair = row.id("model"), _segment_name(row)
        if pair[0] not in models:
            raise row.error(f"model '{pair[0]}' is not in the enrolment list")
        repeated += pair in first
        first.setdefault(pair, row)
    if not first:
        raise DataError("no trials", path)
    if repeated:
        log.warning("%s: %d repeated rows left out", path, repeated)
    if not key_path.exists():
        log.info("%s: no such file, so the trials have no key", key_path)
        return [Trial(model, name) for model, name in first]
    key = _read_key(key_path)
    if unknown := [row for pair, row in first.items() if pair not in key]:
        raise unknown[0].error(f"{len(unknown)} trials, this one first, are not in the key {key_path}")
    if len(key) > len(first):
        log.info("%s: %d pairs that are no trials left out", key_path, len(key) - len(first))
    return [Trial(model, name, key[model, name]) for model, name in first]


def _read_key(path: Path) -> dict[tuple[str, str], bool]:
    key: dict[tuple[str, str], bool] = {}
    for row in read_table(path, {"model": MODEL, "segment": SEGMENT, "target": TARGET}):
        pair, label = (row.id("model"), _segment_name(row)), row["target"].lower()
        if label not in ("target", "nontarget"):
            raise row.error(f"expected target or nontarget, found '{row['target']}'")
        if key.setdefault(pair, label == "target") != (label == "target"):
            raise row.error(f"trial '{pair[0]} {pair[1]}' is both target and nontarget")
    return key
