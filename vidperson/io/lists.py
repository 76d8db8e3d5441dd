"""Kaldi text lists: scp, utt2spk, spk2utt, trials, labelled boxes, statuses.

Every reader refuses what it cannot read with the file and line; keys are unique; order is that of the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write

PathLike = str | os.PathLike[str]


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Non-empty lines with their 1-based numbers, line ends removed.

    Raises DataError when the file is missing, is not UTF-8, or has Windows line ends.
    """
    if not Path(path).is_file():
        raise DataError("no such file", path)
    with open(path, "rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode().rstrip("\n")
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 text: {error.reason}", path, number) from None
            if line.endswith("\r"):
                raise DataError(f"Windows line end (CRLF); run: sed -i 's/\\r$//' '{os.fspath(path)}'", path, number)
            if line.strip():
                yield number, line


def check_id(name: str, what: str, path: PathLike, line: int) -> str:
    """Refuse an id that could leave the output folder or break a list.

    Raises DataError for control characters, a leading ``/``, or a ``.``/``..`` path component.
    """
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise DataError(f"{what} {name!r} has a control character; rename it", path, line)
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(f"{what} '{name}' would leave the output folder; rename it", path, line)
    return name


def read_scp(path: PathLike) -> dict[str, str]:
    """``<key> <rest of line>`` to a dict; the rest may hold spaces (paths)."""
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not key or not value.strip():
            raise DataError(f"expected '<id> <value>', found '{line}'", path, number)
        check_id(key, "id", path, number)
        if key in table:
            raise DataError(f"'{key}' appears twice", path, number)
        table[key] = value.strip()
    return table


def read_spk2utt(path: PathLike) -> dict[str, list[str]]:
    """``<model> <segment> <segment> ...`` to model -> segments."""
    return {model: rest.split() for model, rest in read_scp(path).items()}


@dataclass(frozen=True)
class Trials:
    """Pairs to score. ``is_target`` is None where the list has no key."""

    models: list[str]
    segments: list[str]
    is_target: list[bool] | None

    def __len__(self) -> int:
        return len(self.models)


def read_trials(path: PathLike) -> Trials:
    """``<model> <segment> [target|nontarget]``; either every line has the key or none has.

    Raises DataError for other column counts, other labels, a pair given twice, or an empty list.
    """
    models: list[str] = []
    segments: list[str] = []
    labels: list[bool] = []
    seen: set[tuple[str, str]] = set()
    columns = 0
    for number, line in read_lines(path):
        fields = line.split()
        columns = columns or len(fields)
        if len(fields) not in (2, 3) or len(fields) != columns:
            raise DataError(
                f"expected '<model> <segment>{' target|nontarget' if columns == 3 else ''}', found '{line}'",
                path,
                number,
            )
        if (fields[0], fields[1]) in seen:
            raise DataError(f"trial '{fields[0]} {fields[1]}' appears twice", path, number)
        seen.add((fields[0], fields[1]))
        models.append(fields[0])
        segments.append(fields[1])
        if columns == 3:
            if fields[2] not in ("target", "nontarget"):
                raise DataError(f"expected 'target' or 'nontarget', found '{fields[2]}'", path, number)
            labels.append(fields[2] == "target")
    if not models:
        raise DataError("no trials", path)
    return Trials(models, segments, labels if columns == 3 else None)


@dataclass(frozen=True)
class LabelledBox:
    """Where the person to enrol is: at ``position`` (frame number or seconds), x1 y1 x2 y2 in pixels."""

    position: float
    box: tuple[float, float, float, float]


def read_boxes(path: PathLike) -> dict[str, list[LabelledBox]]:
    """``face_boundingbox`` to segment -> labels, in order of position."""
    table: dict[str, list[LabelledBox]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise DataError(
                f"expected '<segment> <frame or seconds> <x1> <y1> <x2> <y2>', found '{line}'", path, number
            )
        try:
            position, x1, y1, x2, y2 = (float(f) for f in fields[1:])
        except ValueError:
            raise DataError(f"expected five numbers after the segment, found '{line}'", path, number) from None
        if not all(map(math.isfinite, (position, x1, y1, x2, y2))) or position < 0 or x2 <= x1 or y2 <= y1:
            raise DataError(f"expected position >= 0, x1 < x2 and y1 < y2, found '{line}'", path, number)
        table.setdefault(fields[0], []).append(LabelledBox(position, (x1, y1, x2, y2)))
    return {segment: sorted(labels, key=lambda label: label.position) for segment, labels in table.items()}


def read_scores(path: PathLike) -> dict[tuple[str, str], float]:
    """``<model> <segment> <score>`` to (model, segment) -> score.

    Raises DataError for a malformed line, a score that is not finite, or a pair given twice.
    """
    table: dict[tuple[str, str], float] = {}
    for number, line in read_lines(path):
        fields = line.split()
        try:
            model, segment, value = fields[0], fields[1], float(fields[2])
        except (IndexError, ValueError):
            value = math.nan
        if len(fields) != 3 or not math.isfinite(value):
            raise DataError(f"expected '<model> <segment> <finite score>', found '{line}'", path, number)
        if (model, segment) in table:
            raise DataError(f"score of '{model} {segment}' appears twice", path, number)
        table[model, segment] = value
    return table


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Write a list whole or not at all."""
    with atomic_write(path) as stream:
        stream.writelines(line + "\n" for line in lines)


def sort_key(line: str) -> bytes:
    """The key of the C locale: bytes of the UTF-8 text."""
    return line.encode()
