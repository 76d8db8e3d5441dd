"""What networks for voices take: energies of mel filter banks, computed as a model card says, with numpy only.

A card's :class:`~vidperson.networks.card.FbankInput` describes the front ends of published networks. ``framing:
kaldi`` is Kaldi's ``compute-fbank-feats`` without dither, which WeSpeaker and 3D-Speaker use. ``framing: centred`` is
the short-time Fourier transform of PyTorch and librosa, which AVCleanse, SpeechBrain and Resemblyzer use.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidperson.networks.card import FbankInput

Array = NDArray[np.float32]
_FRAMES_AT_ONCE = 64  # what lies in the cache takes a third of the time
_SLANEY_KNEE_HZ, _SLANEY_HZ_PER_MEL, _SLANEY_LOG_STEP = 1000.0, 200 / 3, np.log(6.4) / 27
_POVEY_POWER = 0.85


def network_input(sound: Array, what: FbankInput) -> Array:
    """The items that a network takes for one piece of sound, (N, frames, mel_bins) or (N, mel_bins, frames).

    sound: (samples,) float32 from -1 to 1 at ``what.sample_rate``.
    Without ``crop_frames`` one item, or none where the sound has no whole frame. With it, crops ``crop_hop`` frames
    apart: the whole ones, and a last one where the sound fills ``crop_cover`` of it or there is no other; silence
    follows the sound then.
    """
    levelled = _levelled(sound, what)
    if what.crop_frames is None or what.crop_hop is None:
        found = _energies(levelled, what)
        crops = found[None] if len(found) else np.zeros((0, 0, what.mel_bins), np.float32)
    else:
        starts = crop_starts(frame_count(len(sound), what), what) if len(sound) else []
        lacking = least_samples(what, starts[-1] + what.crop_frames) - len(sound) if starts else 0
        found = _energies(np.pad(levelled, (0, lacking)) if lacking > 0 else levelled, what)
        crops = np.zeros((len(starts), what.crop_frames, what.mel_bins), np.float32)
        for crop, start in zip(crops, starts, strict=True):
            crop[:] = found[start : start + what.crop_frames]
    return np.ascontiguousarray(crops.transpose(0, 2, 1)) if what.channels_first else crops


def crop_starts(frames: int, what: FbankInput) -> list[int]:
    """The frames at which crops begin, see :func:`network_input`. Of a front end with crops."""
    assert what.crop_frames and what.crop_hop
    starts = list(range(0, max(1, frames - what.crop_frames + 1), what.crop_hop))
    further = starts[-1] + what.crop_hop
    if frames >= what.crop_frames and (frames - further) / what.crop_frames >= what.crop_cover:
        starts.append(further)
    return starts


def fbank(sound: Array, what: FbankInput) -> Array:
    """(frames, mel_bins) float32; no frames for sound without a whole one. sound: as for :func:`network_input`."""
    return _energies(_levelled(sound, what), what)


def _energies(sound: Array, what: FbankInput) -> Array:
    """:func:`fbank` of sound that has the level it shall have."""
    count = frame_count(len(sound), what)
    energies = np.zeros((count, what.mel_bins), np.float32)
    if not count:
        return energies
    values: NDArray[np.floating] = sound * np.float32(what.scale)
    centred = what.framing == "centred"
    if centred:
        if what.pre_emphasis:  # in float64: float32 would cost up to 1e-4 of the logarithm of quiet bins
            values = values.astype(np.float64)
            before = values[1 if len(values) > 1 else 0]  # mirrored
            values = values - what.pre_emphasis * np.concatenate([[before], values[:-1]])
        mode: Literal["reflect", "constant"] = "reflect" if what.edges == "reflect" else "constant"
        values = np.pad(values, what.fft // 2, mode=mode)[(what.fft - what.window) // 2 :]
    frames = np.lib.stride_tricks.sliding_window_view(values, what.window)[:: what.hop][:count]
    shape, filters = _window(what), _filters(what)
    for start in range(0, count, _FRAMES_AT_ONCE):
        part: NDArray[np.float64] = frames[start : start + _FRAMES_AT_ONCE].astype(np.float64)
        if not centred:
            part -= part.mean(axis=1, keepdims=True)
            part[:, 1:] -= what.pre_emphasis * part[:, :-1]
            part[:, 0] *= 1 - what.pre_emphasis
        part *= shape
        squares = np.fft.rfft(part, what.fft).view(np.float64)
        squares *= squares
        power = (squares[:, ::2] + squares[:, 1::2]).astype(np.float32)  # sums of positive numbers: 1e-6 of them
        energies[start : start + _FRAMES_AT_ONCE] = _logarithm(power @ filters, what)
    if what.range_db is not None:
        np.maximum(energies, energies.max() - np.float32(what.range_db), out=energies)
    return energies - energies.mean(axis=0, dtype=np.float64).astype(np.float32) if what.mean_norm else energies


def frame_count(samples: int, what: FbankInput) -> int:
    """How many frames so many samples give."""
    if what.framing == "centred":
        return 1 + samples // what.hop if samples else 0
    return 1 + (samples - what.window) // what.hop if samples >= what.window else 0


def least_samples(what: FbankInput, frames: int) -> int:
    """The fewest samples that give so many frames, at least 1."""
    return (frames - 1) * what.hop + (1 if what.framing == "centred" else what.window)


def repeated(sound: Array, least: int) -> Array:
    """The sound, from its beginning on again until there are so many samples."""
    return np.resize(sound, least) if 0 < len(sound) < least else sound


def _levelled(sound: Array, what: FbankInput) -> Array:
    """The sound, raised to ``level_dbfs`` where its mean power is less; silence stays."""
    if what.level_dbfs is None or not len(sound):
        return sound
    power = float(np.mean(np.square(sound, dtype=np.float64)))
    gain = 10 ** (what.level_dbfs / 20) / np.sqrt(power) if power else 1.0
    return sound * np.float32(gain) if gain > 1 else sound


def _logarithm(energies: Array, what: FbankInput) -> Array:
    if what.log_offset is not None:
        energies += np.float32(what.log_offset)
    elif what.log_floor is not None:
        np.maximum(energies, np.float32(what.log_floor), out=energies)
    else:
        return energies
    return np.float32(10) * np.log10(energies) if what.decibels else np.log(energies)


@lru_cache(maxsize=8)
def _window(what: FbankInput) -> NDArray[np.float64]:
    """(window,): symmetric for Kaldi's framing, else periodic."""
    period = what.window if what.framing == "centred" else max(1, what.window - 1)
    cosine = np.cos(2 * np.pi * np.arange(what.window) / period)
    if what.window_type == "hamming":
        return 0.54 - 0.46 * cosine
    hann = 0.5 - 0.5 * cosine
    return hann**_POVEY_POWER if what.window_type == "povey" else hann


