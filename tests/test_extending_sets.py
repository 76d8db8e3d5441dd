"""Sets whose list or inputs change: what is done again, what is kept, and kills at every step.

The jobs run in this process, so that each run takes a few milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import byte_step
import pytest
from byte_step import ARCHIVES, STATES

from utils import segment_jobs
from vidperson.errors import DataError
from vidperson.io.lines import read_paths
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import read_outputs, set_files
from vidperson.io.record import RECORD, checked, read_record

NAMES_CHANGED = ("replace", "unlink", "rmdir", "mkdir", "truncate")


class Killed(BaseException):
    """As if the process had got SIGKILL here."""


class Work:
    """A data folder with files and labels, and the set that is made of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.data, self.out = folder, folder / "data", folder / "exp" / "set"
        self.calls: list[str] = []
        (self.data / "files").mkdir(parents=True)
        (self.data / "labels").write_text("")
        monkeypatch.setattr(segment_jobs, "run_child", self.run_child)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # for speed

    def file(self, segment: str, content: bytes) -> None:
        """Write a file; its time is that of its content, so that equal files have equal times."""
        path = self.data / "files" / segment
        path.write_bytes(content)
        os.utime(path, ns=(sum(content), sum(content)))

    def list(self, segments: Sequence[str]) -> None:
        (self.data / "vid.scp").write_text("".join(f"{segment} files/{segment}\n" for segment in segments))

    def labels(self, **added: int) -> None:
        (self.data / "labels").write_text("".join(f"{segment} {value}\n" for segment, value in added.items()))

    def run_child(self, command: Sequence[str], keep_open: Sequence[int] = ()) -> int:
        """A launcher of jobs in this process."""
        array, first = next((word for word in command if "=1:" in word), "X=1:1").split("=1:")
        for job in range(1, int(first) + 1):
            words = [word.replace(array, str(job)) for word in command]
            words = words[words.index("--") + 1 :] if "--" in words else words
            options = dict(zip(words[-4::2], words[-3::2], strict=True))
            before = set(byte_step.JobStore(options["--output-dir"], ARCHIVES, STATES).statuses)
            times = int(words[words.index("--times") + 1])
            byte_step.run(
                byte_step.ByteOptions(
                    scp=options["--scp"], output_dir=options["--output-dir"], times=times, add=str(self.data / "labels")
                )
            )
            self.calls += [segment for segment in read_paths(options["--scp"]) if segment not in before]
        return 0

    def run(self, *options: str, nj: int = 2, out: Path | None = None, times: int = 1) -> list[str]:
        """Make the set. Returns the segments that jobs have done."""
        self.calls.clear()
        labels = self.data / "labels"
        asked = segment_jobs.options_of(
            [
                "--cmd", "grid.py", "--nj", str(nj), "--archives", " ".join(ARCHIVES), "--states", " ".join(STATES),
                "--media", "true", "--per-segment", str(labels), "--patience-s", "0", *options,
                str(self.data / "vid.scp"), str(out or self.out), "--",
                "python", "byte_step.py", "--add", str(labels), "--times", str(times),
            ]
        )  # fmt: skip
        code = segment_jobs.make_sets([asked])
        assert code == 0
        return sorted(self.calls)

    def outputs(self, out: Path | None = None) -> dict[str, bytes]:
        return contents(out or self.out)

    def from_nothing(self, nj: int = 1) -> dict[str, bytes]:
        other = self.folder / "other"
        shutil.rmtree(other, ignore_errors=True)
        self.run(nj=nj, out=other)
        return contents(other)


