"""Sound files and the sound tracks of videos as mono samples at one rate.

Example: ``samples = read("talk.mp4")``. Of hours of sound, ``with SoundReader("talk.mp4") as reader:`` and ``for block
in reader:``; then ``reader.damage`` tells what was lost.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.decoder import open_container
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.other_files import SOUND, read_head, why_other

__all__ = ["NoSound", "SoundReader", "blocks", "duration", "read"]

Samples = NDArray[np.float32]
_LOWEST_RATE, _HIGHEST_RATE = 1000, 1_000_000  # Hz
LOUDEST = 32.0  # times full scale: 30 dB above it. Lossy codecs give a little more than 1
_BATCH_SAMPLES = 1 << 16  # that are mixed and resampled at once
_SLACK_S, _SLACK = 0.2, 0.02  # by which a track may be shorter than its header says
_LONGEST_GAP_S = 0.1
_NUMBERED = {"ogg"}  # formats that drop a broken page without a word, but not its time
_EXACT, _EXACT_SLACK_S = {"wav", "flac"}, 0.001  # formats that count their samples
_PCM = {1, 3, 0xFFFE}  # whole numbers, floats, and either by the extended header
_PROBE_WAV_BYTES = 4096  # libav would read a second or more to tell what the header has told
_ENDLESS_BYTES = 0x7FFFF000  # the size of sound that was written to a pipe is at least this
_GUESSED = {"mp3", "aac", "ac3", "eac3", "dts", "amr", "amrnb", "amrwb", "loas", "truehd"}  # durations by bit rate
# Options of libswresample: less than 1 dB is lost up to 0.95 of the lower Nyquist frequency, 90 dB from 1.025 of it on.
_FILTER = {"filter_size": "128", "kaiser_beta": "10"}
_SCALES: dict[str, tuple[float, float]] = {"u8": (128, 128), "s16": (0, 1 << 15), "s32": (0, 1 << 31)}


class NoSound(MediaError):
    """The file can be opened, but has no sound track."""


class SoundReader:
    """The sound of one file in blocks, float32 from -1 to 1; iterate once.

    path: a file of any name; what it holds is told by its content. Of several sound tracks the first is read.
    sample_rate: Hz. Channels are mixed by their mean, then resampled by libswresample, without delay.
    block_s: seconds of each block but the last, which may be shorter.
    limits: a duration that is refused, where the header tells it; else it is damage there.

    promised_s: seconds that the header tells; None where it does not.
    first_s: after :meth:`seek`, known from the first block on: seconds at which that begins; None where the file does
    not tell.
    Complete after the iteration:
    damage: what was lost and from where on, None if the track is intact.
    duration_s: seconds of sound that were read.

    own_rate: the sample rate of the file by its header, Hz.

    What is lost is left out: the sound behind it follows at once. Samples that are no numbers, or more than 30 dB above
    full scale, become 0 and are damage; others beyond full scale are clipped. The level is not changed. Memory does not
    depend on the length of the sound.
    Raises NoSound where there is no sound track, MediaError where nothing of it can be decoded; the latter may come
    from the iteration.
    """

    damage: str | None = None
    duration_s: float = 0.0
    first_s: float | None = 0.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int = 16000,
        block_s: float = 30.0,
        limits: Limits = USUAL_LIMITS,
    ) -> None:
        self._rate, self._limits = sample_rate, limits
        self._block = max(1, round(block_s * sample_rate))
        self._container, self._stream = _open(path)
        self.own_rate = self._stream.codec_context.sample_rate
        self._may_hide = "mov" in self._container.format.name  # asking each packet costs more than decoding it
        self._raw = self._stream.codec_context.name.startswith("pcm_")  # half a packet is as good as a whole one
        self._promised = _wav_seconds(path) or _promised(self._container, self._stream)
        try:
            limits.check_duration(self._promised or 0)
        except MediaError:
            self.close()
            raise
        self._ticks = {stream.index: float(stream.time_base or 0) for stream in self._container.streams}  # seconds
        self._packets = self._lost = self._senseless = self._count = 0
        self._first_loss: float | None = None
        self._gap: tuple[float, float] | None = None  # of the first one: seconds, and when it begins
        self._encrypted = self._too_long = False
        self._end = 0.0  # seconds on the container's own scale

    def __iter__(self) -> Iterator[Samples]:
        held, count = list[Samples](), 0
        for piece in self._resampled():
            held.append(np.clip(piece, -1, 1))
            count += len(piece)
            if count >= self._block:
                joined = np.concatenate(held)
                whole = count // self._block * self._block
                yield from joined[:whole].reshape(-1, self._block)
                held, count = [joined[whole:]], count - whole
        if not self._count:
            raise MediaError(self._why_nothing())
        if not held:
            raise MediaError(f"it is shorter than a sample at {self._rate} Hz")
        self.damage = self._damage()
        if count:
            yield np.concatenate(held)

    def close(self) -> None:
        """Give the file back; no block comes after this."""
        self._container.close()

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def promised_s(self) -> float | None:
        """See above."""
        return self._promised

    def seek(self, start_s: float) -> None:
        """Before the iteration: read from there on, or from some place before. ``damage`` then means nothing."""
        tick = self._ticks[self._stream.index]
        try:
            self._container.seek(int(start_s / tick) + (self._stream.start_time or 0), stream=self._stream)
        except (av.FFmpegError, OSError, ZeroDivisionError):
            return  # it is read from its beginning
        self.first_s = None

    def _resampled(self) -> Iterator[Samples]:
        rate, resampler, place = 0, AudioResampler(), 0
        for batch, own in self._batches():
            if own != rate:
                yield from _pushed(resampler, None)
                rate, resampler, place = own, AudioResampler("flt", "mono", self._rate, options=_FILTER), 0
            if rate == self._rate:
                yield batch
                continue
            frame = av.AudioFrame.from_ndarray(batch[None], format="flt", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), place
            place += len(batch)
            yield from _pushed(resampler, frame)
        yield from _pushed(resampler, None)

    def _batches(self) -> Iterator[tuple[Samples, int]]:
        """Mixed sound at its own rate, and the rate: of frames that are alike, many at once."""
        held, count = list[NDArray[Any]](), 0
        alike: tuple[str, int, int] = ("", 0, 0)
        for frame in self._frames():
            form = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
            if held and (form != alike or count >= _BATCH_SAMPLES):
                yield self._mixed(np.concatenate(held, axis=1), *alike[:2]), alike[2]
                held, count = [], 0
            alike = form
            try:
                held.append(frame.to_ndarray())
            except ValueError:
                raise MediaError(f"samples of {form[0]} cannot be read; convert it to 16 or 32 bits") from None
            count += frame.samples
        if held:
            yield self._mixed(np.concatenate(held, axis=1), *alike[:2]), alike[2]

    def _mixed(self, sound: NDArray[Any], form: str, channels: int) -> Samples:
        """The mean of the channels. sound: (channels, samples), or (1, samples * channels) where they alternate."""
        middle, full = _SCALES.get(form.removesuffix("p"), (0, 1))
        values = sound.reshape(-1, channels).T if len(sound) != channels else sound
        if values.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                senseless = ~(np.abs(values) <= LOUDEST)
            if senseless.any():
                self._senseless += int(senseless.any(axis=0).sum())
                values = np.where(senseless, 0, values)
        total = values.sum(axis=0, dtype=np.float32) if channels > 1 else values[0].astype(np.float32)
        if middle:
            total -= np.float32(middle * channels)
        return total * np.float32(1 / (full * channels))

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Intact frames in their order."""
        for packet in self._demuxed():
            try:
                frames = self._decoded(packet)
            except av.FFmpegError:
                if packet is not None:
                    self._note_loss()
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                if not _LOWEST_RATE <= frame.sample_rate <= _HIGHEST_RATE:
                    raise MediaError(
                        f"expected a sample rate of {_LOWEST_RATE} to {_HIGHEST_RATE} Hz, found {frame.sample_rate}"
                    )
                if self.first_s is None and not self._count and frame.pts is not None:
                    begin = frame.pts - (self._stream.start_time or 0)
                    self.first_s = begin * self._ticks[self._stream.index]
                self._count += frame.samples
                self.duration_s += frame.samples / frame.sample_rate
                yield frame
            if self.duration_s > self._limits.max_duration_s:
                self._too_long = True
                return

    def _decoded(self, packet: av.Packet[Any] | None) -> list[av.AudioFrame]:
        if packet is not None and self._may_hide and packet.has_sidedata("encryption_info"):
            self._encrypted = True
            return []
        if packet is not None and packet.is_corrupt and not self._raw:
            self._note_loss()
            return []
        frames = self._stream.codec_context.decode(packet)
        if any(frame.is_corrupt for frame in frames):
            self._note_loss()
        return [frame for frame in frames if not frame.is_corrupt]

    def _note_loss(self) -> None:
        self._lost += 1
        if self._first_loss is None:
            self._first_loss = self.duration_s

    def _demuxed(self) -> Iterator[av.Packet[Any] | None]:
        """The track's packets and a last None. Of other tracks only the end is noted, and that where it is needed."""
        wanted = [self._stream] if self._stream.duration is not None else self._container.streams
        for stream in self._container.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        packets: Iterator[Any] = self._container.demux(*wanted)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError, OSError):
                break
            if not packet.size:
                continue
            index = packet.stream_index
            ours = index == self._stream.index
            if packet.pts is not None:
                begin = packet.pts * self._ticks[index]
                if ours and self._packets and begin - self._end > _LONGEST_GAP_S and self._gap is None:
                    self._gap = begin - self._end, self.duration_s
                self._end = max(self._end, begin + (packet.duration or 0) * self._ticks[index])
            if ours:
                self._packets += 1
                yield packet
        yield None

    def _why_nothing(self) -> str:
        if self._encrypted:
            return "the sound is encrypted"
        return "no sound can be decoded" if self._packets else "the file holds no sound data"

    def _damage(self) -> str | None:
        reasons = []
        if self._first_loss is not None:
            reasons.append(f"{self._lost} of {self._packets} packets lost, the first at {self._first_loss:.2f} s")
        if self._gap is not None and self._container.format.name in _NUMBERED:
            reasons.append(f"{self._gap[0]:.2f} s missing at {self._gap[1]:.2f} s")
        if self._promised is not None and not self._too_long:
            start = (self._stream.start_time or 0) * self._ticks[self._stream.index]
            lacking = self._promised - self.duration_s
            if self._promised + start - self._end > max(_SLACK_S, self._promised * _SLACK):
                reasons.append(f"the file ends early, at {self.duration_s:.2f} s")
            elif self._container.format.name in _EXACT and lacking > _EXACT_SLACK_S and not reasons:
                reasons.append(f"{lacking:.3f} s missing")
        if self._senseless:
            reasons.append(f"{self._senseless} samples are no numbers from -{LOUDEST:g} to {LOUDEST:g}")
        if self._too_long:
            reasons.append(f"it goes on beyond max_duration_s {self._limits.max_duration_s:g}")
        if self._encrypted:
            reasons.append("a part is encrypted")
        return ", ".join(reasons) or None


