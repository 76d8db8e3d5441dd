"""Outputs of a job that can be killed at any moment: append-only archives, a journal, and the merge of all jobs.

A job appends each finished segment to its archives and then notes in ``journal.jsonl`` where they ended, and checksums.
When the job is run again, whatever the archives hold beyond the last note is cut off and the finished segments are not
done again. Nothing waits for the disk meanwhile: what a power failure took is found by the checksums, and done again.
Jobs hold consecutive segments, so the merged archives are the same whatever the number of jobs.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from vidperson.errors import DataError, MediaError
from vidperson.io.atomic import atomic_write
from vidperson.io.crops import TAR_END

JOURNAL = "journal.jsonl"
STATES = ("ok", "no_face", "damaged", "unreadable")
# What the system says of a file on storage that has gone, as a folder that is no longer mounted.
GONE = ("no such file or directory", "stale file handle", "transport endpoint is not connected")


class JobStore:
    """The archives of one job, open for appending.

    directory: the job's own folder, made if it is missing.
    archives: file names, ending in ``.ark`` (entries start with key and space) or ``.tar``.
    statuses: segment -> status of the segments that are finished.
    Raises DataError while another process has the folder open, and OSError where it cannot be written.
    """

    def __init__(self, directory: str | os.PathLike[str], archives: Sequence[str]) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.archives = tuple(archives)
        self._lock = open(self.directory / "lock", "w")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError("another process is at work on this job; wait for it or end it", self.directory) from None
        notes = _read_journal(self.directory / JOURNAL, self.archives)
        for name in archives:
            notes = notes[: _num_whole(self.directory / name, notes)]
        self.statuses: dict[str, str] = {note["segment"]: note["status"] for note in notes}
        self._streams = {}
        for name in archives:
            stream = open(self.directory / name, "ab")  # noqa: SIM115 - kept open, closed in close()
            stream.truncate(notes[-1]["end"][name] if notes else 0)
            stream.seek(0, os.SEEK_END)
            self._streams[name] = stream
        _write_journal(self.directory, notes)
        self._journal = open(self.directory / JOURNAL, "a", encoding="utf-8")  # noqa: SIM115
        self._broken = False

    def append(self, segment: str, status: str, parts: Mapping[str, Iterable[bytes]]) -> None:
        """Add a finished segment: to every archive its chunks of bytes, then the note.

        status: ``<state>`` or ``<state>: <why>``.
        Raises DataError when it cannot be written, as on a full disk, or when the folder was removed meanwhile; a new
        store takes back what was written of the segment.
        """
        status = " ".join(status.split())
        if status.partition(":")[0] not in STATES:
            raise ValueError(f"{segment}: expected a status of {STATES}, found '{status}'")
        if not os.fstat(self._journal.fileno()).st_nlink:
            raise DataError("the folder was removed while the job was at work; run the stage again", self.directory)
        start, crc = self._ends(), dict.fromkeys(self.archives, 0)
        try:
            for name, stream in self._streams.items():
                for chunk in parts[name]:
                    stream.write(chunk)
                    crc[name] = zlib.crc32(chunk, crc[name])
                stream.flush()
            note = {"segment": segment, "status": status, "start": start, "end": self._ends(), "crc32": crc}
            self._journal.write(json.dumps(note) + "\n")
            self._journal.flush()
        except OSError as error:
            self._broken = True
            raise DataError(
                f"cannot be written: {error.strerror}; mend that and run the stage again, it goes on behind the last "
                "finished segment",
                self.directory,
            ) from None
        self.statuses[segment] = status

    def _ends(self) -> dict[str, int]:
        return {name: stream.tell() for name, stream in self._streams.items()}

    def close(self) -> None:
        """Raises OSError where the file system tells only now that it could not keep what was written."""
        for stream in (*self._streams.values(), self._journal, self._lock):
            with suppress(OSError) if self._broken else nullcontext():
                stream.close()

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def merge_jobs(
    job_dirs: Sequence[Path],
    output_dir: str | os.PathLike[str],
    archives: Sequence[str],
    segments: Sequence[str],
    there: Collection[str] = frozenset(),
) -> dict[str, str]:
    """Join the jobs' archives in order into ``output_dir``; write an scp per archive and ``status``.

    The scp of a tar leaves out segments without files in it.

    segments: all segments that were to be done, in order.
    there: those whose file was there in the beginning.
    Returns segment -> status.
    Raises MediaError, before anything is written, when some of these were gone when their turn came. They and what
    the same job did behind them are forgotten then, so that the next run does them.
    Raises DataError, before anything is written, when the jobs have not finished exactly these segments, or when an
    archive holds less than its journal says; and when it holds something else.
    """
    output = Path(output_dir)
    journals = [_read_journal(job / JOURNAL, archives) for job in job_dirs]
    done = [note["segment"] for notes in journals for note in notes]
    if done != list(segments):
        missing = sorted(set(segments) - set(done))
        raise DataError(
            f"{len(missing)} of {len(segments)} segments are not done (first: {missing[:3]})"
            if missing
            else "the jobs did other segments than the data folder lists",
            output,
        )
    gone = []
    for job, notes in zip(job_dirs, journals, strict=True):
        if (first := _first_gone(notes, there)) < len(notes):
            gone.append(notes[first]["segment"])
            _write_journal(job, notes[:first])
    if gone:
        raise MediaError(
            f"{output}: files that were there in the beginning were gone when their turn came, first that of "
            f"'{gone[0]}'; run the stage again when they are back: it goes on with them"
        )
    for job, notes in zip(job_dirs, journals, strict=True):
        for name in archives:
            expected, found = notes[-1]["end"][name] if notes else 0, _size(job / name)
            if found < expected:
                raise DataError(f"expected {expected} bytes, found {found}; run the stage again", job / name)
    for name in archives:
        scp: list[str] = []
        with atomic_write(output / name, "wb") as merged:
            for job, notes in zip(job_dirs, journals, strict=True):
                base = merged.tell()
                for note, chunks in _written(job / name, notes):
                    merged.writelines(chunks)
                    if note["start"][name] == note["end"][name]:
                        continue  # no crop, no picture
                    key_length = len(note["segment"].encode()) + 1 if name.endswith(".ark") else 0
                    scp.append(f"{note['segment']} {output / name}:{base + note['start'][name] + key_length}\n")
            if name.endswith(".tar"):
                merged.write(TAR_END)
        with atomic_write((output / name).with_suffix(".scp")) as stream:
            stream.writelines(scp)
    statuses = {note["segment"]: note["status"] for notes in journals for note in notes}
    with atomic_write(output / "status") as stream:
        stream.writelines(f"{segment} {status}\n" for segment, status in statuses.items())
    return statuses


def _written(path: Path, notes: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """Each note with what it says that an archive holds, to be read before the next one.

    Raises DataError at the end of what is not as it was written.
    """
    if notes:
        with open(path, "rb") as stream:
            for note in notes:
                yield note, _chunks(stream, path, note)


def _chunks(stream: IO[bytes], path: Path, note: dict[str, Any]) -> Iterator[bytes]:
    left, crc = note["end"][path.name] - note["start"][path.name], 0
    while left and (chunk := stream.read(min(left, 1 << 20))):
        left -= len(chunk)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if left or crc != note["crc32"][path.name]:
        raise DataError(f"segment '{note['segment']}' is not as it was written; run the stage again", path)


def _num_whole(path: Path, notes: Sequence[dict[str, Any]]) -> int:
    """How many of the notes, from the first on, are true of an archive."""
    number = 0
    with suppress(DataError, FileNotFoundError):
        for _, chunks in _written(path, notes):
            deque(chunks, maxlen=0)
            number += 1
    return number


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_gone(notes: Sequence[dict[str, Any]], there: Collection[str]) -> int:
    """Which note is the first of a file that was there and then was not; their number where none is."""
    gone = [f"unreadable: {why}" for why in GONE]
    found = (n for n, note in enumerate(notes) if note["segment"] in there and note["status"].lower() in gone)
    return next(found, len(notes))


def _write_journal(directory: Path, notes: Sequence[dict[str, Any]]) -> None:
    with atomic_write(directory / JOURNAL) as journal:
        journal.writelines(json.dumps(note) + "\n" for note in notes)


def _read_journal(path: Path, archives: Sequence[str]) -> list[dict[str, Any]]:
    """The whole notes of a journal, up to the first line that is none: one cut short, or one behind a hole."""
    notes: list[dict[str, Any]] = []
    if not path.exists():
        return notes
    ends = dict.fromkeys(archives, 0)
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                note = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not line.endswith("\n") or not _is_note(note, ends):
                break
            notes.append(note)
            ends = note["end"]
    return notes


def _is_note(note: Any, ends: Mapping[str, int]) -> bool:
    """Whether it is a note as ``append`` writes it, behind one that ended at ``ends``."""
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
