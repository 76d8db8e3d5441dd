"""Faces that somebody marked in images: boxes, and five landmarks where they are known."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

import numpy as np

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import read_lines
from vidperson.types import NUM_LANDMARKS, Float

# What counts where a detector is measured against reference faces.
SCORE = 0.9  # from which on a detection is a face
LOWEST_SCORE = 0.02  # from which on the average precision counts detections
MIN_HEIGHT = 40.0  # pixels of a face that is to be found


@dataclass(frozen=True)
class FaceMarks:
    """The faces of one image, in its pixels. boxes: (M, 4) x1 y1 x2 y2. landmarks: (M, 5, 2), NaN where unknown."""

    boxes: Float
    landmarks: Float


def read_annotations(path: str | os.PathLike[str]) -> dict[str, FaceMarks]:
    """The marked images of a list, by their names in it, in its order.

    Two formats: that of WIDER FACE with RetinaFace's landmarks (``# <picture>``, then a line ``x y width height`` per
    face, followed by nothing or by ``x y flag`` for each of five landmarks and a quality; a negative coordinate: not
    known), and dlib's imglab (``.xml``; only boxes, those to be ignored left out). Boxes without area are left out.
    Raises DataError with the line that is wrong, and for a list of no image.
    """
    faces = _read_imglab(path) if os.fspath(path).lower().endswith(".xml") else _read_wider(path)
    if not faces:
        raise DataError("no image is listed", path)
    return {name: _marks(rows) for name, rows in faces.items()}


def _read_wider(path: str | os.PathLike[str]) -> dict[str, list[list[float]]]:
    faces: dict[str, list[list[float]]] = {}
    name = None
    for number, line in read_lines(path):
        if line.startswith("#"):
            name = line[1:].strip()
            if not name or name in faces:
                raise DataError(f"expected '# <image>', each once, found '{line}'", path, number)
            faces[name] = []
            continue
        values = _numbers(line)
        if name is None or len(values) not in (4, 19, 20) or not all(map(math.isfinite, values)):
            raise DataError(
                "expected '# <image>', or 4, 19 or 20 numbers: x y width height, x y flag for each of five "
                f"landmarks, quality; found '{line[:100]}'",
                path,
                number,
            )
        faces[name].append(values)
    return faces


def write_annotations(path: str | os.PathLike[str], marks: dict[str, FaceMarks]) -> None:
    """Write what :func:`read_annotations` reads, in WIDER FACE's format; appears only when it is whole."""
    with atomic_write(path) as stream:
        for name, found in marks.items():
            stream.write(f"# {name}\n")
            for box, points in zip(found.boxes.astype(float), found.landmarks.astype(float), strict=True):
                words = [*box[:2], *(box[2:] - box[:2])]
                for x, y in points:
                    words += [-1, -1, -1] if math.isnan(x + y) else [x, y, 0]
                stream.write(" ".join(f"{word:.3f}".rstrip("0").rstrip(".") for word in words) + " 1\n")


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []


def _marks(rows: list[list[float]]) -> FaceMarks:
    rows = [row for row in rows if row[2] > 0 and row[3] > 0]  # WIDER FACE has boxes without area
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, *_ in rows], np.float32).reshape(-1, 4)
    landmarks = np.full((len(rows), NUM_LANDMARKS, 2), np.nan, np.float32)
    for face, row in zip(landmarks, rows, strict=True):
        points = np.array(row[4:19], np.float32).reshape(-1, 3)[:, :2]
        if len(points) and (points >= 0).all():
            face[:] = points
    return FaceMarks(boxes, landmarks)


def _read_imglab(path: str | os.PathLike[str]) -> dict[str, list[list[float]]]:
    faces: dict[str, list[list[float]]] = {}
    parser = expat.ParserCreate()

    def wrong(what: str) -> DataError:
        return DataError(f"not a list of dlib's imglab: {what}", path, parser.CurrentLineNumber)

    def on_start(tag: str, given: dict[str, str]) -> None:
        if tag == "image":
            name = given.get("file", "")
            if not name or name in faces:
                raise wrong(f"expected an image's name in 'file', each once, found '{name}'")
            faces[name] = []
        elif tag == "box" and given.get("ignore", "0") != "1":
            words = [given.get(key, "none") for key in ("left", "top", "width", "height")]
            values = _numbers(" ".join(words))
            if not faces or len(values) != 4 or not all(map(math.isfinite, values)):
                raise wrong(f"expected numbers for left, top, width and height in an image, found {' '.join(words)}")
            faces[next(reversed(faces))].append(values)

    def on_entity(name: str, *_: object) -> None:
        raise wrong(f"it defines the entity '{name}'")  # a short one can mean gigabytes

    parser.StartElementHandler, parser.EntityDeclHandler = on_start, on_entity
    try:
        parser.Parse(Path(path).read_bytes(), True)
    except expat.ExpatError as error:
        raise wrong(expat.ErrorString(error.code)) from None
    return faces
