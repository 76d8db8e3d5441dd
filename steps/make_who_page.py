#!/usr/bin/env python3
"""Write the pages that show who is in which video, and when.

Inputs:
  OUTPUT_DIR/who.csv, images of the best items
                       what steps/write_answers.py wrote of the same SOURCES
  <answers>            what steps/find_persons.py wrote for a test set, and its notes on portraits
  <data>/names, spk2utt, vid.scp, wav.scp
                       of enrolment and test sets: persons, videos, and their names as typed
  MODELS               folders of the networks that were used, for their licences and hashes
Outputs in OUTPUT_DIR:
  report.html          persons and videos with their time lines; it holds all that it shows, and
                       opens a video at the second of a click
  persons/<person>.html, unknown/<number>.html, videos/<video>.html
                       a page of each, with the best image of each appearance
  report.html.record.json
                       how all of this was made; what is there, intact and of the same inputs is kept
Equal inputs give equal bytes; the date is the day when the answers were written.

Example:
  source="--answers exp/scores/who/config_folder/folder_test_who.jsonl"
  source+=" --enroll-data data/folder_enroll --test-data data/folder_test"
  steps/make_who_page.py --sources "$source" --output-dir exp/results/config_folder
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.write_answers import SourceOptions, inputs_of
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.report.who import Made, Skipped


@dataclass(frozen=True)
class WhoPageOptions:
    sources: list[str] = cli.option(help="a word per test set: its options, as steps/write_answers.py takes them")
    output_dir: Path = cli.option(help="results folder")
    models: list[Path] = cli.option((), "folders of the networks; where none is installed, it is left out")
    call: str = cli.option("", "command that the page shows; empty: that of the answers")


def make_who_page(options: WhoPageOptions) -> None:
    """See the top of this file.

    Raises DataError for inputs that are missing, edited or malformed, ModelError for a network that was edited.
    """
    from vidperson.io.record import RECORD, damaged_outputs, differences, read_record, record_path, write_record

    sources = [cli.parse(SourceOptions, None, shlex.split(word)) for word in options.sources]
    target = options.output_dir / "report.html"
    command = ["python", "steps/make_who_page.py", "--call", options.call, "--test-sets"]
    command += [source.test_data.name for source in sources]
    command += ["--copies", _copies(options.output_dir)]
    records = [folder / RECORD for folder in options.models if (folder / RECORD).is_file()]
    inputs = [record_path(options.output_dir / "who.csv"), *records]
    inputs += [path for source in sources for path in (*inputs_of(source), *_notes(source))]
    inputs = [path for path in dict.fromkeys(inputs) if path.is_file()]
    record = read_record(target)
    if record and not differences(record, command, inputs) and not damaged_outputs(target, record, thorough=False):
        return
    from vidperson.io.answers import read_answers, read_names
    from vidperson.io.record import checked
    from vidperson.who.pages import PageSource, media_of, write_who_page

    _expect_answers(options.output_dir / "who.csv")
    record_path(target).unlink(missing_ok=True)
    read = [
        PageSource(
            read_answers(checked(source.answers)),
            read_names(source.enroll_data, source.test_data),
            media_of(source.test_data),
            source.test_data.name,
        )
        for source in sources
    ]
    pages = write_who_page(read, options.output_dir, _skipped(sources), _made(options, sources))
    write_record(target, command, inputs, pages)
    logging.info("%s: %d pages", target, len(pages))


def _copies(output_dir: Path) -> str:
    """A digest of the names of the copies with names and boxes, to which the pages link."""
    import hashlib

    copies = (path for path in (output_dir / "annotated").rglob("*") if path.suffix in (".mp4", ".jpg"))
    found = sorted(str(path.relative_to(output_dir)) for path in copies)
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogateescape")).hexdigest()


def _expect_answers(who_csv: Path) -> None:
    """Raises DataError where the answer files or the images are not as they were written."""
    from vidperson.errors import DataError
    from vidperson.io.record import damaged_outputs, read_record

    record = read_record(who_csv)
    if record is None:
        raise DataError("no answer files; run steps/write_answers.py with the same sources first", who_csv)
    if damaged := damaged_outputs(who_csv, record, thorough=False):
        raise DataError(f"expected the file as it was written; {record.cure}", who_csv.parent / damaged[0])


def _made(options: WhoPageOptions, sources: Sequence[SourceOptions]) -> Made:
    """How the answers were made, by their record."""
    from vidperson.io.record import read_record
    from vidperson.report.who import Made
    from vidperson.who.pages import made_on, networks_of

    answers = sources[0].answers
    record = read_record(answers)
    if record is None:
        return Made(made_on(answers), options.call, networks=networks_of(options.models))
    call = options.call or shlex.join(record.command)
    return Made(made_on(answers), call, record.options, record.versions, networks_of(options.models))


def _notes(source: SourceOptions) -> list[Path]:
    from vidperson.io.portrait_notes import notes_path

    return [path for path in [notes_path(source.answers)] if path.is_file()]


def _skipped(sources: Sequence[SourceOptions]) -> list[Skipped]:
    """What stage 4 noted on the portraits."""
    from vidperson.io.answers import read_names
    from vidperson.io.portrait_notes import read_notes
    from vidperson.io.record import checked
    from vidperson.who.pages import skipped_portraits

    persons = {key: name for one in sources for key, name in read_names(one.enroll_data, one.test_data).persons.items()}
    notes = (note for source in sources for path in _notes(source) for note in read_notes(checked(path)))
    return skipped_portraits(notes, persons)


if __name__ == "__main__":
    cli.run(make_who_page, WhoPageOptions, __doc__)
