#!/usr/bin/env python3
"""Run commands over lists of segments as arrays of jobs, and join what they wrote to sets.

Usage: utils/segment_jobs.py [options] <list> <output folder> -- <command> [<argument> ...]
         [::: [options] <list> <output folder> -- <command> [<argument> ...]] ...

  --cmd CMD            launcher (default: utils/run.py)
  --nj N               number of jobs; never more than segments (default: 1); on this machine the number
                       of processes, which take smaller jobs first come, first served
  --archives NAMES     archives that a job writes
  --states STATES      what the status of a segment may begin with (default: ok)
  --input FILE         a file that decides the outcome of every segment; may be given again
  --per-segment PATH   a list, or a set that is finished: only what it says of a segment decides the
                       outcome of that segment; may be given again
  --media true         the list names files, which count by size and time of change (default: false)
  --of-files true      what decides the outcome of a segment decides that of all segments of the same file,
                       too (default: false)
  --validate true      the list lies in a data folder, which is validated first (default: false)
  --speed-args ARGS    arguments of the command that change its speed and not its outcome
  --check true         call the command, if it is a Python program, with --check true before there
                       are jobs, so that it refuses wrong options (default: false)
  --then CMD           a Python program to run on the set when it is done, and when it was done
                       already; the output folder is added as its last argument
  --stage NAME         the stage that makes the set, for its record (default: VIDPERSON_STAGE)
  --force true         remove what is there and start again (default: false)
  --patience-s S       seconds to wait for files that are seen late (default: 60)

The command is called per job with --scp <part of the list> --output-dir <folder of the job> added,
and keeps a journal there (vidperson/io/job_store.py). Started again, it resumes after the last
finished segment. The set does not depend on the number of jobs. Its record is written last.

A set that is done is left alone. Where segments were added to the list, changed or removed, only
the new and changed ones are done; meanwhile the old set is in <output folder>/previous. A set that
was made with other settings or inputs is refused, unless --force true recomputes it. That tries the
new settings on no segment first: what is there goes only when they are found valid.

Sets are made in the order in which they are given; one may read those before it. On this machine
(utils/run.py), Python programs run in forks of this process, and a job may go on with another set.

Example:
  utils/segment_jobs.py --nj 4 --archives embed.ark --per-segment exp/x_det/y/dev \\
    data/dev/vid.scp exp/x_embed/z/dev -- python steps/embed.py --model exp/x_models/z
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path
from types import ModuleType

if not __package__:  # run as a program: utils is this folder, whose queue.py must not hide Python's own
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils.commands import flag, is_program, number, parse, refuse, run_child, run_here
from vidperson.errors import DataError, MediaError, VidPersonError, os_error_text
from vidperson.io.data_dir import work_list
from vidperson.io.lines import read_scp
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

RUN = Path(__file__).with_name("run.py")
SHOWN = 20
PARTS = 4  # jobs per process, on this machine; each has at least so many segments:
LEAST = 4
SMALL = 100  # sets are made together until there is so much to do for each job, in segments
DIFFERENCES_SHOWN = 12
POLL_S = 0.5
BETWEEN_SETS = ":::"
DEFAULTS = {
    "--cmd": "utils/run.py", "--nj": "1", "--archives": "", "--states": "ok", "--media": "false",
    "--of-files": "false", "--validate": "false", "--speed-args": "", "--check": "false", "--then": "",
    "--stage": os.environ.get("VIDPERSON_STAGE", ""), "--force": "false", "--patience-s": "60",
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
    of_files: bool
    validate: bool
    speed_args: list[str]
    check: bool
    then: list[str]
    stage: str
    force: bool
    patience_s: float
    scp: Path
    out: Path
    command: list[str]

    @property
    def again(self) -> str:
        """How the set is recomputed."""
        return f"{self.stage} --force true recomputes the set".strip()

    @property
    def is_local(self) -> bool:
        """Whether jobs can be forks of this process."""
        return Path(self.cmd[0]).name == RUN.name and is_program(self.command) and RUN.samefile(self.cmd[0])


@dataclass(frozen=True)
class Now:
    """What options, files and environment are at this moment.

    lines: segment -> the rest of its line in the list.
    files: inputs of the record that do not decide the outcome of all segments.
    of_sets: likewise, of sets, with their SHA-256.
    """

    lines: dict[str, str]
    plan: Plan
    files: list[Path]
    of_sets: dict[Path, str]

    def record(self, options: Options) -> Record:
        """What the set is made with."""
        record = new_record(options.command, [*options.inputs, *self.files], hashed=self.of_sets)
        return replace(record, stage=options.stage)


@dataclass(frozen=True)
class Array:
    """Jobs that are to be run. lock: a file descriptor that they inherit. segments: how many there are in all."""

    options: Options
    jobs: Path
    lock: int
    segments: int


Making = Generator[Array, int, int]


def options_of(arguments: Sequence[str]) -> Options:
    """Of one set. Leaves the process with a message where they are malformed."""
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
        of_files=flag("--of-files", given["--of-files"]),
        validate=flag("--validate", given["--validate"]),
        speed_args=given["--speed-args"].split(),
        check=flag("--check", given["--check"]),
        then=given["--then"].split(),
        stage=given["--stage"],
        force=flag("--force", given["--force"]),
        patience_s=number("--patience-s", given["--patience-s"]),
        scp=Path(words[0]),
        out=Path(words[1]),
        command=command,
    )


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 when the sets are done."""
    words = list(arguments)
    sets = [list(group) for is_between, group in groupby(words, BETWEEN_SETS.__eq__) if not is_between]
    asked = [options_of(words) for words in sets or [[]]]
    try:
        for folder in dict.fromkeys(options.scp.parent for options in asked if options.validate):
            from vidperson.io.data_dir import require_valid

            require_valid(folder)
        return make_sets(asked)
    except VidPersonError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(os_error_text(error))
    except KeyboardInterrupt:
        return 130


