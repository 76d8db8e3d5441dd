"""Which of the detected faces of a segment are kept: threshold policy, labelled person, quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.types import Detections, Float

Mask = NDArray[np.bool_]
BLACK_LIMITS = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class SelectionPolicy:
    """Which faces of a segment are kept.

    threshold: faces from this score on are sure.
    fallback, min_faces: with ``fallback``, a segment with fewer than ``min_faces`` of them takes the next lower tenth.
    max_centre_distance: how far from a label a face that does not overlap it may be, in diagonals of the label box.
    discard_low_quality: drop small faces and faces cut by the border of the image.
    """

    threshold: float = 0.9
    min_faces: int = 1
    fallback: bool = False
    max_centre_distance: float = 1.0
    discard_low_quality: bool = False


def score_levels(threshold: float) -> Float:
    """The thresholds to try, from the wanted one down to 0.1 in steps of 0.1: 0.9 gives 0.9, 0.8 ... 0.1.

    Raises ValueError outside 0..1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a detection threshold in 0..1, found {threshold}")
    lower = [level / 10 for level in range(9, 0, -1) if level / 10 < threshold - 1e-9]
    return np.array([threshold, *lower], dtype=np.float32)


def above_levels(detections: Detections, levels: Float) -> Mask:
    """(N, L): face n reaches level l."""
    return detections.scores[:, None] >= levels[None, :]


def match_label(
    detections: Detections, boxes: Sequence[Sequence[float]], levels: Float, max_distance: float
) -> tuple[Mask, Float, Float]:
    """Which face of a frame is the labelled person, at each threshold level.

    The face with the largest share of the label box covered; where no face that reaches the level overlaps, the one
    with the nearest centre, up to ``max_distance`` diagonals of the label box.
    boxes: the label, x1 y1 x2 y2 in pixels; of several boxes for one time the best counts.
    Returns chosen (N, L) with at most one face a column, overlap (N,) in 0..1, centre distance (N,) in label diagonals.
    """
    labels = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    corner = np.maximum(detections.boxes[:, None, :2], labels[None, :, :2])
    extent = np.clip(np.minimum(detections.boxes[:, None, 2:], labels[None, :, 2:]) - corner, 0, None)
    size = labels[:, 2:] - labels[:, :2]
    overlap = (extent.prod(axis=-1) / size.prod(axis=-1)).max(axis=1, initial=0)
    centre_shift = (
        detections.boxes[:, None, :2] + detections.boxes[:, None, 2:] - labels[None, :, :2] - labels[None, :, 2:]
    ) / 2
    distance = (np.linalg.norm(centre_shift, axis=-1) / np.linalg.norm(size, axis=-1)).min(axis=1, initial=np.inf)
    chosen = np.zeros((len(detections), len(levels)), dtype=bool)
    for level, reached in enumerate(above_levels(detections, levels).T):
        candidates = np.flatnonzero(reached)
        if not len(candidates):
            continue
        best = candidates[np.argmax(overlap[candidates])]
        if overlap[best] == 0:
            best = candidates[np.argmin(distance[candidates])]
            if distance[best] > max_distance:
                continue
        chosen[best, level] = True
    return chosen, overlap.astype(np.float32), distance.astype(np.float32)


def pick_level(chosen: Mask, min_faces: int) -> int:
    """The first level (column) at which the segment has ``min_faces`` faces, else the last one."""
    enough = np.flatnonzero(chosen.sum(axis=0) >= min_faces)
    return int(enough[0]) if len(enough) else chosen.shape[1] - 1


def keep_labelled(overlap: Float, distance: Float) -> Mask:
    """Over a segment: more than half of the best overlap; if none overlaps, within 1.25 of the smallest distance."""
    if not len(overlap):
        return np.zeros(0, dtype=bool)
    if overlap.max() > 0:
        return overlap > overlap.max() / 2
    return distance <= 1.25 * distance.min()


def keep_quality(eye_distance: Float, black_share: Float) -> Mask:
    """Over a segment: more than half of the largest eye distance; of these black share below 0.1, else 0.25, else 0.5.

    A segment in which every large face is blacker than that keeps its large faces.
    """
    if not len(eye_distance):
        return np.zeros(0, dtype=bool)
    large = eye_distance > eye_distance.max() / 2 if eye_distance.max() > 0 else np.ones(len(eye_distance), dtype=bool)
    for limit in BLACK_LIMITS:
        if (large & (black_share < limit)).any():
            return large & (black_share < limit)
    return large
