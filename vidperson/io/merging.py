"""Join what the jobs of a stage, or an earlier set, have finished into one set.

A set has each archive with its scp, ``status`` with a line per segment, and ``journal.jsonl`` with
a note per segment. A note tells where the segment is in each archive, like that of a job, so that
an old set is one more source to take segments from. It tells also the segment's ``input``, a text
that decides the outcome, and its ``output``, the SHA-256 of the status and of all its bytes.
The set is the same, byte for byte, whatever the sources are.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from vidperson.errors import DataError, MediaError
from vidperson.io.atomic import atomic_write
from vidperson.io.crops import TAR_END
from vidperson.io.job_store import JOURNAL, Note, forget_gone, note_line, read_notes, segment_bytes
from vidperson.io.record import Output, checked

STATUS = "status"
_SOURCES_OPEN = 8


def set_files(archives: Iterable[str]) -> list[str]:
    """Names of the files of a set: archives with their scp, status, journal."""
    return [*(name for archive in archives for name in (archive, _scp_of(archive))), STATUS, JOURNAL]


@dataclass(frozen=True)
class Source:
    """A folder with a journal and its archives. cure: what to do where they do not agree."""

    folder: Path
    cure: str = "run the stage again"


class Plan:
    """The segments of a set in order, what decides each of them, and where it is finished so far.

    inputs: pairs of a segment and a text that tells whether its outcome would be another one.
    """

    def __init__(self, inputs: Iterable[tuple[str, str]], archives: Sequence[str]) -> None:
        self.archives = tuple(archives)
        self._numbers: dict[str, int] = {}
        self._inputs: list[str] = []
        for segment, text in inputs:
            self._numbers[segment] = len(self._inputs)
            self._inputs.append(text)
        self.sources: list[Source] = []
        self._source = array("i", [-1]) * len(self._inputs)
        self._note = array("q", [0]) * len(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Each segment with its text."""
        return zip(self._numbers, self._inputs, strict=True)

    def input_of(self, segment: str) -> str | None:
        """The text of a segment; None: the set has no such segment."""
        number = self._numbers.get(segment)
        return None if number is None else self._inputs[number]

    def to_do(self) -> list[str]:
        """The segments that no source has, in order."""
        return [segment for segment, source in zip(self._numbers, self._source, strict=True) if source < 0]

    def places(self) -> Iterator[tuple[str, str, Source, int]]:
        """Of each segment the text, the source, and the byte of its note in that journal."""
        for (segment, text), source, begin in zip(self.inputs(), self._source, self._note, strict=True):
            yield segment, text, self.sources[source], begin

    def add(self, source: Source, inputs_then: Callable[[Note], str | None]) -> None:
        """Take from a source the segments that it finished with the inputs of now.

        inputs_then: the text of a segment with which its note was made.
        Raises DataError where an archive is shorter than the journal says.
        """
        self.sources.append(source)
        ends: Mapping[str, int] = {}
        for note, begin, _ in read_notes(source.folder, self.archives):
            number = self._numbers.get(note["segment"])
            if number is not None and inputs_then(note) == self._inputs[number]:
                self._source[number], self._note[number] = len(self.sources) - 1, begin
            ends = note["end"]
        _check_sizes(source, ends)

    def add_set(self, source: Source) -> None:
        """:meth:`add` a set that was finished before."""
        self.add(source, lambda note: note.get("input"))

    def add_jobs(self, jobs: Sequence[Path], was_there: Callable[[str], bool]) -> None:
        """:meth:`add` the jobs that were to do all that was left, in this order.

        was_there: whether the file of a segment was there in the beginning.
        Raises DataError when the jobs have not done exactly these segments. Raises MediaError when
        such a file was gone when its turn came: that segment and what the same job did after it
        are forgotten then, so that the next run does them.
        """
        wanted, done = self.to_do(), []
        for job in jobs:
            ends: Mapping[str, int] = {}
            for note, _, _ in read_notes(job, self.archives):
                done.append(note["segment"])
                ends = note["end"]
            _check_sizes(Source(job), ends)
        if done != wanted:
            missing = sorted(set(wanted) - set(done))
            message = f"{len(missing)} of {len(self)} segments are not done (first: {missing[:3]})"
            raise DataError(message if missing else "the jobs did other segments than those that were to do")
        gone = [segment for job in jobs if (segment := forget_gone(job, self.archives, was_there))]
        if gone:
            raise MediaError(
                f"files that were there in the beginning were gone when their turn came, first that of '{gone[0]}'; "
                "run the stage again when they are back: it resumes with them"
            )
        for job in jobs:
            self.add(Source(job), lambda note: self.input_of(note["segment"]))


