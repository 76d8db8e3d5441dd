"""Videos, still images and folders of images as a stream of upright RGB frames.

Example: ``with FrameReader("talk.mp4", UniformSampling(fps=1)) as reader:`` and ``for frame in reader:``,
then ``reader.damage`` tells what was lost.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from types import TracebackType
from typing import NamedTuple

import av
from av.video.reformatter import VideoReformatter

from vidperson.errors import MediaError
from vidperson.media.decoder import Decoder, header_duration, open_container, video_stream
from vidperson.media.folder import CLOCK, ImageFolder, Losses
from vidperson.media.hardware import GpuDecoder, NotOnGpu, in_memory
from vidperson.media.image import decode_image, image_size, kind_of_image
from vidperson.media.key_frames import ShotSampling
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.other_files import read_head
from vidperson.media.picture import to_rgb
from vidperson.media.plan import PlannedDecoder, Surprise
from vidperson.media.sampling import Clock, Sampling, Shot, UniformSampling, WindowSampling
from vidperson.types import Frame, Image

__all__ = ["FrameReader", "Limits", "UniformSampling", "WindowSampling", "probe"]

_STILL_SECONDS = 0.04
_USUAL_BYTES_PER_SECOND = 125_000
_USUAL_RATE, _FASTEST_RATE = 25.0, 240.0
_MAX_IMAGE_BYTES = 1 << 30


class FrameReader:
    """The wanted frames of one video, still image or folder of images, in display order; iterate once.

    path: a file of any name; what it holds is told by its content. A folder is a video of its images, see
        :class:`~vidperson.media.folder.ImageFolder`: one that cannot be read is damage.
    sampling: which frames to give.
    threads: decoder threads.
    limits: sizes and durations that are refused.
    gpu: what decodes the video if it can; the frames are those of software.

    Complete after the iteration:
    damage: why and where a part of the file was lost, None if the file, as far as it was read, is intact.
    frames_decoded: intact frames that went through the decoder: those that were wanted and those that they are made
        from; see :mod:`vidperson.media.plan`.
    labels_past_end: labelled positions that lie past the end of the video.
    total, last_s: frames up to the last that was read, lost ones too, and when that one is shown.

    After damage no frame is given until the next key frame, since what lies between is smeared. Damage in frames that
    no wanted one is made from goes unseen.
    Memory does not depend on the length of the video. Raises MediaError if no frame can be decoded at all, and for
    what is beyond the limits; a video that goes on beyond max_duration_s without a word in its header is damaged there.
    """

    damage: str | None = None
    frames_decoded: int = 0
    labels_past_end: int = 0
    total: int = 1
    last_s: float = 0.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        sampling: Sampling | ShotSampling,
        threads: int = 1,
        limits: Limits = USUAL_LIMITS,
        gpu: GpuDecoder | None = None,
    ) -> None:
        self._path, self._sampling, self._threads, self._limits, self._gpu = path, sampling, threads, limits, gpu
        self._decoder: Decoder | None = None
        self._folder: ImageFolder | None = None
        if os.path.isdir(path):
            self._folder = ImageFolder(path, limits)
            return
        if kind_of_image(read_head(path)):
            self._image, self.damage = decode_image(_content(path), limits)
            self.frames_decoded = 1
            return
        self._begin(PlannedDecoder)
        if gpu:
            gpu.opened.add(os.fspath(path))

    def _begin(self, kind: type[Decoder]) -> None:
        """Begin to decode, in full where the plan fails, and in software where the GPU does. Raises MediaError."""
        try:
            self._open(kind)
        except Surprise:
            self._begin(Decoder)
        except NotOnGpu as why:
            self._leave_gpu(str(why))
        except MediaError as error:
            if self._gpu is None:
                raise
            self._leave_gpu(f"it makes nothing of it: {error}")

    def _leave_gpu(self, why: str) -> None:
        """Begin again in software."""
        gpu, self._gpu = self._gpu, None
        self._begin(PlannedDecoder)
        if gpu:
            gpu.log_left(self._path, why)

    def _open(self, kind: type[Decoder]) -> None:
        """Begin to decode. Raises MediaError where no frame can be decoded, Surprise or NotOnGpu where others may."""
        self.close()
        self._decoder = kind(self._path, self._threads, self._limits, self._gpu)
        self._decoder.tells_keys = kind is Decoder  # then it goes on where the plan failed: the same frames are wanted
        sees = isinstance(self._sampling, ShotSampling)
        self._selected = self._decoder.selected(self._sampling.mark, sees)
        try:
            if next(self._selected, None) is None:
                raise MediaError(self._decoder.why_nothing())
        except (MediaError, NotOnGpu, Surprise):
            self.close()
            raise

    def __iter__(self) -> Iterator[Frame]:
        if self._folder is not None:
            yield from self._images(self._folder)
            return
        if self._decoder is None:
            shots = iter([Shot(0, Fraction(0), self._image)])
            for shot, label in self._counting(self._sampling.mark(shots, Clock(Fraction(1), constant=True))):
                if label is not None:
                    yield Frame(shot.picture, shot.index, float(shot.time), label)
            return
        last = -1
        while True:
            try:
                for frame in self._frames(self._decoder, last):
                    last = frame.index
                    yield frame
                break
            except Surprise:
                self._begin(Decoder)
            except NotOnGpu as why:
                self._leave_gpu(str(why))
        self.frames_decoded = self._decoder.decoded
        self.damage = self._decoder.damage()
        self.total, self.last_s = self._decoder.reach()

    def _images(self, folder: ImageFolder) -> Iterator[Frame]:
        """The wanted images of a folder, one in memory at a time. Raises MediaError where none of all can be read."""
        shots = (Shot(place, Fraction(place), None) for place in range(len(folder)))
        losses = Losses()
        tried = set[int]()
        for shot, label in self._counting(self._sampling.mark(shots, CLOCK)):
            self.total, self.last_s = shot.index + 1, float(shot.time)
            if label is None:
                continue
            tried.add(shot.index)
            try:
                image, damage = self._image_of(folder, shot.index)
            except MediaError as error:
                losses.note(folder.names[shot.index], str(error))
                continue
            if damage:
                losses.note(folder.names[shot.index], damage)
            self.frames_decoded += 1
            yield Frame(image, shot.index, float(shot.time), label)
        self.damage = losses.damage(len(tried))
        left = (place for place in range(len(folder)) if place not in tried)
        if self.damage and not self.frames_decoded and not any(self._can_read(folder, place) for place in left):
            raise MediaError(self.damage)

    def _image_of(self, folder: ImageFolder, place: int) -> tuple[Image, str | None]:
        path = folder.where(place)
        if not kind_of_image(read_head(path)):
            raise MediaError("the file is no image")
        return decode_image(_content(path), self._limits)

    def _can_read(self, folder: ImageFolder, place: int) -> bool:
        try:
            self._image_of(folder, place)
        except MediaError:
            return False
        return True

    def _frames(self, decoder: Decoder, last: int) -> Iterator[Frame]:
        """The wanted frames behind the last one that was given: those before a surprise come again."""
        reformatter, aspect = VideoReformatter(), decoder.pixel_aspect()
        for shot, label in self._counting(self._selected):
            if label is not None and shot.index > last and shot.picture is not None:
                picture = in_memory(shot.picture)
                yield Frame(self._converted(picture, aspect, reformatter), shot.index, float(shot.time), label)

    def _counting(self, frames: Generator[tuple[Shot, int | None], None, int]) -> Iterator[tuple[Shot, int | None]]:
        self.labels_past_end = yield from frames

    def _converted(self, picture: av.VideoFrame, aspect: Fraction, reformatter: VideoReformatter) -> Image:
        self._limits.check_size(picture.width, picture.height, aspect)
        try:
            return to_rgb(picture, aspect, reformatter)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"no conversion to RGB from {picture.format.name}") from error

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
    """By the headers of a video, 0.04 s for a still image, a second for each image of a folder.

    All images of a folder count as large as the first. Where the headers do not tell, the duration is guessed from the
    size of the file at 1 Mbit/s, and the pixels of a still image at 4 bits each. Raises MediaError if the file cannot
    be opened or holds no video.
    """
    if os.path.isdir(path):
        folder = ImageFolder(path, Limits(max_duration_s=math.inf))
        first = folder.where(0)
        width, height = image_size(read_head(first)) or (0, 0)
        size = width * height / 1e6 if width else 2 * os.path.getsize(first) / 1e6
        return Probed(float(len(folder)), len(folder) * size)
    if kind_of_image(read_head(path)):
        return Probed(_STILL_SECONDS, 2 * os.path.getsize(path) / 1e6)
    with open_container(path) as container:
        stream = video_stream(container, path)
        told = header_duration(container, stream)
        duration_s = os.path.getsize(path) / _USUAL_BYTES_PER_SECOND if told is None else told
        rate = min(float(stream.average_rate or _USUAL_RATE), _FASTEST_RATE)  # frames per second
        return Probed(duration_s, duration_s * rate * stream.width * stream.height / 1e6)


def first_frame_s(path: str | os.PathLike[str]) -> float:
    """Seconds after which a player of a video shows its first frame; 0 for almost all, images and folders too.

    It is more where a clip was cut out of a film without coding it again: its sound, or an edit list, begins earlier.
    By the headers only: MP4 files count from 0, others from where their first stream begins. Raises MediaError as
    :func:`probe`.
    """
    if os.path.isdir(path) or kind_of_image(read_head(path)):
        return 0.0
    with open_container(path) as container:
        stream = video_stream(container, path)
        begin = Fraction(stream.start_time or 0) * (stream.time_base or 0)
        if "mp4" not in container.format.name.split(","):
            begin -= Fraction(container.start_time or 0, av.time_base)
        return max(0.0, float(begin))


def sound_after_frames_s(path: str | os.PathLike[str]) -> float:
    """Seconds from the first frame of a video to the begin of its sound, below 0 where the sound begins earlier.

    By the headers; 0 where there is not both. Raises MediaError as :func:`probe`.
    """
    if os.path.isdir(path) or kind_of_image(read_head(path)):
        return 0.0
    with open_container(path) as container:
        if not (container.streams.video and container.streams.audio):
            return 0.0
        sound, frames = container.streams.audio[0], video_stream(container, path)
        begins = [Fraction(stream.start_time or 0) * (stream.time_base or 0) for stream in (sound, frames)]
        return float(begins[0] - begins[1])


def _content(path: str | os.PathLike[str]) -> bytes:
    """All bytes of an image. Raises MediaError if there are too many, or they cannot be read."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_IMAGE_BYTES:
                raise MediaError(f"an image of more than {_MAX_IMAGE_BYTES >> 30} GiB")
            return file.read()
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be read").lower()) from error
