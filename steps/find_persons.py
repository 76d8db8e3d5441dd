#!/usr/bin/env python3
"""Who is in each video of a test set, and when: tracks, probabilities and decisions.

Inputs:
  DATA_DIR/<test set>/vid.scp, wav.scp or frames.scp
      the segments, which are answered in C-locale order
  DATA_DIR/<enrolment set>/utt2spk
      <segment> <person>, of each of ENROLL_SETS; none: everybody is unknown
  Per word of SOURCES, which holds the options of a modality:
  <embed_dir>/<part>/embed.scp, <items_dir>/<part>/
      one (N, dim) float32 matrix per segment, an item per row; what stage 2 found and its status
  <model>/<name>.yaml
      card of the embedder; its calibration makes log-likelihood ratios of cosines
Output:
  SCORES_DIR/who/<experiment>/<test set>_who.jsonl
      a line per segment: vidperson.answers.VideoAnswer as JSON
Beside it is the record of how it was made. What is there, intact and of the same options and inputs
is kept. docs/who.md says how it is decided.

Example:
  face="--modality face --embed-dir exp/face_embed/arcface_tiny --items-dir exp/face_det/retinaface_tiny"
  face+=" --model exp/face_models/arcface_tiny --enroll-parts folder_enroll --test-part folder_test"
  steps/find_persons.py --sources "$face" --data-dir data --enroll-sets folder_enroll \\
    --test-set folder_test --fps 5 --experiment folder
"""

from __future__ import annotations

import json
import logging
import math
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.parts import listed_segments
from steps.score import (
    RunOptions,
    checked_matrices,
    embedding_inputs,
    files_of,
    items_of,
    need,
    refuse_damaged,
    to_make,
)
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.answers import VideoAnswer
    from vidperson.backends.finding import Finder, Found, Video
    from vidperson.backends.gallery import Gallery
    from vidperson.io.planned import Planned
    from vidperson.types import Calibration

CURE = "run stages 2 and 3 for the set"


