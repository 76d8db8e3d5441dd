"""Copies of videos and images with boxes and names drawn in.

A copy of a video is an MP4 file, upright and with square pixels, with all frames at their times and with the sound:
packets of it are copied where MP4 files may hold them, else it is encoded as AAC. One frame is in memory at a time.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import Colorspace

from vidperson.answers import Appearance, Track
from vidperson.errors import MediaError
from vidperson.media.decoder import open_container, video_stream
from vidperson.media.image import kind_of_image
from vidperson.media.lettering import Colour, label_image
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.other_files import read_head
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.types import Frame, Image

Labels = Sequence[tuple[Appearance, str]]
"""Appearances, and what is written beside them."""

_COLOURS = {"yes": (30, 150, 60), "unsure": (200, 120, 0), "unknown": (110, 110, 110)}
_INK = (255, 255, 255)
_CLOCK = 90_000  # ticks a second
_USUAL_S = 0.04  # how long a frame is shown that is the only one
_EVERY_FRAME = 100_000.0  # frames a second: more than any video has
_BOX_LATE_S = 0.0005  # times of boxes are rounded
_LINES = 240  # of a picture per pixel of the width of a line
_LETTERS = 22  # as high as that many in a picture
_LEAST_HEIGHT = 12  # of letters, in pixels
# What MP4 files may hold and players play, by libav's names of codecs.
_COPIED_SOUND = {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"}
_USUAL_RATE = 48_000  # samples a second
_LATE = 10  # a share of a second by which a frame of sound may overlap the one before
_ENCODER = "libx264"
# The number of threads decides the bytes. The macroblock tree reads memory that nobody has written, in small frames.
_OPTIONS = {"preset": "veryfast", "crf": "21", "threads": "2", "mbtree": "0"}


class Drawing:
    """Draws boxes and names into successive frames: a box moves evenly between the times at which it is known.

    Of an appearance that has several boxes at a time, such as of a face and a body, the first one has the name. Names
    of what is only heard are written in the lower left corner.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        shown = [(track, number) for number, (found, _) in enumerate(labels) for track in found.tracks]
        self._left = deque(sorted(shown, key=lambda item: item[0].start_s))
        self._there: list[tuple[Track, int]] = []

    def draw(self, image: Image, time_s: float) -> Image:
        """A copy of a frame with what is there at its time. Times must not fall from call to call."""
        time_s += _BOX_LATE_S
        while self._left and self._left[0][0].start_s <= time_s:
            self._there.append(self._left.popleft())
        self._there = [item for item in self._there if item[0].end_s > time_s or _is_still(item[0])]
        if not self._there:
            return image
        image = image.copy()
        height, width = image.shape[:2]
        letters = max(_LEAST_HEIGHT, min(height, width) // _LETTERS)
        below = height
        for number in dict.fromkeys(number for _, number in self._there):
            found, text = self._labels[number]
            colour = _COLOURS[found.decision]
            label = label_image(text, letters, _INK, colour)
            boxes = [_box_at(track, time_s) for track, other in self._there if other == number and track.boxes]
            for place, box in enumerate(boxes):
                _draw_box(image, box, None if place else label, colour)
            if not boxes:
                below -= len(label) + 2
                _paste(image, label, 2, below)
        return image


def _is_still(track: Track) -> bool:
    return not track.start_s and not track.end_s


def _box_at(track: Track, time_s: float) -> tuple[float, ...]:
    """x1 y1 x2 y2 at a time; before the first box that, behind the last box that."""
    after = bisect_right(track.boxes, time_s, key=lambda box: box[0])
    if after in (0, len(track.boxes)):
        return track.boxes[min(after, len(track.boxes) - 1)][1:]
    one, other = track.boxes[after - 1], track.boxes[after]
    share = (time_s - one[0]) / (other[0] - one[0])
    return tuple(a + share * (b - a) for a, b in zip(one[1:], other[1:], strict=True))


def _draw_box(image: Image, box: tuple[float, ...], label: Image | None, colour: Colour) -> None:
    height, width = image.shape[:2]
    line = max(2, min(height, width) // _LINES)
    limit = 8 * max(width, height)  # OpenCV's integer coordinates overflow on boxes far outside the image
    x1, y1, x2, y2 = (round(max(-limit, min(limit, side))) for side in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, line)
    if label is not None:
        above = y1 - len(label)
        _paste(image, label, x1 - line // 2, above if above >= 0 else y2)


def _paste(image: Image, label: Image, x: int, y: int) -> None:
    """Put a label into an image, moved to where all of it is seen, or its beginning."""
    height, width = image.shape[:2]
    x, y = max(0, min(x, width - label.shape[1])), max(0, min(y, height - len(label)))
    part = label[: height - y, : width - x]
    image[y : y + len(part), x : x + part.shape[1]] = part


def annotate_image(path: str | os.PathLike[str], labels: Labels, limits: Limits = USUAL_LIMITS) -> bytes:
    """A JPEG file of an image with boxes and names. Raises MediaError where it cannot be read."""
    with FrameReader(path, UniformSampling(_EVERY_FRAME), limits=limits) as reader:
        frame = next(iter(reader))
    drawn = Drawing(labels).draw(frame.image, 0.0)
    return cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def annotate_video(
    path: str | os.PathLike[str], target: str | os.PathLike[str], labels: Labels, limits: Limits = USUAL_LIMITS
) -> str | None:
    """Write a copy of a video with boxes and names to ``target``, an MP4 file whatever its name.

    Returns what was lost, None if nothing was. Raises MediaError where no frame can be read, or an MP4 file cannot hold
    the frames or the sound, OSError where the copy cannot be written.
    """
    with FrameReader(path, UniformSampling(_EVERY_FRAME), limits=limits) as reader:
        frames = iter(reader)
        first = next(frames)
        try:
            damage = _copy(path, target, chain([first], frames), first.image.shape[:2], Drawing(labels))
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror or str(error), os.fspath(target)) from None
            raise MediaError(f"cannot be copied as MP4: {error.strerror or error}") from None
        return "; ".join(text for text in (reader.damage, damage) if text) or None


def _copy(path: Any, target: Any, frames: Iterable[Frame], shape: tuple[int, int], drawing: Drawing) -> str | None:
    """Write the copy; what was lost of the sound. shape: height and width."""
    with ExitStack() as stack:
        output = stack.enter_context(av.open(f"file:{os.fspath(target)}", "w", format="mp4"))
        video, sound = _Video(output, shape), _Sound(path, output, stack)
        for frame, seconds in _lasting(frames):
            sound.mux_until(frame.time_s)
            video.write(drawing.draw(frame.image, frame.time_s), frame.time_s, seconds)
        sound.mux_until(math.inf)
        video.close()
        return sound.damage


def _lasting(frames: Iterable[Frame]) -> Iterator[tuple[Frame, float]]:
    """Each frame with the seconds that it is shown: until the next one; the last one as long as the one before."""
    held: Frame | None = None
    seconds = _USUAL_S
    for frame in frames:
        if held is not None:
            seconds = frame.time_s - held.time_s
            yield held, seconds
        held = frame
    if held is not None:
        yield held, seconds


class _Video:
    """The video stream of the copy. shape: height and width of its first frame; others are fitted to it."""

    def __init__(self, output: Any, shape: tuple[int, int]) -> None:
        self._output, self._shape = output, shape
        self._stream = output.add_stream(_ENCODER, rate=Fraction(25), options=_OPTIONS)
        self._stream.height, self._stream.width = (side + side % 2 for side in shape)
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, _CLOCK)
        context.flags |= Flags.frame_duration.value
        context.colorspace, context.color_range = Colorspace.ITU601.value, 1
        context.color_primaries = context.color_trc = 1
        self._last = -1

    def write(self, image: Image, time_s: float, seconds: float) -> None:
        """Encode a frame, (height, width, 3) uint8 RGB, that is shown from a time on for so many seconds."""
        if image.shape[:2] != self._shape:  # a stream may change its size
            image = np.asarray(cv2.resize(image, self._shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        height, width = self._shape
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        planes = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV_I420), np.uint8)  # BT.601
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self._last = picture.pts = max(round(time_s * _CLOCK), self._last + 1)
        picture.duration, picture.time_base = max(1, round(seconds * _CLOCK)), Fraction(1, _CLOCK)
        self._output.mux(self._stream.encode(picture))

    def close(self) -> None:
        self._output.mux(self._stream.encode(None))


class _Sound:
    """The first sound track of a file, brought into the copy as the frames go on; there may be none.

    Sound before the first frame is left out, since the copy begins with that. damage: what was lost.
    """

    def __init__(self, path: str | os.PathLike[str], output: Any, stack: ExitStack) -> None:
        self.damage: str | None = None
        self._output = output
        self._pieces: Iterator[tuple[float, Any]] = iter(())  # time and packet, in order
        self._held: tuple[float, Any] | None = None
        if os.path.isdir(path) or kind_of_image(read_head(path)):
            return
        try:
            source = stack.enter_context(open_container(path))
            track = next(iter(source.streams.audio), None)
            if track is None or track.codec_context is None:
                return
            film = video_stream(source, path)
        except MediaError:
            return
        origin = (film.start_time or 0) * (film.time_base or Fraction(0))
        packets = self._intact(source.demux(track))
        copied = track.codec_context.codec.canonical_name in _COPIED_SOUND
        self._pieces = self._copied(packets, track, origin) if copied else self._encoded(packets, track, origin)

    def mux_until(self, time_s: float) -> None:
        """Bring in the packets that begin up to a time of the video."""
        while (piece := self._held or next(self._pieces, None)) and piece[0] <= time_s:
            self._held = None
            self._output.mux(piece[1])
        self._held = piece

    def _intact(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The packets up to one that cannot be read."""
        try:
            for packet in packets:
                if packet.size and packet.pts is not None and not packet.is_corrupt:
                    yield packet
        except (av.FFmpegError, OSError) as error:
            self.damage = f"the sound ends early: {error.strerror}"

    def _copied(self, packets: Iterator[Any], track: Any, origin: Fraction) -> Iterator[tuple[float, Any]]:
        stream = self._output.add_stream_from_template(track)
        return self._moved(packets, stream, origin)

    def _moved(self, packets: Iterator[Any], stream: Any, origin: Fraction) -> Iterator[tuple[float, Any]]:
        last = -1
        for packet in packets:
            ticks = packet.pts - round(origin / packet.time_base)
            if ticks > last:
                packet.pts = packet.dts = last = ticks
                packet.stream = stream
                yield float(ticks * packet.time_base), packet

    def _encoded(self, packets: Iterator[Any], track: Any, origin: Fraction) -> Iterator[tuple[float, Any]]:
        rate = track.codec_context.sample_rate
        rate = rate if rate in (av.Codec("aac", "w").audio_rates or ()) else _USUAL_RATE
        layout = "mono" if track.codec_context.channels == 1 else "stereo"
        stream = self._output.add_stream("aac", rate=rate, layout=layout)
        return self._made(packets, stream, av.AudioResampler("fltp", layout, rate), origin)

    def _made(
        self, packets: Iterator[Any], stream: Any, resampler: Any, origin: Fraction
    ) -> Iterator[tuple[float, Any]]:
        clock, samples = Fraction(1, stream.rate), 0
        for frame in chain(self._decoded(packets), [None]):
            if frame is not None:
                begin = round((frame.pts * frame.time_base - origin) / clock)
                if begin < samples - stream.rate // _LATE or begin < 0:
                    continue
                frame.pts, frame.time_base = begin, clock
            for part in resampler.resample(frame):
                samples = (part.pts or 0) + part.samples
                for packet in stream.encode(part):
                    yield float(packet.pts * packet.time_base), packet
        for packet in stream.encode(None):
            yield float(packet.pts * packet.time_base), packet

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Frames of sound; packets that cannot be decoded are left out."""
        for packet in packets:
            try:
                yield from (frame for frame in packet.decode() if frame.pts is not None)
            except av.FFmpegError as error:
                self.damage = f"a part of the sound cannot be decoded: {error.strerror}"
