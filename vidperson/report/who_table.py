"""Who is in which video, and when, as a table in a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from vidperson.answers import WhoRow

WIDEST = 40
"""Columns that a name takes at most; the middle of a longer one is left out."""

_SHOWN = WhoRow._fields[:-1]  # without the path of an image
_NUMBERS = ("start_s", "end_s", "probability", "num_faces", "best_time_s")
# What moves the cursor of a terminal or turns the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def who_table(rows: Iterable[WhoRow], most: int = 100) -> list[str]:
    """Lines: a head, and a line per row, the first ``most``; a last line says how many more there are.

    Columns are aligned where letters of East Asian scripts are twice as wide as others, as terminals draw them.
    """
    table, left = [list(_SHOWN)], 0
    for row in rows:
        if len(table) > most:
            left += 1
        else:
            table.append(_cells(row))
    if len(table) == 1:
        return ["nobody was found"]
    widths = [max(display_width(line[column]) for line in table) for column in range(len(_SHOWN))]
    lines = [_line(cells, widths) for cells in table]
    return [*lines, *([f"and {left} more, see who.csv"] if left else [])]


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal: 2 for a wide letter, 0 for an accent that joins the letter before."""
    return sum(_letter_width(letter) for letter in text)


def _letter_width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _cells(row: WhoRow) -> list[str]:
    times = [f"{seconds:.2f}" for seconds in (row.start_s, row.end_s)]
    told = [f"{row.probability:.2f}", row.decision, str(row.num_faces), f"{row.best_time_s:.2f}"]
    return [_shortened(row.person), _shortened(row.video), *times, *told]


def _line(cells: list[str], widths: list[int]) -> str:
    placed = []
    for name, cell, width in zip(_SHOWN, cells, widths, strict=True):
        blanks = " " * (width - display_width(cell))
        placed.append(blanks + cell if name in _NUMBERS else cell + blanks)
    return "  ".join(placed).rstrip()


def _shortened(text: str) -> str:
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    if display_width(text) <= WIDEST:
        return text
    begin, end = "", ""
    for letter in text:
        if display_width(begin + letter) > (WIDEST - 1) // 2:
            break
        begin += letter
    for letter in reversed(text):
        if display_width(letter + end) > WIDEST - 1 - (WIDEST - 1) // 2:
            break
        end = letter + end
    return f"{begin}\N{HORIZONTAL ELLIPSIS}{end}"
