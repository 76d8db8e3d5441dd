"""A set made in this process: the bytes of utils/segment_jobs.py, only what is new, and resumed after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import byte_step
import pytest
from byte_step import ARCHIVES, STATES, ByteOptions

from vidperson.io.making import make_set
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import set_files
from vidperson.io.record import RECORD


class Set:
    """Segments of some bytes, and the set that is made of them."""

    def __init__(self, work: Path) -> None:
        self.work, self.scp, self.out, self.calls = work, work / "vid.scp", work / "out", work / "calls"
        for number in range(4):
            self.write(number, bytes([number, 1, 2]))
        self.list(0, 1, 2, 3)

    def write(self, number: int, content: bytes) -> None:
        (self.work / f"{number}.bin").write_bytes(content)

    def list(self, *numbers: int) -> None:
        self.scp.write_text("".join(f"s{number} {number}.bin\n" for number in numbers))

    def make(self, times: int = 1, most: int = 9, out: Path | None = None) -> list[str]:
        """most: segments until it is killed. Returns the segments that were done."""
        self.calls.unlink(missing_ok=True)

        def do(paths: Mapping[str, str], job: Path) -> None:
            part = dict(list(paths.items())[:most])
            listed = self.work / "part.scp"
            listed.write_text("".join(f"{segment} {path}\n" for segment, path in part.items()))
            byte_step.run(ByteOptions(str(listed), str(job), times, calls=str(self.calls)))
            if len(part) < len(paths):
                raise KeyboardInterrupt

        make_set(out or self.out, ARCHIVES, STATES, self.scp, ["bytes", str(times)], do)
        return self.calls.read_text().split() if self.calls.exists() else []

    def outputs(self, out: Path | None = None) -> dict[str, bytes]:
        names = {path.name for path in (out or self.out).iterdir()} - {".lock", RECORD}
        assert names == set(set_files(ARCHIVES))  # nothing is left over
        return {name: ((out or self.out) / name).read_bytes() for name in names}

    def from_nothing(self, times: int = 1) -> dict[str, bytes]:
        fresh = self.work / "fresh"
        self.make(times, out=fresh)
        found = self.outputs(fresh)
        subprocess.run(["rm", "-rf", str(fresh)], check=True)
        return found


@pytest.fixture
def small(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_set_has_the_bytes_that_jobs_write_and_is_left_alone_when_it_is_done(repo: Path, small: Set) -> None:
    assert small.make() == ["s0", "s1", "s2", "s3"]
    assert [float(rows.sum()) for rows in load_matrices(small.out / "bytes.scp").values()] == [3, 4, 5, 6]
    jobs = small.work / "jobs"
    command = [
        "utils/segment_jobs.py", "--nj", "3", "--archives", " ".join(ARCHIVES), "--media", "true",
        "--states", " ".join(STATES), str(small.scp), str(jobs), "--", "python", "tests/byte_step.py",
    ]  # fmt: skip
    path = f"{repo}/utils/bin:{os.environ['PATH']}"
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable, "PYTHONPATH": str(repo), "PATH": path}
    subprocess.run(command, cwd=repo, env=environment, check=True, capture_output=True, timeout=120)
    for name, content in small.outputs().items():
        assert (jobs / name).read_bytes() == content, name
    before = {path: path.stat().st_mtime_ns for path in small.out.iterdir() if path.name != ".lock"}
    assert small.make() == []
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_set_with_new_changed_and_removed_segments_does_only_what_is_new(small: Set) -> None:
    small.list(0, 1, 2)
    small.make()
    small.write(1, b"changed")
    small.list(1, 2, 3)
    assert small.make() == ["s1", "s3"]
    assert small.outputs() == small.from_nothing()


@pytest.mark.parametrize("most", [0, 2])
def test_set_that_was_killed_resumes_and_has_the_same_bytes(small: Set, most: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        small.make(most=most)
    assert not (small.out / RECORD).exists()
    assert small.make() == [f"s{number}" for number in range(most, 4)]
    assert small.outputs() == small.from_nothing()


def test_set_that_was_killed_and_has_another_list_now_keeps_what_was_finished(small: Set) -> None:
    with pytest.raises(KeyboardInterrupt):
        small.make(most=2)
    small.list(1, 3)
    assert small.make() == ["s3"]
    assert small.outputs() == small.from_nothing()


def test_set_of_other_settings_or_with_a_file_that_was_cut_is_made_again(small: Set) -> None:
    small.make()
    assert small.make(times=2) == ["s0", "s1", "s2", "s3"]
    assert small.outputs() == small.from_nothing(times=2)
    (small.out / "bytes.ark").write_bytes(b"cut")
    assert small.make(times=2) == ["s0", "s1", "s2", "s3"]
    assert small.outputs() == small.from_nothing(times=2)
    assert json.loads((small.out / RECORD).read_text())["command"] == ["bytes", "2"]


def test_file_that_cannot_be_read_costs_only_itself(small: Set) -> None:
    (small.work / "2.bin").unlink()
    small.make()
    assert (small.out / "status").read_text().splitlines() == [
        "s0 ok", "s1 ok", "s2 unreadable: No such file or directory", "s3 ok",
    ]  # fmt: skip
    small.write(2, b"back")
    assert small.make() == ["s2"]
