"""Archives that survive a kill, and what other programs read in them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kaldi_native_io
import numpy as np
import pytest

from utils import segment_jobs
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.crops import read_tar_files, tar_entry
from vidperson.io.job_store import JOURNAL, JobStore
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.merging import Plan, merge_jobs, summary

ARCHIVES = ("faces.ark", "crops.tar")
STATES = ("ok", "no_face")


def segment_parts(number: int) -> tuple[str, np.ndarray, dict[str, list[bytes]]]:
    rng = np.random.default_rng(number)
    name = f"seg{number:02d}-é"
    matrix = rng.normal(size=(number % 4, 17)).astype(np.float32)
    crops = [tar_entry(f"{name}/{k}.png", rng.bytes(300 * k + 1)) for k in range(len(matrix))]
    return name, matrix, {"faces.ark": [matrix_bytes(name, matrix)], "crops.tar": crops}


def run_job(directory: Path, numbers: range, stop_after: int | None = None) -> int:
    """Append what is missing; returns how many segments were done in this run."""
    done = 0
    with JobStore(directory, ARCHIVES, STATES) as store:
        for number in numbers:
            name, matrix, parts = segment_parts(number)
            if name in store.statuses:
                continue
            if done == stop_after:
                break
            store.append(name, "ok" if len(matrix) else "no_face", parts)
            done += 1
    return done


def merged(output: Path, jobs: list[Path], numbers: range) -> dict[str, bytes]:
    merge_jobs(jobs, output, ARCHIVES, STATES, [segment_parts(n)[0] for n in numbers])
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def test_store_cut_anywhere_and_run_again_gives_the_undisturbed_bytes(tmp_path: Path) -> None:
    numbers = range(12)
    run_job(tmp_path / "whole", numbers)
    expected = merged(tmp_path / "expected", [tmp_path / "whole"], numbers)
    rng = np.random.default_rng(0)
    for trial in range(25):
        job = tmp_path / f"job{trial}"
        run_job(job, numbers, stop_after=int(rng.integers(0, 12)))
        for name in (
            *ARCHIVES,
            JOURNAL,
        ):  # what a kill leaves: any file may hold more, or less of its last line
            path = job / name
            if rng.random() < 0.5:
                path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 2000))))
            elif name == JOURNAL and rng.random() < 0.5:
                path.write_bytes(path.read_bytes()[: -int(rng.integers(1, 60))])
        run_job(job, numbers)
        assert merged(tmp_path / f"out{trial}", [job], numbers) == expected


def test_store_that_lost_the_end_of_an_archive_redoes_the_segments_that_were_in_it(tmp_path: Path) -> None:
    numbers = range(8)
    run_job(tmp_path / "whole", numbers)
    expected = merged(tmp_path / "expected", [tmp_path / "whole"], numbers)
    run_job(tmp_path / "job", numbers)
    crops = tmp_path / "job" / "crops.tar"
    crops.write_bytes(crops.read_bytes()[:-1])
    assert run_job(tmp_path / "job", numbers) == 1
    assert merged(tmp_path / "out", [tmp_path / "job"], numbers) == expected


@pytest.mark.parametrize("name", ARCHIVES)
def test_store_whose_archive_has_a_hole_redoes_the_segments_from_there_on(tmp_path: Path, name: str) -> None:
    """As after a power failure: the sizes are right, and blocks that never reached the disk are zeros."""
    numbers = range(8)
    run_job(tmp_path / "whole", numbers)
    expected = merged(tmp_path / "expected", [tmp_path / "whole"], numbers)
    run_job(tmp_path / "job", numbers)
    notes = [json.loads(line) for line in (tmp_path / "job" / JOURNAL).read_text().splitlines()]
    with open(tmp_path / "job" / name, "r+b") as archive:
        archive.seek(notes[5]["start"][name])
        archive.write(bytes(20))
    with pytest.raises(DataError, match=f"{name}: segment '{notes[5]['segment']}' is not as it was written"):
        merged(tmp_path / "out", [tmp_path / "job"], numbers)
    assert not (tmp_path / "out" / name).exists() and not (tmp_path / "out" / "status").exists()
    assert run_job(tmp_path / "job", numbers) == 3
    assert merged(tmp_path / "out", [tmp_path / "job"], numbers) == expected


def test_store_run_again_when_done_does_nothing(tmp_path: Path) -> None:
    assert run_job(tmp_path, range(5)) == 5
    assert run_job(tmp_path, range(5)) == 0


@pytest.mark.parametrize("cuts", [[0, 12], [0, 5, 12], [0, 1, 2, 3, 9, 12], [0, 0, 12, 12]])
def test_merge_of_any_number_of_jobs_gives_the_same_bytes(tmp_path: Path, cuts: list[int]) -> None:
    run_job(tmp_path / "one", range(12))
    expected = merged(tmp_path / "expected", [tmp_path / "one"], range(12))
    jobs = [tmp_path / f"{k}" for k in range(len(cuts) - 1)]
    for job, first, last in zip(jobs, cuts, cuts[1:], strict=False):
        run_job(job, range(first, last))
    assert merged(tmp_path / "out", jobs, range(12)) == expected


def test_merge_with_an_unfinished_job_names_what_is_missing_and_writes_nothing(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(3))
    with pytest.raises(DataError, match="1 of 4 segments are not done .*seg03"):
        merge_jobs([tmp_path / "job"], tmp_path / "out", ARCHIVES, STATES, [segment_parts(n)[0] for n in range(4)])
    assert not (tmp_path / "out").exists()


def test_archive_is_read_by_kaldis_own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_job(tmp_path / "job", range(9))
    merged(tmp_path / "out", [tmp_path / "job"], range(9))
    monkeypatch.chdir(tmp_path / "out")  # Kaldi takes paths as relative to the current folder
    with kaldi_native_io.RandomAccessFloatMatrixReader("scp:faces.scp") as reader:
        for number in range(9):
            name, matrix, _ = segment_parts(number)
            found = reader[name]
            assert (found.numpy() if hasattr(found, "numpy") else np.array(found)).tobytes() == matrix.tobytes()


def test_archive_without_rows_reads_back_with_the_columns_asked_for(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(5))
    merged(tmp_path / "out", [tmp_path / "job"], range(5))
    table = load_matrices(tmp_path / "out" / "faces.scp", 17)
    assert {name: len(matrix) for name, matrix in table.items()} == {segment_parts(n)[0]: n % 4 for n in range(5)}
    assert table[segment_parts(0)[0]].shape == (0, 17)
    with pytest.raises(DataError, match="expected 18 columns, found 17"):
        load_matrices(tmp_path / "out" / "faces.scp", 18)[segment_parts(1)[0]]


def test_archive_cut_off_is_named(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(4))
    merged(tmp_path / "out", [tmp_path / "job"], range(4))
    archive = tmp_path / "out" / "faces.ark"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="seg03.*redo the stage"):
        load_matrices(tmp_path / "out" / "faces.scp", 17)[segment_parts(3)[0]]


def test_crops_are_an_ordinary_tar_and_are_found_by_offset(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(8))
    merged(tmp_path / "out", [tmp_path / "job"], range(8))
    with tarfile.open(tmp_path / "out" / "crops.tar") as archive:
        names = archive.getnames()
    assert names == [f"{segment_parts(n)[0]}/{k}.png" for n in range(8) for k in range(n % 4)]
    where = read_paths(tmp_path / "out" / "crops.scp")[segment_parts(7)[0]]
    assert [name for name, _ in read_tar_files(where, 3)] == names[-3:]
    with pytest.raises(DataError, match="expected 4 files"):
        list(read_tar_files(where, 4))


def test_set_that_is_moved_is_read_where_it_is(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(8))
    merged(tmp_path / "out", [tmp_path / "job"], range(8))
    (tmp_path / "out").rename(tmp_path / "moved")
    assert len(load_matrices(tmp_path / "moved" / "faces.scp", 17)[segment_parts(7)[0]]) == 3
    places = read_paths(tmp_path / "moved" / "crops.scp")
    assert len(list(read_tar_files(places[segment_parts(7)[0]], 3))) == 3


def test_crops_scp_that_points_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_tar_files(f"{tmp_path}/none.tar:0", 1))


def test_long_segment_names_survive_the_tar(tmp_path: Path) -> None:
    name = "n" * 180 + "/" + "ü" * 120 + ".png"
    path = tmp_path / "x.tar"
    path.write_bytes(tar_entry(name, b"abc") + b"\0" * 1024)
    with tarfile.open(path) as archive:
        assert archive.getnames() == [name]


def test_store_open_in_one_place_is_refused_in_another_and_free_after_closing(tmp_path: Path) -> None:
    with JobStore(tmp_path, ARCHIVES, STATES), pytest.raises(DataError, match="another process is at work on this job"):
        JobStore(tmp_path, ARCHIVES, STATES)
    JobStore(tmp_path, ARCHIVES, STATES).close()


def test_scp_of_a_tar_lists_only_segments_with_files(tmp_path: Path) -> None:
    run_job(tmp_path / "job", range(9))
    merged(tmp_path / "out", [tmp_path / "job"], range(9))
    assert list(read_scp(tmp_path / "out" / "crops.scp")) == [segment_parts(n)[0] for n in range(9) if n % 4]
    assert list(read_scp(tmp_path / "out" / "faces.scp")) == [segment_parts(n)[0] for n in range(9)]


def test_status_that_is_no_state_is_refused(tmp_path: Path) -> None:
    with JobStore(tmp_path, (), STATES) as store, pytest.raises(ValueError, match="expected a status"):
        store.append("a", "fine", {})


def test_journal_line_holds_what_a_person_needs(tmp_path: Path) -> None:
    run_job(tmp_path, range(2))
    note = json.loads((tmp_path / JOURNAL).read_text().splitlines()[1])
    assert (
        note["segment"] == segment_parts(1)[0]
        and note["status"] == "ok"
        and note["end"]["crops.tar"] == (tmp_path / "crops.tar").stat().st_size
    )


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: writing more fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [40, 700, 3000, 6000, 9000])
def test_store_on_a_full_disk_names_the_folder_and_resumes_to_the_same_bytes(tmp_path: Path, size: int) -> None:
    run_job(tmp_path / "whole", range(12))
    expected = merged(tmp_path / "expected", [tmp_path / "whole"], range(12))
    with full_disk(size), pytest.raises(DataError, match="job: cannot be written: File too large.*run the stage again"):
        run_job(tmp_path / "job", range(12))
    run_job(tmp_path / "job", range(12))
    assert merged(tmp_path / "out", [tmp_path / "job"], range(12)) == expected


def test_store_whose_folder_was_removed_says_so_at_the_next_segment(tmp_path: Path) -> None:
    with JobStore(tmp_path / "job", ARCHIVES, STATES) as store:
        store.append(segment_parts(1)[0], "ok", segment_parts(1)[2])
        shutil.rmtree(tmp_path / "job")
        with pytest.raises(DataError, match="job: the folder was removed while the job was at work"):
            store.append(segment_parts(2)[0], "ok", segment_parts(2)[2])


def test_atomic_write_on_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("old")
    with full_disk(100), pytest.raises(OSError, match="File too large.*list"), atomic_write(path) as stream:
        stream.write("n" * 10_000)
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["list"]


def test_atomic_write_has_all_on_the_disk_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: on_disk.append((tmp_path / "list.tmp").read_text()))
    with atomic_write(tmp_path / "list") as stream:
        stream.write("whole")
    assert on_disk == ["whole"] and (tmp_path / "list").read_text() == "whole"


def test_atomic_write_does_not_follow_a_link_under_its_temporary_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "list.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="list.tmp"), atomic_write(tmp_path / "list") as stream:
        stream.write("theirs")
    assert victim.read_text() == "mine" and not (tmp_path / "list").exists()


def test_merge_waits_for_what_is_seen_late_and_gives_up_with_the_reason(tmp_path: Path) -> None:
    """As on a network file system: first the journal lacks its end, then an archive does."""
    run_job(tmp_path / "jobs" / "1", range(4))
    expected = merged(tmp_path / "expected", [tmp_path / "jobs" / "1"], range(4))
    whole = {name: (tmp_path / "jobs" / "1" / name).read_bytes() for name in (JOURNAL, "faces.ark")}
    out = tmp_path / "out"
    for late, message in ((JOURNAL, "1 of 4 segments are not done"), ("faces.ark", "faces.ark: expected .* bytes")):
        path = tmp_path / "jobs" / "1" / late
        path.write_bytes(whole[late][:-20])
        with pytest.raises(DataError, match=f"out: .*{message}"):
            collect(tmp_path / "jobs", out, patience_s=0)
        assert not out.exists()
        timer = threading.Timer(1.0, path.write_bytes, [whole[late]])
        timer.start()
        begin = time.monotonic()
        collect(tmp_path / "jobs", out, patience_s=30)
        assert 1 <= time.monotonic() - begin < 20
        timer.join()
        assert {path.name: path.read_bytes() for path in out.iterdir()} == expected
        assert summary(out / "status", STATES) == "4 segments: 3 ok, 1 no_face"
        shutil.rmtree(out)


def collect(jobs: Path, out: Path, patience_s: int) -> None:
    """As utils/segment_jobs.py does when the jobs have ended."""
    command = ["--archives", " ".join(ARCHIVES), "--states", " ".join(STATES), "--patience-s", str(patience_s)]
    options = segment_jobs.options_of([*command, "vid.scp", str(out), "--", "python"])
    plan = Plan([(segment_parts(n)[0], "") for n in range(4)], ARCHIVES)
    segment_jobs.collect(options, plan, jobs)


@pytest.mark.parametrize(
    "line", ["[]", '{"segment": 1}', '{"segment": "a", "status": "ok", "start": {}, "end": {}}', "[" * 100_000]
)
def test_journal_line_that_is_no_note_ends_what_is_believed(tmp_path: Path, line: str) -> None:
    run_job(tmp_path, range(3))
    with open(tmp_path / JOURNAL, "a") as journal:
        journal.write(line + "\n")
    with JobStore(tmp_path, ARCHIVES, STATES) as store:
        assert list(store.statuses) == [segment_parts(n)[0] for n in range(3)]
