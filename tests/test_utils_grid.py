"""utils/slurm.py and utils/queue.py on schedulers that are played by small shell scripts.

Each program of a scheduler is a script that notes its call and answers what the test has prepared for its n-th call,
so that outages, late files and lost jobs happen when the test wants. tests/grid/ has the real schedulers.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from processes import default_signals, wait_for

from utils import grid, grid_task, slurm
from utils import queue as sge
from utils.grid import Seen

UTILS = Path(__file__).resolve().parents[1] / "utils"
FAST = Path(__file__).with_name("fast_launcher.py")
PROGRAM = """#!/bin/sh
name=${0##*/}
n=$(($(cat "$FAKE/$name.count" 2> /dev/null || echo 0) + 1))
echo $n > "$FAKE/$name.count"
printf '%s\\n' "$name $*" >> "$FAKE/calls"
while [ $n -gt 0 ]; do
  if [ -f "$FAKE/$name.$n" ]; then . "$FAKE/$name.$n"; exit; fi
  n=$((n - 1))
done
"""
# Starts the tasks of the array, as a node does, after some seconds.
NODES = """
size=$(echo "$*" | sed -E 's/.*(-t |--array=)1-([0-9]+).*/\\2/')
for task in $(seq 1 $size); do
  export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_JOB_ID=7 SGE_TASK_ID=$task JOB_ID=7
  (sleep 0; bash task.sh) > out.$task 2>&1 < /dev/null &
done
"""
SUBMIT = {"slurm.py": "sbatch", "queue.py": "qsub"}
ACCEPT = {"slurm.py": "echo 7", "queue.py": """echo 'Your job-array 7.1-2:1 ("x") has been submitted'"""}
EMPTY_QUEUE = "echo '<?xml version=\"1.0\"?><job_info><queue_info/></job_info>'"
FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
SILENT = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
NO_ACCOUNTING = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


def qstat(*jobs: tuple[str, str]) -> str:
    """A script that prints what qstat -xml does for tasks of array 7: (tasks, state) each."""
    items = [
        f"<job_list><JB_job_number>7</JB_job_number><JB_name>x</JB_name><state>{state}</state>"
        f"<tasks>{tasks}</tasks></job_list>"
        for tasks, state in jobs
    ]
    return "echo " + shlex.quote("<?xml version='1.0'?><job_info>" + "".join(items) + "</job_info>")


def running(*tasks: int) -> str:
    """A script that prints what squeue does for running tasks, and that no array has the name that is looked for."""
    lines = "; ".join(f"echo '{task}|RUNNING|None'" for task in tasks)
    return f'case "$*" in *-n*) ;; *) {lines} ;; esac'


class Fake:
    """A scheduler of scripts, and a site's settings that are impatient."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self.folder, self.launcher = folder, launcher
        (folder / "bin").mkdir()
        (folder / "fake").mkdir()
        for name in ("sbatch", "squeue", "sacct", "scancel", "qsub", "qstat", "qacct", "qdel"):
            (folder / "bin" / name).write_text(PROGRAM)
            (folder / "bin" / name).chmod(0o755)
        self.settings(patience=0.2, outage=60)
        self.answer(SUBMIT[launcher], NODES + ACCEPT[launcher])
        self.answer("squeue", running(1, 2, 3))
        self.answer("sacct", NO_ACCOUNTING)
        self.answer("qstat", qstat(("1-3:1", "r")))
        self.answer("qacct", "echo 'error: job id 7 not found' >&2; exit 1")
        self.env = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "FAKE": str(folder / "fake")}

    def settings(self, patience: float, outage: float) -> None:
        text = f"command {SUBMIT[self.launcher]}\noption gpu=* -l gpu=$0\noption mem=* --mem=$0\n"
        (self.folder / "conf").write_text(f"{text}patience {patience}\noutage {outage}\n")

    def answer(self, program: str, script: str, call: int = 1) -> None:
        """What a program does from its ``call``-th call on."""
        (self.folder / "fake" / f"{program}.{call}").write_text(script)

    def calls(self, program: str) -> list[str]:
        path = self.folder / "fake" / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(program).strip() for line in lines if line.split()[0] == program]

    def start(self, *args: str, around: Sequence[str] = ()) -> subprocess.Popen[str]:
        call = [*around, sys.executable, FAST, UTILS / self.launcher, "--config", "conf", *args]
        return subprocess.Popen(
            call, cwd=self.folder, env=self.env, stderr=subprocess.PIPE, text=True, preexec_fn=default_signals
        )

    def run(self, *args: str) -> tuple[int, str]:
        process = self.start(*args)
        _, stderr = process.communicate(timeout=120)
        return process.returncode, stderr


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path, "slurm.py")


