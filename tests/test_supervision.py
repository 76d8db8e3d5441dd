"""A decoder that dies or hangs costs one segment, and changes no byte of the others."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook, image
from naive_decoder import write_video
from numpy.typing import NDArray

from steps.get_durations import DurationOptions, get_durations
from vidperson.errors import DataError, VidPersonError
from vidperson.face.detection import ARCHIVES, STATES
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import merge_jobs
from vidperson.media.video import Probed
from vidperson.supervision import Watch, run_supervised


class Journal:
    """What children of this process have done: lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.given_up: list[tuple[str, str]] = []

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []

    def add(self, name: str) -> None:
        with open(self.path, "a") as stream:
            stream.write(name + "\n")

    def give_up(self, segment: str, why: str) -> None:
        self.given_up.append((segment, why))
        self.add(segment)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def work_on(journal: Journal, faults: dict[str, Callable[[], object]], abreast: int = 1) -> Callable[[Watch], None]:
    """Segments a to f, ``abreast`` of them under way at a time but those that are to be done alone.

    faults: what happens where a segment has begun or, as ``x end``, where segment x would end.
    """

    def work(watch: Watch) -> None:
        under_way: list[str] = []

        def end_all_but(count: int) -> None:
            while len(under_way) > count:
                segment = under_way.pop(0)
                faults.get(f"{segment} end", int)()
                journal.add(segment)
                watch.end(segment)

        for segment in "abcdef":
            if segment not in journal.lines:
                watch.begin(segment)
                under_way.append(segment)
                faults.get(segment, int)()
                end_all_but(0 if segment in watch.alone else abreast - 1)
        end_all_but(0)

    return work


def die(number: signal.Signals) -> Callable[[], None]:
    def fault() -> None:
        faulthandler.disable()  # pytest's, which would write a page
        os.kill(os.getpid(), number)

    return fault


def test_work_without_faults_is_done_in_one_child(journal: Journal) -> None:
    parents: set[int] = set()
    run_supervised(work_on(journal, {"a": lambda: parents.add(1)}), journal.give_up, 10)
    assert journal.lines == list("abcdef") and journal.given_up == [] and not parents


def test_segment_that_crashes_every_time_is_given_up_and_the_others_are_done(journal: Journal) -> None:
    faults = {"a": die(signal.SIGSEGV), "d": die(signal.SIGABRT), "e": die(signal.SIGBUS), "f": die(signal.SIGFPE)}
    run_supervised(work_on(journal, faults), journal.give_up, 10)
    assert journal.lines == list("abcdef")
    assert [(segment, why.split()[-1]) for segment, why in journal.given_up] == [
        ("a", "SIGSEGV"), ("d", "SIGABRT"), ("e", "SIGBUS"), ("f", "SIGFPE")
    ]  # fmt: skip


def test_segment_that_crashes_once_is_done_by_the_next_process(journal: Journal, tmp_path: Path) -> None:
    def once() -> None:
        if not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            die(signal.SIGSEGV)()

    run_supervised(work_on(journal, {"c": once}), journal.give_up, 10)
    assert journal.lines == list("abcdef") and journal.given_up == []


def test_segment_that_hangs_is_given_up_after_the_time_and_others_have_the_whole_time(journal: Journal) -> None:
    faults = {"b": lambda: time.sleep(60), **{segment: lambda: time.sleep(0.3) for segment in "cdef"}}
    begin = time.monotonic()
    run_supervised(work_on(journal, faults), journal.give_up, 1.0)
    assert 2.0 < time.monotonic() - begin < 20
    assert journal.lines == list("abcdef")
    assert journal.given_up == [("b", "not done after 1 s (segment_timeout_s)")]


@pytest.mark.parametrize("place", ["c", "c end"])
def test_segment_that_crashes_beside_unfinished_ones_is_given_up_and_those_are_done(
    journal: Journal, place: str
) -> None:
    run_supervised(work_on(journal, {place: die(signal.SIGSEGV)}, abreast=3), journal.give_up, 10)
    assert journal.lines == list("abcdef")
    assert journal.given_up == [("c", "the process that decodes it died of SIGSEGV")]


@pytest.mark.parametrize("place", ["c", "c end"])
def test_segment_that_hangs_beside_unfinished_ones_is_given_up_and_those_are_done(journal: Journal, place: str) -> None:
    run_supervised(work_on(journal, {place: lambda: time.sleep(60)}, abreast=3), journal.give_up, 1.0)
    assert journal.lines == list("abcdef")
    assert journal.given_up == [("c", "not done after 1 s (segment_timeout_s)")]


def test_segment_that_crashes_twice_but_not_as_the_first_of_a_fresh_process_is_done(
    journal: Journal, tmp_path: Path
) -> None:
    def twice() -> None:
        with open(tmp_path / "seen", "a") as seen:
            seen.write("x")
        if (tmp_path / "seen").stat().st_size < 3:
            die(signal.SIGSEGV)()

    run_supervised(work_on(journal, {"e": twice}, abreast=3), journal.give_up, 10)
    assert journal.lines == list("abcdef") and journal.given_up == []


