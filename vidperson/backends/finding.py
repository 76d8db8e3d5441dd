"""Who is in a video, and when: from what stages 2 and 3 have of each segment to answers.

Two passes: :class:`Finder` answers a video at a time, an appearance per track, and gives the vectors of the tracks of
nobody in the gallery; when all videos are through, :func:`same_unknown` tells which of these tracks are of one person,
and :func:`join` names them and joins the tracks of a person that follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vidperson.answers import Appearance, Candidate, Track, VideoAnswer
from vidperson.backends.clustering import average_linkage
from vidperson.backends.decisions import Thresholds, posteriors
from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.backends.tracks import tracks_of
from vidperson.errors import ScoringError
from vidperson.types import ITEMS, LINKED, Calibration

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_GAP_S = 1.0
"""Tracks of a person that begin at most this after the one before are one appearance."""
NUM_CANDIDATES = 5
SAME_UNKNOWN_PRIOR = 0.01
"""How probable it is that two tracks of nobody in the gallery are of one person."""
_DIGITS = 4


@dataclass(frozen=True)
class Found:
    """What stages 2 and 3 have of a segment by one modality.

    rows: (N, columns) float32 of stage 2. quality: (N, 2) float32, None where there is none.
    embeddings: (N, D) float32; N = 0 is a normal case.
    """

    modality: str
    rows: Float
    quality: Float | None
    embeddings: Float


@dataclass(frozen=True)
class Video:
    """A segment of the test set.

    status: that of stage 2. duration_s, width, height: 0 where they are not known; an image lasts 0 s.
    shots: (S, 1) float32 seconds at which shots begin; None: there is one shot.
    interval_s: seconds between the frames that were searched. taken: see :class:`~vidperson.answers.VideoAnswer`.
    """

    segment: str
    status: str
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    shots: Float | None = None
    interval_s: float = 0.2
    taken: str = ""


def tracks_in(found: Found, video: Video) -> tuple[list[Track], Double]:
    """The tracks of a segment by one modality, and their (T, D) unit vectors; see ``tracks.tracks_of``."""
    times = video.interval_s, video.duration_s
    try:
        tracks, units, _ = tracks_of(found.modality, found.rows, found.quality, found.embeddings, video.shots, *times)
    except ScoringError as error:
        raise ScoringError(f"segment '{video.segment}': {error}") from None
    return tracks, units


def portrait(segment: str, person: str, found: Found, status: str = "ok") -> Portrait:
    """A segment of the enrolment set: of several tracks that with the largest boxes counts, or which lasts longest."""
    tracks, units = tracks_in(found, Video(segment, status))
    if not tracks:
        return Portrait(segment, person, None, status, 0)
    linked = ITEMS[found.modality] in LINKED
    together = int(np.unique(found.rows[:, 0], return_counts=True)[1].max()) if linked else 1
    sizes = [_size(track) for track in tracks]
    return Portrait(segment, person, units[int(np.argmax(sizes))], status, together)


def _size(track: Track) -> float:
    if not track.boxes:
        return track.end_s - track.start_s
    return math.fsum((x2 - x1) * (y2 - y1) for _, x1, y1, x2, y2 in track.boxes)


class Finder:
    """Names the tracks of videos.

    galleries, calibrations: modality -> persons, and how its cosines become log-likelihood ratios. All galleries are of
    the same enrolment set.
    """

    def __init__(
        self, galleries: Mapping[str, Gallery], calibrations: Mapping[str, Calibration], thresholds: Thresholds
    ) -> None:
        self.galleries, self.calibrations, self.thresholds = galleries, calibrations, thresholds

    def answer(self, video: Video, found: Sequence[Found]) -> tuple[VideoAnswer, list[tuple[str, Double]]]:
        """An appearance per track, in the order of their start; and of those that are ``unknown``, in that order,
        modality and (D,) vector.

        Raises ScoringError for embeddings of another size than the gallery's.
        """
        named: list[tuple[Appearance, str, Double]] = []
        for one in found:
            tracks, units = tracks_in(one, video)
            named += [
                (appearance, one.modality, unit)
                for appearance, unit in zip(self._named(one.modality, tracks, units), units, strict=True)
            ]
        named.sort(key=lambda each: _order(each[0]))
        unknown = [(modality, unit) for each, modality, unit in named if each.decision == "unknown"]
        appearances = tuple(each for each, _, _ in named)
        size = video.duration_s, video.width, video.height
        return VideoAnswer(video.segment, video.status, *size, appearances, video.taken), unknown

    def _named(self, modality: str, tracks: Sequence[Track], units: Double) -> list[Appearance]:
        gallery, calibration = self.galleries[modality], self.calibrations[modality]
        if len(gallery) and len(units) and gallery.vectors.shape[1] != units.shape[1]:
            sizes = f"{gallery.vectors.shape[1]} numbers as in the portraits, found {units.shape[1]}"
            raise ScoringError(f"expected {modality} embeddings of {sizes}; extract all with the same network")
        llrs = calibration.llr(gallery.cosines(units))
        return [self._decided(track, gallery, row) for track, row in zip(tracks, llrs, strict=True)]

    def _decided(self, track: Track, gallery: Gallery, llrs: Double) -> Appearance:
        probabilities, nobody = posteriors(llrs, self.thresholds.person_prior, len(gallery))
        order = np.argsort(-llrs, kind="stable")[:NUM_CANDIDATES]
        candidates = tuple(
            Candidate(gallery.persons[i], round(float(llrs[i]), _DIGITS), round(float(probabilities[i]), _DIGITS))
            for i in order.tolist()
        )
        best = candidates[0] if candidates else Candidate("", math.nan, 0.0)
        decision = self.thresholds.decide(best.probability, nobody)
        person, probability = best.person, best.probability
        if decision == "unknown":
            person, probability = "", round(nobody, _DIGITS)
        span = track.start_s, track.end_s
        return Appearance(person, decision, probability, best.llr, *span, (track,), candidates)


def _order(appearance: Appearance) -> tuple[float, float, tuple[tuple[str, int], ...]]:
    where = tuple((track.modality, track.rows[0]) for track in appearance.tracks)
    return appearance.start_s, appearance.end_s, where


def same_unknown(units: Double, seconds: Double, calibration: Calibration, max_bytes: int = 2**29) -> Index:
    """(U,) number, from 1 on, of the person of each of U tracks of nobody in the gallery.

    units: (U, D) of one modality. seconds: (U,) that each lasts. Tracks are one person where their average cosine tells
    that it is more probable than not. Who is seen longest has the number 1.
    """
    if not len(units):
        return np.zeros(0, np.int64)
    prior = SAME_UNKNOWN_PRIOR
    labels = average_linkage(units, calibration.cosine(math.log1p(-prior) - math.log(prior)), max_bytes)
    total = np.bincount(labels, np.round(seconds * 1000))
    place = np.empty(len(total), np.int64)
    place[np.argsort(-total, kind="stable")] = np.arange(1, len(total) + 1)
    return place[labels]


class Unknown:
    """The tracks of nobody in the gallery, of all videos.

    calibrations: as of :class:`Finder`.
    """

    def __init__(self, calibrations: Mapping[str, Calibration]) -> None:
        self._calibrations = calibrations
        self._modalities: list[str] = []
        self._vectors: dict[str, list[Float]] = {modality: [] for modality in calibrations}
        self._seconds: dict[str, list[float]] = {modality: [] for modality in calibrations}

    def add(self, answer: VideoAnswer, vectors: Sequence[tuple[str, Double]]) -> None:
        """What :meth:`Finder.answer` gives of a video."""
        spans = [one.end_s - one.start_s for one in answer.appearances if one.decision == "unknown"]
        for (modality, vector), seconds in zip(vectors, spans, strict=True):
            self._modalities.append(modality)
            self._vectors[modality].append(vector.astype(np.float32))
            self._seconds[modality].append(seconds)

    def names(self) -> list[str]:
        """ "unknown 1", ... of all of them, in the order in which they were added."""
        numbers, first = {}, 0
        for modality, vectors in self._vectors.items():
            if vectors:
                found = same_unknown(
                    length_normalise(np.stack(vectors)),
                    np.array(self._seconds[modality]),
                    self._calibrations[modality],
                )
                numbers[modality] = iter((found + first).tolist())
                first += int(found.max())
        return [f"unknown {next(numbers[modality])}" for modality in self._modalities]


def join(answer: VideoAnswer, names: Iterable[str]) -> VideoAnswer:
    """Name the unknown appearances, in their order, and join those of one person that follow each other.

    answer: as :meth:`Finder.answer` gives it.
    """
    given = iter(names)
    found: list[Appearance] = []
    last: dict[tuple[str, str], int] = {}
    for one in answer.appearances:
        named = replace(one, person=next(given)) if one.decision == "unknown" else one
        key = named.person, named.decision
        place = last.get(key)
        if place is None or named.start_s - found[place].end_s > MAX_GAP_S:
            last[key] = len(found)
            found.append(named)
        else:
            found[place] = _together(found[place], named)
    return replace(answer, appearances=tuple(found))


def _together(one: Appearance, other: Appearance) -> Appearance:
    better, worse = (one, other) if one.probability >= other.probability else (other, one)
    start, end = min(one.start_s, other.start_s), max(one.end_s, other.end_s)
    return replace(better, start_s=start, end_s=end, tracks=better.tracks + worse.tracks)
