"""A few frames of each shot of a film, in one pass over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import av
from av.video.reformatter import VideoReformatter

from vidperson.errors import VidPersonError
from vidperson.media.cuts import Small, shot_starts, small_version
from vidperson.media.sampling import Clock, Shot

_KEPT = 4  # times as many frames of a shot are kept as are taken in the end
_KEPT_BYTES = 200 << 20  # of large frames fewer


@dataclass
class ShotSampling:
    """Of each shot ``frames`` frames, or all that there are: those in the middle of as many equal parts of it.

    A shot that lasts longer than ``longest_s`` seconds is several: each begins when the one before has lasted so long.
    The label of a frame is the number of its shot, from 0. A film is decoded once and in full; a few frames of the
    shot are in memory at a time.

    starts: when each shot begins, in seconds, of those that were marked so far.
    Raises VidPersonError unless both numbers are above 0.
    """

    frames: int = 3
    longest_s: float = 20.0
    starts: list[float] = field(default_factory=list)
    sees_pictures = True

    def __post_init__(self) -> None:
        if self.frames < 1 or not self.longest_s > 0:
            raise VidPersonError(f"expected frames and longest_s above 0, found {self.frames} and {self.longest_s}")

    def mark(self, shots: Iterator[Shot], clock: Clock) -> Generator[tuple[Shot, int | None], None, int]:
        """Yields the key frames with their labels, behind the last frame of their shot; returns 0.

        shots: with decoded frames; those without an image are lost ones. What is no frame of a video is a shot.
        """
        ahead: deque[Shot] = deque()
        reformatter = VideoReformatter()

        def smalls() -> Iterator[Small]:
            for shot in shots:
                if isinstance(shot.picture, av.VideoFrame):
                    ahead.append(shot)
                    yield small_version(shot.picture, reformatter)

        kept: _Kept | None = None
        for first in shot_starts(smalls()):
            shot = ahead.popleft()
            if kept is None or first or shot.time - kept.begin >= self.longest_s:
                if kept is not None:
                    yield from self._taken(kept, float(shot.time))
                kept = _Kept(shot, self.frames)
                self.starts.append(float(shot.time))
            kept.add(shot)
        if kept is not None:
            yield from self._taken(kept, float(kept.last.time + 1 / clock.rate))
        return 0

    def _taken(self, kept: _Kept, end: float) -> Iterator[tuple[Shot, int]]:
        begin = float(kept.begin)
        times = [begin + (part + 0.5) / self.frames * (end - begin) for part in range(self.frames)]
        taken = {min(kept.shots, key=lambda shot: abs(float(shot.time) - time)).index for time in times}
        return ((shot, len(self.starts) - 1) for shot in kept.shots if shot.index in taken)


class _Kept:
    """Frames spread evenly over what has come of a shot.

    begin: when it begins. last: the last frame that came.
    """

    def __init__(self, first: Shot, frames: int) -> None:
        picture = first.picture
        fitting = _KEPT_BYTES // (picture.width * picture.height * 3 // 2 + 1)
        self.begin, self.last = first.time, first
        self.shots: list[Shot] = []
        self._most = max(2 * frames, min(_KEPT * frames, fitting))
        self._step, self._count = 1, 0

    def add(self, shot: Shot) -> None:
        self.last = shot
        if self._count % self._step == 0:
            self.shots.append(shot)
            if len(self.shots) > self._most:
                self.shots = self.shots[::2]
                self._step *= 2
        self._count += 1
