"""Still images in HEIF files (HEIC, AVIF): their boxes are read here, their tiles are decoded by libav.

ISO/IEC 14496-12 (boxes of `meta`) and 23008-12 (image properties). libav itself gives the tiles one by one, as videos.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from vidperson.errors import MediaError
from vidperson.media.limits import Limits
from vidperson.media.picture import to_rgb
from vidperson.types import Image

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"avif"}  # of image sequences: left to libav
_CODECS = {
    b"hvc1": ("hevc", b"hvcC"),
    b"av01": ("libdav1d", b"av1C"),
    b"avc1": ("h264", b"avcC"),
    b"jpeg": ("mjpeg", b""),
}
_UNKNOWN, _ITU601 = 2, 6  # AVCOL_SPC_*
_LIMITED, _FULL = 1, 2  # AVCOL_RANGE_*
_BROKEN = "the HEIF image cannot be decoded"


@dataclass
class _Item:
    """kind: of the item, as hvc1 or grid. properties: (kind, content), in the order in which they are applied.

    stretches: (begin, length) of its parts in ``holder``, one after the other; length 0 reaches to the end.
    """

    kind: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)  # items that it is made of
    holder: bytes = b""
    stretches: list[tuple[int, int]] = field(default_factory=list)

    def data(self) -> tuple[bytes, bool]:
        """Its content, and whether that is all. Raises ValueError if it is more than the file holds."""
        whole, content, room = True, [], len(self.holder)
        for at, length in self.stretches:
            content.append(self.holder[at : at + length] if length else self.holder[at:])
            whole = whole and len(content[-1]) >= length
            room -= len(content[-1])
            if room < 0:
                raise ValueError("parts of a HEIF item overlap")
        return b"".join(content), whole and bool(content)


def is_heif(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a HEIF still image."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def decode_heif(data: bytes, limits: Limits) -> tuple[Image, str | None]:
    """(height, width, 3) uint8 RGB of the primary image, cropped and turned as the file says, and the damage or None.

    A tile that is lost is black. Raises MediaError with the reason if there is nothing to show, for kinds of images
    that are not known here, and for more pixels than the limits allow.
    """
    try:
        items, primary = _items(data)
        return _shown(items, primary, limits, deepest=4)
    except (struct.error, LookupError, ValueError, ArithmeticError) as error:
        raise MediaError(_BROKEN) from error


def exif_of(data: bytes) -> bytes:
    """The EXIF block of a file, as it begins with ``Exif`` or the byte order; b"" where there is none that is whole."""
    try:
        items, _ = _items(data)
        (item,) = (item for item in items.values() if item.kind == b"Exif")
        content, whole = item.data()
        (begin,) = struct.unpack_from(">I", content)  # of the byte order, behind this number: ISO/IEC 23008-12, A.2.1
    except (struct.error, LookupError, ValueError):
        return b""
    return content[4 + begin :] if whole else b""


def _shown(items: dict[int, _Item], number: int, limits: Limits, deepest: int) -> tuple[Image, str | None]:
    """An item with its properties applied. deepest: how many steps further it may be made of others."""
    item = items[number]
    if size := dict(item.properties).get(b"ispe"):
        limits.check_size(*struct.unpack_from(">II", size, 4))
    if item.kind == b"grid" and deepest:
        image, damage = _joined(items, item, limits)
    elif item.kind == b"iden" and deepest:
        image, damage = _shown(items, item.sources[0], limits, deepest - 1)
    elif item.kind in _CODECS:
        image, damage = _decoded(item, limits)
    else:
        raise MediaError(f"an image of the kind '{item.kind.decode('latin-1')}' inside a HEIF file is not supported")
    for kind, content in item.properties:
        if kind == b"clap":
            image = _cropped(image, content)
        elif kind == b"irot":
            image = np.rot90(image, content[0] & 3)
        elif kind == b"imir":
            image = image[:, ::-1] if content[0] & 1 else image[::-1]
    return np.ascontiguousarray(image), damage


def _joined(items: dict[int, _Item], item: _Item, limits: Limits) -> tuple[Image, str | None]:
    """A picture made of tiles in rows; the last ones may stick out."""
    layout, _ = item.data()
    rows, columns = layout[2] + 1, layout[3] + 1
    width, height = struct.unpack_from(">II" if layout[1] & 1 else ">HH", layout, 4)
    limits.check_size(width, height)
    if len(item.sources) != rows * columns:
        raise MediaError(_BROKEN)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    tall = wide = lost = 0
    for place, source in enumerate(item.sources):
        try:
            tile, damage = _shown(items, source, limits, deepest=0)
        except MediaError:
            if not tall and place + 1 == len(item.sources):
                raise
            lost += 1
            continue
        lost += damage is not None
        if not tall:
            tall, wide = tile.shape[:2]
            if (rows - 1) * tall >= height or (columns - 1) * wide >= width:
                raise MediaError(_BROKEN)
        y, x = place // columns * tall, place % columns * wide
        part = image[y : y + tall, x : x + wide]
        part[:] = tile[: part.shape[0], : part.shape[1]]
    return image, f"{len(item.sources) - lost} of {len(item.sources)} tiles of the image are whole" if lost else None


def _decoded(item: _Item, limits: Limits) -> tuple[Image, str | None]:
    """A coded picture in RGB."""
    codec, header = _CODECS[item.kind]
    properties = dict(item.properties)
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.options = {"max_pixels": str(limits.max_pixels)}
    if header:
        context.extradata = properties[header]
    data, whole = item.data()
    pictures, damage = [], None if whole else "the image is cut short"
    for packet in (av.Packet(data), None):
        try:
            pictures += context.decode(packet)
        except av.FFmpegError:
            damage = damage or "a part of the image is lost"
    if not pictures:
        raise MediaError(_BROKEN)
    picture = pictures[-1]  # behind those of less detail, where there are several
    if picture.is_corrupt:
        damage = damage or "a part of the image is lost"
    limits.check_size(picture.width, picture.height)
    colour = next((c for kind, c in item.properties if kind == b"colr" and c.startswith(b"nclx")), None)
    if colour:
        (picture.colorspace,) = struct.unpack_from(">H", colour, 8)
        picture.color_range = _FULL if colour[10] & 0x80 else _LIMITED
    if picture.colorspace == _UNKNOWN:
        picture.colorspace = _ITU601
    try:
        return to_rgb(picture, Fraction(1), VideoReformatter()), damage
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"no conversion to RGB from {picture.format.name}") from error


def _cropped(image: Image, clap: bytes) -> Image:
    """The clean aperture: width, height, and how far its middle is from that of the image, as fractions."""
    terms = struct.unpack_from(">IIIIiIiI", clap)
    width, height, right, down = (Fraction(n, d) for n, d in zip(terms[::2], terms[1::2], strict=True))
    x = round(right + (image.shape[1] - width) / 2)
    y = round(down + (image.shape[0] - height) / 2)
    part = image[max(y, 0) : max(y + round(height), 0), max(x, 0) : max(x + round(width), 0)]
    return part if part.size else image


def _items(data: bytes) -> tuple[dict[int, _Item], int]:
    """The items of a file by their numbers, and the number of the primary one."""
    boxes = {kind: (at, end) for kind, at, end in _boxes(data, 0, len(data)) if kind == b"meta"}
    at, end = boxes[b"meta"]
    meta = {kind: data[begin:stop] for kind, begin, stop in _boxes(data, at + 4, end)}
    items: dict[int, _Item] = {}
    _read_infos(meta[b"iinf"], items)
    _read_properties(meta[b"iprp"], items)
    if b"iref" in meta:
        _read_references(meta[b"iref"], items)
    _read_places(meta[b"iloc"], items, data, meta.get(b"idat", b""))
    (primary,) = struct.unpack_from(">I" if meta[b"pitm"][0] else ">H", meta[b"pitm"], 4)
    return items, primary


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin, end) of the contents of the boxes that stand between two places."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = end if size == 0 else min(at + size, end)
        if stop < begin:
            return
        yield kind, begin, stop
        at = stop


def _read_infos(iinf: bytes, items: dict[int, _Item]) -> None:
    for kind, at, end in _boxes(iinf, 8 if iinf[0] else 6, len(iinf)):
        if kind == b"infe" and iinf[at] >= 2:
            form = ">I2x4s" if iinf[at] > 2 else ">H2x4s"
            number, coded = struct.unpack_from(form, iinf[:end], at + 4)
            items[number] = _Item(coded)


def _read_properties(iprp: bytes, items: dict[int, _Item]) -> None:
    known = [(b"", b"")]  # they are counted from 1
    for kind, at, end in _boxes(iprp, 0, len(iprp)):
        if kind == b"ipco":
            known += [(name, iprp[begin:stop]) for name, begin, stop in _boxes(iprp, at, end)]
        elif kind == b"ipma":
            reader = _Reader(iprp, at + 4)
            for _ in range(reader.number(4)):
                item = items.get(reader.number(4 if iprp[at] else 2), _Item())
                for _ in range(reader.number(1)):
                    index = reader.number(2) & 0x7FFF if iprp[at + 3] & 1 else reader.number(1) & 0x7F
                    item.properties.append(known[index])


def _read_references(iref: bytes, items: dict[int, _Item]) -> None:
    width = 4 if iref[0] else 2
    for kind, at, _ in _boxes(iref, 4, len(iref)):
        if kind == b"dimg":
            reader = _Reader(iref, at)
            item = items.get(reader.number(width), _Item())
            item.sources = [reader.number(width) for _ in range(reader.number(2))]


def _read_places(iloc: bytes, items: dict[int, _Item], data: bytes, idat: bytes) -> None:
    version, reader = iloc[0], _Reader(iloc, 4)
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(reader.number(4 if version == 2 else 2)):
        item = items.get(reader.number(4 if version == 2 else 2), _Item())
        method = reader.number(2) & 15 if version else 0
        reader.number(2)  # the file that holds it; others are not opened
        base = reader.number(base_size)
        item.holder = (data, idat, b"")[min(method, 2)]
        for _ in range(reader.number(2)):
            reader.number(index_size if version else 0)
            at = base + reader.number(offset_size)
            item.stretches.append((at, reader.number(length_size)))


class _Reader:
    """Numbers of so many bytes each, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def number(self, size: int) -> int:
        """Raises LookupError at the end of the data."""
        self._at += size
        if self._at > len(self._data):
            raise LookupError("the data end here")
        return int.from_bytes(self._data[self._at - size : self._at], "big")
