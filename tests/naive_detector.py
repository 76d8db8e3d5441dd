"""An oracle for the detectors: the published formulas, one anchor after the other, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]
Face = tuple[float, Box, list[tuple[float, float]]]  # score, box, landmarks


def decode_ssd(outputs: Sequence[Array], item: int, height: int, width: int, limit: float) -> list[Face]:
    """RetinaFace of PyTorch: boxes (N, A, 4), scores (N, A), landmarks (N, A, 10) for anchors at strides 8, 16, 32."""
    boxes, scores, points = (out[item].astype(np.float64) for out in outputs)
    faces: list[Face] = []
    index = 0
    for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for row in range(height // stride):
            for column in range(width // stride):
                for size in sizes:
                    if scores[index] >= limit:
                        x, y, b, p = (column + 0.5) * stride, (row + 0.5) * stride, boxes[index], points[index]
                        cx, cy = x + 0.1 * b[0] * size, y + 0.1 * b[1] * size
                        w, h = size * math.exp(0.2 * b[2]), size * math.exp(0.2 * b[3])
                        marks = [(x + 0.1 * p[2 * k] * size, y + 0.1 * p[2 * k + 1] * size) for k in range(5)]
                        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                        faces.append((float(scores[index]), box, marks))
                    index += 1
    assert index == len(scores)
    return faces


def decode_mxnet(outputs: Sequence[Array], item: int, limit: float, landmark_std: float = 1.0) -> list[Face]:
    """InsightFace's RetinaFace and SSH: outputs per stride 32, 16, 8; boxes in whole pixels, x2 = x1 + w - 1."""
    faces: list[Face] = []
    step = len(outputs) // 3
    for level, (stride, scales) in enumerate(((32, (32, 16)), (16, (8, 4)), (8, (2, 1)))):
        maps = [out[item].astype(np.float64) for out in outputs[level * step : level * step + step]]
        _, rows, columns = maps[0].shape
        for row in range(rows):
            for column in range(columns):
                for anchor, scale in enumerate(scales):
                    score = maps[0][2 + anchor, row, column]
                    if score < limit:
                        continue
                    # the base box (0, 0, 15, 15), scaled about its centre, shifted by the place
                    w = h = 16.0 * scale
                    x1, y1 = 7.5 - 0.5 * (w - 1) + column * stride, 7.5 - 0.5 * (h - 1) + row * stride
                    x, y = x1 + 0.5 * (w - 1), y1 + 0.5 * (h - 1)
                    dx, dy, dw, dh = (maps[1][4 * anchor + k, row, column] for k in range(4))
                    cx, cy, pw, ph = x + dx * w, y + dy * h, w * math.exp(dw), h * math.exp(dh)
                    box = (cx - 0.5 * (pw - 1), cy - 0.5 * (ph - 1), cx + 0.5 * (pw - 1), cy + 0.5 * (ph - 1))
                    marks = []
                    for k in range(5 if step == 3 else 0):
                        shift_x = maps[2][10 * anchor + 2 * k, row, column] * landmark_std
                        shift_y = maps[2][10 * anchor + 2 * k + 1, row, column] * landmark_std
                        marks.append((x + shift_x * w, y + shift_y * h))
                    faces.append((float(score), box, marks))
    return faces


def decode_scrfd(outputs: Sequence[Array], item: int, height: int, width: int, limit: float) -> list[Face]:
    """SCRFD: scores, boxes and maybe landmarks at strides 8, 16, 32; (N, places, values) each."""
    faces: list[Face] = []
    for level, stride in enumerate((8, 16, 32)):
        kinds = [out[item].astype(np.float64) for out in outputs[level::3]]
        index = 0
        for row in range(height // stride):
            for column in range(width // stride):
                for _ in range(2):
                    score, x, y = kinds[0][index, 0], float(column * stride), float(row * stride)
                    if score >= limit:
                        left, up, right, down = kinds[1][index] * stride
                        points = kinds[2][index] * stride if len(kinds) == 3 else []
                        marks = [(x + points[k], y + points[k + 1]) for k in range(0, len(points), 2)]
                        faces.append((float(score), (x - left, y - up, x + right, y + down), marks))
                    index += 1
        assert index == len(kinds[0])
    return faces


def suppress(faces: list[Face], threshold: float) -> list[Face]:
    """The best of each group of overlapping faces, best first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face[0]):
        if all(overlap(face[1], other[1]) <= threshold for other in kept):
            kept.append(face)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
