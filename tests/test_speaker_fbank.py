"""Features of sound: against slow formulas written out here, and what networks take of them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidperson.media.audio import read
from vidperson.networks.card import FbankInput
from vidperson.speaker.fbank import fbank, frame_count, network_input

Sound = NDArray[np.float32]
Values = NDArray[np.float64]

AVCLEANSE = FbankInput(
    sample_rate=16000, mel_bins=80, window=400, hop=160, fft=512, low_hz=20, high_hz=7600, framing="centred",
    window_type="hamming", mel_scale="htk", mean_norm=True, pre_emphasis=0.97, log_offset=1e-6, channels_first=True,
)  # fmt: skip
THREE_D_SPEAKER = FbankInput(
    sample_rate=16000, mel_bins=80, window=400, hop=160, fft=512, low_hz=20, high_hz=8000, framing="kaldi",
    window_type="povey", mel_scale="kaldi", mean_norm=True, pre_emphasis=0.97, log_floor=1.1920929e-07,
)  # fmt: skip
WESPEAKER = dataclasses.replace(THREE_D_SPEAKER, window_type="hamming", scale=32768.0)
SPEECHBRAIN = FbankInput(
    sample_rate=16000, mel_bins=80, window=400, hop=160, fft=400, low_hz=0, high_hz=8000, framing="centred",
    window_type="hamming", mel_scale="speechbrain", mean_norm=True, log_floor=1e-10, decibels=True, range_db=80,
    edges="zeros", channels_first=True,
)  # fmt: skip
RESEMBLYZER = FbankInput(
    sample_rate=16000, mel_bins=40, window=400, hop=160, fft=400, low_hz=0, high_hz=8000, framing="centred",
    window_type="hann", mel_scale="slaney", mean_norm=False, level_dbfs=-30, crop_frames=160, crop_hop=80,
)  # fmt: skip


def speech_like(samples: int = 9000, level: float = 0.1) -> Sound:
    """Harmonics of a gliding tone with noise and pauses."""
    place = np.arange(samples) / 16000
    phase = 2 * np.pi * (120 * place + 40 * np.sin(3 * place))
    voice = sum(np.sin(number * phase) / number for number in range(1, 30)) * (np.sin(8 * place) > -0.3)
    hiss = np.random.default_rng(2).standard_normal(samples)
    return (level * (voice + 0.05 * hiss)).astype(np.float32)


def power_at(frame: Values, fft: int) -> Values:
    """Of the discrete Fourier transform, by its definition."""
    turns = np.outer(np.arange(fft // 2 + 1), np.arange(len(frame))) / fft
    return np.asarray(np.abs((frame * np.exp(-2j * np.pi * turns)).sum(axis=1)) ** 2)


def htk(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def slow_avcleanse(sound: Sound) -> Values:
    """MelSpectrogram(16000, 512, 400, 160, 20, 7600, hamming, 80 mels) after a pre-emphasis; (frames, 80)."""
    x = sound.astype(np.float64)
    emphasised = [x[0] - 0.97 * x[1]] + [x[t] - 0.97 * x[t - 1] for t in range(1, len(x))]
    corners = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(htk(20), htk(7600), 82)]
    window = [0.54 - 0.46 * np.cos(2 * np.pi * n / 400) for n in range(400)]
    triples = list(zip(corners, corners[1:], corners[2:], strict=False))
    filters = [
        [max(0.0, min((k * 31.25 - a) / (b - a), (c - k * 31.25) / (c - b))) for k in range(257)] for a, b, c in triples
    ]
    rows = []
    for centre in range(0, len(x) + 1, 160):
        frame = []
        for n in range(400):
            t = abs(centre - 200 + n)  # mirrored at the first sample, then at the last
            t = 2 * (len(x) - 1) - t if t >= len(x) else t
            frame.append(emphasised[t] * window[n])
        power = power_at(np.array(frame), 512)
        rows.append([np.log(np.dot(weights, power) + 1e-6) for weights in filters])
    found = np.array(rows)
    return found - found.mean(axis=0)


def slow_kaldi(sound: Sound, scale: float, povey: bool) -> Values:
    """compute-fbank-feats --dither=0 --num-mel-bins=80 --low-freq=20, minus the mean; (frames, 80)."""
    x = sound.astype(np.float64) * scale
    corners = np.linspace(htk(20), htk(8000), 82)
    mels = [htk(k * 16000 / 512) for k in range(256)]
    filters = []
    for a, b, c in zip(corners, corners[1:], corners[2:], strict=False):
        filters.append([((m - a) / (b - a) if m <= b else (c - m) / (c - b)) if a < m < c else 0.0 for m in mels])
    rows = []
    for start in range(0, len(x) - 400 + 1, 160):
        frame = x[start : start + 400] - x[start : start + 400].mean()
        frame = np.array([frame[n] - 0.97 * frame[max(n - 1, 0)] for n in range(400)])
        turn = np.cos(2 * np.pi * np.arange(400) / 399)
        power = power_at(frame * ((0.5 - 0.5 * turn) ** 0.85 if povey else 0.54 - 0.46 * turn), 512)
        rows.append([np.log(max(np.dot(weights, power[:256]), np.finfo(np.float32).eps)) for weights in filters])
    found = np.array(rows)
    return found - found.mean(axis=0)


def slow_speechbrain(sound: Sound) -> Values:
    """Fbank(n_mels=80) of SpeechBrain, minus the mean of the sentence; (frames, 80)."""
    x = np.pad(sound.astype(np.float64), 200)
    corners = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, htk(8000), 82)]
    window = np.array([0.54 - 0.46 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    rows = []
    for start in range(0, len(sound) + 1, 160):
        power = power_at(x[start : start + 400] * window, 400)
        row = []
        for a, b in itertools.pairwise(corners[:-1]):
            weights = [max(0.0, 1 - abs(k * 40 - b) / (b - a)) for k in range(201)]
            row.append(10 * np.log10(max(np.dot(weights, power), 1e-10)))
        rows.append(row)
    found = np.maximum(rows, np.max(rows) - 80)
    return np.asarray(found - found.mean(axis=0))


def slow_resemblyzer(sound: Sound) -> Values:
    """librosa's melspectrogram of 400, 160, 40 mels, centred by mirroring, after the level is raised; (frames, 40)."""
    x = sound.astype(np.float64)
    power_db = 10 * np.log10(np.mean(x**2))
    if power_db < -30:
        x = x * 10 ** ((-30 - power_db) / 20)
    top = 15 + np.log(8) / (np.log(6.4) / 27)
    mels = np.linspace(0, top, 42)
    corners = [m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27) for m in mels]
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    padded = np.concatenate([x[200:0:-1], x, x[-2:-202:-1]])
    filters = []
    for a, b, c in zip(corners, corners[1:], corners[2:], strict=False):
        weights = [max(0.0, min((k * 40 - a) / (b - a), (c - k * 40) / (c - b))) for k in range(201)]
        filters.append(np.array(weights) * 2 / (c - a))
    rows = []
    for start in range(0, len(x) + 1, 160):
        power = power_at(padded[start : start + 400] * window, 400)
        rows.append([np.dot(weights, power) for weights in filters])
    return np.array(rows)


