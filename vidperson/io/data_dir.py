"""Check, fix and split data folders: `python -m vidperson.io.data_dir validate|fix|split <folder>`.

A folder holds at least one of `vid.scp`, `wav.scp`, `frames.scp`, and `utt2spk` and `spk2utt` for
the same segments. It may hold boxes, `<what>_boundingbox` with `<what>_boundingbox_conf`, `region`,
`trials`, `trial_partitions` for the same pairs, `utt2dur`, `vid2dur` and `vid2pixels`. Every list
is in the order of the C locale (`LC_ALL=C sort -c` agrees), no line is there twice. Paths are
relative to the folder, or absolute. Other files are left as they are. Kaldi's `segments`, and
commands in place of paths, are refused.

Without `trials`, segments may be missing in `utt2spk`: they show strangers, none of its models. A
set with `search` has `utt2group`, the group of every segment, and may have `relevant`; it needs no
`utt2spk`.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.flawless_segments import DURATIONS, are_flawless
from vidperson.io.lines import check_id, read_lines, sort_key, write_lines

PathLike = str | os.PathLike[str]

SHOWN = 20
SCPS = ("vid.scp", "wav.scp", "frames.scp")
TRIAL_LISTS = ("trials", "trial_partitions")
SEARCH_LISTS = ("search", "utt2group", "relevant")
BACKUP = ".backup"
AGAIN = "make the folder again with run_001_prepare_data.sh"
NO_PARTS = (
    "parts of recordings, as Kaldi has them, are not read; write each into a sound file of its own, list these in "
    "wav.scp, and remove this file"
)


def _numbers(fields: Sequence[str]) -> list[float]:
    try:
        return [float(field) for field in fields]
    except ValueError:
        return [math.nan]


def _is_region(fields: list[str]) -> bool:
    numbers = _numbers(fields[1:])
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return False
    x1, y1, x2, y2 = numbers
    return x1 < x2 and y1 < y2


def _is_box(fields: list[str]) -> bool:
    position = _numbers(fields[1:2])
    return len(position) == 1 and 0 <= position[0] < math.inf and _is_region(fields[1:])


def _is_duration(fields: list[str]) -> bool:
    return len(fields) == 2 and 0 <= _numbers(fields[1:])[0] < math.inf


class _Format(NamedTuple):
    """How the lines of a list are made; which fields are segments, are ids, must not be there twice."""

    form: str
    is_good: Callable[[list[str]], bool]
    segments: slice = slice(0, 1)
    ids: slice = slice(0, 1)
    key: slice = slice(0, 1)
    max_fields: int = 0


_SCP = _Format("<segment> <path>", lambda f: len(f) == 2, max_fields=2)
FORMATS = {
    **dict.fromkeys(SCPS, _SCP),
    "utt2spk": _Format("<segment> <model>", lambda f: len(f) == 2, ids=slice(0, 2)),
    "spk2utt": _Format("<model> <segment> ...", lambda f: len(f) > 1, segments=slice(1, None), ids=slice(None)),
    "region": _Format("<segment> <x1> <y1> <x2> <y2>", _is_region),
    "utt2dur": _Format("<segment> <seconds>", _is_duration),
    "vid2dur": _Format("<segment> <seconds>", _is_duration),
    "vid2pixels": _Format("<segment> <megapixels>", _is_duration),
    "trials": _Format(
        "<model> <segment> [target|nontarget]",
        lambda f: len(f) == 2 or (len(f) == 3 and f[2] in ("target", "nontarget")),
        segments=slice(1, 2),
        ids=slice(0, 2),
        key=slice(0, 2),
    ),
    "trial_partitions": _Format(
        "<model> <segment> <partition>",
        lambda f: len(f) == 3,
        segments=slice(1, 2),
        ids=slice(0, 2),
        key=slice(0, 2),
    ),
    "search": _Format("<model> <group>", lambda f: len(f) == 2, segments=slice(0), ids=slice(0, 2), key=slice(0, 2)),
    "utt2group": _Format("<segment> <group>", lambda f: len(f) == 2, ids=slice(0, 2)),
    "relevant": _Format(
        "<model> <segment>", lambda f: len(f) == 2, segments=slice(1, 2), ids=slice(0, 2), key=slice(0, 2)
    ),
}


_BOXES = _Format("<segment> <frame or seconds> <x1> <y1> <x2> <y2>", _is_box, key=slice(None))


def _format_of(name: str) -> _Format:
    return FORMATS.get(name, _BOXES)


def _lists_in(folder: Path) -> list[str]:
    """Names of the lists that a folder holds, each of a form that is known here."""
    boxes = sorted(path.name for path in folder.glob("*_boundingbox"))
    return [name for name in (*FORMATS, *boxes) if (folder / name).is_file()]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list: its 1-based number and its fields; the last field of an scp may hold blanks."""

    line: int
    fields: list[str]

    @property
    def text(self) -> str:
        return " ".join(self.fields)


