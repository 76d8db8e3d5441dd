"""run_who.sh: from two folders to the answer, with what users put into folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.drawn_folders import write_photo
from vidperson.io.answers import read_who_csv

RAW = b"\x93" * 3000


def run_who(repo: Path, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable, "VIDPERSON_MODEL_DIR": ""}
    call = ["./run_who.sh", *map(str, words)]
    done = subprocess.run(call, cwd=repo, env=environment, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def told(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Names of all kinds, a portrait twice, one without a face, and videos that are none."""
    work = tmp_path_factory.mktemp("who")
    for folder in ("王伟", "Zoë", "Zoe again", "broken"):
        (work / "persons" / folder).mkdir(parents=True)
    (work / "videos").mkdir()
    write_photo(work / "persons/王伟/1.jpg", "Chidi", 0.4)
    write_photo(work / "persons/Zoë/a.jpg", "Anna", 0.4)
    write_photo(work / "persons/Zoe again/b.jpg", "Anna", 0.4)
    (work / "persons/broken/x.jpg").write_bytes(RAW)
    write_photo(work / "videos/<b>lunch, été.jpg", "Chidi", 2.2)
    write_photo(work / "videos/nobody knows.jpg", "Emil", 0.4)
    (work / "videos/broken.mp4").write_bytes(RAW)
    (work / "key.tsv").write_text("王伟\t<b>lunch, été.jpg\n")
    options = ("--data-dir", work / "data", "--exp-dir", work / "exp", "--nj", "1", "--folder-key", work / "key.tsv")
    return work, run_who(repo, work / "persons", work / "videos", *options)


def test_answer_names_who_is_known_and_numbers_who_is_not(
    told: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    work, done = told
    lines = done.stdout.splitlines()
    assert lines[-2:] == [f"{work}/exp/results/folder/{name}" for name in ("who.csv", "report.html")]
    assert all(Path(line).is_file() for line in lines[-2:])
    rows = {row.video: (row.person, row.decision) for row in read_who_csv(lines[-2])}
    assert rows == {"<b>lunch, été.jpg": ("王伟", "yes"), "nobody knows.jpg": ("unknown 1", "unknown")}
    table = [line for line in lines if "lunch" in line]
    assert len(table) == 1 and table[0].split()[0] == "王伟" and " yes " in table[0]


def test_error_rates_are_printed_and_reported_beside_the_answer_where_it_is_known_who_is_where(
    told: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    work, done = told
    row = next(line for line in done.stdout.splitlines() if line.startswith("folder_test"))
    assert row.split()[:3] == ["folder_test", "arcface_tiny", "max"] and " EER %" in done.stdout
    assert (work / "exp/results/folder/evaluation/report.html").is_file()


def test_what_is_wrong_with_files_is_said_in_plain_words(
    told: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = told
    assert "broken/x.jpg: this file cannot be read, so it is left out" in done.stdout
    assert "broken: no face is found in any portrait, so broken cannot be recognised by it" in done.stdout
    assert "Zoë and Zoe again seem to be the same person; put their portraits into one folder" in done.stdout
    assert "broken.mp4" in done.stdout
    assert done.stderr.startswith("networks for face: retinaface_tiny and arcface_tiny\n") and "INFO" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected two folders: ./run_who.sh PERSONS VIDEOS"),
        (("one",), "expected two folders: ./run_who.sh PERSONS VIDEOS"),
        (("one", "two", "three"), "expected options, found 'three'; first come 2 names, then options;"),
        (("one", "two"), "no folder 'one'; check its name, or make it: without any portrait everybody is unknown"),
        (("docs", "two"), "no folder or file 'two'; check its name"),
        (("docs", "docs", "--anotate", "true"), "did you mean --annotate?"),
    ],
)
def test_call_without_two_folders_is_refused_at_once(
    repo: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = run_who(repo, *words, "--exp-dir", tmp_path / "exp", check=False)
    assert done.returncode == 1 and message in done.stderr and not (tmp_path / "exp").exists()
    assert done.stderr.count("\n") == 1  # networks and the environment come later


def test_frames_that_are_too_far_apart_are_refused(repo: Path, tmp_path: Path) -> None:
    done = run_who(repo, "", tmp_path, "--frames", "fast", "--exp-dir", tmp_path / "exp", check=False)
    assert done.returncode == 1 and "find_persons needs --frames uniform" in done.stderr and done.stdout == ""


def test_folder_without_videos_stops_with_what_to_do(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    folders = ("--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    done = run_who(repo, "", tmp_path / "videos", *folders, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert f"ERROR: {tmp_path}/videos: no video or image in it; put some there, such as .mp4" in done.stderr
    assert "stopped while reading the folders; more is in" in done.stderr
