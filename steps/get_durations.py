#!/usr/bin/env python3
"""Durations and sizes of the videos of a data folder, from their headers, so that jobs can be balanced.

Inputs:  <data-dir>/vid.scp, or frames.scp where it is there: each image of it counts as a second.
         Of a set with wav.scp only, nothing is read or written: its durations are those of utt2dur.
Outputs: <data-dir>/vid2dur: segment and seconds; a file that cannot be read counts as 0, as does
         one with a header that crashes the reader or takes it longer than --file-timeout-s.
         <data-dir>/vid2pixels: segment and 10^6 pixels that have to be decoded, 0 likewise.
         <data-dir>/vid2dur.notes: what is known of each file, so that only new and changed ones
         are read when the list changes.

Example:
  python steps/get_durations.py --data-dir data/demo_dev_test
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli


@dataclass(frozen=True)
class DurationOptions:
    """The options of this step."""

    data_dir: Path = cli.option(help="folder with vid.scp, frames.scp or wav.scp")
    file_timeout_s: float = cli.option(60.0, "seconds that a file may take", convert=cli.positive)


def get_durations(options: DurationOptions) -> None:
    """See the top of this file. Raises DataError for a list that is missing or malformed."""
    from vidperson.io.data_dir import SCPS, pictures_list
    from vidperson.io.lines import read_paths, read_scp, write_lines
    from vidperson.supervision import Watch, run_supervised

    scp = pictures_list(options.data_dir)
    if not scp.is_file() and any((options.data_dir / name).is_file() for name in SCPS):
        return  # a set without pictures
    segments = read_paths(scp)
    output, notes = options.data_dir / "vid2dur", options.data_dir / "vid2dur.notes"
    pixels = options.data_dir / "vid2pixels"
    if output.is_file() and not notes.is_file() and list(read_scp(output)) == list(segments):
        return  # the user's own
    files = {path: _state(path) for path in segments.values()}

    def keep_notes() -> dict[str, str]:
        """Those of these files: one that was cut short, or is of another file, goes."""
        known = _read_notes(notes)
        kept = {state: known[state] for state in files.values() if state in known}
        write_lines(notes, (f"{figures} {state}" for state, figures in kept.items()))
        return kept

    def probe_files(watch: Watch) -> None:
        from vidperson.errors import DataError, MediaError
        from vidperson.media.video import probe

        known = _read_notes(notes)
        for path, state in files.items():
            if state in known:
                continue
            watch.begin(path)
            try:
                is_tar = scp.name == "frames.scp" and os.path.isfile(path)
                note(path, *(_tar_figures(path) if is_tar else probe(path)))
            except (DataError, MediaError):
                note(path)
            watch.end(path)

    def note(path: str, seconds: float = 0.0, megapixels: float = 0.0) -> None:
        with open(notes, "a", encoding="utf-8") as stream:
            stream.write(f"{seconds:.3f}:{megapixels:.3f} {files[path]}\n")

    if len(keep_notes()) < len(set(files.values())):
        run_supervised(probe_files, lambda path, why: note(path), options.file_timeout_s)
    known = keep_notes()
    for place, file in enumerate((output, pixels)):
        write_lines(file, (f"{segment} {known[files[path]].split(':')[place]}" for segment, path in segments.items()))


def _tar_figures(path: str) -> tuple[float, float]:
    """Seconds and 10^6 pixels of a tar of images, at 4 bits a pixel. Raises DataError where it is none."""
    from vidperson.io.pictures import list_pictures
    from vidperson.types import IMAGE_SUFFIXES

    pictures = list_pictures(path, IMAGE_SUFFIXES)
    return float(len(pictures)), 2 * float(pictures.sizes.sum()) / 1e6


def _state(path: str) -> str:
    """``<size> <time of change> <path>``: another file under the same name has another one."""
    try:
        found = os.stat(path)
    except OSError:
        return f"0 0 {path}"
    return f"{found.st_size} {found.st_mtime_ns} {path}"


def _read_notes(notes: Path) -> dict[str, str]:
    """State of a file -> ``<seconds>:<megapixels>``, as they were written; nothing of a list without pixels."""
    if not notes.exists():
        return {}
    lines = notes.read_bytes().decode().split("\n")[:-1]
    return {state: figures for figures, _, state in (line.partition(" ") for line in lines) if ":" in figures}


if __name__ == "__main__":
    cli.run(get_durations, DurationOptions, __doc__)
