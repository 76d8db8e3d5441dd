"""Random excerpts of many sound files: of a long one only the part that is wanted is read.

Example: ``excerpt(SoundPlace("talk.wav"), 0.5, 32000)`` gives two seconds of its middle.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.audio import LOUDEST, SoundReader, blocks, duration, wav_chunks

Samples = NDArray[np.float32]

SOUND_SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".m4a", ".mp3")
_HEAD_BYTES = 4096
_FORMATS = {(1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}  # by tag and bits of a sample
_EXTENDED = 0xFFFE  # the tag is then at the beginning of a longer one
_LONG_S = 8.0  # of sound that would be decoded before the excerpt: the decoder seeks
_EARLIER_S = 0.2  # decoding starts so much before: lossy codecs need some packets until they are right
_NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class SoundPlace:
    """Where a sound is: a file, or ``size`` bytes of an archive from ``offset`` on. size -1: all of the file."""

    path: str
    offset: int = 0
    size: int = -1


@dataclass(frozen=True)
class _Wav:
    """Uncompressed samples. first: byte of the first one. samples: of each channel."""

    kind: np.dtype[np.generic]
    channels: int
    first: int
    samples: int


def excerpt(
    place: SoundPlace, begin: float, count: int, sample_rate: int = 16000, cache: str | os.PathLike[str] = ""
) -> Samples:
    """``count`` samples of a sound, or all where it has no more: (samples,) float32 from -1 to 1.

    begin: from 0 to below 1, where among all places the excerpt begins: 0 is the first one, and the last one is as
    likely as each other for an even draw. sample_rate: Hz; channels are mixed by their mean.
    cache: folder to which sound that is no plain WAV of this rate is decoded once, in 16 bits; "": none.
    Uncompressed WAV of this rate is read where it is wanted only; of other sound that is long the decoder seeks.
    Memory depends on the length of the excerpt only, and on the size of an archive's member that has to be decoded.
    Raises MediaError or OSError where it cannot be read.
    """
    if wav := _plain_wav(place, sample_rate):
        return _read_wav(place, wav, begin, count)
    if cache:
        decoded = SoundPlace(os.fspath(_decoded_once(place, sample_rate, Path(cache))))
        wav = _plain_wav(decoded, sample_rate)
        if wav is None:
            raise MediaError(f"{decoded.path}: expected what was decoded before, found something else; remove it")
        return _read_wav(decoded, wav, begin, count)
    with _as_file(place) as path:
        return _decoded(path, begin, count, sample_rate)


def _plain_wav(place: SoundPlace, sample_rate: int) -> _Wav | None:
    """None for anything else than uncompressed WAV of this rate with a usual header."""
    with open(place.path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size - place.offset if place.size < 0 else place.size
        head = os.pread(file.fileno(), min(_HEAD_BYTES, size), place.offset)
    kind, channels = None, 0
    for name, at, length in wav_chunks(head):
        if name == b"fmt " and at + 16 <= len(head):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
            if tag == _EXTENDED and at + 26 <= len(head):
                (tag,) = struct.unpack_from("<H", head, at + 24)
            kind = _FORMATS.get((tag, bits)) if rate == sample_rate else None
        if name == b"data":
            if kind is None or not channels:
                return None
            dtype = np.dtype(kind)
            held = min(length, size - at)  # a file that was cut off, or written to a pipe
            samples = held // (dtype.itemsize * channels)
            return _Wav(dtype, channels, place.offset + at, samples) if samples else None
    return None


def _read_wav(place: SoundPlace, wav: _Wav, begin: float, count: int) -> Samples:
    start = int(begin * (max(0, wav.samples - count) + 1))
    count = min(count, wav.samples)
    frame = wav.kind.itemsize * wav.channels
    with open(place.path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), count * frame, wav.first + start * frame)
    values = np.frombuffer(data[: len(data) // frame * frame], wav.kind)
    if not len(values):
        raise MediaError(f"{place.path}: the file ends early")
    if values.dtype.kind == "i":
        sound = values.astype(np.float32) * np.float32(1 / (1 << (8 * wav.kind.itemsize - 1)))
    else:
        with np.errstate(invalid="ignore"):
            sound = np.where(np.abs(values) <= LOUDEST, values, 0).astype(np.float32)  # NaN, too
    if wav.channels > 1:
        sound = sound.reshape(-1, wav.channels).mean(axis=1)
    return sound if values.dtype.kind == "i" else np.clip(sound, -1, 1)


def _decoded(path: str, begin: float, count: int, sample_rate: int) -> Samples:
    """The excerpt, decoded from the beginning of the file or from a little before it, whichever is nearer."""
    block_s = count / sample_rate
    with SoundReader(path, sample_rate, block_s) as reader:
        seconds = duration(path) if reader.promised_s is None else reader.promised_s
        start = int(begin * (max(0, round(seconds * sample_rate) - count) + 1))
        if start / sample_rate <= _LONG_S:
            return _read_on(reader, start, count, sample_rate)
        reader.seek(start / sample_rate - _EARLIER_S)
        try:
            found = _read_on(reader, start, count, sample_rate)
        except MediaError:
            found = _NOTHING
    if len(found) == count:
        return found
    with SoundReader(path, sample_rate, block_s) as reader:  # the file ends early, or does not tell its places
        return _read_on(reader, start, count, sample_rate)


def _read_on(reader: SoundReader, start: int, count: int, sample_rate: int) -> Samples:
    """``count`` samples from the sound's sample ``start`` on, or its last ones where it ends before; none where the
    file does not tell at which place it is read, or that is behind ``start``. Memory as for two excerpts.
    """
    held, first, length = list[Samples](), 0, 0
    for block in reader:
        if not held:
            first = start + 1 if reader.first_s is None else round(reader.first_s * sample_rate)
            if first > start:
                return _NOTHING
        held.append(block)
        length += len(block)
        if first + length >= start + count:
            break
        while length - len(held[0]) >= count:
            first += len(held[0])
            length -= len(held.pop(0))
    sound = np.concatenate(held)
    place = max(0, min(start - first, length - count))
    return sound[place : place + count]


def _decoded_once(place: SoundPlace, sample_rate: int, cache: Path) -> Path:
    """The file in the cache that holds the sound, made where it is not there yet."""
    at = os.stat(place.path)
    text = f"{os.path.realpath(place.path)}\n{place.offset} {place.size} {at.st_size} {at.st_mtime_ns} {sample_rate}"
    name = hashlib.sha256(os.fsencode(text)).hexdigest()[:32]
    path = cache / name[:2] / f"{name}.wav"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{name}.{secrets.token_hex(8)}.tmp")  # machines may share the folder
    try:
        with _as_file(place) as source, wave.open(os.fspath(partial), "wb") as made:
            made.setnchannels(1)
            made.setsampwidth(2)
            made.setframerate(sample_rate)
            for block in blocks(source, 30.0, sample_rate):
                made.writeframesraw(np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2").tobytes())
        os.replace(partial, path)  # several processes may write the same bytes at once
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def _as_file(place: SoundPlace) -> Iterator[str]:
    """A path under which the sound is a file of its own: of an archive's member, one in memory."""
    if place.size < 0:
        yield place.path
        return
    with open(place.path, "rb", buffering=0) as archive:
        data = os.pread(archive.fileno(), place.size, place.offset)
    number = os.memfd_create("sound")
    try:
        os.write(number, data)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
