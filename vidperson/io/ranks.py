"""Ranked lists, ``<model> <rank> <segment> <score>``, and what is relevant, ``<model> <segment>``.

Every reader refuses what it cannot read with the file and line.
"""

from __future__ import annotations

import math

from vidperson.errors import DataError
from vidperson.io.lines import PathLike, read_lines

_FORM = "<model> <rank> <segment> <score>"


def read_ranks(path: PathLike) -> dict[str, list[str]]:
    """Model -> segments, best first.

    Raises DataError naming the line for a malformed one, a score that is not finite, ranks of a model that do not count
    1, 2, 3, ... and scores that rise along them, or an empty list. A segment may come again: lists of others repeat it.
    """
    ranked: dict[str, list[str]] = {}
    lowest: dict[str, float] = {}
    for number, line in read_lines(path):
        fields = line.split()
        try:
            model, rank, segment, score = fields[0], int(fields[1]), fields[2], float(fields[3])
            whole = len(fields) == 4 and math.isfinite(score)
        except (IndexError, ValueError):
            whole = False
        if not whole:
            raise DataError(f"expected '{_FORM}', found '{line}'", path, number)
        segments = ranked.setdefault(model, [])
        if rank != len(segments) + 1:
            raise DataError(f"model '{model}': expected rank {len(segments) + 1}, found {rank}", path, number)
        if score > lowest.get(model, math.inf):
            raise DataError(f"model '{model}': rank {rank} has a higher score than the rank before", path, number)
        lowest[model] = score
        segments.append(segment)
    if not ranked:
        raise DataError("no ranks", path)
    return ranked


def read_relevant(path: PathLike) -> dict[str, list[str]]:
    """Model -> the segments that belong to it.

    Raises DataError naming the line for a malformed one, a pair that comes twice, or an empty list.
    """
    return _read_pairs(path, "<model> <segment>")


def read_search(path: PathLike) -> dict[str, list[str]]:
    """Model -> the groups of segments that are searched for it; raises as :func:`read_relevant`."""
    return _read_pairs(path, "<model> <group>")


def _read_pairs(path: PathLike, form: str) -> dict[str, list[str]]:
    table: dict[str, dict[str, None]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise DataError(f"expected '{form}', found '{line}'", path, number)
        found = table.setdefault(fields[0], {})
        if fields[1] in found:
            raise DataError(f"'{line}' appears twice", path, number)
        found[fields[1]] = None
    if not table:
        raise DataError(f"expected lines '{form}', found none", path)
    return {model: list(found) for model, found in table.items()}
