"""Random changes to speech, driven by an explicit generator: the same generator gives the same sound.

Sound is (samples,) float32. Levels and ratios are of mean powers over all samples, in dB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from vidperson.errors import DataError, MediaError, TrainingError
from vidperson.media.excerpts import SoundPlace, excerpt
from vidperson.training.augment import parse_shares

Sound = NDArray[np.float32]

KINDS = ("noise", "music", "babble", "television", "reverb")
_MOST_BROKEN = 20
_ROOM_T60_S, _ROOM_RATIO_DB = (0.15, 0.9), (-3.0, 12.0)  # reverberation time; direct sound over what follows it
_SLOPES = (-2.0, 0.5)  # exponents of frequency in the power of made noise: from brown to a little above white
_TILT_DB, _TILT_KNOTS = 9.0, 6
_LOW_HZ, _HIGH_HZ, _CUT_DB = (50.0, 400.0), (2800.0, 7500.0), -50.0
_LEVEL_DBFS = (-45.0, -12.0)
_LARGEST_DENOMINATOR = 100  # of a speed


@dataclass(frozen=True)
class SoundShares:
    """How often each change is made, 0..1.

    noise, music, babble, television, reverb: at most one of them is made, so their sum is at most 1. Noise, music and
    babble (several talkers) are added; television is babble and music; reverb is a room's response.
    channel: a microphone and a line: its gain rises and falls over the frequencies by up to 9 dB either way, half of
    the time low and high ones are cut off. level: the sound gets a level from -45 to -12 dB below full scale.
    mask: a stretch of frames and a band of the features are set to 0 (Park et al., SpecAugment, Interspeech 2019).
    Raises TrainingError for a sum above 1.
    """

    noise: float = 0.0
    music: float = 0.0
    babble: float = 0.0
    television: float = 0.0
    reverb: float = 0.0
    channel: float = 0.0
    level: float = 0.0
    mask: float = 0.0

    def __post_init__(self) -> None:
        total = sum(getattr(self, kind) for kind in KINDS)
        if total > 1 + 1e-9:
            raise TrainingError(f"augmentation: expected {' + '.join(KINDS)} of at most 1, found {total:g}")

    @classmethod
    def parse(cls, text: str) -> SoundShares:
        """``noise=0.2 mask=1``; see :func:`~vidperson.training.augment.parse_shares`."""
        return cls(**parse_shares(text, [field.name for field in fields(cls)]))

    def draw(self, rng: np.random.Generator) -> str:
        """One of ``KINDS``, or "" for none of them."""
        place = rng.random()
        for kind in KINDS:
            place -= getattr(self, kind)
            if place < 0:
                return kind
        return ""


@dataclass(frozen=True)
class Ranges:
    """What is drawn evenly from where, lowest and highest value.

    noise, music, babble: signal-to-noise ratios in dB; babble is the sum of its talkers. talkers: how many. frames,
    bins: that are masked; whole numbers.
    Raises TrainingError for a range that does not rise, or of numbers that cannot be.
    """

    noise: tuple[float, float] = (0.0, 15.0)
    music: tuple[float, float] = (5.0, 15.0)
    babble: tuple[float, float] = (13.0, 20.0)
    talkers: tuple[float, float] = (3, 8)
    frames: tuple[float, float] = (0, 19)
    bins: tuple[float, float] = (0, 7)

    def __post_init__(self) -> None:
        for name, least in (("talkers", 1), ("frames", 0), ("bins", 0)):
            lowest, highest = getattr(self, name)
            if lowest < least or lowest % 1 or highest % 1:
                raise TrainingError(
                    f"ranges: {name}: expected whole numbers from {least} on, found {lowest:g}:{highest:g}"
                )
        for field in fields(self):
            lowest, highest = getattr(self, field.name)
            if not -100 <= lowest <= highest <= 1000:
                raise TrainingError(f"ranges: {field.name}: expected <lowest>:<highest>, found {lowest:g}:{highest:g}")

    @classmethod
    def parse(cls, text: str) -> Ranges:
        """``noise=0:15 talkers=3:8``; what is not named is as above. Raises TrainingError."""
        names = [field.name for field in fields(cls)]
        found = {}
        for word in text.split():
            match = re.fullmatch(r"([a-z]+)=(-?[\d.]+):(-?[\d.]+)", word)
            try:
                name, lowest, highest = (match[1], float(match[2]), float(match[3])) if match else ("", 0.0, 0.0)
            except ValueError:
                name = ""
            if name not in names:
                raise TrainingError(
                    f"ranges: expected <name>=<lowest>:<highest>, found '{word}'; names: {' '.join(names)}"
                )
            found[name] = lowest, highest
        return cls(**found)


class SoundPool:
    """Sounds to take excerpts of at random. places: at least one. cache: see :func:`~vidperson.media.excerpts.excerpt`.

    The methods draw another sound for one that cannot be read, of which they tell ``broken``; they raise DataError for
    one after the other.
    """

    def __init__(self, places: Sequence[SoundPlace], sample_rate: int, cache: str = "") -> None:
        self.places, self.sample_rate, self.cache = places, sample_rate, cache

    def pick(self, rng: np.random.Generator, speaker: int) -> SoundPlace:
        """Any of the sounds. speaker: class of who speaks, which other talkers are not to be."""
        return self.places[int(rng.integers(len(self.places)))]

    def draw(self, count: int, rng: np.random.Generator, broken: list[str], speaker: int = -1) -> Sound:
        """(count,) from any place in any of the sounds; a shorter one is repeated."""
        return np.resize(self._excerpt(rng.random(), count, rng, broken, speaker), count)

    def whole(self, rng: np.random.Generator, broken: list[str]) -> Sound:
        """The first second of any of the sounds, or all of it."""
        return self._excerpt(0.0, self.sample_rate, rng, broken, -1)

    def _excerpt(self, begin: float, count: int, rng: np.random.Generator, broken: list[str], speaker: int) -> Sound:
        for _ in range(_MOST_BROKEN):
            place = self.pick(rng, speaker)
            try:
                return excerpt(place, begin, count, self.sample_rate, self.cache)
            except MediaError as error:
                broken.append(f"{place.path}: {error}")
            except OSError as error:
                broken.append(f"{place.path}: {error.strerror or error}")
        raise DataError(f"{_MOST_BROKEN} sounds in turn cannot be read, the last one: {broken[-1]}")


@dataclass(frozen=True)
class SoundAugmentation:
    """sample_rate: Hz. noise, music, rooms, talkers: sounds for it. Of None noise and rooms are made, but no music and
    no babble. Raises TrainingError for a share of what is not there.
    """

    shares: SoundShares
    ranges: Ranges
    sample_rate: int = 16000
    noise: SoundPool | None = None
    music: SoundPool | None = None
    rooms: SoundPool | None = None
    talkers: SoundPool | None = None

    def __post_init__(self) -> None:
        for kind in ("music", "television"):
            if getattr(self.shares, kind) and self.music is None:
                raise TrainingError(
                    f"augmentation: {kind} needs a folder of music: name one, as --train-music, or leave "
                    f"{kind} out of --train-augment"
                )
        for kind in ("babble", "television"):
            if getattr(self.shares, kind) and self.talkers is None:
                raise TrainingError(f"augmentation: {kind} needs a folder of talkers, or two speakers or more")

    def __call__(self, speech: Sound, speaker: int, rng: np.random.Generator, broken: list[str]) -> Sound:
        """Changed speech of the same length; everything but ``mask``.

        speaker: class of who speaks. broken: gets what cannot be read.
        """
        rate, count, kind = self.sample_rate, len(speech), self.shares.draw(rng)
        if rng.random() < self.shares.level:
            speech = levelled(speech, rng.uniform(*_LEVEL_DBFS))
        if rng.random() < self.shares.channel:
            speech = through_channel(speech, rate, rng)
        if kind == "reverb":
            room = self.rooms.whole(rng, broken) if self.rooms else made_room(rate, rng)
            speech = reverberated(speech, room)
        if kind == "noise":
            noise = self.noise.draw(count, rng, broken) if self.noise else made_noise(count, rng)
            speech = mixed(speech, noise, rng.uniform(*self.ranges.noise))
        dry = speech
        if kind in ("babble", "television"):
            speech = mixed(speech, self._babble(count, rng, broken, speaker), rng.uniform(*self.ranges.babble))
        if kind in ("music", "television"):
            assert self.music
            music = self.music.draw(count, rng, broken)
            speech = speech + (mixed(dry, music, rng.uniform(*self.ranges.music)) - dry)
        return speech

    def mask(self, features: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Set a stretch and a band of (bins, frames) features, of which the mean was subtracted, to 0."""
        if rng.random() < self.shares.mask:
            for axis, (least, most) in ((1, self.ranges.frames), (0, self.ranges.bins)):
                width = min(int(rng.integers(int(least), int(most) + 1)), features.shape[axis])
                start = int(rng.integers(features.shape[axis] - width + 1))
                np.moveaxis(features, axis, 0)[start : start + width] = 0

    def _babble(self, count: int, rng: np.random.Generator, broken: list[str], speaker: int) -> Sound:
        """Talkers that are equally loud."""
        assert self.talkers
        total = np.zeros(count, np.float32)
        for _ in range(int(rng.integers(int(self.ranges.talkers[0]), int(self.ranges.talkers[1]) + 1))):
            total += levelled(self.talkers.draw(count, rng, broken, speaker), -20.0)
        return total


