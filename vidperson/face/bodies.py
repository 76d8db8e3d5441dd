"""Whose face is it? Persons of a frame are known by their boxes; each gets one of the faces, or none.

Two ways: faces of the whole frame are given to all its bodies at once (:func:`give_faces`), or the best of the faces
that are found in what a box cuts out is taken (:func:`best_face`), as rogeryang12/cast_search_by_portrait does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidperson.types import Box, Detections

Double = NDArray[np.float64]
# How a face lies in the box of its body, in 1052 photos of one person and one face: faces by retinaface_mnet025, boxes
# by YOLOX-nano. From the top of the box to that of the face, in heights of the face: median 0.30, mean deviation 0.10,
# largest 2.4. From centre to centre, in widths of the box: mean 0.06, largest 0.35. The centre of the face is at most
# 0.65 of the height of the box below its top; the face has at least 0.096 of this height, and 0.90 of it is inside.
USUAL_DROP, DROP_DEVIATION, SHIFT_DEVIATION = 0.30, 0.10, 0.06
MOST_SHIFT = 0.4
LOWEST_CENTRE = 2 / 3
LEAST_HEIGHT = 1 / 16
LEAST_INSIDE = 0.5
_TIE = 1e-9  # what equal costs differ by from one name to the next
NO_FACE = 30.0  # the cost of a body without a face, and the most of one that has one: 3.3 heights below the top

# The sizes in which the original's detector sees what a box cuts out.
ORIGINAL_SIDES = (800, 1200)  # the shorter side, and the most that the longer one may become
ORIGINAL_SCALES = tuple(side / 800 for side in (500, 800, 1100, 1400, 1700))


class Given(NamedTuple):
    """What a body gets. face: its place among the faces; None: none, and ``state`` is the body's status then."""

    face: int | None
    state: str = ""


@dataclass(frozen=True)
class Bodies:
    """The bodies of a file, each a segment of its own.

    boxes: segment -> x1 y1 x2 y2 in pixels of each frame, None: all of it. Those of all segments of the file, since
        two of them cannot have the same face.
    wanted: the segments to give results of, in this order.
    cut: the detector sees only what the box of the one body cuts out of a frame, and :func:`best_face` chooses.
    """

    boxes: Mapping[str, Box | None]
    wanted: Sequence[str]
    cut: bool = False

    def within(self, width: int, height: int) -> dict[str, Box]:
        """The boxes in a frame of this size."""
        return {segment: box or (0.0, 0.0, float(width), float(height)) for segment, box in self.boxes.items()}

    def give(self, faces: Detections, threshold: float, width: int, height: int) -> dict[str, Given]:
        """What each body gets of the faces of a frame of this size.

        Faces from the threshold on come first. What has none of them may get one below: then it is unsure.
        """
        way = best_face if self.cut else give_faces
        boxes = self.within(width, height)
        sure = np.flatnonzero(faces.scores >= threshold)
        given = {segment: _back(one, sure) for segment, one in way(boxes, faces[sure]).items()}
        left = {segment: boxes[segment] for segment, one in given.items() if one.face is None}
        unsure = np.flatnonzero(faces.scores < threshold)
        for segment, one in way(left, faces[unsure]).items():
            if one.face is not None:
                given[segment] = _back(one, unsure)
        for segment, (x1, y1, x2, y2) in left.items():
            if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
                given[segment] = Given(None, f"no_face: its box lies outside the frame of {width} x {height} pixels")
        return given


def _back(one: Given, places: NDArray[np.intp]) -> Given:
    return one if one.face is None else one._replace(face=int(places[one.face]))


