"""Photos with faces that are easily learnt and found: red squares, with a dot of another colour at each landmark."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vidperson.face.annotations import FaceMarks

SKIN = np.array([230, 40, 40])
DOTS = np.array([[40, 40, 230], [40, 230, 40], [230, 230, 40], [40, 230, 230], [230, 40, 230]])
PLACES = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.75], [0.7, 0.75]])


def draw_photo(rng: np.random.Generator, side: int, face: tuple[int, int]) -> tuple[np.ndarray, FaceMarks]:
    """A grey, noisy picture of side x side with one face of ``face`` pixels (least, below), and its marks."""
    image = rng.integers(60, 140, (side, side, 1)) + rng.integers(-8, 8, (side, side, 3))
    size = int(rng.integers(*face))
    x, y = rng.integers(8, side - size - 8, 2)
    image[y : y + size, x : x + size] = SKIN
    landmarks = np.array([x, y]) + PLACES * size
    for (px, py), colour in zip(landmarks, DOTS, strict=True):
        half = size / 12
        image[round(py - half) : round(py + half), round(px - half) : round(px + half)] = colour
    marks = FaceMarks(np.array([[x, y, x + size, y + size]], np.float32), landmarks[None].astype(np.float32))
    return np.clip(image, 0, 255).astype(np.uint8), marks


def write_photos(folder: Path, count: int, side: int = 96, face: tuple[int, int] = (44, 64)) -> dict[str, FaceMarks]:
    """So many photos ``000.png`` ... in a new folder; returns their marks."""
    folder.mkdir(parents=True)
    marks = {}
    for number in range(count):
        image, marks[f"{number:03d}.png"] = draw_photo(np.random.default_rng(number), side, face)
        cv2.imwrite(str(folder / f"{number:03d}.png"), image[..., ::-1])
    return marks
