"""Stages 4 and 5 on a few embeddings written here: what they refuse, and what they leave alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import write_record

SYSTEMS = ("--snorm-cohort", "dev", "--ncoh", "3", "--calibration-set", "dev", "--fusion-systems", "max_snorm")


class Scoring:
    """Two persons, enrolled once for two test sets of four videos: what stages 2 and 3 leave for scoring."""

    def __init__(self, repo: Path, work: Path) -> None:
        self.repo, self.work = repo, work
        random = np.random.default_rng(0)
        persons = {"a": [1.0, 0, 0], "b": [0, 1.0, 0]}
        self.make("enroll", {f"{person}-1": [vector] for person, vector in persons.items()})
        for name in ("dev", "eval"):
            videos = {f"{p}{n}": random.normal(vector, 0.3, (2, 3)) for p, vector in persons.items() for n in (1, 2)}
            self.make(name, videos)
            trials = [f"{p} {v} {'target' if p == v[0] else 'nontarget'}\n" for p in persons for v in videos]
            (work / "data" / name / "trials").write_text("".join(trials))
        (work / "data" / "enroll" / "spk2utt").write_text("a a-1\nb b-1\n")

    def make(self, name: str, embeddings: dict) -> None:
        (self.work / "data" / name).mkdir(parents=True)
        folder, faces = self.work / "exp/face_embed/e" / name, self.work / "exp/face_det/d" / name
        folder.mkdir(parents=True)
        faces.mkdir(parents=True)
        with open(folder / "embed.ark", "wb") as ark, open(folder / "embed.scp", "w") as scp:
            for key, matrix in embeddings.items():
                scp.write(f"{key} embed.ark:{ark.tell() + len(key) + 1}\n")
                ark.write(matrix_bytes(key, np.asarray(matrix, np.float32)))
        (faces / "status").write_text("".join(f"{key} ok\n" for key in embeddings))
        write_record(faces, ["stage 2"], [], [faces / "status"])
        write_record(folder, ["stage 3"], [faces / "status"],
                     [folder / "embed.ark", folder / "embed.scp"])  # fmt: skip

    def command(self, stage: str, *options: str, exp: str = "exp") -> list[str]:
        return [
            f"./run_{stage}.sh", "--config-file", "global_conf/config_demo.sh", "--face-detector", "d",
            "--face-embedder", "e", "--data-dir", f"{self.work}/data", "--exp-dir", f"{self.work}/{exp}",
            "--trial-sets", "enroll:dev enroll:eval", "--backends", "max", "--snorm-cohort", "",
            "--calibration-set", "", "--fusion-systems", "", *options,
        ]  # fmt: skip

    def run(self, stage: str, *options: str, exp: str = "exp") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "VIDPERSON_PYTHON": os.environ.get("VIDPERSON_PYTHON", sys.executable)}
        command = self.command(stage, *options, exp=exp)
        return subprocess.run(command, cwd=self.repo, env=environment, capture_output=True, text=True, timeout=300)

    def score(self, *options: str) -> None:
        done = self.run("004_score", *options)
        assert done.returncode == 0, done.stderr[-3000:]

    @property
    def scores(self) -> Path:
        return self.work / "exp/scores/e"

    def refused(self, stage: str, *options: str) -> str:
        """What the stage says, having changed nothing."""
        before = self.files()
        done = self.run(stage, *options)
        assert done.returncode == 1 and "Traceback" not in done.stderr and self.files() == before
        return done.stderr

    def files(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.work.rglob("*") if path.is_file()}


@pytest.fixture
def scoring(repo: Path, tmp_path: Path) -> Scoring:
    return Scoring(repo, tmp_path)


@pytest.fixture(scope="module")
def scored(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Scoring:
    """With the scores of SYSTEMS, which no test changes."""
    scoring = Scoring(repo, tmp_path_factory.mktemp("scored"))
    scoring.score(*SYSTEMS)
    return scoring


def test_stage_5_with_other_options_than_the_scores_were_made_with_is_refused_with_both_and_the_stage_to_run(
    scored: Scoring,
) -> None:
    said = scored.refused("005_eval", *SYSTEMS, "--calibration-set", "eval", "--ncoh", "2")
    for words in ("--calibration-set dev", "--calibration-set eval", "--ncoh 3", "--ncoh 2"):
        assert words in said
    assert "run ./run_004_score.sh with the same options first" in said


def test_stage_5_with_the_options_of_the_scores_labels_them_with_those(scored: Scoring) -> None:
    before = scored.files()
    done = scored.run("005_eval", *SYSTEMS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done already" not in done.stdout and before.items() <= scored.files().items()
    rows = json.loads((scored.work / "exp/results/demo/results.json").read_text())["results"]
    labels = {(row["backend"], row["snorm_cohort"], row["calibrated_on"]) for row in rows}
    systems = {("max", cohort, on) for cohort in (None, "dev") for on in (None, "dev")}
    assert labels == systems | {("fusion", None, "dev")}


def test_stage_4_run_again_keeps_all_and_starts_one_process_per_step(
    scored: Scoring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scored.files()
    starts = logged_python(tmp_path, monkeypatch)
    done = scored.run("004_score", *SYSTEMS)
    assert done.returncode == 0 and scored.files() == before
    assert len(starts()) == 4  # two pairs, calibration, fusion


def test_stages_4_and_5_of_the_demo_start_few_processes(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = Scoring(repo, tmp_path / "work")
    starts = logged_python(tmp_path, monkeypatch)
    scoring.score(*SYSTEMS, "--backends", "max ahc xatt")
    assert len(starts()) <= 12
    assert scoring.run("005_eval", *SYSTEMS, "--backends", "max ahc xatt").returncode == 0
    assert len(starts()) <= 12 + 2


def logged_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """An interpreter that notes what it runs of the repository; returns what gives its notes."""
    script, notes = folder / "python", folder / "starts"
    script.write_text(f'#!/bin/sh\necho "$1" >> "{notes}"\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VIDPERSON_PYTHON", str(script))
    return lambda: [line for line in notes.read_text().splitlines() if line.endswith(".py")]


def test_results_of_two_corpora_with_one_embedder_do_not_touch_each_other(scored: Scoring) -> None:
    systems = (*SYSTEMS, "--calibration-set", "eval", "--trial-sets", "enroll:eval", "--experiment", "other")
    before = {path: state for path, state in scored.files().items() if "_cal" not in str(path)}
    for stage in ("004_score", "005_eval"):
        done = scored.run(stage, *systems)
        assert done.returncode == 0, done.stderr[-3000:]
    assert before.items() <= scored.files().items()
    rows = json.loads((scored.work / "exp/results/other/results.json").read_text())["results"]
    assert {row["set"] for row in rows} == {"eval"}
    assert (scored.work / "exp/scores/fusion/other/eval_scores").is_file()


def test_scores_of_a_moved_exp_are_kept_and_evaluated(scored: Scoring, tmp_path: Path) -> None:
    scored.score(*SYSTEMS)  # calibrated again where another experiment was
    moved = Scoring.__new__(Scoring)
    moved.repo, moved.work = scored.repo, tmp_path
    shutil.copytree(scored.work / "data", tmp_path / "data")
    shutil.copytree(scored.work / "exp", tmp_path / "elsewhere")
    before = moved.files()
    done = moved.run("004_score", *SYSTEMS, exp="elsewhere")
    assert done.returncode == 0 and moved.files() == before, done.stdout[-3000:] + done.stderr[-3000:]
    assert moved.run("005_eval", *SYSTEMS, exp="elsewhere").returncode == 0


def test_edited_score_is_refused_by_stage_5_and_made_again_by_stage_4(scoring: Scoring) -> None:
    scoring.score()
    scores = scoring.scores / "max/dev_scores"
    whole = scores.read_bytes()
    scores.write_bytes(whole.split(b"\n")[0] + b"\n")
    said = scoring.refused("005_eval")
    assert f"{scores}: expected the file as it was written, found other bytes" in said
    assert "run ./run_004_score.sh with the same options first" in said
    done = scoring.run("004_score")
    assert f"{scores}: expected the file as it was written, found other bytes" in done.stdout
    assert done.returncode == 0 and scores.read_bytes() == whole
