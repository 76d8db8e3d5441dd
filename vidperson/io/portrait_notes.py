"""``<test set>_notes.jsonl`` of stage 4: what the user should know of the portraits, a note a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from vidperson.answers import PortraitNote
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import PathLike, read_lines


def notes_path(answers: PathLike) -> Path:
    """Where the notes are that go with a list of answers, ``<test set>_who.jsonl``."""
    path = Path(answers)
    return path.with_name(f"{path.name.removesuffix('_who.jsonl')}_notes.jsonl")


def write_notes(path: PathLike, notes: Iterable[PortraitNote]) -> None:
    """Write a list, whole or not at all."""
    with atomic_write(path, "wb") as stream:
        for note in notes:
            stream.write(orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))


def read_notes(path: PathLike) -> list[PortraitNote]:
    """The notes of a list. Raises DataError, naming the line, for what is none."""
    found = []
    for number, line in read_lines(path):
        try:
            found.append(PortraitNote(**orjson.loads(line)))
        except (ValueError, TypeError):
            message = f"expected a note on a portrait, found '{line[:80]}'; run stage 4 again"
            raise DataError(message, path, number) from None
    return found