def merge_jobs(
    jobs: Sequence[Path],
    output: Path,
    archives: Sequence[str],
    states: Sequence[str],
    segments: Iterable[str],
    was_there: Callable[[str], bool] = lambda segment: False,
) -> None:
    """Join jobs that did all ``segments``, in order, into a set. See :class:`Plan` for errors."""
    plan = Plan(((segment, "") for segment in segments), archives)
    plan.add_jobs(jobs, was_there)
    merge(plan, output, states)


def merge(plan: Plan, output: Path, states: Sequence[str]) -> dict[str, Output]:
    """Write the set of a plan that has nothing left to do. Returns name -> file of all it wrote.

    The scp of an archive leaves out segments without bytes in it; its paths are relative to it.
    Raises DataError, with nothing written, for a segment that is not as its source noted it or has
    another state.
    """
    if plan.to_do():
        raise ValueError("expected a plan that has nothing left to do")
    made: dict[str, Output] = {}
    with ExitStack() as stack:
        sources = stack.enter_context(_Sources(plan.archives))
        files = {name: stack.enter_context(_hashed(output / name, made)) for name in set_files(plan.archives)}
        ends = dict.fromkeys(plan.archives, 0)
        for segment, text, source, begin in plan.places():
            note, streams = sources.open(source, begin)
            status, start = note["status"], ends
            if status.partition(":")[0] not in states:
                raise DataError(f"segment '{segment}': expected a state of {states}, found '{status}'", source.folder)
            digest = _copy(note, streams, source, files)
            if note.get("output", digest) != digest:
                raise DataError(f"segment '{segment}' is not as it was written; {source.cure}", source.folder)
            ends = {name: end + note["end"][name] - note["start"][name] for name, end in start.items()}
            for name in plan.archives:
                if start[name] < ends[name]:
                    key_length = len(segment.encode()) + 1 if name.endswith(".ark") else 0
                    files[_scp_of(name)].write(f"{segment} {name}:{start[name] + key_length}\n".encode())
            files[STATUS].write(f"{segment} {status}\n".encode())
            crc = {name: note["crc32"][name] for name in plan.archives}
            new = {"segment": segment, "status": status, "start": start, "end": ends, "crc32": crc}
            files[JOURNAL].write(note_line({**new, "input": text, "output": digest}))
        for name in plan.archives:
            if name.endswith(".tar"):
                files[name].write(TAR_END)
    return {name: made[name] for name in set_files(plan.archives)}


def read_outputs(folder: Path) -> dict[str, str]:
    """Segment -> ``output`` of a finished set. Raises DataError where its journal was changed."""
    outputs = {}
    with open(checked(folder / JOURNAL), "rb") as stream:
        for line in stream:
            note = json.loads(line)
            outputs[note["segment"]] = note["output"]
    return outputs


def check_segments(folder: Path, segments: Iterable[str], cure: str) -> None:
    """Compare the bytes of these segments in all archives of a set with the digests of its journal.

    cure: what to do where they differ. Raises DataError for the first that differs.
    """
    wanted = set(segments)
    with open(folder / JOURNAL, "rb") as journal, ExitStack() as stack:
        streams: dict[str, BinaryIO] = {}
        for line in journal:
            note = json.loads(line)
            if note["segment"] in wanted:
                if not streams:
                    streams = {name: stack.enter_context(open(folder / name, "rb")) for name in note["end"]}
                if _copy(note, streams, Source(folder, cure), {}) != note["output"]:
                    raise DataError(f"segment '{note['segment']}' is not as it was written; {cure}", folder)


