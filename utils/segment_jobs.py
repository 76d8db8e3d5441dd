#!/usr/bin/env python3
"""Run a command over a list of segments as an array of jobs, and join what they wrote to a set.

Usage: utils/segment_jobs.py [options] <list> <output folder> -- <command> [<argument> ...]

  --cmd CMD            launcher (default: utils/run.py)
  --nj N               number of jobs; never more than segments (default: 1)
  --archives NAMES     archives that a job writes
  --states STATES      what the status of a segment may begin with (default: ok)
  --input FILE         a file that decides the outcome of every segment; may be given again
  --per-segment PATH   a list, or a set that is finished: only what it says of a segment decides the
                       outcome of that segment; may be given again
  --media true         the list names files, which count by size and time of change (default: false)
  --speed-args ARGS    arguments of the command that change its speed and not its outcome
  --force true         remove what is there and start again (default: false)
  --patience-s S       seconds to wait for files that are seen late (default: 60)

The command is called per job with --scp <part of the list> --output-dir <folder of the job> added,
and keeps a journal there (vidperson/io/job_store.py). Started again, it resumes after the last
finished segment. The set does not depend on the number of jobs. Its record is written last.

A set that is done is left alone. Where segments were added to the list, changed or removed, only
the new and changed ones are done; meanwhile the old set is in <output folder>/previous. A set that
was made with other settings or inputs is refused, unless --force true recomputes it. That tries the
new settings on no segment first: what is there goes only when they are found valid.

Example:
  utils/segment_jobs.py --nj 4 --archives embed.ark --per-segment exp/x_det/y/dev \\
    data/dev/vid.scp exp/x_embed/z/dev -- python steps/embed.py --model exp/x_models/z
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

if not __package__:  # run as a program: utils is this folder, whose queue.py must not hide Python's own
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils.commands import flag, number, parse, refuse, run_child
from vidperson.errors import DataError, MediaError, VidPersonError, os_error_text
from vidperson.io.lists import read_scp
from vidperson.io.merging import Plan, check_segments, merge, reasons, set_files, summary
from vidperson.io.record import (
    RECORD,
    Output,
    Record,
    checked,
    damaged_outputs,
    differences,
    new_record,
    read_record,
    save_record,
)
from vidperson.io.segment_inputs import has_gone, is_missing, segment_inputs
from vidperson.io.set_folder import SetFolder, job_folders

SHOWN = 20
DIFFERENCES_SHOWN = 12
POLL_S = 0.5
AGAIN = f"{os.environ.get('VIDPERSON_STAGE', '')} --force true recomputes the set".strip()
DEFAULTS = {
    "--cmd": "utils/run.py", "--nj": "1", "--archives": "", "--states": "ok", "--media": "false",
    "--speed-args": "", "--force": "false", "--patience-s": "60",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What is asked for; see the top of the file."""

    cmd: list[str]
    nj: int
    archives: list[str]
    states: list[str]
    inputs: list[Path]
    per_segment: list[Path]
    media: bool
    speed_args: list[str]
    force: bool
    patience_s: float
    scp: Path
    out: Path
    command: list[str]


@dataclass(frozen=True)
class Now:
    """What options, files and environment are at this moment.

    lines: segment -> the rest of its line in the list.
    per_segment_files: inputs of the record that do not decide the outcome of all segments.
    """

    lines: dict[str, str]
    plan: Plan
    record: Record
    per_segment_files: list[Path]


