"""utils/run.py as the stages and Kaldi's scripts call it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from processes import default_signals, is_alive, wait_for

RUN = Path(__file__).resolve().parents[1] / "utils" / "run.py"
FAST = Path(__file__).with_name("fast_launcher.py")
ECHO_ARGUMENTS = "import sys; print(sys.argv[1:])"


def run(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *args], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_run_single_command_writes_log_with_header_output_and_footer(tmp_path: Path) -> None:
    result = run(tmp_path, "log/x.log", "bash", "-c", "echo out; echo err >&2; printf 'no newline'")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    lines = (tmp_path / "log" / "x.log").read_text().splitlines()
    assert lines[0] == "# bash -c 'echo out; echo err >&2; printf '\"'\"'no newline'\"'\"''"
    assert re.fullmatch(rf"# Started at .+ \d{{4}} on {re.escape(os.uname().nodename)}", lines[1])
    assert lines[2:6] == ["#", "out", "err", "no newline"]
    assert lines[6] == "# Accounting: time=0 threads=1"
    assert re.fullmatch(r"# Ended \(code 0\) at .+ \d{4}, elapsed time \d+ seconds", lines[7])
    assert len(lines) == 8


def test_run_array_replaces_job_name_in_log_and_everywhere_in_arguments(tmp_path: Path) -> None:
    args = ["part/JOB/vid.scp", "JOB.JOB", "--n=JOB"]
    assert run(tmp_path, "JOB=2:4", "log/x.JOB.log", sys.executable, "-c", ECHO_ARGUMENTS, *args).returncode == 0
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["x.2.log", "x.3.log", "x.4.log"]
    assert "['part/3/vid.scp', '3.3', '--n=3']" in (tmp_path / "log" / "x.3.log").read_text()


def test_run_other_array_name_is_replaced_and_job_is_left(tmp_path: Path) -> None:
    assert run(tmp_path, "TASK=1:1", "log/TASK.log", "echo", "TASK", "JOB").returncode == 0
    assert "\n1 JOB\n" in (tmp_path / "log" / "1.log").read_text()


def test_run_arguments_with_shell_characters_reach_the_command_unchanged(tmp_path: Path) -> None:
    args = ["a b", "it's", 'say "x"', "$HOME;touch pwned", "`id`|cat", "*", "", "gr\u00f6\u00dfe"]
    assert run(tmp_path, "x.log", sys.executable, "-c", ECHO_ARGUMENTS, *args).returncode == 0
    assert str(args) in (tmp_path / "x.log").read_text()
    assert not (tmp_path / "pwned").exists()


def test_run_some_jobs_fail_runs_all_and_names_their_logs(tmp_path: Path) -> None:
    script = "echo progress 1/2 x, 1/s; echo why JOB; exit $((JOB % 2 == 0 ? 3 : 0))"
    result = run(tmp_path, "JOB=1:5", "log/x.JOB.log", "bash", "-c", script)
    assert result.returncode == 1
    assert result.stderr.startswith("run.py: 2 / 5 failed, logs are log/x.2.log log/x.4.log\n")
    assert "why 2" in result.stderr and "(code 3)" in result.stderr
    assert "why 4" not in result.stderr and "\n  progress" not in result.stderr
    for job, code in enumerate([0, 3, 0, 3, 0], 1):
        assert f"# Ended (code {code}) at" in (tmp_path / "log" / f"x.{job}.log").read_text()


def test_run_one_job_fails_names_the_log(tmp_path: Path) -> None:
    assert run(tmp_path, "x.log", "false").stderr.startswith("run.py: 1 / 1 failed, log is x.log\n")


def test_run_job_with_much_to_say_behind_its_error_shows_the_error_once(tmp_path: Path) -> None:
    said = "print('ERROR: lower the learning rate'); " * 2 + "print('more\\n' * 40); raise SystemExit(1)"
    done = run(tmp_path, "x.log", sys.executable, "-c", said)
    lines = done.stderr.splitlines()
    assert lines[1:4] == ["The end of x.log:", "  ERROR: lower the learning rate", "  more"] and len(lines) == 13


def test_run_job_killed_by_signal_is_a_failure_with_the_signal_named(tmp_path: Path) -> None:
    assert run(tmp_path, "x.log", "bash", "-c", "kill -SEGV $$").returncode == 1
    assert "# Ended (code 139) (killed by SIGSEGV) at" in (tmp_path / "x.log").read_text()


def test_run_command_that_does_not_exist_is_a_failure_with_the_reason_in_the_log(tmp_path: Path) -> None:
    assert run(tmp_path, "x.log", "no-such-program").returncode == 1
    assert "cannot start 'no-such-program': No such file" in (tmp_path / "x.log").read_text()


def test_run_max_jobs_run_bounds_the_jobs_at_once(tmp_path: Path) -> None:
    script = "touch run.JOB; echo run.* | wc -w; sleep 0.2; rm run.JOB"
    for option in (["--max-jobs-run", "2"], ["--max-jobs-run=2"], ["-tc", "2"]):
        assert run(tmp_path, *option, "JOB=1:6", "log/JOB.log", "bash", "-c", script).returncode == 0
        at_once = [int((tmp_path / "log" / f"{job}.log").read_text().splitlines()[3]) for job in range(1, 7)]
        assert max(at_once) == 2


def test_run_kaldi_resource_options_are_taken_before_and_after_the_array(tmp_path: Path) -> None:
    before = ["--mem", "4G", "--gpu=1", "-l", "ram_free=1G", "-q", "all.q", "-pe", "smp", "4", "-V"]
    after = ["--num-threads", "3", "--config", "queue.conf", "--time", "1:00:00"]
    assert run(tmp_path, *before, "JOB=1:2", *after, "x.JOB.log", "echo", "JOB", "--mem").returncode == 0
    assert "\n2 --mem\n" in (tmp_path / "x.2.log").read_text()


def test_run_single_number_array_is_one_job(tmp_path: Path) -> None:
    assert run(tmp_path, "JOB=5", "x.JOB.log", "echo", "JOB").returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.5.log"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--memory", "4G", "x.log", "true"], "unknown option --memory; valid: --config --gpu"),
        (["--max-jobs-run", "0", "x.log", "true"], "--max-jobs-run takes a number from 1, found '0'"),
        (["JOB=1:3", "x.log", "true"], "all jobs would write the log 'x.log'; put JOB into its name"),
        (
            ["JOB=0:3", "x.JOB.log", "true"],
            "expected a range from 1 upwards such as JOB=1:8, found 'JOB=0:3'",
        ),
        (
            ["JOB=3:1", "x.JOB.log", "true"],
            "expected a range from 1 upwards such as JOB=1:8, found 'JOB=3:1'",
        ),
        (["x.log"], "expected a log file and a command"),
        (["--mem"], "option --mem lacks its value"),
    ],
)
def test_run_malformed_call_is_refused_with_the_reason(tmp_path: Path, args: list[str], message: str) -> None:
    result = run(tmp_path, *args)
    assert result.returncode == 1
    assert result.stderr.startswith(f"run.py: {message}")
    assert not list(tmp_path.iterdir())


def test_run_second_run_removes_logs_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "x.1.log").write_text("# Ended (code 0) long ago\n")
    (tmp_path / "x.2.log").write_text("# Ended (code 0) long ago\n")
    assert run(tmp_path, "--max-jobs-run=1", "JOB=1:2", "x.JOB.log", "bash", "-c", "[ JOB = 2 ] || ls").returncode == 0
    first = (tmp_path / "x.1.log").read_text()
    assert "long ago" not in first and "x.2.log" not in first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_interrupted_ends_jobs_and_what_they_started(tmp_path: Path, number: signal.Signals) -> None:
    script = "sleep 100 & echo $! > pid.JOB; wait"
    process = subprocess.Popen(
        [RUN, "--max-jobs-run=2", "JOB=1:3", "x.JOB.log", "bash", "-c", script],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=default_signals,
    )  # fmt: skip
    pids = [tmp_path / "pid.1", tmp_path / "pid.2"]
    wait_for(lambda: all(p.exists() and p.read_text().endswith("\n") for p in pids), "two jobs")
    children = [int(p.read_text()) for p in pids]
    assert all(map(is_alive, children))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert number.name in stderr
    assert not any(map(is_alive, children))
    assert "(killed by SIGTERM)" in (tmp_path / "x.1.log").read_text()
    assert not (tmp_path / "x.3.log").exists()


def test_run_job_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); open('ready', 'w').close(); time.sleep(100)"
    call = [sys.executable, FAST, RUN, "x.log", sys.executable, "-c", script]
    process = subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "ready").exists, "the job")
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert "(killed by SIGKILL)" in (tmp_path / "x.log").read_text()


def test_run_killed_outright_takes_its_jobs_along(tmp_path: Path) -> None:
    script = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(100)"
    process = subprocess.Popen([RUN, "x.log", sys.executable, "-c", script], cwd=tmp_path)
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"), "the job")
    process.kill()
    process.wait(timeout=20)
    wait_for(lambda: not is_alive(int(pid.read_text())), "the end of the job")


def on_terminal(cwd: Path, *args: str) -> tuple[int, str]:
    """Exit status and stderr of run.py on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([RUN, *args], cwd=cwd, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 4096):
            text += block
    except OSError:  # the end of a terminal whose other side is closed
        pass
    os.close(ours)
    return process.wait(timeout=20), text.decode()


