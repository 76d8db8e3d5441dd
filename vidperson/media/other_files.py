"""What a file is that is neither a video nor an image, or no sound: people have all kinds of files in their folders."""

from __future__ import annotations

import os
import stat

from vidperson.errors import MediaError

HEAD_BYTES = 4096
LIST = "list of other files"  # such kinds end so
PICTURES, SOUND = "a video or image", "a sound file or video"  # what is wanted of a file
_SOUND_KIND = "a sound file"  # such kinds begin so
_SIGNATURES = (
    (0, b"%PDF-", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b\x08", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an XZ archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (0, b"\x7fELF", "a program"),
    (8, b"WAVE", "a sound file (WAV)"),
    (8, b"AIFF", "a sound file (AIFF)"),
    (8, b"AIFC", "a sound file (AIFF)"),
    (0, b"fLaC", "a sound file (FLAC)"),
    (0, b"ID3", "a sound file (MP3)"),
    (4, b"ftypM4A", "a sound file (M4A)"),
    (4, b"ftypM4B", "a sound file (M4B)"),
    (0, b".snd", "a sound file (AU)"),
    (0, b"#!AMR", "a sound file (AMR)"),
    (0, b"MThd", "a sound file (MIDI)"),
)
_TEXTS = (  # what a text begins with, in small letters, or holds near its beginning
    ("#extm3u", f"an HLS {LIST}"),
    ("ffconcat", f"an ffconcat {LIST}"),
    ("<!doctype html", "an HTML page"),
    ("<html", "an HTML page"),
    ("<mpd", f"a DASH {LIST}"),
    ("<smoothstreamingmedia", f"a Smooth Streaming {LIST}"),
    ("<svg", "an SVG drawing"),
    ("<?xml", "an XML file"),
)
_DASH = "urn:mpeg:dash:schema:mpd"  # whatever its elements are called
_MARKUP = "<"  # in texts that begin so, the first element may follow declarations and comments
_SOUND_FORMATS = {
    "mp3": "MP3",
    "ogg": "Ogg",
    "aac": "AAC",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "caf": "CAF",
    "w64": "Wave64",
}
_SOUND_FORMATS |= {"wv": "WavPack", "ape": "Monkey's Audio", "tta": "TTA", "dts": "DTS", "mpc8": "Musepack"}
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b") | {127}
_MIN_ASCII = 0.7  # share of a text in an encoding that is not known


def refusal(kind: str, wanted: str = PICTURES) -> str:
    """The reason for which a file is refused. wanted: ``PICTURES`` or ``SOUND``."""
    return f"this is {kind}, not {wanted}"


def why_no_picture(container_format: str) -> str:
    """Of a file with sound, but without a video (a cover is none). container_format: its name in libav."""
    name = _SOUND_FORMATS.get(container_format)
    return refusal(f"a sound file ({name})") if name else "the file has no video stream, only sound"


def why_other(path: str | os.PathLike[str], wanted: str = PICTURES) -> str | None:
    """:func:`refusal` of a file that is known to be something else; None if it may be a broken one that is wanted."""
    try:
        with open(path, "rb") as file:
            kind = other_kind(file.read(HEAD_BYTES))
    except OSError:
        return None
    if kind is None or (wanted == SOUND and kind.startswith(_SOUND_KIND)):
        return None
    return refusal(kind, wanted)


def read_head(path: str | os.PathLike[str], wanted: str = PICTURES) -> bytes:
    """The first bytes of a file. Raises MediaError if there are none, or it is a list of other files."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MediaError("not a regular file")
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be opened").lower()) from error
    except ValueError as error:
        raise MediaError("not a file name") from error
    if not head:
        raise MediaError("the file is empty")
    kind = other_kind(head)
    if kind and kind.endswith(LIST):  # libav would open what it names before it says what it is
        raise MediaError(refusal(kind, wanted))
    return head


def other_kind(head: bytes) -> str | None:
    """What a file is by its first ``HEAD_BYTES``, with an article; None if it is nothing that is known here."""
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    text = _as_text(head)
    if text is None:
        return None
    text = text.lstrip("\ufeff \t\r\n").lower()
    if text.startswith(_MARKUP) and _DASH in text:
        return f"a DASH {LIST}"
    for word, kind in _TEXTS:
        if text.startswith(word) or (text.startswith(_MARKUP) and word.startswith("<") and word in text):
            return kind
    return "a text file"


def _as_text(head: bytes) -> str | None:
    """The bytes as text, None where they are none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    if not head or not _CONTROLS.isdisjoint(head):
        return None
    ascii_share = sum(byte < 128 for byte in head) / len(head)
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # cut within a letter
            return head[: error.start].decode()
    return head.decode("latin-1") if ascii_share >= _MIN_ASCII else None
