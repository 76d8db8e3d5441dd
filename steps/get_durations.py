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

import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vidperson import cli


@dataclass(frozen=True)
class DurationOptions:
    """The options of this step."""

    data_dir: Path = cli.option(help="folder with vid.scp, frames.scp or wav.scp")
    file_timeout_s: float = cli.option(60.0, "seconds that a file may take", convert=cli.positive)


class Figures(NamedTuple):
    """What is known of a file. taken: as ``vidperson.media.taken`` tells it."""

    seconds: float = 0.0
    megapixels: float = 0.0
    taken: str = ""


def get_durations(options: DurationOptions) -> None:
    """See the top of this file. Raises DataError for a list that is missing or malformed."""
    from vidperson.io.data_dir import SCPS, pictures_list

    scp = pictures_list(options.data_dir)
    if scp.is_file() or not any((options.data_dir / name).is_file() for name in SCPS):
        _pictures(options, scp)
    if (options.data_dir / "wav.scp").is_file():
        _sounds(options, options.data_dir / "wav.scp")


def _pictures(options: DurationOptions, scp: Path) -> None:
    from vidperson.io.lines import read_paths, read_scp, write_lines
    from vidperson.media.taken import taken_at
    from vidperson.media.video import probe

    segments = read_paths(scp)
    output, notes = options.data_dir / "vid2dur", options.data_dir / "vid2dur.notes"
    if output.is_file() and not notes.is_file() and list(read_scp(output)) == list(segments):
        return  # the user's own

    def figures(path: str) -> Figures:
        is_tar = scp.name == "frames.scp" and os.path.isfile(path)
        return Figures(*_tar_figures(path)) if is_tar else Figures(*probe(path), taken_at(path))

    states = {path: _state(path) for path in segments.values()}
    known = _figures(notes, states, set(states), figures, options.file_timeout_s)
    found = {segment: known[path].split(":", 2) for segment, path in segments.items()}
    for place, name in enumerate(("vid2dur", "vid2pixels")):
        write_lines(options.data_dir / name, (f"{segment} {words[place]}" for segment, words in found.items()))
    taken = options.data_dir / "vid2taken"
    write_lines(taken, (f"{segment} {words[2]}" for segment, words in found.items() if words[2]))


def _sounds(options: DurationOptions, scp: Path) -> None:
    from vidperson.io.lines import read_paths, read_scp, sort_key, write_lines
    from vidperson.media.audio import duration

    output, notes = options.data_dir / "utt2dur", options.data_dir / "utt2dur.notes"
    told = read_scp(output) if output.is_file() else {}
    segments = read_paths(scp)
    lacking = {segment: path for segment, path in segments.items() if segment not in told}
    if not lacking:
        return
    states = {path: _state(path) for path in segments.values()}
    wanted = set(lacking.values())
    known = _figures(notes, states, wanted, lambda path: Figures(duration(path)), options.file_timeout_s)
    seconds = {segment: known[path].split(":")[0] for segment, path in lacking.items()}
    told |= {segment: found for segment, found in seconds.items() if float(found)}
    if told:
        write_lines(output, sorted((f"{segment} {found}" for segment, found in told.items()), key=sort_key))


def _figures(
    notes: Path,
    files: Mapping[str, str],
    wanted: Set[str],
    figures: Callable[[str], Figures],
    timeout_s: float,
) -> dict[str, str]:
    """Path -> ``<seconds>:<megapixels>:<when taken>`` of the wanted files; 0 of one that cannot be read.

    notes: what earlier runs found. files: path -> state of all files, of which notes are kept.
    """
    from vidperson.errors import DataError, MediaError
    from vidperson.io.lines import write_lines
    from vidperson.supervision import Watch, run_supervised

    def keep_notes() -> dict[str, str]:
        """Those of these files: one that was cut short, or is of another file, goes."""
        known = _read_notes(notes)
        kept = {state: known[state] for state in files.values() if state in known}
        write_lines(notes, (f"{figures} {state}" for state, figures in kept.items()))
        return kept

    def probe_files(watch: Watch) -> None:
        known = _read_notes(notes)
        for path, state in files.items():
            if path not in wanted or state in known:
                continue
            watch.begin(path)
            try:
                note(path, figures(path))
            except (DataError, MediaError):
                note(path, Figures())
            watch.end(path)

    def note(path: str, found: Figures) -> None:
        with open(notes, "a", encoding="utf-8") as stream:
            stream.write(f"{found.seconds:.3f}:{found.megapixels:.3f}:{found.taken} {files[path]}\n")

    if not keep_notes().keys() >= {files[path] for path in wanted}:
        run_supervised(probe_files, lambda path, why: note(path, Figures()), timeout_s)
    known = keep_notes()
    return {path: known[files[path]] for path in wanted}


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
    """State of a file -> its figures, as they were written; nothing of a line of an older form."""
    if not notes.exists():
        return {}
    lines = notes.read_bytes().decode().split("\n")[:-1]
    return {state: figures for figures, _, state in (line.partition(" ") for line in lines) if figures.count(":") > 1}


if __name__ == "__main__":
    cli.run(get_durations, DurationOptions, __doc__)