# --- formulas


@pytest.mark.parametrize("samples", [4000, 4160, 512])
def test_log_mel_of_avcleanse_equals_its_formula(samples: int) -> None:
    sound = speech_like(samples)
    np.testing.assert_allclose(fbank(sound, AVCLEANSE), slow_avcleanse(sound), atol=1e-5)


@pytest.mark.parametrize("samples", [4000, 4080, 400])
@pytest.mark.parametrize("what", [THREE_D_SPEAKER, WESPEAKER], ids=["3D-Speaker", "WeSpeaker"])
def test_fbank_of_kaldi_equals_its_formula(samples: int, what: FbankInput) -> None:
    sound = speech_like(samples)
    expected = slow_kaldi(sound, what.scale, povey=what.window_type == "povey")
    np.testing.assert_allclose(fbank(sound, what), expected, atol=1e-5)


@pytest.mark.parametrize("level", [0.001, 0.5])
def test_fbank_of_speechbrain_equals_its_formula_with_what_is_80_db_down_raised(level: float) -> None:
    sound = speech_like(4000, level)
    sound[1000:2000] = 0
    np.testing.assert_allclose(fbank(sound, SPEECHBRAIN), slow_speechbrain(sound), atol=5e-5)


@pytest.mark.parametrize("what", [THREE_D_SPEAKER, WESPEAKER], ids=["3D-Speaker", "WeSpeaker"])
def test_fbank_of_kaldi_equals_another_program_but_for_its_rounding_in_quiet_bins(what: FbankInput) -> None:
    """kaldi-native-fbank computes in float32: that costs it up to 1e-3 in bins far below the loudest of a frame."""
    kaldi = pytest.importorskip("kaldi_native_fbank", reason="an independent front end")
    options = kaldi.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type = 0, what.window_type
    options.mel_opts.num_bins, options.mel_opts.low_freq = 80, 20
    computer, sound = kaldi.OnlineFbank(options), speech_like(16_000)
    computer.accept_waveform(16000, (sound * np.float32(what.scale)).tolist())
    computer.input_finished()
    theirs = np.stack([computer.get_frame(number) for number in range(computer.num_frames_ready)])
    ours = fbank(sound, dataclasses.replace(what, mean_norm=False))
    apart, below = np.abs(ours - theirs), ours.max(axis=1, keepdims=True) - ours
    assert ours.shape == (98, 80)
    assert apart[below < 5].max() < 1.5e-4 and np.mean(apart <= 1e-4) > 0.999 and apart.max() < 2e-3