def _problem(path: Path, line: int | None, message: str, by_fix: bool = True) -> str:
    """A message with file and line, and with the command where `utils/fix_data_dir.sh` fixes it."""
    cure = f"; fix it: utils/fix_data_dir.sh {shlex.quote(str(path.parent))}" if by_fix else ""
    return str(DataError(message + cure, path, line))


def _read_lines(path: Path) -> list[str]:
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text; convert it: iconv -f <its encoding> -t UTF-8 {shlex.quote(str(path))}"
        raise DataError(message, path, number) from None
    return lines if lines[-1] else lines[:-1]


def _fields(line: str, max_fields: int = 0) -> list[str]:
    """Split at blanks and tabs only: other white space may be part of a path, and is refused in ids."""
    line = line.strip(" \t\r")
    return re.split(r"[ \t]+", line, maxsplit=max(max_fields - 1, 0)) if line else []


def _bad_id(name: str) -> bool:
    try:
        check_id(name, "id", "", 0)
    except DataError:
        return True
    return name.split() != [name]


def _parse(path: Path, lines: Sequence[str]) -> tuple[list[Row], list[tuple[int, str]]]:
    """The good lines, and what is wrong with the others. Order and blanks do not matter here."""
    layout = _format_of(path.name)
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    first_at: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines, 1):
        fields = _fields(line, layout.max_fields)
        key = tuple(fields[layout.key])
        if not layout.is_good(fields):
            problem = f"expected '{layout.form}', found '{line}'"
        elif bad := [name for name in fields[layout.ids] if _bad_id(name)]:
            problem = f"id {bad[0]!r} has blanks or control characters or would leave the output folder"
        elif key in first_at:
            problem = f"'{' '.join(key)}' is there twice, first in line {first_at[key]}"
        elif path.name == "trials" and rows and len(fields) != len(rows[0].fields):
            problem = f"expected {len(rows[0].fields)} columns as in line {rows[0].line}, found '{line}'"
        else:
            first_at[key] = number
            rows.append(Row(number, fields))
            continue
        problems.append((number, problem))
    return rows, problems


def _check_layout(path: Path, lines: Sequence[str]) -> list[str]:
    """The first line with a Windows end, with blanks too many, and that breaks the order of the C locale."""
    problems: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.endswith("\r"):
            problems.setdefault("Windows line end (CRLF)", number)
        elif line != " ".join(_fields(line, _format_of(path.name).max_fields)):
            problems.setdefault("expected one blank between fields and none at the ends", number)
        if number > 1 and sort_key(line) < sort_key(lines[number - 2]):
            problems.setdefault("not in the order of the C locale (LC_ALL=C sort)", number)
    return [_problem(path, number, message) for message, number in problems.items()]


def _check_commands(scp: Path, paths: Iterable[tuple[int, str]]) -> list[str]:
    """The first line of an scp with a command in place of a path, as Kaldi has them. paths: of each line."""
    for line, path in paths:
        if path.endswith("|") and not (scp.parent / path).exists():
            message = f"a command, '{path}'; expected a path: write what it gives into a file, and list that"
            return [_problem(scp, line, message, False)]
    return []


def refuse_kaldi(directory: PathLike) -> None:
    """Raises DataError for a data folder with what only Kaldi reads: parts of recordings, commands in wav.scp."""
    folder = Path(directory)
    if (folder / "segments").is_file():
        raise DataError(NO_PARTS, folder / "segments")
    for problem in _check_commands(folder / "wav.scp", _paths_of(folder / "wav.scp")):
        raise DataError(problem)


def _by_model(utt2spk: Iterable[Row]) -> list[str]:
    """The lines of spk2utt."""
    models: dict[str, list[str]] = {}
    for row in utt2spk:
        models.setdefault(row.fields[1], []).append(row.fields[0])
    return sorted((" ".join([model, *sorted(ids, key=sort_key)]) for model, ids in models.items()), key=sort_key)