def make_sets(asked: Sequence[Options]) -> int:
    """Make one set after the other. Returns the exit status; raises VidPersonError and OSError.

    The jobs of small sets that do not read each other are run as one array: none waits for the last job of another.
    """
    with ExitStack() as stack:
        begun: list[tuple[Making, Array]] = []
        for options in asked:
            if begun and not joins(options, [array for _, array in begun]):
                if code := end_sets(begun):
                    return code
                begun = []
            making = stack.enter_context(closing(make_set(options)))
            try:
                begun.append((making, next(making)))
            except StopIteration as end:
                if end.value:
                    end_sets(begun)  # what is begun is not left behind unfinished
                    return end.value
            except (VidPersonError, OSError, SystemExit):
                end_sets(begun)
                raise
        return end_sets(begun)


def joins(options: Options, begun: Sequence[Array]) -> bool:
    """Whether the jobs of a set may be run together with those of sets that are begun."""
    others = [array.options for array in begun]
    return (
        all(other.is_local and other.cmd == options.cmd and other.nj == options.nj for other in (options, *others))
        and not {other.out for other in others} & {*options.inputs, *options.per_segment}
        and sum(array.segments for array in begun) < SMALL * options.nj
    )


def end_sets(begun: Sequence[tuple[Making, Array]]) -> int:
    """Run the jobs of sets, and write those sets of which all jobs have succeeded. Returns the exit status."""
    if begun and begun[0][1].options.is_local:
        codes = run_together([array for _, array in begun])
    else:
        codes = [run_launcher(array) for _, array in begun]
    outcomes = []
    for (making, _), code in zip(begun, codes, strict=True):
        try:
            making.send(code)
        except StopIteration as end:
            outcomes.append(end.value)
    return next(filter(None, outcomes), 0)


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


def make_set(options: Options) -> Making:
    """Gives an array of jobs to run, if there are any, and is sent their exit status.

    Returns the exit status; raises VidPersonError and OSError.
    """
    missing = missing_inputs(options)
    if missing:
        sys.exit("\n".join(missing))
    now, folder = read_now(options), SetFolder(options.out, options.archives)
    if is_done(options, now, folder):
        if folder.has_leftovers():  # of a run that was killed at its last line
            with suppress(DataError, OSError), folder.locked():
                folder.remove_leftovers()
        return tell_done(options)
    if options.check and is_program(options.command) and (code := check_options(options)):
        return code
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
        return (yield from work(options, now, folder, lock))