def test_run_on_terminal_adds_up_the_progress_of_the_jobs_in_one_line(tmp_path: Path) -> None:
    script = (
        "echo progress 0/1JOB segments, 0/s, ? left; echo other;"
        " echo progress 4/1JOB segments, 2.5/s, 0:00:03 left; sleep 1.3;"
        " echo progress 1JOB/1JOB segments, 2.5/s, 0:00:00 left"
    )
    status, text = on_terminal(tmp_path, "--max-jobs-run=2", "JOB=1:2", "x.JOB.log", "bash", "-c", script)
    assert status == 0
    drawn = [re.sub(r"\x1b\[K", "", part).strip() for part in text.split("\r") if part.strip()]
    assert "[######..............] 8/23 segments, 5/s, 0:00:03 left, 0/2 jobs done" in drawn
    assert drawn[-1] == "[####################] 23/23 segments, 0/s, 2/2 jobs done"
    assert text.rstrip("\r\n").count("\n") == 0
    assert max(map(len, drawn)) < 100


def test_run_on_terminal_counts_failed_jobs_in_the_line(tmp_path: Path) -> None:
    status, text = on_terminal(tmp_path, "JOB=1:3", "x.JOB.log", "bash", "-c", "[ JOB != 2 ]")
    assert status == 1
    assert "3/3 jobs done, 1 failed" in text
    assert "run.py: 1 / 3 failed, log is x.2.log" in text


def test_run_without_terminal_prints_no_progress(tmp_path: Path) -> None:
    assert run(tmp_path, "x.log", "echo", "progress 1/2 segments, 1/s, 0:00:01 left").stderr == ""


def test_run_understands_the_lines_of_the_progress_module(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "from vidperson.progress import Progress; p = Progress(7, 'segments', done=3); p.step(4)"
    monkeypatch.setenv("PYTHONPATH", str(repo))
    _, text = on_terminal(tmp_path, "x.log", sys.executable, "-c", script)
    assert "7/7 segments" in text
