"""A job array on a grid, from submission to summary: what utils/slurm.py and utils/queue.py have in common.

Each array has a folder ``q/<log's name>/`` beside its logs. There, per attempt, is what utils/grid_task.py needs to run
the tasks on the nodes (`array.json`), what the scheduler and the nodes print (`out.<task>`), and what becomes of the
tasks (`status.<task>`, each written by its task in the end). The folder is removed with the run.

A task's end is known from its status file, from the scheduler, or from both; docs/grid.md tells how they are weighed.
Looking for status files costs little and is done every few seconds. The scheduler is asked for the array as a whole,
at intervals that grow to POLL_S[1], sooner when a task was killed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from utils import launch

ROOT = Path(__file__).resolve().parents[1]
CALL_TIMEOUT_S = 60.0  # for one answer of the scheduler
POLL_S = (1.0, 30.0)  # shortest and longest time between two questions to the scheduler
TICK_S = (0.2, 3.0)  # likewise between two looks for status files
GROWTH = 1.3
OWN = {"--config": 1, "--retries": 1}
LIMIT = {"--max-jobs-run": 1, "-tc": 1}
RAW = {"-V": 0, "-pe": 2}  # options of qsub and sbatch that do not take one value
# What slurmstepd and sge_execd print into a task's output when they end it.
SAID = {
    r"exceeded (job |step )?memory limit|oom[-_ ]kill|out[-_ ]of[-_ ]memory": "memory limit exceeded",
    r"due to time limit": "time limit reached",
    r"due to node failure": "node failed",
    r"due to preemption": "preempted",
    r"cancelled at": "cancelled",
}


class Outage(Exception):
    """The scheduler does not answer, which may pass."""


@dataclass
class Seen:
    """What the scheduler says about a task.

    Attributes:
        state: waiting, running, stuck (it will never start) or ended
        reason: why it ended or is stuck, where that tells more than an exit code
        code: exit code, where it is known
        final: whether trying again makes no sense, since somebody wanted the end
    """

    state: str
    reason: str = ""
    code: int | None = None
    final: bool = False


@dataclass
class Task(launch.Job):
    """A job, and what is known of it while its array is on the grid."""

    status: dict[str, Any] | None = None
    seen: Seen | None = None
    unclear_since: float | None = None
    final: bool = False


@dataclass
class Config:
    """A site's settings: program that submits, options in its words, defaults, and how long to be patient."""

    command: list[str] = field(default_factory=list)
    options: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    patience_s: float = 60.0
    outage_s: float = 3600.0

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read a file in the form of Kaldi's queue.conf; leaves the process with file and line at the first error."""
        config = cls()
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            sys.exit(f"{launch.program()}: cannot read the settings in {path}: {error}")
        for number, line in enumerate(lines, 1):
            try:
                key, *words = shlex.split(line, comments=True) or [""]
                setting = re.fullmatch(r"([A-Za-z]\w*)=(.*)", words[0]) if words else None
                if key == "command" and words:
                    config.command = words
                elif key == "option" and setting:
                    config.options.setdefault(setting[1], {})[setting[2]] = words[1:]
                elif key == "default" and setting and len(words) == 1:
                    config.defaults[setting[1]] = setting[2]
                elif key in ("patience", "outage") and len(words) == 1:
                    setattr(config, f"{key}_s", float(words[0]))
                elif key:
                    raise ValueError("expected command, option name=value, default name=value, patience or outage")
            except ValueError as error:
                sys.exit(f"{launch.program()}: {path}:{number}: {error}; found '{line}'")
        if not config.command:
            sys.exit(f"{launch.program()}: {path}: lacks the line 'command <program that submits>'")
        return config

    def words(self, name: str, value: str) -> list[str]:
        """An option in the scheduler's words; leaves the process with the valid ones when there is none such."""
        table = self.options.get(name, {})
        if value in table:
            return table[value]
        if "*" not in table:
            valid = sorted({f"--{known.replace('_', '-')}" for known in self.options} | OWN.keys() | LIMIT.keys())
            launch.refuse(f"unknown option --{name.replace('_', '-')} {value}; valid: {' '.join(valid)}")
        return [word.replace("$0", value) for word in table["*"]]


