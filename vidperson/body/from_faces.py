"""Where the body of a face is, for when there is no person detector: persons seen from behind are missed.

The proportions are those with the best recall on 187 photos of groups and film stills, against the boxes of YOLOX-nano;
see benchmarks/lab_notes.md.
"""

from __future__ import annotations

import numpy as np

from vidperson.body.detector import Persons
from vidperson.types import Float

WIDTH = 4.0  # of a body, in widths of its face
ABOVE, BELOW = 0.3, 8.0  # from the face up to the top of the head and down to the feet, in heights of the face


def persons_of_faces(faces: Float, scores: Float, height: int, width: int) -> Persons:
    """The bodies, upright and in the middle below their faces, cut where the frame ends.

    faces: (N, 4) float32 x1 y1 x2 y2 in pixels. scores: (N,) float32. height, width: of the frame.
    """
    middle = (faces[:, 0] + faces[:, 2]) / 2
    half = WIDTH / 2 * (faces[:, 2] - faces[:, 0])
    size = faces[:, 3] - faces[:, 1]
    boxes = np.stack([middle - half, faces[:, 1] - ABOVE * size, middle + half, faces[:, 3] + BELOW * size], axis=1)
    boxes = boxes.clip(0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Persons(boxes[seen], scores[seen])
