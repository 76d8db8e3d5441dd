"""One video file as a stream of frames in display order, with what is lost told apart from what is intact."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain
from typing import Any

import av
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from vidperson.errors import MediaError
from vidperson.media.hardware import GpuDecoder, NotOnGpu
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.other_files import LIST, PICTURES, SOUND, refusal, why_no_picture, why_other
from vidperson.media.sampling import Clock, Shot

_USUAL_RATE = Fraction(25)
_FASTEST_RATE = 1000
_SAME_RATE = Fraction(1, 10_000)
DEEPEST_REORDERING = 16  # frames, by the H.264 and HEVC standards
Marking = Callable[[Iterator[Shot], Clock], Generator[tuple[Shot, int | None], None, int]]  # ``mark`` of a sampling
_WIDEST_PIXEL = 8
_SLACK_FRAMES = 4
_SLACK = Fraction(1, 50)
_COVER_PICTURE = 1 << 10  # AV_DISPOSITION_ATTACHED_PIC
_PLAYLISTS = {"hls", "concat", "dash", "imf", "sdp", "rtsp", "image2", "webm_dash_manifest"}  # libav's names
_SMEARING = {"mpeg4", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "h263", "flv"}  # give frames without a key frame, too
_TEXT = "tty"  # libav would draw the text into images
_BROKEN = "not a media file, or its header is damaged"


class Decoder:
    """Decodes the first video stream of a file (a cover image is none).

    stream, clock: the stream and the times of its frames.
    decoded: frames decoded so far without damage.
    tells_keys: whether shots say which frames are key frames. Else each counts as one: all are decoded anyway.

    In a codec whose frames need no other one (MJPEG, ProRes, DNxHD, ...), a frame is decoded when its image is asked
    for, and damage in the others goes unseen.

    gpu: what decodes instead of the threads. Frames are then in its memory, and damage goes unseen that only the
    decoding of pixels would bring to light.

    Raises MediaError with the reason if there is no video stream with a known codec, or one beyond the limits. It and
    all methods that decode raise NotOnGpu where the file has to be decoded without ``gpu``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int,
        limits: Limits = USUAL_LIMITS,
        gpu: GpuDecoder | None = None,
    ) -> None:
        self.container = open_container(path, limits, gpu)
        try:
            self.stream = video_stream(self.container, path)
            limits.check_size(self.stream.width, self.stream.height, self.pixel_aspect())
            seconds = header_duration(self.container, self.stream)
            limits.check_duration(seconds or 0)
            self.clock = _clock(self.stream)
            frames = None if seconds is None else seconds * float(self.clock.rate)
            self._decode_packet = gpu.decode_of(self.stream, frames) if gpu else self.stream.codec_context.decode
        except (MediaError, NotOnGpu):
            self.container.close()
            raise
        self._limits = limits
        self._too_long = False
        self.stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}  # where the size changes later
        self.stream.codec_context.thread_count = 1 if gpu else threads
        codec = self.stream.codec_context.codec
        self._independent = codec.intra_only and not codec.delay
        self.stream.codec_context.thread_type = "SLICE" if self._independent else "AUTO"  # "FRAME" gives frames late
        self._smears = codec.name in _SMEARING
        self.decoded = 0
        self.tells_keys = False
        self._intact = self._lost = 0
        self._reordering = DEEPEST_REORDERING / self.clock.rate
        self._seen = 0
        self._origin: Fraction | None = None
        self._tick = self.stream.time_base or Fraction(1)
        self._time = Fraction(0)
        self._first_loss: Fraction | None = None
        self._encrypted = False
        self._ended = False
        self._packets_seen = 0
        self._video_end = self._end = Fraction(0)  # seconds on the container's own scale

    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height, 1 where it is not told or absurd."""
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        return aspect if Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL else Fraction(1)

    def selected(self, marking: Marking, sees: bool = False) -> Generator[tuple[Shot, int | None], None, int]:
        """The first frame that can be decoded, with None, then the wanted ones with their labels.

        marking: tells which frames are wanted, and how they are labelled. sees: it needs the image of every frame.
        The image of a wanted frame that is lost is None. Nothing comes if no frame can be decoded at all; of labels
        those past the end of the video are counted and returned.
        """
        shots, begin = self.shots(), list[Shot]()
        for shot in shots:
            begin.append(replace(shot, picture=self.picture(shot)))
            if begin[-1].picture is not None:
                break
        else:
            return 0
        yield begin[-1], None
        marked: Iterator[Shot] = chain(begin, shots)
        if sees:
            marked = (replace(shot, picture=self.picture(shot)) for shot in marked)
        marks = marking(marked, self.clock)
        while True:
            try:
                shot, label = next(marks)
            except StopIteration as end:
                return int(end.value)
            if label is not None:
                yield replace(shot, picture=self.picture(shot)), label

    def shots(self) -> Iterator[Shot]:
        """All frames in display order, for :meth:`picture`; without an image where one is lost or smeared.

        That is from a loss to the next key frame, and in the run of B-frames that ends at a loss: they are
        shown before the frame that is lost, yet made from it.
        """
        run: deque[Shot] = deque()
        for shot in self._unseen() if self._independent else self._judged():
            if self._is_too_long(shot):
                break
            run.append(shot)
            if shot.picture is None:
                run = deque(replace(held, picture=None) for held in run)
            if shot.picture is None or self._independent or shot.picture.pict_type != PictureType.B:
                yield from map(self._counted, run)
                run.clear()
            elif len(run) > DEEPEST_REORDERING:
                yield self._counted(run.popleft())
        yield from map(self._counted, run)

    def picture(self, shot: Shot) -> av.VideoFrame | None:
        """The image of one of the shots, None where it is lost."""
        if not isinstance(shot.picture, av.Packet):
            return shot.picture
        pictures = self._decode(shot.picture)
        if pictures and not pictures[0].is_corrupt:
            self.decoded += 1
            return pictures[0]
        self._intact -= 1
        self._note_loss(shot)
        return None

    def _is_too_long(self, shot: Shot) -> bool:
        self._too_long = shot.time > self._limits.max_duration_s
        return self._too_long

    def _counted(self, shot: Shot) -> Shot:
        if shot.picture is None:
            self._note_loss(shot)
            return shot
        self._intact += 1
        if not self._independent:
            self.decoded += 1
        return shot

    def _note_loss(self, shot: Shot) -> None:
        self._lost += 1
        self._first_loss = shot.time if self._first_loss is None else min(shot.time, self._first_loss)

    def _unseen(self) -> Iterator[Shot]:
        """All frames with their packets instead of images."""
        for packet in self._packets():
            if packet is not None:
                yield self._shot(packet.pts, packet if self._is_whole(packet) else None)
        self._ended = True

    def _judged(self) -> Iterator[Shot]:
        """All frames in display order, without an image from a loss to the next key frame.

        A packet that cannot be decoded counts as one lost frame at its own place. What lies before the first key
        frame, as where a film was cut there, was never to be seen and is left out.
        """
        begun = False
        failed: list[int] = []  # timestamps of lost packets whose place in display order is still ahead
        broken_at: int | None = None  # timestamp of the last loss that no key frame has repaired yet
        for packet in self._packets():
            pictures = self._decode(packet)
            if pictures is None and not begun and self._is_no_start(packet):
                continue
            if pictures is None:
                begun, lost = True, _stamp(packet) or 0
                heappush(failed, lost)
                broken_at = lost if broken_at is None else max(lost, broken_at)
                continue
            begun = begun or (packet is not None and packet.is_keyframe and packet.is_discard)  # cut by an edit list
            for picture in pictures:
                begun = begun or picture.key_frame or not self._smears
                if not begun:
                    continue
                stamp = picture.pts
                while failed and stamp is not None and failed[0] < stamp:
                    yield self._shot(heappop(failed), None)
                if picture.is_corrupt:
                    broken_at = stamp or 0
                elif broken_at is not None and picture.key_frame and self._lies_behind(stamp, broken_at):
                    broken_at = None
                shot = self._shot(stamp, picture if broken_at is None else None)
                yield replace(shot, key=picture.key_frame and broken_at is None) if self.tells_keys else shot
        while failed:
            yield self._shot(heappop(failed), None)
        self._ended = True

    def damage(self) -> str | None:
        """What was lost of the part of the file that was read, and from where on; None if it is intact."""
        reasons = []
        frames = self._intact + self._lost
        if self._first_loss is not None:
            reasons.append(f"the first loss is at {float(self._first_loss):.2f} s")
        if self._ended and self._cut_short():
            frames = max(frames, self.stream.frames)
            reasons.append(f"the file ends early, at {float(self._time):.2f} s")
        if self._too_long:
            reasons.append(f"it goes on beyond max_duration_s {self._limits.max_duration_s:g}")
        if self._encrypted:
            reasons.append("a part is encrypted")
        return ", ".join([f"{self._intact} of {frames} frames decoded", *reasons]) if reasons else None

    def reach(self) -> tuple[int, float]:
        """How many frames there are up to the last that was read, and when it is shown."""
        return self._seen, float(self._time)

    def why_nothing(self) -> str:
        """Why not a single frame came out."""
        if self._encrypted:
            return "the video is encrypted"
        if not self._packets_seen:
            return "the file holds no video data"
        return "no frame of the video can be decoded"

    def _packets(self) -> Iterator[av.Packet[Any] | None]:
        """The stream's packets and a last None, keeping book of how far each stream reaches."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError, OSError):
                break
            if not packet.size:
                continue
            stamp = _stamp(packet)
            if stamp is not None and packet.time_base:
                end = (stamp + (packet.duration or 0)) * packet.time_base
                self._end = max(self._end, end)
                if packet.stream_index == self.stream.index:
                    self._video_end = max(self._video_end, end)
            if packet.stream_index == self.stream.index:
                self._packets_seen += 1
                yield packet
        yield None

    def _decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame] | None:
        """The frames that the decoder gives for a packet, None if the packet is lost."""
        if packet is not None and not self._is_whole(packet):
            return None
        try:
            return self._decode_packet(packet)
        except av.FFmpegError:
            return [] if packet is None else None

    def _is_whole(self, packet: av.Packet[Any]) -> bool:
        if packet.has_sidedata("encryption_info"):
            self._encrypted = True
            return False
        return not packet.is_corrupt

    def _is_no_start(self, packet: av.Packet[Any] | None) -> bool:
        """Whether decoding cannot begin here, though the packet is whole."""
        return packet is not None and not packet.is_keyframe and self._is_whole(packet)

    def _lies_behind(self, stamp: int | None, loss: int) -> bool:
        """Whether a key frame comes after a loss; one far before it does too: its times have begun again."""
        return stamp is None or stamp > loss or (loss - stamp) * self._tick > self._reordering

    def _shot(self, stamp: int | None, picture: av.VideoFrame | av.Packet[Any] | None) -> Shot:
        """The next frame in display order, at a time that continues where the file's times begin again."""
        if stamp is None or self.container.format.name == "avi":  # AVI knows no display times
            time = self._seen / self.clock.rate
        else:
            own = stamp * self._tick
            if self._origin is None:
                self._origin = own
            if own - self._origin < self._time - self._reordering:
                self._origin = own - self._time - 1 / self.clock.rate
            time = own - self._origin
        self._time = max(self._time, time)
        self._seen += 1
        return Shot(self._seen - 1, self._time, picture)

    def _cut_short(self) -> bool:
        """Whether the headers promise clearly more than was there: more video, or more of any stream."""
        stream, container = self.stream, self.container
        if stream.frames > self._packets_seen and stream.duration:
            promised = ((stream.start_time or 0) + stream.duration) * self._tick
            if self._falls_short(self._video_end, promised):
                return True
        if container.duration is None:
            return False
        start, length = container.start_time or 0, container.duration
        end = length if length > start else start + length  # FLV, Matroska, ASF may count from zero, not from the start
        return self._falls_short(self._end, Fraction(end, av.time_base))

    def _falls_short(self, end: Fraction, promised: Fraction) -> bool:
        return promised - end > max(_SLACK_FRAMES / self.clock.rate, promised * _SLACK)


