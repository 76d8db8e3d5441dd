"""utils/signals.sh and utils/guard.py: a stage that is ended ends its jobs, whatever stage and jobs are like."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import default_signals, wait_for, with_text
from test_segment_jobs import Set

from vidperson.io.matrices import load_matrices

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
HEAD = "#!/usr/bin/env bash\nset -euo pipefail\n. ./utils/signals.sh\n"
# Its argument is on the command line of every process that has to end.
JOB = 'echo "$$" >> "$1/begun"; trap "" HUP; while :; do sleep 0.1; done'
DIRECT = 'bash job.sh "$1"\necho went on >> "$1/begun"\n'
BELOW = {
    "a command": DIRECT,
    "a launcher": f'utils/run.py --max-jobs-run 3 JOB=1:3 "$1/log/JOB.log" {DIRECT}',
    "a script": f"bash -c '{DIRECT}' script \"$1\"\n",
    "a pipe": 'bash job.sh "$1" | cat\n',
    "a process that ignores INT": "trap '' INT\n" + DIRECT,
}


class Stage:
    """A stage of a small recipe. text: what the command line of it and its jobs holds."""

    def __init__(self, repo: Path, folder: Path) -> None:
        self.folder, self.text = folder, f"{folder}/jobs of stage"
        Path(self.text).mkdir()
        shutil.copytree(repo / "utils", folder / "utils", symlinks=True)
        (folder / "job.sh").write_text(JOB)

    def start(self, body: str, *before: str, around: str = 'exec bash stage.sh "$1"') -> subprocess.Popen[str]:
        (self.folder / "stage.sh").write_text(HEAD + body)
        call = [*before, "bash", "-c", around, "around", self.text]
        environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
        return subprocess.Popen(
            call, cwd=self.folder, env=environment, text=True, preexec_fn=default_signals, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def begun(self) -> list[str]:
        path = Path(self.text, "begun")
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def wait_until_begun(self, count: int = 1) -> None:
        wait_for(lambda: len(self.begun()) >= count, "the jobs")


@pytest.fixture
def stage(repo: Path, tmp_path: Path) -> Stage:
    return Stage(repo, tmp_path)


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("below", BELOW)
def test_stage_ended_by_a_signal_leaves_no_job_and_dies_of_it(stage: Stage, below: str, number: signal.Signals) -> None:
    process = stage.start(BELOW[below])
    stage.wait_until_begun(3 if below == "a launcher" else 1)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == -number
    assert with_text(stage.text) == []
    assert "went on" not in stage.begun()


@pytest.mark.parametrize("number", ENDS)
def test_stage_ended_by_a_signal_ends_a_loop_around_it(stage: Stage, number: signal.Signals) -> None:
    loop = 'for i in 1 2; do bash stage.sh "$1" || { echo "status $?" >> "$1/begun"; break; }; done'
    process = stage.start(DIRECT, around=loop)
    stage.wait_until_begun()
    (guard,) = [pid for pid in with_text(stage.text) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(guard, number)
    process.communicate(timeout=10)
    assert stage.begun()[1:] == [f"status {128 + number}"]
    assert with_text(stage.text) == []


def test_interrupt_of_the_whole_group_as_by_a_terminal_ends_a_loop_around_the_stage(stage: Stage) -> None:
    process = stage.start(BELOW["a launcher"], around='for i in 1 2; do bash stage.sh "$1"; done; echo no > "$1/begun"')
    stage.wait_until_begun(3)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT and "no" not in stage.begun()
    assert with_text(stage.text) == []


def test_script_of_stages_ended_by_a_signal_ends_the_stage(stage: Stage) -> None:
    (stage.folder / "demo.sh").write_text(HEAD + 'for i in 1 2; do bash stage.sh "$1"; done\n')
    process = stage.start(BELOW["a launcher"], around='exec bash demo.sh "$1"')
    stage.wait_until_begun(3)
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM and with_text(stage.text) == []


def test_stage_below_nohup_goes_on_after_a_hangup(stage: Stage) -> None:
    body = 'while [ ! -e "$1/go on" ]; do sleep 0.02; done; echo went on >> "$1/begun"\n'
    process = stage.start('echo begun >> "$1/begun"\n' + body, "nohup")
    stage.wait_until_begun()
    os.killpg(process.pid, signal.SIGHUP)
    Path(stage.text, "go on").touch()
    process.communicate(timeout=10)
    assert process.returncode == 0 and stage.begun() == ["begun", "went on"]


def test_stage_killed_outright_takes_its_shell_along(stage: Stage) -> None:
    process = stage.start('echo begun >> "$1/begun"\nwhile :; do :; done\n')
    stage.wait_until_begun()
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: with_text(stage.text) == [], "the end of the shell")


def test_stage_that_ends_by_itself_gives_its_status_and_its_arguments_are_kept(stage: Stage) -> None:
    body = 'for word in "$@"; do echo "$word" >> "$1/begun"; done\nexit 7\n'
    process = stage.start(body, around='exec bash stage.sh "$1" "a  b" "" "*"')
    process.communicate(timeout=10)
    assert process.returncode == 7 and stage.begun() == [stage.text, "a  b", "", "*"]


def test_second_signal_does_not_wait_for_jobs_that_do_not_end(stage: Stage) -> None:
    (stage.folder / "job.sh").write_text(f"trap '' TERM; {JOB}")
    process = stage.start(DIRECT)
    stage.wait_until_begun()
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.terminate()
    assert process.wait(timeout=10) == -signal.SIGTERM
    os.kill(int(stage.begun()[0]), signal.SIGKILL)


@pytest.mark.parametrize("number", ENDS)
def test_stage_ended_by_a_signal_leaves_no_job_and_resumes_when_it_is_run_again(
    repo: Path, tmp_path: Path, number: signal.Signals
) -> None:
    small = Set(repo, tmp_path)
    (tmp_path / "stage.sh").write_text(f"{HEAD}{shlex.join(small.command(nj=2, slow='0.3'))}\n")
    process = subprocess.Popen(
        ["bash", tmp_path / "stage.sh"], cwd=repo, env=small.environment(), preexec_fn=default_signals,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journals = [small.out / "jobs2" / job / "journal.jsonl" for job in ("1", "2")]

    def finished() -> int:
        return sum(journal.read_text().count("\n") for journal in journals if journal.exists())

    wait_for(lambda: finished() >= 2, "two segments")
    process.send_signal(number)
    assert process.wait(timeout=10) == -number and with_text(str(tmp_path)) == []
    assert 2 <= finished() < 6
    again = small.run(nj=1)
    assert again.returncode == 0 and [rows.sum() for rows in load_matrices(small.out / "bytes.scp").values()] == [
        3, 4, 5, 6, 7, 8,
    ]  # fmt: skip
