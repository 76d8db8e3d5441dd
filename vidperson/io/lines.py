"""The lines of Kaldi text lists. What reads them as numbers is in ``lists.py``; this needs no NumPy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write

PathLike = str | os.PathLike[str]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEADS_OUT = frozenset(("", ".", ".."))  # parts of a path


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
    if name.isprintable() and "/" not in name and name not in _LEADS_OUT:
        return name  # at once, as almost all
    if _CONTROL.search(name):
        raise DataError(f"{what} {name!r} has a control character; rename it", path, line)
    if name in _LEADS_OUT or ("/" in name and not _LEADS_OUT.isdisjoint(name.split("/"))):
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


def read_paths(scp: PathLike) -> dict[str, str]:
    """:func:`read_scp` of paths, or of ``<path>:<offset>``; relative ones begin at its folder."""
    folder = Path(scp).parent
    return {key: resolved(folder, value) for key, value in read_scp(scp).items()}


def resolved(folder: Path, value: str) -> str:
    """A path of a list, or ``<path>:<offset>``, as it is seen from the current folder."""
    return os.path.join(folder, value)


def read_spk2utt(path: PathLike) -> dict[str, list[str]]:
    """``<model> <segment> <segment> ...`` to model -> segments."""
    return {model: rest.split() for model, rest in read_scp(path).items()}


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Write a list whole or not at all."""
    with atomic_write(path) as stream:
        stream.writelines(line + "\n" for line in lines)


def sort_key(line: str) -> bytes:
    """The key of the C locale: bytes of the UTF-8 text."""
    return line.encode()