def options_of(arguments: Sequence[str]) -> Options:
    """Leaves the process with a message where they are malformed."""
    given, lists, words, command = parse(arguments, DEFAULTS, ("--input", "--per-segment"), 2, __doc__)
    if given["--nj"] == "0":
        refuse(f"expected at least one job, found --nj 0; {words[1]} is left as it is")
    return Options(
        cmd=given["--cmd"].split(),
        nj=number("--nj", given["--nj"]),
        archives=given["--archives"].split(),
        states=given["--states"].split(),
        inputs=[Path(path) for path in lists["--input"]],
        per_segment=[Path(path) for path in lists["--per-segment"]],
        media=flag("--media", given["--media"]),
        speed_args=given["--speed-args"].split(),
        force=flag("--force", given["--force"]),
        patience_s=number("--patience-s", given["--patience-s"]),
        scp=Path(words[0]),
        out=Path(words[1]),
        command=command,
    )


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 when the set is done."""
    options = options_of(arguments)
    missing = missing_inputs(options)
    if missing:
        sys.exit("\n".join(missing))
    try:
        return make_set(options)
    except VidPersonError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(os_error_text(error))
    except KeyboardInterrupt:
        return 130


def missing_inputs(options: Options) -> list[str]:
    """A message for each input that is not there, with what makes it."""
    messages = []
    for path in (options.scp, *options.inputs, *options.per_segment):
        if path.is_dir() and not (path / RECORD).is_file():
            messages.append(f"{path} is not done; {maker_of(path)}")
        elif not path.exists():
            cure = "it lists the set's segments" if path == options.scp else maker_of(path)
            messages.append(f"there is no {path}; {cure}")
    return messages


def maker_of(path: Path) -> str:
    """What to run where a file of a stage is missing, by its place."""
    stages = {"_models": "run_000_", "_det": "run_002_", "_embed": "run_003_"}
    for part in path.parts:
        for ending, stage in stages.items():
            if part.endswith(ending):
                return f"run ./{next((script.name for script in Path().glob(f'{stage}*.sh')), stage)}"
    return "run ./run_001_prepare_data.sh, or put it there"


def make_set(options: Options) -> int:
    """Returns the exit status; raises VidPersonError and OSError."""
    now, folder = read_now(options), SetFolder(options.out, options.archives)
    if is_done(options, now, folder):
        if folder.has_leftovers():  # of a run that was killed at its last line
            with suppress(DataError, OSError), folder.locked():
                folder.remove_leftovers()
        return tell_done(options)
    with folder.locked() as lock:
        if is_done(options, now, folder):  # another run has done it meanwhile
            return tell_done(options)
        if options.media and all(is_missing(text) for _, text in now.plan.inputs()):
            message = f"none of the files in {options.scp} is there; is their disk mounted?"
            raise DataError(message, options.out)
        if options.force and folder.has_work() and (code := try_settings(options, lock)):
            return code
        if options.force or not folder.has_work():
            folder.clear()
        else:
            refuse_other_settings(options, now, folder)
        return work(options, now, folder, lock)


def tell_done(options: Options) -> int:
    """Exit status 0."""
    print(f"{options.out}: done already: {summary(options.out / 'status', options.states)} ({AGAIN})")
    return 0


def read_now(options: Options) -> Now:
    """Raises DataError for inputs that are malformed, or not as their stage wrote them."""
    lines = read_scp(options.scp)
    if not lines:
        raise DataError("expected a list of segments, found none", options.scp)
    files, of_sets = [options.scp], dict[Path, str]()
    for path in options.per_segment:
        if not path.is_dir():
            files.append(path)
            continue
        record = finished(path)
        for name in damaged_outputs(path, record, thorough=False):
            checked(path / name)
        of_sets |= {path / name: output.sha256 for name, output in record.outputs.items()}
    for path in options.inputs:
        checked(path)
    record = new_record(options.command, [*options.inputs, *files], hashed=of_sets)
    media_folder = options.scp.parent if options.media else None
    plan = Plan(segment_inputs(lines, options.per_segment, media_folder), options.archives)
    return Now(lines, plan, record, [*files, *of_sets])


def finished(path: Path) -> Record:
    """The record of a set. Raises DataError where there is none."""
    record = read_record(path)
    if record is None:
        raise DataError(f"it is not done; {maker_of(path)}", path)
    return record


def is_done(options: Options, now: Now, folder: SetFolder) -> bool:
    """Whether the set is as it would be made now. Nothing is written: it may be read-only.

    Raises DataError for a set that lost a file or has one that is not as it was written.
    """
    record = None if options.force else folder.record()
    if record is None or changes(options, now, record):
        return False
    for name in damaged_outputs(options.out, record, thorough=False):
        path = options.out / name
        state = "is not as it was written" if path.exists() else "is gone"
        raise DataError(f"it was done, but {path} {state}; put it back, or {AGAIN}", options.out)
    return all(then == new for then, new in zip_longest(folder.inputs_of_set(), now.plan.inputs()))


def changes(options: Options, now: Now, record: Record) -> list[str]:
    """In what settings and inputs of all segments differ from those of a record."""
    lines = differences(record, options.command, options.inputs, now.per_segment_files)
    then, files = list(record.outputs), set_files(options.archives)
    return lines + ([f"< {' '.join(then)}", f"> {' '.join(files)}"] if then and set(then) != set(files) else [])


def refuse_other_settings(options: Options, now: Now, folder: SetFolder) -> None:
    """Raises DataError unless the work that is there was begun with these settings and files."""
    record = folder.begun_with()
    if record is None:
        raise DataError(f"its record is gone, so nothing tells how it was made; {AGAIN}", options.out)
    lines = changes(options, now, record)
    if lines:
        more = ["..."] if len(lines) > DIFFERENCES_SHOWN else []
        raise DataError(
            "\n".join(
                [
                    f"{options.out} was made with other settings or inputs (< then, > now):",
                    *lines[:DIFFERENCES_SHOWN],
                    *more,
                    f"{AGAIN}; or remove {options.out}, or put back the settings and files of then",
                ]
            )
        )
    gone = [name for name, then in folder.inputs_then() if has_gone(then, now.plan.input_of(name) or "")]
    if gone:
        path = options.scp.parent / now.lines[gone[0]]
        raise DataError(
            f"{len(gone)} files that were there when it was made are gone, first that of '{gone[0]}': {path}; "
            f"put them back, or take the segments out of {options.scp}; {AGAIN}",
            options.out,
        )


def work(options: Options, now: Now, folder: SetFolder, lock: int) -> int:
    """Do what is left to do and write the set. Returns the exit status."""
    out, plan = options.out, now.plan
    folder.begin(now.record)
    folder.take_finished(plan, options.states)
    left = plan.to_do()
    if plan.sources:
        print(f"{out}: {len(left)} of {len(plan)} segments are new or changed; the others are kept")
    jobs = None
    if left:
        for path in options.per_segment:
            if path.is_dir():
                check_segments(path, left, finished(path).cure)
        jobs = folder.jobs()
        if jobs is None:
            # a part lies elsewhere than the list: its paths are absolute
            paths = {segment: os.path.abspath(options.scp.parent / now.lines[segment]) for segment in left}
            jobs = folder.start_jobs(options.scp.name, paths, options.scp.parent / "vid2dur", plan, options.nj)
        elif (count := len(job_folders(jobs))) != min(options.nj, len(left)):
            print(f"{out}: resumes with the {count} jobs that it was started with")
        if code := run_jobs(options, jobs, lock):
            return code
    outputs = collect(options, plan, jobs)
    save_record(out, replace(now.record, outputs=outputs))
    folder.remove_leftovers()
    print(f"{out}: {summary(out / 'status', options.states)}")
    for line in reasons(out / "status", SHOWN):
        print(f"  {line}")
    return 0


def try_settings(options: Options, lock: int) -> int:
    """Run the command on no segment. Returns the exit status."""
    trial = SetFolder(options.out, options.archives).trial(options.scp.name)
    job = ["--scp", str(trial / options.scp.name), "--output-dir", str(trial)]
    code = run_child(
        [*options.cmd, f"{options.out}/log/trial.log", *options.command, *options.speed_args, *job], [lock]
    )
    SetFolder(options.out, options.archives).remove_trial()
    if 0 < code < 128:
        print(f"{options.out}: left as it is, since the new settings do not work", file=sys.stderr)
    return code


def run_jobs(options: Options, jobs: Path, lock: int) -> int:
    """Run the array of jobs. Returns the exit status."""
    array = "JOB"  # the launcher puts the number wherever this is, be it part of the set's name
    while array in " ".join([str(options.out), *options.command, *options.speed_args]):
        array += "_"
    head = [*options.cmd, f"{array}=1:{len(job_folders(jobs))}", f"{options.out}/log/{array}.log"]
    job = ["--scp", f"{jobs}/{array}/{options.scp.name}", "--output-dir", f"{jobs}/{array}"]
    return run_child([*head, *options.command, *options.speed_args, *job], [lock])


def collect(options: Options, plan: Plan, jobs: Path | None) -> dict[str, Output]:
    """Write the set. What jobs elsewhere wrote last may be seen late and is waited for."""
    deadline = time.monotonic() + options.patience_s
    while True:
        try:
            if plan.to_do():
                plan.add_jobs(job_folders(jobs) if jobs else [], lambda name: not is_missing(plan.input_of(name) or ""))
            return merge(plan, options.out, options.states)
        except DataError as error:
            if time.monotonic() >= deadline:
                raise DataError(str(error), options.out) from None
            time.sleep(POLL_S)
        except MediaError as error:
            raise MediaError(f"{options.out}: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
