"""Official tables (TSV, CSV) with a header line, read by column name."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.lines import check_id

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Column:
    """A column to look for.

    spellings: names accepted in the header, best first; only their letters and digits count, in any case.
    optional: a table without the column is fine, its values are then "".
    fallback: 1-based position to read when no spelling is in the header, for a column whose position is
        published but whose name is not; every non-empty value there must match ``matches`` entirely.
    matches: regular expression.
    """

    spellings: tuple[str, ...]
    optional: bool = False
    fallback: int = 0
    matches: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a table: its 1-based number and its values, by the caller's column names or as they stand.

    header, cells: the names and the values of all columns, in order of the file.
    places: the caller's name of a column -> its index in ``cells``, None where it is not there.
    """

    path: Path
    line: int
    header: Sequence[str]
    cells: Sequence[str]
    places: Mapping[str, int | None]

    def __getitem__(self, column: str) -> str:
        """The value of a column; DataError when it is empty."""
        value = self.get(column)
        if not value:
            raise self.error(f"column '{column}' is empty")
        return value

    def get(self, column: str) -> str:
        """The value of a column, "" when it is empty or absent."""
        at = self.places[column]
        return "" if at is None else self.cells[at]

    def number(self, column: str) -> float:
        """The value of a column as a finite number; DataError for anything else."""
        if not re.fullmatch(NUMBER, self[column]) or not math.isfinite(float(self[column])):
            raise self.error(f"column '{column}': expected a number, found '{self[column]}'")
        return float(self[column])

    def id(self, column: str) -> str:
        """The value of a column as an id; DataError for blanks or what could leave the output folder."""
        value = self[column]
        if re.search(r"\s", value):
            raise self.error(f"column '{column}': an id has no blanks, found '{value}'")
        return check_id(value, column, self.path, self.line)

    def error(self, message: str) -> DataError:
        """The message with this file and line in front."""
        return DataError(message, self.path, self.line)


NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


def read_table(path: PathLike, columns: Mapping[str, Column]) -> list[Row]:
    """The rows of a table with a header line, in order of the file; empty lines are skipped.

    The separator is what the header uses: tabs, else commas (with double quotes), else blanks. Windows line
    ends and a byte order mark are accepted, as official lists are not to be edited. Short lines are filled up
    with "".

    Raises DataError for a missing file, no header, a column that is missing or there twice, or a line that is
    too long.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}", path) from None
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError("empty file: expected a header line", path)
    separator = next((s for s in "\t," if s in lines[0][1]), None)
    cells = []
    for number, line in lines:
        try:
            cells.append((number, _split(line.rstrip("\r"), separator)))
        except csv.Error as error:
            raise DataError(f"not a line of a table: {error}", path, number) from None
    header, body = cells[0][1], cells[1:]
    for number, values in body:
        if any(values[len(header) :]):
            message = f"expected {len(header)} columns as in the header, found {len(values)}"
            raise DataError(message, path, number)
        values.extend([""] * (len(header) - len(values)))
    places = {name: _find(column, header, body, path) for name, column in columns.items()}
    return [Row(path, number, header, values, places) for number, values in body]


def _split(line: str, separator: str | None) -> list[str]:
    fields = next(csv.reader([line])) if separator == "," else line.split(separator)
    return [field.strip() for field in fields]


def _find(column: Column, header: list[str], body: list[tuple[int, list[str]]], path: Path) -> int | None:
    """The index of a column in the header, None for an optional one that is not there."""
    known, shown = [_plain(name) for name in header], " ".join(header)
    for spelling in column.spellings:
        if (count := known.count(_plain(spelling))) > 1:
            raise DataError(f"column '{spelling}' is there {count} times; the header has: {shown}", path)
        if count:
            return known.index(_plain(spelling))
    at = column.fallback - 1
    if 0 <= at < len(header) and all(re.fullmatch(column.matches, v[at]) for _, v in body if v[at]):
        return at
    if column.optional:
        return None
    accepted = ", ".join(column.spellings)
    raise DataError(f"no column '{column.spellings[0]}' (accepted: {accepted}); the header has: {shown}", path)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