def read(path: str | os.PathLike[str], sample_rate: int = 16000) -> Samples:
    """All sound of a file, (samples,) float32 from -1 to 1; see :class:`SoundReader`, which also tells what was lost.

    Raises NoSound where there is no sound track, MediaError where nothing of it can be decoded.
    """
    return np.concatenate(list(blocks(path, 30.0, sample_rate)))


def blocks(path: str | os.PathLike[str], seconds: float, sample_rate: int = 16000) -> Iterator[Samples]:
    """Blocks of so many seconds, the last one shorter; together what :func:`read` gives."""
    with SoundReader(path, sample_rate, seconds) as reader:
        yield from reader


def duration(path: str | os.PathLike[str]) -> float:
    """Seconds that the sound lasts, by the header; where it does not tell, by the packets. Nothing is decoded.

    Lossy codecs may give a few hundredths of a second less. Raises NoSound or MediaError.
    """
    container, stream = _open(path)
    with container:
        told = _promised(container, stream)
        if told is not None:
            return told
        total = 0
        try:
            for packet in container.demux(stream):
                total += packet.duration or 0
        except (av.FFmpegError, OSError):
            pass  # what is behind cannot be read
        return float(total * (stream.time_base or 0))


def _open(path: str | os.PathLike[str]) -> tuple[InputContainer, AudioStream]:
    """The file and its first sound track. Raises NoSound or MediaError."""
    head = read_head(path, SOUND)
    container = open_container(path, wanted=SOUND, probe_bytes=_PROBE_WAV_BYTES if _is_wav(head) else None)
    streams = container.streams.audio
    if streams and streams[0].codec_context is not None:
        return container, streams[0]
    container.close()
    if streams:
        raise MediaError("the sound codec is unknown")
    other = why_other(path, SOUND)
    raise MediaError(other) if other else NoSound("the file has no sound track")


