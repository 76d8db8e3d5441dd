"""A detector against reference faces: what is counted, on hand-made faces and with the real RetinaFace."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from steps_face.evaluate_detector import DetectorFiguresOptions, evaluate_detector
from vidperson import cli
from vidperson.errors import DataError
from vidperson.face.annotations import MIN_HEIGHT, SCORE, FaceMarks
from vidperson.face.photos import read_photos
from vidperson.face.references import readable_photos
from vidperson.metrics.detectors import describe, detector_figures
from vidperson.types import Detections

DETECTOR = "retinaface_mnet025_pytorch"
PICTURE = np.zeros((300, 300, 3), np.uint8)
POINTS = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], np.float32)


def box(x: float, height: float) -> list[float]:
    return [x, 10, x + height, 10 + height]


def marks(*boxes: list[float], known: bool = True) -> FaceMarks:
    points = POINTS if known else POINTS * np.nan
    return FaceMarks(
        np.array(boxes, np.float32).reshape(-1, 4), np.stack([points] * len(boxes) or [POINTS])[: len(boxes)]
    )


def figures_of(*pictures: tuple[list[tuple[float, list[float]]], FaceMarks], **options: float) -> dict[str, Any]:
    """Figures where a detector finds (score, box), best first, with landmarks 2 pixels to the right."""

    def detected(found: list[tuple[float, list[float]]]) -> Detections:
        boxes = np.array([where for _, where in found], np.float32).reshape(-1, 4)
        points = np.stack([POINTS + [2, 0]] * len(found) or [POINTS])[: len(found)]
        return Detections(boxes, np.array([score for score, _ in found], np.float32), points)

    counted = {"score": SCORE, "min_height": MIN_HEIGHT} | options
    return detector_figures(((detected(found), reference) for found, reference in pictures), **counted)


def evaluate(model: str, pictures: list[str], **options: Any) -> dict[str, Any]:
    return evaluate_detector(cli.fill(DetectorFiguresOptions, model=model, pictures=pictures, **options))


def test_figures_of_hand_made_faces_are_as_counted_by_hand() -> None:
    figures = figures_of(
        # Found; found with too low a score; an extra one; one on a small reference face, which does not count; a small
        # extra one, which does not count either.
        (
            [(0.99, box(0, 50)), (0.98, box(200, 60)), (0.97, box(150, 30)), (0.96, box(280, 20)), (0.5, box(70, 60))],
            marks(box(0, 52), box(70, 60), box(150, 30)),
        ),
        ([], marks(box(0, 100))),  # missed
        ([(0.95, box(0, 100))], marks()),  # a picture without reference faces
        ([(0.95, box(100, 50))], marks(box(0, 50))),  # beside it: the picture has a face, but not this one
    )
    assert figures.pop("landmark_error") == figures.pop("landmark_median") == pytest.approx(2 / 20)
    # By falling score: hit, extra, two extra at 0.95, then the second hit: precisions 1 and 2 / 5 at 1 / 4 and 2 / 4.
    assert figures.pop("average_precision") == pytest.approx(0.25 * 1 + 0.25 * 2 / 5)
    assert figures == {
        "recall": 1 / 4,
        "extra": 3 / 4,
        "picture_recall": 2 / 3,
        "num_pictures": 4,
        "num_faces": 4,
        "num_found": 1,
    }
    assert describe({**figures, "average_precision": 0.35}).startswith("1 of 4 faces found (25.00%), extra 75.00%, AP")


def test_score_and_height_that_count_can_be_chosen() -> None:
    pictures = ([(0.8, box(0, 50)), (0.6, box(100, 20))], marks(box(0, 50), box(100, 20)))
    assert figures_of(pictures, score=0.7)["recall"] == 1
    assert figures_of(pictures, score=0.7, min_height=10)["recall"] == 0.5
    assert figures_of(pictures, score=0.5, min_height=10)["num_found"] == 2


def test_one_profile_rules_the_mean_of_the_landmark_errors_but_not_their_median() -> None:
    profile = marks(box(0, 50))
    profile.landmarks[0, 1] = [10.5, 10]  # the eyes are half a pixel apart
    face = ([(0.95, box(0, 50))], marks(box(0, 50)))
    figures = figures_of(face, ([(0.95, box(0, 50))], profile), face)
    assert figures["landmark_median"] == pytest.approx(2 / 20)
    assert figures["landmark_error"] == pytest.approx((2 * 2 / 20 + (4 * 2 + 21.5) / 5 / 0.5) / 3)


def test_reference_faces_without_landmarks_give_no_landmark_error() -> None:
    figures = figures_of(([(0.95, box(0, 50))], marks(box(0, 50), known=False)))
    assert "landmark_error" not in figures and figures["recall"] == 1
    assert "landmark" not in describe(figures)


def test_photo_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), PICTURE)
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    assert [item for item, _ in readable_photos(read_photos([str(tmp_path)]))] == [0]
    assert re.search(r"left out: .*2\.png", caplog.text) and re.search(r"left out: .*3\.png", caplog.text)


def test_no_reference_face_of_the_height_that_counts_is_an_error() -> None:
    with pytest.raises(DataError, match="no reference face of at least 40 pixels in 2 images"):
        figures_of(([(0.9, box(0, 50))], marks(box(100, 39))), ([], marks()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": ["p"]}, "expected --pictures or --videos, and --reference-model or --annotations"),
        ({"pictures": [], "annotations": "a"}, "expected --pictures or --videos"),
        ({"pictures": ["p"], "videos": "v", "reference_model": "r"}, "expected --pictures or --videos"),
        ({"pictures": ["p"], "annotations": "a", "reference_model": "r"}, "--reference-model or --annotations"),
        ({"pictures": [], "videos": "v", "annotations": "a"}, "go with --pictures, not with --videos"),
        ({"pictures": [], "videos": "v", "reference_model": "r", "held_out": 3}, "go with --pictures"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate("model", **options)


# -- the real network ----------------------------------------------------------------------------------------------


def test_detector_against_itself_finds_everything_where_it_is(
    models: Path, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("2008_002506.jpg", "2008_001322.jpg", "Tom_Cruise_avp_2014_4.jpg"):
        shutil.copy(shared / "data/photos/dlib" / name, tmp_path / "photos")
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    model = str(models / DETECTOR)
    options = {"reference_model": model, "max_size": 320, "output": str(tmp_path / "figures.json")}
    figures = evaluate(model, [str(tmp_path / "photos")], **options)
    assert figures["num_pictures"] == 3 and figures["num_faces"] >= 3
    for name, value in {
        "recall": 1,
        "extra": 0,
        "landmark_error": 0,
        "average_precision": 1,
        "picture_recall": 1,
    }.items():
        assert figures[name] == value, name
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert caplog.text.count("photos/broken.jpg: ") == 1


def test_detector_finds_the_faces_that_dlib_marked(models: Path, shared: Path) -> None:
    photos = shared / "data/photos/dlib"
    marked = {"annotations": str(photos / "testing.xml"), "max_size": 640}
    figures = evaluate(str(models / DETECTOR), [str(photos)], **marked)
    assert figures["num_pictures"] == 5 and figures["num_faces"] >= 8 and "landmark_error" not in figures
    assert figures["recall"] > 0.85 and figures["picture_recall"] == 1 and figures["average_precision"] > 0.85
    part = evaluate(str(models / DETECTOR), [str(photos)], held_out=2, **marked)
    assert part["num_pictures"] == 2 and 0 < part["num_faces"] < figures["num_faces"]


def test_videos_are_looked_at_as_often_as_asked_and_broken_ones_left_out(
    models: Path, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shared / "data/video"
    (tmp_path / "vid.scp").write_text(f"bad {folder}/robustness/random_bytes.mp4\ngood {folder}/grid/GRID_bbaf2n.mpg\n")
    model = str(models / DETECTOR)
    with caplog.at_level(logging.INFO):
        figures = evaluate(
            model, [], videos=str(tmp_path / "vid.scp"), fps=1.0, reference_model=model, max_size=320
        )
    assert figures["num_pictures"] == figures["num_found"] == 3 and figures["recall"] == 1
    assert "bad: left out: " in caplog.text and "3 of 3 faces found (100.00%)" in caplog.text
