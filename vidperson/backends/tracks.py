"""Faces of one person in successive frames, linked by place and likeness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise, shares
from vidperson.backends.pooling import means_by_label

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_GAP_S = 2.5
MIN_OVERLAP = 0.1
MIN_COSINE = 0.5
_FACES_AT_ONCE = 64


def track_means(rows: Float, faces: Float) -> Double:
    """(tracks, dim) float64: the mean embedding of each track.

    rows: (N, dim) float32 embeddings of one video, N > 0.
    faces: (N, 6 or more) float32 of the same faces: frame, time_s, x1, y1, x2, y2.
    """
    return means_by_label(rows, link(length_normalise(rows), faces))


def link(
    units: Double, faces: Float, min_cosine: float = MIN_COSINE, weights: Double | None = None
) -> NDArray[np.int64]:
    """(N,) int64 number of the track of each face.

    Frame by frame, a face goes on with the track whose last face is at most 2.5 s old, has a box that overlaps
    (intersection over union >= 0.1: at one frame a second people move) and an embedding with a cosine of at least
    ``min_cosine``. Of all the links possible in a frame those with the largest cosines are taken first; a track has one
    face per frame.
    weights: (N,) from 0 on. Where they are given, the cosine is that with the weighted mean of the track so far.
    """
    order = np.lexsort(faces[:, [5, 4, 3, 2, 0]].T)  # by frame, then by box: not as they were listed
    units, faces = units[order], faces[order]
    if weights is not None:
        weights = weights[order]
    labels = np.zeros(len(units), dtype=np.int64)
    if _is_chain(units, faces, min_cosine, weights):
        return labels
    starts = np.flatnonzero(np.diff(faces[:, 0], prepend=np.nan)).tolist()  # of the frames
    linker = _Linker(units, faces, min_cosine, weights)
    for frames in _in_parts([*starts, len(faces)], _FACES_AT_ONCE):
        linker.add(frames)
    labels[order] = linker.labels
    return labels


def unit_means(units: Double, members: NDArray[np.bool_], weights: Double) -> Double:
    """(T, dim) the length-normalised mean of the faces of each of T tracks; exact, so the same in any order.

    units: (N, dim) as ``length_normalise`` gives them. members: (T, N), which faces a track has, one or more.
    weights: (N,) from 0 on; a track whose faces all weigh 0 takes them alike.
    """
    each = np.where(members, weights, 0.0)
    most = each.max(axis=1, keepdims=True)
    each = np.where(most > 0, each / np.where(most > 0, most, 1.0), members)
    return length_normalise(shares(each) @ units)


def _in_parts(bounds: list[int], size: int) -> Iterator[list[int]]:
    """Cut frames, given by the bounds of their faces, into runs of frames with about ``size`` faces."""
    first = 0
    for i, bound in enumerate(bounds[1:], 1):
        if bound - bounds[first] >= size or i == len(bounds) - 1:
            yield bounds[first : i + 1]
            first = i


class _Linker:
    """Gives faces, some frames at a time, their tracks. Arguments as for :func:`link`, by frame.

    labels: (N,) int64, the tracks.
    """

    def __init__(self, units: Double, faces: Float, min_cosine: float, weights: Double | None) -> None:
        self._units, self._faces, self._min_cosine, self._weights = units, faces, min_cosine, weights
        self.labels = np.zeros(len(units), dtype=np.int64)
        self._last = np.zeros(0, dtype=np.int64)  # the last face of each track
        self._looks: dict[int, Double] = {}  # of recent tracks: what a face is compared with, of any length

    def add(self, frames: list[int]) -> None:
        """The next frames: where each begins, and the end."""
        begin, end = frames[0], frames[-1]
        faces, some, last = self._faces, self._units[begin:end], self._last
        times = faces[np.repeat(frames[:-1], np.diff(frames)), 1]  # that of the first face of a frame
        recent = np.flatnonzero(times[0] - faces[last, 1] <= MAX_GAP_S)
        known = np.concatenate([last[recent], np.arange(begin, end)])
        allowed = (known < np.arange(begin, end)[:, None]) & (times[:, None] - faces[known, 1] <= MAX_GAP_S)
        allowed &= _overlaps(faces[begin:end, None, 2:6], faces[None, known, 2:6]) >= MIN_OVERLAP
        places = np.append(0, np.cumsum(allowed.sum(axis=1))).tolist()
        earlier = np.nonzero(allowed)[1].tolist()
        track_of = [*recent.tolist(), *[-1] * (end - begin)]  # of known faces that are the last of a track
        row_of = dict(zip(recent.tolist(), range(len(recent)), strict=True))  # track -> its last face in `known`
        looks = {track: self._looks[track] for track in row_of}
        products = {track: look @ some.T for track, look in looks.items()}  # of a look and these faces
        lengths = {track: self._length(look) for track, look in looks.items()}
        alike = some @ some.T
        tracks = last.tolist()
        for low, high in itertools.pairwise(frames):
            links = []
            for face in range(low, high):
                for i in range(places[face - begin], places[face - begin + 1]):
                    if (track := track_of[earlier[i]]) >= 0:
                        cosine = products[track][face - begin] / lengths[track]
                        if cosine >= self._min_cosine:
                            links.append((-cosine, track, face))
            found: dict[int, int] = {}  # face -> track
            taken = set()
            for _, track, face in sorted(links):
                if track not in taken and face not in found:
                    found[face] = track
                    taken.add(track)
            for face in range(low, high):
                track = found.get(face, len(tracks))
                weight = 1.0 if self._weights is None else float(self._weights[face])
                look, product = weight * self._units[face], weight * alike[face - begin]
                if track == len(tracks):
                    tracks.append(face)
                else:
                    track_of[row_of[track]] = -1
                    if self._weights is not None:
                        look, product = looks[track] + look, products[track] + product
                tracks[track], row_of[track] = face, len(recent) + face - begin
                track_of[row_of[track]] = track
                looks[track], products[track], lengths[track] = look, product, self._length(look)
                self.labels[face] = track
        self._last, self._looks = np.array(tracks, dtype=np.int64), looks

    def _length(self, look: Double) -> float:
        """1 for a unit vector, and for one without weight."""
        return 1.0 if self._weights is None else math.sqrt(look @ look) or 1.0


def _is_chain(units: Double, faces: Float, min_cosine: float, weights: Double | None) -> bool:
    """Whether each face goes on with those before it, and no frame has two: the common case, without a loop.

    Arguments as for :func:`link`, by frame.
    """
    if not (np.diff(faces[:, 0]) > 0).all() or not (np.diff(faces[:, 1]) <= MAX_GAP_S).all():
        return False
    if not (_overlaps(faces[:-1, 2:6], faces[1:, 2:6]) >= MIN_OVERLAP).all():
        return False
    looks = units[:-1] if weights is None else np.cumsum(weights[:-1, None] * units[:-1], axis=0)
    cosines = (looks * units[1:]).sum(axis=1)  # of unit vectors exact, see length_normalise
    if weights is not None:
        lengths = np.sqrt(np.square(looks).sum(axis=1))
        cosines /= np.where(lengths > 0, lengths, 1.0)
    return bool((cosines >= min_cosine).all())


def _overlaps(left: Float, right: Float) -> Double:
    """Boxes, (..., 4) of two shapes that broadcast, to their intersections over unions."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0.0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return common / np.where(union > 0, union, 1.0)
