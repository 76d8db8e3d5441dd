"""A folder of images as a video: its images in natural order, one second apart."""

from __future__ import annotations

import logging
import os
import re
from fractions import Fraction

from vidperson.errors import MediaError
from vidperson.media.limits import Limits
from vidperson.media.sampling import Clock
from vidperson.types import IMAGE_SUFFIXES

OF_IMAGES = "a second per image"
CLOCK = Clock(Fraction(1), constant=True)
_DIGITS = re.compile(r"(\d+)", re.ASCII)


def natural_key(name: str) -> tuple[list[tuple[int, bytes]], bytes]:
    """The order in which people count: `2.jpg` before `10.jpg`. Equal numbers are ordered by bytes."""
    parts = [(int(part), b"") if place % 2 else (-1, os.fsencode(part)) for place, part in _numbered(name)]
    return parts, os.fsencode(name)


def _numbered(name: str) -> list[tuple[int, str]]:
    """Text and numbers in turn. Numbers that are longer than any counter are text."""
    parts = _DIGITS.split(name)
    return [(place if len(part) < 1000 else 0, part) for place, part in enumerate(parts)]


class ImageFolder:
    """The images of a folder, not of those below it. Hidden files, and files with other extensions, are passed over.

    names: in natural order. others: how many files and folders were passed over.
    Raises MediaError where there is no image, or so many that they last longer than the limits allow.
    """

    def __init__(self, path: str | os.PathLike[str], limits: Limits) -> None:
        self.path = path
        names, self.others = _listed(path)
        if not names:
            beside = f"; {self.others} other files" if self.others else ""
            raise MediaError(f"a folder without an image ({' '.join(IMAGE_SUFFIXES)}){beside}")
        limits.check_duration(len(names), OF_IMAGES)
        self.names = sorted(names, key=natural_key)
        if self.others:
            logging.info("%s: %d files that are no images are passed over", os.fspath(path), self.others)

    def __len__(self) -> int:
        return len(self.names)

    def where(self, place: int) -> str:
        """The path of an image."""
        return os.path.join(self.path, self.names[place])


def _listed(path: str | os.PathLike[str]) -> tuple[list[str], int]:
    names, others = [], 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower().endswith(IMAGE_SUFFIXES) and _is_file(entry):
                    names.append(entry.name)
                else:
                    others += 1
    except OSError as error:
        raise MediaError((error.strerror or "the folder cannot be read").lower()) from error
    return names, others


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


class Losses:
    """Counts images of a folder that are damaged."""

    def __init__(self) -> None:
        self._count, self._first = 0, ""

    def note(self, name: str, why: str) -> None:
        """One of them."""
        self._first = self._first or f"{name}: {why}"
        self._count += 1

    def damage(self, wanted: int) -> str | None:
        """What was lost of so many; None if nothing was."""
        return f"{self._count} of {wanted} images are damaged, first {self._first}" if self._count else None
