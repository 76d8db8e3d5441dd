"""utils/once.sh: a file is made once from the same command and inputs, and patience where it is seen late."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest


class Once:
    def __init__(self, repo: Path, work: Path) -> None:
        self.repo, self.work = repo, work
        self.input, self.output, self.log = work / "my input", work / "out put", work / "log"
        self.input.write_text("1\n")

    def command(self, *options: str, script: str) -> list[str]:
        command = [
            "utils/once.sh",
            "--log",
            str(self.log),
            "--input",
            str(self.input),
            *options,
            str(self.output),
            "--",
        ]
        return [*command, "bash", "-c", script, "script", str(self.input), str(self.output)]

    def run(self, *options: str, script: str = 'cat "$1" > "$2"') -> subprocess.CompletedProcess[str]:
        command = self.command(*options, script=script)
        return subprocess.run(command, cwd=self.repo, capture_output=True, text=True, timeout=60)

    def ran(self, *options: str, script: str = 'cat "$1" > "$2"') -> bool:
        """Whether the command was run; it must succeed."""
        self.log.unlink(missing_ok=True)
        done = self.run(*options, script=script)
        assert done.returncode == 0, done.stderr
        assert ("done already" in done.stdout) != self.log.exists()
        return self.log.exists()


@pytest.fixture
def once(repo: Path, tmp_path: Path) -> Once:
    return Once(repo, tmp_path)


def test_file_is_made_again_only_when_command_input_or_wish_changed(once: Once) -> None:
    assert once.ran() and once.output.read_text() == "1\n"
    assert not once.ran()
    assert not once.ran("--speed-args", "--mem-gb 7")
    once.input.write_text("2\n")
    assert once.ran() and once.output.read_text() == "2\n"
    assert once.ran("--force", "true")
    once.input.write_text("1\n")
    said = once.run().stdout
    assert "made anew" in said and said.count(str(once.input)) == 2 and once.output.read_text() == "1\n"
    assert once.ran(script='rev "$1" > "$2"')
    once.output.unlink()
    assert once.ran(script='rev "$1" > "$2"')


def test_file_is_made_again_when_one_that_its_command_also_writes_is_gone(once: Once) -> None:
    beside = once.work / "out put.table"
    script, options = 'cat "$1" > "$2.table"; cat "$1" > "$2"', ("--also", str(beside))
    assert once.ran(*options, script=script) and not once.ran(*options, script=script)
    beside.unlink()
    assert once.ran(*options, script=script) and beside.read_text() == "1\n"


def test_command_that_fails_is_run_again_and_leaves_no_old_output(once: Once) -> None:
    assert once.ran()
    once.input.write_text("2\n")
    assert once.run(script="exit 3").returncode != 0 and not once.output.exists()
    once.input.write_text("1\n")
    assert once.ran()


def test_output_that_is_seen_late_is_waited_for_and_one_that_never_comes_is_named(once: Once) -> None:
    begin = time.monotonic()
    assert once.ran("--patience-s", "30", script='(sleep 1; cat "$1" > "$2.new"; mv "$2.new" "$2") > /dev/null 2>&1 &')
    assert 1 <= time.monotonic() - begin < 25
    once.input.write_text("2\n")
    failed = once.run("--patience-s", "1", script=":")
    assert failed.returncode == 1 and f"{once.output}: not there 1 s after" in failed.stderr
    assert not (once.work / "out put.made").exists()


def test_inputs_that_are_missing_are_all_named_with_what_makes_them(once: Once) -> None:
    failed = once.run("--input", "data/dev/trials", "--input", "exp/scores/x/max/dev_scores")
    assert failed.returncode == 1 and "there is no data/dev/trials; run ./run_001_prepare_data.sh" in failed.stderr
    assert "there is no exp/scores/x/max/dev_scores; run ./run_004_score.sh with that system" in failed.stderr
    assert "sha256sum" not in failed.stderr


def test_input_that_is_missing_is_named(once: Once) -> None:
    once.input.unlink()
    failed = once.run()
    assert failed.returncode != 0 and "my input" in failed.stderr


def test_interrupt_that_the_command_does_not_notice_ends_the_call_and_the_file_is_made_again(once: Once) -> None:
    run = subprocess.Popen(
        once.command(script='touch "$2.begun"; sleep 1; cat "$1" > "$2"'), cwd=once.repo,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (once.work / "out put.begun").exists():
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=60) == 130 and not (once.work / "out put.made").exists()
    assert once.ran()