def tell_done(options: Options) -> int:
    """Returns the exit status."""
    print(f"{options.out}: done already: {summary(options.out / 'status', options.states)} ({options.again})")
    return run_then(options)


def run_then(options: Options) -> int:
    """What follows on a set that is done, in a fork: it may start threads. Returns the exit status."""
    if not options.then:
        return 0
    from vidperson.supervision import Supervisor

    with Supervisor(lambda _: run_here([*options.then[1:], str(options.out)])) as fork:
        return fork.run("")


def check_options(options: Options) -> int:
    """Let the command refuse wrong options. Returns the exit status."""
    job = ["--scp", str(options.scp), "--output-dir", str(options.out)]
    return run_here([*options.command[1:], *options.speed_args, *job, "--check", "true"])


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
    media_folder = options.scp.parent if options.media else None
    plan = Plan(segment_inputs(lines, options.per_segment, media_folder, options.of_files), options.archives)
    return Now(lines, plan, files, of_sets)


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
        raise DataError(f"it was done, but {path} {state}; put it back, or {options.again}", options.out)
    return all(then == new for then, new in zip_longest(folder.inputs_of_set(), now.plan.inputs()))


def changes(options: Options, now: Now, record: Record) -> list[str]:
    """In what settings and inputs of all segments differ from those of a record."""
    lines = differences(record, options.command, options.inputs, [*now.files, *now.of_sets])
    then, files = list(record.outputs), set_files(options.archives)
    return lines + ([f"< {' '.join(then)}", f"> {' '.join(files)}"] if then and set(then) != set(files) else [])


def refuse_other_settings(options: Options, now: Now, folder: SetFolder) -> None:
    """Raises DataError unless the work that is there was begun with these settings and files."""
    record = folder.begun_with()
    if record is None:
        raise DataError(f"its record is gone, so nothing tells how it was made; {options.again}", options.out)
    lines = changes(options, now, record)
    if lines:
        more = ["..."] if len(lines) > DIFFERENCES_SHOWN else []
        raise DataError(
            "\n".join(
                [
                    f"{options.out} was made with other settings or inputs (< then, > now):",
                    *lines[:DIFFERENCES_SHOWN],
                    *more,
                    f"{options.again}; or remove {options.out}, or put back the settings and files of then",
                ]
            )
        )
    gone = [name for name, then in folder.inputs_then() if has_gone(then, now.plan.input_of(name) or "")]
    if gone:
        path = options.scp.parent / now.lines[gone[0]]
        raise DataError(
            f"{len(gone)} files that were there when it was made are gone, first that of '{gone[0]}': {path}; "
            f"put them back, or take the segments out of {options.scp}; {options.again}",
            options.out,
        )


def work(options: Options, now: Now, folder: SetFolder, lock: int) -> Making:
    """Do what is left to do and write the set. As :func:`make_set`."""
    out, plan = options.out, now.plan
    record = now.record(options)
    folder.begin(record)
    folder.take_finished(plan, options.states)
    left = plan.to_do()
    if plan.sources:
        print(f"{out}: {len(left)} of {len(plan)} segments are new or changed; the others are kept")
    jobs = None
    if left:
        for path in options.per_segment:
            if path.is_dir():
                check_segments(path, left, finished(path).cure)
        jobs, parts = folder.jobs(), parts_of(options, len(left))
        if jobs is None:
            # a part lies elsewhere than the list: its paths are absolute
            paths = {segment: os.path.abspath(options.scp.parent / now.lines[segment]) for segment in left}
            work = work_list(options.scp.parent, decodes=options.media and options.scp.name != "wav.scp")
            jobs = folder.start_jobs(options.scp.name, paths, work, plan, parts)
        elif (count := len(job_folders(jobs))) != min(parts, len(left)):
            print(f"{out}: resumes with the {count} jobs that it was started with")
        if code := (yield Array(options, jobs, lock, len(left))):
            return code
    outputs = collect(options, plan, jobs)
    save_record(out, replace(record, outputs=outputs))
    folder.remove_leftovers()
    print(f"{out}: {summary(out / 'status', options.states)}")
    for line in reasons(out / "status", SHOWN):
        print(f"  {line}")
    return run_then(options)