@pytest.fixture
def fake_sge(tmp_path: Path) -> Fake:
    return Fake(tmp_path, "queue.py")


@pytest.fixture(params=["slurm.py", "queue.py"])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Fake:
    return Fake(tmp_path, request.param)


def test_array_one_task_fails_names_its_log_and_end(either: Fake) -> None:
    code, stderr = either.run("JOB=4:6", "log/x.JOB.log", "bash", "-c", "echo why JOB; [ JOB != 5 ] || exit 3")
    assert code == 1
    assert stderr.startswith(f"{either.launcher}: 1 / 3 failed, log is log/x.5.log\n")
    assert "why 5" in stderr and "(code 3)" in stderr
    log = (either.folder / "log" / "x.6.log").read_text()
    assert log.startswith("# bash -c 'echo why 6; ") and " as 7_3\n" in log and "# Ended (code 0) at" in log
    assert not (either.folder / "log" / "q").exists()


def test_array_that_succeeds_says_nothing(either: Fake) -> None:
    assert either.run("JOB=1:2", "x.JOB.log", "true") == (0, "")


def test_task_gets_arguments_environment_folder_and_umask_of_the_caller(either: Fake) -> None:
    script = "import os, sys; print([sys.argv[1:], os.environ['A'], os.environ['LC_ALL'], os.getcwd(), os.umask(0)])"
    args = ["a b", "it's", 'say "x"', "$HOME;touch pwned", "`id`|cat", "two\nlines", "*", "", "größe"]
    either.env |= {"A": "line\nline=\t;", "LC_ALL": "C.UTF-8"}
    mask = os.umask(0o027)
    try:
        assert either.run("x.log", sys.executable, "-c", script, *args)[0] == 0
    finally:
        os.umask(mask)
    assert str([args, "line\nline=\t;", "C.UTF-8", str(either.folder), 0o027]) in (either.folder / "x.log").read_text()
    assert not (either.folder / "pwned").exists()


def test_environment_keeps_what_the_scheduler_set_and_drops_that_of_another_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("PATH", "/of/the/node")
    caller = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "1", "CUDA_VISIBLE_DEVICES": "3", "PATH": "/bin", "A": "1"}
    environ = grid_task.environment(caller, slurm.Slurm.own_variables)
    assert (environ["SLURM_JOB_ID"], environ["PATH"], environ["A"]) == ("8", "/bin", "1")
    assert not {"SLURM_MEM_PER_CPU", "CUDA_VISIBLE_DEVICES"} & environ.keys()


def test_submission_has_array_limit_site_options_and_raw_options(either: Fake) -> None:
    options = ["--max-jobs-run", "2", "--mem", "4g", "--gpu", "0", "-p", "7", "-pe", "smp", "4"]
    assert either.run(*options, "JOB=3:5", "x.JOB.log", "true")[0] == 0
    (call,) = either.calls(SUBMIT[either.launcher])
    assert "1-3%2" in call if either.launcher == "slurm.py" else "-t 1-3 -tc 2" in call
    assert call.endswith("--mem=4G -l gpu=0 -p 7 -pe smp 4 task.sh")


def test_submission_refused_says_why_and_does_not_try_again(fake: Fake) -> None:
    fake.answer("sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid partition name' >&2; exit 1")
    code, stderr = fake.run("x.log", "true")
    assert code == 1 and "Invalid partition name" in stderr and "slurm.py: sbatch --parsable" in stderr
    assert len(fake.calls("sbatch")) == 1 and not (fake.folder / "q").exists()