@pytest.mark.parametrize("level", [0.001, 0.1])
def test_mel_of_resemblyzer_equals_its_formula_with_quiet_sound_raised(level: float) -> None:
    sound = speech_like(4000, level)
    expected = slow_resemblyzer(sound)
    np.testing.assert_allclose(fbank(sound, RESEMBLYZER), expected, rtol=1e-5, atol=1e-8 * expected.max())


@pytest.mark.parametrize(
    "what",
    [AVCLEANSE, WESPEAKER, SPEECHBRAIN, RESEMBLYZER],
    ids=["avcleanse", "wespeaker", "speechbrain", "resemblyzer"],
)
def test_front_ends_equal_their_formulas_on_real_speech(shared: Path, what: FbankInput) -> None:
    sound = read(sorted((shared / "data" / "speech" / "ucla").rglob("*.flac"))[0])[8000:12000]
    slow = {
        "htk": slow_avcleanse, "kaldi": lambda x: slow_kaldi(x, 32768, povey=False), "slaney": slow_resemblyzer,
        "speechbrain": slow_speechbrain,
    }  # fmt: skip
    np.testing.assert_allclose(fbank(sound, what), slow[what.mel_scale](sound), rtol=1e-5, atol=3e-5)


# --- what networks take


def test_items_are_whole_recordings_in_the_order_of_axes_that_the_card_says() -> None:
    sound = speech_like()
    assert network_input(sound, AVCLEANSE).shape == (1, 80, 1 + 9000 // 160)
    items = network_input(sound, WESPEAKER)
    assert items.shape == (1, 1 + (9000 - 400) // 160, 80) and items.dtype == np.float32
    np.testing.assert_array_equal(network_input(sound, AVCLEANSE)[0].T, fbank(sound, AVCLEANSE))


def test_crops_are_taken_at_every_hop_and_what_is_short_is_continued_by_silence() -> None:
    sound = speech_like(48_000)
    crops, whole = network_input(sound, RESEMBLYZER), fbank(sound, RESEMBLYZER)
    assert crops.shape == (2, 160, 40) and len(whole) == 301
    np.testing.assert_array_equal(crops[1], whole[80:240])
    short = network_input(sound[:5000], RESEMBLYZER)
    assert short.shape == (1, 160, 40)
    assert short[0, :30].all() and not short[0, 35:].any()


@pytest.mark.parametrize("crop", [1, 2, 50])
@pytest.mark.parametrize("what", [RESEMBLYZER, WESPEAKER], ids=["centred", "kaldi"])
def test_sound_shorter_than_a_crop_gives_one_crop(what: FbankInput, crop: int) -> None:
    what = dataclasses.replace(what, crop_frames=crop, crop_hop=crop)
    assert network_input(speech_like(3), what).shape == (1, crop, what.mel_bins)


@pytest.mark.parametrize("samples", [0, 1, 2, 159, 399, 400, 559, 560])
def test_sound_of_any_length_gives_the_frames_that_are_counted(samples: int) -> None:
    for what in (AVCLEANSE, WESPEAKER):
        found = fbank(speech_like(samples), what)
        assert found.shape == (frame_count(samples, what), 80)
        assert np.isfinite(found).all()
    assert frame_count(samples, WESPEAKER) == max(0, 1 + (samples - 400) // 160)
    assert frame_count(samples, AVCLEANSE) == (1 + samples // 160 if samples else 0)


@pytest.mark.parametrize("what", [AVCLEANSE, WESPEAKER, RESEMBLYZER], ids=["avcleanse", "wespeaker", "resemblyzer"])
def test_no_sound_gives_no_items_and_silence_gives_finite_ones(what: FbankInput) -> None:
    assert len(network_input(np.zeros(0, np.float32), what)) == 0
    silence = network_input(np.zeros(16_000, np.float32), what)
    assert len(silence) == 1 and not silence.any()


def test_frames_of_long_sound_do_not_depend_on_the_block_that_they_are_computed_in() -> None:
    what = dataclasses.replace(WESPEAKER, mean_norm=False)
    sound = np.tile(speech_like(16_000), 25)
    whole = fbank(sound, what)
    assert len(whole) > 2048
    np.testing.assert_allclose(whole[2000:2100], fbank(sound[2000 * 160 :], what)[:100], atol=1e-5)


def test_mean_over_time_is_zero_only_where_the_card_says_so() -> None:
    plain: dict[str, Any] = {"mean_norm": False}
    assert np.abs(fbank(speech_like(), WESPEAKER).mean(axis=0)).max() < 1e-4
    assert np.abs(fbank(speech_like(), dataclasses.replace(WESPEAKER, **plain)).mean(axis=0)).min() > 1
