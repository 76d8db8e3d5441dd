"""Artificial voices: glottal pulses and noise through the resonances of a vocal tract, with numpy only.

A voice of the demo corpus is no recording of anybody. It is the source-filter model of speech (G. Fant, Acoustic
Theory of Speech Production, 1960): pulses in the form of A. E. Rosenberg (JASA 49, 1971), formants as cascaded
second-order resonators (D. H. Klatt, JASA 67, 1980). What a voice says are random syllables of no language. Voices
differ in pitch, length of the vocal tract, places of the formants, slope of the spectrum, breath and pace.

Same arguments and version of numpy, same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
Track = NDArray[np.float64]

RATE = 16000
HOP = 160
"""Samples from one set of the vocal tract's values to the next."""
VOWELS = np.array(
    [
        (300, 2250, 2950),
        (430, 2050, 2650),
        (600, 1850, 2550),
        (760, 1350, 2500),
        (640, 1020, 2500),
        (460, 850, 2450),
        (330, 900, 2300),
        (500, 1450, 2450),
    ],
    np.float64,
)
"""The first three formants of each vowel in Hz, for a tract of average length."""
UPPER = np.array([3500.0, 4450.0])
"""The fourth and fifth formant, those of all vowels."""
BANDWIDTHS = np.array([70.0, 90.0, 130.0, 220.0, 300.0])
HISSES = np.array([(2500, 900), (3800, 1400), (5200, 1800), (1600, 2500)], np.float64)
"""Centre and width in Hz of the noise of fricatives and bursts."""
ONSETS, ONSET_SHARES = ("fricative", "plosive", "nasal", "none"), (0.3, 0.3, 0.25, 0.15)
"""How syllables begin, and how often."""
NASAL_HZ = 260
PAUSES = 0.12
"""Share of the syllables that a pause follows."""
_FRAME, _FFT = 2 * HOP, 512


