"""The sound reader: levels, frequencies, channels, blocks and damage; other readers of WAV are the oracle."""

from __future__ import annotations

import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import scipy.io.wavfile
from numpy.typing import NDArray
from PIL import Image

from vidperson.errors import MediaError
from vidperson.media.audio import NoSound, SoundReader, blocks, duration, read
from vidperson.media.limits import Limits

Sound = NDArray[Any]


def tone(hertz: float, rate: int, seconds: float = 2.0, level: float = 0.5) -> Sound:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, channels: int = 1) -> Sound:
    """(samples, channels) 16-bit."""
    return np.random.default_rng(7).integers(-20_000, 20_000, (samples, channels)).astype(np.int16)


def written(path: Path, sound: Sound, rate: int = 16000) -> Path:
    """A WAV file. sound: (samples,) or (samples, channels) of the type that the file is to hold."""
    scipy.io.wavfile.write(path, rate, sound)
    return path


def encoded(path: Path, codec: str, sound: Sound, rate: int = 16000, picture: bool = False) -> Path:
    """A file of any format, by its name. sound: (samples,) from -1 to 1."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        context = track.codec_context
        context.open()
        if picture:
            film = container.add_stream("mpeg4", rate=25)
            film.width = film.height = 64
            for _ in range(round(25 * len(sound) / rate)):
                container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
            container.mux(film.encode(None))
        shaper = av.AudioResampler(context.format.name, "mono", rate, frame_size=context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*shaper.resample(frame), *shaper.resample(None)]:
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return path


def damage(path: Path) -> tuple[int, str | None]:
    """Samples that come, and what the reader says."""
    with SoundReader(path) as reader:
        return sum(map(len, reader)), reader.damage


def level_db(sound: Sound) -> float:
    """Of a tone, in dB of full scale; its ends are left out."""
    return float(20 * np.log10(np.sqrt(2) * np.std(sound[1000:-1000]) + 1e-12))


# --- samples


def test_wav_at_the_wanted_rate_gives_the_samples_that_another_reader_gives(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(70_001)[:, 0])
    with wave.open(str(path)) as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
    samples = read(path)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "scale", "middle"),
    [("uint8", 128, 128), ("int16", 32768, 0), ("int32", 2**31, 0), ("float32", 1, 0), ("float64", 1, 0)],
)
def test_channels_of_any_sample_type_are_mixed_by_their_mean(
    tmp_path: Path, kind: str, scale: float, middle: int
) -> None:
    expected = np.random.default_rng(1).uniform(-0.9, 0.9, (5000, 8))  # as many as of 7.1
    stored = expected * scale + middle
    stored = (np.round(stored) if scale > 1 else stored).astype(kind)
    samples = read(written(tmp_path / "a.wav", stored))
    np.testing.assert_allclose(samples, ((stored.astype(float) - middle) / scale).mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(samples, expected.mean(axis=1), atol=0.005)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("hertz", [100, 1000, 3400])
def test_tone_of_any_rate_keeps_frequency_level_and_time(tmp_path: Path, rate: int, hertz: int) -> None:
    samples = read(written(tmp_path / "a.wav", tone(hertz, rate).astype(np.float32), rate))
    assert len(samples) == pytest.approx(32_000, abs=2)
    expected = tone(hertz, 16000)[: len(samples)]
    np.testing.assert_allclose(samples[500:-500], expected[500 : len(samples) - 500], atol=1e-4)


@pytest.mark.parametrize("hertz", [8200, 8500, 9000, 12_000, 15_900, 16_000, 17_000, 21_000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_tone_above_half_of_the_rate_leaves_an_alias_of_less_than_minus_90_db(
    tmp_path: Path, rate: int, hertz: int
) -> None:
    path = written(tmp_path / "a.wav", tone(hertz, rate, level=1.0).astype(np.float32), rate)
    assert level_db(read(path)) < -90


def test_tone_of_7600_hz_loses_less_than_a_decibel(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(7600, 48000, level=1.0).astype(np.float32), 48000)
    assert -1 < level_db(read(path)) < 0


@pytest.mark.parametrize("codec", ["flac", "libopus", "aac", "mp2"])
def test_compressed_tone_keeps_its_level_and_length(tmp_path: Path, codec: str) -> None:
    name, rate = {"flac": ("a.flac", 44100), "libopus": ("a.ogg", 48000), "aac": ("a.mp4", 44100)}.get(
        codec, ("a.mpg", 44100)
    )
    path = encoded(tmp_path / name, codec, tone(1000, rate), rate)
    samples = read(path)
    assert level_db(samples) == pytest.approx(-6.02, abs=0.2)
    assert len(samples) / 16000 == pytest.approx(2, abs=0.08)
    assert duration(path) == pytest.approx(2, abs=0.08)
    spectrum = np.abs(np.fft.rfft(samples[:16000]))
    assert np.argmax(spectrum) == 1000


def test_sound_track_of_a_video_is_read_beside_its_pictures(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mkv", "pcm_s16le", tone(500, 16000, 3), picture=True)
    np.testing.assert_allclose(read(path), tone(500, 16000, 3), atol=1e-4)


def test_tenth_of_a_second_of_8_khz_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(800)[:, 0], 8000)
    assert len(read(path)) == 1600
    assert duration(path) == 0.1


def test_sound_that_clips_between_its_samples_stays_within_full_scale(tmp_path: Path) -> None:
    square = np.where(tone(997, 44100) > 0, 32767, -32768).astype(np.int16)
    samples = read(written(tmp_path / "a.wav", square, 44100))
    assert np.abs(samples).max() == 1.0


def test_rate_and_channels_that_change_within_a_track_are_followed(tmp_path: Path) -> None:
    streams = []
    for number, rate in enumerate((44100, 48000)):
        path = encoded(tmp_path / f"{number}.mp2", "mp2", tone(1000, rate), rate)
        streams.append(path.read_bytes())
    joined = tmp_path / "joined.mp2"
    joined.write_bytes(b"".join(streams))
    samples = read(joined)
    assert len(samples) / 16000 == pytest.approx(4, abs=0.15)
    assert np.argmax(np.abs(np.fft.rfft(samples[40_000:56_000]))) == 1000


# --- blocks


@pytest.mark.parametrize("seconds", [0.01, 0.77, 5.0])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_blocks_of_any_length_are_together_the_same_bytes(tmp_path: Path, seconds: float, rate: int) -> None:
    path = written(tmp_path / "a.wav", noise(100_000)[:, 0], rate)
    parts = list(blocks(path, seconds))
    assert {len(part) for part in parts[:-1]} <= {round(seconds * 16000)}
    assert 0 < len(parts[-1]) <= round(seconds * 16000)
    np.testing.assert_array_equal(np.concatenate(parts), read(path))


def test_same_file_read_in_two_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(30_000, 2), 44100)
    code = f"import zlib; from vidperson.media.audio import read; print(zlib.crc32(read({str(path)!r}).tobytes()))"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


MEASURED = """
import resource, sys
from vidperson.media.audio import SoundReader
with SoundReader(sys.argv[1], 8000) as reader:
    print(sum(map(len, reader)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length_of_the_sound(tmp_path: Path) -> None:
    found = []
    for minutes in (1, 31):
        path = written(tmp_path / f"{minutes}.wav", np.zeros(minutes * 60 * 8000, np.uint8), 8000)
        out = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, check=True).stdout
        found.append(tuple(map(int, out.split())))
    assert [samples for samples, _ in found] == [60 * 8000, 31 * 60 * 8000]
    assert found[1][1] - found[0][1] < 12_000  # KiB; all samples would be 58,125


# --- bad input


def test_senseless_samples_become_zero_and_are_damage(tmp_path: Path) -> None:
    sound = tone(1000, 44100).astype(np.float32)
    sound[[5, 40_000]], sound[7], sound[9] = np.nan, np.inf, -3e38
    path = written(tmp_path / "a.wav", sound, 44100)
    samples = read(path)
    assert np.isfinite(samples).all()
    assert level_db(samples[2000:]) == pytest.approx(-6.02, abs=0.1)
    assert damage(path) == (len(samples), "4 samples are no numbers from -32 to 32")


def test_float_samples_in_the_range_of_16_bits_are_damage_instead_of_noise(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", (tone(1000, 16000) * 32768).astype(np.float32))
    assert "samples are no numbers from -32 to 32" in str(damage(path)[1])


@pytest.mark.parametrize("sort", ["wav", "flac", "mkv", "ts"])
def test_file_that_is_cut_gives_what_is_there_and_says_where_it_ends(tmp_path: Path, sort: str) -> None:
    codec = {"wav": "pcm_s16le", "flac": "flac", "mkv": "aac", "ts": "aac"}[sort]
    path = encoded(tmp_path / f"a.{sort}", codec, noise(160_000)[:, 0] / 32768)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4 * 4])
    samples, said = damage(path)
    assert samples / 16000 == pytest.approx(5, abs=0.5)
    if sort == "ts":  # has no header that promises a length
        assert said is None or "packets lost" in said
    else:
        assert f"the file ends early, at {samples / 16000:.2f} s" in str(said)


