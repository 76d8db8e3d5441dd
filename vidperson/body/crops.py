"""Persons cut out of frames, and those that stage 2 wrote, segment by segment."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image as Picture

from vidperson.io.items import StoredItems
from vidperson.media.image import box_size, cut_box
from vidperson.media.limits import Limits
from vidperson.types import BODY_COLUMNS, Box, Image

CROP_HEIGHT, CROP_WIDTH = 256, 128


class BodyCrops(StoredItems):
    """The crops in a folder of stage 2, (256, 128, 3) uint8 RGB each; see :class:`StoredItems`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder, "bodies", len(BODY_COLUMNS))


def cut_out(frame: Image, box: Box, limits: Limits) -> tuple[Image, float]:
    """(256, 128, 3) uint8 RGB: what is in a box, resized bicubically whatever its shape; and how much of it is black.

    frame: (height, width, 3) uint8 RGB. box: x1 y1 x2 y2 in its pixels, rounded to whole ones, at least one each way.
    Outside the frame there is black: the share of the box, 0..1, that lies there is the second result. Both are as with
    Pillow's ``crop`` and ``resize``. Raises MediaError for a box of more pixels than the limits allow.
    """
    limits.check_size(*box_size(box))
    inside, outside = cut_box(frame, box)
    picture = Picture.fromarray(np.ascontiguousarray(inside))
    resized = picture.resize((CROP_WIDTH, CROP_HEIGHT), Picture.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8), outside