def give_faces(boxes: Mapping[str, Box], faces: Detections) -> dict[str, Given]:
    """One to one the faces of a frame and its bodies: the assignment of least cost; a body may have none.

    The cost of a face with its box (x1 y1 x2 y2), width w and height h, in a body's box with its B, W, H is

        |(y1 - B.y1) / h - 0.30| / 0.10 + |centre x - B's centre x| / W / 0.06

    the minus logarithm of its probability, up to a constant, if both are distributed as Laplace's. A body without a
    face costs ``NO_FACE``. A face is no body's unless at least half of it lies in the box, its centre in the upper two
    thirds and 0.1 W or more from each side, and h is H / 16 or more.
    Of equal costs, that of the segment that comes first by its name is taken. Solved by
    ``scipy.optimize.linear_sum_assignment`` (Crouse, IEEE Trans. Aerospace and Electronic Systems 52(4), 2016).
    """
    from scipy.optimize import linear_sum_assignment  # here, since it takes long and few sets need it

    names = sorted(boxes)
    cost, faults = _costs(np.array([boxes[name] for name in names]).reshape(-1, 4), faces.boxes.astype(np.float64))
    allowed = np.where((faults < 0) & (cost < NO_FACE), cost + _TIE * np.arange(len(names))[:, None], 2 * NO_FACE)
    rows, columns = linear_sum_assignment(np.hstack([allowed, np.full((len(names), len(names)), NO_FACE)]))
    owners = {column: row for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if column < len(faces)}
    given = {names[row]: Given(column) for column, row in owners.items()}
    for row, name in enumerate(names):
        if name not in given:
            near = [column for column in np.argsort(cost[row], kind="stable").tolist() if cost[row, column] < np.inf]
            given[name] = Given(None, "no_face")
            if near:
                fault = faults[row, near[0]]
                why = _FAULTS[fault] if fault >= 0 else f"the face in its box is that of {names[owners[near[0]]]}"
                given[name] = Given(None, f"face_rejected: {why}")
    return given


_FAULTS = (
    "less than half of the face lies in its box",
    "the face has less than 1/16 of the height of its box",
    "the face lies in the lower third of its box",
    "the face lies at a side of its box",
    "the face lies too far below the top of its box",
)


def _costs(bodies: Double, faces: Double) -> tuple[Double, NDArray[np.int64]]:
    """(M, N) costs of the faces, inf where the centre is not in the box, and what speaks against each: -1, or a fault.

    bodies: (M, 4). faces: (N, 4).
    """
    corner1, corner2 = bodies[:, None, :2], bodies[:, None, 2:]
    box = corner2 - corner1
    face1, face2 = faces[None, :, :2], faces[None, :, 2:]
    size, centre = np.maximum(face2 - face1, 1e-6), (face1 + face2) / 2
    inside = np.clip(np.minimum(corner2, face2) - np.maximum(corner1, face1), 0, None).prod(-1) / size.prod(-1)
    drop = (face1 - corner1)[..., 1] / size[..., 1]
    shift = np.abs(centre - (corner1 + corner2) / 2)[..., 0] / box[..., 0]
    cost = np.abs(drop - USUAL_DROP) / DROP_DEVIATION + shift / SHIFT_DEVIATION
    against = [
        inside < LEAST_INSIDE,
        size[..., 1] < LEAST_HEIGHT * box[..., 1],
        (centre - corner1)[..., 1] > LOWEST_CENTRE * box[..., 1],
        shift > MOST_SHIFT,
        cost >= NO_FACE,
    ]
    faults = np.select(against, range(len(against)), -1)
    return np.where(((centre >= corner1) & (centre <= corner2)).all(-1), cost, np.inf), faults


def best_face(boxes: Mapping[str, Box], faces: Detections) -> dict[str, Given]:
    """What the original takes for each body, whatever others have: the largest area / distance of the centre.

    The distance is that to (w / 2, h / 3) of the box, of width w and height h. Faces of at most w h / 50 do not count,
    nor those with a centre in the outer sixths of the width.
    """
    given = {}
    for name, (x1, y1, x2, y2) in boxes.items():
        width, height = x2 - x1, y2 - y1
        centre = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - np.array([x1, y1])
        area = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
        distance = np.linalg.norm(centre - np.array([width / 2, height / 3]), axis=1)
        small = area <= width * height / 50
        beside = np.abs(centre[:, 0] - width / 2) >= width / 3
        worth = np.where(small | beside, -1.0, area / np.maximum(distance, 1e-6))
        if not len(faces):
            given[name] = Given(None, "no_face")
        elif worth.max() < 0:
            why = "at most 1/50 of its box" if small[np.argmax(area)] else "in the outer sixths of its box"
            given[name] = Given(None, f"face_rejected: the largest face is {why}")
        else:
            given[name] = Given(int(np.argmax(worth)))
    return given
