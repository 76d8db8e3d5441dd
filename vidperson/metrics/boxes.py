"""How well faces found in pictures agree with reference faces: overlap, average precision, landmark error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.types import Float


def overlap(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """(N, 4) and (M, 4) boxes x1 y1 x2 y2 to (N, M) intersections over unions; 0 where neither has an area."""
    a, b = np.asarray(first, np.float64).reshape(-1, 4), np.asarray(second, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(sides, 0, None).prod(axis=2)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clip(0).prod(axis=1) for box in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match_boxes(found: ArrayLike, reference: ArrayLike, min_overlap: float = 0.5) -> NDArray[np.int64]:
    """(N,) the reference box of each found box, -1: none.

    In the order of ``found``, best first, each takes the free reference box that it overlaps most, if by at least
    ``min_overlap``, as in the COCO evaluation (Lin et al., ECCV 2014); in PASCAL VOC's it would not look for another
    where the one that it overlaps most is taken. Of equal overlaps the first reference box counts.
    """
    shares = overlap(found, reference)
    matches = np.full(len(shares), -1, np.int64)
    if shares.shape[1]:
        for number, row in enumerate(shares):
            best = int(row.argmax())
            if row[best] >= min_overlap:
                matches[number] = best
                shares[:, best] = -1
    return matches


def average_precision(scores: ArrayLike, correct: ArrayLike, num_reference: int) -> float:
    """Area under precision over recall, the precision made non-increasing first (PASCAL VOC since 2010); 0..1.

    scores: (N,) of all found boxes of all pictures. correct: (N,) bool, whether each has a reference box of its own.
    Equal scores enter together. Raises ValueError without a reference box.
    """
    if num_reference < 1:
        raise ValueError("average precision needs at least one reference box")
    values, hits = np.asarray(scores, np.float64).ravel(), np.asarray(correct, bool).ravel()
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    recall, precision = hits[last] / num_reference, hits[last] / (last + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def landmark_error(found: Float, reference: Float) -> NDArray[np.float64]:
    """(N, 5, 2) twice to (N,): mean distance of the points over the distance of the reference's eyes (points 0 and 1).

    NaN where a reference point is NaN.
    """
    gap = np.linalg.norm(np.asarray(found, np.float64) - reference, axis=2).mean(axis=1)
    eyes = np.linalg.norm(np.asarray(reference, np.float64)[:, 0] - reference[:, 1], axis=1)
    return np.asarray(np.divide(gap, eyes, out=np.full_like(gap, np.nan), where=eyes > 0))