def open_container(
    path: str | os.PathLike[str],
    limits: Limits = USUAL_LIMITS,
    gpu: GpuDecoder | None = None,
    wanted: str = PICTURES,
    probe_bytes: int | None = None,
) -> InputContainer:
    """The open file. Raises MediaError with the reason if it is not a media file, or one that names other files.

    gpu: what is to decode it; with it, NotOnGpu is raised for a file that cannot be opened.
    wanted: what the reason says that the file is not.
    probe_bytes: how much libav may read to tell what the streams are; None: as it does.
    """
    options = {"protocol_whitelist": "file", "max_pixels": str(limits.max_pixels)}
    if probe_bytes is not None:
        options["probesize"] = str(probe_bytes)
    try:  # the prefix keeps names with a colon from being taken for a network address
        settings = gpu.settings() if gpu else None
        container = av.open("file:" + os.fspath(path), options=options, metadata_errors="replace", hwaccel=settings)
    except (av.FFmpegError, OSError, ValueError) as error:
        if gpu:
            raise NotOnGpu(f"the GPU cannot be opened for it: {getattr(error, 'strerror', error)}") from error
        raise MediaError(why_other(path, wanted) or _BROKEN) from error
    names = container.format.name.split(",")
    if _TEXT in names or not _PLAYLISTS.isdisjoint(names):
        container.close()
        kind = "an image" if wanted == SOUND and "image2" in names else f"a {LIST}"
        raise MediaError(why_other(path, wanted) or (_BROKEN if _TEXT in names else refusal(kind, wanted)))
    return container


