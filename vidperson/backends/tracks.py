"""Faces of one person in successive frames, linked by place and likeness."""

from __future__ import annotations

import itertools
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


def link(units: Double, faces: Float, min_cosine: float = MIN_COSINE) -> NDArray[np.int64]:
    """(N,) int64 number of the track of each face.

    Frame by frame, a face goes on with the track whose last face is at most 2.5 s old, has a box that overlaps
    (intersection over union >= 0.1: at one frame a second people move) and an embedding with a cosine of at least
    ``min_cosine``. Of all the links possible in a frame those with the largest cosines are taken first; a track has one
    face per frame.
    """
    order = np.lexsort(faces[:, [5, 4, 3, 2, 0]].T)  # by frame, then by box: not as they were listed
    units, faces = units[order], faces[order]
    labels = np.zeros(len(units), dtype=np.int64)
    if _is_chain(units, faces, min_cosine):
        return labels
    starts = np.flatnonzero(np.diff(faces[:, 0], prepend=np.nan)).tolist()  # of the frames
    last = np.zeros(0, dtype=np.int64)  # the last face of each track
    for frames in _in_parts([*starts, len(faces)], _FACES_AT_ONCE):
        last = _link_some(units, faces, frames, last, labels, min_cosine)
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


def _in_parts(bounds: list[int], size: int) -> Iterator[list[int]]:
    """Cut frames, given by the bounds of their faces, into runs of frames with about ``size`` faces."""
    first = 0
    for i, bound in enumerate(bounds[1:], 1):
        if bound - bounds[first] >= size or i == len(bounds) - 1:
            yield bounds[first : i + 1]
            first = i


def _link_some(units: Double, faces: Float, frames: list[int], last: Index, labels: Index, min_cosine: float) -> Index:
    """Give the faces of some frames their tracks.

    units, faces: by frame. frames: where each frame begins, and the end. last: the last face of each track so far.
    labels: (N,), where the tracks are put. Returns the last face of each track.
    """
    begin, end = frames[0], frames[-1]
    times = faces[np.repeat(frames[:-1], np.diff(frames)), 1]  # that of the first face of a frame
    recent = np.flatnonzero(times[0] - faces[last, 1] <= MAX_GAP_S)
    known = np.concatenate([last[recent], np.arange(begin, end)])
    cosines = units[begin:end] @ units[known].T
    allowed = (cosines >= min_cosine) & (known < np.arange(begin, end)[:, None])
    allowed &= times[:, None] - faces[known, 1] <= MAX_GAP_S
    allowed &= _overlaps(faces[begin:end, None, 2:6], faces[None, known, 2:6]) >= MIN_OVERLAP
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


def _is_chain(units: Double, faces: Float, min_cosine: float) -> bool:
    """Whether each face goes on with the one before it, and no frame has two: the common case, without a loop.

    units, faces: as for :func:`link`, by frame.
    """
    if not (np.diff(faces[:, 0]) > 0).all() or not (np.diff(faces[:, 1]) <= MAX_GAP_S).all():
        return False
    cosines = (units[:-1] * units[1:]).sum(axis=1)  # exact, see length_normalise
    return bool((cosines >= min_cosine).all() and (_overlaps(faces[:-1, 2:6], faces[1:, 2:6]) >= MIN_OVERLAP).all())


def _overlaps(left: Float, right: Float) -> Double:
    """Boxes, (..., 4) of two shapes that broadcast, to their intersections over unions."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0.0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return common / np.where(union > 0, union, 1.0)
