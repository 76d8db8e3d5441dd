"""What the first bytes of a video packet tell: whether it shows a frame, and whether other frames need it.

Nothing is decoded. Where the bytes do not tell, a packet counts as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Kind(NamedTuple):
    """Of one packet.

    shown: a frame is shown for it.
    spare: no other frame is made from it.
    entry: decoding can begin here: no frame shown from here on needs a frame before it.
    heads: a bit for each kind of header that it holds and that later packets need.
    """

    shown: bool
    spare: bool
    entry: bool
    heads: int = 0


KindOf = Callable[[bytes, bool], Kind]  # of a packet's bytes, and whether the container calls it a key frame

_I, _B = 1, 3  # picture types of MPEG-1 and MPEG-2
_VOP_I, _VOP_B = 0, 2  # of MPEG-4 part 2
_SLICE, _IDR, _SEI, _AUD, _FILLER = 1, 5, 6, 9, 12  # NAL units of H.264
_HEADS = {7, 8, 13, 15}  # sequence and picture parameter sets
_RECOVERY_POINT = 6  # an SEI message of H.264
_HEVC_CODED = range(32)  # NAL units of HEVC: slices
_HEVC_NEEDED_BY_NONE = {0, 2, 4, 6, 8}  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N: by none of their layer
_HEVC_ENTRIES = range(16, 22)  # BLA, IDR, CRA
_HEVC_BESIDE = {35, 38, 39, 40}  # access unit delimiter, filler, SEI messages
_HEVC_VPS = 32
_HEVC_HEADS = range(32, 35)  # video, sequence and picture parameter sets
_NEEDED = Kind(shown=True, spare=False, entry=False)


def kind_reader(codec: str, extradata: bytes | None) -> KindOf | None:
    """A function that tells the kind of each packet of a stream, None for codecs whose packets it cannot read.

    codec: libav's name of the codec. extradata: of the stream, as its container holds it.
    """
    head = extradata or b""
    lengths = (head[4] & 3) + 1 if codec == "h264" and len(head) > 4 and head[0] == 1 else 0
    if codec == "h264":
        return lambda data, key: _h264(nal_units(data, lengths), data, key)
    if codec == "hevc":
        boxed = len(head) > 22 and (head[0] == 1 or not head.startswith((b"\0\0\1", b"\0\0\0\1")))
        lengths = (head[21] & 3) + 1 if boxed else 0
        layers = head[21] >> 3 & 7 if boxed else _hevc_layers(head)
        return lambda data, key: _hevc(nal_units(data, lengths), data, layers)
    return {
        "mpeg1video": _mpeg12,
        "mpeg2video": _mpeg12,
        "mpeg4": _mpeg4,
        "vp8": _vp8,
        "vp9": _vp9,
        "av1": lambda data, key: _NEEDED._replace(entry=key),
    }.get(codec)


def sequence_size(codec: str, data: bytes) -> bytes | None:
    """The bytes of an MPEG-1 or MPEG-2 packet that tell the size of frames from here on, None where there are none."""
    at = data.find(b"\0\0\1\xb3") if codec in ("mpeg1video", "mpeg2video") else -1
    return data[at + 4 : at + 7] if at >= 0 else None


def nal_units(data: bytes, lengths: int) -> Iterator[tuple[int, int]]:
    """(first byte, byte behind the last one) of each unit. lengths: bytes of its length in front; 0: start codes."""
    at = 0
    if lengths:
        while at + lengths < len(data):
            begin = at + lengths
            at = begin + int.from_bytes(data[at:begin], "big")
            yield begin, at
        return
    at = data.find(b"\0\0\1")
    while at >= 0:
        begin, at = at + 3, data.find(b"\0\0\1", at + 3)
        yield begin, at if at >= 0 else len(data)


def _h264(units: Iterator[tuple[int, int]], data: bytes, key: bool) -> Kind:
    coded = idr = recovers = False
    spare, heads = True, 0
    for begin, end in units:
        if begin >= len(data):
            break
        kind = data[begin] & 31
        if kind in (_SLICE, _IDR):
            coded, idr = True, idr or kind == _IDR
            spare = spare and not data[begin] & 0x60  # nal_ref_idc
        elif kind == _SEI:
            recovers = recovers or _recovers_at_once(data[begin + 1 : end])
        elif kind not in (_AUD, _FILLER):
            spare = False
            heads |= 1 << kind if kind in _HEADS else 0
    return Kind(shown=True, spare=coded and spare, entry=coded and (idr or (key and recovers)), heads=heads)


def _recovers_at_once(messages: bytes) -> bool:
    """Whether SEI messages hold a recovery point that is the frame itself, as at the start of an open group."""
    at = 0
    while at + 2 <= len(messages):
        numbers = []
        for _ in range(2):  # the type and the size, each in bytes of 255 and a last one
            number = 0
            while at < len(messages) and messages[at] == 0xFF:
                number, at = number + 0xFF, at + 1
            if at == len(messages):
                return False
            numbers.append(number + messages[at])
            at += 1
        if numbers[0] == _RECOVERY_POINT:
            return at < len(messages) and bool(messages[at] & 0x80)  # recovery_frame_cnt, as Exp-Golomb, is 0
        at += numbers[1]
    return False


def _hevc(units: Iterator[tuple[int, int]], data: bytes, layers: int) -> Kind:
    """layers: temporal sub-layers. A frame that none of its own layer needs may be needed by higher ones."""
    coded = entry = False
    spare, heads = True, 0
    for begin, _ in units:
        if begin + 1 >= len(data):
            break
        kind, layer = data[begin] >> 1 & 63, data[begin + 1] & 7  # the latter from 1 on
        if kind in _HEVC_CODED:
            coded, entry = True, entry or kind in _HEVC_ENTRIES
            spare = spare and kind in _HEVC_NEEDED_BY_NONE and layer == layers
        elif kind not in _HEVC_BESIDE:
            spare = False
            heads |= 1 << kind if kind in _HEVC_HEADS else 0
    return Kind(shown=True, spare=coded and spare, entry=coded and entry, heads=heads)


def _hevc_layers(head: bytes) -> int:
    """Temporal sub-layers by the video parameter set in a header with start codes; 0: unknown."""
    for begin, end in nal_units(head, 0):
        if head[begin] >> 1 & 63 == _HEVC_VPS and end - begin > 3:
            return (head[begin + 3] >> 1 & 7) + 1
    return 0


def _mpeg12(data: bytes, key: bool) -> Kind:
    at = data.find(b"\0\0\1\0")
    if at < 0 or at + 5 >= len(data):
        return _NEEDED
    kind = data[at + 5] >> 3 & 7
    sequence, group = b"\0\0\1\xb3" in data[:at], b"\0\0\1\xb8" in data[:at]  # headers
    return Kind(shown=True, spare=kind == _B and not sequence and not group, entry=kind == _I, heads=int(sequence))


def _mpeg4(data: bytes, key: bool) -> Kind:
    at = data.find(b"\0\0\1\xb6")
    if at < 0 or at + 4 >= len(data):
        return _NEEDED
    kind = data[at + 4] >> 6
    several = data.find(b"\0\0\1\xb6", at + 4) >= 0
    layer = any(data[begin] & 0xF0 == 0x20 for begin, _ in nal_units(data[:at], 0) if begin < at)  # its header
    spare = kind == _VOP_B and not several and not at
    return Kind(shown=True, spare=spare, entry=kind == _VOP_I and not several, heads=int(layer))


def _vp8(data: bytes, key: bool) -> Kind:
    if not data:
        return _NEEDED
    return Kind(shown=bool(data[0] & 0x10), spare=False, entry=not data[0] & 1)


def _vp9(data: bytes, key: bool) -> Kind:
    """The last frame of a packet is the one that may be shown; the first one tells whether decoding can begin."""
    if not data:
        return _NEEDED
    sizes = _vp9_sizes(data)
    if sum(sizes) > len(data) or not sizes[-1]:
        return _NEEDED
    first, _ = _vp9_head(data[0])
    _, shown = _vp9_head(data[sum(sizes[:-1])])
    return Kind(shown=shown, spare=False, entry=key and first)


def _vp9_head(byte: int) -> tuple[bool, bool]:
    """Whether a frame's first byte tells of a key frame, and of one that is shown."""
    if byte & 0x30 == 0x30:  # profile 3 has a bit more
        again, inter, shown = byte & 4, byte & 2, byte & 1
    else:
        again, inter, shown = byte & 8, byte & 4, byte & 2
    return not again and not inter, bool(again or shown)


def _vp9_sizes(data: bytes) -> list[int]:
    """Bytes of each frame of a packet, by the index at its end where it holds several."""
    last = data[-1]
    if last & 0xE0 != 0xC0:
        return [len(data)]
    count, width = (last & 7) + 1, (last >> 3 & 3) + 1
    begin = len(data) - 2 - count * width
    if begin <= 0 or data[begin] != last:
        return [len(data)]
    return [int.from_bytes(data[begin + 1 + n * width : begin + 1 + (n + 1) * width], "little") for n in range(count)]
