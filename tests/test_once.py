"""utils/once.py: a step is run when it says that something is to be made, and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidperson.io.record import record_path


class Once:
    def __init__(self, repo: Path, work: Path) -> None:
        self.repo, self.work = repo, work
        self.input, self.output, self.log = work / "my input", work / "out put", work / "log"
        self.input.write_text("1\n")

    def command(self, *options: str, step: str = "") -> list[str]:
        command = ["utils/once.py", "--log", str(self.log), *options, "--", "python", "tests/file_step.py"]
        return [*command, "--source", str(self.input), "--output", str(self.output), *step.split()]

    def environment(self) -> dict[str, str]:
        path = f"{self.repo}/utils/bin:{os.environ['PATH']}"
        return {**os.environ, "VIDPERSON_PYTHON": sys.executable, "PYTHONPATH": str(self.repo), "PATH": path}

    def run(self, *options: str, step: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options, step=step), cwd=self.repo, env=self.environment(), capture_output=True, text=True,
            timeout=90,
        )  # fmt: skip

    def ran(self, *options: str, step: str = "") -> bool:
        """Whether the command was run; it must succeed."""
        self.log.unlink(missing_ok=True)
        done = self.run(*options, step=step)
        assert done.returncode == 0, done.stderr
        assert ("done already" in done.stdout) != self.log.exists()
        return self.log.exists()


@pytest.fixture
def once(repo: Path, tmp_path: Path) -> Once:
    return Once(repo, tmp_path)


def test_file_is_made_again_only_when_command_input_or_wish_changed(once: Once) -> None:
    assert once.ran() and once.output.read_text() == "1\n" and "not forced" in once.log.read_text()
    assert not once.ran()
    assert not once.ran(step="--slow-s 0.01")
    once.input.write_text("2\n")
    assert once.ran() and once.output.read_text() == "2\n"
    assert once.ran("--force", "true") and "\nforced" in once.log.read_text()
    once.input.write_text("1\n")
    said = once.run().stdout
    assert said.count(str(once.input)) == 2 and "< " in said and "> " in said and once.output.read_text() == "1\n"
    assert once.ran(step="--factor 3") and once.output.read_text() == "3\n"
    once.output.unlink()
    assert once.ran(step="--factor 3") and once.output.read_text() == "3\n"


def test_file_that_was_edited_is_not_done_and_made_again(once: Once) -> None:
    assert once.ran()
    once.output.write_text("7\n")
    assert once.ran() and once.output.read_text() == "1\n"


def test_command_that_fails_fails_the_call_and_is_run_again(once: Once) -> None:
    assert once.ran()
    failed = once.run(step="--factor 0")
    assert failed.returncode == 1 and "expected another factor than 0" in failed.stderr
    assert once.ran(step="--factor 2")


def test_output_that_is_seen_late_is_waited_for_and_one_that_never_comes_is_named(once: Once) -> None:
    begin = time.monotonic()
    assert once.ran("--patience-s", "30", step="--late-s 1")
    assert 1 <= time.monotonic() - begin < 25
    once.input.write_text("2\n")
    failed = once.run("--patience-s", "1", step="--late-s 20")
    assert failed.returncode == 1 and f"not all outputs are there 1 s after the command ended; see {once.log}" in (
        failed.stderr
    )
    assert str(once.input) in failed.stderr  # why it is not there


def test_last_warnings_of_the_log_are_shown_and_how_many_there_are(once: Once) -> None:
    assert once.run(step="--warnings 2").stderr == "WARNING warning 1\nWARNING warning 2\n"
    many = once.run("--force", "true", step="--warnings 5").stderr
    assert many == f"5 warnings in {once.log}, the last:\n" + "".join(f"WARNING warning {i}\n" for i in (3, 4, 5))


def test_step_that_cannot_be_asked_is_not_run(once: Once) -> None:
    record_path(once.output).write_text("{")
    failed = once.run()
    assert failed.returncode == 1 and "found a damaged one" in failed.stderr and not once.log.exists()
    failed = once.run(step="--unheard-of 1")
    assert failed.returncode == 2 and "valid options" in failed.stderr and not once.log.exists()


def test_input_that_is_missing_is_named(once: Once) -> None:
    once.input.unlink()
    failed = once.run()
    assert failed.returncode != 0 and "my input" in failed.stderr


def test_call_that_is_malformed_is_refused(once: Once) -> None:
    for command, message in (
        (["utils/once.py", "--", "python", "x.py"], "once.py: expected --log"),
        (["utils/once.py", "--logs", "x", "--", "python", "x.py"], "unknown option --logs; valid: --cmd --log"),
        (["utils/once.py", "--log", "x", "python", "x.py"], "expected options, -- and a command"),
        (["utils/once.py", "--log", "x", "--force", "yes", "--", "a", "b"], "--force: expected true or false"),
        (["utils/once.py", "--log", "x", "--", str(once.work / "nothing"), "b"], "cannot start"),
    ):
        refused = subprocess.run(command, cwd=once.repo, env=once.environment(), capture_output=True, text=True)
        assert refused.returncode == 1 and message in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_call_and_its_job_and_the_file_is_made_later(once: Once, number: signal.Signals) -> None:
    run = subprocess.Popen(
        once.command(step="--slow-s 3"), cwd=once.repo, env=once.environment(), stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (once.work / "begun").exists():
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    run.send_signal(number)
    assert run.wait(timeout=60) == 128 + number and not record_path(once.output).exists()
    time.sleep(3)
    assert not once.output.exists()
    assert once.ran()
