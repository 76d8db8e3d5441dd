"""Who is in a video, and when: the types of the answer.

Stage 4 hands it to stage 5 as ``<test set>_who.jsonl``, a line of JSON per video, in the order of the set, see
:func:`vidperson.io.answers.answer_line`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

DECISIONS = ("yes", "unsure", "unknown")
"""The person that is named; probably that person; nobody of the gallery."""

BEST_FOLDER = "faces"
"""Folder of the best items of the appearances, beside who.csv."""

RTTM_TYPE = "SPEAKER"
"""First field of a line of RTTM, whatever shows the person."""


class WhoRow(NamedTuple):
    """A line of who.csv: an appearance, with the names of person and video as typed.

    start_s, end_s, best_time_s: seconds since the beginning of the video. probability: 0..1.
    best_face: path of an image, relative to the folder of who.csv; empty for what is only heard.
    """

    person: str
    video: str
    start_s: float
    end_s: float
    probability: float
    decision: str
    num_faces: int
    best_time_s: float
    best_face: str


@dataclass(frozen=True)
class Candidate:
    """A person of the gallery and how probable it is that an appearance shows them.

    person: id of the person in the enrolment set. llr: natural log-likelihood ratio, same person or another one.
    probability: 0..1, of all persons of the gallery and nobody of them together.
    """

    person: str
    llr: float
    probability: float


@dataclass(frozen=True)
class Track:
    """Items of one person that follow each other within a shot.

    modality: face, speaker or body. start_s, end_s: seconds since the beginning of the video.
    rows: which items of the segment, numbers from 0, in the order of time.
    boxes: per item time_s and x1 y1 x2 y2 in pixels of the frame; empty for what is heard.
    best: place in ``rows`` of the item of the best quality.
    """

    modality: str
    start_s: float
    end_s: float
    rows: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float, float], ...]
    best: int


@dataclass(frozen=True)
class Appearance:
    """A person in a video from start to end: one track, or several that are of one person and follow each other.

    person: id of the person in the enrolment set; of the decision ``unknown`` "unknown 1", "unknown 2", ...: the same
        number for the same person in all videos.
    decision: one of ``DECISIONS``.
    probability: 0..1, that it is ``person``; with ``unknown`` that it is nobody of the gallery.
    llr: of the best candidate, NaN without a gallery.
    tracks: at least one. The first is the one to show: its best item is the best one of the appearance.
    candidates: the most probable persons, best first; none without a gallery.
    """

    person: str
    decision: str
    probability: float
    llr: float
    start_s: float
    end_s: float
    tracks: tuple[Track, ...]
    candidates: tuple[Candidate, ...] = ()

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"decision: expected one of {', '.join(DECISIONS)}, found '{self.decision}'")

    @property
    def num_faces(self) -> int:
        """Items that are seen, of the tracks of the modality that is shown."""
        return sum(len(track.boxes) for track in self.tracks if track.modality == self.tracks[0].modality)

    @property
    def best_time_s(self) -> float:
        """Time of the best item; of what is heard the start."""
        track = self.tracks[0]
        return track.boxes[track.best][0] if track.boxes else track.start_s

    def row(self, person: str, video: str, best: str) -> WhoRow:
        """As a line of who.csv. person, video: as typed. best: path of the image of the best item, or empty."""
        times = round(self.start_s, 3), round(self.end_s, 3)
        count, best_time_s = self.num_faces, round(self.best_time_s, 3)
        return WhoRow(person, video, *times, round(self.probability, 4), self.decision, count, best_time_s, best)


@dataclass(frozen=True)
class VideoAnswer:
    """What was found in a video or an image.

    segment: its id. status: that of stage 2, such as "ok" or "unreadable: ...".
    duration_s, width, height: of the video, 0 where they are not known; an image lasts 0 s.
    appearances: in the order of their start; none is a normal case.
    taken: when it was taken, ISO 8601 as in the list ``vid2taken``; "" where the file does not say.
    """

    segment: str
    status: str
    duration_s: float
    width: int
    height: int
    appearances: tuple[Appearance, ...]
    taken: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VideoAnswer:
        """From plain values, as JSON has them. Raises KeyError or TypeError for another shape."""
        return cls(**{**values, "appearances": tuple(map(_appearance, values["appearances"]))})


def _appearance(values: Mapping[str, Any]) -> Appearance:
    tracks = tuple(_track(track) for track in values["tracks"])
    candidates = tuple(Candidate(**candidate) for candidate in values["candidates"])
    llr = float("nan") if values["llr"] is None else values["llr"]  # JSON has no NaN
    return Appearance(**{**values, "llr": llr, "tracks": tracks, "candidates": candidates})


def _track(values: Mapping[str, Any]) -> Track:
    boxes = tuple(tuple(box) for box in values["boxes"])
    return Track(**{**values, "rows": tuple(values["rows"]), "boxes": boxes})


@dataclass(frozen=True)
class PortraitNote:
    """Something about the portraits that the user should know.

    kind: ``unreadable`` and ``nothing``: a portrait that cannot be read, or shows nobody. ``several``: it shows several
        persons, of whom the largest one counts. ``missing``: no portrait of the person shows anybody. ``same``: two
        persons seem to be one.
    person, other: ids. segment: id of the portrait, of the first three kinds.
    number: how many persons are seen at once. detail: status of stage 2. text: the note as a sentence.
    """

    kind: str
    modality: str
    person: str
    segment: str = ""
    other: str = ""
    number: int = 0
    detail: str = ""
    text: str = ""