def test_submission_scheduler_silent_is_repeated(fake: Fake) -> None:
    fake.answer("sbatch", NODES + ACCEPT["slurm.py"], call=2)
    fake.answer("sbatch", SILENT)
    code, stderr = fake.run("x.log", "true")
    assert code == 0 and "Slurm does not answer, trying again" in stderr
    assert len(fake.calls("sbatch")) == 2


def test_submission_that_was_made_without_an_answer_is_not_made_twice(fake: Fake) -> None:
    fake.answer("sbatch", NODES + "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    fake.answer("squeue", "echo 7")
    assert fake.run("x.log", "true")[0] == 0
    assert len(fake.calls("sbatch")) == 1


def test_outage_while_tasks_run_is_survived(fake: Fake) -> None:
    fake.answer("squeue", SILENT)
    code, stderr = fake.run("JOB=1:2", "x.JOB.log", "sleep", "0.6")
    assert code == 0
    assert stderr.count("Slurm does not answer, the tasks go on") == 1


def test_outage_longer_than_the_site_allows_is_a_failure(fake: Fake) -> None:
    fake.settings(patience=0.2, outage=0.5)
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", SILENT)
    code, stderr = fake.run("x.log", "true")
    assert code == 1 and re.search(r"x.log: Slurm has not answered for \d+ seconds", stderr)


def test_scheduler_is_asked_ever_more_rarely(fake: Fake) -> None:
    assert fake.run("x.log", "sleep", "0.9")[0] == 0
    assert 2 <= len(fake.calls("squeue")) <= 7


def test_states_that_pass_are_waited_for(fake: Fake) -> None:
    fake.answer("sbatch", NODES.replace("sleep 0", "sleep 0.7") + ACCEPT["slurm.py"])
    for call, state in enumerate(["PENDING|Resources", "CONFIGURING|None", "SIGNALING|None", "COMPLETING|None"], 1):
        fake.answer("squeue", f"echo '1|{state}'", call)
    assert fake.run("x.log", "true") == (0, "")


def test_lost_task_is_reported_as_lost_and_others_are_not_touched(either: Fake) -> None:
    either.answer("squeue", running(1))
    either.answer("qstat", qstat(("1", "r")))
    first_only = NODES.replace("$(seq 1 $size)", "1")
    either.answer(SUBMIT[either.launcher], first_only + ACCEPT[either.launcher])
    code, stderr = either.run("JOB=1:2", "x.JOB.log", "true")
    assert code == 1
    assert (
        f"{either.launcher}: 1 / 2 failed, log is x.2.log\n  x.2.log: lost: the scheduler no longer knows it" in stderr
    )
    assert "# Ended (code 1) (lost: " in (either.folder / "x.2.log").read_text()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("TIMEOUT", "time limit reached"),
        ("OUT_OF_MEMORY", "memory limit exceeded"),
        ("NODE_FAIL", "node failed"),
        ("CANCELLED by 0", "cancelled"),
        ("PREEMPTED", "preempted"),
    ],
)
def test_slurm_end_that_only_the_scheduler_knows_is_reported_as_what_it_was(
    fake: Fake, state: str, reason: str
) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", f"echo '1|{state}|None'")
    assert f"  x.log: {reason}\n" in fake.run("x.log", "true")[1]


def test_slurm_forgotten_by_squeue_is_looked_up_in_the_accounting(fake: Fake) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", FORGOTTEN)
    fake.answer("sacct", "echo '7_1|OUT_OF_MEMORY|0:125'; echo '7_2|COMPLETED|0:0'; echo '7_[3-4%2]|PENDING|0:0'")
    code, stderr = fake.run("JOB=1:2", "x.JOB.log", "true")
    assert code == 1 and "1 / 2 failed, log is x.1.log\n  x.1.log: memory limit exceeded" in stderr


def test_slurm_memory_kill_that_only_the_node_mentions_is_reported(fake: Fake) -> None:
    said = "slurmstepd-vm: error: StepId=7.batch exceeded memory limit (147 > 104), being killed"
    fake.answer("sbatch", f"echo '{said}' > out.1; {ACCEPT['slurm.py']}")
    fake.answer("squeue", "echo '1|FAILED|JobLaunchFailure'")
    assert "  x.log: memory limit exceeded\n" in fake.run("x.log", "true")[1]
    assert f"# Slurm: {said}" in (fake.folder / "x.log").read_text()