def contents(out: Path) -> dict[str, bytes]:
    found = {name: (out / name).read_bytes() for name in (*set_files(ARCHIVES), RECORD)}
    record = json.loads(found.pop(RECORD))
    assert set(record["outputs"]) == set(set_files(ARCHIVES))
    return {**found, RECORD: json.dumps(record).encode()}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A finished set of six segments."""
    made = Work(tmp_path, monkeypatch)
    for number in range(6):
        made.file(f"s{number}", bytes([number, 10, 20 + number]))
    made.list([f"s{number}" for number in range(6)])
    made.labels(s1=1, s4=4)
    assert len(made.run()) == 6
    return made


def test_set_with_nothing_changed_does_nothing(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    before = work.outputs()
    assert work.run(nj=5) == [] and work.outputs() == before
    assert "done already: 6 segments: 6 ok" in capsys.readouterr().out


def test_segment_added_costs_that_one_only_wherever_it_is_in_the_list(work: Work) -> None:
    work.file("s2a", b"added")
    work.list(["s0", "s1", "s2", "s2a", "s3", "s4", "s5"])
    assert work.run() == ["s2a"] and work.outputs() == work.from_nothing()
    work.file("a", b"first")
    work.file("z", b"last")
    work.list(["a", "s0", "s1", "s2", "s2a", "s3", "s4", "s5", "z"])
    assert work.run(nj=3) == ["a", "z"] and work.outputs() == work.from_nothing()


def test_segment_removed_costs_nothing(work: Work) -> None:
    work.list(["s0", "s1", "s3", "s4", "s5"])
    assert work.run() == [] and work.outputs() == work.from_nothing()
    assert list(load_matrices(work.out / "bytes.scp")) == ["s0", "s1", "s3", "s4", "s5"]


def test_segments_in_another_order_cost_nothing(work: Work) -> None:
    work.list(["s5", "s3", "s4", "s0", "s2", "s1"])
    assert work.run() == [] and work.outputs() == work.from_nothing()


def test_segment_changed_costs_that_one_only(work: Work) -> None:
    work.file("s3", b"changed")
    assert work.run() == ["s3"] and work.outputs() == work.from_nothing()


def test_segment_of_which_the_label_changed_costs_that_one_only(work: Work) -> None:
    work.labels(s1=1, s4=5, s5=1)
    assert work.run() == ["s4", "s5"] and work.outputs() == work.from_nothing()
    work.labels(s4=5, s5=1)
    assert work.run() == ["s1"] and work.outputs() == work.from_nothing()


def test_segment_with_another_file_costs_that_one_only(work: Work) -> None:
    work.file("other", bytes([0, 10, 20]))
    text = (work.data / "vid.scp").read_text()
    (work.data / "vid.scp").write_text(text.replace("files/s0", "files/other"))
    assert work.run() == ["s0"] and work.outputs() == work.from_nothing()


def test_segment_added_changed_and_removed_at_once_cost_the_new_ones_only(work: Work) -> None:
    work.file("s3", b"changed")
    work.file("s9", b"added")
    work.list(["s0", "s2", "s3", "s4", "s5", "s9"])
    assert work.run() == ["s3", "s9"] and work.outputs() == work.from_nothing()
    assert sorted(path.name for path in work.out.iterdir() if path.is_dir()) == []
    assert work.run() == []


def test_segment_that_was_missing_and_is_there_is_done(work: Work) -> None:
    work.list([*(f"s{number}" for number in range(6)), "t"])
    assert work.run() == ["t"]
    assert (work.out / "status").read_text().endswith("t unreadable: No such file or directory\n")
    work.file("t", b"there")
    assert work.run() == ["t"] and work.outputs() == work.from_nothing()


def test_set_in_progress_is_refused_by_readers_until_it_is_done(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_jobs, "run_child", lambda *_: 1)
    work.file("s3", b"changed")
    with pytest.raises(AssertionError):
        work.run()
    assert read_record(work.out) is None and (work.out / "previous" / RECORD).exists()
    with pytest.raises(DataError, match="bytes.ark: its folder is unfinished; run"):
        checked(work.out / "bytes.ark")
    monkeypatch.setattr(segment_jobs, "run_child", work.run_child)
    assert work.run() == ["s3"]
    assert checked(work.out / "bytes.ark")


def swap_lines(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_list(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [("bytes.scp", swap_lines), ("bytes_in.scp", cut_list), ("status", cut_list), ("journal.jsonl", cut_list)]
    + [(name, flip_byte) for name in ARCHIVES],
)
def test_set_with_swapped_lines_flipped_bytes_or_cut_lists_is_not_done_and_is_refused_by_readers(
    work: Work, name: str, damage: Callable[[Path], None]
) -> None:
    damage(work.out / name)
    with pytest.raises(DataError, match=f"{name} is not as it was written; put it back, or --force true recomputes"):
        work.run()
    with pytest.raises(DataError, match=f"{name}: expected SHA-256"):
        checked(work.out / name)
    work.file("s0", b"another reason to run")
    with pytest.raises(DataError, match=f"{name} is not as it was written"):
        work.run()
    assert len(work.run("--force", "true")) == 6 and work.outputs() == work.from_nothing()


def test_kept_segment_that_is_damaged_behind_the_clocks_back_is_found_when_it_is_copied(work: Work) -> None:
    path, times = work.out / "bytes.ark", (work.out / "bytes.ark").stat()
    flip_byte(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    work.file("s0", b"changed")
    with pytest.raises(DataError, match="segment 's.' is not as it was written; put it back, or --force true"):
        work.run()


def test_set_made_of_a_set_does_those_segments_only_whose_items_changed(work: Work) -> None:
    made = work.folder / "exp" / "made"
    source = ("--per-segment", str(work.out))

    def run() -> list[str]:
        return work.run(*source, "--media", "false", out=made)

    assert len(run()) == 6 and run() == []
    outputs = read_outputs(work.out)
    work.file("s2", b"changed")
    work.file("s5", bytes([5, 10, 25]))  # written again, the same
    assert work.run() == ["s2"]
    assert {segment for segment, digest in read_outputs(work.out).items() if digest != outputs[segment]} == {"s2"}
    assert run() == ["s2"]
    assert read_record(made).inputs[str(work.out / "status")]  # type: ignore[union-attr]


def test_set_made_of_a_set_that_lacks_a_segment_or_is_damaged_is_refused(work: Work) -> None:
    made, source = work.folder / "exp" / "made", ("--per-segment", str(work.out), "--media", "false")
    work.list([f"s{number}" for number in range(7)])
    with pytest.raises(DataError, match="set: 1 of 7 segments are not in it, first 's6'; run the stage that makes it"):
        work.run(*source, out=made)
    work.list([f"s{number}" for number in range(6)])
    path, times = work.out / "bytes_in.tar", (work.out / "bytes_in.tar").stat()
    flip_byte(path)
    with pytest.raises(DataError, match="bytes_in.tar: expected SHA-256"):
        work.run(*source, out=made)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    # each segment that is read is compared in any case
    with pytest.raises(DataError, match="segment 's.' is not as it was written"):
        work.run(*source, out=made)
    assert not (made / "jobs2").exists()


def test_set_with_other_archives_is_refused(work: Work) -> None:
    with pytest.raises(DataError, match="(?s)was made with other settings.*< bytes.ark .*> bytes.ark .*more.ark"):
        work.run("--archives", f"{' '.join(ARCHIVES)} more.ark")


def test_settings_that_differ_in_much_are_told_in_a_dozen_lines(work: Work) -> None:
    more = [word for number in range(30) for word in ("--input", str(work.data / f"i{number}"))]
    for path in more[1::2]:
        Path(path).write_text("x")
    with pytest.raises(DataError, match="was made with other settings") as error:
        work.run(*more)
    lines = str(error.value).splitlines()
    assert len(lines) == 15 and lines[13] == "..." and lines[14].startswith("--force true")


def test_set_of_which_the_record_is_gone_is_refused_until_forced(work: Work) -> None:
    (work.out / RECORD).unlink()
    with pytest.raises(DataError, match="its record is gone, so nothing tells how it was made; --force true"):
        work.run()
    assert len(work.run("--force", "true")) == 6


def test_set_with_a_damaged_record_is_named_until_forced(work: Work) -> None:
    (work.out / RECORD).write_text("{")
    with pytest.raises(DataError, match="record.json: expected a record .* found a damaged one"):
        work.run()
    assert len(work.run("--force", "true")) == 6


def test_moved_set_takes_another_segment(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = work.folder / "moved"
    work.out.rename(moved)
    work.file("s6", b"added")
    work.list([f"s{number}" for number in range(7)])
    assert work.run(out=moved) == ["s6"] and contents(moved) == work.from_nothing()


def test_list_without_segments_is_refused(work: Work) -> None:
    (work.data / "vid.scp").write_text("")
    with pytest.raises(DataError, match="vid.scp: expected a list of segments, found none"):
        work.run()


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, after: bool) -> Iterator[list[int]]:
    """Die at the ``step``-th change of a name; what is left of the run changes nothing any more.

    after: directly after it rather than before. Yields a list of one number, the changes so far.
    """
    count = [0]
    with monkeypatch.context() as patch:
        for name in NAMES_CHANGED:
            original = getattr(os, name)

            def dying(*args: object, original: Callable[..., object] = original, **options: object) -> object:
                count[0] += 1
                if count[0] > step or (count[0] == step and not after):
                    raise Killed
                result = original(*args, **options)
                if count[0] == step:
                    raise Killed
                return result

            patch.setattr(os, name, dying)
        yield count


def change(work: Work) -> None:
    work.file("s3", b"changed")
    work.file("s9", b"added")
    work.labels(s1=2, s4=4)
    work.list(["s0", "s1", "s2", "s3", "s5", "s9"])


@pytest.mark.parametrize("after", [False, True])
def test_set_killed_at_every_change_of_a_name_while_it_is_extended_gives_the_same_bytes(
    work: Work, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Run again as it is, and with a list that changed meanwhile."""
    original = work.folder / "original"
    shutil.copytree(work.out, original)
    change(work)
    expected = work.from_nothing()
    with killed_at(10**9, monkeypatch, after) as count:
        assert work.run() == ["s1", "s3", "s9"]
    assert work.outputs() == expected and count[0] > 30
    kinds = set()
    for step in range(1, count[0] + 1):
        shutil.rmtree(work.out)
        shutil.copytree(original, work.out)
        with killed_at(step, monkeypatch, after), pytest.raises(Killed):
            work.run()
        again = step % 3 == 0
        if again:
            work.file("s4", b"changed again")
            work.list(["s0", "s1", "s2", "s3", "s4", "s9"])
            assert set(work.run(nj=3)) <= {"s1", "s3", "s4", "s9"}
            assert work.outputs() == work.from_nothing()
            change(work)
            work.file("s4", bytes([4, 10, 24]))
        assert set(work.run()) <= {"s1", "s3", "s9"} | ({"s5"} if again else set())
        assert work.outputs() == expected, step
        kinds.add(tuple(sorted(work.calls)))
        assert sorted(path.name for path in work.out.iterdir() if path.is_dir()) == [], step
    assert {(), ("s1", "s3", "s9")} <= kinds  # killed before and after the jobs had done theirs


