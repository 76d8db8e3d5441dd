"""Who is in a video, and when: from what stages 2 and 3 have of each segment to answers.

Two passes: :class:`Finder` answers a video at a time, an appearance per track, and gives the vectors of the tracks of
nobody in the gallery; when all videos are through, :func:`same_unknown` tells which of these tracks are of one person,
and :func:`join` names them and joins the tracks of a person that follow each other.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vidperson.answers import Appearance, Candidate, Track, VideoAnswer
from vidperson.backends.clustering import NOBODY_APART, linked_clusters
from vidperson.backends.decisions import Thresholds, posteriors
from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.backends.joining import Evidence, join_modalities
from vidperson.backends.tracks import LINK_COSINE, SPEECH_LLR, TRACK_QUALITIES, tracks_of
from vidperson.errors import ScoringError
from vidperson.types import HEARD, ITEMS, LINKED, Calibration

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_GAP_S = 1.0
"""Tracks of a person that begin at most this after the one before are one appearance."""
NUM_CANDIDATES = 5
TWICE = 0.01
"""How probable it is that somebody who is seen is seen in the same frame again, as in a mirror or on a screen."""
FEWEST_UNKNOWN = 100
"""Two of U tracks of nobody in the gallery are of one person with the prior probability 1 / U, or one in this many."""
_DIGITS = 4
_CARRIED = 1.0  # log-likelihood ratio from which on what somebody wears carries a name
_TELLS = 0.1  # log-likelihood ratio below which nothing is known of anybody; then the prior decides nothing, either


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


def tracks_in(found: Found, video: Video, calibration: Calibration | None = None) -> tuple[list[Track], Double, Double]:
    """The tracks of a segment by one modality, their (T, D) unit vectors and (T, M) qualities: ``tracks.tracks_of``.

    calibration: of the network; it tells which stretches of speech are one voice.
    """
    cosine = LINK_COSINE
    if calibration is not None and ITEMS[found.modality] in HEARD:
        cosine = calibration.cosine(SPEECH_LLR)
    times = video.interval_s, video.duration_s
    try:
        return tracks_of(found.modality, found.rows, found.quality, found.embeddings, video.shots, *times, cosine)
    except ScoringError as error:
        raise ScoringError(f"segment '{video.segment}': {error}") from None


def portrait(segment: str, person: str, found: Found, status: str = "ok") -> Portrait:
    """A segment of the enrolment set: of several tracks that with the largest boxes counts, or which lasts longest."""
    tracks, units, _ = tracks_in(found, Video(segment, status))
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
    the same enrolment set; somebody may be missing in one.
    joining: calibrations of modalities without gallery, which show what somebody wears; one without may lack.
    persons: of all galleries, in C-locale order.
    """

    def __init__(
        self,
        galleries: Mapping[str, Gallery],
        calibrations: Mapping[str, Calibration],
        thresholds: Thresholds,
        joining: Mapping[str, Calibration] | None = None,
    ) -> None:
        self.galleries, self.calibrations, self.thresholds = galleries, calibrations, thresholds
        self.joining = joining or {}
        everybody = {person for gallery in galleries.values() for person in gallery.persons}
        self.persons = tuple(sorted(everybody, key=str.encode))
        rows = {person: row for row, person in enumerate(self.persons)}
        self._rows = {
            modality: np.array([rows[person] for person in gallery.persons], np.int64)
            for modality, gallery in galleries.items()
        }

    def answer(self, video: Video, found: Sequence[Found]) -> tuple[VideoAnswer, list[tuple[str, Double]]]:
        """An appearance per track, or per tracks of several modalities that are of one person (see ``joining``), in
        the order of their start; and of those that are ``unknown``, in that order, modality and (D,) vector.

        What shows only what somebody wears is left out where it carries no name.

        Raises ScoringError for embeddings of another size than the gallery's.
        """
        rows, evidence = self._evidence(video, found)
        named: list[tuple[Appearance, str, Double]] = []
        for members, llrs, others in join_modalities(
            list(evidence.values()), self.thresholds.person_prior, len(self.persons), _starts_of(video)
        ):
            tracks = tuple(evidence[modality].tracks[number] for modality, number in members)
            modality, first = members[0]
            appearance = self._decided(tracks, rows, llrs, others)
            if modality in self.calibrations or self._is_carried(appearance):
                named.append((appearance, modality, evidence[modality].units[first]))
        named.sort(key=lambda each: _order(each[0]))
        unknown = [(modality, unit) for each, modality, unit in named if each.decision == "unknown"]
        appearances = tuple(each for each, _, _ in named)
        size = video.duration_s, video.width, video.height
        return VideoAnswer(video.segment, video.status, *size, appearances, video.taken), unknown

    def _is_carried(self, appearance: Appearance) -> bool:
        """Whether somebody who is seen by the clothes only is probably a person, and not by the prior alone."""
        probable = appearance.decision != "unknown" and appearance.probability >= self.thresholds.unsure
        return probable and appearance.llr >= _CARRIED

    def _evidence(self, video: Video, found: Sequence[Found]) -> tuple[Index, dict[str, Evidence]]:
        """(K,) rows of ``persons`` that come into question, and what each modality tells of the tracks."""
        seen = {one.modality: tracks_in(one, video, self.calibrations.get(one.modality)) for one in found}
        rows, compared = self.compared({name: seen[name][1] for name in seen if name in self.calibrations})
        left = len(self.persons) - len(rows)
        evidence = {}
        for modality, (tracks, units, qualities) in seen.items():
            calibration = self.calibrations.get(modality, self.joining.get(modality))
            nothing = np.zeros((len(tracks), len(rows))), np.full(len(tracks), math.log(left) if left else -math.inf)
            llrs, others = compared.get(modality, nothing)
            llrs = self.once_a_frame(llrs, others, seen_together(tracks))
            sizes = qualities[:, TRACK_QUALITIES.index("size")]
            evidence[modality] = Evidence(modality, tracks, units, sizes, llrs, others, calibration)
        return rows, evidence

    def compared(self, units: Mapping[str, Double]) -> tuple[Index, dict[str, tuple[Double, Double]]]:
        """Log-likelihood ratios of the tracks of a video.

        units: modality -> (T, D) unit vectors. Returns (K,) rows of ``persons`` with those that come into question, and
        per modality (T, K) their ratios, 0 for somebody of whom its gallery has nothing, and (T,) ln of the sum of the
        ratios of all others, see ``Gallery.nearest``.
        Raises ScoringError for vectors of another size than the gallery's.
        """
        near = {}
        for modality, vectors in units.items():
            gallery = self.galleries[modality]
            if len(gallery) and len(vectors) and gallery.vectors.shape[1] != vectors.shape[1]:
                sizes = f"{gallery.vectors.shape[1]} numbers as in the portraits, found {vectors.shape[1]}"
                raise ScoringError(f"expected {modality} embeddings of {sizes}; extract all with the same network")
            near[modality] = gallery.nearest(vectors, self.calibrations[modality])
        chosen = [self._rows[modality][rows] for modality, (rows, _) in near.items()]
        everybody = np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
        found = {}
        for modality, (_, others) in near.items():
            _, own, columns = np.intersect1d(everybody, self._rows[modality], return_indices=True)
            llrs = np.zeros((len(units[modality]), len(everybody)))
            cosines = self.galleries[modality].cosines(units[modality], columns)
            llrs[:, own] = self.calibrations[modality].llr(cosines)
            found[modality] = llrs, others
        return everybody, found

    def once_a_frame(self, llrs: Double, others: Double, together: Index) -> Double:
        """Somebody is hardly ever in a frame twice: the log-likelihood ratios with that.

        llrs, others: (T, K) and (T,), as :meth:`compared` gives them. together: see :func:`seen_together`.
        The surest track first, its best person is less likely in the tracks with which it is seen, by the factor
        1 - p + p TWICE, where p is the probability that the track is of this person.
        """
        beside: dict[int, list[int]] = {}
        for one, other in together.tolist() if llrs.shape[1] else []:
            beside.setdefault(one, []).append(other)
            beside.setdefault(other, []).append(one)
        llrs, left = llrs.copy(), set(beside)
        surest = [(-float(llrs[track].max()), track) for track in left]
        heapq.heapify(surest)
        while left:
            height, track = heapq.heappop(surest)
            best = int(llrs[track].argmax())
            if track not in left or -height != llrs[track, best]:  # decided, or less sure than it was
                continue
            left.remove(track)
            shares, _ = posteriors(llrs[track], self.thresholds.person_prior, len(self.persons), others[track])
            for other in left.intersection(beside[track]):
                llrs[other, best] += math.log1p(shares[best] * (TWICE - 1))
                heapq.heappush(surest, (-float(llrs[other].max()), other))
        return llrs

    def _decided(self, tracks: tuple[Track, ...], rows: Index, llrs: Double, others: float) -> Appearance:
        probabilities, nobody = posteriors(llrs, self.thresholds.person_prior, len(self.persons), others)
        order = np.argsort(-llrs, kind="stable")[:NUM_CANDIDATES]
        candidates = tuple(
            Candidate(self.persons[rows[i]], round(float(llrs[i]), _DIGITS), round(float(probabilities[i]), _DIGITS))
            for i in order.tolist()
        )
        best = candidates[0] if candidates else Candidate("", math.nan, 0.0)
        tells = bool(np.abs(llrs).max(initial=0.0) >= _TELLS)  # a voice does not where no portrait has sound
        decision = self.thresholds.decide(best.probability, nobody) if tells else "unknown"
        person, probability = best.person, best.probability
        if decision == "unknown":
            person, probability = "", round(nobody, _DIGITS)
        span = min(track.start_s for track in tracks), max(track.end_s for track in tracks)
        return Appearance(person, decision, probability, best.llr, *span, tracks, candidates)


