"""Answers in NIST's format, written from score files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidperson.corpora import sre, sre19_av, sre21
from vidperson.errors import DataError

TRIALS_19 = "modelid\tsegmentid\tside\nm2\tt1.mp4\ta\nm1\tt2.mp4\ta\nm1\tt1.mp4\ta\n"
TRIALS_21 = "imageid\tsegmentid\nb.jpg\tt1.mp4\na.jpg\tt2.mp4\na.jpg\tt1.mp4\n"
SCORES = "m1 t1 4.25\nm1 t2 -3.0000001\nm2 t1 -1e-05\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The official list, the scores, and where the answer goes."""
    trials, scores = tmp_path / "sre19_av_eval_trials.tsv", tmp_path / "scores"
    trials.write_text(TRIALS_19)
    scores.write_text(SCORES)
    return trials, scores, tmp_path / "answer.tsv"


def test_format_submission_sre19_copies_the_list_and_adds_the_scores_digit_for_digit(
    files: tuple[Path, Path, Path],
) -> None:
    assert sre.format_submission(*files, sre19_av.COLUMNS) == 3
    assert files[2].read_bytes().decode() == (
        "modelid\tsegmentid\tside\tLLR\nm2\tt1.mp4\ta\t-1e-05\nm1\tt2.mp4\ta\t-3.0000001\nm1\tt1.mp4\ta\t4.25\n"
    )


def test_format_submission_sre21_finds_the_models_by_their_images(files: tuple[Path, Path, Path]) -> None:
    trials, scores, answer = files
    trials.write_text(TRIALS_21)
    scores.write_text(SCORES.replace("m1", "a").replace("m2", "b"))
    sre.format_submission(*files, sre21.TRIAL_COLUMNS)
    assert answer.read_text() == (
        "imageid\tsegmentid\tLLR\nb.jpg\tt1.mp4\t-1e-05\na.jpg\tt2.mp4\t-3.0000001\na.jpg\tt1.mp4\t4.25\n"
    )


def test_format_submission_list_with_windows_line_ends_and_columns_moved_is_answered_with_unix_ones(
    files: tuple[Path, Path, Path],
) -> None:
    files[0].write_text("side\tsegmentid\tmodelid\r\na\tt1\tm2\r\na\tt2\tm1\r\n\r\na\tt1\tm1\r\n", newline="")
    sre.format_submission(*files, sre19_av.COLUMNS)
    assert files[2].read_bytes() == (
        b"side\tsegmentid\tmodelid\tLLR\na\tt1\tm2\t-1e-05\na\tt2\tm1\t-3.0000001\na\tt1\tm1\t4.25\n"
    )


def test_format_submission_row_that_the_list_repeats_is_answered_as_often(files: tuple[Path, Path, Path]) -> None:
    files[0].write_text(TRIALS_19 + "m2\tt1.mp4\ta\n")
    assert sre.format_submission(*files, sre19_av.COLUMNS) == 4
    lines = files[2].read_text().splitlines()
    assert lines[4] == lines[1] == "m2\tt1.mp4\ta\t-1e-05"


def test_format_submission_scores_that_look_like_cosines_are_warned_of(
    files: tuple[Path, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    sre.format_submission(*files, sre19_av.COLUMNS)
    assert "cosines" not in caplog.text
    files[1].write_text("m1 t1 0.9\nm1 t2 0.1\nm2 t1 -0.2\n")
    sre.format_submission(*files, sre19_av.COLUMNS)
    assert "all scores lie in -1..1, like cosines" in caplog.text


@pytest.mark.parametrize(
    ("which", "old", "new", "message"),
    [
        (
            "scores",
            "m1 t2",
            "m1 t9",
            r"trials.tsv:3: 1 of 3 trials, this one first, have no score in .*/scores; prepare",
        ),
        ("scores", SCORES, SCORES + "m3 t1 1\n", r"scores: 1 of 4 scores have no trial in .*trials.tsv: 'm3 t1'; give"),
        ("scores", "4.25", "nan", r"scores:1: expected '<model> <segment> <finite score>', found 'm1 t1 nan'"),
        ("scores", "4.25", "inf", r"scores:1: expected '<model> <segment> <finite score>'"),
        ("scores", "4.25", "4,25", r"scores:1: expected '<model> <segment> <finite score>'"),
        ("scores", "-1e-05", "", r"scores:3: expected '<model> <segment> <finite score>'"),
        ("scores", "m1 t2", "m1 t1", r"scores:2: score of 'm1 t1' appears twice"),
        ("scores", "m1 t2 -3.0000001\n", "m1 t2 -3.0000001\r\n", r"scores:2: Windows line end .*sed -i"),
        ("scores", SCORES, "", r"scores: no scores"),
        ("trials", "modelid\tsegmentid\tside\n", "", r"trials.tsv: no column 'modelid' .*header has: m2 t1.mp4 a"),
        ("trials", "modelid", "name", r"trials.tsv: no column 'modelid' .*header has: name segmentid side"),
        ("trials", "\tside", "\tLLR", r"trials.tsv: there is a column LLR already"),
        ("trials", "m1\tt2.mp4\ta", "m1\tt2.mp4\ta\tb", r"trials.tsv:3: expected 3 columns as in the header, found 4"),
        ("trials", "m1\tt2.mp4", "m1\t", r"trials.tsv:3: column 'segment' is empty"),
        ("trials", "t2.mp4", "t1.png", r"trials.tsv:3: 't1.mp4' and 't1.png' would both be 't1'"),
        ("trials", TRIALS_19, "modelid\tsegmentid\tside\n", r"trials.tsv: no trials"),
    ],
)
def test_format_submission_list_and_scores_that_do_not_fit_are_refused_and_the_old_answer_is_kept(
    files: tuple[Path, Path, Path], which: str, old: str, new: str, message: str
) -> None:
    path = files[["trials", "scores"].index(which)]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1), newline="")
    files[2].write_text("an older answer\n")
    with pytest.raises(DataError, match=message):
        sre.format_submission(*files, sre19_av.COLUMNS)
    assert files[2].read_text() == "an older answer\n"
    assert {p.name for p in files[2].parent.iterdir()} == {p.name for p in files}


@pytest.mark.parametrize(("corpus", "trials"), [("sre19_av_v", TRIALS_19), ("sre21_av_v", TRIALS_21)])
def test_format_submission_command_writes_the_answer_or_says_why_not_in_one_line(
    repo: Path, tmp_path: Path, corpus: str, trials: str
) -> None:
    (tmp_path / "trials.tsv").write_text(trials)
    (tmp_path / "scores").write_text(SCORES if corpus == "sre19_av_v" else SCORES.replace("m1", "a").replace("m2", "b"))
    call = [sys.executable, f"local/{corpus}/format_submission.py", "--trials", f"{tmp_path}/trials.tsv"]
    call += ["--scores", f"{tmp_path}/scores", "--output", f"{tmp_path}/out/answer.tsv"]
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run(call, cwd=repo, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out/answer.tsv").read_text().splitlines()) == 4
    (tmp_path / "out/answer.tsv").unlink()
    (tmp_path / "scores").write_text("x t1 1\n")
    done = subprocess.run(call, cwd=repo, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out/answer.tsv").exists()
