#!/usr/bin/env python3
"""Run a command, or an array of jobs, on a Slurm grid; called as Kaldi's slurm.pl is.

Usage: utils/slurm.py [options] [JOB=1:N] <log> <command> [<argument> ...]

Example:
  utils/slurm.py --mem 4G --time 2h --max-jobs-run 20 JOB=1:100 exp/log/detect.JOB.log \\
    python steps_face/detect_faces.py --scp data/dev/split100/JOB/vid.scp

JOB may be any name; it is replaced by the number of the job wherever it stands in the log's name and in the
command. The command is run as it is given, without a shell, with the environment and in the folder of the caller.
The call ends when all jobs have; its exit status is 1 when one failed, and stderr then names the logs and the reasons.
Interrupted or terminated, it cancels the array.

Options:
  --mem 4G             memory per job
  --gpu N              GPUs per job
  --num-threads N      CPU cores per job
  --time 2h            time limit per job: 90s, 30m, 2h, 1d12h or 2:00:00
  --max-jobs-run N     at most N jobs at once; also -tc N
  --retries K          run jobs that failed up to K times more
  --config FILE        the site's settings (default: global_conf/grid/slurm.conf), which may define more options
  --help               this text
  -x value             any option of sbatch with one dash and one value, as it is: -p gpu -A project
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from types import ModuleType

if not __package__:  # run as a program: utils is this folder, and no file of it or beside it hides Python's own modules
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils import grid
from utils.grid import Seen

# States that last; all others, those of future versions too, pass.
ENDED = {
    "COMPLETED": "",
    "FAILED": "",
    "BOOT_FAIL": "node failed",
    "CANCELLED": "cancelled",
    "DEADLINE": "deadline reached",
    "NODE_FAIL": "node failed",
    "OUT_OF_MEMORY": "memory limit exceeded",
    "PREEMPTED": "preempted",
    "REVOKED": "revoked",
    "TIMEOUT": "time limit reached",
}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "CONFIGURING"}
NEVER = {"launch failed requeued held", "launch_failed_requeued_held", "JobHeldAdmin", "BadConstraints"}
NEVER |= {"DependencyNeverSatisfied"}


def seen(state: str, reason: str, code: int | None) -> Seen:
    """What a state of squeue or sacct, such as ``CANCELLED by 0``, means."""
    word = state.split()[0].rstrip("+") if state.split() else ""
    if word in ENDED:
        return Seen("ended", ENDED[word], 0 if word == "COMPLETED" else code, final=word == "CANCELLED")
    if word in WAITING and reason in NEVER:
        return Seen("stuck", f"Slurm will not start it: {reason}")
    return Seen("waiting" if word in WAITING else "running")


class Slurm(grid.Scheduler):
    title = "Slurm"
    config_file = grid.ROOT / "global_conf" / "grid" / "slurm.conf"
    task_variable = "SLURM_ARRAY_TASK_ID"
    job_variable = "SLURM_ARRAY_JOB_ID"
    own_variables = r"SLURM.*|SRUN_.*|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|HOSTNAME|TMPDIR"
    # Of a job that this runs in, its GPUs, and formats of squeue and sacct.
    removed_variables = (
        r"SLURM_(?!CONF$|CLUSTERS$).*|SRUN_.*|SQUEUE_.*|SACCT_.*"
        r"|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
    )
    reserved_codes = []
    claims_gpus = False
    cancel_command = "scancel"
    silent = re.compile(
        r"Unable to contact slurm controller|Socket timed out|Connection (refused|timed out|reset)|Zero Bytes"
        r"|[Cc]ommunication connection failure|controller not responding|standby mode|temporarily unable"
        r"|Transport endpoint|Munge (en|de)code failed|No route to host|Resource temporarily unavailable"
    )

    def submission(self, name: str, size: int, limit: int) -> list[str]:
        at_once = f"%{limit}" if limit else ""
        return ["--parsable", "-J", name, f"--array=1-{size}{at_once}", "-o", "out.%a"]

    def job_id(self, output: str) -> str:
        match = re.search(r"^(?:Submitted batch job )?(\d+)", output, re.MULTILINE)
        if match is None:
            sys.exit(f"slurm.py: sbatch named no job: {output}")
        return match[1]

    def find(self, name: str) -> str | None:
        result = self.call("squeue", "-h", "-n", name, "-o", "%F")
        if result.returncode != 0:
            raise grid.Outage(result.stderr.strip())
        return result.stdout.split()[0] if result.stdout.split() else None

    def look(self, job: str, wanted: Collection[int]) -> dict[int, Seen]:
        result = self.call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%K|%T|%r")
        if result.returncode != 0 and "Invalid job id" not in result.stderr:
            raise grid.Outage(result.stderr.strip())
        known = {}
        for line in result.stdout.splitlines():
            index, _, rest = line.partition("|")
            state, _, reason = rest.partition("|")
            if index.isdecimal():
                known[int(index)] = seen(state, reason, None)
        missing = [index for index in wanted if index not in known or known[index].state == "ended"]
        return known | self.accounted(job, missing) if missing else known

    def accounted(self, job: str, tasks: Collection[int]) -> dict[int, Seen]:
        """How tasks ended, as far as there is accounting and it knows."""
        try:
            result = self.call("sacct", "-n", "-P", "-X", "-j", job, "-o", "JobID,State,ExitCode")
        except grid.Outage:
            return {}
        known = {}
        for line in result.stdout.splitlines():
            match = re.fullmatch(rf"{job}_(\d+)\|([^|]*)\|(\d+):(\d+)", line)
            if match and int(match[1]) in tasks:
                code = int(match[3]) or (128 + int(match[4]) if int(match[4]) else 0)
                answer = seen(match[2], "", code or None)
                if answer.state == "ended":
                    known[int(match[1])] = answer
        return known

    def cancel(self, job: str, tasks: Collection[int] = ()) -> None:
        self.call("scancel", *([f"{job}_{task}" for task in tasks] or [job]))


if __name__ == "__main__":
    sys.exit(grid.main(Slurm(), sys.argv[1:], __doc__))