@dataclass(frozen=True)
class Voice:
    """How somebody sounds.

    pitch_hz: mean pitch. liveliness: how much it moves, in octaves. tract: length of the vocal tract, 1 being the
    average. places: (len(VOWELS), 5) factors of the formants. slope_db: of the source above 300 Hz, per octave.
    breath: noise in the source, to the pulses. jitter: of the pitch, as a share. opened: share of a period in which
    the glottis is open. pace: syllables per second.
    """

    pitch_hz: float
    liveliness: float
    tract: float
    places: Track
    slope_db: float
    breath: float
    jitter: float
    opened: float
    pace: float


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random voice; half of them are high, with a short tract."""
    high = rng.random() < 0.5
    return Voice(
        pitch_hz=float((205 if high else 118) * 2 ** rng.normal(0, 0.25)),
        liveliness=float(rng.uniform(0.08, 0.22)),
        tract=float((0.9 if high else 1.03) * np.exp(rng.normal(0, 0.06))),
        places=np.exp(rng.normal(0, 0.04, (len(VOWELS), 5)) + rng.normal(0, 0.05, 5)),
        slope_db=float(rng.uniform(-6, 1)),
        breath=float(np.exp(rng.uniform(np.log(0.01), np.log(0.4)))),
        jitter=float(rng.uniform(0.004, 0.02)),
        opened=float(rng.uniform(0.4, 0.8)),
        pace=float(rng.uniform(3.2, 5.2)),
    )


def on_another_day(voice: Voice, rng: np.random.Generator) -> Voice:
    """The voice of the same person in another mood: a little higher or lower, clearer or rougher."""
    return Voice(
        pitch_hz=voice.pitch_hz * float(2 ** rng.normal(0, 0.06)),
        liveliness=voice.liveliness * float(np.exp(rng.normal(0, 0.2))),
        tract=voice.tract * float(np.exp(rng.normal(0, 0.012))),
        places=voice.places * np.exp(rng.normal(0, 0.01, voice.places.shape)),
        slope_db=voice.slope_db + float(rng.normal(0, 1)),
        breath=voice.breath * float(np.exp(rng.normal(0, 0.3))),
        jitter=voice.jitter,
        opened=float(np.clip(voice.opened + rng.normal(0, 0.04), 0.35, 0.85)),
        pace=voice.pace * float(np.exp(rng.normal(0, 0.08))),
    )


def speak(voice: Voice, seconds: float, rng: np.random.Generator) -> Sound:
    """Random syllables with pauses: (samples,) float32 at ``RATE``, its loudest sample at 0.5."""
    frames = round(seconds * RATE / HOP)
    script = _write_script(voice, frames, rng)
    pulses = _pulses(voice, script.pitch, rng)
    noise = rng.standard_normal(len(pulses))
    source = pulses + voice.breath * noise * (0.3 + np.maximum(pulses, 0))
    spoken = _shaped(source * _samples(script.voiced), script.tract * _tilt(voice.slope_db))
    spoken += _shaped(noise * _samples(script.hissing), script.hiss)
    return (0.5 * spoken / np.abs(spoken).max()).astype(np.float32)


@dataclass
class _Script:
    """What is said, per frame of ``HOP`` samples. tract, hiss: (frames, bins) gains of the spectrum."""

    pitch: Track
    voiced: Track
    hissing: Track
    tract: NDArray[np.complex128]
    hiss: Track


def _write_script(voice: Voice, frames: int, rng: np.random.Generator) -> _Script:
    formants = np.tile(_vowel(voice, int(rng.integers(len(VOWELS)))), (frames, 1))
    voiced, hissing, accents, hiss = (np.zeros(frames) for _ in range(4))
    at = int(rng.integers(2, 10))
    while at < frames:
        length = max(8, round(RATE / HOP / voice.pace * rng.uniform(0.75, 1.35)))
        begin = at + round(length * rng.uniform(0.2, 0.4))
        formants[at:] = _vowel(voice, int(rng.integers(len(VOWELS))))
        voiced[begin : at + length] = rng.uniform(0.7, 1.0)
        accents[at:] = rng.normal()
        hiss[at:] = rng.integers(len(HISSES))
        onset = rng.choice(ONSETS, p=ONSET_SHARES)
        if onset == "fricative":
            hissing[at:begin] = rng.uniform(0.05, 0.12)
        elif onset == "plosive":
            hissing[begin - 2 : begin] = rng.uniform(0.1, 0.25)
        elif onset == "nasal":
            voiced[at:begin] = 0.35
            formants[at:begin, 0] = NASAL_HZ / voice.tract
        else:
            voiced[at:begin] = 0.8
        at += length
        if rng.random() < PAUSES:
            at += int(rng.integers(10, 30))
    octaves = voice.liveliness * (1.5 * _smooth(accents, 12) + np.linspace(0.3, -0.3, frames))
    return _Script(
        pitch=voice.pitch_hz * 2**octaves,
        voiced=_smooth(voiced, 3),
        hissing=_smooth(hissing, 2),
        tract=_resonances(_smooth(formants, 5)),
        hiss=_hisses(voice.tract)[hiss.astype(int)],
    )


def _vowel(voice: Voice, vowel: int) -> Track:
    """(5,) formants in Hz."""
    return np.concatenate([VOWELS[vowel], UPPER]) * voice.places[vowel] / voice.tract


def _smooth(track: Track, width: int) -> Track:
    """The moving average over so many frames, an odd number or not."""
    padded = np.pad(track, [(width // 2, (width - 1) // 2), *[(0, 0)] * (track.ndim - 1)], mode="edge")
    total = np.cumsum(np.concatenate([np.zeros((1, *track.shape[1:])), padded]), axis=0)
    return (total[width:] - total[:-width]) / width


def _resonances(formants: Track) -> NDArray[np.complex128]:
    """(frames, bins) gain of the cascade of resonators; formants: (frames, 5) in Hz."""
    z = np.exp(-2j * np.pi * np.arange(_FFT // 2 + 1) / _FFT)
    gain = np.ones((len(formants), len(z)), np.complex128)
    for place, bandwidth in zip(formants.T, BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / RATE)
        first = (-2 * radius * np.cos(2 * np.pi * np.minimum(place, 0.47 * RATE) / RATE))[:, None]
        gain *= (1 + first + radius**2) / (1 + first * z + radius**2 * z**2)
    return gain


def _tilt(slope_db: float) -> Track:
    """(bins,) gain of a slope in dB per octave above 300 Hz."""
    hertz = np.arange(_FFT // 2 + 1) * RATE / _FFT
    return 10 ** (slope_db / 20 * np.log2(np.maximum(hertz, 300) / 300))


def _hisses(tract: float) -> Track:
    """(len(HISSES), bins) gain of the noise of fricatives."""
    hertz = np.arange(_FFT // 2 + 1) * RATE / _FFT
    centres, widths = HISSES.T[..., None] / tract
    return np.exp(-0.5 * ((hertz - centres) / widths) ** 2)


def _samples(track: Track) -> Track:
    """A value per sample of a value per frame."""
    places = np.arange(len(track) * HOP) / HOP
    return np.interp(places, np.arange(len(track)), track)


def _pulses(voice: Voice, pitch: Track, rng: np.random.Generator) -> Track:
    """The derivative of the flow through the glottis, with a smooth change of the pitch and jitter."""
    wobble = _smooth(rng.standard_normal(len(pitch)), 3) * 1.7
    phase = np.cumsum(_samples(pitch * (1 + voice.jitter * wobble))) / RATE % 1.0
    opening, closing = voice.opened * 2 / 3, voice.opened / 3
    rising = np.sin(np.pi * phase / opening) * (np.pi / 2 / opening)
    falling = -np.sin(np.pi / 2 * (phase - opening) / closing) * (np.pi / 2 / closing)
    flow = np.where(phase < opening, rising, np.where(phase < voice.opened, falling, 0.0))
    return flow / np.pi * voice.opened


def _shaped(source: Track, gains: NDArray[np.complex128] | Track) -> Track:
    """The source through a filter that changes every ``HOP`` samples: overlapping windows, (frames, bins) gains."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)
    padded = np.pad(source, (HOP, _FFT))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::HOP][: len(gains)] * window
    heard = np.fft.irfft(np.fft.rfft(pieces, _FFT) * gains, _FFT)
    out = np.zeros(len(padded) + _FFT)
    for begin in range(0, _FFT, HOP):  # each part of all pieces at once: they do not overlap
        part = heard[:, begin : begin + HOP]
        flat = np.zeros((len(heard), HOP))
        flat[:, : part.shape[1]] = part
        out[begin : begin + flat.size] += flat.ravel()
    return out[HOP : HOP + len(source)]