def _check_confs(folder: Path) -> list[str]:
    """Has every list of boxes its conf, and every conf its boxes?"""
    expected = "expected one line: unit of the positions, seconds or frames, and odd number of frames around them"
    problems = []
    for name in sorted({path.name.removesuffix("_conf") for path in folder.glob("*_boundingbox*")}):
        boxes, conf = folder / name, _conf_of(folder / name)
        if not conf.is_file():
            problems += [_problem(conf, None, f"no such file; {expected}", False)] if boxes.is_file() else []
        elif not boxes.is_file():
            problems.append(_problem(conf, None, f"there is no {name} that it could belong to; remove it", False))
        else:
            lines = _read_lines(conf)
            if len(lines) != 1 or not re.fullmatch(r"(seconds|frames) \d*[13579]", lines[0]):
                problems.append(_problem(conf, 1, f"{expected}; found '{' / '.join(lines)}'", False))
    return problems


def _conf_of(boxes: Path) -> Path:
    return boxes.with_name(f"{boxes.name}_conf")


def _listing_all(names: Collection[str]) -> str:
    """The list that has every segment: utt2spk where there are trials; else an scp, since utt2spk omits strangers."""
    scp = next((name for name in SCPS if name in names), "")
    return "utt2spk" if not scp or any(name in names for name in TRIAL_LISTS) else scp


def _check_segments(folder: Path, tables: dict[str, list[Row]], every: str) -> list[str]:
    """Do all lists speak of the segments of the list ``every``, and do utt2spk and spk2utt say the same?"""
    problems = []
    known = {row.fields[0] for row in tables[every]}
    for name, rows in tables.items():
        segments = _format_of(name).segments
        for row in rows:
            for segment in row.fields[segments]:
                if segment not in known:
                    message = f"segment '{segment}' is not in {every}"
                    problems.append(_problem(folder / name, row.line, message))
    for scp in [name for name in SCPS if name in tables and name != every]:
        listed = {row.fields[0] for row in tables[scp]}
        for row in tables[every]:
            if row.fields[0] not in listed:
                message = f"segment '{row.fields[0]}' is not in {scp}"
                problems.append(_problem(folder / every, row.line, message))
    if "utt2spk" not in tables or "spk2utt" not in tables:
        return problems
    expected = {line.split()[0]: line for line in _by_model(tables["utt2spk"])}
    for row in tables["spk2utt"]:
        wanted = expected.pop(row.fields[0], None)
        if wanted != row.text:
            found = f"expected '{wanted or 'no such model'}' by utt2spk, found '{row.text}'"
            problems.append(_problem(folder / "spk2utt", row.line, found))
    for model in expected:
        problems.append(_problem(folder / "spk2utt", None, f"model '{model}' of utt2spk is missing"))
    return problems


def _check_search(folder: Path, tables: dict[str, list[Row]], every: str) -> list[str]:
    """Has a searched set a group for each segment and segments in each group, and is what is relevant searched?"""
    if "search" not in tables:
        return [
            _problem(folder / name, None, f"there is no search that it could belong to; remove it, or {AGAIN}", False)
            for name in SEARCH_LISTS
            if name in tables
        ]
    problems = []
    if every == "utt2spk":
        problems.append(_problem(folder / "search", None, "a set has trials or search; remove one of them", False))
    if "utt2group" not in tables:
        return [*problems, _problem(folder / "utt2group", None, f"no such file, but search is there; {AGAIN}", False)]
    grouped = {row.fields[0] for row in tables["utt2group"]}
    for row in tables.get(every, []):
        if row.fields[0] not in grouped:
            message = f"segment '{row.fields[0]}' is not in utt2group; add its group there, or {AGAIN}"
            problems.append(_problem(folder / every, row.line, message, False))
    for name, row, message in _not_searched(tables):
        problems.append(_problem(folder / name, row.line, message))
    return problems


def _not_searched(tables: dict[str, list[Row]]) -> Iterator[tuple[str, Row, str]]:
    """Lines of search with a group of no segment, and of relevant with what is not searched; list, line and why."""
    group_of = {row.fields[0]: row.fields[1] for row in tables["utt2group"]}
    groups = set(group_of.values())
    searched: dict[str, set[str]] = {}
    for row in tables["search"]:
        model, group = row.fields
        if group in groups:
            searched.setdefault(model, set()).add(group)
        else:
            yield "search", row, f"group '{group}' has no segment in utt2group"
    for row in tables.get("relevant", []):
        model, segment = row.fields
        if model not in searched:
            yield "relevant", row, f"model '{model}' is not in search"
        elif group_of.get(segment, "") not in searched[model]:
            yield "relevant", row, f"segment '{segment}' is in no group that search names for model '{model}'"


