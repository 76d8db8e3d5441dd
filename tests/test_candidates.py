"""The faces of a segment gathered frame by frame, with hand-made detections."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidperson.face.align import TEMPLATE
from vidperson.face.candidates import Candidates, SelectedFaces, SelectionPolicy
from vidperson.types import Detections, Frame

Box = tuple[float, float, float, float]


def frame(index: int, label: int = -1) -> Frame:
    """A picture whose colour tells its number."""
    return Frame(np.full((240, 320, 3), (index + 1, 100, 200), np.uint8), index, index / 25, label)


def faces(*rows: tuple[float, Box]) -> Detections:
    """Scores and boxes; the landmarks stand in the box as in the template."""
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    landmarks = TEMPLATE / 112 * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]
    return Detections(boxes, np.array([score for score, _ in rows], np.float32), landmarks.astype(np.float32))


def numbers_in_crops(selected: SelectedFaces) -> list[int]:
    """The frame number that each crop's colour tells."""
    crops = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in selected.crops]
    assert all(crop.shape == (112, 112, 3) for crop in crops)
    return [int(crop[56, 56, 2]) - 1 for crop in crops]


LEFT, RIGHT = (20, 60, 120, 180), (180, 60, 280, 180)


@pytest.mark.parametrize("min_faces,kept", [(0, [0]), (1, [0]), (2, [0, 1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])])
def test_segment_with_fewer_faces_than_asked_takes_lower_thresholds_with_fallback(
    min_faces: int, kept: list[int]
) -> None:
    candidates = Candidates(SelectionPolicy(threshold=0.9, min_faces=min_faces, fallback=True))
    for index, score in enumerate([0.95, 0.75, 0.15, 0.72]):
        candidates.add(frame(index), faces((score, LEFT)))
    selected = candidates.select()
    assert selected.rows[:, 0].tolist() == kept == numbers_in_crops(selected)


@pytest.mark.parametrize("scores,sure", [([], False), ([0.89], False), ([0.9], True), ([0.4, 0.95, 0.2], True)])
def test_sure_face_is_one_that_reached_the_threshold(scores: list[float], sure: bool) -> None:
    candidates = Candidates(SelectionPolicy(threshold=0.9))
    for index, score in enumerate(scores):
        candidates.add(frame(index), faces((score, LEFT)))
    assert candidates.has_sure_face() is sure


def test_sure_face_far_from_the_label_is_not_the_labelled_persons() -> None:
    candidates = Candidates(SelectionPolicy(), labels=[[LEFT]])
    candidates.add(frame(0, label=0), faces((0.99, RIGHT)))
    assert not candidates.has_sure_face()


@pytest.mark.parametrize("fallback", [False, True])
def test_good_face_after_many_poor_ones_stands_alone(fallback: bool) -> None:
    candidates = Candidates(SelectionPolicy(fallback=fallback))
    for index, score in enumerate([0.3, 0.5, 0.5, 0.92, 0.89]):
        candidates.add(frame(index), faces((score, LEFT)))
    assert numbers_in_crops(candidates.select()) == [3]


@pytest.mark.parametrize("min_faces", [0, 1, 3])
def test_without_fallback_no_number_of_faces_lowers_the_threshold(min_faces: int) -> None:
    candidates = Candidates(SelectionPolicy(min_faces=min_faces))
    for index, score in enumerate([0.3, 0.89, 0.91, 0.5]):
        candidates.add(frame(index), faces((score, LEFT)))
    assert numbers_in_crops(candidates.select()) == [2]


@pytest.mark.parametrize("fallback,kept", [(False, []), (True, [1])])
def test_best_face_below_the_threshold_is_known_and_shown_and_kept_only_with_fallback(
    fallback: bool, kept: list[int]
) -> None:
    candidates = Candidates(SelectionPolicy(fallback=fallback))
    for index, score in enumerate([0.3, 0.55, 0.2]):
        candidates.add(frame(index), faces((score, LEFT)))
    selected = candidates.select()
    assert candidates.best_score == np.float32(0.55) and not candidates.has_sure_face()
    assert numbers_in_crops(selected) == kept == selected.rows[:, 0].tolist() and len(selected.quality) == len(kept)
    assert selected.thumbnail is not None and selected.thumbnail[100, 100, 0] == 2  # the frame with number 1
    assert selected.thumbnail_faces.scores.tolist() == [np.float32(0.55)]
    np.testing.assert_allclose(selected.thumbnail_faces.boxes, [LEFT])