def test_clock_of_a_segment_starts_when_those_before_it_have_ended(journal: Journal) -> None:
    slow = {f"{segment} end": lambda: time.sleep(0.3) for segment in "abcdef"}

    def work(watch: Watch) -> None:
        (journal.path.parent / f"process {os.getpid()}").touch()
        work_on(journal, slow, abreast=3)(watch)

    run_supervised(work, journal.give_up, 0.75)
    processes = list(journal.path.parent.glob("process *"))
    assert journal.lines == list("abcdef") and journal.given_up == []
    assert len(processes) == 1  # a clock that runs too early only costs a process: what was under way is done again


def test_process_that_crashes_behind_its_last_segment_is_no_segments_fault(journal: Journal) -> None:
    def work(watch: Watch) -> None:
        left = [segment for segment in "abc" if segment not in journal.lines]
        for segment in left:
            watch.begin(segment)
            journal.add(segment)
            watch.end(segment)
        if left:
            die(signal.SIGSEGV)()

    run_supervised(work, journal.give_up, 10)
    assert journal.lines == list("abc") and journal.given_up == []


def test_process_killed_from_outside_names_all_that_was_under_way(journal: Journal) -> None:
    with pytest.raises(VidPersonError, match="ended by SIGKILL at work on 'b', 'c', as happens"):
        run_supervised(work_on(journal, {"c": die(signal.SIGKILL)}, abreast=2), journal.give_up, 10)


def test_process_killed_from_outside_ends_the_work_and_blames_no_segment(journal: Journal) -> None:
    with pytest.raises(VidPersonError, match="ended by SIGKILL at work on 'c', as happens where memory runs out"):
        run_supervised(work_on(journal, {"c": die(signal.SIGKILL)}), journal.give_up, 10)
    assert journal.lines == list("ab") and journal.given_up == []


def test_process_that_dies_before_its_first_segment_ends_the_work(journal: Journal) -> None:
    with pytest.raises(VidPersonError, match="ended by SIGSEGV before its first segment"):
        run_supervised(lambda watch: die(signal.SIGSEGV)(), journal.give_up, 10)


def test_error_of_the_work_is_that_of_the_call(journal: Journal) -> None:
    def refuse() -> None:
        raise DataError("expected é", "a list", 3)

    with pytest.raises(VidPersonError, match="^a list:3: expected é$"):
        run_supervised(work_on(journal, {"b": refuse}), journal.give_up, 10)
    with pytest.raises(VidPersonError, match="^none/x: No such file or directory$"):
        run_supervised(work_on(journal, {"b": lambda: os.stat("none/x")}), journal.give_up, 10)


def test_child_dies_with_its_parent_even_when_it_hangs(repo: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom vidperson.supervision import run_supervised\n"
        "def work(watch):\n    open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "    os.rename(sys.argv[1], sys.argv[2])\n"
        "    watch.begin('a')\n    time.sleep(600)\n"
        "run_supervised(work, print, None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x"), str(tmp_path / "pid")], cwd=repo)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = Path("/proc", (tmp_path / "pid").read_text())
    assert child.exists()
    parent.kill()
    parent.wait()
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------ stage 2's step


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vidperson.networks.install import install_model

    folder = tmp_path_factory.mktemp("face_models")
    install_model("retinaface_tiny", folder)
    return folder / "retinaface_tiny"


def portrait(number: int) -> NDArray[np.uint8]:
    """A photograph that every matplotlib carries, moved a little each time."""
    photo = image.imread(cbook.get_sample_data("grace_hopper.jpg"))[100:420, 90:410]
    return np.roll(photo, 3 * number, axis=1)