@pytest.mark.parametrize("sort", ["flac", "ogg", "mp4"])
def test_bytes_broken_in_the_middle_are_damage_and_the_rest_is_read(tmp_path: Path, sort: str) -> None:
    codec, rate = {"flac": ("flac", 16000), "ogg": ("libopus", 48000), "mp4": ("aac", 16000)}[sort]
    whole = encoded(tmp_path / f"a.{sort}", codec, noise(10 * rate)[:, 0] / 32768, rate)
    assert damage(whole)[1] is None
    data = bytearray(whole.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 600):
        data[place] ^= 0x5A
    whole.write_bytes(data)
    samples, said = damage(whole)
    assert 8 < samples / 16000 < 10.1
    assert said is not None and ("missing" in said or "packets lost" in said)


def test_wav_written_to_a_pipe_says_no_length_and_is_intact(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(16_000)[:, 0])
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    path.write_bytes(data)
    assert damage(path) == (16_000, None)


@pytest.mark.parametrize("rate", [5, 2_000_000])
def test_absurd_sample_rate_is_refused_before_memory_is_taken(tmp_path: Path, rate: int) -> None:
    path = written(tmp_path / "a.wav", noise(5000)[:, 0], rate)
    with pytest.raises(MediaError, match=f"expected a sample rate of 1000 to 1000000 Hz, found {rate}"):
        read(path)