def test_set_killed_at_every_change_of_a_name_while_it_is_forced_is_made_again_or_refused(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = work.folder / "original"
    shutil.copytree(work.out, original)
    with killed_at(10**9, monkeypatch, False) as count:
        assert len(work.run("--force", "true", times=2)) == 6
    expected = work.outputs()
    for step in range(1, count[0] + 1):
        shutil.rmtree(work.out)
        shutil.copytree(original, work.out)
        with killed_at(step, monkeypatch, False), pytest.raises(Killed):
            work.run("--force", "true", times=2)
        try:
            work.run(times=2)
        except DataError as error:
            assert "--force true recomputes the set" in str(error), step
            work.run("--force", "true", times=2)
        assert work.outputs() == expected, step


@pytest.mark.parametrize("seed", range(int(os.environ.get("VIDPERSON_SET_CAMPAIGNS", "5"))))
def test_sets_that_change_and_are_killed_at_random_end_like_those_made_from_nothing(
    work: Work, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    segments = [f"s{number}" for number in range(6)]
    for round_number in range(12):
        name = f"t{round_number}"
        work.file(name, rng.randbytes(rng.randrange(5)))
        segments.append(name)
        segments = sorted(rng.sample(segments, rng.randrange(2, len(segments) + 1)))
        changed = rng.choice(segments)
        work.file(changed, rng.randbytes(4))
        work.list(segments)
        with killed_at(rng.randrange(1, 80), monkeypatch, rng.random() < 0.5):
            try:
                work.run(nj=rng.randrange(1, 5))
                continue
            except Killed:
                pass
        if rng.random() < 0.5:
            work.run(nj=rng.randrange(1, 5))
            assert work.outputs() == work.from_nothing(nj=rng.randrange(1, 5))
    work.run()
    assert work.outputs() == work.from_nothing()
