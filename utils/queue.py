#!/usr/bin/env python3
"""Run a command, or an array of jobs, on a Grid Engine (SGE); called as Kaldi's queue.pl is.

Usage: utils/queue.py [options] [JOB=1:N] <log> <command> [<argument> ...]

Example:
  utils/queue.py --mem 4G --max-jobs-run 20 -q all.q JOB=1:100 exp/log/detect.JOB.log \\
    python steps_face/detect_faces.py --scp data/dev/split100/JOB/vid.scp

JOB may be any name; it is replaced by the number of the job wherever it stands in the log's name and in the
command. The command is run as it is given, without a shell, with the environment and in the folder of the caller.
The call ends when all jobs have; its exit status is 1 when one failed, and stderr then names the logs and the reasons.
Interrupted or terminated, it deletes the array.

Options:
  --mem 4G             memory per job
  --gpu N              GPUs per job; where the queue does not set CUDA_VISIBLE_DEVICES, the job claims free ones
  --num-threads N      CPU cores per job
  --time 2h            time limit per job: 90s, 30m, 2h, 1d12h or 2:00:00
  --max-jobs-run N     at most N jobs at once; also -tc N
  --retries K          run jobs that failed up to K times more
  --config FILE        the site's settings (default: global_conf/grid/sge.conf), which may define more options
  --help               this text
  -x value             any option of qsub with one value, as it is: -l h_vmem=4G -q all.q -P project; and -pe smp 4
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Collection
from types import ModuleType
from xml.etree import ElementTree

if not __package__:  # run as a program: utils is this folder, and no file of it or beside it hides Python's own modules
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils import grid
from utils.grid import Seen

UNITS = {"": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
LIMITS = 37  # "failed" in the accounting: the master enforced a limit


def indices(text: str) -> set[int]:
    """Tasks in qstat's list, such as ``1,3-9:2``."""
    found: set[int] = set()
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip()):
            found |= set(range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1)))
    return found


def quantity(text: str) -> float:
    """A number of seconds (``7s``, ``0:02:00``) or bytes (``9.4MB``, ``4G``) in the accounting; 0 where it is none."""
    if re.fullmatch(r"\d+(:\d+)+", text):
        seconds = 0
        for part in text.split(":"):
            seconds = seconds * 60 + int(part)
        return seconds
    match = re.match(r"(\d+(?:\.\d+)?)\s*([KMGTB]?)", text)
    return float(match[1]) * UNITS[match[2]] if match else 0.0


