"""Stages 4 and 5 on a few embeddings written here: what they refuse, and what they leave alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidperson.io.matrices import matrix_bytes

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
                scp.write(f"{key} {folder}/embed.ark:{ark.tell() + len(key) + 1}\n")
                ark.write(matrix_bytes(key, np.asarray(matrix, np.float32)))
        lines = ["python steps_face/extract_embeddings.py"]
        for file in ("faces.ark", "quality.ark", "status"):
            (faces / file).write_text(f"{file} of {name}\n")
            lines.append(f"{hashlib.sha256((faces / file).read_bytes()).hexdigest()}  exp/face_det/d/{name}/{file}")
        (folder / "settings").write_text("\n".join(lines) + "\n")

    def run(self, stage: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                f"./run_{stage}.sh", "--config-file", "global_conf/config_demo.sh", "--face-detector", "d",
                "--face-embedder", "e", "--data-dir", f"{self.work}/data", "--exp-dir", f"{self.work}/exp",
                "--trial-sets", "enroll:dev enroll:eval", "--backends", "max", "--snorm-cohort", "",
                "--calibration-set", "", "--fusion-systems", "", *options,
            ],
            cwd=self.repo, env={**os.environ, "VIDPERSON_PYTHON": sys.executable}, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip

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


@pytest.mark.parametrize(("options", "then", "now"), [
    (("--calibration-set", "eval"), "--train-set dev", "--train-set eval"),
    (("--snorm-cohort", "eval"), "face_embed/e/dev --ncoh", "face_embed/e/eval --ncoh"),
    (("--ncoh", "2"), "--ncoh 3", "--ncoh 2"),
    (("--thr-ahc", "0.7"), "--thr-ahc 0.8", "--thr-ahc 0.7"),
])  # fmt: skip
def test_stage_5_with_other_options_than_the_scores_were_made_with_is_refused_with_both_and_the_stage_to_run(
    scored: Scoring, options: tuple[str, ...], then: str, now: str
) -> None:
    said = scored.refused("005_eval", *SYSTEMS, *options)
    assert then in said and now in said and "run ./run_004_score.sh with the same options first" in said


def test_stage_5_with_the_options_of_the_scores_labels_them_with_those(scored: Scoring) -> None:
    before = scored.files()
    done = scored.run("005_eval", *SYSTEMS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done already" not in done.stdout and before.items() <= scored.files().items()
    rows = json.loads((scored.work / "exp/results/e/results.json").read_text())["results"]
    labels = {(row["backend"], row["snorm_cohort"], row["calibrated_on"]) for row in rows}
    systems = {("max", cohort, on) for cohort in (None, "dev") for on in (None, "dev")}
    assert labels == systems | {("fusion", None, "dev")}


def test_calibration_of_scores_that_were_made_anew_since_is_refused_in_stage_5(scoring: Scoring) -> None:
    scoring.score("--calibration-set", "dev")
    trials = scoring.work / "data/eval/trials"  # in another order: other bytes
    trials.write_text("".join(reversed(trials.read_text().splitlines(keepends=True))))
    scoring.score()
    said = scoring.refused("005_eval", "--calibration-set", "dev")
    assert "max_cal/calibration.json was made by another command or of other inputs" in said


@pytest.mark.parametrize("stage", ["004_score", "005_eval"])
def test_faces_made_anew_after_their_embeddings_are_refused_with_the_stage_to_run(scoring: Scoring, stage: str) -> None:
    (scoring.work / "exp/face_det/d/dev/faces.ark").write_text("other faces\n")
    said = scoring.refused(stage)
    assert (
        f"{scoring.work}/exp/face_embed/e/dev is of other faces than those in {scoring.work}/exp/face_det/d/dev" in said
    )
    assert "run ./run_003_extract_embeddings.sh with --force true first" in said


def test_embeddings_without_the_faces_that_they_are_of_are_scored(scoring: Scoring) -> None:
    (scoring.work / "exp/face_det").rename(scoring.work / "elsewhere")
    scoring.score()
    assert (scoring.scores / "max/eval_scores").is_file()


@pytest.mark.parametrize(("options", "message"), [
    (("--backends", "max maxx"), "no back-end 'maxx'; valid: max "),
    (("--backends", "max", "--thr-ahc", "5"), "command line: expected a number from -1 to 1 for thr_ahc, found '5'"),
    (("--primary-cost", "sre99"), "command line: expected one of sre19 sre21 for primary_cost, found 'sre99'"),
    (("--calibration-set", "dev", "--fusion-systems", "max maxx"), "e/maxx/dev_scores; run ./run_004_score.sh with"),
])  # fmt: skip
def test_stage_4_with_an_option_that_cannot_be_is_refused_before_anything_is_scored(
    scoring: Scoring, options: tuple[str, ...], message: str
) -> None:
    assert message in scoring.refused("004_score", *options)
    assert not scoring.scores.exists()


def test_fusion_of_systems_elsewhere_and_of_an_earlier_run_is_not_refused(scoring: Scoring) -> None:
    scoring.score("--backends", "mean")
    (scoring.scores / "mean").rename(scoring.work / "voice")
    scoring.score("--backends", "median")
    scoring.score("--calibration-set", "dev", "--fusion-systems", f"max median {scoring.work}/voice")
    assert (scoring.scores / "fusion/eval_scores").is_file()
