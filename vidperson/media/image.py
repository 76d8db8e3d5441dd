"""Still images: JPEG, PNG, WebP, BMP, TIFF and HEIF (HEIC, AVIF), upright and in RGB."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import av
import cv2
import numpy as np

from vidperson.errors import MediaError
from vidperson.media.heif import decode_heif, is_heif
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.types import Box, Image

THUMB_WIDTH, THUMB_HEIGHT = 320, 1280
# On crops as small as what the default makes; written in two thirds of the time, and read in four fifths.
_PNG = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of the segments that tell the size
_JPEG_HUFFMAN = {0xC0, 0xC1, 0xC2}  # of these: those of the kinds that libav decodes
_JPEG_NOTES = {*range(0xE0, 0xF0), 0xFE}  # markers of segments that no decoder of the image needs
_JPEG_SCAN = 0xDA
_JPEG_BARE = {0x00, 0x01, *range(0xD0, 0xDA)}  # markers without a length after them
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT, _TIFF_LONG = 256, 257, 3, 4


def kind_of_image(head: bytes) -> str | None:
    """Name of the image format that the first 12 bytes of a file show, None if it is none of ours."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if is_heif(head):
        return "HEIF"
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels that the header of an image file tells; None if it does not, or is that of HEIF."""
    kind = kind_of_image(data[:12])
    try:
        if kind == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
        elif kind == "BMP":
            old = data[14] == 12
            width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
        elif kind == "WebP":
            width, height = _webp_size(data)
        elif kind == "TIFF":
            width, height = _tiff_size(data)
        elif kind == "HEIF":
            return None
        else:
            width, height = _jpeg_size(data)
    except (struct.error, LookupError, ValueError):
        return None
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            form = {_TIFF_SHORT: "H", _TIFF_LONG: "I"}[kind]
            (found[tag],) = struct.unpack_from(order + form, data, entry + 8)
    return found[_TIFF_WIDTH], found[_TIFF_HEIGHT]


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = data.index(b"\xff", 2)
    while (marker := data[at + 1]) not in _JPEG_SIZES:
        if marker == 0xFF:  # filling
            at += 1
            continue
        length = 0 if marker in _JPEG_BARE else int.from_bytes(data[at + 2 : at + 4], "big")
        at = data.index(b"\xff", at + 2 + length)
    height, width = struct.unpack_from(">HH", data, at + 5)
    return width, height


def decode_image(data: bytes, limits: Limits = USUAL_LIMITS) -> tuple[Image, str | None]:
    """(height, width, 3) uint8 RGB with the EXIF orientation applied, and the damage (None if there is none).

    A JPEG or PNG file that ends early gives the part that is there; the rest is grey or black. What follows a JPEG
    image in its file, as the film of a motion photo, is left alone.
    Raises MediaError with the reason if there is nothing to show, or more pixels than the limits allow.
    """
    kind = kind_of_image(data[:12])
    if kind == "HEIF":
        return decode_heif(data, limits)
    size = image_size(data)
    if size is None:
        raise MediaError(f"the {kind or 'image'} file cannot be decoded")
    limits.check_size(*size)
    damage = None
    if kind == "JPEG" and not _jpeg_is_whole(data):
        data, damage = data + b"\xff\xd9", "the JPEG image is cut short"
    elif kind == "PNG" and b"IEND" not in data[-4096:]:
        data, damage = _repaired_png(data), "the PNG image is cut short"
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise MediaError(f"the {kind or 'image'} file cannot be decoded")
    if kind == "JPEG" and damage is None and _jpeg_has_losses(data):
        damage = "a part of the JPEG image is lost"
    return np.ascontiguousarray(image, dtype=np.uint8), damage


def box_size(box: Box) -> tuple[int, int]:
    """(width, height) of what :func:`cut_box` cuts out."""
    x1, y1, x2, y2 = map(round, box)
    return max(x2 - x1, 1), max(y2 - y1, 1)


def cut_box(image: Image, box: Box) -> tuple[Image, float]:
    """What is in a box, black where it lies outside the image, and the share of it that does, 0..1.

    image: (height, width, 3) uint8 RGB. box: x1 y1 x2 y2 in its pixels, rounded to whole ones, at least one each way.
    A box inside the image gives a view of it. How much memory a box takes is to be checked first.
    """
    x1, y1, (width, height) = round(box[0]), round(box[1]), box_size(box)
    rows = slice(max(y1, 0), max(min(y1 + height, image.shape[0]), 0))
    columns = slice(max(x1, 0), max(min(x1 + width, image.shape[1]), 0))
    inside = image[rows, columns]
    area = inside.shape[0] * inside.shape[1]
    if area < width * height:
        whole = np.zeros((height, width, 3), np.uint8)
        if area:
            top, left = rows.start - y1, columns.start - x1
            whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        inside = whole
    return inside, 1 - area / (width * height)


def encode_png(image: Image) -> bytes:
    """A lossless file of (height, width, 3) uint8 RGB."""
    return cv2.imencode(".png", image[..., ::-1], _PNG)[1].tobytes()


def encode_jpeg(image: Image) -> bytes:
    """A small file of (height, width, 3) uint8 RGB, to look at."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def thumbnail_of(image: Image) -> tuple[Image, float]:
    """The image, ``THUMB_WIDTH`` pixels wide, or narrower where it would be too high, and the factor of its sides."""
    height, width = image.shape[:2]
    scale = min(THUMB_WIDTH / width, THUMB_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def decode_intact_image(data: bytes) -> Image:
    """Like :func:`decode_image`, for uses where half an image is worse than none: damage raises MediaError too."""
    image, damage = decode_image(data)
    if damage is not None:
        raise MediaError(damage)
    return image


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of the segments up to the first scan, which reaches to the end of the data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") if marker != _JPEG_SCAN else len(data)
        yield marker, at, end
        at = end


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the start of the scan; a thumbnail in the header has its own."""
    return any(marker == _JPEG_SCAN and data.find(b"\xff\xd9", at) > 0 for marker, at, _ in _jpeg_segments(data))


def _jpeg_has_losses(data: bytes) -> bool:
    """Whether the coded data are damaged: libjpeg shows grey there and does not tell, the decoder of libav does.

    It sees the image at an eighth of its size, without the notes in the header.
    """
    segments = [segment for segment in _jpeg_segments(data) if segment[0] not in _JPEG_NOTES]
    if _JPEG_HUFFMAN.isdisjoint(marker for marker, _, _ in segments):
        return False
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode", "lowres": "3"}
    try:
        decoder.decode(av.Packet(data[:2] + b"".join(data[at:end] for _, at, end in segments)))
    except av.error.PatchWelcomeError:  # a kind of JPEG that only libjpeg knows
        return False
    except av.FFmpegError:
        return True
    return False


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _repaired_png(data: bytes) -> bytes:
    """A whole PNG file made of the whole rows of one that ends early; the rows that are missing are black."""
    head, packed, at = [], b"", 8
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        if kind == b"IDAT":
            packed += body
        elif len(body) == size and not packed:
            head.append((kind, body))
        at += 12 + size
    if not packed or head[0][0] != b"IHDR" or len(head[0][1]) != 13:
        raise MediaError("the PNG file is cut short before its first row")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[0][1])
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) + 7) // 8
    if interlaced:
        raise MediaError("the PNG file is cut short")
    try:
        rows = zlib.decompressobj().decompress(packed, row * height)
    except zlib.error as error:
        raise MediaError("the PNG file is damaged") from error
    rows = rows[: len(rows) // row * row]
    chunks = [*head, (b"IDAT", zlib.compress(rows + bytes(row * height - len(rows)), 1)), (b"IEND", b"")]
    return data[:8] + b"".join(_png_chunk(kind, body) for kind, body in chunks)