def _check_partitions(folder: Path, tables: dict[str, list[Row]]) -> list[str]:
    """Has every trial its partition, and every partition its trial?"""
    if "trial_partitions" not in tables:
        return []
    pairs = _partitioned_trials(tables)
    return [
        _problem(folder / name, row.line, f"'{' '.join(row.fields[:2])}' is not in {other}")
        for name, other in (TRIAL_LISTS, TRIAL_LISTS[::-1])
        for row in tables.get(name, [])
        if tuple(row.fields[:2]) not in pairs
    ]


def _partitioned_trials(tables: dict[str, list[Row]]) -> set[tuple[str, ...]]:
    """The pairs that are both in trials and in trial_partitions."""
    trials, partitions = ({tuple(row.fields[:2]) for row in tables.get(name, [])} for name in TRIAL_LISTS)
    return trials & partitions


def validate(directory: PathLike, check_files: bool = False) -> list[str]:
    """All that is wrong with a data folder; nothing for a good one. Of a list that is no text only that.

    check_files: check also that the files and folders of the scps are there.
    """
    folder = Path(directory)
    if not folder.is_dir():
        return [_problem(folder, None, f"no such folder; {AGAIN}", False)]
    if (folder / "segments").is_file():
        return [_problem(folder / "segments", None, NO_PARTS, False)]
    problems: list[str] = []
    tables: dict[str, list[Row]] = {}
    names = _lists_in(folder)
    flawless: list[str] = []
    if any(name in TRIAL_LISTS for name in names):
        from vidperson.io.flawless import flawless_trial_lists  # it takes NumPy

        flawless = flawless_trial_lists(folder)
    others = [name for name in names if name not in flawless]
    if _is_flawless(folder, others, strangers=not flawless):
        files = {scp: _paths_of(folder / scp) for scp in SCPS if scp in names} if check_files else {}
        return [*_check_confs(folder), *_check_files(folder, files)]
    for name in names:
        if name in flawless:
            continue
        path = folder / name
        try:
            lines = _read_lines(path)
        except DataError as error:
            return [str(error)]
        if not lines:
            problems.append(_problem(path, None, f"empty; {AGAIN}", False))
        tables[name], wrong = _parse(path, lines)
        problems += [_problem(path, number, message) for number, message in wrong]
        problems += _check_layout(path, lines)
        if name in SCPS:
            problems += _check_commands(path, ((row.line, row.fields[1]) for row in tables[name]))
    if not any(scp in tables for scp in SCPS):
        problems.append(_problem(folder, None, f"none of {', '.join(SCPS)} is there; {AGAIN}", False))
    for name, other in (("utt2spk", "spk2utt"), ("spk2utt", "utt2spk")):
        if name not in tables and (other in tables or "search" not in tables):
            problems.append(_problem(folder / name, None, "no such file", other in tables))
    problems += _check_confs(folder)
    problems += _check_partitions(folder, tables)
    every = _listing_all(names)
    problems += _check_search(folder, tables, every)
    if every in tables:
        problems += _check_segments(folder, tables, every)
    if check_files:
        problems += _check_files(
            folder, {scp: ((row.line, row.fields[1]) for row in tables[scp]) for scp in SCPS if scp in tables}
        )
    return problems


def _paths_of(scp: Path) -> Iterator[tuple[int, str]]:
    """Line and path of each segment of a list with which nothing is wrong."""
    for number, line in enumerate(_read_lines(scp), 1):
        yield number, line.partition(" ")[2]


def _is_flawless(folder: Path, names: Collection[str], strangers: bool) -> bool:
    """Whether a folder has only lists of segments, with which nothing is wrong; see :func:`are_flawless`."""
    scps = [scp for scp in SCPS if scp in names]
    models = {"utt2spk", "spk2utt"}
    if not scps or not models.issubset(names) or not {*SCPS, *DURATIONS, *models}.issuperset(names):
        return False
    return are_flawless(folder, scps, [name for name in DURATIONS if name in names], strangers)