def _starts_of(video: Video) -> list[float]:
    return [] if video.shots is None else [float(start) for start in video.shots[:, 0]]


def seen_together(tracks: Sequence[Track]) -> Index:
    """(M, 2) numbers of tracks that have boxes in one frame, the smaller one first."""
    frames: dict[float, list[int]] = {}
    for number, track in enumerate(tracks):
        for box in track.boxes:
            frames.setdefault(box[0], []).append(number)
    pairs = {pair for numbers in frames.values() for pair in itertools.combinations(sorted(set(numbers)), 2)}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _order(appearance: Appearance) -> tuple[float, float, tuple[tuple[str, int], ...]]:
    where = tuple((track.modality, track.rows[0]) for track in appearance.tracks)
    return appearance.start_s, appearance.end_s, where


def same_unknown(
    units: Double, seconds: Double, calibration: Calibration, apart: Index = NOBODY_APART, max_bytes: int = 2**29
) -> Index:
    """(U,) number, from 1 on, of the person of each of U tracks of nobody in the gallery.

    units: (U, D) of one modality. seconds: (U,) that each lasts. Tracks are one person where their average cosine tells
    that it is more probable than not. Who is seen longest has the number 1.
    apart: (M, 2) tracks that are of different persons, as they are seen together.
    """
    if not len(units):
        return np.zeros(0, np.int64)
    odds = max(len(units), FEWEST_UNKNOWN) - 1
    labels = linked_clusters(units, calibration.cosine(math.log(odds)), max_bytes, apart)
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
        self._apart: dict[str, list[Index]] = {modality: [] for modality in calibrations}

    def add(self, answer: VideoAnswer, vectors: Sequence[tuple[str, Double]]) -> None:
        """What :meth:`Finder.answer` gives of a video."""
        unknown = [one for one in answer.appearances if one.decision == "unknown"]
        for modality, before in self._seconds.items():
            tracks = [one.tracks[0] for one, (own, _) in zip(unknown, vectors, strict=True) if own == modality]
            self._apart[modality].append(seen_together(tracks) + len(before))
        spans = [one.end_s - one.start_s for one in unknown]
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
                    np.concatenate(self._apart[modality]),
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
    shown, after = (worse, better) if worse.num_faces and not better.num_faces else (better, worse)  # not what is heard
    return replace(better, start_s=start, end_s=end, tracks=shown.tracks + after.tracks)
