"""utils/segment_jobs.sh around a small step: what is noticed, what is refused, what is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vidperson.io.data_dir import require_valid
from vidperson.io.matrices import load_matrices


class Set:
    """Six segments of three bytes in a data folder, and the folder that is made of them."""

    def __init__(self, repo: Path, work: Path) -> None:
        self.repo, self.work, self.data, self.out = repo, work, work / "data", work / "out"
        self.files = [work / f"my file {number}.bin" for number in range(6)]
        self.data.mkdir()
        for number, file in enumerate(self.files):
            file.write_bytes(bytes([number, 1, 2]))
        for name, value in (("vid.scp", lambda n: self.files[n]), ("utt2spk", lambda n: f"s{n}")):
            (self.data / name).write_text("".join(f"s{n} {value(n)}\n" for n in range(6)))
        (self.data / "spk2utt").write_text("".join(f"s{n} s{n}\n" for n in range(6)))
        require_valid(self.data)

    def command(self, *options: str, nj: int = 2, times: int = 1, slow: str = "0") -> list[str]:
        return [
            "utils/segment_jobs.sh", "--nj", str(nj), "--archives", "bytes.ark", "--media-inputs", "true",
            "--speed-args", f"--slow-s {slow}", *options, str(self.data), str(self.out), "--",
            "python", "tests/byte_step.py", "--times", str(times),
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        binaries = self.repo / "utils" / "bin"
        return {
            **os.environ,
            "VIDPERSON_PYTHON": sys.executable,
            "PYTHONPATH": str(self.repo),
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *options: str, **changes: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options, **changes),  # type: ignore[arg-type]
            cwd=self.repo,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def outputs(self) -> dict[str, bytes]:
        names = ("bytes.ark", "bytes.scp", "status", "settings", "media", ".done")
        return {name: (self.out / name).read_bytes() for name in names if (self.out / name).exists()}


@pytest.fixture
def small(repo: Path, tmp_path: Path) -> Set:
    return Set(repo, tmp_path)


def test_set_done_has_counts_per_state_and_is_left_alone_even_when_it_cannot_be_written(small: Set) -> None:
    small.files[3].unlink()
    first = small.run()
    assert first.returncode == 0, first.stderr
    assert (small.out / ".done").read_text() == "6 segments: 5 ok, 1 unreadable\n"
    assert [rows.sum() for rows in load_matrices(small.out / "bytes.scp").values()] == [3, 4, 5, 0, 7, 8]
    (small.out / ".lock").unlink()
    (small.out / ".lock").mkdir()  # nobody can lock this, not even root
    second = small.run(nj=4)
    assert second.returncode == 0 and "done already: 6 segments: 5 ok, 1 unreadable" in second.stdout
    assert not (small.data / "split2").exists()  # inputs may be read-only


def test_set_killed_at_its_last_line_is_done_and_loses_what_jobs_left(small: Set) -> None:
    assert small.run().returncode == 0
    before = small.outputs()
    (small.out / "jobs2" / "1").mkdir(parents=True)
    (small.out / "jobs2" / "1" / "bytes.ark").write_bytes(b"as large as the result")
    assert "done already" in small.run().stdout
    assert small.outputs() == before and not (small.out / "jobs2").exists()


def test_set_whose_file_was_replaced_is_refused_with_its_name_until_forced_or_put_back(small: Set) -> None:
    assert small.run().returncode == 0
    before, file = small.outputs(), small.files[2]
    stat, content = file.stat(), file.read_bytes()
    file.write_bytes(b"\x09\x09\x09")
    refused = small.run()
    assert refused.returncode == 1 and str(file) in refused.stderr and str(small.files[1]) not in refused.stderr
    assert "--force true" in refused.stderr and "put back" in refused.stderr and small.outputs() == before
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "done already" in small.run().stdout
    file.write_bytes(b"\x09\x09\x09")
    assert small.run("--force", "true").returncode == 0
    assert load_matrices(small.out / "bytes.scp")["s2"].sum() == 27


def test_force_with_settings_that_do_not_work_keeps_what_is_there(small: Set) -> None:
    assert small.run().returncode == 0
    before = small.outputs()
    for changes, message in (({"times": 10}, "expected at most 9 times"), ({"nj": 0}, "expected at least one job")):
        refused = small.run("--force", "true", **changes)
        assert refused.returncode == 1 and message in refused.stderr and "left as it is" in refused.stderr
        assert small.outputs() == before and not (small.out / "trial").exists()
    assert "done already" in small.run().stdout


def kill_behind(small: Set, segments: int) -> None:
    """Run the set slowly, and kill it with all its processes when one job has finished so many segments."""
    run = subprocess.Popen(
        small.command(nj=1, slow="0.3"), cwd=small.repo, env=small.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_segments(small.out / "jobs1" / "1" / "journal.jsonl", segments, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    lock = ["flock", "-w", "60", str(small.out / ".lock"), "true"]  # the job dies with its launcher
    assert subprocess.run(lock, timeout=90).returncode == 0


def test_unfinished_set_refuses_other_settings_and_replaced_files_and_goes_on_with_those_of_then(small: Set) -> None:
    assert small.run(nj=3).returncode == 0
    expected = small.outputs()
    subprocess.run(["rm", "-r", str(small.out)], check=True)
    kill_behind(small, 2)
    refused = small.run(times=3)
    assert refused.returncode == 1 and "--times 1" in refused.stderr and "--times 3" in refused.stderr
    stat = small.files[5].stat()
    small.files[5].write_bytes(b"other")
    refused = small.run()
    assert refused.returncode == 1 and str(small.files[5]) in refused.stderr
    small.files[5].write_bytes(b"\x05\x01\x02")
    os.utime(small.files[5], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = small.run()
    assert done.returncode == 0 and "goes on with the 1 jobs" in done.stdout
    assert small.outputs() == expected


def wait_for_segments(journal: Path, segments: int, run: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_text().count("\n") >= segments):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)


def test_files_that_vanish_while_the_jobs_run_fail_the_stage_and_are_done_when_they_are_back(small: Set) -> None:
    """As when a folder is no longer mounted; a file that was not there in the beginning is only unreadable."""
    small.files[1].unlink()
    assert small.run(nj=2).returncode == 0
    expected = small.outputs()
    subprocess.run(["rm", "-r", str(small.out)], check=True)
    run = subprocess.Popen(
        small.command(nj=1, slow="1"), cwd=small.repo, env=small.environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_segments(small.out / "jobs1" / "1" / "journal.jsonl", 1, run)
    for number in (4, 5):
        small.files[number].rename(small.work / str(number))
    stderr = run.communicate(timeout=120)[1]
    assert run.returncode == 1 and "gone when their turn came, first that of 's4'" in stderr
    assert not (small.out / ".done").exists() and not (small.out / "bytes.ark").exists()
    for number in (4, 5):
        (small.work / str(number)).rename(small.files[number])
    assert small.run(nj=1).returncode == 0
    assert small.outputs() == expected


def test_unwritable_output_folder_is_named(small: Set) -> None:
    small.out.write_text("a file stands where the folder should be")
    refused = small.run()
    assert refused.returncode != 0 and str(small.out) in refused.stderr and "Traceback" not in refused.stderr


def test_set_in_a_folder_that_is_a_link_is_refused_with_other_settings_and_made_anew_when_forced(small: Set) -> None:
    (small.work / "other disk").mkdir()
    small.out.symlink_to(small.work / "other disk")
    kill_behind(small, 2)
    refused = small.run(times=3)
    assert refused.returncode == 1 and "--times 1" in refused.stderr and "--times 3" in refused.stderr
    assert "goes on with the 1 jobs" in small.run().stdout
    assert small.run("--force", "true", times=2).returncode == 0
    assert small.out.is_symlink() and not list(small.out.glob("jobs*"))
    assert [rows.sum() for rows in load_matrices(small.out / "bytes.scp").values()] == [6, 8, 10, 12, 14, 16]


def test_set_in_a_folder_named_like_a_pattern_keeps_the_record_of_living_arrays_when_forced(small: Set) -> None:
    small.out = small.work / "out[1]"
    assert small.run().returncode == 0
    (small.out / "log" / "q").mkdir()
    (small.out / "log" / "q" / "array").write_text("7\n")
    assert small.run("--force", "true", times=2).returncode == 0
    assert (small.out / "log" / "q" / "array").read_text() == "7\n"


def test_set_without_any_of_its_files_is_refused_even_when_forced_and_keeps_what_is_there(small: Set) -> None:
    """As when a folder is not mounted."""
    assert small.run().returncode == 0
    before = small.outputs()
    for number, file in enumerate(small.files):
        file.rename(small.work / str(number))
    refused = small.run("--force", "true", times=2)
    assert refused.returncode == 1 and f"none of the files in {small.data}/vid.scp is there" in refused.stderr
    assert small.outputs() == before


@pytest.mark.parametrize("name", ["bytes.ark", "bytes.scp", "status"])
def test_set_done_that_lacks_a_file_is_refused_with_its_name_until_forced(small: Set, name: str) -> None:
    assert small.run().returncode == 0
    before = small.outputs()
    (small.out / name).unlink()
    refused = small.run()
    assert refused.returncode == 1 and f"{small.out}/{name} is gone" in refused.stderr
    assert "--force true" in refused.stderr
    assert small.run("--force", "true").returncode == 0 and small.outputs() == before


def test_inputs_that_are_missing_are_named_with_what_makes_them(small: Set) -> None:
    faces = small.work / "face_det" / "x" / "set" / "faces.ark"
    (small.data / "vid.scp").rename(small.data / "img.scp")
    refused = small.run("--input", str(faces))
    assert refused.returncode == 1 and f"there is no {small.data}/vid.scp; it names the set's videos" in refused.stderr
    assert f"there is no {faces}; run ./run_002_detect_faces.sh" in refused.stderr and not small.out.exists()


def test_set_below_a_folder_with_the_name_of_the_array_gives_the_same_outputs(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "JOB_JOBS").mkdir()
    named = Set(repo, tmp_path / "JOB_JOBS")
    done = named.run()
    assert done.returncode == 0, done.stderr
    assert [rows.sum() for rows in load_matrices(named.out / "bytes.scp").values()] == [3, 4, 5, 6, 7, 8]
    assert [path.name for path in tmp_path.iterdir()] == ["JOB_JOBS"]


def test_set_interrupted_while_a_command_does_not_notice_ends_with_it_and_goes_on_later(small: Set) -> None:
    """The interrupt reaches only the shell; the jobs end as if nothing had happened."""
    run = subprocess.Popen(
        small.command(nj=1, slow="0.1"), cwd=small.repo, env=small.environment(), preexec_fn=default_interrupt,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_segments(small.out / "jobs1" / "1" / "journal.jsonl", 1, run)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=120) == 130 and not (small.out / ".done").exists()
    assert small.run(nj=1).returncode == 0 and (small.out / ".done").exists()


def default_interrupt() -> None:
    """An interrupt that was ignored when a shell started cannot be trapped, as below `nohup`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
