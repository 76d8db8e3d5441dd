"""NIST SRE21, visual and audio-visual tracks: LDC2021E09 (dev) and LDC2021E10 (eval).

A selfie enrols a face; in the audio-visual track, one or several sounds enrol the voice.

File names, folders, and the columns imageid, segmentid, targettype and gender are those that the public recipes
of Hyperion read (egs/sre21-av-v/v0.1/local/prepare_sre21av_{dev,eval}_visual.py, hyperion/data_prep/sre21.py).
There the track has no enrolment list: a trial names the image. The list
docs/sre21_visual_<part>_enrollment.tsv, for models of several images or videos, is read where it is there; its
name and columns follow the audio track's list and are not confirmed.

Of the audio-visual track those recipes read docs/sre21_audio-visual_<part>_trial_key.tsv with modelid, segmentid and
targettype, and the audio track's docs/sre21_audio_<part>_enrollment.tsv with modelid and segmentid. The column imageid,
which says what a model looks like, is assumed: without it the track is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vidperson.corpora.data_folder import Segment, report_missing, write_data_folder
from vidperson.corpora.sre import (
    IMAGE,
    SOUND,
    VIDEO,
    PathLike,
    TrialList,
    media_file,
    media_id,
    read_enrolment,
    read_trials,
    release_parts,
    with_sound,
)
from vidperson.corpora.tables import Column, read_table

log = logging.getLogger(__name__)

IMAGE_NAMES = ("imageid", "image_id", "image")
MODEL_NAMES = ("modelid", "model_id", "model")
SEGMENT_NAMES = ("segmentid", "segment_id", "segment", "filename")

SOUND_COLUMNS = {"model": Column(MODEL_NAMES), "segment": Column(SEGMENT_NAMES)}

TRIAL_COLUMNS = {"model": Column(IMAGE_NAMES + MODEL_NAMES), "segment": Column(SEGMENT_NAMES)}
ENROLMENT_COLUMNS = {"model": Column(MODEL_NAMES + IMAGE_NAMES), "segment": Column(IMAGE_NAMES + SEGMENT_NAMES)}

# Folders below data/, the confirmed one first.
ENROLMENT_FOLDERS = ("image/enrollment", "video/enrollment", "enrollment")
SOUND_FOLDERS = ("audio/enrollment", "enrollment")
TEST_FOLDERS = ("video/test", "test")


def prepare(
    data_dir: PathLike,
    dev_dir: PathLike | None,
    eval_dir: PathLike | None,
    prefix: str = "sre21_av_v",
    partitions: Sequence[str] = ("gender",),
) -> list[Path]:
    """Write `<prefix>_{dev,eval}_{enroll,test}` below data_dir; a part whose folder is None or "" is skipped.

    Where a part has the lists of the audio-visual track, `sre21_av_<part>_{enroll,test}` are written, too: their models
    have an image and sounds. In the visual track the test segments have a sound, enrolment images have none.

    dev_dir, eval_dir: the release of that part (see `sre.release_parts`).
    partitions: columns of the key that make the partitions of the trials, which the metrics of SRE21 weigh equally.

    Returns the folders written. Raises DataError when both parts are skipped, a list or column is missing, or
    a list contradicts itself or another one.
    """
    written: list[Path] = []
    for part, docs, media in release_parts(dev_dir, eval_dir):
        release = _Release(part, docs, media, partitions)
        visual, both = _visual(release), _audio_visual(release)
        written += _write(Path(data_dir, f"{prefix}_{part}"), *visual)
        written += _write(Path(data_dir, f"sre21_av_{part}"), *both) if both else []
    return written


def _write(stem: Path, enrolled: Sequence[Segment], tested: Sequence[Segment], listed: TrialList) -> list[Path]:
    """Write both sets; stem: path and first part of their names."""
    return [
        write_data_folder(f"{stem}_enroll", enrolled),
        write_data_folder(f"{stem}_test", tested, trials=listed.trials),
    ]


@dataclass(frozen=True)
class _Release:
    """A part of the release: folders of its lists and media, and the columns that make partitions."""

    part: str
    docs: Path
    media: Path
    partitions: Sequence[str]

    def table(self, track: str, name: str) -> Path:
        return self.docs / f"sre21_{track}_{self.part}_{name}.tsv"

    def find(self, folders: Sequence[str], extensions: Sequence[str]) -> Callable[[str], Path]:
        return partial(media_file, [self.media / folder for folder in folders], extensions=extensions)

    def trials(self, track: str, columns: Mapping[str, Column], models: set[str] | None) -> TrialList:
        lists = self.table(track, "trials"), self.table(track, "trial_key")
        return read_trials(*lists, columns, models, self.partitions)

    def tested(self, listed: TrialList, source: Path) -> list[Segment]:
        find = self.find(TEST_FOLDERS, VIDEO)
        tested = with_sound([Segment(segment, find(name), segment) for segment, name in listed.segments.items()])
        report_missing(tested, source)
        return tested


def _visual(release: _Release) -> tuple[list[Segment], list[Segment], TrialList]:
    """What is enrolled, what is tested, and the trials."""
    find = release.find(ENROLMENT_FOLDERS, (*IMAGE, *VIDEO))
    source, trials = (release.table("visual", name) for name in ("enrollment", "trials"))
    enrolled = read_enrolment(source, ENROLMENT_COLUMNS, find) if source.is_file() else []
    listed = release.trials("visual", TRIAL_COLUMNS, {segment.model for segment in enrolled} or None)
    if not enrolled:
        source = trials
        enrolled = [Segment(f"{model}-{model}", find(name), model) for model, name in listed.models.items()]
    report_missing(enrolled, source)
    return with_sound(enrolled), release.tested(listed, trials), listed


def _audio_visual(release: _Release) -> tuple[list[Segment], list[Segment], TrialList] | None:
    """Likewise of the audio-visual track: each sound of a model with the model's image; None without the lists."""
    trials, source = release.table("audio-visual", "trials"), release.table("audio", "enrollment")
    if not trials.is_file() or not source.is_file():
        return None
    images: dict[str, str] = {}
    for row in read_table(trials, {**SOUND_COLUMNS, "image": Column(IMAGE_NAMES, optional=True)}):
        if not row.get("image"):
            log.warning("%s: no image of a model, such as a column 'imageid'; the track is left out", trials)
            return None
        image = images.setdefault(media_id(row, "model"), row.id("image"))
        if image != row.id("image"):
            raise row.error(f"model '{row.id('model')}' has two images, '{image}' and '{row.id('image')}'")
    sounds = read_enrolment(source, SOUND_COLUMNS, release.find(SOUND_FOLDERS, SOUND))
    listed = release.trials("audio-visual", SOUND_COLUMNS, {segment.model for segment in sounds})
    report_missing(sounds, source)
    find = release.find(ENROLMENT_FOLDERS, IMAGE)
    enrolled = [replace(s, path=find(images[s.model]), sound=s.path) for s in sounds if s.model in listed.models]
    report_missing(enrolled, trials)
    return enrolled, release.tested(listed, trials), listed
