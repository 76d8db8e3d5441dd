"""When a photo or a video was taken, as its file says.

In photos EXIF (JEITA CP-3451): tags DateTimeOriginal, OffsetTimeOriginal and SubSecTimeOriginal, or DateTime where the
first is missing. In videos the QuickTime entry `creationdate`, which has a time zone, or the time in the header of MP4
and Matroska files.
"""

from __future__ import annotations

import os
import re
import warnings
from datetime import datetime
from typing import Any

import PIL.Image

from vidperson.errors import MediaError
from vidperson.media.decoder import open_container
from vidperson.media.heif import exif_of
from vidperson.media.image import kind_of_image
from vidperson.media.other_files import read_head

_EXIF_IFD, _TAKEN, _CHANGED, _ZONE, _FRACTION = 0x8769, 0x9003, 0x0132, 0x9011, 0x9291
_IN_VIDEOS = ("com.apple.quicktime.creationdate", "creation_time", "date")
_FIRST_YEAR = 1980  # clocks that were never set are of 1904 or 1970


def taken_at(path: str | os.PathLike[str]) -> str:
    """ISO 8601 to the millisecond, such as ``2024-05-01T10:20:30.250+02:00``, without a zone where none is told.

    "" where the file does not say, cannot be read, or says what is no time; so it is for a folder of images.
    """
    try:
        if os.path.isdir(path):
            return ""
        kind = kind_of_image(read_head(path))
        return _of_photo(path, kind) if kind else _of_video(path)
    except (MediaError, OSError):
        return ""


def _of_photo(path: str | os.PathLike[str], kind: str) -> str:
    try:
        if kind == "HEIF":
            with open(path, "rb") as file:
                exif = PIL.Image.Exif()
                exif.load(exif_of(file.read()))
                words = _words(exif)
        else:
            # Pillow warns of large images; nothing but the header is read.
            with warnings.catch_warnings(action="ignore"), PIL.Image.open(path) as image:
                words = _words(image.getexif())
    except Exception:  # Pillow raises whatever a damaged header leads it to
        return ""
    when, fraction, zone = (str(word or "").strip("\0 ") for word in words)
    day, _, clock = when.partition(" ")
    fraction = f".{fraction}" if re.fullmatch(r"\d+", fraction) else ""
    zone = zone if re.fullmatch(r"[+-]\d\d:\d\d", zone) else ""
    return _as_written(f"{day.replace(':', '-')}T{clock}{fraction[:7]}{zone}")


def _words(exif: PIL.Image.Exif) -> list[Any]:
    """When it was taken, the fraction of the second, and the time zone."""
    fields = exif.get_ifd(_EXIF_IFD)
    return [fields.get(_TAKEN) or exif.get(_CHANGED), fields.get(_FRACTION), fields.get(_ZONE)]


def _of_video(path: str | os.PathLike[str]) -> str:
    with open_container(path) as container:
        found = (container.metadata.get(name, "") for name in _IN_VIDEOS)
        return next(filter(None, map(_as_written, found)), "")


def _as_written(text: str) -> str:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return when.isoformat(timespec="milliseconds") if when.year >= _FIRST_YEAR else ""
