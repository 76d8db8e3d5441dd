#!/usr/bin/env python3
"""Write who is in which video, and when, in the formats that other programs read, and print it.

Inputs:
  <answers>            what steps/find_persons.py wrote for a test set: a video a line; beside it what
                       the user should know of the portraits, which is printed first
  <data>/names, spk2utt, vid.scp, wav.scp
                       of enrolment and test sets: persons, videos, and their names as typed
  <items>/             items of the test set of stage 2: their archive, crops.tar and status
Outputs in OUTPUT_DIR:
  who.csv              a line per appearance of a person in a video, names as typed
  who.json             the same with all boxes and candidates, a line per video
  who.rttm             as tools of diarisation read it; blanks in names become _
  coco.json            boxes of all videos, persons as categories
  subtitles/<video>.vtt, cvat/<video>.xml
                       subtitles with the names; boxes for CVAT
  faces/<segment>_<number>.jpg
                       the best item of each appearance
  annotated/<video>.mp4, .jpg
                       with --annotate true: a copy of each video or image with boxes and
                       names, with its record; without it there are none
  who.csv.record.json  how all of this was made; what is there, intact and of the same inputs is kept
The table and a summary go to stdout. Equal inputs give equal bytes.

Example:
  source="--answers exp/scores/who/config_folder/folder_test_who.jsonl"
  source+=" --enroll-data data/folder_enroll --test-data data/folder_test"
  source+=" --items face=exp/face_det/retinaface_tiny/folder_test"
  steps/write_answers.py --sources "$source" --output-dir exp/results/config_folder
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli

MOST_NOTES = 20


@dataclass(frozen=True)
class SourceOptions:
    """The answers of a test set."""

    answers: Path = cli.option(help="list of stage 4, a video a line")
    test_data: Path = cli.option(help="data folder of the test set")
    enroll_data: list[Path] = cli.option((), "data folders of the persons; none: nobody is known")
    items: list[str] = cli.option((), "<modality>=<folder of stage 2 with the items of the test set>, of each")

    def folders(self) -> dict[str, Path]:
        """Modality -> folder. Raises ScoringError for another form."""
        from vidperson.errors import ScoringError
        from vidperson.types import ITEMS

        pairs = [word.partition("=") for word in self.items]
        if wrong := ["".join(pair) for pair in pairs if pair[0] not in ITEMS or not pair[2]]:
            expected = f"expected <modality>=<folder> with a modality of {' '.join(ITEMS)}"
            raise ScoringError(f"--items: {expected}, found '{wrong[0]}'")
        return {modality: Path(folder) for modality, _, folder in pairs}


@dataclass(frozen=True)
class WriteAnswersOptions:
    sources: list[str] = cli.option(help="a word per test set: its options, see the example")
    output_dir: Path = cli.option(help="results folder")
    annotate: bool = cli.option(False, "true: copy each video with boxes and names drawn in")
    most_rows: int = cli.option(100, "lines of the table that is printed", convert=cli.whole(1))


def write_answers(options: WriteAnswersOptions) -> None:
    """See the top of this file.

    Raises DataError for inputs that are missing, edited or do not fit together, ScoringError for wrong words.
    """
    from vidperson.io.answers import read_who_csv
    from vidperson.report.who_table import who_table
    from vidperson.who.summary import summarise

    read = [cli.parse(SourceOptions, None, shlex.split(word)) for word in options.sources]
    make(read, options.output_dir)
    copy_videos(read if options.annotate else [], options.output_dir)
    table = who_table(read_who_csv(options.output_dir / "who.csv"), options.most_rows)
    for line in [*portrait_notes(read), *table, "", *summarise(options.output_dir / "who.json").lines()]:
        print(line)


def portrait_notes(read: Sequence[SourceOptions]) -> list[str]:
    """What the user should know of the portraits; of many the first. Raises DataError for edited lists."""
    from vidperson.io.portrait_notes import notes_path, read_notes
    from vidperson.io.record import checked

    paths = [path for source in read if (path := notes_path(source.answers)).is_file()]
    lines = list(dict.fromkeys(note.text for path in paths for note in read_notes(checked(path))))
    more = [f"and {len(lines) - MOST_NOTES} more notes on portraits"] if lines[MOST_NOTES:] else []
    return [*lines[:MOST_NOTES], *more, *([""] if lines else [])]


def make(read: Sequence[SourceOptions], output_dir: Path) -> None:
    """Write the files, unless they are there, intact, and of the same inputs."""
    from vidperson.io.record import damaged_outputs, differences, read_record, record_path, write_record

    target = output_dir / "who.csv"
    command = ["python", "steps/write_answers.py", "--test-sets", *(source.test_data.name for source in read)]
    inputs = list(dict.fromkeys(path for source in read for path in inputs_of(source)))
    record = read_record(target)
    if record and not differences(record, command, inputs) and not damaged_outputs(target, record, thorough=False):
        return
    from vidperson.errors import DataError
    from vidperson.io.answers import read_answers, read_names
    from vidperson.io.record import checked
    from vidperson.who.files import FILES, FOLDERS, Source, videos_of, write_answer_files

    for source in read:
        if not source.answers.is_file():
            raise DataError("no such file; run ./run_004_score.sh with find_persons=true", source.answers)
    sources = [
        Source(
            read_answers(checked(source.answers)),
            read_names(source.enroll_data, source.test_data),
            source.folders(),
            source.test_data.name,
            videos_of(source.test_data),
        )
        for source in read
    ]
    record_path(target).unlink(missing_ok=True)
    write_answer_files(sources, output_dir)
    made = [path for name in FOLDERS for path in sorted((output_dir / name).rglob("*")) if path.is_file()]
    write_record(target, command, inputs, [*(output_dir / name for name in FILES), *made])


def copy_videos(read: Sequence[SourceOptions], output_dir: Path) -> None:
    """Copy the videos of these sets with names drawn in, unless they are there; copies of others are removed."""
    if not read and not (output_dir / "annotated").is_dir():
        return
    from vidperson.io.answers import read_answers, read_names
    from vidperson.io.record import checked
    from vidperson.who.files import annotate_videos, remove_annotated, videos_of

    copies: set[Path] = set()
    for source in read:
        names = read_names(source.enroll_data, source.test_data)
        folder = source.test_data.name if len(read) > 1 else ""
        copies.update(
            annotate_videos(
                read_answers(checked(source.answers)), names, videos_of(source.test_data), output_dir, folder
            )
        )
    remove_annotated(output_dir, copies)


def inputs_of(source: SourceOptions) -> list[Path]:
    """The files that decide what is written of a test set."""
    from vidperson.io.data_dir import SCPS
    from vidperson.io.record import RECORD

    lists = [data / name for data in source.enroll_data for name in ("names", "spk2utt")]
    lists += [source.test_data / name for name in ("names", *SCPS)]
    lists += [folder / RECORD for folder in source.folders().values()]
    return [source.answers, *(path for path in lists if path.is_file())]


if __name__ == "__main__":
    cli.run(write_answers, WriteAnswersOptions, __doc__)
