"""A film becomes frames to search: its shots, key frames of each as images, and the persons in them.

What is written of a film, into one folder:

    <time>.jpg   a key frame with persons, by its time in milliseconds; of a folder of images there are none, as its
                 images are used as they are
    persons      a line per person, frame after frame, from left to right:
                 <time> <x1> <y1> <x2> <y2> <score> <image>, in pixels, the image a name in this folder or a path
    shots        a line per shot: when it begins, in seconds
    status       ok, or `damaged: <why>`
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidperson.body.detector import Persons
from vidperson.body.found import Detect, search_frames
from vidperson.errors import MediaError
from vidperson.io.lines import write_lines
from vidperson.media.folder import ImageFolder
from vidperson.media.key_frames import ShotSampling
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.types import Image

JPEG_QUALITY = 95
_DIGITS = 8  # of milliseconds: a day


@dataclass(frozen=True)
class FilmSearch:
    """How films are searched.

    detect: images to the persons in them.
    frames, longest_s: see :class:`~vidperson.media.key_frames.ShotSampling`.
    threads: of the decoder. limits: what is refused.
    """

    detect: Detect
    frames: int = ShotSampling.frames
    longest_s: float = ShotSampling.longest_s
    threads: int = 1
    limits: Limits = USUAL_LIMITS


def search_film(
    path: str | os.PathLike[str], output: Path, how: FilmSearch, report: Callable[[float], None] = lambda time_s: None
) -> None:
    """Search a video, or a folder of images, each of which is a key frame then, one second after the other.

    output: the folder to write into; see the top of this file. report: told the time of each frame, in seconds.
    Same film and options, same bytes.
    Memory does not grow with the film. Raises MediaError for a film of which nothing can be read.
    """
    output.mkdir(parents=True, exist_ok=True)
    images = ImageFolder(path, how.limits) if os.path.isdir(path) else None
    shots = ShotSampling(how.frames, how.longest_s)
    lines: list[str] = []
    with (
        FrameReader(path, UniformSampling(1) if images else shots, how.threads, how.limits) as reader,
        closing(search_frames(iter(reader), how.detect)) as searched,
    ):
        for frame, persons in searched:
            time = f"{round(1000 * frame.time_s):0{_DIGITS}d}"
            image = os.path.abspath(images.where(frame.index)) if images else f"{time}.jpg"
            if images is None and len(persons):
                _write_jpeg(output / image, frame.image)
            report(frame.time_s)
            lines += [f"{time} {numbers} {image}" for numbers in _left_to_right(persons)]
    if images is None and not shots.starts:
        raise MediaError("an image, not a film")
    write_lines(output / "persons", lines)
    write_lines(output / "shots", (f"{begin:.3f}" for begin in shots.starts))
    write_lines(output / "status", [f"damaged: {reader.damage}" if reader.damage else "ok"])


def _write_jpeg(path: Path, image: Image) -> None:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _left_to_right(persons: Persons) -> list[str]:
    """`<x1> <y1> <x2> <y2> <score>` of each, by the middle of the box; boxes in tenths of a pixel."""
    boxes = persons.boxes.round(1)
    order = np.lexsort((-persons.scores, boxes[:, 1], boxes[:, 0] + boxes[:, 2]))
    order = order[(boxes[order, 2:] > boxes[order, :2]).all(axis=1)]  # a sliver may have no tenth of a pixel
    rows = zip(boxes[order].tolist(), persons.scores[order].tolist(), strict=True)
    return [" ".join(f"{number:.1f}" for number in box) + f" {score:.4f}" for box, score in rows]
