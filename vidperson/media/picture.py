"""From a decoder's frame to an upright RGB image with square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vidperson.types import Image

# AVCOL_SPC_*: BT.709, FCC, BT.601 for 625 and 525 lines, SMPTE 240M, BT.2020
_KNOWN_MATRICES = {1, 4, 5, 6, 7, 9}
_HD_HEIGHT = 720
_FULL_GREY = ((np.arange(256.0) - 16) * 255 / 219).round().clip(0, 255).astype(np.uint8)
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT


def _of_new_kind(kinds: type[SideDataType], value: object) -> SideDataType:
    """A member for side data that FFmpeg knows and PyAV does not yet, as that of spatial video and EXIF."""
    member: Any = object.__new__(kinds)
    member._name_, member._value_ = f"KIND_{value}", value
    return member


# Python's enum asks this for values without a member; without it, one such item hides the frame's display matrix
SideDataType._missing_ = classmethod(_of_new_kind)  # type: ignore[assignment]


def to_rgb(frame: av.VideoFrame, aspect: Fraction, reformatter: VideoReformatter) -> Image:
    """(height, width, 3) uint8 RGB: one field only if interlaced, square pixels, turned as the file says.

    aspect: width of a pixel over its height; the smaller side of the image grows.
    Colour follows the frame's own matrix and range; where the matrix is not told it is BT.709 from 720 lines
    on and BT.601 below.
    """
    height, turn = frame.height, display_matrix(frame)
    if frame.interlaced_frame:
        frame = _upper_field(frame)
    matrix = None
    if frame.colorspace not in _KNOWN_MATRICES:
        matrix = Colorspace.ITU709 if height >= _HD_HEIGHT else Colorspace.ITU601
    converted = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=matrix,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
        threads=1,
    )
    rgb = np.asarray(converted.to_ndarray(), dtype=np.uint8)
    if frame.color_range == ColorRange.MPEG and frame.format.name.startswith("gray"):
        rgb = np.asarray(cv2.LUT(rgb, _FULL_GREY), dtype=np.uint8)  # libav takes all grey formats for full range
    if len(rgb) != height:
        rgb = _between_rows(rgb, height)
    return np.ascontiguousarray(_turned(_square(rgb, aspect), *turn))


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: a pixel (x, y) is shown at (a x + c y, b x + d y), up to scale."""
    # frame.side_data would make a cycle that keeps the image until the garbage collector runs
    side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # the stub is wrong
    if "DISPLAYMATRIX" not in side_data:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _turned(image: Image, a: int, b: int, c: int, d: int) -> Image:
    """Quarter turns and mirrors: the one nearest to the matrix; an empty matrix does nothing."""
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    if a < 0:
        image = image[:, ::-1]
    return image[::-1] if d < 0 else image


def _square(image: Image, aspect: Fraction) -> Image:
    """Stretched so that pixels are square, by growing one side."""
    height, width = image.shape[:2]
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _upper_field(frame: av.VideoFrame) -> av.VideoFrame:
    """The even lines of every plane."""
    field = av.VideoFrame(frame.width, (frame.height + 1) // 2, frame.format.name)
    for source, target in zip(frame.planes, field.planes, strict=True):
        lines = np.frombuffer(memoryview(source), dtype=np.uint8).reshape(-1, source.line_size)[::2]
        kept = np.frombuffer(memoryview(target), dtype=np.uint8).reshape(-1, target.line_size)
        count, length = min(len(lines), len(kept)), min(lines.shape[1], kept.shape[1])
        kept[:count, :length] = lines[:count, :length]
    field.colorspace, field.color_range = frame.colorspace, frame.color_range
    return field


def _between_rows(field: Image, height: int) -> Image:
    """The field's rows with the means of neighbours between them; the last one is repeated if need be."""
    image = np.repeat(field, 2, axis=0)[:height]
    between = image[1 : len(field) * 2 - 2 : 2]
    between[:] = (field[: len(between)].astype(np.uint16) + field[1 : len(between) + 1] + 1) // 2
    return image
