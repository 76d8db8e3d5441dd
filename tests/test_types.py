"""Checked types, with no face as a normal case."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.types import FACE_COLUMNS, Detections, Frame

FRAME = Frame(np.zeros((4, 6, 3), np.uint8), index=7, time_s=0.28)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_detections_to_rows_and_back_are_the_same(count: int) -> None:
    rng = np.random.default_rng(count)
    found = Detections(rng.random((count, 4)), rng.random(count), rng.random((count, 5, 2)))
    rows = found.as_rows(FRAME)
    assert rows.shape == (count, len(FACE_COLUMNS)) == (count, 17) and rows.dtype == np.float32
    assert (rows[:, 0] == 7).all() and (rows[:, 1] == np.float32(0.28)).all()
    back = Detections.from_rows(rows)
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))


def test_detections_of_wrong_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected shape \(2, 4\), found \(1, 4\)"):
        Detections(np.zeros((1, 4)), np.zeros(2), np.zeros((2, 5, 2)))


def test_detections_picked_by_a_mask_keep_their_rows_together() -> None:
    found = Detections(np.arange(12).reshape(3, 4), np.array([0.9, 0.5, 0.7]), np.zeros((3, 5, 2)))
    picked = found[found.scores > 0.6]
    assert len(picked) == 2 and picked.boxes[1].tolist() == [8, 9, 10, 11]
    assert len(found[np.zeros(3, bool)]) == len(Detections.empty()) == 0


@pytest.mark.parametrize(
    "image", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3), np.float32)]
)
def test_frame_that_is_no_rgb_uint8_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Frame(image, 0, 0.0)
