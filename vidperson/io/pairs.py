"""Lists of image pairs for verification: those of LFW, and plain ones of three columns."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.lines import read_lines
from vidperson.io.pictures import SUFFIXES, Pictures


@dataclass(frozen=True)
class Pairs:
    """Pairs of image keys, see :func:`picture_key`.

    is_target: (N,) bool, the same person. folds: (N,) int64, the list's own folds from 0; None where it has none.
    """

    first: list[str]
    second: list[str]
    is_target: NDArray[np.bool_]
    folds: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.first)

    def persons(self) -> list[str] | None:
        """Whose image each is, by its folder, or by itself where it is in none: the first ones, then the second.

        None where folders are not persons: a target pair is of two, or another pair of one, as in a flat folder.
        """
        persons = [os.path.dirname(key) or key for key in self.first + self.second]
        same = [one == other for one, other in zip(persons[: len(self)], persons[len(self) :], strict=True)]
        return persons if same == self.is_target.tolist() else None

    def digest(self) -> str:
        """SHA-256 of who is compared with whom and which are the same person: another list has another."""
        found = hashlib.sha256(self.is_target.tobytes())
        for pair in zip(self.first, self.second, strict=True):
            found.update(os.fsencode("{}\n{}\n".format(*pair)))
        return found.hexdigest()


def picture_key(name: str) -> str:
    """Folder and file name without an image's ending: ``lfw/Al_Gore/Al_Gore_0001.jpg`` -> ``Al_Gore/Al_Gore_0001``."""
    stem, ending = os.path.splitext("/".join(name.split("/")[-2:]))
    return stem if ending.lower() in SUFFIXES else stem + ending


def read_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Lines ``<picture> <picture> target|nontarget``, or a list in the form of LFW.

    LFW (Huang et al., technical report 07-49, 2007): the first line is ``<n>`` (View 1: n same pairs, then n different
    ones) or ``<folds> <n>`` (View 2: the same once per fold); a same pair is ``<name> <i> <j>``, a different one
    ``<name> <i> <other name> <j>``, where image i of a name is ``<name>/<name>_<i with 4 digits>``. One fold is none.
    Raises DataError for lines of another form, another count of lines, or an empty list.
    """
    lines = list(read_lines(path))
    if not lines:
        raise DataError("no pairs", path)
    head = lines[0][1].split()
    first: list[str] = []
    second: list[str] = []
    labels: list[bool] = []
    if len(head) == 3:
        for number, line in lines:
            fields = line.split()
            if len(fields) != 3 or fields[2] not in ("target", "nontarget"):
                raise DataError(f"expected '<image> <image> target|nontarget', found '{line}'", path, number)
            first.append(picture_key(fields[0]))
            second.append(picture_key(fields[1]))
            labels.append(fields[2] == "target")
        return Pairs(first, second, np.array(labels))
    if len(head) > 2 or not all(field.isdecimal() and int(field) > 0 for field in head):
        raise DataError(
            f"expected '<n>', '<folds> <n>' or '<image> <image> target|nontarget', found '{lines[0][1]}'",
            path,
            lines[0][0],
        )
    num_folds, size = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
    if len(lines) - 1 != 2 * size * num_folds:
        raise DataError(f"expected {2 * size * num_folds} pairs as the first line says, found {len(lines) - 1}", path)
    for at, (number, line) in enumerate(lines[1:]):
        fields, same = line.split(), at % (2 * size) < size
        fields = [fields[0], fields[1], fields[0], fields[2]] if same and len(fields) == 3 else fields
        if (
            len(fields) != 4
            or not (fields[1].isdecimal() and fields[3].isdecimal())
            or same != (len(line.split()) == 3)
        ):
            expected = "<name> <i> <j>" if same else "<name> <i> <other name> <j>"
            raise DataError(f"expected '{expected}', found '{line}'", path, number)
        first.append(f"{fields[0]}/{fields[0]}_{int(fields[1]):04d}")
        second.append(f"{fields[2]}/{fields[2]}_{int(fields[3]):04d}")
        labels.append(same)
    folds = np.arange(len(first)) // (2 * size) if num_folds > 1 else None
    return Pairs(first, second, np.array(labels), folds)


def find_pictures(pictures: Pictures, keys: list[str]) -> NDArray[np.int64]:
    """The (N,) numbers in ``pictures`` of N keys of :func:`picture_key`.

    Raises DataError for a key without an image or with several.
    """
    wanted = set(keys)
    found: dict[str, int] = {}
    for index, name in enumerate(pictures.names):
        key = picture_key(name)
        if key in wanted:
            if key in found:
                raise DataError(f"'{key}' may be {pictures.names[found[key]]} or {name}", pictures.source)
            found[key] = index
    missing = sorted(wanted - found.keys())
    if missing:
        raise DataError(f"{len(missing)} of {len(wanted)} images are missing, first '{missing[0]}'", pictures.source)
    return np.array([found[key] for key in keys], dtype=np.int64)
