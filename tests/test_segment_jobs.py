"""utils/segment_jobs.py around a small step: what is noticed, what is refused, what is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from byte_step import ARCHIVES

from vidperson.io.data_dir import require_valid
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import set_files
from vidperson.io.record import RECORD


class Set:
    """Six segments of three bytes in a data folder, and the folder that is made of them."""

    def __init__(self, repo: Path, work: Path) -> None:
        self.repo, self.work, self.data, self.out = repo, work, work / "data", work / "out"
        self.calls = work / "calls"
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
            "utils/segment_jobs.py", "--nj", str(nj), "--archives", "bytes.ark bytes_in.tar", "--media", "true",
            "--states", "ok unreadable", "--speed-args", f"--slow-s {slow} --calls {self.calls}", *options,
            str(self.data / "vid.scp"), str(self.out), "--", "python", "tests/byte_step.py", "--times", str(times),
        ]  # fmt: skip

    def done(self) -> list[str]:
        """The segments that jobs have done since this was last asked."""
        segments = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return sorted(segments)

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
        """Name -> content of the files of the set; of its record what the speed does not change."""
        files = {name: self.out / name for name in (*set_files(ARCHIVES), RECORD)}
        found = {name: path.read_bytes() for name, path in files.items() if path.exists()}
        if RECORD in found:
            found[RECORD] = json.dumps({**json.loads(found[RECORD]), "options": {}}).encode()
        return found

    def from_nothing(self, nj: int = 2) -> dict[str, bytes]:
        """The outputs of a run of its own, while the folder has another name."""
        kept = self.out.with_name(f"{self.out.name} kept")
        self.out.rename(kept)
        try:
            assert self.run(nj=nj).returncode == 0
            return self.outputs()
        finally:
            self.done()
            subprocess.run(["rm", "-rf", str(self.out)], check=True)
            kept.rename(self.out)

    def list(self, numbers: list[int]) -> None:
        """Write the list of these segments."""
        lines = [f"s{number} {self.files[number]}\n" for number in numbers]
        (self.data / "vid.scp").write_text("".join(lines))

    def sums(self) -> list[float]:
        return [float(rows.sum()) for rows in load_matrices(self.out / "bytes.scp").values()]


@pytest.fixture
def small(repo: Path, tmp_path: Path) -> Set:
    return Set(repo, tmp_path)


def test_set_done_has_counts_per_state_and_is_left_alone_even_when_it_cannot_be_written(small: Set) -> None:
    small.files[3].unlink()
    first = small.run()
    assert first.returncode == 0, first.stderr
    assert f"{small.out}: 6 segments: 5 ok, 1 unreadable\n  s3 unreadable: No such file or directory\n" in first.stdout
    assert small.sums() == [3, 4, 5, 0, 7, 8]
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
    (small.out / "unfinished.json").write_text((small.out / RECORD).read_text())
    assert "done already" in small.run().stdout
    assert small.outputs() == before and not list(small.out.glob("jobs*"))
    assert not (small.out / "unfinished.json").exists()


def test_set_whose_file_was_replaced_does_that_segment_only_and_is_left_alone_once_it_is_put_back(small: Set) -> None:
    assert small.run().returncode == 0 and len(small.done()) == 6
    before, file = small.outputs(), small.files[2]
    stat, content = file.stat(), file.read_bytes()
    file.write_bytes(b"\x09\x09\x09")
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "done already" in small.run().stdout and small.outputs() == before and small.done() == []
    file.write_bytes(b"\x09\x09\x09")
    changed = small.run()
    assert changed.returncode == 0 and "1 of 6 segments are new or changed; the others are kept" in changed.stdout
    assert small.done() == ["s2"] and load_matrices(small.out / "bytes.scp")["s2"].sum() == 27
    assert small.outputs() == small.from_nothing()
    assert small.run("--force", "true").returncode == 0 and len(small.done()) == 6
    assert small.outputs() == small.from_nothing()


def test_set_whose_file_is_gone_is_refused_with_its_name_until_forced_or_put_back(small: Set) -> None:
    """As when a disk is not mounted: what was made of it is not given up for nothing."""
    assert small.run().returncode == 0
    before, file = small.outputs(), small.files[2]
    file.rename(small.work / "elsewhere")
    refused = small.run()
    assert refused.returncode == 1 and str(file) in refused.stderr and str(small.files[1]) not in refused.stderr
    assert "1 files that were there when it was made are gone, first that of 's2'" in refused.stderr
    assert "--force true" in refused.stderr and "put them back" in refused.stderr and small.outputs() == before
    (small.work / "elsewhere").rename(file)
    assert "done already" in small.run().stdout
    file.rename(small.work / "elsewhere")
    assert small.run("--force", "true").returncode == 0
    assert (small.out / "status").read_text().splitlines()[2] == "s2 unreadable: No such file or directory"
    (small.work / "elsewhere").rename(file)
    small.done()
    assert small.run().returncode == 0 and small.done() == ["s2"] and small.outputs() == before


def test_force_with_settings_that_do_not_work_keeps_what_is_there(small: Set) -> None:
    assert small.run().returncode == 0
    before = small.outputs()
    for changes, message in (({"times": 10}, "expected at most 9 times"), ({"nj": 0}, "expected at least one job")):
        refused = small.run("--force", "true", **changes)  # type: ignore[arg-type]
        assert refused.returncode == 1 and message in refused.stderr and "left as it is" in refused.stderr
        assert small.outputs() == before and not (small.out / "trial").exists()
    assert "done already" in small.run().stdout


def kill_behind(small: Set, segments: int) -> None:
    """Run slowly, and kill all its processes when the job has done so many segments."""
    small.done()
    run = subprocess.Popen(
        small.command(nj=1, slow="0.3"), cwd=small.repo, env=small.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_segments(small.calls, segments, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    lock = ["flock", "-w", "60", str(small.out / ".lock"), "true"]  # the job dies with its launcher
    assert subprocess.run(lock, timeout=90).returncode == 0


def test_unfinished_set_refuses_other_settings_and_missing_files_and_resumes_with_those_of_then(small: Set) -> None:
    kill_behind(small, 2)
    refused = small.run(times=3)
    assert refused.returncode == 1 and "< --times 1\n> --times 3\n" in refused.stderr
    small.files[5].rename(small.work / "elsewhere")
    refused = small.run()
    assert refused.returncode == 1 and str(small.files[5]) in refused.stderr
    (small.work / "elsewhere").rename(small.files[5])
    small.done()
    done = small.run()
    assert done.returncode == 0 and "resumes with the 1 jobs" in done.stdout and len(small.done()) <= 4
    assert small.outputs() == small.from_nothing(nj=3)


def test_unfinished_set_whose_list_and_files_change_keeps_what_is_done_and_the_same(small: Set) -> None:
    """Each time it is killed again."""
    kill_behind(small, 2)
    assert len(small.done()) >= 2
    small.files[0].write_bytes(b"other")
    small.list([1, 0, 3, 2])
    kill_behind(small, 2)
    assert {"s0", "s1"} & set(small.done()) == {"s0"}
    small.list([0, 1, 2, 3, 4, 5])
    resumed = small.run(nj=2)
    assert resumed.returncode == 0 and set(small.done()) <= {"s2", "s3", "s4", "s5"}
    assert small.outputs() == small.from_nothing(nj=3)
    assert sorted(path.name for path in small.out.iterdir() if path.is_dir()) == ["log"]


def test_unfinished_set_that_finished_nothing_takes_any_settings(small: Set) -> None:
    assert small.run(times=10).returncode == 1 and (small.out / "unfinished.json").exists()
    assert small.run(times=3).returncode == 0 and small.sums()[0] == 9


def wait_for_segments(lines: Path, segments: int, run: subprocess.Popen[Any]) -> None:
    """lines: a list that gets one line per segment."""
    deadline = time.monotonic() + 120
    while not (lines.exists() and lines.read_text().count("\n") >= segments):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)


def test_files_that_vanish_while_the_jobs_run_fail_the_stage_and_are_done_when_they_are_back(small: Set) -> None:
    """As when a disk is unmounted; a file that was never there is only unreadable."""
    small.files[1].unlink()
    run = subprocess.Popen(
        small.command(nj=1, slow="1"), cwd=small.repo, env=small.environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_segments(small.out / "jobs1" / "1" / "journal.jsonl", 1, run)
    for number in (4, 5):
        small.files[number].rename(small.work / str(number))
    stderr = run.communicate(timeout=120)[1]
    assert run.returncode == 1 and "gone when their turn came, first that of 's4'" in stderr
    assert not (small.out / RECORD).exists() and not (small.out / "bytes.ark").exists()
    refused = small.run(nj=1)
    assert refused.returncode == 1 and f"first that of 's4': {small.files[4]}; put them back" in refused.stderr
    for number in (4, 5):
        (small.work / str(number)).rename(small.files[number])
    assert small.run(nj=1).returncode == 0
    assert small.outputs() == small.from_nothing(nj=2)


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
    assert "resumes with the 1 jobs" in small.run().stdout
    assert small.run("--force", "true", times=2).returncode == 0
    assert small.out.is_symlink() and not list(small.out.glob("jobs*"))
    small.files[0].write_bytes(b"\x01\x01\x01")
    small.done()
    assert small.run(times=2).returncode == 0 and small.done() == ["s0"] and small.out.is_symlink()
    small.files[0].write_bytes(b"\x00\x01\x02")
    assert small.run(times=2).returncode == 0
    assert small.sums() == [6, 8, 10, 12, 14, 16]


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


@pytest.mark.parametrize("name", set_files(ARCHIVES))
def test_set_done_that_lacks_a_file_is_refused_with_its_name_until_forced(small: Set, name: str) -> None:
    assert small.run().returncode == 0
    before = small.outputs()
    (small.out / name).unlink()
    refused = small.run()
    assert refused.returncode == 1 and f"{small.out}/{name} is gone" in refused.stderr
    assert "--force true" in refused.stderr
    assert small.run("--force", "true").returncode == 0 and small.outputs() == before


def test_inputs_that_are_missing_are_named_with_what_makes_them(small: Set) -> None:
    faces = small.work / "face_det" / "x" / "set"
    (small.data / "vid.scp").rename(small.data / "other.scp")
    refused = small.run("--input", f"{faces}/faces.ark", "--per-segment", str(faces))
    assert refused.returncode == 1 and not small.out.exists()
    assert f"there is no {small.data}/vid.scp; it lists the set's segments" in refused.stderr
    assert f"there is no {faces}/faces.ark; run ./run_002_detect_faces.sh" in refused.stderr
    faces.mkdir(parents=True)
    assert f"{faces} is not done; run ./run_002_detect_faces.sh" in small.run("--per-segment", str(faces)).stderr


def test_set_below_a_folder_with_the_name_of_the_array_gives_the_same_outputs(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "JOB_JOBS").mkdir()
    named = Set(repo, tmp_path / "JOB_JOBS")
    done = named.run()
    assert done.returncode == 0, done.stderr
    assert named.sums() == [3, 4, 5, 6, 7, 8]
    assert [path.name for path in tmp_path.iterdir()] == ["JOB_JOBS"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_set_that_gets_a_signal_stops_its_jobs_and_resumes_later(small: Set, number: signal.Signals) -> None:
    """The signal reaches only the program, not its launcher, nor the jobs."""
    run = subprocess.Popen(
        small.command(nj=1, slow="1"), cwd=small.repo, env=small.environment(), preexec_fn=default_signals,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_segments(small.out / "jobs1" / "1" / "journal.jsonl", 1, run)
    run.send_signal(number)
    assert run.wait(timeout=120) == 128 + number and not (small.out / RECORD).exists()
    assert subprocess.run(["flock", "-n", str(small.out / ".lock"), "true"]).returncode == 0
    done = small.calls.read_text()
    time.sleep(1.5)
    assert small.calls.read_text() == done and done.count("\n") < 6
    assert small.run(nj=1).returncode == 0 and (small.out / RECORD).exists()


def default_signals() -> None:
    """A signal that was ignored when a program started stays ignored, as below `nohup`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
