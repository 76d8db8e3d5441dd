"""NIST SRE21, visual track: LDC2021E09 (dev) and LDC2021E10 (eval). Persons are enrolled by a selfie.

File names, folders, and the columns imageid, segmentid, targettype and gender are those that the public recipes
of Hyperion read (egs/sre21-av-v/v0.1/local/prepare_sre21av_{dev,eval}_visual.py, hyperion/data_prep/sre21.py).
There the track has no enrolment list: a trial names the image. The list
docs/sre21_visual_<part>_enrollment.tsv, for models of several images or videos, is read where it is there; its
name and columns follow the audio track's list and are not confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vidperson.corpora.data_folder import Segment, report_missing, write_data_folder
from vidperson.corpora.sre import IMAGE, VIDEO, PathLike, media_file, read_enrolment, read_trials, release_parts
from vidperson.corpora.tables import Column

IMAGE_NAMES = ("imageid", "image_id", "image")
MODEL_NAMES = ("modelid", "model_id", "model")
SEGMENT_NAMES = ("segmentid", "segment_id", "segment", "filename")

TRIAL_COLUMNS = {"model": Column(IMAGE_NAMES + MODEL_NAMES), "segment": Column(SEGMENT_NAMES)}
ENROLMENT_COLUMNS = {"model": Column(MODEL_NAMES + IMAGE_NAMES), "segment": Column(IMAGE_NAMES + SEGMENT_NAMES)}

# Folders below data/, the confirmed one first.
ENROLMENT_FOLDERS = ("image/enrollment", "video/enrollment", "enrollment")
TEST_FOLDERS = ("video/test", "test")


def prepare(
    data_dir: PathLike,
    dev_dir: PathLike | None,
    eval_dir: PathLike | None,
    prefix: str = "sre21_av_v",
    partitions: Sequence[str] = ("gender",),
) -> list[Path]:
    """Write `<prefix>_{dev,eval}_{enroll,test}` below data_dir; a part whose folder is None or "" is skipped.

    dev_dir, eval_dir: the release of that part (see `sre.release_parts`).
    partitions: columns of the key that make the partitions of the trials, which the metrics of SRE21 weigh equally.

    Returns the folders written. Raises DataError when both parts are skipped, a list or column is missing, or
    a list contradicts itself or another one.
    """
    written: list[Path] = []
    for part, docs, media in release_parts(dev_dir, eval_dir):
        written += _prepare_part(part, docs, media, Path(data_dir), prefix, partitions)
    return written


def _prepare_part(
    part: str, docs: Path, media: Path, data_dir: Path, prefix: str, partitions: Sequence[str]
) -> list[Path]:
    def table(name: str) -> Path:
        return docs / f"sre21_visual_{part}_{name}.tsv"

    find_enrolment = partial(media_file, [media / f for f in ENROLMENT_FOLDERS], extensions=(*IMAGE, *VIDEO))
    find_test = partial(media_file, [media / f for f in TEST_FOLDERS], extensions=VIDEO)
    source = table("enrollment")
    enrolled = read_enrolment(source, ENROLMENT_COLUMNS, find_enrolment) if source.is_file() else []
    models = {segment.model for segment in enrolled} or None
    listed = read_trials(table("trials"), table("trial_key"), TRIAL_COLUMNS, models, partitions)
    if not enrolled:
        source = table("trials")
        enrolled = [Segment(f"{model}-{model}", find_enrolment(name), model) for model, name in listed.models.items()]
    tested = [Segment(segment, find_test(name), segment) for segment, name in listed.segments.items()]
    report_missing(enrolled, source)
    report_missing(tested, table("trials"))
    return [
        write_data_folder(data_dir / f"{prefix}_{part}_enroll", enrolled),
        write_data_folder(data_dir / f"{prefix}_{part}_test", tested, trials=listed.trials),
    ]