def test_longer_sound_than_the_limit_is_refused_by_its_header_and_else_damaged(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(48_000)[:, 0])
    with pytest.raises(MediaError, match="3 s, as its header says, are more than max_duration_s 2"):
        SoundReader(path, limits=Limits(max_duration_s=2))
    raw = encoded(tmp_path / "a.aac", "aac", tone(500, 16000, 3))
    with SoundReader(raw, limits=Limits(max_duration_s=2)) as reader:
        assert sum(map(len, reader)) / 16000 == pytest.approx(2, abs=0.1)
    assert reader.damage == "it goes on beyond max_duration_s 2"


def junk(sort: str, path: Path) -> None:
    wav = {  # format words, samples
        "no samples": (1, 1, 16000, 32000, 2, 16, b""),
        "one sample": (1, 1, 192000, 384000, 2, 16, b"\1\1"),
        "64 bits": (1, 1, 16000, 128000, 8, 64, bytes(800)),
    }
    if sort in wav:
        *words, data = wav[sort]
        head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *words) + b"data" + struct.pack("<I", len(data))
        path.write_bytes(b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data)
        return
    contents = {
        "empty": b"",
        "random": np.random.default_rng(3).bytes(5000),
        "text": b"hello, world\n" * 50,
        "pdf": b"%PDF-1.7\n" + bytes(300),
        "playlist": b"#EXTM3U\nother.wav\n",
        "wav header": b"RIFF\xff\xff\0\0WAVE" + bytes(30),
    }
    path.write_bytes(contents[sort])


@pytest.mark.parametrize(
    ("sort", "message"),
    [
        ("empty", "the file is empty"),
        ("random", "not a media file, or its header is damaged"),
        ("text", "this is a text file, not a sound file or video"),
        ("pdf", "this is a PDF file, not a sound file or video"),
        ("playlist", "this is an HLS list of other files, not a sound file or video"),
        ("wav header", "not a media file, or its header is damaged"),
        ("no samples", "the file holds no sound data"),
        ("one sample", "it is shorter than a sample at 16000 Hz"),
        ("64 bits", "samples of s64 cannot be read; convert it to 16 or 32 bits"),
    ],
)
def test_file_without_sound_data_is_refused_in_words(tmp_path: Path, sort: str, message: str) -> None:
    junk(sort, tmp_path / "a.wav")
    with pytest.raises(MediaError, match=message) as error:
        read(tmp_path / "a.wav")
    assert not isinstance(error.value, NoSound)


