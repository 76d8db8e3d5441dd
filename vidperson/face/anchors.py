"""Which anchors of a detector belong to which faces, and what they have to say: the inverse of its decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.face.detector import RetinaFaceDetector
from vidperson.types import Float

MIN_OVERLAP = 0.35  # from which an anchor belongs to a face
BEST_OVERLAP = 0.2  # from which the best anchor of a face belongs to it, however little that is


def match_anchors(anchors: Float, boxes: Float) -> NDArray[np.int64]:
    """(A,) number of the face that each anchor belongs to, -1: background.

    anchors: (A, 4) centre x, centre y, width, height; boxes: (M, 4) x1 y1 x2 y2, in the same pixels. The rule is that
    of SSD (Liu et al., ECCV 2016, section 2.2) with the thresholds of biubug6/Pytorch_Retinaface.
    """
    matches = np.full(len(anchors), -1, np.int64)
    if not len(boxes):
        return matches
    corner1, corner2 = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    sides = np.minimum(corner2[:, None], boxes[None, :, 2:]) - np.maximum(corner1[:, None], boxes[None, :, :2])
    shared = sides.clip(0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    shares = shared / np.maximum(anchors[:, 2:].prod(axis=1)[:, None] + areas[None] - shared, 1e-9)
    nearest = shares.argmax(axis=1)
    taken = shares.max(axis=1) >= MIN_OVERLAP
    matches[taken] = nearest[taken]
    for face, anchor in enumerate(shares.argmax(axis=0)):
        if shares[anchor, face] >= BEST_OVERLAP:
            matches[anchor] = face
    return matches


def encode(anchors: Float, boxes: Float, landmarks: Float) -> tuple[Float, Float]:
    """What the network has to say at (K, 4) anchors for their (K, 4) boxes and (K, 5, 2) landmarks.

    Returns (K, 4) and (K, 10) float32, which ``RetinaFaceDetector.decode`` turns back into pixels; NaN stays NaN.
    """
    centre, size = anchors[:, :2], anchors[:, 2:]
    near, far = RetinaFaceDetector.centre_variance, RetinaFaceDetector.size_variance
    shift = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centre) / (near * size)
    growth = np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3) / size) / far
    points = (landmarks - centre[:, None]) / (near * size[:, None])
    return np.hstack([shift, growth]).astype(np.float32), points.reshape(-1, 10).astype(np.float32)