def test_slurm_launch_that_failed_and_is_held_is_cancelled_and_reported(fake: Fake) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", "echo '1|PENDING|launch failed requeued held'")
    code, stderr = fake.run("x.log", "true")
    assert code == 1 and "x.log: Slurm will not start it: launch failed requeued held" in stderr
    assert fake.calls("scancel") == ["7_1"]


def test_status_that_appears_late_is_waited_for(fake: Fake) -> None:
    fake.settings(patience=30, outage=60)
    fake.answer("sbatch", NODES.replace("sleep 0", "sleep 0.5") + ACCEPT["slurm.py"])
    fake.answer("squeue", "echo '1|FAILED|NonZeroExitCode'")
    code, stderr = fake.run("x.log", "bash", "-c", "exit 5")
    assert code == 1 and "(code 5)" in stderr and "without a result" not in stderr


def test_folder_of_the_array_that_is_out_of_sight_for_a_while_does_not_end_the_run(fake: Fake) -> None:
    fake.settings(patience=30, outage=60)
    away_and_back = "mv log/q log/away; sleep 0.6; mv log/away log/q"
    assert fake.run("JOB=1:1", "log/x.JOB.log", "bash", "-c", away_and_back) == (0, "")
    assert not fake.calls("scancel")


def test_status_that_never_appears_leaves_the_scheduler_to_decide(fake: Fake) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", "echo '1|COMPLETED|None'; echo '2|FAILED|NonZeroExitCode'")
    code, stderr = fake.run("JOB=1:2", "x.JOB.log", "true")
    assert code == 1 and "1 / 2 failed, log is x.2.log\n  x.2.log: ended without a result" in stderr


def test_task_put_back_into_the_queue_is_not_taken_for_failed(fake: Fake) -> None:
    fake.answer("sbatch", NODES.replace("task.sh", "task.sh; sleep 0.6; bash task.sh") + ACCEPT["slurm.py"])
    fake.answer("squeue", "echo '1|PENDING|BeginTime'")
    killed_first = "[ -e there ] || { touch there; kill -TERM $$; }"
    assert fake.run("x.log", "bash", "-c", killed_first) == (0, "")
    assert (fake.folder / "x.log").read_text().count("# Started at") == 2


def test_retries_run_failed_tasks_again_and_only_those(either: Fake) -> None:
    script = "echo run >> count.JOB; [ JOB != 2 ] || [ $(wc -l < count.JOB) = 3 ]"
    code, stderr = either.run("--retries", "2", "JOB=1:3", "x.JOB.log", "bash", "-c", script)
    assert code == 0
    assert f"{either.launcher}: 1 / 3 failed, runs 1 again (1 of 2)\n" in stderr and "(2 of 2)" in stderr
    assert [len((either.folder / f"count.{n}").read_text().splitlines()) for n in (1, 2, 3)] == [1, 3, 1]
    assert [("1-3" in call, "1-1" in call) for call in either.calls(SUBMIT[either.launcher])] == [
        (True, False), (False, True), (False, True),
    ]  # fmt: skip
    assert (either.folder / "x.2.log").read_text().count("# Ended (code 1)") == 2


def test_retries_used_up_is_a_failure(fake: Fake) -> None:
    code, stderr = fake.run("--retries=1", "x.log", "false")
    assert code == 1 and stderr.count("runs 1 again") == 1 and "1 / 1 failed, log is x.log" in stderr


def test_retries_do_not_run_what_somebody_cancelled(fake: Fake) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", "echo '1|CANCELLED|None'")
    code, stderr = fake.run("--retries", "3", "x.log", "true")
    assert code == 1 and "cancelled" in stderr and len(fake.calls("sbatch")) == 1


