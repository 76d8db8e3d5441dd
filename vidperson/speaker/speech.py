"""Stage 2 for sound: where somebody talks, and how good the sound is there. One pass, memory of 4 bytes per 20 ms."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.audio import NoSound, SoundReader
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.types import IMAGE_SUFFIXES, SPEECH_COLUMNS, Float

STATES = ("ok", "silent", "short", "no_audio", "damaged", "unreadable")
SAMPLE_RATE = 16000  # Hz; also the least that a file should have
FRAME_S = 0.02
_FRAME = round(FRAME_S * SAMPLE_RATE)
_BLOCK_S = 30.0  # a whole number of frames
_SILENCE_DB = -70.0  # of full scale: the noise of 16-bit samples is below -90, that of a quiet room above
_FULL_SCALE = 0.985  # from which on samples count as clipped: resampling takes a little off their tops
_QUIET, _LOUD = 10, 95  # percentiles of the frames' levels: the background, and talking
_ABOVE_QUIET, _BELOW_LOUD = 0.35, 25.0  # of the way up from the background; dB below talking
_PAUSE_FRAMES, _BURST_FRAMES, _MARGIN_FRAMES = 15, 5, 5
_STEP_DB, _FLOOR_DB = 0.01, 150.0
_POWER = 10 ** (-_STEP_DB / 10 * np.arange(round(_FLOOR_DB / _STEP_DB) + 1))
_FRAMES_AT_ONCE = 1 << 16
_ALL = 0xFFFF
_NOTHING = np.zeros((0, len(SPEECH_COLUMNS)), np.float32)
_HIGHEST_SNR_DB = 60.0


@dataclass(frozen=True)
class SpeechPolicy:
    """What of a recording counts.

    detect: only stretches in which somebody talks, by their level; or else the whole sound.
    shortest_s: what is shorter in all is not used.
    window_s: longer stretches are cut into equal parts that are not longer, to tell who talks when; 0: they are not.
    """

    detect: bool = False
    shortest_s: float = 0.3
    window_s: float = 0.0


class Levels(NamedTuple):
    """Of each frame of 20 ms (the last one may be shorter) the level and the share of clipped samples.

    below: (N,) uint16, units of 0.01 dB below full scale. clipped: (N,) uint16, 65535 for all of them. samples: how
    many there are in all.
    """

    below: NDArray[np.uint16]
    clipped: NDArray[np.uint16]
    samples: int


def find_speech(path: str, policy: SpeechPolicy | None = None, limits: Limits = USUAL_LIMITS) -> tuple[str, Float]:
    """The status and the (N, 7) stretches of a sound file or of a video's sound track; a bad file gives a status only.

    Columns as in ``SPEECH_COLUMNS``. Without a detector a stretch is the whole sound.
    """
    policy = policy or SpeechPolicy()
    if path.lower().endswith(IMAGE_SUFFIXES):
        return "no_audio: this is an image", _NOTHING
    try:
        with SoundReader(path, SAMPLE_RATE, _BLOCK_S, limits) as reader:
            levels = measure(reader)
    except NoSound as error:
        return f"no_audio: {error}", _NOTHING
    except MediaError as error:
        return f"unreadable: {error}", _NOTHING
    loudness = Loudness(levels)
    rows = _rows(levels, loudness, policy, reader.own_rate)
    seconds = float((rows[:, 1] - rows[:, 0]).sum())
    if reader.damage:
        return f"damaged: {reader.damage}", rows if seconds >= policy.shortest_s else _NOTHING
    if not len(rows):
        return f"silent: the loudest {1000 * FRAME_S:.0f} ms have {loudness.loudest_db:.0f} dB", _NOTHING
    if seconds < policy.shortest_s:
        return f"short: {seconds:.2f} s of sound, at least {policy.shortest_s:g} s are needed", _NOTHING
    if reader.own_rate < SAMPLE_RATE:
        return f"ok: sampled at {reader.own_rate} Hz, so what is above {reader.own_rate // 2} Hz is missing", rows
    return "ok", rows


def measure(blocks: Iterable[Float]) -> Levels:
    """The levels of sound that comes in blocks at 16 kHz, each but the last of whole frames.

    Raises MediaError for sound that cannot be decoded.
    """
    below, clipped, samples = array("H"), array("H"), 0
    for block in blocks:
        samples += len(block)
        counts = np.full(-(-len(block) // _FRAME), _FRAME)
        counts[-1] -= -len(block) % _FRAME
        frames = np.pad(block, (0, -len(block) % _FRAME)).reshape(-1, _FRAME)
        power = np.einsum("ij,ij->i", frames, frames) / counts
        decibels = -10 * np.log10(np.clip(power, 10 ** (-_FLOOR_DB / 10), 1))
        below.frombytes(np.round(decibels / _STEP_DB).astype(np.uint16).tobytes())
        over = (np.abs(frames) >= _FULL_SCALE).sum(axis=1) * (_ALL / counts)
        clipped.frombytes(np.round(over).astype(np.uint16).tobytes())
    return Levels(np.frombuffer(below, np.uint16), np.frombuffer(clipped, np.uint16), samples)


class Loudness:
    """What the frames of a recording tell of it, from a count per level: memory does not depend on its length.

    loudest_db: of the frames. threshold_db: from which on a frame is loud enough to be speech; it is between the
    background and the loudest frames of the recording itself.
    """

    def __init__(self, levels: Levels) -> None:
        self._counts = np.zeros(len(_POWER), np.int64)
        for part in _parts(levels.below):
            self._counts += np.bincount(part, minlength=len(_POWER))
        used = np.flatnonzero(self._counts)
        self.loudest_db = -_STEP_DB * float(used[0]) if len(used) else -_FLOOR_DB
        from_loudest = np.cumsum(self._counts)
        total = int(from_loudest[-1])
        places = (np.searchsorted(from_loudest, total * (100 - percent) / 100) for percent in (_QUIET, _LOUD))
        quiet, loud = (-_STEP_DB * float(place) for place in places)
        self.threshold_db = max(quiet + _ABOVE_QUIET * (loud - quiet), loud - _BELOW_LOUD, _SILENCE_DB)

    def snr_db(self) -> float:
        """The estimated signal-to-noise ratio: mean power of the loud frames without the background, over it.

        The background is the mean power of the quietest tenth of the frames.
        """
        left, quietest = max(1, int(self._counts.sum()) * _QUIET // 100), np.zeros_like(self._counts)
        behind = np.cumsum(self._counts[::-1])
        quietest[::-1] = np.clip(left - (behind - self._counts[::-1]), 0, self._counts[::-1])
        loud = self._counts * (np.arange(len(_POWER)) <= round(-self.threshold_db / _STEP_DB))
        noise = float(quietest @ _POWER) / left
        signal = float(loud @ _POWER) / max(1, int(loud.sum())) - noise
        return float(np.clip(10 * np.log10(signal / noise), 0, _HIGHEST_SNR_DB)) if signal > 0 else 0.0

    def is_loud(self, levels: Levels) -> NDArray[np.bool_]:
        """(N,) which frames reach the threshold."""
        return levels.below <= round(-self.threshold_db / _STEP_DB)


def _parts(values: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    for start in range(0, len(values), _FRAMES_AT_ONCE):
        yield values[start : start + _FRAMES_AT_ONCE]


def stretches(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First frames, and those behind the last. Pauses up to 0.3 s count; bursts below 0.1 s do not; 0.1 s is added."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    found: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if found and start - found[-1][1] <= _PAUSE_FRAMES:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    kept = [(start, end) for start, end in found if end - start >= _BURST_FRAMES]
    return [(max(0, start - _MARGIN_FRAMES), min(len(loud), end + _MARGIN_FRAMES)) for start, end in kept]


def windows(found: Iterable[tuple[int, int]], longest_s: float) -> Iterator[tuple[int, int]]:
    """Stretches, in frames, in as few equal parts as are not longer than so many seconds each; 0: as they are."""
    longest = max(1, round(longest_s / FRAME_S))
    for start, end in found:
        parts = max(1, -(-(end - start) // longest)) if longest_s else 1
        bounds = [start + (end - start) * part // parts for part in range(parts + 1)]
        yield from pairwise(bounds)


def _rows(levels: Levels, loudness: Loudness, policy: SpeechPolicy, rate: int) -> Float:
    """The stretches; none of sound that is silent from end to end."""
    if loudness.loudest_db < _SILENCE_DB:
        return _NOTHING
    loud, total_s, ratio = loudness.is_loud(levels), levels.samples / SAMPLE_RATE, loudness.snr_db()
    rows = []
    for start, end in windows(stretches(loud) if policy.detect else [(0, len(loud))], policy.window_s):
        power = sum(float(_POWER[part].sum()) for part in _parts(levels.below[start:end])) / (end - start)
        times = start * FRAME_S, min(end * FRAME_S, total_s)
        shares = float(levels.clipped[start:end].mean()) / _ALL, float(loud[start:end].mean())
        rows.append((*times, 10 * np.log10(power), ratio, *shares, rate))
    return np.array(rows, np.float32).reshape(-1, len(SPEECH_COLUMNS))
