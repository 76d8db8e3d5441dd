"""Excerpts of sound files: the same samples as the whole file has there, from WAV, other codecs, and archives."""

from __future__ import annotations

import struct
import tarfile
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidperson.errors import MediaError
from vidperson.media.audio import SoundReader, read
from vidperson.media.excerpts import SoundPlace, excerpt

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tones = np.sin(np.cumsum(rng.uniform(0.02, 0.5, int(seconds * RATE))))
    return (0.3 * tones + 0.02 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray, rate: int = RATE, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        full = 1 << (8 * width - 1)
        file.writeframes(np.clip(np.rint(sound * full), -full, full - 1).astype(f"<i{width}").tobytes())
    return path


def encode(path: Path, sound: np.ndarray, codec: str, rate: int) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.rint(sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format.name, "mono", rate)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        queue = av.AudioFifo()
        for each in frames:
            each.pts = None
            queue.write(each)
        while piece := queue.read(stream.frame_size or 4096, partial=True):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


def where(part: np.ndarray, whole: np.ndarray) -> tuple[int, float]:
    """The place that a part is most like, and the largest difference there."""
    middle = part[len(part) // 4 : -len(part) // 4].astype(float)
    size = len(whole) + len(middle)
    found = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(middle, size)), size)[: len(whole)]
    start = int(found.argmax()) - len(part) // 4
    return start, float(np.abs(whole[start : start + len(part)] - part).max())


@pytest.mark.parametrize(("channels", "width"), [(1, 2), (2, 2), (1, 4)])
def test_wav_excerpt_is_what_the_whole_file_has_there(tmp_path: Path, channels: int, width: int) -> None:
    sound = np.repeat(noise(3.0), channels)
    place = SoundPlace(str(write_wav(tmp_path / "a.wav", sound, channels=channels, width=width)))
    whole = read(place.path)
    for begin in (0.0, 0.31, 0.999999):
        start = int(begin * (len(whole) - 8000 + 1))
        assert np.abs(excerpt(place, begin, 8000) - whole[start : start + 8000]).max() < 1e-6


def test_float_wav_is_clipped_and_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    values = np.array([0.5, np.nan, 3.0, -2.0, np.inf, 0.25], "<f4")
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 60, b"WAVE", b"fmt ", 16, 3, 1, RATE, 64000, 4, 32, b"data", 24)
    (tmp_path / "f.wav").write_bytes(head + values.tobytes())
    found = excerpt(SoundPlace(str(tmp_path / "f.wav")), 0, 10)
    assert found.tolist() == [0.5, 0.0, 1.0, -1.0, 0.0, 0.25]


def test_first_and_last_excerpt_are_drawn_and_short_sound_comes_whole(tmp_path: Path) -> None:
    place = SoundPlace(str(write_wav(tmp_path / "a.wav", np.arange(6) / 32768)))
    starts = {round(excerpt(place, begin, 4)[0] * 32768) for begin in np.linspace(0, 1, 50, endpoint=False)}
    assert starts == {0, 1, 2}
    for count in (6, 7, 100):
        assert len(excerpt(place, 0.99, count)) == 6


@pytest.mark.parametrize(
    ("name", "codec", "rate", "exact"),
    [("a.flac", "flac", RATE, True), ("a.ogg", "libopus", 48000, False), ("a.flac", "flac", 44100, False)],
)
def test_excerpt_of_a_long_file_is_sought_and_is_the_same_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, rate: int, exact: bool
) -> None:
    place = SoundPlace(str(encode(tmp_path / name, noise(20.0), codec, rate)))
    whole = read(place.path)
    opened = list[object]()

    def once(*given: Any) -> SoundReader:
        opened.append(given)
        return SoundReader(*given)

    monkeypatch.setattr("vidperson.media.excerpts.SoundReader", once)
    for begin in (0.0, 0.52, 0.9):
        part = excerpt(place, begin, 16000)
        start, difference = where(part, whole)
        assert len(part) == 16000
        assert abs(start - begin * (len(whole) - 16000)) < (2 if exact else 800)
        assert difference < (1e-6 if exact else 0.2), (begin, difference)
    assert len(opened) == 3  # what was sought is right: it is not read again from the beginning


def test_excerpt_behind_the_end_of_a_file_that_was_cut_off_is_its_last_sound(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", noise(24.0), "flac", RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole = read(path)
    assert len(whole) < 14 * RATE
    for begin in (0.58, 0.99):
        assert np.array_equal(excerpt(SoundPlace(str(path)), begin, 16000), whole[-16000:])


def test_member_of_an_archive_is_read_like_a_file(tmp_path: Path) -> None:
    names = [write_wav(tmp_path / "a.wav", noise(1.0)), encode(tmp_path / "b.flac", noise(1.0, 1), "flac", RATE)]
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for path in names:
            archive.add(path, path.name)
    with tarfile.open(tmp_path / "all.tar") as archive:
        members = [(member.offset_data, member.size) for member in archive]
    for path, (offset, size) in zip(names, members, strict=True):
        inside = excerpt(SoundPlace(str(tmp_path / "all.tar"), offset, size), 0.4, 5000)
        assert np.array_equal(inside, excerpt(SoundPlace(str(path)), 0.4, 5000))


def test_cache_decodes_once_and_gives_it_in_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = SoundPlace(str(encode(tmp_path / "a.ogg", noise(2.0), "libopus", 48000)))
    plain = excerpt(place, 0.0, 8000)
    cached = excerpt(place, 0.0, 8000, cache=tmp_path / "cache")
    assert np.abs(plain - cached).max() <= 0.5 / 32768 + 1e-7
    (made,) = (tmp_path / "cache").rglob("*.*")
    monkeypatch.setattr("vidperson.media.excerpts.blocks", None)  # it is not decoded again
    assert np.array_equal(excerpt(place, 0.0, 8000, cache=tmp_path / "cache"), cached)
    assert made.suffix == ".wav"


def test_wav_that_was_cut_off_gives_what_is_left(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", noise(1.0))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 5001])
    assert len(excerpt(SoundPlace(str(path)), 0.5, 16000)) == 5001


@pytest.mark.parametrize("data", [b"", b"nothing of the kind", b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_no_sound_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(MediaError):
        excerpt(SoundPlace(str(tmp_path / "a.wav")), 0.0, 100)
    with pytest.raises(MediaError):
        excerpt(SoundPlace(str(tmp_path / "a.wav")), 0.0, 100, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
