"""Which frames of a video are taken: evenly in time, or windows around labelled positions.

Everything here works on numbers only, in one pass and with bounded memory; times are exact fractions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vidperson.errors import VidPersonError

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Shot:
    """One frame of the stream, before it is converted to RGB.

    index: number in display order, from 0; lost frames count.
    time: seconds since the first frame, never falling.
    picture: what the decoder makes it of, None where the file is damaged.
    key: decoding it costs no other frame, or all are decoded anyway.
    """

    index: int
    time: Fraction
    picture: Any
    key: bool = True


@dataclass(frozen=True)
class Clock:
    """When the frames of a stream are shown.

    rate: mean frames per second.
    constant: whether the headers say that frame i is shown at i / rate.
    """

    rate: Fraction
    constant: bool

    def instant(self, shot: Shot) -> Fraction:
        """Time of a frame in seconds, freed of rounding and jitter where the rate is constant.

        A frame further off than half a frame stays where it is: some containers declare a rate that they
        do not keep.
        """
        if self.constant:
            on_grid = shot.index / self.rate
            if abs(shot.time - on_grid) * self.rate <= HALF:
                return on_grid
        return shot.time


def _reaches(
    shots: Iterator[Shot], instant: Callable[[Shot], Fraction], half: Fraction, even_ties: bool
) -> Iterator[tuple[Shot, Fraction, bool]]:
    """Each frame with the end of the span of time that is nearest to it, and whether that end belongs to it.

    A time halfway between two frames goes to the even one (as ``round`` does) or, without ``even_ties``, to
    the earlier one. The last frame reaches ``half`` beyond itself.
    """
    held: Shot | None = None
    then = Fraction(0)
    for shot in shots:
        now = instant(shot)
        if held is not None:
            yield held, (then + now) / 2, not even_ties or held.index % 2 == 0
        held, then = shot, now
    if held is not None:
        yield held, then + half, not even_ties or held.index % 2 == 0


def _in_seconds(shots: Iterator[Shot], clock: Clock) -> Iterator[tuple[Shot, Fraction, bool]]:
    return _reaches(shots, clock.instant, HALF / clock.rate, clock.constant)


def _exact(name: str, value: float) -> Fraction:
    """The decimal number that the user wrote, not its binary neighbour."""
    if not math.isfinite(value):
        raise VidPersonError(f"{name}: expected a finite number, found {value}")
    return Fraction(str(value))


@dataclass(frozen=True)
class UniformSampling:
    """``fps`` frames per second: the frames nearest to the times k / fps.

    At a constant frame rate these are the frames ``round(k * rate / fps)``. A rate above the video's own
    gives every frame once. Raises VidPersonError unless fps > 0.
    """

    fps: float = 1.0

    def __post_init__(self) -> None:
        if _exact("fps", self.fps) <= 0:
            raise VidPersonError(f"fps: expected more than 0, found {self.fps}")

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """Yields each frame with label -1, or None where it is not sampled; returns 0 labels past the end."""
        fps = _exact("fps", self.fps)
        wanted = 0  # number k of the next time k / fps
        for shot, end, closed in _in_seconds(shots, clock):
            last = math.floor(end * fps)
            if last == end * fps and not closed:
                last -= 1
            yield shot, -1 if last >= wanted else None
            wanted = max(wanted, last + 1)
        return 0


@dataclass(frozen=True)
class KeyFrameSampling:
    """Key frames, at most ``fps`` per second; of files whose frames all have to be decoded, or need no other, any.

    Raises VidPersonError unless fps > 0.
    """

    fps: float = UniformSampling.fps

    def __post_init__(self) -> None:
        UniformSampling(self.fps)

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """As :meth:`UniformSampling.mark`."""
        step = 1 / _exact("fps", self.fps)
        due = Fraction(0)
        for shot in shots:
            taken = shot.key and shot.time + HALF / clock.rate >= due
            yield shot, -1 if taken else None
            if taken:
                due = shot.time + step
        return 0


@dataclass(frozen=True)
class StretchSampling:
    """Of the frames of a :class:`UniformSampling` those within stretches of time.

    stretches: from and to in seconds, both excluded; in order.
    """

    fps: float
    stretches: tuple[tuple[float, float], ...]

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """As :meth:`UniformSampling.mark`; ends behind the last stretch."""
        left = deque(self.stretches)
        for shot, label in UniformSampling(self.fps).mark(shots, clock):
            time = float(shot.time)  # as the stretches tell it
            while left and left[0][1] <= time:
                left.popleft()
            if not left:
                break
            yield shot, label if left[0][0] < time else None
        return 0


@dataclass(frozen=True)
class FrameSampling:
    """The frames with these numbers, in display order from 0."""

    indices: frozenset[int]

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """As :meth:`UniformSampling.mark`; ends behind the last of them."""
        last = max(self.indices, default=-1)
        for shot in shots:
            yield shot, -1 if shot.index in self.indices else None
            if shot.index >= last:
                break
        return 0


@dataclass(frozen=True)
class WindowSampling:
    """All frames of windows around labelled positions.

    positions: labelled places, in seconds or frame numbers as ``unit`` says, in any order.
    unit: "seconds" (turned to the frame nearest in time) or "frames".
    window: frames per window, odd; the labelled frame is in the middle.

    Windows are cut at the ends of the video. Where they meet, a frame belongs to the nearest label only
    (halfway: to the earlier one), so no frame comes twice. Raises VidPersonError for other values.
    """

    positions: tuple[float, ...]
    unit: str
    window: int

    def __post_init__(self) -> None:
        if self.unit not in ("seconds", "frames"):
            raise VidPersonError(f"unit of positions: expected seconds or frames, found '{self.unit}'")
        if self.window < 1 or self.window % 2 == 0:
            raise VidPersonError(f"window: expected an odd number of frames, found {self.window}")
        for position in self.positions:
            if _exact("position", position) < 0:
                raise VidPersonError(f"position: expected 0 or more {self.unit}, found {position}")

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """Yields each frame with the number of its label, None outside of windows; ends behind the last window.

        Returns how many labels lie past the end.
        """
        half = self.window // 2
        unmet = deque(sorted((_exact("position", p), label) for label, p in enumerate(self.positions)))
        centres: deque[tuple[int, int]] = deque()  # (frame, label) of labels met, those that still matter
        waiting: deque[Shot] = deque()  # frames that a label ahead may still claim, at most half of a window

        def claim(shot: Shot) -> int | None:
            while centres and centres[0][0] < shot.index - half:
                centres.popleft()
            if centres:
                frame, label = min(centres, key=lambda centre: abs(centre[0] - shot.index))
                if abs(frame - shot.index) <= half:
                    return label
            return None

        if self.unit == "frames":
            spans = _reaches(shots, lambda shot: Fraction(shot.index), HALF, even_ties=True)
        else:
            spans = _in_seconds(shots, clock)
        for shot, end, closed in spans:
            while unmet and (unmet[0][0] < end or (closed and unmet[0][0] == end)):
                centres.append((shot.index, unmet.popleft()[1]))
            waiting.append(shot)
            while waiting and waiting[0].index <= shot.index - half:
                earlier = waiting.popleft()
                yield earlier, claim(earlier)
            if not unmet and (not centres or centres[-1][0] + half <= shot.index):
                break
        for shot in waiting:
            yield shot, claim(shot)
        return len(unmet)


Sampling = UniformSampling | KeyFrameSampling | StretchSampling | FrameSampling | WindowSampling