def video_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """The first video stream that is no cover image. Raises MediaError if there is none, or no decoder.

    path: of the container.
    """
    streams = [stream for stream in container.streams.video if not int(stream.disposition) & _COVER_PICTURE]
    if not streams:
        reason = "the file has no video stream"
        if container.streams.audio:
            reason = why_no_picture(container.format.name)
        raise MediaError(why_other(path) or reason)
    films = [stream for stream in streams if stream.frames != 1 or stream.duration is not None]
    streams = films or streams  # the stills that go with an animated AVIF or HEIC have no duration
    if streams[0].codec_context is None:
        raise MediaError(why_other(path) or "the video codec is unknown")
    return streams[0]


def header_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds that a video lasts by its headers, None where they do not tell."""
    if container.duration:
        return container.duration / 1e6
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def _clock(stream: VideoStream) -> Clock:
    """Constant where the mean rate and the rate that libav deems real agree."""
    mean, real = stream.average_rate, stream.guessed_rate
    if mean and real and abs(mean - real) <= real * _SAME_RATE:
        return Clock(real, constant=True)
    rate = mean or real
    return Clock(rate if rate and rate <= _FASTEST_RATE else _USUAL_RATE, constant=False)


def _stamp(packet: av.Packet[Any] | None) -> int | None:
    if packet is None:
        return None
    return packet.dts if packet.pts is None else packet.pts