def _promised(container: InputContainer, stream: AudioStream) -> float | None:
    """Seconds that the track lasts by the header, None where it does not tell or libav guesses."""
    if not _GUESSED.isdisjoint(container.format.name.split(",")):
        return None
    if stream.duration is not None and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and container.duration > 0:
        return container.duration / av.time_base
    return None


def wav_chunks(head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Of the head of a WAV file the chunks: name, place of the content, its size. None of other files."""
    place = 12
    while _is_wav(head) and place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        yield name, place + 8, size
        place += 8 + size + size % 2


def _is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def _wav_seconds(path: str | os.PathLike[str]) -> float | None:
    """What the header of an uncompressed WAV file promises, which libav cuts to what is there; else None."""
    head, bytes_per_s = read_head(path, SOUND), 0
    for name, place, size in wav_chunks(head):
        if name == b"fmt " and place + 16 <= len(head):
            form, _, rate, _, align = struct.unpack_from("<HHIIH", head, place)
            bytes_per_s = rate * align if form in _PCM else 0
        if name == b"data":
            return size / bytes_per_s if bytes_per_s and size < _ENDLESS_BYTES else None
    return None


def _pushed(resampler: AudioResampler, frame: av.AudioFrame | None) -> Iterator[Samples]:
    """What comes out for a frame; for None what is left."""
    for out in resampler.resample(frame):
        yield out.to_ndarray()[0]
