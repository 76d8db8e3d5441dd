"""Faces drawn into images, to see at a glance what a detector found."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.types import Box, Detections, Float, Image

_KEPT, _NOT_KEPT, _REGION = (0, 230, 0), (255, 140, 0), (255, 255, 255)
_LANDMARKS = ((255, 60, 60), (60, 120, 255), (255, 220, 0), (255, 0, 255), (0, 230, 230))


def draw_faces(image: Image, faces: Detections, width: int, kept: bool = True, region: Box | None = None) -> Image:
    """A thumbnail with a box, five landmarks and the score for each face.

    image: (H, W, 3) uint8 RGB, left as it is. faces: in pixels of ``image``. kept: boxes are green, else orange.
    region: x1 y1 x2 y2 in pixels of ``image``, drawn in white.
    Returns (round(H * width / W), width, 3) uint8 RGB, at least one pixel high.
    """
    scale = width / image.shape[1]
    height = max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    limit = 8 * max(width, height)  # OpenCV's integer coordinates overflow on boxes far outside the image

    def scaled(points: Float) -> NDArray[np.int64]:
        return np.asarray(np.rint(np.clip(points * scale, -limit, limit)), dtype=np.int64)

    if region:
        x1, y1, x2, y2 = scaled(np.array(region, np.float32)).tolist()
        cv2.rectangle(small, (x1, y1), (x2, y2), _REGION, 1)
    for box, score, points in zip(scaled(faces.boxes), faces.scores, scaled(faces.landmarks), strict=True):
        x1, y1, x2, y2 = box.tolist()
        cv2.rectangle(small, (x1, y1), (x2, y2), _KEPT if kept else _NOT_KEPT, 1)
        for point, colour in zip(points.tolist(), _LANDMARKS, strict=True):
            cv2.circle(small, point, 2 if x2 - x1 > 40 else 1, colour, cv2.FILLED, cv2.LINE_AA)
        text = f"{score:.2f}"
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        left = min(max(x1, 0), max(width - text_width - 4, 0))
        bottom = min(max(y1, text_height + 5), height)
        cv2.rectangle(small, (left, bottom - text_height - 5), (left + text_width + 3, bottom), (0, 0, 0), cv2.FILLED)
        cv2.putText(
            small,
            text,
            (left + 2, bottom - 3),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return np.asarray(small, dtype=np.uint8)
