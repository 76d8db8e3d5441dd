"""Photos with faces in them, marked or not: to train a detector on, or to measure one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.face.annotations import FaceMarks
from vidperson.io.pictures import Pictures, list_pictures
from vidperson.types import Image

Decoder = Callable[[bytes], Image]


@dataclass(frozen=True)
class PhotoSet:
    """Photos in several sources. source, number: (N,) the photo's source and its number there.

    marks: the marked faces of each photo, None where photos are not marked.
    """

    sources: list[Pictures]
    source: NDArray[np.int64]
    number: NDArray[np.int64]
    marks: list[FaceMarks] | None

    def __len__(self) -> int:
        return len(self.number)

    def read(self, item: int, decode: Decoder) -> Image:
        """(H, W, 3) uint8 RGB. Raises OSError where it is gone, MediaError where it cannot be used."""
        source, number = self.sources[self.source[item]], int(self.number[item])
        try:
            return decode(source.read(number))
        except MediaError as error:
            raise MediaError(f"{source.where(number)}: {error}") from None

    def name(self, item: int) -> str:
        """The photo's name in its source."""
        return self.sources[self.source[item]].names[self.number[item]]

    def in_words(self) -> str:
        """How many they are, and the names of their sources."""
        return f"{len(self)} photos ({' '.join(Path(each.source).name for each in self.sources)})"

    def digest(self) -> str:
        """SHA-256 of the photos' names and of what is marked in them: other photos of the same number have another."""
        found = hashlib.sha256()
        for item in range(len(self)):
            found.update(os.fsencode(self.name(item)) + b"\n")
            if self.marks is not None:
                found.update(self.marks[item].boxes.tobytes() + self.marks[item].landmarks.tobytes())
        return found.hexdigest()

    def pick(self, items: Sequence[int]) -> PhotoSet:
        """Only these photos."""
        marks = None if self.marks is None else [self.marks[item] for item in items]
        return PhotoSet(self.sources, self.source[list(items)], self.number[list(items)], marks)


def read_photos(sources: Sequence[str], marks: Mapping[str, FaceMarks] | None = None) -> PhotoSet:
    """The photos of folders and tar archives; with ``marks``, only the marked ones, found by their names.

    Raises DataError for a source that is missing or broken, and for a marked photo that is in none or in several.
    """
    if not sources:
        raise DataError("no training data is named")
    opened = [list_pictures(source) for source in sources]
    places = [(at, number) for at, pictures in enumerate(opened) for number in range(len(pictures))]
    found: list[FaceMarks] | None = None
    if marks is not None:
        where: dict[str, list[tuple[int, int]]] = {}
        for at, number in places:
            where.setdefault(opened[at].names[number], []).append((at, number))
        wrong = [name for name in marks if len(where.get(name, [])) != 1]
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(marks)} marked photos are not in exactly one of {' '.join(sources)}, "
                f"first: {wrong[0]}"
            )
        places, found = [where[name][0] for name in marks], list(marks.values())
    if not places:
        raise DataError(f"no photo to train on in {' '.join(sources)}")
    return PhotoSet(
        opened,
        np.array([at for at, _ in places], np.int64),
        np.array([number for _, number in places], np.int64),
        found,
    )