@pytest.mark.parametrize("below", ["no stage", "a stage"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_cancels_the_array_and_waits_for_its_end(either: Fake, number: signal.Signals, below: str) -> None:
    either.answer(SUBMIT[either.launcher], ACCEPT[either.launcher])
    name = "$(sed -n 's/.*-[JN] \\([^ ]*\\).*/\\1/p' $FAKE/calls | head -1)"
    listed = qstat(("1-2:1", "r")).replace("<JB_name>x<", f"<JB_name>'\"{name}\"'<")
    gone = "[ -e $FAKE/scancel.count ] || [ -e $FAKE/qdel.count ]"
    either.answer("squeue", f"if {gone}; then true; else echo 7; fi")
    either.answer("qstat", f"if {gone}; then {EMPTY_QUEUE}; else {listed}; fi")
    stage = [sys.executable, str(UTILS / "guard.py"), "bash", "-c", '"$@"; echo went on >&2', "stage"]
    process = either.start("JOB=1:2", "log/x.JOB.log", "true", around=stage if below == "a stage" else [])
    wait_for(lambda: bool(either.calls("squeue") + either.calls("qstat")), "the first look")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (-number if below == "a stage" else 128 + number)
    by = number.name if below == "no stage" else "SIGTERM"
    assert "cancels array 7" in stderr and f"ended by {by}" in stderr and "went on" not in stderr
    assert either.calls("scancel") + either.calls("qdel") == ["7"]
    assert not (either.folder / "log" / "q").exists()


def test_array_left_by_a_killed_run_is_not_joined_by_another(fake: Fake) -> None:
    fake.answer("sbatch", ACCEPT["slurm.py"])
    fake.answer("squeue", "echo 7")
    process = fake.start("JOB=1:2", "log/x.JOB.log", "true")
    wait_for(lambda: bool(fake.calls("squeue")), "the first look")
    process.kill()
    process.communicate(timeout=20)
    code, stderr = fake.run("JOB=1:2", "log/x.JOB.log", "true")
    assert code == 1 and "array 7 of a killed run, or of another one, is at work on these logs" in stderr
    assert "scancel 7" in stderr and len(fake.calls("sbatch")) == 1
    fake.answer("squeue", running(1, 2))
    fake.answer("sbatch", NODES + ACCEPT["slurm.py"])
    assert fake.run("JOB=1:2", "log/x.JOB.log", "true")[0] == 0


def test_program_of_the_scheduler_is_missing_says_so(fake: Fake) -> None:
    (fake.folder / "conf").write_text("command no-sbatch\n")
    code, stderr = fake.run("x.log", "true")
    assert code == 1 and "there is no no-sbatch on PATH; is this a host to submit from?" in stderr


# The accounting of Grid Engine 8.1.9, cut to the fields that matter.
QACCT = """==============================================================
jobnumber    7
taskid       1
failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit
exit_status  137                  (Killed)
ru_wallclock 7s
maxvmem      9.621MB
category     -l h_rt=6,h_vmem=2G \\
             -pe smp 2
==============================================================
jobnumber    7
taskid       2
failed       0
exit_status  3
ru_wallclock 0s
maxvmem      0.000B
category     undefined
"""


def test_sge_accounting_reads_records_and_folded_lines() -> None:
    first, second = sge.records(QACCT)
    assert first["category"] == "-l h_rt=6,h_vmem=2G -pe smp 2"
    assert (second["taskid"], second["exit_status"]) == ("2", "3")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Seen("ended", "time limit reached", 137)),
        ({"ru_wallclock": "1", "maxvmem": "2.001G"}, Seen("ended", "memory limit exceeded", 137)),
        ({"ru_wallclock": "1"}, Seen("ended", "time or memory limit reached", 137)),
        (
            {"ru_wallclock": "1s", "failed": "100 : assumedly after job"},
            Seen("ended", "killed: deleted with qdel, or by the node", 137),
        ),
        (
            {"ru_wallclock": "0s", "failed": "26  : opening input/output file", "exit_status": "0"},
            Seen("ended", "Grid Engine: 26  : opening input/output file", 1),
        ),
        ({"failed": "0", "exit_status": "0"}, Seen("ended", "", 0)),
        ({"failed": "0", "exit_status": "3"}, Seen("ended", "", 3)),
    ],
)
def test_sge_ending_tells_limits_and_kills_apart(changes: dict[str, str], expected: Seen) -> None:
    assert sge.ending(sge.records(QACCT)[0] | changes) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", {3}), ("1-3:1", {1, 2, 3}), ("1,4-8:2", {1, 4, 6, 8}), ("2-3", {2, 3})]
)
def test_sge_tasks_in_any_form_are_read(text: str, expected: set[int]) -> None:
    assert sge.indices(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("7s", 7), ("0:02:00", 120), ("9.5MB", 9.5 * 2**20), ("4G", 4 * 2**30), ("undefined", 0)]
)
def test_sge_quantity_with_and_without_unit_is_a_number(text: str, expected: float) -> None:
    assert sge.quantity(text) == expected


