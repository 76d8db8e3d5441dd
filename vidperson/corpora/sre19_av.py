"""NIST SRE19 audio-visual: LDC2019E56 (dev), LDC2019E57 (eval), or LDC2023V01 (both).

Segments are videos: `vid.scp` and `wav.scp` have the same files. There is no list of who speaks when, so the whole
sound of an enrolment video enrols the voice.

File names, and the columns modelid, segmentid and targettype, are those that the public recipes of Hyperion
read (egs/sre19-av-v/v0.1/local/make_sre19av_v_dev.sh, hyperion/data_prep/sre19_av.py). Of the box list those
recipes show the positions only: column 1 segment, 3 time in seconds, 4 box "x1,y1,x2,y2". The names below are
likely ones; when none is in the header, the published position is read, provided that its values look right.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path

from vidperson.corpora.data_folder import Segment, report_missing, shortened, write_data_folder
from vidperson.corpora.sre import (
    VIDEO,
    PathLike,
    media_file,
    media_id,
    read_enrolment,
    read_trials,
    release_parts,
    with_sound,
)
from vidperson.corpora.tables import NUMBER, Column, Row, read_table
from vidperson.errors import DataError
from vidperson.io.lists import LabelledBox

log = logging.getLogger(__name__)

MODEL = Column(("modelid", "model_id", "model"))
SEGMENT = Column(("segmentid", "segment_id", "segment", "filename"))
COLUMNS = {"model": MODEL, "segment": SEGMENT}
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
    data_dir: PathLike, dev_dir: PathLike | None, eval_dir: PathLike | None, prefix: str = "sre19_av_v"
) -> list[Path]:
    """Write `<prefix>_{dev,eval}_{enroll,test}` below data_dir; a part whose folder is None or "" is skipped.

    dev_dir, eval_dir: the release of that part, or twice the joint one (see `sre.release_parts`).

    Returns the folders written. Raises DataError when both parts are skipped, a list or column is missing, or
    a list contradicts itself or another one.
    """
    written: list[Path] = []
    for part, docs, media in release_parts(dev_dir, eval_dir):
        written += _prepare_part(part, docs, media, Path(data_dir), prefix)
    return written


def _prepare_part(part: str, docs: Path, media: Path, data_dir: Path, prefix: str) -> list[Path]:
    def table(name: str) -> Path:
        return docs / f"sre19_av_{part}_{name}.tsv"

    find_enrolment = partial(media_file, [media / "enrollment"], extensions=VIDEO)
    find_test = partial(media_file, [media / "test"], extensions=VIDEO)
    enrolled = read_enrolment(table("enrollment"), COLUMNS, find_enrolment)
    boxes = _read_boxes(table("enrollment_boundingbox"), enrolled)
    listed = read_trials(table("trials"), table("trial_key"), COLUMNS, {s.model for s in enrolled})
    tested = [Segment(segment, find_test(name), segment) for segment, name in listed.segments.items()]
    report_missing(enrolled, table("enrollment"))
    report_missing(tested, table("trials"))
    enroll_dir, test_dir = data_dir / f"{prefix}_{part}_enroll", data_dir / f"{prefix}_{part}_test"
    return [
        write_data_folder(enroll_dir, with_sound(enrolled), boxes=boxes, box_unit=BOX_UNIT),
        write_data_folder(test_dir, with_sound(tested), trials=listed.trials),
    ]


def _read_boxes(path: Path, enrolled: list[Segment]) -> dict[str, list[LabelledBox]]:
    """Labels per enrolment segment id; boxes of segments that enrol nobody are left out with a warning."""
    boxes: dict[str, list[LabelledBox]] = {}
    foreign: list[str] = []
    by_name: dict[str, list[Segment]] = {}
    for segment in enrolled:
        by_name.setdefault(segment.id.removeprefix(segment.model + "-"), []).append(segment)
    for row in read_table(path, BOX_COLUMNS):
        name, model = media_id(row, "segment"), row.get("model")
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
