"""Outputs of a job that can be killed at any moment: append-only archives and a journal.

A job appends each finished segment to its archives and then notes in ``journal.jsonl`` where they
ended, and checksums. When the job is run again, whatever the archives hold beyond the last note is
cut off and the finished segments are not done again. Nothing waits for the disk meanwhile: what a
power failure took is found by the checksums, and done again. ``vidperson.io.merging`` joins jobs.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from vidperson.errors import DataError

JOURNAL = "journal.jsonl"
# What the system says of a file on storage that has gone, as a folder that is no longer mounted.
GONE = ("no such file or directory", "stale file handle", "transport endpoint is not connected")

# What a journal says of a segment: "segment", "status", and per archive "start", "end" and "crc32";
# in a finished set also "input" and "output", digests of what decides it and of what it gave.
Note = dict[str, Any]


class JobStore:
    """The archives of one job, open for appending.

    directory: the job's own folder, made if it is missing.
    archives: file names, ending in ``.ark`` (entries start with key and space) or ``.tar``.
    states: what the status of a segment may begin with, such as ``ok`` or ``unreadable``.
    statuses: segment -> status of the segments that are finished.
    Raises DataError while another process has the folder open, and OSError where it cannot be
    written.
    """

    def __init__(self, directory: str | os.PathLike[str], archives: Sequence[str], states: Sequence[str]) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.archives, self.states = tuple(archives), tuple(states)
        self._lock = open(self.directory / "lock", "w")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = "another process is at work on this job; wait for it or end it"
            raise DataError(message, self.directory) from None
        self.statuses: dict[str, str] = {}
        ends, journal_end = dict.fromkeys(self.archives, 0), 0
        for note, _, line_end in _whole_notes(self.directory, self.archives):
            self.statuses[note["segment"]] = note["status"]
            ends, journal_end = note["end"], line_end
        self._streams = {name: _open_cut(self.directory / name, ends[name]) for name in self.archives}
        self._journal = _open_cut(self.directory / JOURNAL, journal_end)
        self._broken = False

    def append(self, segment: str, status: str, parts: Mapping[str, Iterable[bytes]]) -> None:
        """Add a finished segment: to every archive its chunks of bytes, then the note.

        status: ``<state>`` or ``<state>: <why>``.
        Raises ValueError for another state. Raises DataError when it cannot be written, as on a
        full disk, or when the folder was removed meanwhile; a new store takes back what was
        written of the segment.
        """
        status = " ".join(status.split())
        if status.partition(":")[0] not in self.states:
            raise ValueError(f"{segment}: expected a status of {self.states}, found '{status}'")
        if not os.fstat(self._journal.fileno()).st_nlink:
            message = "the folder was removed while the job was at work; run the stage again"
            raise DataError(message, self.directory)
        start, crc = self._ends(), dict.fromkeys(self.archives, 0)
        try:
            for name, stream in self._streams.items():
                for chunk in parts[name]:
                    stream.write(chunk)
                    crc[name] = zlib.crc32(chunk, crc[name])
                stream.flush()
            note = {"segment": segment, "status": status, "start": start, "end": self._ends(), "crc32": crc}
            self._journal.write(note_line(note))
            self._journal.flush()
        except OSError as error:
            self._broken = True
            message = f"cannot be written: {error.strerror}; fix that and run the stage again"
            raise DataError(f"{message}: it resumes after the last finished segment", self.directory) from None
        self.statuses[segment] = status

    def _ends(self) -> dict[str, int]:
        return {name: stream.tell() for name, stream in self._streams.items()}

    def close(self) -> None:
        """Raises OSError where the file system tells only now that it could not keep the bytes."""
        streams: list[IO[Any]] = [*self._streams.values(), self._journal, self._lock]
        for stream in streams:
            with suppress(OSError) if self._broken else nullcontext():
                stream.close()

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def note_line(note: Note) -> bytes:
    """A line of a journal."""
    return json.dumps(note).encode() + b"\n"


def read_notes(folder: Path, archives: Sequence[str]) -> Iterator[tuple[Note, int, int]]:
    """The notes of a folder's journal, each with the bytes at which its line begins and ends.

    They end before the first line that is no note: one cut short, or one after a hole.
    """
    begin, ends = 0, dict.fromkeys(archives, 0)
    with suppress(FileNotFoundError), open(folder / JOURNAL, "rb") as stream:
        for line in stream:
            try:
                note = json.loads(line.decode())  # which is faster than bytes
            except (ValueError, RecursionError):
                return
            if not line.endswith(b"\n") or not _is_note(note, ends):
                return
            end = begin + len(line)
            yield note, begin, end
            begin, ends = end, note["end"]


def segment_bytes(stream: BinaryIO, name: str, note: Note) -> Iterator[bytes]:
    """What an archive holds of a segment, in chunks.

    Raises DataError at the end of what is not as it was written.
    """
    start, crc = note["start"][name], 0
    if stream.tell() != start:
        stream.seek(start)
    left = note["end"][name] - start
    while left and (chunk := stream.read(min(left, 1 << 20))):
        left -= len(chunk)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if left or crc != note["crc32"][name]:
        raise DataError(f"segment '{note['segment']}' is not as it was written", stream.name)


def forget_gone(folder: Path, archives: Sequence[str], was_there: Callable[[str], bool]) -> str | None:
    """Forget the first segment that lost its file under way, and what the job did after it.

    was_there: whether the file of a segment was there in the beginning.
    Returns that segment; None: there is none.
    """
    for note, begin, _ in read_notes(folder, archives):
        why = note["status"].partition(": ")[2]
        if why.lower() in GONE and was_there(note["segment"]):
            os.truncate(folder / JOURNAL, begin)
            return str(note["segment"])
    return None


def _whole_notes(folder: Path, archives: Sequence[str]) -> Iterator[tuple[Note, int, int]]:
    """:func:`read_notes` as far as they are true of the archives."""
    with ExitStack() as stack, suppress(DataError, FileNotFoundError):
        streams = {name: stack.enter_context(open(folder / name, "rb")) for name in archives}
        for note, begin, end in read_notes(folder, archives):
            for name, stream in streams.items():
                deque(segment_bytes(stream, name, note), maxlen=0)
            yield note, begin, end


def _open_cut(path: Path, size: int) -> BinaryIO:
    """Open for appending after the first ``size`` bytes; what follows them is cut off."""
    stream = open(path, "ab")  # noqa: SIM115 - kept open, closed in close()
    stream.truncate(size)
    stream.seek(0, os.SEEK_END)
    return stream


def _is_note(note: Any, ends: Mapping[str, int]) -> bool:
    """Whether it is a note as ``append`` writes it, after one that ended at ``ends``."""
    return (
        isinstance(note, dict)
        and isinstance(note.get("segment"), str)
        and isinstance(note.get("status"), str)
        and note.get("start") == dict(ends)
        and isinstance(note.get("end"), dict)
        and note["end"].keys() == ends.keys()
        and all(type(end) is int and end >= ends[name] for name, end in note["end"].items())
        and isinstance(note.get("crc32"), dict)
        and note["crc32"].keys() == ends.keys()
    )
