"""Boxes against reference boxes: overlap, assignment, average precision, landmark error, each against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidperson.metrics import average_precision, landmark_error, match_boxes, overlap

NO_BOX = np.zeros((0, 4), np.float32)

sides = st.integers(0, 12)
boxes = st.lists(
    st.tuples(sides, sides, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])), max_size=6
).map(lambda rows: np.array(rows, np.float64).reshape(-1, 4))


def cells(box: np.ndarray) -> set[tuple[int, int]]:
    """The unit squares that a box of whole numbers covers."""
    x1, y1, x2, y2 = map(int, box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@given(boxes, boxes)
def test_overlap_of_whole_boxes_equals_counted_squares(first: np.ndarray, second: np.ndarray) -> None:
    found = overlap(first, second)
    assert found.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            union = len(cells(a) | cells(b))
            assert found[i, j] == pytest.approx(len(cells(a) & cells(b)) / union if union else 0)


def test_overlap_of_hand_computed_cases() -> None:
    one = [[0, 0, 2, 2]]
    others = [[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0.5, 0.5, 1.5, 1.5], [3, 3, 1, 1]]
    np.testing.assert_allclose(overlap(one, others), [[1, 1 / 7, 0, 0.25, 0]])


def naive_matches(found: np.ndarray, reference: np.ndarray, least: float) -> list[int]:
    free = list(range(len(reference)))
    matches = []
    for box in found:
        best = max(free, key=lambda r: (overlap([box], [reference[r]])[0, 0], -r), default=-1)
        if best >= 0 and overlap([box], [reference[best]])[0, 0] >= least:
            free.remove(best)
        else:
            best = -1
        matches.append(best)
    return matches


@given(boxes, boxes, st.sampled_from([0.1, 0.5, 1.0]))
def test_match_boxes_chooses_as_a_naive_loop(found: np.ndarray, reference: np.ndarray, least: float) -> None:
    assert match_boxes(found, reference, least).tolist() == naive_matches(found, reference, least)


def test_second_box_on_a_face_takes_the_next_best_free_one_or_none() -> None:
    reference = np.array([[0, 0, 10, 10], [4, 0, 14, 10]])
    assert match_boxes([[0, 0, 10, 10], [1, 0, 11, 10]], reference).tolist() == [0, 1]
    assert match_boxes([[0, 0, 10, 10], [0, 0, 10, 10]], reference).tolist() == [0, -1]
    assert match_boxes([[2, 0, 12, 10]], reference).tolist() == [0]  # a tie: the first


def test_match_boxes_with_nothing_on_either_side_matches_nothing() -> None:
    assert match_boxes(NO_BOX, [[0, 0, 1, 1]]).shape == (0,)
    assert match_boxes([[0, 0, 1, 1]] * 2, NO_BOX).tolist() == [-1, -1]


def naive_average_precision(scores: list[float], correct: list[bool], references: int) -> float:
    """The precision that is reached at this recall or a higher one, summed over the recalls of all thresholds."""
    points = []
    for threshold in sorted(set(scores)):
        taken = [hit for score, hit in zip(scores, correct, strict=True) if score >= threshold]
        points.append((sum(taken) / references, sum(taken) / len(taken)))
    area, before = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), max_size=12), st.integers(0, 4))
def test_average_precision_equals_the_sum_over_all_thresholds(found: list[tuple[float, bool]], missed: int) -> None:
    scores, correct = [score for score, _ in found], [hit for _, hit in found]
    references = max(1, sum(correct) + missed)
    expected = naive_average_precision(scores, correct, references)
    assert average_precision(scores, correct, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "correct", "references", "expected"),
    [
        ([], [], 3, 0.0),
        ([0.9, 0.8], [False, False], 1, 0.0),
        ([0.9, 0.8], [True, True], 2, 1.0),
        ([0.8, 0.9], [True, True], 4, 0.5),
        ([0.9, 0.8, 0.7], [True, False, True], 2, 0.5 + 0.5 * 2 / 3),
        ([0.9, 0.9], [True, False], 1, 0.5),  # equal scores enter together, in whatever order they stand
        ([0.9, 0.9], [False, True], 1, 0.5),
    ],
)
def test_average_precision_of_hand_computed_cases(
    scores: list[float], correct: list[bool], references: int, expected: float
) -> None:
    assert average_precision(scores, correct, references) == pytest.approx(expected)


def test_average_precision_without_a_reference_box_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one reference box"):
        average_precision([0.9], [False], 0)


def test_landmark_error_is_the_mean_distance_over_that_of_the_references_eyes() -> None:
    reference = np.array([[[0, 0], [10, 0], [5, 5], [2, 8], [8, 8]]] * 2, np.float32)
    found = reference.copy()
    found[1] += [3, 4]
    np.testing.assert_allclose(landmark_error(found, reference), [0, 0.5])
    rng = np.random.default_rng(0)
    found, reference = rng.normal(size=(2, 7, 5, 2))
    for k, error in enumerate(landmark_error(found, reference)):
        total = sum(math.dist(found[k, p], reference[k, p]) for p in range(5)) / 5
        assert error == pytest.approx(total / math.dist(reference[k, 0], reference[k, 1]))


def test_landmark_error_of_unknown_points_equal_eyes_and_no_faces_is_not_a_number() -> None:
    reference = np.array([[[0, 0], [10, 0], [5, 5], [2, 8], [8, 8]]] * 3, np.float32)
    found = reference.copy()
    reference[0] = np.nan
    reference[1, 4, 1] = np.nan
    reference[2, 1] = reference[2, 0]
    assert np.isnan(landmark_error(found, reference)).all()
    assert landmark_error(found[:0], reference[:0]).shape == (0,)
