"""What decides the outcome of each segment of a list: a short text that changes when it does."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from stat import S_ISDIR

from vidperson.errors import DataError
from vidperson.io.lines import read_lines
from vidperson.io.merging import read_outputs
from vidperson.io.record import checked

_MISSING = " missing"


def segment_inputs(
    lines: Mapping[str, str], sources: Iterable[Path], folder: Path | None, of_files: bool = False
) -> Iterator[tuple[str, str]]:
    """Each segment with a text that holds a digest of what decides its outcome.

    lines: segment -> the rest of its line in the list, such as a path.
    sources: lists, of which the lines count that begin with the segment, and folders of finished
        sets, of which the segment's status and bytes count.
    folder: the lines are paths, relative to it or absolute, and the size and time of change of
        these files count, too, or of all files in these folders; None: they do not.
    of_files: what decides a segment decides all segments of the same file, too.
    Raises DataError for a list that is no text, and for a set that lacks a segment.
    """
    digests: dict[str, bytes] = {}
    for source in sources:
        for segment, text in _texts(source, lines):
            digests[segment] = _digest(digests.get(segment, b"") + text.encode())
    own = ((segment, _digest(digests.get(segment, b"") + line.encode()).hex()) for segment, line in lines.items())
    if of_files and folder is not None:
        own = _joined(dict(own), {segment: os.path.abspath(folder / line) for segment, line in lines.items()})
    for segment, text in own:
        yield segment, text if folder is None else text + _media(folder / lines[segment])


def is_missing(text: str) -> bool:
    """Whether a text of :func:`segment_inputs` says that the segment's file is not there."""
    return text.endswith(_MISSING)


def has_gone(then: str, now: str) -> bool:
    """Whether a segment's file was there and is not there any more, the rest being the same."""
    return is_missing(now) and not is_missing(then) and then.startswith(now.removesuffix("missing"))


def _joined(own: Mapping[str, str], paths: Mapping[str, str]) -> Generator[tuple[str, str], None, None]:
    """Each segment with a digest of its own text, and of the names and texts of all that have its path."""
    others = defaultdict[str, list[str]](list)
    for segment, path in paths.items():
        others[path].append(f"{segment} {own[segment]}")
    together = {path: "\n".join(sorted(lines)) for path, lines in others.items()}
    return ((segment, _digest(f"{text}\n{together[paths[segment]]}".encode()).hex()) for segment, text in own.items())


def _texts(source: Path, lines: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if not source.is_dir():
        for _, line in read_lines(checked(source)):
            segment = line.split(maxsplit=1)[0]
            if segment in lines:
                yield segment, line
        return
    outputs = read_outputs(source)
    missing = [segment for segment in lines if segment not in outputs]
    if missing:
        message = f"{len(missing)} of {len(lines)} segments are not in it, first '{missing[0]}'"
        raise DataError(f"{message}; run the stage that makes it again", source)
    for segment in lines:
        yield segment, outputs[segment]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _media(path: Path) -> str:
    """``<space><bytes> <time of change, ns>``; a link counts as what it leads to.

    Of a folder ``<space><number of files> <digest of their names, bytes and times>``; hidden ones do not count.
    """
    try:
        stat = os.stat(path)
        if S_ISDIR(stat.st_mode):
            with os.scandir(path) as entries:
                files = sorted(_file(entry) for entry in entries if not entry.name.startswith("."))
            return f" {len(files)} {_digest(b''.join(files)).hex()}"
    except OSError:
        return _MISSING
    return f" {stat.st_size} {stat.st_mtime_ns}"


def _file(entry: os.DirEntry[str]) -> bytes:
    try:
        stat = entry.stat()
    except OSError:  # a link that leads nowhere
        return os.fsencode(entry.name) + b"/"
    return os.fsencode(f"{entry.name}/{stat.st_size}/{stat.st_mtime_ns}/")
