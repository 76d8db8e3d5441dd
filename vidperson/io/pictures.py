"""Many images in folders and tar archives: what is where is listed once, the bytes are read when they are wanted."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Pictures:
    """The images of one folder or tar archive, in C-locale order of their names.

    names: N paths below the folder or inside the archive, ``/`` between their parts.
    offsets, sizes: (N,) int64 bytes in the archive; size -1 in a folder, where each image is a file of its own.
    """

    source: str
    names: list[str]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The encoded bytes of one image. Raises OSError where they are not there any more."""
        if self.sizes[index] < 0:
            return Path(self.source, self.names[index]).read_bytes()
        with open(self.source, "rb", buffering=0) as archive:  # opened each time: there may be more than can be open
            return os.pread(archive.fileno(), int(self.sizes[index]), int(self.offsets[index]))

    def place(self, index: int) -> tuple[str, int, int]:
        """The file that holds an image, and offset and size of the image in it; size -1: all of the file."""
        if self.sizes[index] < 0:
            return os.path.join(self.source, self.names[index]), 0, -1
        return self.source, int(self.offsets[index]), int(self.sizes[index])

    def where(self, index: int) -> str:
        """The image's place for a message."""
        return f"{self.source}:{self.names[index]}" if self.sizes[index] >= 0 else f"{self.source}/{self.names[index]}"


def held_out(count: int, wanted: int, what: str, which: str = "") -> tuple[list[int], list[int]]:
    """0..count-1 as those to learn from and ``wanted`` others, spread evenly. what: they are, for the message. which:
    of these are counted.

    Raises DataError where none would be left.
    """
    if not 0 <= wanted < max(count, 1):
        raise DataError(f"{wanted} {what} cannot be held out of {count}{which}; one at least is left to learn from")
    kept = sorted({index * count // wanted for index in range(wanted)}) if wanted else []
    out = set(kept)
    return [index for index in range(count) if index not in out], kept


def list_pictures(
    source: str | os.PathLike[str], suffixes: tuple[str, ...] = SUFFIXES, what: str = "image"
) -> Pictures:
    """The images in a folder, at any depth, or in an uncompressed tar archive; other files are passed over.

    suffixes: what the names of images end in, lower case. what: they are, for messages, where they are something else.
    As when it is unpacked, a hard link in an archive is the file that it names, and of files of one name the last one
    counts. Raises DataError for a source that is neither, an archive that is damaged or lacks a hard link's file, or
    one without any image.
    """
    path = os.fspath(source)
    if os.path.isdir(path):
        entries = [(inside + name, 0, -1) for inside, _, files in walk_folder(path) for name in files]
    elif os.path.isfile(path):
        try:
            with tarfile.open(path, "r:", encoding="utf-8") as archive:
                places = _places(archive, path, suffixes)
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
            raise DataError(f"not an uncompressed tar archive ({error})", path) from None
        entries = [(name, *place) for name, place in places.items()]
    else:
        raise DataError(f"no such folder or tar archive of {what}s", path)
    entries = sorted(
        (entry for entry in entries if entry[0].lower().endswith(suffixes)), key=lambda e: os.fsencode(e[0])
    )
    if not entries:
        raise DataError(f"no {what} ({' '.join(suffixes)}) in it", path)
    names, offsets, sizes = zip(*entries, strict=True)
    return Pictures(path, list(names), np.array(offsets, np.int64), np.array(sizes, np.int64))


def _places(archive: tarfile.TarFile, path: str, suffixes: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Offset and size of each file in an archive, by its name."""
    places: dict[str, tuple[int, int]] = {}
    for member in archive:
        name = posixpath.normpath(member.name)  # `tar -c .` writes ./<name>
        if member.isfile():
            places[name] = member.offset_data, member.size
        elif member.islnk():
            file = posixpath.normpath(member.linkname)
            if file in places:
                places[name] = places[file]
            elif name.lower().endswith(suffixes):
                raise DataError(
                    f"'{name}' is a hard link to '{file}', which is not before it in the archive; pack both", path
                )
    return places


def walk_folder(
    folder: str, inside: str = "", above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and all below it: where it is, below ``inside`` ("" or ending in "/"), its folders and its files.

    Links are followed, except to a folder on the way here (``above``).
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    names = os.listdir(folder)
    below = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    yield inside, below, sorted(set(names).difference(below))
    for name in below:
        yield from walk_folder(os.path.join(folder, name), f"{inside}{name}/", above | {real})
