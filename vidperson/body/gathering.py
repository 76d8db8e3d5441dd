"""What stage 2 stores of the persons of a segment, gathered frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from vidperson.body.crops import cut_out
from vidperson.io.items import Spool, item_entries
from vidperson.media.cuts import SampledShots
from vidperson.media.image import encode_jpeg, encode_png, thumbnail_of
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.types import BODY_COLUMNS, Box, Frame, Image

STATES = ("ok", "no_body", "damaged", "unreadable")
_COLOUR = (0, 230, 0)


class Bodies:
    """The persons of a segment; memory does not grow with the video.

    The thumbnail is the frame with the best score, the first of several. frames: how many were added. size: of the
    last one.
    """

    def __init__(self, limits: Limits = USUAL_LIMITS) -> None:
        self._limits = limits
        self._spool = Spool()
        self._rows: list[tuple[float, ...]] = []
        self._quality: list[tuple[float, float]] = []
        self._shots = SampledShots()
        self._thumbnail: bytes | None = None
        self._best = -1.0
        self.frames = 0
        self.size = ""

    def __len__(self) -> int:
        return len(self._spool)

    def add(self, frame: Frame, boxes: Sequence[Box], scores: Sequence[float]) -> None:
        """Take the persons of one frame; a box that lies outside of it adds nothing.

        boxes: x1 y1 x2 y2 in its pixels. Raises MediaError for too large a box.
        """
        height, width = frame.image.shape[:2]
        self._shots.add(frame.image, frame.time_s)
        self.frames, self.size = self.frames + 1, f"{width} x {height}"
        shown: list[Box] = []
        best = 0.0
        for box, score in zip(boxes, scores, strict=True):
            crop, outside = cut_out(frame.image, box, self._limits)
            if outside == 1:
                continue
            self._rows.append((frame.index, frame.time_s, *box, score))
            self._quality.append((box[3] - box[1], outside))
            self._spool.append(encode_png(crop))
            shown.append(box)
            best = max(best, score)
        if best > self._best and (shown or not boxes):
            self._best, self._thumbnail = best, encode_jpeg(_drawn(frame.image, shown))

    def entries(self, segment: str) -> dict[str, Iterator[bytes]]:
        """What the segment adds to each archive, see :func:`~vidperson.io.items.item_entries`; once."""
        rows = np.array(self._rows, np.float32).reshape(-1, len(BODY_COLUMNS))
        quality = np.array(self._quality, np.float32).reshape(-1, 2)
        crops = self._spool.read(range(len(self)))
        return item_entries("bodies", segment, rows, quality, self._shots.rows(), crops, self._thumbnail)


def _drawn(image: Image, boxes: Sequence[Box]) -> Image:
    """A thumbnail with the boxes."""
    small, scale = thumbnail_of(image)
    limit = 8 * max(small.shape)  # OpenCV's integer coordinates overflow on boxes far outside the image
    for box in boxes:
        x1, y1, x2, y2 = (round(min(max(side * scale, -limit), limit)) for side in box)
        cv2.rectangle(small, (x1, y1), (x2, y2), _COLOUR, 1)
    return small