def test_sge_task_killed_by_a_limit_is_reported_from_the_accounting(fake_sge: Fake) -> None:
    fake_sge.answer("qsub", ACCEPT["queue.py"])
    fake_sge.answer("qstat", qstat(("1", "r"), ("2-2:1", "qw")))
    fake_sge.answer("qstat", EMPTY_QUEUE, call=2)
    fake_sge.answer("qacct", f"echo {shlex.quote(QACCT)}")
    code, stderr = fake_sge.run("JOB=1:2", "x.JOB.log", "true")
    assert code == 1 and "2 / 2 failed" in stderr
    assert "  x.1.log: time limit reached\n" in stderr and "  x.2.log: ended without a result" in stderr


def test_sge_task_in_error_state_is_deleted_and_reported(fake_sge: Fake) -> None:
    fake_sge.answer("qsub", ACCEPT["queue.py"])
    error = "echo 'error reason    1:          11/22/2026 [0:1]: can not change to \\'; echo ' working directory'"
    listed = qstat(("1", "Eqw"))
    fake_sge.answer("qstat", f'case "$*" in *-j*) {error} ;; *) {listed} ;; esac')
    code, stderr = fake_sge.run("x.log", "true")
    assert code == 1 and "Grid Engine will not start it: 11/22/2026 [0:1]: can not change to working" in stderr
    assert fake_sge.calls("qdel") == ["7 -t 1"]


def test_sge_exit_code_that_means_run_again_is_not_given_to_the_scheduler(fake_sge: Fake) -> None:
    assert "(code 99)" in fake_sge.run("q.log", "bash", "-c", "cp q/q/*/array.json .; exit 99")[1]
    assert json.loads((fake_sge.folder / "array.json").read_text())["reserved_codes"] == [99, 100]


@pytest.fixture
def three_gpus(tmp_path: Path) -> dict[str, str]:
    """An environment in which nvidia-smi lists three GPUs."""
    (tmp_path / "smi").mkdir()
    program = tmp_path / "smi" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0; echo 1; echo 2\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_claim_gpus_gives_each_to_one_task_and_frees_them_at_the_end(
    tmp_path: Path, three_gpus: dict[str, str]
) -> None:
    first = grid_task.claim_gpus(1, three_gpus, tmp_path, 0)
    second = grid_task.claim_gpus(2, three_gpus, tmp_path, 0)
    assert (list(first), list(second)) == (["0"], ["1", "2"])
    with pytest.raises(RuntimeError, match="2 GPUs were asked for, of 3 only 0 are free on this host"):
        grid_task.claim_gpus(2, three_gpus, tmp_path, 0)
    os.close(first["0"])
    third = grid_task.claim_gpus(1, three_gpus, tmp_path, 0)
    assert list(third) == ["0"]
    for descriptor in (*second.values(), *third.values()):
        os.close(descriptor)


def test_claim_gpus_that_are_not_all_free_takes_none(tmp_path: Path, three_gpus: dict[str, str]) -> None:
    first = grid_task.claim_gpus(2, three_gpus, tmp_path, 0)
    with pytest.raises(RuntimeError, match="only 1 are free"):
        grid_task.claim_gpus(2, three_gpus, tmp_path, 0)
    last = grid_task.claim_gpus(1, three_gpus, tmp_path, 0)
    assert list(last) == ["2"]
    for descriptor in (*first.values(), *last.values()):
        os.close(descriptor)


def test_claim_gpus_host_without_gpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="1 GPUs were asked for, and nvidia-smi lists 0"):
        grid_task.claim_gpus(1, {"PATH": str(tmp_path)}, tmp_path, 0)