def test_sure_face_is_shown_though_an_unsure_one_covers_more_of_the_label() -> None:
    candidates = Candidates(SelectionPolicy(), labels=[[LEFT]])
    candidates.add(frame(0, label=0), faces((0.95, (70, 60, 170, 180))))
    candidates.add(frame(1, label=0), faces((0.4, LEFT)))
    selected = candidates.select()
    assert selected.thumbnail_faces.scores.tolist() == [np.float32(0.95)] and candidates.has_sure_face()


def test_best_score_with_labels_is_that_of_the_labelled_person() -> None:
    candidates = Candidates(SelectionPolicy(), labels=[[LEFT]])
    candidates.add(frame(0, label=0), faces((0.99, RIGHT), (0.35, LEFT)))
    assert candidates.best_score == np.float32(0.35) and not candidates.has_sure_face()
    far = Candidates(SelectionPolicy(), labels=[[LEFT]])
    far.add(frame(0, label=0), faces((0.99, RIGHT)))
    assert far.best_score == 0


def test_crops_rows_and_quality_are_in_one_order_with_several_faces_a_frame() -> None:
    candidates = Candidates(SelectionPolicy())
    candidates.add(frame(0), faces((0.99, LEFT), (0.95, RIGHT), (0.4, LEFT)))
    candidates.add(frame(1), faces())
    candidates.add(frame(2), faces((0.97, RIGHT)))
    selected = candidates.select()
    assert numbers_in_crops(selected) == [0, 0, 2] == selected.rows[:, 0].tolist()
    assert selected.rows[:, 2].tolist() == [20, 180, 180]
    np.testing.assert_allclose(selected.quality[:, 0], 35.2377 * 100 / 112, rtol=0.02)
    assert len(selected.quality) == 3


def test_labels_keep_the_labelled_person_in_every_frame() -> None:
    candidates = Candidates(SelectionPolicy(), labels=[[LEFT], [RIGHT]])
    candidates.add(frame(0, label=0), faces((0.99, RIGHT), (0.95, LEFT)))
    candidates.add(frame(1, label=1), faces((0.99, LEFT), (0.95, RIGHT)))
    selected = candidates.select()
    assert selected.rows[:, [0, 2]].tolist() == [[0, 20], [1, 180]]


def test_labels_drop_frames_where_the_face_covers_half_of_the_best() -> None:
    candidates = Candidates(SelectionPolicy(), labels=[[LEFT]])
    candidates.add(frame(0, label=0), faces((0.99, LEFT)))
    candidates.add(frame(1, label=0), faces((0.99, (70, 60, 170, 180))))  # covers exactly half of the label
    candidates.add(frame(2, label=0), faces((0.99, (69, 60, 169, 180))))
    assert numbers_in_crops(candidates.select()) == [0, 2]


def test_labels_that_nothing_overlaps_keep_the_nearest_within_the_limit() -> None:
    near, far = (125, 60, 165, 120), (270, 60, 310, 120)
    policy = SelectionPolicy(max_centre_distance=1.0)
    candidates = Candidates(policy, labels=[[LEFT]])
    candidates.add(frame(0, label=0), faces((0.99, far), (0.95, near)))
    candidates.add(frame(1, label=0), faces((0.99, far)))
    assert candidates.select().rows[:, [0, 2]].tolist() == [[0, 125]]


def test_low_quality_faces_go_only_when_that_is_asked_for() -> None:
    small, cut = (10, 10, 50, 60), (-40, 60, 60, 180)
    for discard, kept in ((False, [0, 1, 2]), (True, [0])):
        candidates = Candidates(SelectionPolicy(discard_low_quality=discard))
        for index, box in enumerate((LEFT, small, cut)):
            candidates.add(frame(index), faces((0.99, box)))
        assert numbers_in_crops(candidates.select()) == kept


def test_segment_without_frames_or_faces_gives_empty_arrays_of_the_right_width() -> None:
    candidates = Candidates(SelectionPolicy(discard_low_quality=True))
    for selected in (candidates.select(), candidates.select()):
        assert selected.rows.shape == (0, 17) and selected.quality.shape == (0, 2) and not list(selected.crops)
        assert selected.thumbnail is None
    candidates.add(frame(0), faces())
    assert candidates.select().rows.shape == (0, 17)


def test_thumbnail_shows_the_frame_with_the_best_face_and_its_kept_faces() -> None:
    candidates = Candidates(SelectionPolicy())
    candidates.add(frame(0), faces((0.3, LEFT)))
    candidates.add(frame(1), faces((0.99, LEFT), (0.5, RIGHT)))
    candidates.add(frame(2), faces((0.95, RIGHT)))
    selected = candidates.select()
    assert selected.thumbnail is not None and selected.thumbnail.shape == (240, 320, 3)
    assert selected.thumbnail[0, 0, 0] == 2 and selected.thumbnail_faces.boxes.tolist() == [list(LEFT)]