@lru_cache(maxsize=8)
def _filters(what: FbankInput) -> Array:
    """(fft // 2 + 1, mel_bins): triangles with corners evenly spaced on the mel scale."""
    to_mel, to_hz = (_slaney_mel, _slaney_hz) if what.mel_scale == "slaney" else (_htk_mel, _htk_hz)
    low, high = to_mel(np.array([what.low_hz, what.high_hz]))
    corners: NDArray[np.float64] = np.linspace(low, high, what.mel_bins + 2, dtype=np.float64)
    places = np.arange(what.fft // 2 + 1, dtype=np.float64) * (what.sample_rate / what.fft)
    if what.mel_scale == "kaldi":
        places = to_mel(places)
    else:
        corners = to_hz(corners)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    if what.mel_scale == "speechbrain":
        right = 2 * centre - left
    rising = (places[:, None] - left) / (centre - left)
    falling = (right - places[:, None]) / (right - centre)
    filters = np.maximum(0, np.minimum(rising, falling))
    if what.mel_scale == "kaldi":
        filters[-1] = 0  # Kaldi leaves out the Nyquist frequency
    elif what.mel_scale == "slaney":
        filters *= 2 / (right - left)
    return filters.astype(np.float32)


def _htk_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127 * np.log1p(hertz / 700)


def _htk_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * np.expm1(mel / 1127)


def _slaney_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Straight up to 1 kHz, logarithmic above (Slaney's Auditory Toolbox, 1998)."""
    above = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL + np.log(np.maximum(hertz, 1) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(hertz < _SLANEY_KNEE_HZ, hertz / _SLANEY_HZ_PER_MEL, above)


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (mel - knee))
    return np.where(mel < knee, mel * _SLANEY_HZ_PER_MEL, above)
