"""The folder in which jobs make a set of segments, and what a killed run left in it.

Beside the files of the set it holds, while work goes on: ``unfinished.json``, what the work was
begun with; ``jobs<nj>/<job>/``, a part of the list and what the job has done of it, with ``plan``,
the segments of all jobs and what decides each; ``earlier<n>/``, such a folder of a run whose list
was changed before it ended; ``previous/``, a finished set that is being extended. The record is the
last file to go there and the last to be written: who finds it in place has the whole set.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.data_dir import consecutive_parts
from vidperson.io.job_store import JOURNAL, JobStore, forget_gone, read_notes
from vidperson.io.lines import write_lines
from vidperson.io.merging import Plan, Source
from vidperson.io.record import RECORD, UNFINISHED, Record, read_record, read_unfinished, save_unfinished
from vidperson.io.segment_inputs import is_missing

_PLAN = "plan"


class SetFolder:
    """See the top of the file. archives: names of the archives that a job writes."""

    def __init__(self, path: Path, archives: Sequence[str]) -> None:
        self.path, self.archives = path, tuple(archives)
        self._previous, self._parts, self._trash = path / "previous", path / "parts", path / "trash"
        self._trial = path / "trial"

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep other runs out; a process that inherits the file descriptor does so, too.

        Raises DataError while another run is at work.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = "another run, or a job left by a killed one, is at work on it; wait for it or end it"
                raise DataError(message, self.path) from None
            yield stream.fileno()

    def record(self) -> Record | None:
        """The record of a whole set; None: it is not whole. Raises DataError for a damaged one."""
        return None if self._is_moving() else read_record(self.path)

    def begun_with(self) -> Record | None:
        """The record that unfinished work was begun with, or that of the set; None: neither."""
        return read_unfinished(self.path) or read_record(self.path)

    def has_work(self) -> bool:
        """Whether there is something to lose: a set, or segments that jobs have finished."""
        journals = (path for depth in ("", "*/", "*/*/") for path in self.path.glob(f"{depth}{JOURNAL}"))
        return (self.path / RECORD).exists() or any(path.stat().st_size for path in journals)

    def inputs_of_set(self) -> Iterator[tuple[str, str]]:
        """Each segment of the set, in order, with the text that told what decides it."""
        for note, _, _ in read_notes(self.path, self.archives):
            yield note["segment"], note.get("input", "")

    def inputs_then(self) -> Iterator[tuple[str, str]]:
        """The same of all that is there: the set, or else the previous one and jobs."""
        yield from self.inputs_of_set()
        if self.record() is not None:
            return
        for note, _, _ in read_notes(self._previous, self.archives):
            yield note["segment"], note.get("input", "")
        for folder in (*self._numbered("earlier"), *self._numbered("jobs")):
            yield from _read_plan(folder)

    def trial(self, name: str) -> Path:
        """A new folder with an empty list of this name, to try settings on."""
        self.remove_trial()
        self._trial.mkdir()
        (self._trial / name).touch()
        return self._trial

    def remove_trial(self) -> None:
        """Remove the folder of :meth:`trial`."""
        self._discard(self._trial)

    def clear(self) -> None:
        """Remove all but the lock, and log/q, which tells of arrays that outlive a killed run."""
        last = (RECORD, UNFINISHED)
        for path in sorted(self.path.iterdir(), key=lambda path: path.name in last):
            if path.name == "log":
                for log in path.iterdir():
                    if not log.name.startswith("q"):
                        self._discard(log)
            elif path.name != ".lock":
                self._discard(path)

    def begin(self, record: Record) -> None:
        """Say that work begins, and move a finished set to ``previous``, its record last."""
        whole = self.record()
        if whole is not None:
            self.remove_leftovers()
        save_unfinished(self.path, record)
        moving = read_record(self.path)
        if moving is not None:
            self._previous.mkdir(exist_ok=True)
            for name in (*moving.outputs, RECORD):
                if (self.path / name).exists():
                    os.replace(self.path / name, self._previous / name)

    def take_finished(self, plan: Plan, states: Sequence[str]) -> None:
        """Give a plan the segments of the previous set, and of runs whose list was changed.

        Jobs that were to do other segments than those that are left are such a run.
        Raises DataError while one of these jobs is at work still.
        """
        if self._previous.is_dir():
            plan.add_set(Source(self._previous, "put it back, or --force true recomputes the set"))
        for folder in self._numbered("earlier"):
            self._add_earlier(plan, folder, states)
        jobs = self.jobs()
        left = [(segment, plan.input_of(segment)) for segment in plan.to_do()]
        if jobs is not None and list(_read_plan(jobs)) != left:
            number = 1 + max([_number(folder) for folder in self._numbered("earlier")], default=0)
            earlier = self.path / f"earlier{number}"
            os.replace(jobs, earlier)
            self._add_earlier(plan, earlier, states)

    def jobs(self) -> Path | None:
        """The folder of the jobs that were started; None: none were."""
        return next(iter(self._numbered("jobs")), None)

    def start_jobs(self, name: str, lines: Mapping[str, str], work: Path, plan: Plan, most: int) -> Path:
        """Deal what is left to do to at most so many jobs, consecutive segments to each.

        name: file name of the part of the list that each job gets.
        lines: segment -> the rest of its line there.
        work: list of how much work each segment is; may be missing.
        Returns the folder of the jobs.
        """
        left = plan.to_do()
        count = min(most, len(left))
        self._discard(self._parts)
        for number, part in enumerate(consecutive_parts(left, work, count), 1):
            write_lines(self._parts / str(number) / name, (f"{s} {lines[s]}" for s in left[part.start : part.stop]))
        with atomic_write(self._parts / _PLAN) as stream:
            stream.writelines(f"{segment} {plan.input_of(segment)}\n" for segment in left)
        jobs = self.path / f"jobs{count}"
        os.replace(self._parts, jobs)
        return jobs

    def has_leftovers(self) -> bool:
        """Whether there is more than a finished set."""
        return any(path.exists() for path in (self.path / UNFINISHED, *self._leftovers()))

    def remove_leftovers(self) -> None:
        """Remove what a finished set was made of."""
        (self.path / UNFINISHED).unlink(missing_ok=True)
        for folder in self._leftovers():
            self._discard(folder)

    def _discard(self, path: Path) -> None:
        """Remove a file, or a folder at once: half of one would be taken for something else."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        shutil.rmtree(self._trash, ignore_errors=True)
        if path != self._trash:
            os.replace(path, self._trash)
            shutil.rmtree(self._trash, ignore_errors=True)

    def _leftovers(self) -> list[Path]:
        folders = [self._trash, self._previous, self._parts, self._trial]
        return [*folders, *self._numbered("jobs"), *self._numbered("earlier")]

    def _is_moving(self) -> bool:
        return self._previous.is_dir() and not (self._previous / RECORD).exists()

    def _numbered(self, name: str) -> list[Path]:
        folders = [path for path in self.path.glob(f"{name}[0-9]*") if path.name[len(name) :].isdecimal()]
        return sorted(folders, key=_number)

    def _add_earlier(self, plan: Plan, folder: Path, states: Sequence[str]) -> None:
        then = dict(_read_plan(folder))
        for job in job_folders(folder):
            JobStore(job, self.archives, states).close()  # cuts off what a power failure took
            forget_gone(job, self.archives, lambda segment: not is_missing(then.get(segment, "")))
            plan.add(Source(job), lambda note: then.get(note["segment"]))


def job_folders(jobs: Path) -> list[Path]:
    """The folders of jobs 1 to N."""
    return sorted((path for path in jobs.iterdir() if path.name.isdecimal()), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.lstrip("abcdefghijklmnopqrstuvwxyz"))


def _read_plan(folder: Path) -> Iterator[tuple[str, str]]:
    with open(folder / _PLAN, encoding="utf-8") as stream:
        for line in stream:
            segment, _, text = line.rstrip("\n").partition(" ")
            yield segment, text
