#!/usr/bin/env python3
"""Who is in each video of a test set, and when: tracks, probabilities and decisions.

Inputs:
  DATA_DIR/<test set>/vid.scp, wav.scp or frames.scp, vid2dur, vid2taken
      the segments, which are answered in C-locale order; how long they last, and when they were taken
  DATA_DIR/<enrolment set>/utt2spk, names
      <segment> <person>, of each of ENROLL_SETS; none: everybody is unknown; names as typed
  Per word of SOURCES, which holds the options of a modality:
  <embed_dir>/<part>/embed.scp, <items_dir>/<part>/
      one (N, dim) float32 matrix per segment, an item per row; what stage 2 found and its status
  <model>/<name>.yaml
      card of the embedder; its calibration makes log-likelihood ratios of cosines
Outputs:
  SCORES_DIR/who/<experiment>/<test set>_who.jsonl
      a line per segment: vidperson.answers.VideoAnswer as JSON
  SCORES_DIR/who/<experiment>/<test set>_notes.jsonl
      a line per portrait or person that the user should know of: vidperson.answers.PortraitNote
Beside each is the record of how it was made. What is there, intact and of the same options and inputs
is kept. docs/metrics.md says how it is decided.

Example:
  face="--modality face --embed-dir exp/face_embed/arcface_tiny --items-dir exp/face_det/retinaface_tiny"
  face+=" --model exp/face_models/arcface_tiny --enroll-parts folder_enroll --test-part folder_test"
  steps/find_persons.py --sources "$face" --data-dir data --enroll-sets folder_enroll \\
    --test-set folder_test --fps 5 --experiment folder
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from steps.parts import listed_segments, segment_lists
from steps.score import RunOptions, embedding_inputs, files_of, items_of, need, refuse_damaged, to_make
from vidperson import cli
from vidperson.backends.decisions import Thresholds

if TYPE_CHECKING:
    from vidperson.answers import PortraitNote
    from vidperson.backends.gallery import Gallery
    from vidperson.io.planned import Planned
    from vidperson.types import Calibration
    from vidperson.who.finding import StoredPart

CUES = ("identity", "appearance")
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
    cue: str = cli.option("identity", "appearance: portraits do not show it, it only joins tracks", choices=CUES)

    def calibration(self) -> Calibration:
        """That of the installed card, or of the shipped one of this name. Raises ModelError where neither has one."""
        from vidperson.networks.card import calibration_of, load_card

        return calibration_of(load_card(self.model / f"{self.model.name}.yaml"))

    def joining(self) -> Calibration | None:
        """The same, None where there is none: nobody is named by this modality, it only joins."""
        from vidperson.networks.card import known_calibration, load_card

        return known_calibration(load_card(self.model / f"{self.model.name}.yaml"))

    def stored(self, part: str) -> StoredPart:
        """What there is of a part. Raises DataError for files that were edited."""
        from vidperson.who.finding import StoredPart

        return StoredPart(self.modality, self.items_dir / part, self.embed_dir / part)

    def gallery(self, enrolment: Sequence[Path], notes: list[PortraitNote]) -> Gallery:
        """The persons of data folders, of which ``enroll_parts`` are the parts. Raises DataError for wrong files.

        notes: what is wrong with portraits is added to it.
        """
        from vidperson.io.lines import read_scp
        from vidperson.who.finding import read_gallery

        parts = map(self.stored, self.enroll_parts.split())
        persons = (read_scp(folder / "utt2spk") for folder in enrolment)
        return read_gallery(zip(parts, persons, strict=True), notes)


@dataclass(frozen=True)
class DecisionOptions:
    """When a person is named."""

    person_prior: float = cli.option(
        Thresholds.person_prior, "prior probability that somebody is in the gallery", convert=cli.share
    )
    min_probability: float = cli.option(Thresholds.yes, "lowest probability of the decision yes", convert=cli.share)
    unsure_probability: float = cli.option(
        Thresholds.unsure,
        "lowest probability that it is anybody of the gallery, for the decision unsure",
        convert=cli.share,
    )

    def thresholds(self) -> Thresholds:
        """Raises ScoringError for values that cannot be."""
        return Thresholds(self.person_prior, self.min_probability, self.unsure_probability)


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

    @property
    def test_data(self) -> Path:
        return self.data_dir / self.test_set

    def enrolment(self) -> list[Path]:
        """The data folders of the enrolment sets."""
        return [self.data_dir / name for name in self.enroll_sets.split()]

    def parsed(self) -> list[SourceOptions]:
        """The sources. Leaves the process with status 2 for options that are wrong."""
        return [cli.parse(SourceOptions, None, shlex.split(word)) for word in self.sources]


def find_persons(options: FindOptions) -> None:
    """See the top of this file.

    Raises ScoringError for what is missing, for embeddings of other items than stage 2's or of another size than those
    of the portraits, and for probabilities that cannot be; DataError for malformed, edited or swapped files; ModelError
    for a network without calibration.
    """
    from vidperson.backends.finding import Finder
    from vidperson.backends.portrait_notes import gallery_notes
    from vidperson.io.portrait_notes import notes_path
    from vidperson.who.finding import read_videos, write_answers, write_portrait_notes

    sources = options.parsed()
    known = [source for source in sources if source.cue == "identity"]
    calibrations = {source.modality: source.calibration() for source in known}
    joining = {source.modality: found for source in sources if source not in known and (found := source.joining())}
    planned = plan(options, sources, {**calibrations, **joining})
    notes_planned = replace(planned, target=notes_path(options.target))
    if not to_make([planned, notes_planned], options.run):
        return
    notes: list[PortraitNote] = []
    galleries = {source.modality: source.gallery(options.enrolment(), notes) for source in known}
    for modality, gallery in galleries.items():
        notes += gallery_notes(gallery, modality, calibrations[modality])
    planned.remove()
    notes_planned.remove()
    write_portrait_notes(notes_planned.target, notes, options.enrolment())
    notes_planned.note()
    finder = Finder(galleries, calibrations, options.decisions.thresholds(), joining)
    parts = [source.stored(source.test_part) for source in sources]
    segments = listed_segments(options.test_data)
    write_answers(options.target, finder, read_videos(segments, parts, options.fps, options.test_data))
    planned.note()


def plan(options: FindOptions, sources: Sequence[SourceOptions], calibrations: Mapping[str, Calibration]) -> Planned:
    """The file to write. Raises ScoringError for what is missing or does not fit together."""
    from vidperson.io.planned import Planned

    cure = "run ./run_001_prepare_data.sh, or correct trial_sets"
    command = ["python", "steps/find_persons.py", "--test-set", options.test_set, "--fps", f"{options.fps:g}"]
    for name, value in vars(options.decisions).items():
        command += [f"--{name.replace('_', '-')}", f"{value:g}"]
    inputs = [need(folder / "utt2spk", cure) for folder in options.enrolment()]
    lists = [folder / "names" for folder in options.enrolment()]
    lists += [options.test_data / name for name in ("vid2dur", "vid2taken")]
    inputs += [path for path in lists if path.is_file()] + segment_lists(options.test_data)
    for source in sources:
        command += ["--sources", source.modality, str(source.embed_dir)]
        parts = [source.test_part]
        if calibration := calibrations.get(source.modality):
            command += [f"{calibration.slope:g}", f"{calibration.offset:g}"]
        if source.cue == CUES[0]:
            command += source.enroll_parts.split()
            parts += source.enroll_parts.split()
        command.append(source.test_part)
        for part in dict.fromkeys(parts):
            items = source.items_dir / part
            need(items / f"{items_of(source.modality)}.scp", CURE)
            refuse_damaged(items)
            inputs += [*embedding_inputs(source.embed_dir / part, items), *files_of(items, items_of(source.modality))]
    return Planned(options.target, command, list(dict.fromkeys(inputs)))


if __name__ == "__main__":
    cli.run(find_persons, FindOptions, __doc__)
