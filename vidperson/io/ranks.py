"""Ranked lists per model and per segment, what is relevant, and what is searched.

Every reader refuses what it cannot read with the file and line.
"""

from __future__ import annotations

import math

from vidperson.errors import DataError
from vidperson.io.lines import PathLike, read_lines

REASONS = ("identity", "expansion", "appearance", "excluded", "none")
"""Why a segment has its rank: it is like what the model was enrolled with; like a segment found so; like one that was
found in what is only comparable among segments, such as clothes; somebody else of its frame was found; nothing."""
NO_EVIDENCE = "-"
_FORM = "<model> <rank> <segment> <score>"
_TURNED = "<segment> <rank> <model> <score>"
Listed = list[tuple[str, float]]
"""Names with their scores, best first."""


def read_ranks(path: PathLike, may_be_empty: bool = False) -> dict[str, list[str]]:
    """Model -> segments, best first.

    Raises DataError naming the line for a malformed one, a score that is not finite, ranks of a model that do not count
    1, 2, 3, ... and scores that rise along them, or an empty list unless it may be. A segment may come again: lists of
    others repeat it.
    """
    return {
        model: [segment for segment, _ in listed] for model, listed in read_scored_ranks(path, may_be_empty).items()
    }


def read_scored_ranks(path: PathLike, may_be_empty: bool = False) -> dict[str, Listed]:
    """As :func:`read_ranks`, with the scores."""
    ranked = _read_scored(path, _FORM)
    if not ranked and not may_be_empty:
        raise DataError("no ranks", path)
    return ranked


def read_persons(path: PathLike) -> dict[str, Listed]:
    """Segment -> models with their scores, best first, of lines ``<segment> <rank> <model> <score>``.

    Raises as :func:`read_ranks`, and for a model that comes twice; there may be none at all.
    """
    listed = _read_scored(path, _TURNED)
    for segment, models in listed.items():
        if len({model for model, _ in models}) < len(models):
            raise DataError(f"segment '{segment}': expected each model once, found one twice", path)
    return listed


def _read_scored(path: PathLike, form: str) -> dict[str, Listed]:
    owner = form[1:].partition(">")[0]
    ranked: dict[str, Listed] = {}
    for number, line in read_lines(path):
        fields = line.split()
        try:
            name, rank, other, score = fields[0], int(fields[1]), fields[2], float(fields[3])
            whole = len(fields) == 4 and math.isfinite(score)
        except (IndexError, ValueError):
            whole = False
        if not whole:
            raise DataError(f"expected '{form}', found '{line}'", path, number)
        listed = ranked.setdefault(name, [])
        if rank != len(listed) + 1:
            raise DataError(f"{owner} '{name}': expected rank {len(listed) + 1}, found {rank}", path, number)
        if listed and score > listed[-1][1]:
            raise DataError(f"{owner} '{name}': rank {rank} has a higher score than the rank before", path, number)
        listed.append((other, score))
    return ranked


def read_probabilities(path: PathLike) -> dict[str, float]:
    """Segment -> probability, of lines ``<segment> <probability>``.

    Raises DataError naming the line for a malformed one, a number outside 0..1, or a segment that comes twice.
    """
    table: dict[str, float] = {}
    for number, line in read_lines(path):
        fields = line.split()
        try:
            segment, probability = fields[0], float(fields[1])
            whole = len(fields) == 2 and 0 <= probability <= 1
        except (IndexError, ValueError):
            whole = False
        if not whole:
            raise DataError(f"expected '<segment> <probability, 0 to 1>', found '{line}'", path, number)
        if segment in table:
            raise DataError(f"segment '{segment}' appears twice", path, number)
        table[segment] = probability
    return table


def read_reasons(path: PathLike) -> dict[str, dict[str, tuple[str, str]]]:
    """Model -> segment -> one of ``REASONS`` and the evidence, of lines ``<model> <segment> <reason> <evidence>``.

    Raises DataError naming the line for a malformed one, another reason, or a pair that comes twice; it may be empty.
    """
    table: dict[str, dict[str, tuple[str, str]]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 4 or fields[2] not in REASONS:
            expected = f"expected '<model> <segment> <reason> <segment or {NO_EVIDENCE}>', a reason of {REASONS}"
            raise DataError(f"{expected}, found '{line}'", path, number)
        model, segment, reason, evidence = fields
        of_model = table.setdefault(model, {})
        if segment in of_model:
            raise DataError(f"segment '{segment}' of '{model}' appears twice", path, number)
        of_model[segment] = reason, evidence
    return table


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
