"""Where a film is cut: frames are compared by small versions of them, without a network.

A cut is a jump between two frames that stands out against the changes around it, and that no frame of those before and
behind it bridges. So neither a pan, where all frames differ from the next, nor a flash, behind which the film goes on
as before, is a cut. Fades and dissolves are not found. The constants were chosen on composed films, see
benchmarks/lab_notes.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Small = NDArray[np.uint8]

WIDTH, HEIGHT = 48, 27  # of the small versions
_SAMPLES = 4  # per side of a pixel of these, at least, where the frame has as many
_BINS = 16  # of the histogram of each channel
_REACH = 7  # frames before and behind a jump that are compared with each other; no shot is shorter
_LOWEST = 0.25  # difference of two frames from which on they may be of two shots
_SPIKE = 2.0  # how many times the usual difference around it a jump is
_SOFTENER = 0.02  # added to the usual difference: between still frames it is 0
_FLASH = 5  # frames from the one before a flash to the one behind it, both included
_DRIFT = 0.75  # of the usual difference, by which a film that moves on changes per frame meanwhile
_PLANAR = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


def small_version(picture: av.VideoFrame, reformatter: VideoReformatter) -> Small:
    """(27, 48, 3) uint8 Y, U, V of a decoded frame of any shape, each the mean over samples of its area."""
    if picture.format.name not in _PLANAR:
        picture = reformatter.reformat(picture, format="yuv420p", threads=1)
    channels = []
    for plane in picture.planes[:3]:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        every = [max(1, side // (_SAMPLES * small)) for side, small in zip(rows.shape, (HEIGHT, WIDTH), strict=True)]
        few = np.ascontiguousarray(rows[:: every[0], :: every[1]])
        channels.append(cv2.resize(few, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    return np.stack(channels, axis=-1)


class _Seen:
    """What is compared of a frame."""

    __slots__ = ("histogram", "luma", "step")

    def __init__(self, small: Small) -> None:
        self.luma = small[..., 0].astype(np.float32)
        cells = small.reshape(-1, 3) // (256 // _BINS) + np.arange(0, 3 * _BINS, _BINS, dtype=np.uint8)
        self.histogram = np.bincount(cells.ravel(), minlength=3 * _BINS) / (2 * len(cells))
        self.step = 0.0  # difference from the frame before


def difference(one: _Seen, other: _Seen) -> float:
    """Of two frames: mean difference of brightness, 1 from black to white, times 3, plus that of the histograms.

    The latter is the share of the picture that has another colour, summed over three channels.
    """
    brightness = float(np.abs(one.luma - other.luma).mean()) / 255
    return 3 * brightness + float(np.abs(one.histogram - other.histogram).sum())


def shot_starts(smalls: Iterable[Small]) -> Iterator[bool]:
    """Whether each frame is the first one of a shot; as many as there are small versions.

    Reads seven frames ahead.
    """
    before: deque[_Seen] = deque(maxlen=_REACH)
    ahead: deque[_Seen] = deque()  # from the frame that is asked about on
    since = 0
    last: _Seen | None = None
    for small in chain(smalls, [None] * _REACH):
        if small is not None:
            seen = _Seen(small)
            seen.step = difference(last, seen) if last is not None else 0.0
            ahead.append(seen)
            last = seen
        if len(ahead) > _REACH or (small is None and ahead):
            first = not before or (since >= _REACH and _is_cut(before, ahead))
            yield first
            since = 1 if first else since + 1
            before.append(ahead.popleft())


def _is_cut(before: deque[_Seen], ahead: deque[_Seen]) -> bool:
    """Whether the film is cut in front of the first frame of those ahead."""
    jump = ahead[0].step
    if jump < _LOWEST:
        return False
    around = [seen.step for seen in chain(list(before)[1:], list(ahead)[1:])]
    usual = float(np.median(around)) if around else 0.0
    if jump < _SPIKE * (usual + _SOFTENER):
        return False
    for back, one in enumerate(reversed(before), 1):
        for on, other in enumerate(ahead, 1):
            drift = _DRIFT * usual * (back + on - 1) if back + on <= _FLASH else 0.0
            if difference(one, other) < max(_LOWEST, drift):
                return False
    return True
