"""utils/slurm.py and utils/queue.py on a real Slurm and a real Grid Engine of one host.

The daemons come from Debian's packages and are started by the scripts of this folder, which configure the host: only
with VIDPERSON_GRID_TESTS=1, as root, where the packages are. `tests/grid/start_slurm.sh` and `start_sge.sh` install
them when they are run by hand.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from recipe import SNORM, Recipe

HERE = Path(__file__).resolve().parent
UTILS = HERE.parents[1] / "utils"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]
NEEDED = {"slurm": ["slurmctld", "slurmd", "munged", "sbatch"], "sge": ["sge_qmaster", "sge_execd", "qsub"]}
START_S, RUN_S, DEMO_S = 300, 300, 3000  # generous: none of them is what is tested
OUTLASTS = "3000"  # seconds: a job that the launcher left is still there when RUN_S are over


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


class Grid:
    """A scheduler that runs on this host, and a launcher for it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.launcher = {"slurm": "slurm.py", "sge": "queue.py"}[kind]
        self.env = os.environ | {"PATH": SBIN, "SGE_ROOT": "/var/lib/gridengine", "SGE_CELL": "default"}
        self.env |= {"SLURM_CPUS": "2", "SGE_SLOTS": "2"}  # two tasks at once, however few cores there are
        self.env |= {"PURGE": "1"}  # stopping forgets all jobs

    def script(self, name: str) -> None:
        # Not a pipe: the daemons would hold it open.
        with open(self.folder / f"{name}.out", "ab+") as stream:
            call = [HERE / f"{name}_{self.kind}.sh"]
            code = subprocess.run(call, env=self.env, stdout=stream, stderr=stream, timeout=START_S).returncode
            stream.seek(0)
            assert code == 0, stream.read().decode(errors="replace")

    def start(self, *args: str) -> subprocess.Popen[str]:
        call = [UTILS / self.launcher, *args]
        return subprocess.Popen(call, cwd=self.folder, env=self.env, stderr=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        _, stderr = process.communicate(timeout=RUN_S)
        return process.returncode, stderr

    def run(self, *args: str) -> tuple[int, str]:
        return self.finish(self.start(*args))

    def command(self, *args: str) -> str:
        return subprocess.run(args, env=self.env, capture_output=True, text=True, timeout=60, check=True).stdout

    def jobs(self) -> list[str]:
        """Ids of the arrays that wait or run."""
        if self.kind == "slurm":
            return sorted(set(self.command("squeue", "-h", "-o", "%F").split()))
        return sorted(set(re.findall(r"^\s*(\d+) ", self.command("qstat", "-u", "*"), re.MULTILINE)))

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module", params=sorted(NEEDED))
def daemons(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    if os.environ.get("VIDPERSON_GRID_TESTS") != "1":
        pytest.skip("starts daemons and configures the host: only with VIDPERSON_GRID_TESTS=1")
    if os.geteuid() != 0:
        pytest.skip("starting a grid's daemons needs root")
    missing = [program for program in NEEDED[request.param] if not shutil.which(program, path=SBIN)]
    if missing:
        pytest.skip(f"needs Debian's packages; run tests/grid/start_{request.param}.sh once (no {' '.join(missing)})")
    grid = Grid(request.param, tmp_path_factory.mktemp("daemons"))
    grid.script("stop")  # jobs of tests that were killed would wait for their turn now
    grid.script("start")
    yield grid
    grid.script("stop")


@pytest.fixture
def grid(daemons: Grid, tmp_path: Path) -> Iterator[Grid]:
    yield Grid(daemons.kind, tmp_path)
    # A task that has ended stays in the queue until the scheduler has noticed.
    wait_for(lambda: daemons.jobs() == [], "the end of jobs that the launcher left", RUN_S)


OUTPUTS = ("**/*.ark", "**/*.tar", "**/status", "**/journal.jsonl", "scores/**/*_scores", "results/**/results.csv")


def outputs(exp: Path) -> dict[str, bytes]:
    """What the stages wrote."""
    paths = [path for pattern in OUTPUTS for path in exp.glob(pattern)]
    return {str(path.relative_to(exp)): path.read_bytes() for path in paths}


def run_demo(work: Path, environment: Mapping[str, str], *options: str) -> None:
    """The whole recipe with data and results in ``work``."""
    call = ["./run_demo.sh", "--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp", *options]
    environment = {**environment, "VIDPERSON_PYTHON": sys.executable}
    with open(work / "out", "ab+") as out:
        process = subprocess.Popen(
            call, cwd=HERE.parents[1], env=environment, stdout=out, stderr=out, start_new_session=True
        )
        try:
            process.wait(timeout=DEMO_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # the launcher ends its jobs
                process.wait(timeout=RUN_S)
        out.seek(0)
        assert process.returncode == 0, out.read().decode(errors="replace")[-8000:]


@pytest.mark.parametrize("daemons", ["slurm", pytest.param("sge", marks=pytest.mark.campaign)], indirect=True)
def test_demo_on_the_grid_gives_the_bytes_of_one_machine(grid: Grid, demo: Recipe) -> None:
    """On Grid Engine, too, in the campaign; the arrays below are small and run on both."""
    shutil.copytree(demo.work / "data", grid.folder / "data")
    shutil.copytree(demo.work / "exp" / "face_models", grid.folder / "exp" / "face_models")
    run_demo(grid.folder, grid.env, *SNORM, "--nj", "4", "--cmd", f"utils/{grid.launcher} --mem 1G --time 1h")
    found, expected = (outputs(folder / "exp") for folder in (grid.folder, demo.work))
    assert len(found) > 50 and found.keys() == expected.keys()
    assert [name for name, content in expected.items() if found[name] != content] == []
    logs = list((grid.folder / "exp" / "face_det").glob("*/*/log/[1-4].log"))
    assert len(logs) >= 4 * 4 and all(re.search(r"^# Started at .* as \d+_\d+$", log.read_text(), re.M) for log in logs)


def test_array_of_successes_and_a_failure_with_difficult_arguments(grid: Grid) -> None:
    script = "import os, sys; print(sys.argv[2:], os.environ['A'], os.getcwd()); sys.exit(3 * (sys.argv[1] == '2'))"
    args = ["a b", "it's", 'say "x"', "$HOME;touch pwned", "`id`|cat", "two\nlines", "*", "größe"]
    grid.env |= {"A": "line\nline;", "LC_ALL": "C.UTF-8"}
    code, stderr = grid.run(
        "--mem", "200M", "--time", "10m", "JOB=1:3", "log/x.JOB.log", sys.executable, "-c", script, "JOB", *args
    )
    assert code == 1
    assert stderr.startswith(f"{grid.launcher}: 1 / 3 failed, log is log/x.2.log\n") and "(code 3)" in stderr
    for number in (1, 2, 3):
        assert f"{args} line\nline; {grid.folder}\n" in grid.text(f"log/x.{number}.log")
    assert not (grid.folder / "pwned").exists() and not (grid.folder / "log" / "q").exists()


def test_time_limit_is_reported_as_such(grid: Grid) -> None:
    code, stderr = grid.run("--time", "5s", "x.log", "sleep", OUTLASTS)  # Slurm makes it a minute
    assert code == 1 and "  x.log: time limit reached\n" in stderr


def test_memory_limit_is_reported_as_such(grid: Grid) -> None:
    limit = {"slurm": ["--mem", "150M"], "sge": ["-l", "h_vmem=500M"]}[grid.kind]
    script = "import time; x = bytearray(1 << 30); time.sleep(60)"
    code, stderr = grid.run(*limit, "x.log", sys.executable, "-c", script)
    assert code == 1
    # Under Grid Engine the limit is one of the process, which is refused the memory.
    assert {"slurm": "  x.log: memory limit exceeded\n", "sge": "MemoryError"}[grid.kind] in stderr


def test_array_cancelled_from_outside_is_reported_as_such(grid: Grid) -> None:
    process = grid.start("--retries", "1", "--max-jobs-run", "1", "JOB=1:2", "x.JOB.log", "sleep", OUTLASTS)
    wait_for((grid.folder / "x.1.log").exists, "the first task")
    grid.command(*{"slurm": ["scancel"], "sge": ["qdel"]}[grid.kind], *grid.jobs())
    if grid.kind == "sge":  # which does not tell a deleted task from a killed one: it is tried again
        wait_for(lambda: bool(grid.jobs()) and grid.text("x.1.log").count("# Started") == 2, "the second attempt")
        grid.command("qdel", *grid.jobs())
    code, stderr = grid.finish(process)
    assert code == 1 and "2 / 2 failed" in stderr
    expected = {"slurm": "x.1.log: cancelled\n", "sge": "x.1.log: killed: deleted with qdel, or by the node\n"}
    assert expected[grid.kind] in stderr


def test_task_killed_on_the_node_is_a_failure(grid: Grid) -> None:
    process = grid.start("x.log", "sleep", OUTLASTS)
    wait_for((grid.folder / "x.log").exists, "the task")
    killed = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # processes come and go
            if str(grid.folder / "q" / "x").encode() in path.read_bytes():
                killed.append(int(path.parent.name))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    code, stderr = grid.finish(process)
    assert killed and code == 1 and "# Ended (code 1" in grid.text("x.log")
    assert "1 / 1 failed" in stderr


def test_controller_restarted_meanwhile_is_survived(grid: Grid) -> None:
    process = grid.start("JOB=1:3", "x.JOB.log", "bash", "-c", "sleep 8; echo done")
    wait_for((grid.folder / "x.1.log").exists, "the first task")
    pid = {"slurm": "/run/ci-slurm/slurmctld.pid", "sge": "/var/run/gridengine/qmaster.pid"}[grid.kind]
    master = int(Path(pid).read_text())
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{master}").exists(), "the controller's end")
    time.sleep(5)
    program = {"slurm": "slurmctld", "sge": "sge_qmaster"}[grid.kind]
    subprocess.run([program], env=grid.env | {"SGE_QMASTER_PIDFILE": pid}, check=True, timeout=60)
    assert grid.finish(process)[0] == 0
    assert all("\ndone\n" in grid.text(f"x.{number}.log") for number in (1, 2, 3))


def test_gpu_request_gives_each_task_a_gpu_of_its_own(grid: Grid) -> None:
    (grid.folder / "bin").mkdir()
    program = grid.folder / "bin" / "nvidia-smi"  # Grid Engine leaves the choice to the task
    program.write_text("#!/bin/sh\necho 0; echo 1\n")
    program.chmod(0o755)
    grid.env["PATH"] = f"{program.parent}:{grid.env['PATH']}"
    together = "touch up.JOB; for i in $(seq 300); do [ -e up.1 ] && [ -e up.2 ] && break; sleep 0.2; done"
    show = f"{together}; echo gpu=$CUDA_VISIBLE_DEVICES."
    assert grid.run("--gpu", "1", "JOB=1:2", "x.JOB.log", "bash", "-c", show)[0] == 0
    gpus = [re.search(r"^gpu=(.*)\.$", grid.text(f"x.{number}.log"), re.MULTILINE) for number in (1, 2)]
    assert {match[1] for match in gpus if match} == {"0", "1"}
    assert grid.run("y.log", "bash", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES.")[0] == 0
    assert "\ngpu=.\n" in grid.text("y.log")


def test_retries_run_the_failed_task_again(grid: Grid) -> None:
    script = "echo run >> count.JOB; [ JOB != 2 ] || [ $(wc -l < count.JOB) = 2 ]"
    code, stderr = grid.run("--retries", "1", "JOB=1:3", "x.JOB.log", "bash", "-c", script)
    assert code == 0 and "1 / 3 failed, runs 1 again (1 of 1)" in stderr
    assert [grid.text(f"count.{number}").count("run") for number in (1, 2, 3)] == [1, 2, 1]


def test_interrupted_launcher_cancels_its_array(grid: Grid) -> None:
    process = grid.start("--max-jobs-run", "1", "JOB=1:3", "x.JOB.log", "sleep", OUTLASTS)
    wait_for((grid.folder / "x.1.log").exists, "the first task")
    process.send_signal(signal.SIGINT)
    code, stderr = grid.finish(process)
    assert code == 130 and "cancels array" in stderr
    assert grid.jobs() == [] and not (grid.folder / "x.2.log").exists()


def test_log_folder_that_the_node_cannot_write_is_a_failure_with_the_reason(grid: Grid) -> None:
    (grid.folder / "log").mkdir()
    (grid.folder / "log" / "x.1.log").mkdir()  # a folder stands where the log should
    code, stderr = grid.run("JOB=1:1", "log/x.JOB.log", "true")
    assert code == 1 and "log/x.1.log: Is a directory" in stderr
