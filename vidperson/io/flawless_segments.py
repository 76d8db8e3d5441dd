"""A quick check that the lists of segments of a data folder are flawless, in memory that hardly grows with them.

What it finds flawless, `vidperson.io.data_dir` would find flawless. What is wrong with other lists is said there:
slowly, with an object per line.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.lines import check_id

DURATIONS = ("utt2dur", "vid2dur", "vid2pixels")


class _Flaw(Exception):
    """Something may be wrong with a list."""


def are_flawless(folder: Path, scps: Sequence[str], durations: Collection[str], strangers: bool) -> bool:
    """Whether nothing is wrong with these lists, ``utt2spk`` and ``spk2utt``, each by itself and all together.

    All have the order of the C locale, so they are read side by side. scps: one or more. strangers: whether segments
    may be missing in utt2spk.
    """
    try:
        others = {name: _pairs(folder / name) for name in (*scps[1:], "utt2spk", *durations)}
        heads = {name: next(rows, None) for name, rows in others.items()}
        models: dict[str, int] = {}  # model -> hash of its segments so far
        before = ""
        for segment, path in _pairs(folder / scps[0]):
            if segment <= before or not path or path.endswith("|"):  # a command of Kaldi, or an odd file
                return False
            _check_id(before := segment)
            for name, head in heads.items():
                if head is None or head[0] != segment:
                    if name in scps or (name == "utt2spk" and not strangers):
                        return False
                    continue
                if name in scps and head[1].endswith("|"):
                    return False
                if name == "utt2spk":
                    model = head[1]
                    if model not in models:
                        _check_value(model)
                        _check_id(model)
                    models[model] = hash((models.get(model, 0), segment))
                elif name in durations:
                    _check_value(head[1])
                    if not 0 <= float(head[1]) < math.inf:
                        return False
                heads[name] = next(others[name], None)
        return bool(before) and not any(heads.values()) and _same_models(folder / "spk2utt", models)
    except (_Flaw, DataError, UnicodeDecodeError, ValueError):
        return False


def _lines(path: Path) -> Iterator[str]:
    """Each begins and ends without blanks. Raises _Flaw for one that does not, or for an empty list."""
    empty = True
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            line = line.removesuffix("\n")
            if not line or line.strip(" \t\r") != line:
                raise _Flaw
            empty = False
            yield line
    if empty:
        raise _Flaw


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """First field and the rest, with one blank between them. Raises _Flaw for other lines."""
    for line in _lines(path):
        first, blank, rest = line.partition(" ")
        if not blank or "\t" in first or rest[0] in " \t":
            raise _Flaw
        yield first, rest


def _check_value(text: str) -> None:
    """Raises _Flaw for a field with blanks."""
    if " " in text or "\t" in text:
        raise _Flaw


def _check_id(name: str) -> None:
    """Raises _Flaw, or DataError, for what is no id."""
    check_id(name, "id", "", 0)
    if name.split() != [name]:
        raise _Flaw


def _same_models(spk2utt: Path, models: dict[str, int]) -> bool:
    """Whether a list has these models, each with the segments of this hash."""
    before = ""
    for line in _lines(spk2utt):
        model, *segments = line.split(" ")
        found = 0
        for segment in segments:
            found = hash((found, segment))
        if model <= before or not segments or models.pop(model, None) != found:
            return False
        before = model
    return not models
