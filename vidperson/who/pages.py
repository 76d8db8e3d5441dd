"""The pages of an answer: ``report.html``, ``persons/``, ``unknown/`` and ``videos/`` beside who.csv.

Stage 5 and the app call the same function. The videos are taken one at a time, see :mod:`vidperson.report.who`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from vidperson.answers import PortraitNote, VideoAnswer
from vidperson.io.answers import Names, best_name, file_names, read_who_json
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import read_scp
from vidperson.io.record import record_path
from vidperson.networks.install import InstalledModel, installed_model
from vidperson.report.who import Made, Network, Shown, Skipped, who_pages

FIRST_PAGE = "report.html"
FOLDERS = ("persons", "unknown", "videos")
ANSWER_FILES = {
    "who.csv": "table",
    "who.json": "with all boxes",
    "who.rttm": "who when, for diarisation",
    "coco.json": "boxes",
    "subtitles": "WebVTT",
    "cvat": "boxes for CVAT",
    "annotated": "copies with names and boxes",
}
"""Files and folders of the same answer, which the first page links to where they are there."""


@dataclass(frozen=True)
class PageSource:
    """The answers of a test set.

    answers: its videos, to be read once. media: segment -> its file, as the page links to it: an absolute path, or one
    relative to the current folder. test_set: name, which tells sets apart where there are several.
    """

    answers: Iterable[VideoAnswer]
    names: Names
    media: Mapping[str, Path] = field(default_factory=dict)
    test_set: str = ""


def write_who_page(
    sources: Sequence[PageSource], output_dir: Path, skipped: Sequence[Skipped] = (), made: Made | None = None
) -> list[Path]:
    """Write the pages into the folder of who.csv, in place of those that were there, and return their paths.

    The faces are those of :func:`vidperson.who.files.write_answer_files` in that folder.
    """
    several = len(sources) > 1
    persons = {person: _readable(name) for source in sources for person, name in source.names.persons.items()}
    made = made or Made()
    if not made.files:
        files = {name: what for name, what in ANSWER_FILES.items() if _is_filled(output_dir / name)}
        made = replace(made, files=files)

    def face(test_set: str, segment: str, number: int) -> bytes | None:
        path = output_dir / best_name(segment, number, test_set if several else "")
        return path.read_bytes() if path.is_file() else None

    partial = output_dir / "pages.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for name in FOLDERS:
        (partial / name).mkdir(parents=True)
    written, first_page = [], ""
    first = _first_frames(output_dir / "who.json")
    videos = (shown for source in sources for shown in _shown(source, output_dir, several, first))
    for name, text in who_pages(videos, persons, face, skipped, made):
        if name == FIRST_PAGE:
            first_page = text
            continue
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        written.append(output_dir / name)
    for name in FOLDERS:
        shutil.rmtree(output_dir / name, ignore_errors=True)
        os.replace(partial / name, output_dir / name)
    partial.rmdir()
    with atomic_write(output_dir / FIRST_PAGE) as stream:
        stream.write(first_page)
    return [*written, output_dir / FIRST_PAGE]


def _is_filled(path: Path) -> bool:
    """Whether it is a file, or a folder with one in it: of copies that were removed empty folders are left."""
    return path.is_file() or any(map(Path.is_file, path.rglob("*")))


def _first_frames(who_json: Path) -> dict[tuple[str, str], float]:
    """Test set and segment -> seconds at which a player shows the first frame, of those where it is not 0."""
    videos = read_who_json(who_json) if who_json.is_file() else iter(())
    times = ((each["test_set"], each["segment"], each.get("first_frame_s", 0.0)) for each in videos)
    return {(test_set, segment): time_s for test_set, segment, time_s in times if time_s}


def _shown(
    source: PageSource, output_dir: Path, several: bool, first: Mapping[tuple[str, str], float]
) -> Iterator[Shown]:
    prefix = source.test_set if several else ""
    stems = file_names(source.names.videos)
    for answer in source.answers:
        segment = answer.segment
        stem = os.path.join(prefix, stems.get(segment, segment))
        copies = (f"annotated/{stem}{suffix}" for suffix in (".mp4", ".jpg"))
        media = source.media.get(segment)
        yield Shown(
            answer=answer,
            name=_readable(source.names.video(segment)),
            page=stem,
            media=media_link(media, output_dir) if media else "",
            annotated=next((quote(copy) for copy in copies if (output_dir / copy).is_file()), ""),
            test_set=source.test_set,
            first_frame_s=first.get((source.test_set, segment), 0.0),
        )


def _readable(name: str) -> str:
    """A name with a sign for each byte that is no UTF-8, as Python holds them in names of files."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def media_link(path: Path, folder: Path) -> str:
    """A link to a file for a page in a folder: relative for a relative path, so that both may be moved together."""
    return path.as_uri() if path.is_absolute() else quote(os.path.relpath(path, folder))


def media_of(data: Path) -> dict[str, Path]:
    """Segment -> its video, image or sound file, of a data folder. Raises DataError for malformed lists."""
    found: dict[str, Path] = {}
    for name in ("wav.scp", "vid.scp"):  # what is seen rather than what is heard
        if (data / name).is_file():
            found |= {segment: data / path for segment, path in read_scp(data / name).items()}
    return found


def skipped_portraits(notes: Iterable[PortraitNote], persons: Mapping[str, str]) -> list[Skipped]:
    """What the page tells of portraits, each once. persons: id -> name as typed."""
    told = (Skipped("portrait", persons.get(note.person, note.person), note.text) for note in notes)
    return list(dict.fromkeys(told))


def made_on(path: Path) -> str:
    """The day, in UTC, when a file was written, such as ``27 November 2026``."""
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return f"{day.day} {day:%B} {day.year}"


def network_of(model: InstalledModel) -> Network:
    """What the page tells of a network."""
    return Network(model.card.name, model.card.kind.replace("_", " "), model.sha256, model.card.licence)


def networks_of(folders: Iterable[Path]) -> list[Network]:
    """Those of installed models, each once. A folder where none is installed is left out."""
    return [network_of(installed_model(folder)) for folder in dict.fromkeys(folders) if record_path(folder).is_file()]