def run_task(folder: Path, command: list[str], **changes: object) -> subprocess.Popen[bytes]:
    array = {
        "tasks": [[command, "x.log"]], "environ": dict(os.environ), "directory": str(folder), "umask": 0o022,
        "threads": 1, "claims_gpus": 0, "task_variable": "TASK", "job_variable": "ID", "own_variables": "TASK|ID",
        "reserved_codes": [99], "there": [], "patience_s": 30,
    }  # fmt: skip
    (folder / "array.json").write_text(json.dumps(array | changes))
    return subprocess.Popen([UTILS / "grid_task.py", folder], env=os.environ | {"TASK": "1", "ID": "7"})


def test_task_terminated_by_the_scheduler_ends_its_command_and_writes_log_and_status(tmp_path: Path) -> None:
    process = run_task(tmp_path, ["bash", "-c", "touch ready; exec sleep 100"])
    wait_for((tmp_path / "ready").exists, "the command")
    process.terminate()
    assert process.wait(timeout=30) == 143
    status = json.loads((tmp_path / "status.1").read_text())
    assert status == {"code": 143, "reason": "the scheduler sent SIGTERM", "signalled": True}
    assert "# Ended (code 143) (the scheduler sent SIGTERM) at" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize(
    ("command", "code", "exit_code", "signalled"),
    [
        (["bash", "-c", "kill -SEGV $$"], 139, 139, False),
        (["bash", "-c", "kill -KILL $$"], 137, 137, True),
        (["no-such-program"], 127, 127, False),
        (["bash", "-c", "exit 99"], 99, 1, False),
    ],
)
def test_task_notes_how_its_command_ended(
    tmp_path: Path, command: list[str], code: int, exit_code: int, signalled: bool
) -> None:
    assert run_task(tmp_path, command).wait(timeout=30) == exit_code
    status = json.loads((tmp_path / "status.1").read_text())
    assert (status["code"], status["signalled"]) == (code, signalled)


def test_task_working_directory_missing_on_the_node_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    assert run_task(tmp_path, ["true"], directory=str(tmp_path / "gone")).wait(timeout=30) == 1
    assert "gone: No such file or directory" in json.loads((tmp_path / "status.1").read_text())["reason"]


def test_task_whose_log_is_on_a_full_disk_fails_naming_it(tmp_path: Path) -> None:
    run_task(tmp_path, ["true"]).wait(timeout=30)
    (tmp_path / "status.1").unlink()
    (tmp_path / "x.log").write_bytes(bytes(1024))
    call = ["bash", "-c", "ulimit -f 1; exec $0 $1", UTILS / "grid_task.py", tmp_path]  # no file beyond 1 KiB
    assert subprocess.run(call, env=os.environ | {"TASK": "1", "ID": "7"}, timeout=60).returncode == 1
    assert json.loads((tmp_path / "status.1").read_text())["reason"] == "x.log: File too large"


def test_task_waits_for_files_that_the_launcher_saw_and_the_node_sees_late(tmp_path: Path) -> None:
    process = run_task(tmp_path, ["cat", "jobs2/1/vid.scp", "-"], there=["jobs2/1/vid.scp"])
    wait_for(lambda: (tmp_path / "x.log").exists() and "#\n" in (tmp_path / "x.log").read_text(), "the task")
    (tmp_path / "jobs2" / "1").mkdir(parents=True)
    (tmp_path / "new").write_text("a list\n")
    (tmp_path / "new").rename(tmp_path / "jobs2" / "1" / "vid.scp")
    assert process.wait(timeout=60) == 0 and "\na list\n" in (tmp_path / "x.log").read_text()


def test_task_whose_file_never_appears_on_the_node_fails_naming_it(tmp_path: Path) -> None:
    process = run_task(tmp_path, ["touch", "ran", "here"], there=["here", "elsewhere"], patience_s=1)
    assert process.wait(timeout=60) == 1 and not (tmp_path / "ran").exists()
    assert "after 1 s not on this one: here\n" in (tmp_path / "x.log").read_text()


def test_task_that_is_terminated_while_it_waits_for_a_file_ends_at_once(tmp_path: Path) -> None:
    process = run_task(tmp_path, ["bash", "-c", "sleep 100", "late"], there=["late"], patience_s=1000)
    wait_for(lambda: (tmp_path / "x.log").exists() and "#\n" in (tmp_path / "x.log").read_text(), "the task")
    process.terminate()
    assert process.wait(timeout=60) == 143


