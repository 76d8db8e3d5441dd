"""Where a film is cut: frames are compared by small versions of them, without a network.

A cut is a jump between two frames that stands out against the changes around it, and that no frame of those before and
behind it bridges. So neither a pan, where all frames differ from the next, nor a flash, behind which the film goes on
as before, is a cut. Fades and dissolves are not found. Either all frames of a film are compared, or those that are
sampled of a video, a fraction of a second apart. The constants were chosen on composed films, see
benchmarks/lab_notes.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidperson.types import Float, Image

Small = NDArray[np.uint8]

WIDTH, HEIGHT = 48, 27  # of the small versions
_SAMPLES = 4  # per side of a pixel of these, at least, where the frame has as many
_BINS = 16  # of the histogram of each channel
_LOWEST = 0.25  # difference of two frames from which on they may be of two shots
_SOFTENER = 0.02  # added to the usual difference: between still frames it is 0
_FLASH = 5  # frames from the one before a flash to the one behind it, both included
_PLANAR = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


class _Rule(NamedTuple):
    """What is a cut.

    reach: frames before and behind a jump that are compared with each other; no shot is shorter.
    spike: how many times the usual difference around it a jump is.
    drift: of the usual difference, by which a film that moves on changes per frame behind a flash.
    """

    reach: int
    spike: float
    drift: float


_EVERY_FRAME = _Rule(7, 2.0, 0.75)
_SAMPLED = _Rule(2, 2.5, 0.5)


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


def small_image(image: Image) -> Small:
    """The same of an RGB image, each the mean over four samples of its area: 20 us whatever the size."""
    few = cv2.resize(image, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.cvtColor(cv2.resize(few, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YUV))


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
    finder = _CutFinder(_EVERY_FRAME)
    for small in smalls:
        yield from finder.add(small)
    yield from finder.end()


class SampledShots:
    """Where shots begin among the frames that are sampled of a video; memory grows with the shots only."""

    def __init__(self) -> None:
        self._finder = _CutFinder(_SAMPLED)
        self._waiting: deque[float] = deque()  # times of the frames that are not judged yet
        self._last_s = -np.inf
        self._size = (0, 0)
        self._starts: list[float] = []

    def add(self, image: Image, time_s: float) -> None:
        """Take the next frame. One that comes late, as of a further look at the video, does not count."""
        if time_s > self._last_s:
            self._last_s = time_s
            self._size = image.shape[1], image.shape[0]
            self._waiting.append(time_s)
            self._note(self._finder.add(small_image(image)))

    def rows(self) -> Float:
        """(S, 3) float32: seconds at which shots begin, ascending, width and height of the frames; once, at the end."""
        self._note(self._finder.end())
        return np.array([(start, *self._size) for start in self._starts], np.float32).reshape(-1, 3)

    def _note(self, judged: Iterable[bool]) -> None:
        for first in judged:
            time_s = self._waiting.popleft()
            if first:
                self._starts.append(time_s)


class _CutFinder:
    """Says of each frame whether a shot begins with it, some frames later."""

    def __init__(self, rule: _Rule) -> None:
        self._rule = rule
        self._before: deque[_Seen] = deque(maxlen=rule.reach)
        self._ahead: deque[_Seen] = deque()  # from the frame that is asked about on
        self._since = 0
        self._last: _Seen | None = None

    def add(self, small: Small) -> list[bool]:
        """Take a frame. Returns what is known now of an earlier one."""
        seen = _Seen(small)
        seen.step = difference(self._last, seen) if self._last is not None else 0.0
        self._ahead.append(seen)
        self._last = seen
        return [self._judge()] if len(self._ahead) > self._rule.reach else []

    def end(self) -> Iterator[bool]:
        """What is known of the frames that are left, as no other follows."""
        while self._ahead:
            yield self._judge()

    def _judge(self) -> bool:
        first = not self._before or (self._since >= self._rule.reach and _is_cut(self._before, self._ahead, self._rule))
        self._since = 1 if first else self._since + 1
        self._before.append(self._ahead.popleft())
        return first


def _is_cut(before: deque[_Seen], ahead: deque[_Seen], rule: _Rule) -> bool:
    """Whether the film is cut in front of the first frame of those ahead."""
    jump = ahead[0].step
    if jump < _LOWEST:
        return False
    around = [seen.step for seen in chain(list(before)[1:], list(ahead)[1:])]
    usual = float(np.median(around)) if around else 0.0
    if jump < rule.spike * (usual + _SOFTENER):
        return False
    for back, one in enumerate(reversed(before), 1):
        for on, other in enumerate(ahead, 1):
            drift = rule.drift * usual * (back + on - 1) if back + on <= _FLASH else 0.0
            if difference(one, other) < max(_LOWEST, drift):
                return False
    return True
