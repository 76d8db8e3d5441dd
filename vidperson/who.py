"""Who is in videos, and when, from the folders of stages 2 and 3: what stage 4 and the console call."""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vidperson.answers import VideoAnswer
from vidperson.backends.finding import Finder, Found, Unknown, Video, join, portrait
from vidperson.backends.gallery import Gallery
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import read_scp
from vidperson.io.matrices import checked_matrices
from vidperson.io.record import checked
from vidperson.types import ITEMS

log = logging.getLogger(__name__)


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
        self._embeddings = checked_matrices(embeddings, "embed")

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


def read_gallery(sets: Iterable[tuple[StoredPart, Mapping[str, str]]]) -> Gallery:
    """The persons of enrolment sets: per set its part, and segment -> person. Persons without a vector are warned of.

    Raises DataError as :meth:`StoredPart.found`.
    """
    portraits, modality = [], ""
    for part, person_of in sets:
        modality = part.modality
        portraits += [portrait(segment, person, part.found(segment)) for segment, person in person_of.items()]
    gallery = Gallery.of(portraits)
    for person in gallery.missing:
        log.warning("%s: no %s in the portraits, so nobody is found by it", person, modality)
    return gallery


def read_videos(
    segments: Iterable[str], parts: Sequence[StoredPart], fps: float
) -> Iterator[tuple[Video, list[Found]]]:
    """Each segment with what there is of it by each modality.

    parts: of the same set, one a modality. fps: frames per second that stage 2 searched.
    Raises DataError as :meth:`StoredPart.found`.
    """
    for segment in segments:
        status = next((part.statuses[segment] for part in parts if segment in part.statuses), "unreadable: no status")
        yield Video(segment, status, interval_s=1 / fps), [part.found(segment) for part in parts]


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
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as between:
        for video, found in videos:
            answer, vectors = finder.answer(video, found)
            unknown.add(answer, vectors)
            between.write(line_of(answer))
        names = iter(unknown.names())
        between.seek(0)
        with atomic_write(target) as stream:
            for line in between:
                stream.write(line_of(join(VideoAnswer.from_dict(json.loads(line)), names)))


def line_of(answer: VideoAnswer) -> str:
    """A line of the file. JSON has no NaN: an unknown ratio is null."""
    values = answer.as_dict()
    for appearance in values["appearances"]:
        if math.isnan(appearance["llr"]):
            appearance["llr"] = None
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
