"""Which frames of a segment are searched: one look, and others where it did not find what it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from vidperson.media.sampling import FrameSampling, Sampling, StretchSampling

_HOLDS_A_FRAME = 1.25  # so many steps between two frames, else there is hardly one to add


class SeenFrame(NamedTuple):
    """A frame that was searched. number, time_s: as in ``Frame``. sure: it shows a face above the threshold."""

    number: int
    time_s: float
    sure: bool


class Seen(NamedTuple):
    """What the looks at a segment have seen so far.

    frames: in the order in which they were searched.
    total, last_s: of all frames of the video how many there are, and when the last one is shown.
    """

    frames: list[SeenFrame]
    total: int
    last_s: float


Look = Callable[[Seen], Sampling | None]
"""The frames to search next, None where there is no need to."""


@dataclass(frozen=True)
class FillGaps:
    """After a look at key frames: what lies behind one without a sure face, and what lies between two far apart.

    A short video with one key frame is searched in its middle, too.

    fps: frames to search there per second.
    longest_s: seconds between two searched frames, or up to the end of the video, that are left unsearched.
    """

    fps: float
    longest_s: float

    def __call__(self, seen: Seen) -> Sampling | None:
        frames = sorted(seen.frames, key=lambda frame: frame.time_s)
        stretches = [
            (frame.time_s, end)
            for frame, end in zip(frames, [*(frame.time_s for frame in frames[1:]), inf], strict=False)
            if min(end, seen.last_s) - frame.time_s > (self.longest_s if frame.sure else _HOLDS_A_FRAME / self.fps)
        ]
        if stretches:
            return StretchSampling(self.fps, tuple(stretches))
        if len(frames) == 1 and frames[0].number + 1 < seen.total:  # short; a first frame alone is often a poor one
            return FrameSampling(frozenset({(frames[0].number + seen.total) // 2}))
        return None


@dataclass(frozen=True)
class MoreFrames:
    """For short videos without a sure face, such as one that fades in from black.

    most: frames to search, spread evenly over all; none where as many were searched already.
    """

    most: int

    def __call__(self, seen: Seen) -> Sampling | None:
        if any(frame.sure for frame in seen.frames) or len(seen.frames) >= min(self.most, seen.total):
            return None
        spread = {(2 * place + 1) * seen.total // (2 * self.most) for place in range(self.most)}
        left = spread - {frame.number for frame in seen.frames}
        return FrameSampling(frozenset(left)) if left else None