def power(sound: Sound) -> float:
    """The mean square."""
    return float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0


def levelled(sound: Sound, dbfs: float) -> Sound:
    """The sound at another level; silence stays."""
    found = power(sound)
    return sound * np.float32(10 ** (dbfs / 20) / np.sqrt(found)) if found else sound


def mixed(speech: Sound, noise: Sound, ratio_db: float) -> Sound:
    """Speech with noise of the same length, at a ratio of their powers; silence on either side adds nothing."""
    wanted, found = power(speech) / 10 ** (ratio_db / 10), power(noise)
    return speech + noise * np.float32(np.sqrt(wanted / found)) if wanted and found else speech


def reverberated(speech: Sound, response: Sound) -> Sound:
    """Speech in a room, as long as it was and not delayed: the response's largest sample is taken as direct sound.

    The response is scaled to an energy of 1. Silence as a response changes nothing.
    """
    energy = float(np.sum(np.square(response, dtype=np.float64)))
    if not energy:
        return speech
    direct = int(np.abs(response).argmax())
    wet = signal.fftconvolve(speech, response * np.float32(1 / np.sqrt(energy)))
    return np.asarray(wet[direct : direct + len(speech)], np.float32)


def made_room(rate: int, rng: np.random.Generator) -> Sound:
    """A room's response: direct sound, and noise that decays exponentially behind it (Polack's model).

    The time to -60 dB is drawn from 0.15 to 0.9 s, the ratio of direct sound to all behind it from -3 to 12 dB.
    """
    seconds = rng.uniform(*_ROOM_T60_S)
    gap = int(rng.integers(rate // 1000, rate // 100))  # until the first reflection: 1 to 10 ms
    length = int(seconds * rate)
    tail = rng.standard_normal(length, np.float32) * np.exp(np.arange(length, dtype=np.float32) * (-6.9078 / length))
    response = np.zeros(gap + length, np.float32)
    response[gap:] = levelled(tail, -10 * np.log10(length) - rng.uniform(*_ROOM_RATIO_DB))
    response[0] = 1
    return response


def made_noise(count: int, rng: np.random.Generator) -> Sound:
    """(count,) noise, the power of which goes with frequency to the power of -2 to 0.5, and swells now and then."""
    size = fft.next_fast_len(count, real=True)
    bins = size // 2 + 1
    shape = np.arange(1, bins + 1, dtype=np.float32) ** np.float32(rng.uniform(*_SLOPES) / 2)
    spectrum = rng.standard_normal((bins, 2), np.float32).view(np.complex64)[:, 0] * shape
    noise = fft.irfft(spectrum, size)[:count]
    swells = np.interp(np.arange(count), np.linspace(0, count, 8), rng.uniform(0.3, 1.0, 8))
    return np.asarray(noise * swells, np.float32)


def through_channel(sound: Sound, rate: int, rng: np.random.Generator) -> Sound:
    """The sound through a random microphone and line; see :class:`SoundShares`."""
    size = fft.next_fast_len(len(sound), real=True)
    hertz = np.arange(size // 2 + 1) * (rate / size)
    knots = np.geomspace(50, rate / 2, _TILT_KNOTS)
    gain = np.interp(np.log(np.maximum(hertz, 1)), np.log(knots), rng.uniform(-_TILT_DB, _TILT_DB, _TILT_KNOTS))
    if rng.random() < 0.5:
        low, high = rng.uniform(*_LOW_HZ), rng.uniform(*_HIGH_HZ)
        gain[(hertz < low) | (hertz > high)] += _CUT_DB
    changed = fft.irfft(fft.rfft(sound, size) * (10 ** (gain / 20)).astype(np.float32), size)
    return np.asarray(changed[: len(sound)], np.float32)


def fraction_of(speed: float) -> Fraction:
    """A speed as a ratio of small whole numbers."""
    return Fraction(speed).limit_denominator(_LARGEST_DENOMINATOR)


def at_speed(sound: Sound, speed: float) -> Sound:
    """Sound that is played faster (above 1) or slower, its pitch with it, by resampling; its length over the speed."""
    ratio = fraction_of(speed)
    if ratio == 1:
        return sound
    return np.asarray(
        signal.resample_poly(sound, ratio.denominator, ratio.numerator, window=_window(ratio)), np.float32
    )


@lru_cache(maxsize=8)
def _window(ratio: Fraction) -> NDArray[np.float32]:
    """The filter of :func:`scipy.signal.resample_poly`, which would be made each time."""
    largest = max(ratio.numerator, ratio.denominator)
    taps = signal.firwin(20 * largest + 1, 1 / largest, window=("kaiser", 5.0))
    return np.asarray(taps, np.float32)
