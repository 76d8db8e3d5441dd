"""Faces brought to one position and size: the 5-point similarity to the 112 x 112 ArcFace template."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.types import Float, Image

CROP_SIZE = 112
# Eyes, nose and mouth corners in a 112 x 112 crop, as all ArcFace networks are trained with (Deng et al., CVPR 2019).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float64,
)


def similarity_transforms(
    points: NDArray[np.floating], template: NDArray[np.floating] = TEMPLATE
) -> NDArray[np.float64]:
    """Least-squares rotation, uniform scale and shift from each point set to the template.

    points: (N, K, 2). Returns (N, 2, 3) float64 matrices M with ``template ~ M[:, :2] @ point + M[:, 2]``.
    The closed form of Umeyama, IEEE PAMI 13(4), 1991; in the plane the best rotation needs no singular values: with
    centred points p and targets t, scale * (cos, sin) = (sum p.t, sum p x t) / sum p.p, which never mirrors.
    Points that all coincide give a matrix of zero scale.
    """
    points = np.asarray(points, dtype=np.float64)
    mean, target_mean = points.mean(axis=1, keepdims=True), template.mean(axis=0)
    p, t = points - mean, template - target_mean
    dot = (p * t).sum(axis=(1, 2))
    cross = (p[..., 0] * t[..., 1] - p[..., 1] * t[..., 0]).sum(axis=1)
    spread = (p * p).sum(axis=(1, 2))
    a, b = (np.divide(v, spread, out=np.zeros_like(v), where=spread > 0) for v in (dot, cross))
    linear = np.stack([np.stack([a, -b], axis=-1), np.stack([b, a], axis=-1)], axis=-2)
    shift = target_mean - (linear @ mean.transpose(0, 2, 1))[..., 0]
    return np.concatenate([linear, shift[..., None]], axis=-1)


def align_faces(image: Image, landmarks: Float) -> tuple[Image, Float]:
    """Crops of one frame's faces and the share of black pixels in each.

    image: (height, width, 3) uint8 RGB. landmarks: (N, 5, 2) float32 pixels.
    Returns crops (N, 112, 112, 3) uint8 RGB, bilinear, black outside the frame; black share (N,) float32 in 0..1.
    """
    crops = np.zeros((len(landmarks), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for crop, matrix in zip(crops, similarity_transforms(landmarks), strict=True):
        if matrix[:, :2].any():
            cv2.warpAffine(
                image, matrix, (CROP_SIZE, CROP_SIZE), dst=crop, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)
            )
    return crops, black_shares(crops)


def fitted_crop(image: Image) -> Image:
    """A face that is aligned already, at the size of a crop. Raises MediaError for an image that is not square."""
    height, width = image.shape[:2]
    if height != width:
        raise MediaError(f"expected an aligned, square face, found {width} x {height} pixels")
    if height == CROP_SIZE:
        return image
    how = cv2.INTER_AREA if height > CROP_SIZE else cv2.INTER_LINEAR
    return cv2.resize(image, (CROP_SIZE, CROP_SIZE), interpolation=how)  # type: ignore[return-value]


def black_shares(crops: Image) -> Float:
    """(N,) float32 in 0..1 of (N, 112, 112, 3) uint8 crops: how much of each is black."""
    return (crops == 0).all(axis=-1).mean(axis=(1, 2), dtype=np.float64).astype(np.float32)


def eye_distances(landmarks: Float) -> Float:
    """(N, 5, 2) landmarks to (N,) float32 distances between the eyes in pixels."""
    return np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=-1).astype(np.float32)