@dataclass(frozen=True)
class SourceOptions:
    """What stages 2 and 3 have of the sets by a modality."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    embed_dir: Path = cli.option(help="folder with the embeddings of each part")
    items_dir: Path = cli.option(help="folder with what stage 2 found in each part")
    model: Path = cli.option(help="folder of the installed embedder")
    enroll_parts: str = cli.option(help="parts with the portraits, one per enrolment set; may be empty")
    test_part: str = cli.option(help="part with the test segments")

    def calibration(self) -> Calibration:
        """That of the installed card, or of the shipped one of this name. Raises ModelError where neither has one."""
        from vidperson.networks.card import calibration_of, load_card

        return calibration_of(load_card(self.model / f"{self.model.name}.yaml"))


@dataclass(frozen=True)
class DecisionOptions:
    """When a person is named."""

    person_prior: float = cli.option(0.5, "prior probability that somebody is in the gallery", convert=cli.share)
    min_probability: float = cli.option(0.95, "lowest probability of the decision yes", convert=cli.share)
    unsure_probability: float = cli.option(0.5, "lowest probability of the decision unsure", convert=cli.share)


@dataclass(frozen=True)
class FindOptions:
    sources: list[str] = cli.option(help="a word per modality: its options, see below")
    data_dir: Path = cli.option(help="folder of the data sets")
    test_set: str = cli.option(help="set with the videos")
    enroll_sets: str = cli.option("", "sets with the portraits; empty: nobody is known")
    fps: float = cli.option(1.0, "frames per second that stage 2 searched", convert=cli.positive)
    experiment: str = cli.option("", "name of the experiment")
    scores_dir: Path = cli.option(Path("exp/scores"), "folder with the scores of all systems")
    decisions: DecisionOptions = cli.group(DecisionOptions)
    run: RunOptions = cli.group(RunOptions)

    @property
    def target(self) -> Path:
        return self.scores_dir / "who" / self.experiment / f"{self.test_set}_who.jsonl"

    def parsed(self) -> list[SourceOptions]:
        """The sources. Leaves the process with status 2 for options that are wrong."""
        return [cli.parse(SourceOptions, None, shlex.split(word)) for word in self.sources]


def find_persons(options: FindOptions) -> None:
    """See the top of this file.

    Raises ScoringError for what is missing, for embeddings of other items than stage 2's or of another size than those
    of the portraits, and for probabilities that cannot be; DataError for malformed, edited or swapped files; ModelError
    for a network without calibration.
    """
    sources = options.parsed()
    calibrations = {source.modality: source.calibration() for source in sources}
    planned = plan(options, sources, calibrations)
    if not to_make([planned], options.run):
        return
    planned.remove()
    galleries = {
        source.modality: read_gallery(source, [options.data_dir / name for name in options.enroll_sets.split()])
        for source in sources
    }
    from vidperson.backends.decisions import Thresholds
    from vidperson.backends.finding import Finder

    decisions = options.decisions
    thresholds = Thresholds(decisions.person_prior, decisions.min_probability, decisions.unsure_probability)
    finder = Finder(galleries, calibrations, thresholds)
    write_answers(planned, finder, read_videos(options, sources))


def plan(options: FindOptions, sources: Sequence[SourceOptions], calibrations: Mapping[str, Calibration]) -> Planned:
    """The file to write. Raises ScoringError for what is missing or does not fit together."""
    from vidperson.io.planned import Planned

    cure = "run ./run_001_prepare_data.sh, or correct trial_sets"
    command = ["python", "steps/find_persons.py", "--test-set", options.test_set, "--fps", f"{options.fps:g}"]
    for name, value in vars(options.decisions).items():
        command += [f"--{name.replace('_', '-')}", f"{value:g}"]
    inputs = [need(options.data_dir / name / "utt2spk", cure) for name in options.enroll_sets.split()]
    for source in sources:
        calibration = calibrations[source.modality]
        command += ["--sources", source.modality, str(source.embed_dir), f"{calibration.slope:g}"]
        command += [f"{calibration.offset:g}", *source.enroll_parts.split(), source.test_part]
        for part in (*source.enroll_parts.split(), source.test_part):
            items = source.items_dir / part
            need(items / f"{items_of(source.modality)}.scp", CURE)
            refuse_damaged(items)
            inputs += [*embedding_inputs(source.embed_dir / part, items), *files_of(items, items_of(source.modality))]
    return Planned(options.target, command, list(dict.fromkeys(inputs)))


class _Part:
    """What stages 2 and 3 have of a part, segment by segment."""

    def __init__(self, source: SourceOptions, part: str) -> None:
        from vidperson.io.lines import read_scp

        items = source.items_dir / part
        self.modality = source.modality
        self.statuses = read_scp(items / "status")
        self._rows = checked_matrices(items, items_of(source.modality))
        self._quality = checked_matrices(items, "quality") if (items / "quality.scp").is_file() else None
        self._embeddings = checked_matrices(source.embed_dir / part, "embed")

    def found(self, segment: str) -> Found:
        """Raises DataError for a segment that is not there, or with other items than embeddings."""
        from vidperson.backends.finding import Found
        from vidperson.errors import DataError

        for table in (self._rows, self._embeddings, *([] if self._quality is None else [self._quality])):
            if segment not in table:
                raise DataError(f"segment '{segment}' is not there; {CURE}", table.scp)
        rows, embeddings = self._rows[segment], self._embeddings[segment]
        quality = None if self._quality is None else self._quality[segment]
        if len(rows) != len(embeddings):
            what = f"segment '{segment}': expected embeddings of {len(rows)} items, found {len(embeddings)}"
            raise DataError(f"{what}; run stage 3 again", self._embeddings.scp)
        return Found(self.modality, rows, quality, embeddings)


def read_gallery(source: SourceOptions, data: Sequence[Path]) -> Gallery:
    """The persons of the enrolment sets, by one modality."""
    from vidperson.backends.finding import portrait
    from vidperson.backends.gallery import Gallery
    from vidperson.io.lines import read_scp

    portraits = []
    for folder, part in zip(data, source.enroll_parts.split(), strict=True):
        there = _Part(source, part)
        for segment, person in read_scp(folder / "utt2spk").items():
            portraits.append(portrait(segment, person, there.found(segment)))
    gallery = Gallery.of(portraits)
    for person in gallery.missing:
        logging.warning("%s: no %s in the portraits, so nobody is found by it", person, source.modality)
    return gallery


def read_videos(options: FindOptions, sources: Sequence[SourceOptions]) -> Iterator[tuple[Video, list[Found]]]:
    """Each segment of the test set with what stages 2 and 3 have of it."""
    from vidperson.backends.finding import Video

    parts = [_Part(source, source.test_part) for source in sources]
    for segment in listed_segments(options.data_dir / options.test_set):
        status = next((part.statuses[segment] for part in parts if segment in part.statuses), "unreadable: no status")
        yield Video(segment, status, interval_s=1 / options.fps), [part.found(segment) for part in parts]


def write_answers(planned: Planned, finder: Finder, videos: Iterator[tuple[Video, list[Found]]]) -> None:
    """Both passes over the videos; the answers between them are in a temporary file, the vectors too."""
    from vidperson.answers import VideoAnswer
    from vidperson.backends.finding import Unknown, join
    from vidperson.io.atomic import atomic_write

    planned.target.parent.mkdir(parents=True, exist_ok=True)
    unknown = Unknown(finder.calibrations)
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=planned.target.parent) as between:
        for video, found in videos:
            answer, ours = finder.answer(video, found)
            unknown.add(answer, ours)
            between.write(line_of(answer))
        names = iter(unknown.names())
        between.seek(0)
        with atomic_write(planned.target) as stream:
            for line in between:
                stream.write(line_of(join(VideoAnswer.from_dict(json.loads(line)), names)))
    planned.note()


def line_of(answer: VideoAnswer) -> str:
    """A line of the output. JSON has no NaN: an unknown ratio is null."""
    values = answer.as_dict()
    for appearance in values["appearances"]:
        if math.isnan(appearance["llr"]):
            appearance["llr"] = None
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    cli.run(find_persons, FindOptions, __doc__)