@dataclass
class Request:
    """What the command line asks for.

    Attributes:
        tasks: the jobs
        words: options for the program that submits
        limit: how many tasks may run at once; 0: as many as the grid likes
        retries: how often failed tasks are run again
        gpus: GPUs per task
        threads: CPU cores per task
    """

    tasks: list[Task]
    words: list[str]
    config: Config
    limit: int = 0
    retries: int = 0
    gpus: int = 0
    threads: int = 1


def seconds_of(text: str) -> int:
    """Seconds in ``90s``, ``30m``, ``2h``, ``1d12h``, ``2:00:00`` or ``1-12:00:00``; leaves the process otherwise."""
    match = re.fullmatch(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    match = match or re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if match is None:
        launch.refuse(f"--time takes a time with its units, such as 90s, 30m, 2h, 1d12h or 2:00:00, found '{text}'")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def resource(name: str, value: str) -> str:
    """Check the value of one of the options that mean the same everywhere, and write it as both schedulers take it."""
    if name == "mem" and not re.fullmatch(r"0|\d+(\.\d+)?[KMGT]", value.upper()):
        launch.refuse(f"--mem takes a size with its unit, such as 500M or 4G, found '{value}'")
    if name in ("gpu", "num_threads"):
        launch.whole_number(f"--{name.replace('_', '-')}", value, least=int(name != "gpu"))
    if name == "time":
        seconds = seconds_of(value)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return value.upper() if name == "mem" else value


def parse(args: Sequence[str], config_file: Path, help_text: str | None) -> Request:
    """What a command line asks for, with the site's settings applied. Leaves the process where it is malformed."""
    call = launch.parse(args, OWN | LIMIT | RAW, 1, help_text)
    given = {option: values[-1] for option, values in call.options if option in OWN}
    config = Config.read(Path(given["--config"]) if "--config" in given else config_file)
    tasks = [Task(*call.job(number)) for number in call.numbers]
    request = Request(tasks, [], config)
    settings = {name: resource(name, value) for name, value in config.defaults.items()}
    raw = []
    for option, values in call.options:
        if option in LIMIT:
            request.limit = launch.whole_number(option, values[0])
        elif option == "--retries":
            request.retries = launch.whole_number(option, values[0], least=0)
        elif option.startswith("--") and option != "--config":
            name = option[2:].replace("-", "_")
            settings[name] = resource(name, values[0])
        elif not option.startswith("--") and option not in ("-sync", "-V"):  # it waits in any case, with all variables
            raw += [option, *values]
    for name, value in settings.items():
        request.words += config.words(name, value)
    request.words += raw
    request.gpus = int(settings.get("gpu", "0"))
    request.threads = int(settings.get("num_threads", "1"))
    return request


class Scheduler(ABC):
    """How one kind of grid is spoken to. Tasks of an array are numbered from 1 here."""

    title: ClassVar[str]
    config_file: ClassVar[Path]
    task_variable: ClassVar[str]  # environment variable with the number of the task
    job_variable: ClassVar[str]  # and with the array's id
    own_variables: ClassVar[str]  # pattern of the variables that the scheduler sets for a task
    removed_variables: ClassVar[str]  # pattern of the caller's variables that would change what its programs do
    reserved_codes: ClassVar[list[int]]  # exit codes that have a meaning for the scheduler
    claims_gpus: ClassVar[bool]  # whether tasks have to choose their GPUs
    silent: ClassVar[re.Pattern[str]]  # what its programs print when the scheduler does not answer
    cancel_command: ClassVar[str]

    def call(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of the scheduler's programs, out of reach of the terminal's Ctrl-C.

        Raises:
            Outage: it hangs, or says that the scheduler does not answer
        """
        environ = {name: v for name, v in os.environ.items() if not re.fullmatch(self.removed_variables, name)}
        environ |= {"LC_ALL": "C", "SGE_SINGLE_LINE": "1"}
        try:
            result = subprocess.run(
                command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=CALL_TIMEOUT_S, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Outage(f"{command[0]} gave no answer within {CALL_TIMEOUT_S:.0f} seconds") from None
        except FileNotFoundError:
            sys.exit(f"{launch.program()}: there is no {command[0]} on PATH; is this a host to submit from?")
        if result.returncode != 0 and self.silent.search(result.stderr + result.stdout):
            raise Outage((result.stderr + result.stdout).strip())
        return result

    @abstractmethod
    def submission(self, name: str, size: int, limit: int) -> list[str]:
        """Options that make a job array of tasks 1 to ``size`` with the output of each in out.<task>."""

    @abstractmethod
    def job_id(self, output: str) -> str:
        """The array's id in what the program that submits prints."""

    @abstractmethod
    def find(self, name: str) -> str | None:
        """Id of the array of that name that waits or runs, if there is one. Raises Outage."""

    @abstractmethod
    def look(self, job: str, wanted: Collection[int]) -> dict[int, Seen]:
        """What is known about the tasks of an array; those that the scheduler knows nothing about are left out.

        Args:
            job: id of the array
            wanted: tasks that are worth looking up in the accounting when they are no longer in the queue

        Raises:
            Outage: the scheduler does not answer
        """

    @abstractmethod
    def cancel(self, job: str, tasks: Collection[int] = ()) -> None:
        """Cancel an array or some tasks of it. Raises Outage."""


class Run:
    """One array on the grid, with its attempts."""

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self.scheduler = scheduler
        self.request = request
        self.folder = Path()
        self.name = ""  # of the array that may be alive
        self.job = ""
        self.ended_by = 0
        self.with_bar = sys.stderr.isatty()
        self.woken = launch.wake_up_pipe(launch.ENDS)

    def say(self, text: str) -> None:
        print(f"{launch.program()}: {text}", file=sys.stderr, flush=True)

    def sleep(self, seconds: float) -> bool:
        """Sleep; False when a signal asked for the end."""
        if not self.ended_by and select.select([self.woken], [], [], max(seconds, 0))[0]:
            self.ended_by = next((n for n in os.read(self.woken, 4096) if n in launch.ENDS), 0)
        return not self.ended_by

    def submit(self, size: int) -> bool:
        """Submit an array of ``size`` tasks, waiting for the scheduler where it does not answer. False: signalled.

        Whether an array was made is asked by its name before another attempt, so that none is made twice.
        """
        config = self.request.config
        options = self.scheduler.submission(self.name, size, min(self.request.limit, size))
        deadline = time.monotonic() + config.outage_s
        pause = POLL_S[0]
        tried = False
        while True:
            try:
                found = self.scheduler.find(self.name) if tried else None
                tried = True
                if found is None:
                    command = [*config.command, *options, *self.request.words, "task.sh"]
                    result = self.scheduler.call(*command, cwd=self.folder)
                    if result.returncode != 0:
                        self.name = ""
                        sys.exit(
                            f"{launch.program()}: {shlex.join(command)}: {(result.stderr + result.stdout).strip()}"
                        )
                    found = self.scheduler.job_id(result.stdout)
                self.job = found
                return True
            except Outage as error:
                if time.monotonic() > deadline:
                    sys.exit(f"{launch.program()}: not submitted: {error}")
                if pause == POLL_S[0]:
                    self.say(f"{self.scheduler.title} does not answer, trying again: {error}")
                pause = min(pause * GROWTH, POLL_S[1])
                if not self.sleep(pause):
                    return False

    def prepare(self, tasks: Sequence[Task], folder: Path) -> None:
        """Write what the tasks of one attempt need, and forget how those of the last one ended."""
        for task in tasks:
            task.exit_code = task.status = task.seen = task.unclear_since = None
            task.reason = ""
        self.folder = folder
        folder.mkdir(parents=True)
        mask = os.umask(0)
        os.umask(mask)
        words = {word for task in tasks for word in task.command}
        array = {
            "tasks": [[task.command, str(task.log)] for task in tasks],
            "there": sorted(word for word in words if os.path.exists(word)),
            "patience_s": self.request.config.patience_s,
            "environ": dict(os.environ),
            "directory": os.getcwd(),
            "umask": mask,
            "threads": self.request.threads,
            "claims_gpus": self.request.gpus if self.scheduler.claims_gpus else 0,
            "task_variable": self.scheduler.task_variable,
            "job_variable": self.scheduler.job_variable,
            "own_variables": self.scheduler.own_variables,
            "reserved_codes": self.scheduler.reserved_codes,
        }
        # The environment may hold secrets: for the owner's eyes only.
        with open(os.open(folder / "array.json", os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            json.dump(array, stream)
        call = shlex.join([sys.executable, str(ROOT / "utils" / "grid_task.py"), str(folder.resolve())])
        (folder / "task.sh").write_text(f"#!/bin/bash\nexec {call}\n")

    def read_statuses(self, tasks: Sequence[Task]) -> bool:
        """Take over the status files that are there. True when one speaks of a signal: the scheduler may know more."""
        with suppress(OSError):  # making and removing a file has a network's file system look at the folder again
            (self.folder / ".look").touch()
            (self.folder / ".look").unlink()
        try:
            there = set(os.listdir(self.folder))
        except OSError:  # out of sight, which on a network's file system may pass; else the scheduler decides
            return False
        news = False
        for index, task in enumerate(tasks, 1):
            if task.exit_code is None and task.status is None and f"status.{index}" in there:
                try:
                    task.status = json.loads((self.folder / f"status.{index}").read_text())
                except (OSError, ValueError):  # listed, but not to be read yet
                    continue
                news |= bool(task.status and task.status["signalled"])
                if task.seen and task.seen.state in ("waiting", "running"):
                    task.seen = None  # that was before
        return news

    def said(self, index: int) -> tuple[str, list[str]]:
        """Why a task ended according to what was printed outside of its log, and the lines of that."""
        try:
            lines = (self.folder / f"out.{index}").read_text(errors="replace").splitlines()
        except OSError:
            return "", []
        text = "\n".join(lines)
        return next((why for pattern, why in SAID.items() if re.search(pattern, text, re.IGNORECASE)), ""), lines

    def settle(self, task: Task, index: int, listed: bool) -> None:
        """Decide whether a task has ended, from its status and from what the scheduler says.

        Args:
            listed: whether the scheduler has answered since the attempt began
        """
        status, seen = task.status, task.seen
        ended = seen is not None and seen.state in ("ended", "stuck")
        if status and not status["signalled"]:
            self.end(task, index, status["code"], status["reason"])
        elif status and seen and seen.state == "waiting":  # put back into the queue
            task.status = None
            (self.folder / f"status.{index}").unlink(missing_ok=True)
        elif seen and ended and (status or seen.reason or self.said(index)[0]):
            code = status["code"] if status else seen.code
            self.end(task, index, code or 1, seen.reason, seen.final)
        elif not status and not ended and (seen or not listed):
            task.unclear_since = None
        elif task.unclear_since is None:
            task.unclear_since = time.monotonic()
        elif time.monotonic() > task.unclear_since + self.request.config.patience_s:
            if status:
                self.end(task, index, status["code"])
            elif seen and seen.code == 0:
                self.end(task, index, 0)
            elif seen:
                self.end(task, index, seen.code or 1, "ended without a result; see what the node printed")
            else:
                self.end(task, index, 1, "lost: the scheduler no longer knows it, or it was cancelled while it waited")

    def end(self, task: Task, index: int, code: int, reason: str = "", final: bool = False) -> None:
        """Note a task's outcome, and in its log what the log does not say yet."""
        said, lines = self.said(index)
        own = task.status["reason"] if task.status else ""
        task.exit_code, task.final = code, final
        task.reason = (said or reason or own) if code else ""
        text = "".join(f"# {self.scheduler.title}: {line}\n" for line in lines[-20:])
        if not task.status and code:
            text += f"# Ended (code {code}) ({task.reason}) at {launch.now()}\n"
        elif task.reason != own:
            text += f"# {self.scheduler.title}: {task.reason}\n"
        with suppress(OSError):  # a full disk must not end the other tasks; the summary says it all
            if text:
                task.log.parent.mkdir(parents=True, exist_ok=True)
                with open(task.log, "a", errors="replace") as stream:
                    stream.write(text)

    def watch(self, tasks: Sequence[Task]) -> bool:
        """Wait for the end of all tasks of an attempt. False: signalled."""
        config = self.request.config
        tick, poll = TICK_S[0], POLL_S[0]
        next_poll = time.monotonic() + poll
        answered = time.monotonic()
        listed = told = False
        open_tasks = dict(enumerate(tasks, 1))
        while open_tasks:
            if self.read_statuses(tasks):
                poll, next_poll = POLL_S[0], min(next_poll, time.monotonic() + POLL_S[0])
            if time.monotonic() >= next_poll:
                poll = min(poll * GROWTH, POLL_S[1])
                try:
                    known = self.scheduler.look(self.job, list(open_tasks))
                    for index, task in open_tasks.items():
                        task.seen = known.get(index)
                    answered, listed, told = time.monotonic(), True, False
                    if self.read_statuses(tasks):  # written before the scheduler noticed the end
                        poll = POLL_S[0]
                except Outage as error:
                    silence = time.monotonic() - answered
                    if silence > config.outage_s:
                        for index, task in open_tasks.items():
                            self.end(
                                task, index, 1, f"{self.scheduler.title} has not answered for {silence:.0f} seconds"
                            )
                        return True
                    if not told:
                        self.say(f"{self.scheduler.title} does not answer, the tasks go on: {error}")
                    told = True
                next_poll = time.monotonic() + poll
            for index, task in open_tasks.items():
                self.settle(task, index, listed)
                if task.exit_code is not None and task.seen and task.seen.state == "stuck":
                    with suppress(Outage):
                        self.scheduler.cancel(self.job, [index])
            open_tasks = {index: task for index, task in open_tasks.items() if task.exit_code is None}
            if self.with_bar:
                for task in tasks:
                    with suppress(OSError):  # not begun, or out of sight
                        launch.read_progress(task)
                    task.rate *= task.exit_code is None
                launch.draw_bar(self.request.tasks)
            tick = min(tick * GROWTH, TICK_S[1])
            if open_tasks and not self.sleep(tick):
                return False
        return True

    def stop(self) -> None:
        """Cancel the array and wait until it is gone, so that a run after this one meets nobody."""
        deadline = time.monotonic() + self.request.config.patience_s
        asked = told = False
        while time.monotonic() < deadline:
            try:
                job = self.scheduler.find(self.name)
                if job is None:
                    return
                if not asked:
                    self.say(f"cancels array {job}")
                    self.scheduler.cancel(job)
                asked = True
            except Outage as error:
                if not told:
                    self.say(f"{self.scheduler.title} does not answer, tries again to cancel the array: {error}")
                told = True
            time.sleep(POLL_S[0])
        self.say(f"the array may be alive still: {self.scheduler.cancel_command} {self.job or self.name}")

    def refuse_company(self, folder: Path) -> None:
        """Leave the process where an array of an earlier run with these logs is at work still."""
        names = sorted(path.read_text().strip() for path in folder.glob("name*"))
        for name in names:
            try:
                job = self.scheduler.find(name)
            except Outage as error:
                sys.exit(f"{launch.program()}: {error}; without an answer, whether array {name} still runs is unknown")
            if job is not None:
                what = f"array {job} of a killed run, or of another one, is at work on these logs"
                sys.exit(f"{launch.program()}: {what}; wait for it, or run {self.scheduler.cancel_command} {job}")
        shutil.rmtree(folder, ignore_errors=True)

    def run(self) -> int:
        """Run all tasks and again those that failed. Returns the exit status."""
        tasks = self.request.tasks
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", tasks[0].log.stem) or "log"
        folder = tasks[0].log.parent / "q" / stem
        self.refuse_company(folder)
        launch.remove_logs(tasks)
        try:
            for attempt in range(self.request.retries + 1):
                failed = [task for task in tasks if task.exit_code != 0]
                again = [task for task in failed if not task.final]
                if not again:
                    break
                if attempt:
                    what = f"{len(failed)} / {len(tasks)} failed, runs {len(again)} again"
                    self.say(f"{what} ({attempt} of {self.request.retries})")
                self.prepare(again, folder / str(attempt))
                self.name = f"j_{stem[:40]}_{secrets.token_hex(4)}"
                (folder / f"name.{attempt}").write_text(self.name)
                if not self.submit(len(again)) or not self.watch(again):
                    break
                self.name = ""
        finally:
            if self.with_bar:
                print(file=sys.stderr)
            if self.name:
                self.stop()
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()
        return launch.ended_by(self.ended_by) if self.ended_by else launch.report(tasks)


def main(scheduler: Scheduler, args: Sequence[str], help_text: str | None) -> int:
    """Run the array that a command line asks for. Returns the exit status."""
    request = parse(args, scheduler.config_file, help_text)
    try:
        return Run(scheduler, request).run()
    except OSError as error:
        sys.exit(f"{launch.program()}: {error.filename}: {error.strerror}")
