"""Alignment against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.face.align import CROP_SIZE, TEMPLATE, align_faces, eye_distances, similarity_transforms


def svd_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Equations 34 to 42 of Umeyama 1991, word for word, as an independent reference."""
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / (s**2).sum(axis=1).mean()
    return np.hstack([scale * rotation, (mean_t - scale * rotation @ mean_s)[:, None]])


@pytest.mark.parametrize(
    "angle,scale,shift", [(0, 1, (0, 0)), (30, 2.5, (40, -7)), (-170, 0.2, (1000, 3)), (90, 1e-3, (0, 0))]
)
def test_similarity_of_a_known_motion_is_recovered_exactly(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    radians = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    moved = (TEMPLATE - shift) @ np.linalg.inv(linear).T
    matrix = similarity_transforms(moved[None])[0]
    np.testing.assert_allclose(matrix, np.hstack([linear, np.array(shift, float)[:, None]]), rtol=1e-9, atol=1e-9)


def test_similarity_of_noisy_points_equals_umeyamas_svd_form() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 5, 2)) * rng.uniform(0.1, 300, (200, 1, 1)) + rng.uniform(0, 2000, (200, 1, 2))
    expected = np.stack([svd_similarity(p, TEMPLATE) for p in points])
    np.testing.assert_allclose(similarity_transforms(points), expected, rtol=1e-7, atol=1e-7)


def test_similarity_of_mirrored_points_never_mirrors() -> None:
    matrix = similarity_transforms((TEMPLATE * [-1, 1])[None])[0]
    assert np.linalg.det(matrix[:, :2]) >= 0


def test_similarity_of_coinciding_points_has_zero_scale() -> None:
    matrix = similarity_transforms(np.full((1, 5, 2), 7.0))[0]
    assert not matrix[:, :2].any() and np.isfinite(matrix).all()


def test_align_of_a_face_already_in_place_returns_the_picture() -> None:
    image = np.random.default_rng(1).integers(1, 255, (CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    crops, black = align_faces(image, TEMPLATE[None].astype(np.float32))
    assert np.abs(crops[0].astype(int) - image).mean() < 1 and black[0] == 0


def test_align_of_a_face_half_outside_the_frame_reports_the_black_share() -> None:
    image = np.full((CROP_SIZE, CROP_SIZE, 3), 200, np.uint8)
    shifted = (TEMPLATE - [CROP_SIZE / 2, 0]).astype(np.float32)  # the crop's left half lies left of the frame
    _, black = align_faces(image, shifted[None])
    assert black[0] == pytest.approx(0.5, abs=0.02)


def test_align_without_faces_returns_empty_arrays() -> None:
    crops, black = align_faces(np.zeros((4, 4, 3), np.uint8), np.zeros((0, 5, 2), np.float32))
    assert crops.shape == (0, CROP_SIZE, CROP_SIZE, 3) and crops.dtype == np.uint8 and black.shape == (0,)


def test_eye_distance_of_the_template_is_its_eye_distance() -> None:
    assert eye_distances(TEMPLATE[None].astype(np.float32))[0] == pytest.approx(35.2377, abs=1e-3)
