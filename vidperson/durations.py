"""How long the videos and sounds of a data folder last, how large they are, and when they were taken, by their headers.

``vid2dur``, ``vid2pixels``, ``vid2taken``, ``utt2dur`` and notes for the next run: see steps/get_durations.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from vidperson.errors import DataError, MediaError
from vidperson.io.data_dir import SCPS, pictures_list
from vidperson.io.lines import read_paths, read_scp, sort_key, write_lines
from vidperson.io.pictures import list_pictures
from vidperson.supervision import Watch, run_supervised
from vidperson.types import IMAGE_SUFFIXES

FILE_TIMEOUT_S = 60.0


class Figures(NamedTuple):
    """What is known of a file. taken: as ``vidperson.media.taken`` tells it."""

    seconds: float = 0.0
    megapixels: float = 0.0
    taken: str = ""


def write_durations(data_dir: Path, timeout_s: float = FILE_TIMEOUT_S) -> None:
    """Write the lists into a data folder.

    timeout_s: seconds that a file may take. Raises DataError for a list that is missing or malformed.
    """
    scp = pictures_list(data_dir)
    if scp.is_file() or not any((data_dir / name).is_file() for name in SCPS):
        _pictures(data_dir, timeout_s, scp)
    if (data_dir / "wav.scp").is_file():
        _sounds(data_dir, timeout_s, data_dir / "wav.scp")


def figures_of(path: str) -> Figures:
    """Those of a video, an image or a folder of images, by its header. Raises MediaError for one that has none."""
    from vidperson.media.taken import taken_at
    from vidperson.media.video import probe

    return Figures(*probe(path), taken_at(path))


def _pictures(data_dir: Path, timeout_s: float, scp: Path) -> None:
    segments = read_paths(scp)
    output, notes = data_dir / "vid2dur", data_dir / "vid2dur.notes"
    if output.is_file() and not notes.is_file() and list(read_scp(output)) == list(segments):
        return  # the user's own

    def figures(path: str) -> Figures:
        is_tar = scp.name == "frames.scp" and os.path.isfile(path)
        return Figures(*_tar_figures(path)) if is_tar else figures_of(path)

    states = {path: _state(path) for path in segments.values()}
    known = _figures(notes, states, set(states), figures, timeout_s)
    found = {segment: known[path].split(":", 2) for segment, path in segments.items()}
    for place, name in enumerate(("vid2dur", "vid2pixels")):
        write_lines(data_dir / name, (f"{segment} {words[place]}" for segment, words in found.items()))
    taken = data_dir / "vid2taken"
    write_lines(taken, (f"{segment} {words[2]}" for segment, words in found.items() if words[2]))


def _sounds(data_dir: Path, timeout_s: float, scp: Path) -> None:
    from vidperson.media.audio import duration

    output, notes = data_dir / "utt2dur", data_dir / "utt2dur.notes"
    told = read_scp(output) if output.is_file() else {}
    segments = read_paths(scp)
    lacking = {segment: path for segment, path in segments.items() if segment not in told}
    if not lacking:
        return
    states = {path: _state(path) for path in segments.values()}
    wanted = set(lacking.values())
    known = _figures(notes, states, wanted, lambda path: Figures(duration(path)), timeout_s)
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