def parts_of(options: Options, segments: int) -> int:
    """How many jobs the work is dealt to; on this machine more than run at once, so that none waits for a slow one."""
    if options.nj == 1 or not options.is_local:
        return options.nj
    return max(options.nj, min(PARTS * options.nj, segments // LEAST))


def try_settings(options: Options, lock: int) -> int:
    """Run the command on no segment. Returns the exit status."""
    trial = SetFolder(options.out, options.archives).trial(options.scp.name)
    job = [f"{options.out}/log/trial.log", *options.command, *options.speed_args]
    job += ["--scp", str(trial / options.scp.name), "--output-dir", str(trial)]
    code = run_forks([[*options.cmd[1:], *job]], 1)[0] if options.is_local else run_child([*options.cmd, *job], [lock])
    SetFolder(options.out, options.archives).remove_trial()
    if 0 < code < 128:
        print(f"{options.out}: left as it is, since the new settings do not work", file=sys.stderr)
    return code


def launcher_call(array: Array) -> list[str]:
    """What the launcher of a set is called with."""
    options, name = array.options, "JOB"
    # the launcher puts the number wherever this is, be it part of the set's name
    while name in " ".join([str(options.out), *options.command, *options.speed_args]):
        name += "_"
    head = [*options.cmd[1:], f"{name}=1:{len(job_folders(array.jobs))}", f"{options.out}/log/{name}.log"]
    job = ["--scp", f"{array.jobs}/{name}/{options.scp.name}", "--output-dir", f"{array.jobs}/{name}"]
    return [*head, *options.command, *options.speed_args, *job]


def run_launcher(array: Array) -> int:
    """Run the jobs of a set by its launcher. Returns the exit status."""
    return run_child([array.options.cmd[0], *launcher_call(array)], [array.lock])


def run_together(arrays: Sequence[Array]) -> list[int]:
    """Run the jobs of sets in forks of this process. Returns the exit status of each set."""
    return run_forks([launcher_call(array) for array in arrays], arrays[0].options.nj)


def run_forks(calls: Sequence[Sequence[str]], most: int) -> list[int]:
    """Run the jobs of several calls of the launcher run.py, at most so many at once. Returns their exit status."""
    from utils import launch, run
    from utils.workers import Workers

    arrays = [run.parse(list(call)) for call in calls]
    jobs = [job for array, _ in arrays for job in array]
    launch.remove_logs(jobs)
    with Workers() as workers:

        def start(job: run.Job) -> None:
            run.begin(job)
            task = workers.start(job.command, job.log)
            job.process, job.stream = task, task.stream

        signal = run.run(jobs, min(most, *(limit for _, limit in arrays)), start)
    if signal:
        sys.exit(launch.ended_by(signal, RUN.name))
    return [launch.report(array, RUN.name) for array, _ in arrays]


def is_there(options: Options, plan: Plan, name: str) -> bool:
    """Whether the file of a segment can be read; without --media a stage before has told of those that cannot."""
    return options.media and not is_missing(plan.input_of(name) or "")


def collect(options: Options, plan: Plan, jobs: Path | None) -> dict[str, Output]:
    """Write the set. What jobs elsewhere wrote last may be seen late and is waited for."""
    deadline = time.monotonic() + options.patience_s
    while True:
        try:
            if plan.to_do():
                plan.add_jobs(job_folders(jobs) if jobs else [], lambda name: is_there(options, plan, name))
            return merge(plan, options.out, options.states)
        except DataError as error:
            if time.monotonic() >= deadline:
                raise DataError(str(error), options.out) from None
            time.sleep(POLL_S)
        except MediaError as error:
            raise MediaError(f"{options.out}: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