def summary(status: Path, states: Sequence[str]) -> str:
    """``8 segments: 7 ok, 1 unreadable``, from the status list of a set; states in their order."""
    with open(status, encoding="utf-8") as stream:
        counts = Counter(line.split(" ", 1)[1].rstrip("\n").partition(":")[0] for line in stream)
    total = sum(counts.values())
    return f"{total} segments: " + ", ".join(f"{counts[state]} {state}" for state in states if counts[state])


def reasons(status: Path, most: int) -> list[str]:
    """The first ``most`` lines of a status list that tell why, and how many more there are."""
    lines, more = list[str](), 0
    with open(status, encoding="utf-8") as stream:
        for line in stream:
            if ":" in line.split(" ", 1)[1]:
                more += len(lines) == most
                lines += [line.rstrip("\n")] if len(lines) < most else []
    return lines + ([f"and {more} more, see {status}"] if more else [])


def _check_sizes(source: Source, ends: Mapping[str, int]) -> None:
    """Raises DataError where an archive ends before the last note says so."""
    for name, end in ends.items():
        path = source.folder / name
        found = path.stat().st_size if path.exists() else 0
        if found < end:
            raise DataError(f"expected {end} bytes, found {found}; {source.cure}", path)


def _scp_of(archive: str) -> str:
    return f"{os.path.splitext(archive)[0]}.scp"


def _copy(note: Note, streams: Mapping[str, BinaryIO], source: Source, files: Mapping[str, _Hashed]) -> str:
    """Copy the bytes of a segment, as far as files are given. Returns its digest.

    Raises DataError for bytes that are not as they were written.
    """
    digest = hashlib.sha256(note["status"].encode())
    for name, stream in streams.items():
        digest.update(f"\n{name} {note['end'][name] - note['start'][name]}\n".encode())
        try:
            for chunk in segment_bytes(stream, name, note):
                digest.update(chunk)
                if name in files:
                    files[name].write(chunk)
        except DataError as error:
            raise DataError(f"{error}; {source.cure}") from None
    return digest.hexdigest()


class _Sources:
    """Journals and archives of sources, a few of them open at a time."""

    def __init__(self, archives: Sequence[str]) -> None:
        self._archives = archives
        self._open: dict[Path, tuple[ExitStack, BinaryIO, dict[str, BinaryIO]]] = {}

    def open(self, source: Source, begin: int) -> tuple[Note, dict[str, BinaryIO]]:
        """The note at a byte of the journal, and the archives."""
        if source.folder not in self._open:
            if len(self._open) >= _SOURCES_OPEN:
                self._open.pop(next(iter(self._open)))[0].close()
            stack, files = ExitStack(), dict[str, BinaryIO]()
            for name in (JOURNAL, *self._archives):
                files[name] = stack.enter_context(open(source.folder / name, "rb"))  # noqa: SIM115
            self._open[source.folder] = stack, files.pop(JOURNAL), files
        _, journal, streams = self._open[source.folder]
        if journal.tell() != begin:
            journal.seek(begin)
        return json.loads(journal.readline().decode()), streams

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *exc: object) -> None:
        for stack, _, _ in self._open.values():
            stack.close()


class _Hashed:
    """Writes bytes and knows their hash and number."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self._size = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._size += len(data)

    def output(self) -> Output:
        return Output(self._digest.hexdigest(), self._size)


@contextmanager
def _hashed(path: Path, made: dict[str, Output]) -> Iterator[_Hashed]:
    with atomic_write(path, "wb") as stream:
        hashed = _Hashed(stream)
        yield hashed
    made[path.name] = hashed.output()
