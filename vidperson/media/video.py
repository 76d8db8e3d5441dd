"""Videos and still images as a stream of upright RGB frames.

Example: ``with FrameReader("talk.mp4", UniformSampling(fps=1)) as reader:`` and ``for frame in reader:``,
then ``reader.damage`` tells what was lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import NamedTuple

import av
from av.video.reformatter import VideoReformatter

from vidperson.errors import MediaError
from vidperson.media.decoder import Decoder, header_duration, open_container, video_stream
from vidperson.media.image import decode_image, kind_of_image
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.other_files import other_kind, refusal
from vidperson.media.picture import to_rgb
from vidperson.media.sampling import Clock, Shot, UniformSampling, WindowSampling
from vidperson.types import Frame

__all__ = ["FrameReader", "Limits", "UniformSampling", "WindowSampling", "probe", "probe_duration"]

_STILL_SECONDS = 0.04
_USUAL_BYTES_PER_SECOND = 125_000
_USUAL_RATE, _FASTEST_RATE = 25.0, 240.0
_MAX_IMAGE_BYTES = 1 << 30
_HEAD_BYTES = 12
_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat")  # libav would open what they name before it says what they are


class FrameReader:
    """The wanted frames of one video or still image, in display order; iterate once.

    path: a file of any name; what it holds is told by its content.
    sampling: which frames to give.
    threads: decoder threads.
    limits: sizes and durations that are refused.

    Complete after the iteration:
    damage: why and where a part of the file was lost, None if the file, as far as it was read, is intact.
    frames_decoded: intact frames that went through the decoder: all up to the last one that was wanted or, where frames
        need no other one, as in MJPEG, only those that were wanted.
    labels_past_end: labelled positions that lie past the end of the video.

    After damage no frame is given until the next key frame, since what lies between is smeared.
    Memory does not depend on the length of the video. Raises MediaError if no frame can be decoded at all, and for
    what is beyond the limits; a video that goes on beyond max_duration_s without a word in its header is damaged there.
    """

    damage: str | None = None
    frames_decoded: int = 0
    labels_past_end: int = 0

    def __init__(
        self,
        path: str | os.PathLike[str],
        sampling: UniformSampling | WindowSampling,
        threads: int = 1,
        limits: Limits = USUAL_LIMITS,
    ) -> None:
        self._sampling, self._limits = sampling, limits
        self._decoder: Decoder | None = None
        self._clock = Clock(Fraction(1), constant=True)
        if kind_of_image(_head(path)):
            image, self.damage = decode_image(_content(path), limits)
            self.frames_decoded = 1
            self._shots: Iterator[Shot] = iter([Shot(0, Fraction(0), image)])
            return
        self._decoder = Decoder(path, threads, limits)
        self._clock = self._decoder.clock
        self._shots = self._decoder.shots()
        begin = []
        for shot in self._shots:
            picture = self._decoder.picture(shot)
            begin.append(replace(shot, picture=picture))
            if picture is not None:
                break
        else:
            self.close()
            raise MediaError(self._decoder.why_nothing())
        self._shots = chain(begin, self._shots)

    def __iter__(self) -> Iterator[Frame]:
        if self._decoder is None:
            for shot, label in self._selected():
                yield Frame(shot.picture, shot.index, float(shot.time), label)
            return
        reformatter, aspect = VideoReformatter(), self._decoder.pixel_aspect()
        for shot, label in self._selected():
            picture = self._decoder.picture(shot)
            if picture is None:
                continue
            self._limits.check_size(picture.width, picture.height, aspect)
            try:
                image = to_rgb(picture, aspect, reformatter)
            except (av.FFmpegError, ValueError) as error:
                raise MediaError(f"no conversion to RGB from {picture.format.name}") from error
            yield Frame(image, shot.index, float(shot.time), label)
        self.frames_decoded = self._decoder.decoded
        self.damage = self._decoder.damage()

    def _selected(self) -> Iterator[tuple[Shot, int]]:
        self.labels_past_end = yield from self._sampling.select(self._shots, self._clock)

    def close(self) -> None:
        """Give the file back; no frame comes after this."""
        if self._decoder is not None:
            self._decoder.container.close()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Probed(NamedTuple):
    """How long a file lasts (seconds), and how much there is to decode (10^6 pixels); for balancing jobs only."""

    duration_s: float
    megapixels: float


def probe(path: str | os.PathLike[str]) -> Probed:
    """By the headers of a video, 0.04 s for a still image.

    Where the headers do not tell, the duration is guessed from the size of the file at 1 Mbit/s, and the pixels of a
    still image at 4 bits each. Raises MediaError if the file cannot be opened or holds no video.
    """
    if kind_of_image(_head(path)):
        return Probed(_STILL_SECONDS, 2 * os.path.getsize(path) / 1e6)
    with open_container(path) as container:
        stream = video_stream(container, path)
        told = header_duration(container, stream)
        duration_s = os.path.getsize(path) / _USUAL_BYTES_PER_SECOND if told is None else told
        rate = min(float(stream.average_rate or _USUAL_RATE), _FASTEST_RATE)  # frames per second
        return Probed(duration_s, duration_s * rate * stream.width * stream.height / 1e6)


def probe_duration(path: str | os.PathLike[str]) -> float:
    """The seconds of :func:`probe`."""
    return probe(path).duration_s


def _head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file. Raises MediaError if there are none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MediaError("not a regular file")
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be opened").lower()) from error
    except ValueError as error:
        raise MediaError("not a file name") from error
    if not head:
        raise MediaError("the file is empty")
    if head.startswith(_PLAYLIST_STARTS):
        raise MediaError(refusal(other_kind(head) or "a list of other files"))
    return head


def _content(path: str | os.PathLike[str]) -> bytes:
    """All bytes of an image. Raises MediaError if there are too many, or they cannot be read."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_IMAGE_BYTES:
                raise MediaError(f"an image of more than {_MAX_IMAGE_BYTES >> 30} GiB")
            return file.read()
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be read").lower()) from error
