"""HEIC files written box by box, of images coded without loss: what they show is known to the bit."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray

Property = tuple[bytes, bytes]


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def coded(image: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """(hvcC, data) of an RGB image as HEVC without loss."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        options = {"x265-params": "lossless=1:bframes=0:log-level=none"}
        video = container.add_stream("libx265", rate=1, options=options)
        video.height, video.width, video.pix_fmt = *image.shape[:2], "gbrp"
        container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="gbrp")))
        container.mux(video.encode())
    stream.seek(0)
    with av.open(stream) as container:
        video = container.streams.video[0]
        (packet,) = (bytes(packet) for packet in container.demux(video) if packet.size)
        return bytes(video.codec_context.extradata or b""), packet


def size_of(image: NDArray[np.uint8]) -> Property:
    return b"ispe", struct.pack(">III", 0, image.shape[1], image.shape[0])


def heic(
    tiles: Sequence[NDArray[np.uint8]],
    rows: int = 1,
    size: tuple[int, int] | None = None,
    turns: Sequence[Property] = (),
    kind: bytes = b"grid",
    in_idat: bool = True,
    repeats: int = 1,
) -> bytes:
    """A HEIC file: of one tile that is the image, or of a grid where its ``size`` = (height, width) is given.

    turns: properties of the primary image, in their order. kind: of the item that is made of the tiles.
    in_idat: whether the description of the grid stands in the header. repeats: how often the coded data of an item are
    named as its parts.
    """
    parts = [coded(tile) for tile in tiles]
    grid = b""
    if size:
        grid = struct.pack(">BBBBHH", 0, 0, rows - 1, len(tiles) // rows - 1, size[1], size[0])
    known: list[Property] = []
    used: list[list[int]] = []
    for tile, (header, _) in zip(tiles, parts, strict=True):
        known += [(b"hvcC", header), size_of(tile)]
        used.append([len(known) - 1, len(known)])
    if size:
        known.append((b"ispe", struct.pack(">III", 0, size[1], size[0])))
        used.append([len(known)])
    for turn in turns:
        known.append(turn)
        used[-1].append(len(known))
    kinds = [b"hvc1"] * len(tiles) + [kind] * bool(size)
    numbers = list(range(1, len(kinds) + 1))

    def whole(begin: int) -> bytes:
        """The file if its coded data begin there."""
        places, at = [], begin
        for part in [data for _, data in parts] + [grid] * bool(size):
            inside = in_idat and part is grid
            places.append((1 if inside else 0, 0 if inside else at, len(part)))
            at += len(part)
        infos = [
            full(b"infe", struct.pack(">HH4s", n, 0, k), b"\0", version=2) for n, k in zip(numbers, kinds, strict=True)
        ]
        iloc = struct.pack(">HH", 0x4400, len(places)) + b"".join(
            struct.pack(">HHHH", n, method, 0, repeats) + struct.pack(">II", offset, length) * repeats
            for n, (method, offset, length) in zip(numbers, places, strict=True)
        )
        ipma = struct.pack(">I", len(used)) + b"".join(
            struct.pack(">HB", n, len(u)) + bytes(u) for n, u in zip(numbers, used, strict=True)
        )
        references = struct.pack(">HH", numbers[-1], len(tiles)) + struct.pack(
            f">{len(tiles)}H", *numbers[: len(tiles)]
        )
        meta = full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", numbers[-1])),
            full(b"iloc", iloc, version=1),
            full(b"iinf", struct.pack(">H", len(infos)), *infos),
            full(b"iref", box(b"dimg", references)) if size else b"",
            box(b"iprp", box(b"ipco", *(box(name, body) for name, body in known)), full(b"ipma", ipma)),
            box(b"idat", grid),
        )
        data = b"".join(data for _, data in parts) + grid
        return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta + box(b"mdat", data)

    return whole(whole(0).index(b"mdat") + 4)
