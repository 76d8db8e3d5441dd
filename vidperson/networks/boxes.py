"""Boxes as detectors give them: which of several around one thing stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.types import Float


def non_maximum_suppression(boxes: Float, threshold: float) -> NDArray[np.intp]:
    """Indices of the boxes that stay; ``boxes`` (N, 4) come best first.

    A box goes when its intersection over union with a better one that stays exceeds the threshold; a threshold of the
    score applied afterwards gives the same boxes as one applied before.
    """
    corner1, corner2 = boxes[:, :2], boxes[:, 2:]
    area = np.clip(corner2 - corner1, 0, None).prod(axis=1)
    left = np.arange(len(boxes))
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        shared = np.clip(
            np.minimum(corner2[best], corner2[left]) - np.maximum(corner1[best], corner1[left]), 0, None
        ).prod(axis=1)
        union = area[best] + area[left] - shared
        left = left[shared <= threshold * union]
    return np.array(keep, dtype=np.intp)