def records(text: str) -> list[dict[str, str]]:
    """Fields of each record that qacct -j prints; a line that it folded with a backslash is one line again."""
    found: list[dict[str, str]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith("===="):
            found.append({})
        elif found and line.strip():
            name, _, value = line.partition(" ")
            found[-1][name] = value.strip()
    return found


def ending(record: dict[str, str]) -> Seen:
    """What a record of the accounting says about a task's end."""
    failed = int(re.match(r"\d*", record.get("failed", ""))[0] or 0)  # type: ignore[index]  # it always matches
    code = int(re.match(r"\d*", record.get("exit_status", ""))[0] or 0)  # type: ignore[index]
    if failed == 0 and code < 128:
        return Seen("ended", "", code)
    limits = dict(re.findall(r"\b([hs]_\w+)=([^,\s]+)", record.get("category", "")))
    over_time = "h_rt" in limits and quantity(record.get("ru_wallclock", "")) >= quantity(limits["h_rt"])
    over_memory = "h_vmem" in limits and quantity(record.get("maxvmem", "")) >= quantity(limits["h_vmem"])
    if over_memory and not over_time:
        reason = "memory limit exceeded"
    elif over_time:
        reason = "time limit reached"
    elif failed == LIMITS:
        reason = "time or memory limit reached"
    elif failed in (0, 100):
        reason = "killed: deleted with qdel, or by the node"
    else:
        reason = f"Grid Engine: {record['failed']}"
    return Seen("ended", reason, code or 1)


class GridEngine(grid.Scheduler):
    title = "Grid Engine"
    config_file = grid.ROOT / "global_conf" / "grid" / "sge.conf"
    task_variable = "SGE_TASK_ID"
    job_variable = "JOB_ID"
    own_variables = (
        r"SGE_.*|JOB_(ID|NAME|SCRIPT)|PE|PE_HOSTFILE|NSLOTS|NHOSTS|NQUEUES|QUEUE|REQUEST|REQNAME|RESTARTED|ARC"
        r"|ENVIRONMENT|CUDA_VISIBLE_DEVICES|HOSTNAME|HOST|TMPDIR|TMP"
    )
    removed_variables = r"SGE_LONG_.*"
    reserved_codes = [99, 100]  # run it again; set the job aside
    claims_gpus = True
    cancel_command = "qdel"
    silent = re.compile(
        r"unable to (contact|send message to|connect to) (the )?qmaster|commlib|can't connect|got no response"
        r"|qmaster (is )?not|communication error|can't get configuration|[Tt]imeout"
    )

    def submission(self, name: str, size: int, limit: int) -> list[str]:
        at_once = ["-tc", str(limit)] if limit else []
        return ["-N", name, "-cwd", "-S", "/bin/bash", "-j", "y", "-o", "out.$TASK_ID", "-t", f"1-{size}", *at_once]

    def job_id(self, output: str) -> str:
        match = re.search(r"(?:Your job(?:-array)? |^)(\d+)", output, re.MULTILINE)
        if match is None:
            sys.exit(f"queue.py: qsub named no job: {output}")
        return match[1]

    def listed(self) -> list[ElementTree.Element]:
        """The caller's jobs in the queue."""
        result = self.call("qstat", "-u", pwd.getpwuid(os.getuid()).pw_name, "-xml")
        try:
            if result.returncode == 0:
                return list(ElementTree.fromstring(result.stdout).iter("job_list"))
        except ElementTree.ParseError:
            pass
        raise grid.Outage((result.stderr or result.stdout).strip())

    def find(self, name: str) -> str | None:
        return next(
            (item.findtext("JB_job_number") for item in self.listed() if item.findtext("JB_name") == name), None
        )

    def look(self, job: str, wanted: Collection[int]) -> dict[int, Seen]:
        known: dict[int, Seen] = {}
        for item in self.listed():
            if item.findtext("JB_job_number") != job:
                continue
            state = item.findtext("state") or ""
            answer = Seen("running" if set(state) & set("rtsST") else "waiting")
            if "E" in state:
                answer = Seen("stuck", f"Grid Engine will not start it: {self.error(job)}")
            known |= dict.fromkeys(indices(item.findtext("tasks") or "1"), answer)
        missing = {index for index in wanted if index not in known}
        return known | self.accounted(job, missing) if missing else known

    def error(self, job: str) -> str:
        """Why a job is in an error state."""
        text = re.sub(r"\\\n\s*", "", self.call("qstat", "-j", job).stdout)
        match = re.search(r"^error reason\s+\d+:\s*(.*)$", text, re.MULTILINE)
        return match[1].strip() if match else "state E"

    def accounted(self, job: str, tasks: Collection[int]) -> dict[int, Seen]:
        """How tasks ended, as far as the accounting can be read here and knows."""
        try:
            result = self.call("qacct", "-j", job)
        except grid.Outage:
            return {}
        found = {int(r["taskid"]): ending(r) for r in records(result.stdout) if r.get("taskid", "").isdecimal()}
        return {task: answer for task, answer in found.items() if task in tasks}

    def cancel(self, job: str, tasks: Collection[int] = ()) -> None:
        for arguments in [["-t", str(task)] for task in tasks] or [[]]:
            self.call("qdel", job, *arguments)


if __name__ == "__main__":
    sys.exit(grid.main(GridEngine(), sys.argv[1:], __doc__))
