"""Faces drawn into images: in their place, without a word about boxes that lie anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.face import drawing
from vidperson.face.drawing import draw_faces
from vidperson.types import Detections


def faces_at(*corners: list[float]) -> Detections:
    boxes = np.array(corners, dtype=np.float32).reshape(-1, 4)
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return Detections(boxes, np.linspace(0.99, 0.6, len(boxes)), np.repeat(centres, 5, axis=1))


def test_draw_faces_marks_box_and_landmarks_in_scaled_place_and_leaves_the_input() -> None:
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    thumbnail = draw_faces(image, faces_at([200, 100, 400, 300]), width=320)
    assert thumbnail.shape == (180, 320, 3) and thumbnail.dtype == np.uint8 and not image.any()
    assert thumbnail[150, 150].tolist() == list(drawing._KEPT)
    assert thumbnail[120, 100].tolist() == list(drawing._KEPT)
    assert thumbnail[100, 150].tolist() == list(drawing._LANDMARKS[-1])
    assert (thumbnail > 200).all(axis=2).any(), "no white score text"
    marked = thumbnail.any(axis=2)
    assert not marked[152:].any() and not marked[:, :98].any() and not marked[:, 202:].any()


def test_draw_faces_that_are_not_kept_have_boxes_of_another_colour() -> None:
    thumbnail = draw_faces(np.zeros((360, 640, 3), np.uint8), faces_at([200, 100, 400, 300]), 320, kept=False)
    assert thumbnail[120, 100].tolist() == list(drawing._NOT_KEPT) != list(drawing._KEPT)


def test_draw_faces_no_face_only_scales() -> None:
    image = np.full((31, 64, 3), 77, dtype=np.uint8)
    thumbnail = draw_faces(image, Detections.empty(), width=20)
    assert thumbnail.shape == (10, 20, 3) and (thumbnail == 77).all()


@pytest.mark.parametrize("shape", [(1, 1), (2000, 3), (3, 2000)])
def test_draw_faces_odd_sizes_and_boxes_far_outside_are_drawn_without_error(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    thumbnail = draw_faces(image, faces_at([-1e30, -5, 1e30, 2], [0, 0, 1, 1]), width=32)
    assert thumbnail.shape == (max(1, round(shape[0] * 32 / shape[1])), 32, 3)
