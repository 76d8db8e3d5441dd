"""Stage 2 for boxes that are given: the persons of a segment, one in each of its frames."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from vidperson.body.crops import cut_out
from vidperson.errors import MediaError
from vidperson.io.items import Spool, item_entries
from vidperson.media.image import encode_jpeg, encode_png, thumbnail_of
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import Sampling
from vidperson.media.video import FrameReader
from vidperson.types import BODY_COLUMNS, Box, Frame, Image

STATES = ("ok", "no_body", "damaged", "unreadable")
_COLOUR = (0, 230, 0)


class CutBodies:
    """The person of a segment, gathered frame by frame; memory does not grow with the video.

    box: x1 y1 x2 y2 in pixels of every frame; None: the whole frame. Boxes are stored as given, with a score of 1.
    """

    def __init__(self, box: Box | None, limits: Limits = USUAL_LIMITS) -> None:
        self._box, self._limits = box, limits
        self._spool = Spool()
        self._rows: list[tuple[float, ...]] = []
        self._quality: list[tuple[float, float]] = []
        self._thumbnail: bytes | None = None
        self.frames = 0
        self.size = ""

    def __len__(self) -> int:
        return len(self._spool)

    def add(self, frame: Frame) -> None:
        """Take one frame; one that the box lies outside of adds nothing. Raises MediaError for too large a box."""
        height, width = frame.image.shape[:2]
        box = self._box or (0.0, 0.0, float(width), float(height))
        crop, outside = cut_out(frame.image, box, self._limits)
        self.frames, self.size = self.frames + 1, f"{width} x {height}"
        if outside == 1:
            return
        if self._thumbnail is None:
            self._thumbnail = encode_jpeg(_drawn(frame.image, box))
        self._rows.append((frame.index, frame.time_s, *box, 1.0))
        self._quality.append((box[3] - box[1], outside))
        self._spool.append(encode_png(crop))

    def entries(self, segment: str) -> dict[str, Iterator[bytes]]:
        """What the segment adds to each archive, see :func:`~vidperson.io.items.item_entries`."""
        rows = np.array(self._rows, np.float32).reshape(-1, len(BODY_COLUMNS))
        quality = np.array(self._quality, np.float32).reshape(-1, 2)
        return item_entries("bodies", segment, rows, quality, self._spool.read(range(len(self))), self._thumbnail)


def cut_bodies(
    path: str, box: Box | None, sampling: Sampling, limits: Limits = USUAL_LIMITS, threads: int = 1
) -> tuple[str, CutBodies]:
    """The status and the person of a video, an image or a folder of images; a bad file only gives a status.

    box: see :class:`CutBodies`. sampling: the frames to take. threads: of the decoder.
    """
    bodies = CutBodies(box, limits)
    try:
        with FrameReader(path, sampling, threads, limits) as reader:
            for frame in reader:
                bodies.add(frame)
    except MediaError as error:
        return f"unreadable: {error}", CutBodies(box, limits)
    if reader.damage:
        return f"damaged: {reader.damage}", bodies
    if not len(bodies):
        why = f"its box lies outside the frame of {bodies.size} pixels" if bodies.frames else "no frame was taken"
        return f"no_body: {why}", bodies
    return "ok", bodies


def _drawn(image: Image, box: Box) -> Image:
    """A thumbnail with the box."""
    small, scale = thumbnail_of(image)
    limit = 8 * max(small.shape)  # OpenCV's integer coordinates overflow on boxes far outside the image
    x1, y1, x2, y2 = (round(min(max(side * scale, -limit), limit)) for side in box)
    return np.asarray(cv2.rectangle(small, (x1, y1), (x2, y2), _COLOUR, 1), np.uint8)
