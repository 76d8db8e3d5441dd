"""The figures of a detector against reference boxes and landmarks, image by image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.metrics.boxes import average_precision, landmark_error, match_boxes
from vidperson.metrics.intervals import Weights, drawn_units, intervals, num_draws
from vidperson.types import Detections, Float

MIN_OVERLAP = 0.5


class Reference(Protocol):
    """What is to be found in one image. boxes: (M, 4). landmarks: (M, 5, 2), NaN where unknown."""

    @property
    def boxes(self) -> Float: ...

    @property
    def landmarks(self) -> Float: ...


def detector_figures(images: Iterable[tuple[Detections, Reference]], score: float, min_height: float) -> dict[str, Any]:
    """What a detector finds in images, best first, against what is there; shares 0..1.

    recall: share of the reference boxes of at least ``min_height`` pixels that are found from ``score`` on, with an
    intersection over union of at least 0.5; extra: what is found from that score and height on without one, per
    reference box; landmark_error, landmark_median: distance of the landmarks over that of the eyes;
    average_precision: whatever the score; picture_recall: share of the images with a reference in which anything is
    found from that score on; num_pictures, num_faces, num_found; interval: the 95 % interval of ``recall``, by the
    bootstrap over images, see :mod:`vidperson.metrics.intervals`.
    Smaller reference boxes are neither asked for nor wrong. Raises DataError where there is none of that height.
    """
    scores: list[Float] = []
    correct: list[NDArray[np.bool_]] = []
    errors: list[NDArray[np.float64]] = []
    counts = {"num_pictures": 0, "num_faces": 0, "num_found": 0}
    of_images: list[tuple[int, int]] = []  # faces and found faces
    extra = seen = with_faces = 0
    for found, reference in images:
        tall = heights(reference.boxes) >= min_height
        matches = match_boxes(found.boxes, reference.boxes, MIN_OVERLAP)
        matched = matches >= 0
        # What is small, in the reference or found without one, does not count.
        counted = np.where(matched, tall[matches] if len(tall) else False, heights(found.boxes) >= min_height)
        scores.append(found.scores[counted])
        correct.append(matched[counted])
        good = counted & (found.scores >= score)
        extra += int((good & ~matched).sum())
        counts["num_pictures"] += 1
        counts["num_faces"] += int(tall.sum())
        counts["num_found"] += int((good & matched).sum())
        of_images.append((int(tall.sum()), int((good & matched).sum())))
        if tall.any():
            with_faces += 1
            seen += bool((found.scores >= score).any())
        pairs = good & matched
        errors.append(landmark_error(found.landmarks[pairs], reference.landmarks[matches[pairs]]))
    if not counts["num_faces"]:
        raise DataError(f"no reference face of at least {min_height:g} pixels in {counts['num_pictures']} images")
    distances = np.concatenate(errors)
    known = distances[~np.isnan(distances)]
    return {
        "recall": counts["num_found"] / counts["num_faces"],
        "extra": extra / counts["num_faces"],
        **({"landmark_error": float(known.mean()), "landmark_median": float(np.median(known))} if len(known) else {}),
        "average_precision": average_precision(np.concatenate(scores), np.concatenate(correct), counts["num_faces"]),
        "picture_recall": seen / with_faces,
        **counts,
        "interval": _recall_interval(np.array(of_images)),
    }


def _recall_interval(of_images: NDArray[np.int64]) -> dict[str, list[float]]:
    """of_images: (N, 2) faces and found faces."""

    def recall(weights: Weights) -> float:
        faces, found = (weights @ of_images).tolist()
        return found / faces if faces else float("nan")

    return intervals({"recall": recall}, drawn_units(len(of_images), num_draws(len(of_images))))


def heights(boxes: Float) -> Float:
    """(N,) of (N, 4) boxes x1 y1 x2 y2."""
    return boxes[:, 3] - boxes[:, 1]


def describe(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    landmarks = ""
    if "landmark_error" in figures:
        mean, median = figures["landmark_error"], figures["landmark_median"]
        landmarks = f", landmark error {mean:.2%} of the eyes' distance (median {median:.2%})"
    between = ""
    if "interval" in figures:
        low, high = figures["interval"]["recall"]
        between = f"; 95 % interval of the share of found faces, bootstrap over images: {low:.2%} to {high:.2%}"
    return (
        f"{figures['num_found']} of {figures['num_faces']} faces found ({figures['recall']:.2%}), extra "
        f"{figures['extra']:.2%}{landmarks}, AP {figures['average_precision']:.4f}, a face in "
        f"{figures['picture_recall']:.2%} of the images that have one{between}"
    )