def run_step(repo: Path, script: str, detector: Path, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    step = [
        sys.executable,
        script,
        "--scp",
        f"{work}/vid.scp",
        "--model",
        str(detector),
        "--output-dir",
        f"{work}/jobs/1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*step, *options], cwd=repo, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("batch", [1, 4])
def test_step_with_a_faulty_decoder_gives_every_segment_a_status_and_the_others_their_bytes(
    repo: Path, detector: Path, tmp_path: Path, batch: int
) -> None:
    names = ["1 ok", "2 crash", "3 once", "4 hang", "5 ok", "6 abort", "7 memory", "8 ok"]
    results = []
    for script in ("tests/faulty_decoder.py", "steps_face/detect_faces.py"):
        work = tmp_path / Path(script).stem
        work.mkdir()
        for number, name in enumerate(names):
            write_video(work / f"{name}.mp4", (portrait(i) for i in range(number, number + 3)))
        (work / "vid.scp").write_text("".join(f"s{name[0]} {work}/{name}.mp4\n" for name in names))
        run = run_step(repo, script, detector, work, "--segment-timeout-s", "3", "--det-batch", str(batch))
        assert run.returncode == 0, run.stderr
        assert run.stderr.count("not done after 3 s") == (script == "tests/faulty_decoder.py")
        merge_jobs([work / "jobs" / "1"], work, ARCHIVES, STATES, read_scp(work / "vid.scp"))
        results.append(work)
    faulty, sound = results
    statuses = read_scp(faulty / "status")
    assert list(statuses) == [f"s{name[0]}" for name in names]
    assert statuses["s2"] == "unreadable: the process that decodes it died of SIGSEGV"
    assert statuses["s4"] == "unreadable: not done after 3 s (segment_timeout_s)"
    assert statuses["s6"] == "unreadable: the process that decodes it died of SIGABRT"
    assert statuses["s7"] == "unreadable: its frames need more memory than there is"
    harmed = {"s2", "s4", "s6", "s7"}
    expected = read_scp(sound / "status")
    assert {name: status for name, status in statuses.items() if name not in harmed} == {
        name: status for name, status in expected.items() if name not in harmed
    }
    for archive, columns in (("faces.scp", 17), ("quality.scp", 2)):
        found, whole = load_matrices(faulty / archive, columns), load_matrices(sound / archive, columns)
        assert list(found) == list(whole) and all(len(found[segment]) == 0 for segment in harmed)
        assert all(found[segment].tobytes() == whole[segment].tobytes() for segment in whole if segment not in harmed)
        assert all(len(rows) for rows in whole.values())


def test_step_killed_for_memory_fails_and_resumes_there_when_it_is_run_again(
    repo: Path, detector: Path, tmp_path: Path
) -> None:
    names = ["1 ok", "2 killed", "3 ok"]
    for name in names:
        write_video(tmp_path / f"{name}.mp4", (portrait(i) for i in range(3)))
    (tmp_path / "vid.scp").write_text("".join(f"s{name[0]} {tmp_path}/{name}.mp4\n" for name in names))
    failed = run_step(repo, "tests/faulty_decoder.py", detector, tmp_path)
    assert failed.returncode == 1 and re.search("ended by SIGKILL at work on ('s1', )?'s2'", failed.stderr)
    assert "Traceback" not in failed.stderr
    done = run_step(repo, "steps_face/detect_faces.py", detector, tmp_path)
    assert done.returncode == 0 and re.search("progress [01]/3 segments", done.stderr)
    merge_jobs([tmp_path / "jobs" / "1"], tmp_path, ARCHIVES, STATES, read_scp(tmp_path / "vid.scp"))
    assert list(read_scp(tmp_path / "status").values()) == ["ok"] * 3


def test_durations_of_files_that_crash_or_hang_the_reader_are_zero(repo: Path, tmp_path: Path) -> None:
    names = ["1 ok", "2 crash", "3 hang", "4 missing", "5 ok"]
    for name in names:
        if "missing" not in name:
            write_video(tmp_path / f"{name}.mp4", (portrait(i) for i in range(25)))
    (tmp_path / "vid.scp").write_text("".join(f"s{name[0]} {tmp_path}/{name}.mp4\n" for name in names))
    code = (
        "import os, signal, time, sys\nfrom vidperson.media import video\nprobe = video.probe\n"
        "def faulty(path):\n"
        "    if 'crash' in path:\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if 'hang' in path:\n        time.sleep(600)\n"
        "    return probe(path)\n"
        "video.probe = faulty\n"
        "from pathlib import Path\n"
        "from steps.get_durations import DurationOptions, get_durations\n"
        "get_durations(DurationOptions(Path(sys.argv[1]), 2))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=repo, check=True, timeout=200)
    assert read_scp(tmp_path / "vid2dur") == {"s1": "1.000", "s2": "0.000", "s3": "0.000", "s4": "0.000", "s5": "1.000"}
    assert list(read_scp(tmp_path / "vid2pixels").values()) == ["2.560", "0.000", "0.000", "0.000", "2.560"]


def test_durations_of_a_list_that_grew_are_read_of_new_and_changed_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(path: str) -> Probed:
        with open(tmp_path / "probed", "a") as stream:
            stream.write(Path(path).name)
        return Probed(float(len(Path(path).read_text())), 0.5)

    def probed(*names: str) -> str:
        (tmp_path / "probed").write_text("")
        (tmp_path / "vid2dur").unlink(missing_ok=True)  # as stage 1 does
        (tmp_path / "vid.scp").write_text("".join(f"s{name} {name}\n" for name in names))
        get_durations(DurationOptions(tmp_path))
        return (tmp_path / "probed").read_text()

    monkeypatch.setattr("vidperson.media.video.probe", note)
    for name in "abc":
        (tmp_path / name).write_text("x")
    assert probed("a", "b") == "ab"
    with open(tmp_path / "vid2dur.notes", "a") as stream:
        stream.write("1.00")  # of a run that was killed
    assert probed("a", "b", "c") == "c"
    (tmp_path / "b").write_text("xx")
    assert probed("b", "c") == "b"
    assert read_scp(tmp_path / "vid2dur") == {"sb": "2.000", "sc": "1.000"}
    assert probed("b", "c") == ""
    (tmp_path / "vid2dur.notes").unlink()
    (tmp_path / "vid2dur").write_text("sb 7\nsc 8\n")
    get_durations(DurationOptions(tmp_path))
    assert read_scp(tmp_path / "vid2dur") == {"sb": "7", "sc": "8"}  # the user's own
