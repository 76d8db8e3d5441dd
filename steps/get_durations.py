#!/usr/bin/env python3
"""Durations and sizes of the videos and sounds of a data folder, from their headers, so that jobs can be balanced.

When photos and videos were taken is read with them.

Inputs:  <data-dir>/vid.scp, or frames.scp where it is there: each image of it counts as a second.
         <data-dir>/wav.scp, with utt2dur where the corpus states durations.
Outputs: <data-dir>/vid2dur: segment and seconds; a file that cannot be read counts as 0, as does
         one with a header that crashes the reader or takes it longer than --file-timeout-s.
         <data-dir>/vid2pixels: segment and 10^6 pixels that have to be decoded, 0 likewise.
         <data-dir>/vid2taken: segment and when it was taken, ISO 8601, of the files that say it.
         <data-dir>/utt2dur: what it has stays; the segments of wav.scp that it lacks are added,
         but those with a file that cannot be read.
         <data-dir>/vid2dur.notes, utt2dur.notes: what is known of each file, so that only new and
         changed ones are read when the list changes.

Example:
  python steps/get_durations.py --data-dir data/demo_dev_test
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidperson import cli
from vidperson.durations import FILE_TIMEOUT_S


@dataclass(frozen=True)
class DurationOptions:
    """The options of this step."""

    data_dir: Path = cli.option(help="folder with vid.scp, frames.scp or wav.scp")
    file_timeout_s: float = cli.option(FILE_TIMEOUT_S, "seconds that a file may take", convert=cli.positive)


def get_durations(options: DurationOptions) -> None:
    """See the top of this file. Raises DataError for a list that is missing or malformed."""
    from vidperson.durations import write_durations

    write_durations(options.data_dir, options.file_timeout_s)


if __name__ == "__main__":
    cli.run(get_durations, DurationOptions, __doc__)