def test_array_tells_its_tasks_which_of_their_words_are_files(either: Fake) -> None:
    (either.folder / "list.1").touch()
    assert either.run("JOB=1:2", "x.JOB.log", "bash", "-c", "cp q/*/0/array.json . || true", "list.JOB", "q")[0] == 0
    array = json.loads((either.folder / "array.json").read_text())
    assert array["there"] == ["list.1", "q"] and array["patience_s"] == 0.2


def parse(*args: str, conf: Path = slurm.Slurm.config_file) -> list[str]:
    return grid.parse([*args, "x.log", "true"], conf, None).words


def test_shipped_settings_translate_the_common_options() -> None:
    args = ["--mem", "4g", "--gpu", "2", "--num-threads", "3", "--time", "1d12h"]
    assert parse(*args) == ["--gres=gpu:2", "--mem=4G", "--cpus-per-task=3", "--time=36:00:00"]
    expected = "-l gpu=2 -l mem_free=4G -pe smp 3 -l h_rt=36:00:00"
    assert " ".join(parse(*args, conf=sge.GridEngine.config_file)) == expected
    assert parse() == []


def test_settings_with_exact_values_defaults_and_comments_are_read(tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text(
        "# a comment\n\ncommand sbatch --export ALL\noption gpu=0  # none\noption gpu=* -p 'my gpus' --gres=gpu:$0\n"
        "default gpu=1\noption night=* --begin=$0\npatience 5\noption time=* --time=$0\ndefault time=2h\n"
    )
    assert parse(conf=conf) == ["-p", "my gpus", "--gres=gpu:1", "--time=2:00:00"]
    words = ["--time=0:30:00", "--begin=22:00 today"]
    assert parse("--gpu=0", "--night", "22:00 today", "--time", "30m", conf=conf) == words
    config = grid.Config.read(conf)
    assert (config.command, config.patience_s, config.outage_s) == (["sbatch", "--export", "ALL"], 5, 3600)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command sbatch\noptoin mem=* x\n", ":2: expected command, option name=value, default name=value, patience"),
        ("command sbatch\npatience soon\n", ":2: could not convert string to float: 'soon'"),
        ("command 'sbatch\n", ":1: No closing quotation"),
        ("option mem=* x\n", "lacks the line 'command <program that submits>'"),
    ],
)
def test_settings_malformed_are_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.conf").write_text(text)
    with pytest.raises(SystemExit, match=re.escape(f"{tmp_path / 'x.conf'}")) as error:
        grid.Config.read(tmp_path / "x.conf")
    assert message in str(error.value)


def test_settings_with_a_default_that_is_no_such_value_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text("command sbatch\noption gpu=* --gres=gpu:$0\ndefault gpu=some\n")
    with pytest.raises(SystemExit, match="--gpu takes a number from 0, found 'some'"):
        parse(conf=tmp_path / "x.conf")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1d12h", 129600), ("2:00:00", 7200), ("1-00:00:01", 86401)]
)
def test_time_with_units_is_read(text: str, seconds: int) -> None:
    assert grid.seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--memory", "4G"], "unknown option --memory 4G; valid: --account"),
        (["--mem", "4000"], "--mem takes a size with its unit, such as 500M or 4G, found '4000'"),
        (["--time", "30"], "--time takes a time with its units"),
        (["--time", ""], "--time takes a time with its units"),
        (["--gpu", "one"], "--gpu takes a number from 0, found 'one'"),
        (["--num-threads", "0"], "--num-threads takes a number from 1, found '0'"),
        (["--retries", "-1"], "--retries takes a number from 0, found '-1'"),
        (["--max-jobs-run", "0"], "--max-jobs-run takes a number from 1, found '0'"),
    ],
)
def test_option_malformed_is_refused_with_the_reason(args: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        parse(*args)


@pytest.mark.parametrize("launcher", ["run.py", "slurm.py", "queue.py"])
def test_launcher_help_shows_how_it_is_called(launcher: str) -> None:
    result = subprocess.run([UTILS / launcher, "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and f"Usage: utils/{launcher} [options] [JOB=1:N]" in result.stdout