def _check_files(folder: Path, paths: Mapping[str, Iterable[tuple[int, str]]]) -> list[str]:
    """Are the files and folders of the scps there? paths: scp -> line and path of each."""
    problems = []
    for scp, rows in paths.items():
        for line, name in rows:
            path = folder / name
            if not path.exists():
                problems.append(_problem(folder / scp, line, f"no such file: '{name}'", False))
            elif path.is_dir() and (scp == "wav.scp" or not any(path.iterdir())):
                what = "a folder, expected a file" if scp == "wav.scp" else "an empty folder"
                problems.append(_problem(folder / scp, line, f"{what}: '{name}'", False))
    return problems


def require_valid(directory: PathLike, check_files: bool = False) -> None:
    """Raises DataError that tells of every problem, of the first 20 if there are more."""
    problems = validate(directory, check_files)
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join(problems[:SHOWN] + more))


def fix(directory: PathLike) -> list[str]:
    """Fix a data folder in place: sort, drop what is malformed or not in all lists, remake spk2utt.

    Strangers stay: without trials, a segment need not be in utt2spk. Files that change are kept in `.backup`
    as they were. A good folder is not touched.

    Returns what was dropped, a line each. Raises DataError, with nothing changed, when there is no segment
    that all lists have, and for Kaldi's list of parts of recordings.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise DataError("no such folder", folder)
    if (folder / "segments").is_file():
        raise DataError(NO_PARTS, folder / "segments")
    tables: dict[str, list[Row]] = {}
    notes: list[str] = []
    unclear: set[str] = set()  # segments with a malformed line in utt2spk: no strangers
    for name in _lists_in(folder):
        lines = _read_lines(folder / name)
        tables[name], problems = _parse(folder / name, lines)
        if name == "utt2spk":
            unclear = {field for number, _ in problems for field in _fields(lines[number - 1])[:1]}
            unclear -= {row.fields[0] for row in tables[name]}
        notes += [f"{folder / name}:{number}: dropped: {message}" for number, message in problems]
    models = tables.pop("spk2utt", None)
    if "utt2spk" not in tables and not (models is None and "search" in tables):
        if models is None:
            raise DataError(f"neither utt2spk nor spk2utt is there; {AGAIN}", folder)
        of_segment = {s: Row(row.line, [s, row.fields[0]]) for row in models for s in row.fields[1:]}
        tables["utt2spk"] = list(of_segment.values())
    every = _listing_all(tables)
    needed = dict.fromkeys((every, *(name for name in SCPS if name in tables)))
    known = set.intersection(*({row.fields[0] for row in tables.get(name, [])} for name in needed)) - unclear
    if not known or list(needed) == ["utt2spk"]:
        what = "utt2spk and in every scp" if every == "utt2spk" else "every scp"
        raise DataError(f"no segment is in {what}; {AGAIN}", folder)

    unfit = dict(_unfit_lines(tables, known))
    new: dict[str, list[str]] = {}
    for name, rows in tables.items():
        segments, kept = _format_of(name).segments, []
        for row in rows:
            why = unfit.get((name, row.line))
            if why is None and not known.issuperset(row.fields[segments]):
                why = "segment not in all lists"
            if why is None:
                kept.append(row.text)
            else:
                notes.append(f"{folder / name}:{row.line}: dropped: {why}: '{row.text}'")
        new[name] = sorted(kept, key=sort_key)
    if "utt2spk" in tables:
        new["spk2utt"] = _by_model(row for row in tables["utt2spk"] if row.fields[0] in known)
    for name, lines in new.items():
        _replace(folder / name, lines)
    for conf in folder.glob("*_boundingbox_conf"):
        if not conf.with_name(conf.name.removesuffix("_conf")).is_file():
            _replace(conf, [])
    return notes


def _unfit_lines(tables: dict[str, list[Row]], known: Collection[str]) -> Iterator[tuple[tuple[str, int], str]]:
    """List and line of what does not fit to another list of trials or of a search, and why; known: segments."""
    if "trial_partitions" in tables:
        pairs = _partitioned_trials(tables)
        for name, other in (TRIAL_LISTS, TRIAL_LISTS[::-1]):
            for row in tables.get(name, []):
                if tuple(row.fields[:2]) not in pairs:
                    yield (name, row.line), f"not in {other}"
    if "search" in tables and "utt2group" in tables:
        groups = [row for row in tables["utt2group"] if row.fields[0] in known]
        for name, row, why in _not_searched({**tables, "utt2group": groups}):
            yield (name, row.line), why


def _replace(path: Path, lines: list[str]) -> None:
    """Write a list, or remove one of which nothing is left; the old one goes to `.backup` if it differs."""
    content = "".join(line + "\n" for line in lines).encode()
    if path.is_file():
        if path.read_bytes() == content:
            return
        backup = _no_link(path.parent / BACKUP) / path.name
        with atomic_write(backup, "wb") as stream:
            stream.write(path.read_bytes())
        shutil.copystat(path, backup)
    if lines:
        write_lines(path, lines)
    else:
        path.unlink(missing_ok=True)


def _no_link(folder: Path) -> Path:
    """Refuse a folder to write into that is a link: it may lead out of the data folder."""
    if folder.is_symlink():
        raise DataError("a link, which is not written through, since it may lead elsewhere; remove it", folder)
    return folder


def balanced_ranges(weights: Sequence[int], parts: int) -> list[range]:
    """Cut a sequence into ``parts`` consecutive ranges so that the heaviest is as light as can be.

    weights: positive. With fewer items than parts the last ranges are empty, otherwise none is.
    """
    sums = [0, *accumulate(weights)]
    count = len(weights)

    def end_of(start: int, limit: int) -> int:
        return bisect_right(sums, sums[start] + limit) - 1

    def fits(limit: int) -> bool:
        end = 0
        for _ in range(parts):
            end = end_of(end, limit)
        return end == count

    low, high = max(weights, default=0), sums[-1]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    ranges, start = [], 0
    for left in range(parts - 1, -1, -1):  # leave an item for each range to come, as far as there are
        end = max(min(end_of(start, low), count - left), min(start + 1, count))
        ranges.append(range(start, end))
        start = end
    return ranges


def consecutive_parts(segments: Sequence[str], work: Path, parts: int) -> list[range]:
    """Positions of consecutive segments per part, the part with the most work with as little as can be.

    work: a list such as vid2dur, vid2pixels or utt2dur; its numbers count to the thousandth. A segment that it
        lacks counts as the mean of the others, and where it is missing all count the same.
    """
    rows = _parse(work, _read_lines(work))[0] if work.is_file() else []
    weights = {row.fields[0]: max(1, round(1000 * float(row.fields[1]))) for row in rows}
    mean = sum(weights.values()) // len(weights) if weights else 1
    return balanced_ranges([weights.get(segment, mean) for segment in segments], parts)


def pictures_list(folder: Path) -> Path:
    """The list of a data folder that names what is seen: frames.scp where it is there, or else vid.scp."""
    frames = folder / "frames.scp"
    return frames if frames.is_file() else folder / "vid.scp"


def work_list(folder: Path, decodes: bool) -> Path:
    """The list of a data folder that tells how much work each segment is; it may be missing.

    decodes: the work is that of decoding, which goes by pixels; or else by duration.
    """
    names = (*(("vid2pixels",) if decodes else ()), "vid2dur", "utt2dur")
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[-1])


def split(directory: PathLike, jobs: int, output: PathLike | None = None) -> Path:
    """Write `split<jobs>/<1..jobs>/` as :func:`consecutive_parts` cuts a data folder.

    output: where `<1..jobs>/` go instead, for data folders that cannot be written.

    Each part has the scps with absolute paths, utt2spk, spk2utt, boxes (with conf), region, utt2dur,
    vid2dur and vid2pixels of its segments, strangers included, and no lists of trials or of a search. With fewer
    segments than jobs the last parts have empty lists. The same folder gives the same files, and files that are
    right already are not written again.

    Returns the folder of the parts. Raises DataError when the data folder is malformed.
    """
    folder = Path(directory)
    if jobs < 1:
        raise DataError(f"expected at least one job, found {jobs}", folder)
    require_valid(folder)
    names = [name for name in _lists_in(folder) if name not in (*TRIAL_LISTS, *SEARCH_LISTS)]
    tables = {name: _parse(folder / name, _read_lines(folder / name))[0] for name in names}
    for scp in tables.keys() & set(SCPS):
        tables[scp] = [Row(row.line, [row.fields[0], os.path.abspath(folder / row.fields[1])]) for row in tables[scp]]
    scp = next(name for name in SCPS if name in tables)
    segments = [row.fields[0] for row in tables[scp]]
    top = folder / f"split{jobs}" if output is None else Path(output)
    for number, part in enumerate(consecutive_parts(segments, work_list(folder, decodes=True), jobs), 1):
        chosen = set(segments[part.start : part.stop])
        lists = {
            name: [row.text for row in rows if row.fields[0] in chosen]
            for name, rows in tables.items()
            if name != "spk2utt"
        }
        if "utt2spk" in tables:
            lists["spk2utt"] = _by_model(row for row in tables["utt2spk"] if row.fields[0] in chosen)
        for conf in folder.glob("*_boundingbox_conf"):
            lists[conf.name] = _read_lines(conf)
        place = _no_link(_no_link(top) / str(number))
        boxes = {path.name for path in place.glob("*_boundingbox*")}
        for name in {*FORMATS, *boxes} - lists.keys():
            (place / name).unlink(missing_ok=True)
        for name, lines in lists.items():
            path = place / name
            if not path.is_file() or path.read_bytes() != "".join(line + "\n" for line in lines).encode():
                write_lines(path, lines)
    return top


def lists_for_subset(directory: PathLike) -> list[Path]:
    """The lists of a data folder that :func:`write_subset` copies from, the scps last."""
    folder, others = Path(directory), (*TRIAL_LISTS, *SEARCH_LISTS, "utt2spk", "spk2utt")
    names = sorted((name for name in _lists_in(folder) if name not in others), key=lambda name: name in SCPS)
    return [*sorted(folder.glob("*_boundingbox_conf")), *(folder / name for name in names)]


def write_subset(directory: PathLike, output: PathLike, models: Mapping[str, str]) -> None:
    """Write the lists of a data folder for some of its segments, under the models that are given, to another folder.

    models: segment -> model, of the segments to keep. Paths of scps become absolute. Lists of trials or of a search are
    not written, and those of an earlier call go. Lists are read line by line. The scps are written last: a folder of
    which only a part was written is not valid.
    Raises DataError for a list that cannot be read, or that is malformed.
    """
    folder, place = Path(directory), _no_link(Path(output))
    for name in {*FORMATS, *(path.name for path in place.glob("*_boundingbox*"))}:
        (place / name).unlink(missing_ok=True)
    of_segments = sorted((f"{segment} {model}" for segment, model in models.items()), key=sort_key)
    write_lines(place / "utt2spk", of_segments)
    write_lines(place / "spk2utt", _by_model(Row(0, line.split(" ")) for line in of_segments))
    for path in lists_for_subset(folder):
        whole = path.name.endswith("_conf")
        write_lines(place / path.name, _read_lines(path) if whole else _lines_of(path, models))


def _lines_of(path: Path, segments: Container[str]) -> Iterator[str]:
    """The lines of some segments, in the order of the list; paths are made absolute."""
    folder = os.path.abspath(path.parent)
    for fields in _good_fields(path):
        if fields[0] in segments:
            if path.name in SCPS:
                fields[1] = os.path.join(folder, fields[1])
            yield " ".join(fields)


def _good_fields(path: Path) -> Iterator[list[str]]:
    """The fields of each line. Raises DataError for a line that has others."""
    layout = _format_of(path.name)
    for number, line in read_lines(path):
        fields = _fields(line, layout.max_fields)
        if not layout.is_good(fields):
            raise DataError(f"expected '{layout.form}', found '{line}'", path, number)
        yield fields


def read_durations(path: PathLike) -> dict[str, float]:
    """Segment -> seconds, of `utt2dur` or `vid2dur`. Raises DataError for a malformed line."""
    return {segment: float(seconds) for segment, seconds in _good_fields(Path(path))}


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(prog="data_dir", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    verbs = {"validate": "name all that is wrong", "fix": "fix it", "split": "cut it into parts for jobs"}
    for name, text in verbs.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("folder", help="data folder")
        if name == "validate":
            command.add_argument("--check-files", action="store_true", help="check the media files too")
        if name == "split":
            command.add_argument("jobs", type=int, help="number of parts")
            command.add_argument("output", nargs="?", help="folder of the parts (default: split<jobs> in the folder)")
    args = parser.parse_args()
    try:
        if args.command == "validate":
            require_valid(args.folder, args.check_files)
        elif args.command == "fix":
            for note in fix(args.folder):
                print(note, file=sys.stderr)
            require_valid(args.folder)
        else:
            split(args.folder, args.jobs, args.output)
    except DataError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
