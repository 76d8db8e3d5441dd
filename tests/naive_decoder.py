"""Oracles for the frame reader: decode everything and pick by the plain formula; videos made for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

BLOCK = 16
BITS = 10


def decode_all(path: Path) -> tuple[list[Fraction], list[av.VideoFrame], Fraction]:
    """Times in seconds since the first frame, frames, and the mean rate of the first video stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [(f.pts - frames[0].pts) * stream.time_base for f in frames]
        return times, frames, Fraction(stream.average_rate)


def pick_constant(n: int, rate: Fraction, fps: float) -> list[int]:
    """Frames round(k rate / fps) of n."""
    step = rate / Fraction(str(fps))
    indices = {round(k * step) for k in range(int(n / step) + 3)}
    return sorted(i for i in indices if i < n)


def pick_nearest(times: Sequence[Fraction], rate: Fraction, fps: float) -> list[int]:
    """Frames nearest to k / fps, up to half a mean frame past the last one; halfway goes to the earlier."""
    wanted = Fraction(str(fps))
    last = int((times[-1] + 1 / (2 * rate)) * wanted)
    return sorted({nearest(times, k / wanted) for k in range(last + 1)})


def nearest(times: Sequence[Fraction], time: Fraction) -> int:
    return min(range(len(times)), key=lambda i: (abs(times[i] - time), i))


def pick_windows(
    n: int, centres: Sequence[int], window: int, positions: Sequence[float] | None = None
) -> list[tuple[int, int]]:
    """(frame, label) of all frames within half a window of an existing centre, each with its nearest label.

    Of labels equally near the one at the earlier position counts.
    """
    there = [(c, (positions or centres)[label], label) for label, c in enumerate(centres) if c < n]
    picked = []
    for i in range(n):
        near = sorted((abs(c - i), c, at, label) for c, at, label in there if abs(c - i) <= window // 2)
        if near:
            picked.append((i, near[0][-1]))
    return picked


def numbered(number: int, width: int = 2 * BLOCK * BITS, height: int = 48) -> NDArray[np.uint8]:
    """A grey picture with ``number`` written as black and white blocks in its top left corner."""
    image = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if number >> bit & 1 else 0
    return image


def read_number(image: NDArray[np.uint8]) -> int:
    blocks = image[BLOCK // 2, BLOCK // 2 : BLOCK * BITS : BLOCK].mean(axis=1)
    return sum(1 << bit for bit, value in enumerate(blocks) if value > 128)


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    gop: int = 12,
    aspect: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    colour: tuple[int, int] | None = None,
) -> Path:
    """Encodes RGB pictures; ``stamps`` in 1/1000 s make the rate variable, ``colour`` is (matrix, range)."""
    with av.open(str(path), "w", format=container_format, container_options=container_options or {}) as container:
        stream: Any = None
        for i, image in enumerate(images):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options or {})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.gop_size = gop
                if stamps is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if matrix is not None:
                    stream.set_display_matrix(matrix)
                if colour is not None:
                    stream.codec_context.colorspace, stream.codec_context.color_range = colour
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if colour is None:
                frame = frame.reformat(format=pix_fmt)
            else:
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace={1: "ITU709"}.get(colour[0], "ITU601"),
                    dst_color_range=colour[1],
                )
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
