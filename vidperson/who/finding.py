"""Who is in videos, and when, from the folders of stages 2 and 3: what stage 4 and the console call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from vidperson.answers import PortraitNote, VideoAnswer
from vidperson.backends.finding import Finder, Found, Unknown, Video, join, portrait
from vidperson.backends.gallery import Gallery
from vidperson.backends.portrait_notes import noted
from vidperson.errors import DataError, MediaError
from vidperson.io.answers import answer_line
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.matrices import checked_matrices
from vidperson.io.portrait_notes import write_notes
from vidperson.io.record import checked
from vidperson.media.video import sound_after_frames_s
from vidperson.report.portrait_notes import note_text
from vidperson.types import HEARD, ITEMS, Float, is_image_name


class StoredPart:
    """What stages 2 and 3 have of a part of a data set by one modality, segment by segment.

    items: folder of stage 2. embeddings: folder of stage 3.
    statuses: segment -> status of stage 2.
    Raises DataError for files that were edited, cut or swapped, or are missing.
    """

    def __init__(self, modality: str, items: Path, embeddings: Path) -> None:
        self.modality = modality
        self.statuses = read_scp(checked(items / "status"))
        self._rows = checked_matrices(items, ITEMS[modality])
        self._quality = checked_matrices(items, "quality") if (items / "quality.scp").is_file() else None
        self._shots = checked_matrices(items, "shots", 3) if (items / "shots.scp").is_file() else None
        self._embeddings = checked_matrices(embeddings, "embed")

    def shots(self, segment: str) -> Float | None:
        """(S, 3) float32: seconds at which shots begin, width, height; None where stage 2 did not note them."""
        return self._shots[segment] if self._shots is not None and segment in self._shots else None

    def found(self, segment: str) -> Found:
        """Raises DataError for a segment that is not there, or with other items than embeddings."""
        for table in (self._rows, self._embeddings, *([] if self._quality is None else [self._quality])):
            if segment not in table:
                raise DataError(f"segment '{segment}' is not there; run stages 2 and 3 for the set", table.scp)
        rows, embeddings = self._rows[segment], self._embeddings[segment]
        quality = None if self._quality is None else self._quality[segment]
        if len(rows) != len(embeddings):
            what = f"segment '{segment}': expected embeddings of {len(rows)} items, found {len(embeddings)}"
            raise DataError(f"{what}; run stage 3 again", self._embeddings.scp)
        return Found(self.modality, rows, quality, embeddings)


def read_gallery(
    sets: Iterable[tuple[StoredPart, Mapping[str, str]]], notes: list[PortraitNote] | None = None
) -> Gallery:
    """The persons of enrolment sets: per set its part, and segment -> person.

    notes: what is wrong with portraits is added to it. Raises DataError as :meth:`StoredPart.found`.
    """
    ours = [] if notes is None else notes
    return Gallery.of(
        one
        for part, person_of in sets
        for one in noted(
            (
                portrait(segment, person, part.found(segment), part.statuses.get(segment, "ok"))
                for segment, person in person_of.items()
            ),
            part.modality,
            ours,
        )
    )


def write_portrait_notes(target: str | os.PathLike[str], notes: Iterable[PortraitNote], data: Iterable[Path]) -> None:
    """Write the notes with their sentences.

    data: data folders of the enrolment sets; their lists ``names`` have the names as typed.
    """
    names: dict[str, str] = {}
    for folder in data:
        if (folder / "names").is_file():
            names |= read_scp(folder / "names")
    write_notes(target, (replace(note, text=note_text(note, names)) for note in notes))


def read_videos(
    segments: Iterable[str], parts: Sequence[StoredPart], fps: float, data: Path
) -> Iterator[tuple[Video, list[Found]]]:
    """Each segment with what there is of it by each modality.

    parts: of the same set, one a modality. fps: frames per second that stage 2 searched.
    data: data folder; ``vid2dur`` and ``vid2taken`` in it tell how long videos last, and when they were taken; the
        files of ``wav.scp`` tell where their sound begins.
    Raises DataError as :meth:`StoredPart.found`.
    """
    seconds, taken, paths = (
        read_scp(data / name) if (data / name).is_file() else {} for name in ("vid2dur", "vid2taken", "vid.scp")
    )
    sounds = read_paths(data / "wav.scp") if (data / "wav.scp").is_file() else {}
    for segment in segments:
        status = next((part.statuses[segment] for part in parts if segment in part.statuses), "unreadable: no status")
        shots = next((rows for part in parts if (rows := part.shots(segment)) is not None), None)
        is_image = is_image_name(paths.get(segment, ""))
        duration_s = 0.0 if is_image else round(float(seconds.get(segment, 0.0)), 3)
        video = video_of(segment, status, shots, duration_s, fps, taken.get(segment, ""))
        yield video, [_on_clock_of_frames(part.found(segment), sounds.get(segment)) for part in parts]


def _on_clock_of_frames(found: Found, path: str | None) -> Found:
    """What is heard in a video, with times since its first frame: the sound of a clip may begin earlier or later."""
    if path is None or ITEMS[found.modality] not in HEARD or not len(found.rows):
        return found
    try:
        later_s = sound_after_frames_s(path)
    except MediaError:
        return found
    rows = found.rows.copy()
    rows[:, :2] = np.maximum(rows[:, :2] + later_s, 0)
    return replace(found, rows=rows)


def video_of(segment: str, status: str, shots: Float | None, duration_s: float, fps: float, taken: str = "") -> Video:
    """shots: (S, 3) as of :meth:`StoredPart.shots`. duration_s: 0 for an image. fps: frames searched per second."""
    width, height = (0, 0) if shots is None or not len(shots) else map(int, shots[0, 1:].tolist())
    starts = None if shots is None else shots[:, :1]
    return Video(segment, status, duration_s, width, height, starts, 1 / fps, taken)


def write_answers(
    target: str | os.PathLike[str], finder: Finder, videos: Iterable[tuple[Video, Sequence[Found]]]
) -> None:
    """Answer videos, name the unknown persons, and write ``<set>_who.jsonl``, whole or not at all.

    What is between the two passes is in a temporary file beside ``target``.
    Raises ScoringError as :meth:`Finder.answer`.
    """
    folder = Path(target).parent
    folder.mkdir(parents=True, exist_ok=True)
    unknown = Unknown(finder.calibrations)
    with tempfile.TemporaryFile("w+b", dir=folder) as between:
        for video, found in videos:
            answer, vectors = finder.answer(video, found)
            unknown.add(answer, vectors)
            between.write(answer_line(answer))
        names = iter(unknown.names())
        between.seek(0)
        with atomic_write(target, "wb") as stream:
            for line in between:
                stream.write(answer_line(join(VideoAnswer.from_dict(orjson.loads(line)), names)))
