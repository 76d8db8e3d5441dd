"""Which faces are kept, on hand-made cases and against naive loops."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.face.selection import (
    above_levels,
    keep_labelled,
    keep_quality,
    match_label,
    pick_level,
    score_levels,
)
from vidperson.types import Detections


def faces(*rows: tuple[float, float, float, float, float]) -> Detections:
    """x1 y1 x2 y2 score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros((len(table), 5, 2)))


LEVELS = score_levels(0.9)


def test_levels_from_0_9_go_down_to_0_1_in_tenths() -> None:
    np.testing.assert_allclose(score_levels(0.9), [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_levels_from_0_75_keep_it_and_go_on_with_tenths() -> None:
    np.testing.assert_allclose(score_levels(0.75), [0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_levels_of_an_impossible_threshold_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        score_levels(threshold)


@pytest.mark.parametrize("scores,min_faces,kept", [
    ([0.95, 0.85], 1, 1), ([0.85, 0.84, 0.3], 1, 2), ([0.95, 0.85], 2, 2), ([0.15], 1, 1), ([0.95, 0.3], 3, 2),
    ([], 1, 0), ([0.9], 1, 1),
])  # fmt: skip
def test_threshold_goes_down_until_there_are_enough_faces(scores: list[float], min_faces: int, kept: int) -> None:
    chosen = above_levels(faces(*[(0, 0, 1, 1, score) for score in scores]), LEVELS)
    assert chosen[:, pick_level(chosen, min_faces)].sum() == kept


def test_label_takes_the_face_that_covers_most_of_it() -> None:
    found = faces((0, 0, 10, 10, 0.99), (5, 0, 25, 20, 0.95), (100, 100, 120, 120, 0.99))
    chosen, overlap, _ = match_label(found, [(0, 0, 20, 20)], LEVELS, 1.0)
    assert chosen[:, 0].tolist() == [False, True, False]
    np.testing.assert_allclose(overlap, [100 / 400, 300 / 400, 0])


def test_label_that_nothing_overlaps_takes_the_nearest_centre_within_the_limit() -> None:
    found = faces((20, 0, 30, 10, 0.99), (100, 0, 110, 10, 0.99))
    chosen, _, distance = match_label(found, [(0, 0, 10, 10)], LEVELS, max_distance=2.0)
    assert chosen[:, 0].tolist() == [True, False]
    np.testing.assert_allclose(distance, [20 / np.sqrt(200), 100 / np.sqrt(200)], rtol=1e-6)
    assert not match_label(found, [(0, 0, 10, 10)], LEVELS, max_distance=1.0)[0].any()


def test_label_uses_a_better_placed_face_only_at_the_levels_that_it_reaches() -> None:
    found = faces((0, 0, 4, 10, 0.95), (0, 0, 10, 10, 0.55))
    chosen, _, _ = match_label(found, [(0, 0, 10, 10)], LEVELS, 1.0)
    assert chosen.argmax(axis=0).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_label_in_a_frame_without_faces_chooses_none() -> None:
    chosen, overlap, distance = match_label(faces(), [(0, 0, 10, 10)], LEVELS, 1.0)
    assert chosen.shape == (0, 9) and overlap.shape == (0,) and distance.shape == (0,)


def test_labelled_faces_keep_more_than_half_of_the_best_overlap() -> None:
    assert keep_labelled(np.array([0.8, 0.4, 0.41, 0.0]), np.array([1.0, 0, 0, 0])).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_labelled_faces_without_overlap_keep_those_within_a_quarter_of_the_smallest_distance() -> None:
    assert keep_labelled(np.zeros(3), np.array([0.8, 1.0, 1.01])).tolist() == [True, True, False]


def test_quality_drops_small_faces_then_faces_with_black_border() -> None:
    eyes, black = np.array([40.0, 30, 19, 40]), np.array([0.0, 0.09, 0.0, 0.1])
    assert keep_quality(eyes, black).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "black,kept",
    [
        ([0.2, 0.3], [True, False]),
        ([0.24, 0.26], [True, False]),
        ([0.49, 0.51], [True, False]),
        ([0.3, 0.49], [True, True]),
        ([0.6, 0.7], [True, True]),
    ],
)
def test_quality_relaxes_the_black_share_until_a_face_is_left(black: list[float], kept: list[bool]) -> None:
    assert keep_quality(np.array([40.0, 40]), np.array(black)).tolist() == kept


def test_quality_of_no_faces_keeps_none() -> None:
    assert keep_quality(np.zeros(0), np.zeros(0)).shape == (0,) and keep_labelled(np.zeros(0), np.zeros(0)).shape == (
        0,
    )
