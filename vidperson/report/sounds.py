"""Sounds for reports: to hear, and as a picture."""

from __future__ import annotations

import io
import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHOWN_S = 8.0
"""Seconds of a sound that a picture shows."""

_LOUD = 0.9
_FRAME_S, _RANGE_DB, _SIZE = 0.032, 60.0, (288, 96)
_TONES = ((0.0, (255, 255, 255)), (0.35, (178, 200, 226)), (0.7, (60, 102, 160)), (1.0, (20, 30, 62)))


def spectrogram_png(samples: NDArray[np.float32], rate: int) -> bytes:
    """A PNG file, 288 x 96 pixels, of (N,) samples at ``rate`` Hz: time to the right, frequency up, to rate / 2.

    Dark is loud: from the loudest place down to 60 dB below it. Sound shorter than a frame of 32 ms is filled up with
    silence.
    """
    from PIL import Image as Picture

    size = round(_FRAME_S * rate)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    starts = np.linspace(0, len(padded) - size, _SIZE[0]).astype(int)
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    rows = np.linspace(power.shape[1], 0, _SIZE[1] + 1).astype(int)  # the highest frequency is the top row
    bands = np.stack([power[:, low:high].mean(axis=1) for high, low in pairwise(rows.tolist())])
    level = 10 * np.log10(bands + 1e-12)
    share = np.clip(1 + (level - level.max()) / _RANGE_DB, 0, 1)
    at, colours = [tone for tone, _ in _TONES], np.array([colour for _, colour in _TONES], float)
    pixels = np.stack([np.interp(share, at, colours[:, channel]) for channel in range(3)], axis=-1)
    stream = io.BytesIO()
    Picture.fromarray(np.rint(pixels).astype(np.uint8)).quantize(64).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def small_wav(samples: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of 8 bits a sample, which every browser plays, raised to the same peak. samples: (N,) from -1 to 1."""
    peak = float(np.abs(samples).max(initial=0.0))
    values = np.rint(np.asarray(samples, np.float64) * (_LOUD / peak if peak > 0 else 0.0) * 127 + 128)
    data = values.astype(np.uint8).tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate, 1, 8)
    chunk = struct.pack("<4sI", b"data", len(data)) + data + b"\x80" * (len(data) % 2)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(chunk), b"WAVE") + form + chunk