@dataclass(frozen=True)
class Place:
    """Where a recording is made. equaliser: (bands,) dB of the channel, evenly spaced on a logarithmic scale from
    60 Hz to 8 kHz. echo: (samples,) of the room, that begins with 1. noise_db: level of the speech over the noise. hum:
    slope of the noise's spectrum, in powers of the frequency."""

    equaliser: Track
    echo: Track
    noise_db: float
    hum: float


def draw_place(rng: np.random.Generator) -> Place:
    """A random channel and room."""
    length = round(RATE * rng.uniform(0.08, 0.25))
    decay = np.exp(-6.9 * np.arange(length) / length)
    echo = decay * rng.standard_normal(length) * rng.uniform(0.005, 0.03)
    echo[:20] = 0
    echo[0] = 1
    return Place(rng.normal(0, 2, 6), echo, float(rng.uniform(20, 35)), float(rng.uniform(-1.2, 0)))


def record(speech: Sound, place: Place, rng: np.random.Generator) -> Sound:
    """The speech as a microphone there records it: (samples,) float32, its loudest sample from 0.2 to 0.8."""
    size = 1 << (len(speech) + len(place.echo) - 1).bit_length()
    hertz = np.maximum(np.arange(size // 2 + 1) * RATE / size, 60)
    bands = np.linspace(np.log(60), np.log(8000), len(place.equaliser))
    channel = 10 ** (np.interp(np.log(hertz), bands, place.equaliser) / 20)
    spectrum = np.fft.rfft(speech, size) * np.fft.rfft(place.echo, size) * channel
    heard = np.fft.irfft(spectrum, size)[: len(speech)]
    hiss = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * hertz**place.hum, size)[: len(speech)]
    hiss *= np.sqrt(np.mean(heard**2) / np.mean(hiss**2)) * 10 ** (-place.noise_db / 20)
    heard += hiss
    return (heard / np.abs(heard).max() * rng.uniform(0.2, 0.8)).astype(np.float32)
