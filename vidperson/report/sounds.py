"""Sounds made fit for the report."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_LOUD = 0.9


def small_wav(samples: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of 8 bits a sample, which every browser plays, raised to the same peak. samples: (N,) from -1 to 1."""
    peak = float(np.abs(samples).max(initial=0.0))
    values = np.rint(np.asarray(samples, np.float64) * (_LOUD / peak if peak > 0 else 0.0) * 127 + 128)
    data = values.astype(np.uint8).tobytes()
    data += b"\x80" * (len(data) % 2)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate, 1, 8)
    return (
        struct.pack("<4sI4s", b"RIFF", 4 + len(form) + 8 + len(data), b"WAVE")
        + form
        + struct.pack("<4sI", b"data", len(data))
        + data
    )
