"""Faces of one person in successive frames, linked by place and likeness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.pooling import means_by_label

Float = NDArray[np.float32]

MAX_GAP_S = 2.5
MIN_OVERLAP = 0.1
MIN_COSINE = 0.5


def track_means(rows: Float, faces: Float) -> Double:
    """(tracks, dim) float64: the mean embedding of each track.

    rows: (N, dim) float32 embeddings of one video, N > 0.
    faces: (N, 6 or more) float32 of the same faces: frame, time_s, x1, y1, x2, y2.
    """
    return means_by_label(rows, link(length_normalise(rows), faces))


def link(units: Double, faces: Float) -> NDArray[np.int64]:
    """(N,) int64 number of the track of each face.

    Frame by frame, a face goes on with the track whose last face is at most 2.5 s old, has a box that overlaps
    (intersection over union >= 0.1: at one frame a second people move) and an embedding with a cosine >= 0.5. Of all
    the links possible in a frame those with the largest cosines are taken first; a track has one face per frame.
    """
    order = np.lexsort(faces[:, [5, 4, 3, 2, 0]].T)  # by frame, then by box: not as they were listed
    if _is_chain(units[order], faces[order]):
        return np.zeros(len(units), dtype=np.int64)
    labels = np.full(len(units), -1, dtype=np.int64)
    last = np.zeros(0, dtype=np.int64)  # the last face of each track
    for group in np.split(order, np.flatnonzero(np.diff(faces[order, 0])) + 1):
        recent = np.flatnonzero(faces[group[0], 1] - faces[last, 1] <= MAX_GAP_S)
        cosines = units[last[recent]] @ units[group].T
        overlaps = _overlaps(faces[last[recent], None, 2:6], faces[None, group, 2:6])
        allowed = (overlaps >= MIN_OVERLAP) & (cosines >= MIN_COSINE)
        cosines[~allowed] = -np.inf
        while cosines.size and np.isfinite(best := cosines.max()):
            track, face = np.argwhere(cosines == best)[0]
            labels[group[face]] = recent[track]
            cosines[track], cosines[:, face] = -np.inf, -np.inf
        new = group[labels[group] < 0]
        labels[new] = np.arange(len(last), len(last) + len(new))
        last = np.concatenate([last, new])
        last[labels[group]] = group
    return labels


def _is_chain(units: Double, faces: Float) -> bool:
    """Whether each face goes on with the one before it, and no frame has two: the common case, without a loop.

    units, faces: as for :func:`link`, by frame.
    """
    if not (np.diff(faces[:, 0]) > 0).all() or not (np.diff(faces[:, 1]) <= MAX_GAP_S).all():
        return False
    cosines = (units[:-1] * units[1:]).sum(axis=1)  # exact, see length_normalise
    return bool(
        (cosines >= MIN_COSINE).all() and (_overlaps(faces[:-1, 2:6], faces[1:, 2:6]) >= MIN_OVERLAP).all()
    )


def _overlaps(left: Float, right: Float) -> Double:
    """Boxes, (..., 4) of two shapes that broadcast, to their intersections over unions."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0.0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return common / np.where(union > 0, union, 1.0)
