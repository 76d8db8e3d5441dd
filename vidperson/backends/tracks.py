"""Items of one person that follow each other within a shot, linked by place and likeness."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidperson.answers import Track
from vidperson.backends.clustering import average_linkage
from vidperson.backends.exact import Double, length_normalise, shares, with_lengths
from vidperson.backends.pooling import means_by_label
from vidperson.errors import ScoringError
from vidperson.types import HEARD, ITEMS, SPEECH_COLUMNS

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_GAP_S = 2.5
MIN_OVERLAP = 0.1
MIN_COSINE = 0.5
LINK_COSINE = 0.3
SPEECH_LLR = -2.5
"""Log-likelihood ratio of utterances, the cosine of which is the ``link_cosine`` of stretches of 2 s: they are less
alike than utterances."""
TRACK_QUALITIES = ("items", "size", "score", "norm", "coherence")
"""Of a track: number of items; median distance of the eyes or height of the body in pixels, or seconds of speech; mean
score of the detector, of speech its signal-to-noise ratio in dB; mean length of the embeddings; mean cosine of the
items with the vector of the track."""
_NEAR_OVERLAP, _NEAR_COSINE = 0.4, 0.1
_NEAR_S = 0.5, 1.25  # the least, and the most; between them 1.25 intervals
_FACES_AT_ONCE = 64
_SHOT = 6
_SCORE = 6
_DIGITS = 3  # of seconds
_MAX_PAUSE_S = 1.0  # within a track of speech
_STRETCHES_AT_ONCE, _CLUSTER_BYTES = 1024, 1 << 26


def tracks_of(
    modality: str,
    rows: Float,
    quality: Float | None,
    embeddings: Float,
    shots: Float | None,
    interval_s: float,
    duration_s: float,
    link_cosine: float = LINK_COSINE,
) -> tuple[list[Track], Double, Double]:
    """The tracks of a segment in the order of their start, the vector of each, and how good it is.

    modality: noted in each track; it tells whether items are seen or heard.
    rows: (N, 7 or more) float32 items of stage 2: frame, time_s, x1, y1, x2, y2, score; or those of speech, see
        ``vidperson.types.SPEECH_COLUMNS``.
    quality: (N, 2) float32: size in pixels, and the share of the item that is black. None: not known.
    embeddings: (N, D) float32 of the same items, as the network gave them. Of speech they may be fewer than N: the
        first is of all stretches together then.
    shots: (S, 1) float32 seconds at which shots begin; None: there is one shot.
    interval_s: seconds from one frame that is searched to the next.
    duration_s: of the video; 0 for an image, and where it is not known.
    link_cosine: the lowest cosine of successive items of a track; of what is heard the lowest average cosine of the
        stretches of a voice, see ``SPEECH_LLR``.

    A track begins at its first item and ends ``interval_s`` after its last one, or where the shot or the video does.
    Returns T tracks, (T, D) float64 vectors of length 1, and (T, 5) float64 values named in ``TRACK_QUALITIES``. A
    vector is the mean of the unit vectors of the items, each weighted by the detector's score, the share that is not
    black and the length of its embedding: networks give short ones for poor items.
    Raises ScoringError for embeddings that are not as many as the items, or not finite.
    """
    heard = ITEMS[modality] in HEARD
    count = len(rows)
    if heard and count and 0 < len(embeddings) < count:
        embeddings = np.repeat(embeddings[:1], count, axis=0)
    if len(embeddings) != count or (quality is not None and len(quality) != count):
        lengths = f"{len(embeddings)} embeddings and {len(quality) if quality is not None else count} qualities"
        raise ScoringError(f"expected embeddings and qualities of {count} items, found {lengths}")
    if not count:
        return (
            [],
            np.zeros((0, embeddings.shape[1] if embeddings.ndim == 2 else 0)),
            np.zeros((0, len(TRACK_QUALITIES))),
        )
    with np.errstate(invalid="ignore"):
        units, norms = with_lengths(embeddings)
    if not np.isfinite(norms).all():
        raise ScoringError("NaN or infinite embedding; extract it again")
    if heard:
        labels = _link_speech(units, rows, link_cosine)
        begins, ends, weights = rows[:, 0], rows[:, 1].astype(np.float64), rows[:, 1] - rows[:, 0]
        sizes, scores = weights, rows[:, SPEECH_COLUMNS.index("snr_db")]
    else:
        near_s = min(max(_NEAR_S[0], 1.25 * interval_s), _NEAR_S[1])
        labels = link(units, rows, link_cosine, shots, near_s)
        begins, scores = rows[:, 1], rows[:, _SCORE]
        ends = _ends(begins, _starts(shots), interval_s, duration_s)
        sizes = rows[:, 5] - rows[:, 3] if quality is None else quality[:, 0]
        weights = scores * (1 if quality is None else 1 - np.clip(quality[:, 1], 0, 1))
    heavy = np.asarray(weights, np.float64) * norms
    means = unit_means(units, labels, heavy)
    cosines = (units * means[labels]).sum(axis=1)
    found = []
    for label, mean in enumerate(means):
        own = np.flatnonzero(labels == label)
        own = own[np.lexsort((own, begins[own]))]
        size = float(sizes[own].sum() if heard else np.median(sizes[own]))
        values = (len(own), size, scores[own].mean(), norms[own].mean(), cosines[own].mean())
        start, end = round(float(begins[own[0]]), _DIGITS), round(float(ends[own].max()), _DIGITS)
        boxes = () if heard else tuple(_box(row) for row in rows[own, 1:6].tolist())
        track = Track(modality, start, end, tuple(own.tolist()), boxes, int(np.argmax(heavy[own])))
        found.append((track, mean, values))
    found.sort(key=lambda each: (each[0].start_s, each[0].boxes[:1], each[0].rows))
    tracks, vectors, qualities = zip(*found, strict=True)
    return list(tracks), np.stack(vectors), np.array(qualities, np.float64)


def _box(row: list[float]) -> tuple[float, float, float, float, float]:
    """Time and box, to the millisecond and to a hundredth of a pixel: float32 has digits that tell nothing."""
    time, x1, y1, x2, y2 = row
    return round(time, _DIGITS), round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2)


def _starts(shots: Float | None) -> NDArray[np.float32]:
    return np.zeros(0, np.float32) if shots is None else np.asarray(shots, np.float32).reshape(-1)


def _ends(times: Float, starts: Float, interval_s: float, duration_s: float) -> Double:
    """(N,) seconds until which items are seen that were found at (N,) times."""
    if not duration_s and not times.any():
        return np.zeros(len(times))  # an image
    after = np.append(starts, np.inf)[np.searchsorted(starts, times, side="right")]
    ends = np.minimum(times.astype(np.float64) + interval_s, after)
    return np.maximum(np.minimum(ends, duration_s), times) if duration_s else ends


def _link_speech(units: Double, rows: Float, min_cosine: float) -> Index:
    """(N,) int64 number of the track of each stretch: one goes on with the one before it if the voice is the same.

    Voices of a segment are clusters of average linkage, which short stretches mislead less than the one before does.
    A long segment is taken in parts.
    """
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    changes = np.ones(len(rows), bool)
    for begin in range(0, len(rows), _STRETCHES_AT_ONCE):
        some = order[begin : begin + _STRETCHES_AT_ONCE]
        voices = average_linkage(units[some], min_cosine, _CLUSTER_BYTES)
        pauses = rows[some[1:], 0] - rows[some[:-1], 1]
        changes[begin + 1 : begin + len(some)] = (np.diff(voices) != 0) | (pauses > _MAX_PAUSE_S)
    labels = np.empty(len(rows), np.int64)
    labels[order] = np.cumsum(changes) - 1
    return labels


def track_means(rows: Float, faces: Float) -> Double:
    """(tracks, dim) float64: the mean embedding of each track.

    rows: (N, dim) float32 embeddings of one video, N > 0.
    faces: (N, 6 or more) float32 of the same faces: frame, time_s, x1, y1, x2, y2.
    """
    return means_by_label(rows, link(length_normalise(rows), faces))


def link(
    units: Double, faces: Float, min_cosine: float = MIN_COSINE, shots: Float | None = None, near_s: float = 0.0
) -> Index:
    """(N,) int64 number of the track of each face.

    Frame by frame, a face goes on with the track whose last face is at most 2.5 s old, has a box that overlaps
    (intersection over union >= 0.1: at one frame a second people move) and an embedding with a cosine of at least
    ``min_cosine``. Of all the links possible in a frame those with the largest cosines are taken first; a track has one
    face per frame.
    shots: (S, 1) float32 seconds at which shots begin, ascending; a cut ends all tracks. None: there is one shot.
    near_s: up to so many seconds a box that overlaps by 0.4 or more is the same face even if the embedding differs, as
        of one that turns away; only a cosine below 0.1 tells that it is another. Without a cut nobody takes the place
        of another so fast. 0: the embedding always counts.
    """
    rule = _Rule(min_cosine, near_s)
    shot = np.searchsorted(_starts(shots), faces[:, 1], side="right")
    faces = np.column_stack([faces[:, :_SHOT], shot]).astype(np.float32)
    order = np.lexsort(faces[:, [5, 4, 3, 2, 0]].T)  # by frame, then by box: not as they were listed
    units, faces = units[order], faces[order]
    labels = np.zeros(len(units), dtype=np.int64)
    if _is_chain(units, faces, rule):
        return labels
    starts = np.flatnonzero(np.diff(faces[:, 0], prepend=np.nan)).tolist()  # of the frames
    last = np.zeros(0, dtype=np.int64)  # the last face of each track
    for frames in _in_parts([*starts, len(faces)], _FACES_AT_ONCE):
        last = _link_some(units, faces, frames, last, labels, rule)
    by_list = np.empty_like(labels)
    by_list[order] = labels
    return by_list


def unit_means(units: Double, labels: Index, weights: Double) -> Double:
    """(T, dim) the length-normalised mean of the faces of each track; exact, so the same in any order of the faces.

    units: (N, dim) as ``length_normalise`` gives them. labels: (N,) the track of each, 0 to T - 1, each of them there.
    weights: (N,) from 0 on; a track whose faces all weigh 0 takes them alike.
    """
    order = np.argsort(labels, kind="stable")
    means = []
    for faces in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        most = weights[faces].max()
        means.append(shares((weights[faces] / most if most > 0 else np.ones(len(faces)))[None]) @ units[faces])
    return length_normalise(np.concatenate(means))


class _Rule(NamedTuple):
    """When a face may go on with a track, see :func:`link`."""

    min_cosine: float
    near_s: float

    def allows(self, cosines: Double, overlaps: Double, gaps: Float) -> NDArray[np.bool_]:
        """By the cosine and the overlap with the last face of the track, and the seconds since then."""
        alike = (cosines >= self.min_cosine) & (overlaps >= MIN_OVERLAP) & (gaps <= MAX_GAP_S)
        near = (cosines >= _NEAR_COSINE) & (overlaps >= _NEAR_OVERLAP) & (gaps <= self.near_s)
        return np.asarray(alike | near)


def _in_parts(bounds: list[int], size: int) -> Iterator[list[int]]:
    """Cut frames, given by the bounds of their faces, into runs of frames with about ``size`` faces."""
    first = 0
    for i, bound in enumerate(bounds[1:], 1):
        if bound - bounds[first] >= size or i == len(bounds) - 1:
            yield bounds[first : i + 1]
            first = i


def _link_some(units: Double, faces: Float, frames: list[int], last: Index, labels: Index, rule: _Rule) -> Index:
    """Give the faces of some frames their tracks.

    units, faces: by frame, the shot in column 6 of faces. frames: where each frame begins, and the end. last: the last
    face of each track so far. labels: (N,), where the tracks are put. Returns the last face of each track.
    """
    begin, end = frames[0], frames[-1]
    times = faces[np.repeat(frames[:-1], np.diff(frames)), 1]  # that of the first face of a frame
    recent = np.flatnonzero(times[0] - faces[last, 1] <= MAX_GAP_S)
    known = np.concatenate([last[recent], np.arange(begin, end)])
    cosines = units[begin:end] @ units[known].T
    overlaps = _overlaps(faces[begin:end, None, 2:6], faces[None, known, 2:6])
    allowed = rule.allows(cosines, overlaps, times[:, None] - faces[known, 1])
    allowed &= known < np.arange(begin, end)[:, None]
    allowed &= faces[begin:end, None, _SHOT] == faces[None, known, _SHOT]
    places = np.append(0, np.cumsum(allowed.sum(axis=1))).tolist()
    earlier, alike = np.nonzero(allowed)[1].tolist(), (-cosines[allowed]).tolist()
    track_of = [*recent.tolist(), *[-1] * (end - begin)]  # of known faces that are the last of a track
    tracks = last.tolist()
    row_of = dict(zip(recent.tolist(), range(len(recent)), strict=True))  # track -> its last face in `known`
    for low, high in itertools.pairwise(frames):
        links = sorted(
            (alike[i], track_of[earlier[i]], face)
            for face in range(low, high)
            for i in range(places[face - begin], places[face - begin + 1])
            if track_of[earlier[i]] >= 0
        )
        found: dict[int, int] = {}  # face -> track
        taken = set()
        for _, track, face in links:
            if track not in taken and face not in found:
                found[face] = track
                taken.add(track)
        for face in range(low, high):
            track = found.get(face, len(tracks))
            if track == len(tracks):
                tracks.append(face)
            else:
                track_of[row_of[track]] = -1
            tracks[track] = face
            row_of[track] = len(recent) + face - begin
            track_of[row_of[track]] = track
            labels[face] = track
    return np.array(tracks, dtype=np.int64)


def _is_chain(units: Double, faces: Float, rule: _Rule) -> bool:
    """Whether each face goes on with the one before it, and no frame has two: the common case, without a loop.

    units, faces: as for :func:`link`, by frame.
    """
    if not (np.diff(faces[:, 0]) > 0).all() or not (np.diff(faces[:, 1]) <= MAX_GAP_S).all():
        return False
    if np.ptp(faces[:, _SHOT]):
        return False
    cosines = (units[:-1] * units[1:]).sum(axis=1)  # exact, see length_normalise
    return bool(rule.allows(cosines, _overlaps(faces[:-1, 2:6], faces[1:, 2:6]), np.diff(faces[:, 1])).all())


def _overlaps(left: Float, right: Float) -> Double:
    """Boxes, (..., 4) of two shapes that broadcast, to their intersections over unions."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0.0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return common / np.where(union > 0, union, 1.0)