def test_file_with_a_title_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(800)[:, 0])
    title = b"INFOINAM" + struct.pack("<I", 10) + "Café Müll!".encode("latin-1")
    plain, whole = read(path), path.read_bytes()
    tagged = whole[8:36] + b"LIST" + struct.pack("<I", len(title)) + title + whole[36:]
    path.write_bytes(b"RIFF" + struct.pack("<I", len(tagged)) + tagged)
    np.testing.assert_array_equal(read(path), plain)


def test_path_that_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "not a regular file"), (tmp_path / "none.wav", "no such file"), ("a\0b", "name")):
        with pytest.raises(MediaError, match=message):
            read(path)
        with pytest.raises(MediaError, match=message):
            duration(path)


def test_mute_video_and_picture_are_told_apart_from_broken_files(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        film = container.add_stream("mpeg4", rate=25)
        film.width = film.height = 64
        container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(film.encode(None))
    with pytest.raises(NoSound, match="the file has no sound track"):
        read(tmp_path / "mute.mp4")


@pytest.mark.parametrize("sort", ["wav", "flac", "ogg", "mp4", "mkv"])
def test_any_broken_file_gives_finite_samples_or_words(tmp_path: Path, sort: str) -> None:
    codec, rate = {"wav": ("pcm_s16le", 16000), "flac": ("flac", 16000), "ogg": ("libopus", 48000)}.get(
        sort, ("aac", 16000)
    )
    data = encoded(tmp_path / f"a.{sort}", codec, tone(300, rate, 1), rate).read_bytes()
    rng = np.random.default_rng(5)
    outcomes = set()
    for number in range(25):
        broken = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(broken), 1 + number)
        broken[places] = rng.integers(0, 256, len(places))
        (tmp_path / "b").write_bytes(broken[: rng.integers(1, len(broken))].tobytes())
        try:
            samples = read(tmp_path / "b")
        except MediaError as error:
            outcomes.add(str(error) != "")
            continue
        outcomes.add(bool(np.isfinite(samples).all() and np.abs(samples).max() <= 1))
    assert outcomes == {True}


def test_photo_in_place_of_a_sound_is_called_an_image(tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.jpg")
    with pytest.raises(MediaError, match="^this is an image, not a sound file or video$"):
        read(tmp_path / "photo.jpg")


# --- real files

NO_SOUND = {"base.gif", "one_frame.mp4", "video_no_audio.mp4"}
UNREADABLE = {"random_bytes.mp4", "text.mp4", "truncated_moov_at_end.mp4", "zero_bytes.mp4"}
DAMAGED = {
    "corrupt_middle.mp4": "95 of 283 packets lost, the first at 1.26 s",
    "truncated_faststart.mp4": "the file ends early, at 3.37 s",
}


def test_real_videos_are_intact_damaged_mute_or_unreadable_as_they_should(shared: Path) -> None:
    found: dict[str, str | None] = {}
    for path in sorted((shared / "data" / "video" / "robustness").iterdir()):
        try:
            found[path.name] = damage(path)[1]
        except NoSound:
            found[path.name] = "no sound"
        except MediaError:
            found[path.name] = "unreadable"
    expected = dict.fromkeys(found) | dict.fromkeys(NO_SOUND, "no sound") | dict.fromkeys(UNREADABLE, "unreadable")
    assert found == expected | DAMAGED


def test_real_sound_lasts_as_long_as_its_headers_say(shared: Path) -> None:
    data = shared / "data"
    paths = sorted((data / "speech").rglob("*.flac"))[::40] + sorted((data / "speech_train").rglob("*.ogg"))[::400]
    paths += sorted((data / "video" / "talks").glob("*.mp4"))[:3]
    for path in paths:
        samples, said = damage(path)
        assert said is None
        assert samples / 16000 == pytest.approx(duration(path), abs=0.05), path
