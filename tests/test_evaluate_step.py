"""steps/evaluate.py on small lists."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steps.calibrate import CalibrateOptions, TrainOptions, calibrate
from steps.evaluate import CostOptions, EvaluateOptions, evaluate, evaluate_scores
from steps.fuse import FuseOptions, fuse
from steps.score import PairOptions, ScoreOptions, SystemOptions, score
from vidperson.errors import DataError, ScoringError
from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import write_record

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def task(tmp_path):
    (tmp_path / "trials").write_text("a 1 target\na 2 nontarget\nb 1 nontarget\nb 2 target\nb 3 nontarget\n")
    (tmp_path / "scores").write_text("b 3 -8\na 1 9\na 2 -5.5\nb 1 1\nb 2 0\n")
    return {
        "scores": tmp_path / "scores",
        "trials": tmp_path / "trials",
        "output": tmp_path / "results/small_test.json",
        "about": {"system": "net"},
        "costs": CostOptions("0.5 0.05"),
    }


def test_evaluate_scores_in_other_order_than_trials_writes_metrics_worked_out_by_hand(task):
    evaluate_scores(**task)
    result = json.loads(task["output"].read_text())
    assert (result["num_trials"], result["num_targets"], result["num_nontargets"]) == (5, 2, 3)
    # Hull vertices (P_fa, P_miss): (1/3, 0) and (0, 1/2); it crosses the diagonal at 1/5.
    assert result["eer"] == pytest.approx(0.2)
    assert (result["c_miss"], result["c_fa"], result["normalisation"]) == (
        1,
        1,
        "min(P * C_miss, (1 - P) * C_fa)",
    )
    half, low = result["dcf"]
    assert half == {"prior": 0.5, "threshold": 0, "min": pytest.approx(1 / 3), "act": pytest.approx(1 / 3)}
    assert low["threshold"] == pytest.approx(np.log(19)) and low["min"] == low["act"] == pytest.approx(0.5)
    # The ROC's steps, each error over 6ths: the point (P_fa 1/3, P_miss 0..1/2) crosses at 1/3.
    assert result["eer_simple"] == pytest.approx(1 / 3)
    # Of the two best scored trials (9 and 1) one is a target.
    assert result["prbep"] == pytest.approx(1 / 2)
    bits = np.logaddexp(0, [-9, 0]).mean() + np.logaddexp(0, [-5.5, 1, -8]).mean()
    assert result["cllr"] == pytest.approx(bits / 2 / np.log(2))
    # Pools: {-8, -5.5} no target, {0, 1} one of each, {9} a target.
    pool = 1 / 2 * np.log2(1 + 2 / 3) + 1 / 3 * np.log2(1 + 3 / 2)
    assert result["min_cllr"] == pytest.approx(pool / 2)
    primary = {"definition": "sre19", "priors": [0.05], "partitions": [], "min": low["min"], "act": low["act"]}
    assert result["primary"] == primary | {"thresholds": [low["threshold"]]}
    assert len(result["det"]["p_miss"]) == 6 and result["det"]["p_fa"][0] == 1
    sweep = result["dcf_over_log_odds"]
    at = sweep["log_odds"].index(0)
    assert (sweep["min"][at], sweep["act"][at]) == pytest.approx((1 / 3, 1 / 3))
    histogram = result["histogram"]
    assert sum(histogram["targets"]) == 2 and sum(histogram["nontargets"]) == 3
    assert (histogram["edges"][0], histogram["edges"][-1]) == (-8, 9)


@pytest.mark.parametrize("spread", [0.0, 1e-17, 1e-9])
def test_evaluate_scores_almost_or_quite_equal_still_writes_a_histogram(task, spread):
    task["scores"].write_text(f"b 3 0.5\na 1 0.5\na 2 0.5\nb 1 0.5\nb 2 {0.5 + spread!r}\n")
    assert sum(evaluate_scores(**task)["histogram"]["nontargets"]) == 3


def test_evaluate_trials_without_key_writes_counts_and_says_so(task, caplog):
    caplog.set_level(logging.INFO)
    task["trials"].write_text("a 1\na 2\nb 1\nb 2\nb 3\n")
    made_by = {"backend": "max", "snorm_cohort": "dev_test", "calibrated_on": None}
    evaluate_scores(**{**task, "about": task["about"] | made_by})
    result = json.loads(task["output"].read_text())
    assert result == {"name": "small_test", "system": "net", "has_key": False, "num_trials": 5} | made_by
    assert "no key" in caplog.text and "nothing to evaluate" in caplog.text


def test_evaluate_partitions_weigh_equally_in_the_primary_cost(task, tmp_path):
    (tmp_path / "partitions").write_text("b 1 y\nb 2 y\nb 3 y\na 1 x\na 2 x\n")
    evaluate_scores(**task, primary="sre21", partitions=tmp_path / "partitions")
    primary = json.loads(task["output"].read_text())["primary"]
    assert (primary["definition"], primary["priors"], primary["partitions"]) == ("sre21", [0.01, 0.05], ["x", "y"])
    # x: a target at 9, a non-target at -5.5. y: a target at 0, non-targets at 1 and -8. Both thresholds reject y's.
    assert primary["min"] == primary["act"] == pytest.approx(0.5)


def test_evaluate_partition_of_a_trial_missing_raises(task, tmp_path):
    (tmp_path / "partitions").write_text("b 1 y\nb 2 y\na 1 x\na 2 x\n")
    match = "trials:5: 1 of 5 pairs, this one first, are not in .*/partitions: b 3$"
    refuse({**task, "partitions": tmp_path / "partitions"}, match)


def test_evaluate_unknown_primary_cost_raises(task):
    refuse({**task, "primary": "sre99"}, "valid: sre19 sre21")


def test_evaluate_costs_move_the_threshold_and_are_written(task):
    result = evaluate_scores(**{**task, "costs": CostOptions("0.5", 2, 6)})
    assert (result["c_miss"], result["c_fa"]) == (2, 6)
    assert result["dcf"][0]["threshold"] == pytest.approx(np.log(3))
    assert result["dcf"][0]["act"] == pytest.approx(0.5)


def test_evaluate_run_twice_gives_equal_bytes(task):
    evaluate_scores(**task)
    first = task["output"].read_bytes()
    evaluate_scores(**task)
    assert task["output"].read_bytes() == first


def refuse(task, match, error=ScoringError):
    with pytest.raises(error, match=match):
        evaluate_scores(**task)
    assert not task["output"].exists()


def test_evaluate_trials_without_score_raises_with_first_and_count(task):
    task["scores"].write_text("a 1 9\n")
    refuse(task, "trials:2: 4 of 5 pairs, this one first, are not in .*/scores: a 2, b 1, b 2, ...")


def test_evaluate_scores_without_trial_raises_with_first_and_count(task):
    with open(task["scores"], "a") as stream:
        stream.write("z 1 0\na 9 0\n")
    refuse(task, "scores:6: 2 of 7 pairs, this one first, are not in .*/trials: z 1, a 9$")


def test_evaluate_score_given_twice_raises(task):
    with open(task["scores"], "a") as stream:
        stream.write("a 1 9\n")
    refuse(task, "scores:6: score of 'a 1' appears twice", DataError)


@pytest.mark.parametrize("bad", ["nan", "inf", "high"])
def test_evaluate_score_not_finite_raises_naming_the_line(task, bad):
    task["scores"].write_text(f"a 1 9\na 2 {bad}\n")
    refuse(task, "scores:2", DataError)


def test_evaluate_no_target_trials_raises(task):
    task["trials"].write_text(task["trials"].read_text().replace(" target", " nontarget"))
    refuse(task, "trials: expected target and nontarget trials, found 0 and 5")


@pytest.mark.parametrize("priors", ["", "0.5 1", "0.5,0.1", "many"])
def test_evaluate_unusable_priors_raise(task, priors):
    refuse({**task, "costs": CostOptions(priors)}, "prior")


@pytest.mark.parametrize("name", ["results", ""])
def test_evaluate_name_that_would_overwrite_something_else_raises(task, name):
    refuse({**task, "output": task["output"].with_name(f"{name}.json")}, "under the name")


def write_embeddings(folder, matrices):
    folder.mkdir(parents=True)
    with open(folder / "embed.ark", "wb") as ark, open(folder / "embed.scp", "w") as scp:
        for key, matrix in matrices.items():
            scp.write(f"{key} {folder}/embed.ark:{ark.tell() + len(key) + 1}\n")
            ark.write(matrix_bytes(key, np.asarray(matrix, np.float32)))


class Scored:
    """Two persons and four videos, scored by two modalities; keyword arguments are options of all systems."""

    def __init__(self, work: Path) -> None:
        self.work = work
        persons = {"a": [1.0, 0.2], "b": [0.2, 1.0]}
        videos = {f"{p}{n}": [np.add(vector, 0.1 * n)] for p, vector in persons.items() for n in (1, 2)}
        for name in ("enroll", "test"):
            (work / "data" / name).mkdir(parents=True)
        (work / "data/enroll/spk2utt").write_text("a a-1\nb b-1\n")
        self.trials = work / "data/test/trials"
        lines = [f"{p} {v} {'target' if p == v[0] else 'nontarget'}\n" for p in persons for v in videos]
        self.trials.write_text("".join(lines))
        for modality in ("face", "speaker"):
            write_embeddings(self.embed(modality) / "enroll", {f"{p}-1": [vector] for p, vector in persons.items()})
            write_embeddings(self.embed(modality) / "test", videos)

    def embed(self, modality: str) -> Path:
        return self.work / f"{modality}_embed" / f"{modality}_net"

    def words(self, modality: str) -> str:
        data = self.work / "data"
        sets = f"--enroll-parts enroll --enroll-data {data}/enroll --test-part test --test-data {data}/test"
        return f"--modality {modality} --embed-dir {self.embed(modality)} {sets}"

    def pair(self, modality: str) -> PairOptions:
        data = self.work / "data"
        return PairOptions(modality, self.embed(modality), "enroll", data / "enroll", "test", data / "test")

    def systems(self, modalities=("face",), **options) -> SystemOptions:
        embedders = " ".join(f"{modality}_net" for modality in modalities)
        given = {"scores_dir": self.work / "scores", "embedders": embedders, "test_sets": "test", "experiment": "x"}
        return SystemOptions(**given | options)

    def score(self, modalities=("face",), **options) -> None:
        systems = self.systems(modalities, **options)
        for modality in modalities:
            score(ScoreOptions(self.pair(modality), systems))
        train = TrainOptions(self.trials)
        if systems.calibration_set:
            calibrate(CalibrateOptions(train, systems))
        if systems.fusion_systems:
            fuse(FuseOptions(train, systems))

    def options(self, modalities=("face",), **options) -> EvaluateOptions:
        pairs = [self.words(modality) for modality in modalities]
        return EvaluateOptions(pairs, self.work / "results", self.systems(modalities, **options))

    def evaluate(self, modalities=("face",), **options) -> None:
        evaluate(self.options(modalities, **options))

    def refused(self, match: str, error=ScoringError, **options) -> str:
        with pytest.raises(error, match=match) as raised:
            self.evaluate(**options)
        assert not (self.work / "results").exists()
        return str(raised.value)


@pytest.fixture
def scored(tmp_path):
    return Scored(tmp_path)


def test_evaluate_all_systems_and_sets_writes_a_result_of_each(scored):
    scored.score(("face", "speaker"), backends="max mean", calibration_set="test", fusion_systems="max")
    scored.evaluate(("face", "speaker"), backends="max mean", calibration_set="test", fusion_systems="max")
    results = scored.work / "results"
    found = {path.parent.relative_to(results).as_posix() for path in results.rglob("test.json")}
    plain = {f"{m}_net/{b}{cal}" for m in ("face", "speaker") for b in ("max", "mean") for cal in ("", "_cal")}
    assert found == plain | {"fusion/x"}
    about = ("name", "modality", "system", "backend", "calibrated_on", "num_targets")
    fused = json.loads((results / "fusion/x/test.json").read_text())
    assert [fused[key] for key in about] == ["test", "face + speaker", "face_net + speaker_net", "fusion", "test", 4]
    single = json.loads((results / "speaker_net/mean/test.json").read_text())
    assert [single[key] for key in about] == ["test", "speaker", "speaker_net", "mean", None, 4]


AGAIN = "run ./run_004_score.sh with the same options first"


def test_evaluate_scores_that_are_not_there_names_them_and_the_stage(scored):
    said = scored.refused(AGAIN, backends="max mean")
    assert f"{scored.work}/scores/face_net/mean/test_scores: not there\n" in said
    (scored.embed("face") / "test/embed.scp").unlink()
    scored.refused(f"no embeddings in .*face_net/test; run ./run_003_extract_embeddings.sh(.|\n)*{AGAIN}")


@pytest.mark.parametrize(("options", "then", "now"), [
    ({"snorm_cohort": "test", "ncoh": 3}, "--ncoh 2", "--ncoh 3"),
    ({"backends": "ahc", "thr_ahc": 0.7}, "--thr-ahc 0.8", "--thr-ahc 0.7"),
])  # fmt: skip
def test_evaluate_scores_of_other_options_are_refused_with_both(scored, options, then, now):
    scored.score(backends="max ahc", snorm_cohort="test", ncoh=2)
    said = scored.refused(AGAIN, **{"snorm_cohort": "test", "ncoh": 2, **options})
    assert f"< {then}" in said and f"> {now}" in said


def test_evaluate_options_that_do_not_matter_to_the_scores_are_not_refused(scored):
    scored.score(backends="max ahc")
    scored.evaluate(backends="max", thr_ahc=0.1, ncoh=5, primary_cost="sre21")


def edit(path):
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first.rpartition(' ')[0]} 7\n{rest}")


def cut(path):
    path.write_text(path.read_text().split("\n")[0] + "\n")


@pytest.mark.parametrize("change", [edit, cut])
@pytest.mark.parametrize("edited", ["face_net/max", "face_net/max_cal", "fusion/x"])
def test_evaluate_edited_or_cut_scores_are_refused_by_name(scored, change, edited):
    options = {"calibration_set": "test", "fusion_systems": "max"}
    scored.score(**options)
    scores = scored.work / "scores" / edited / "test_scores"
    change(scores)
    said = scored.refused(AGAIN, **options)
    assert f"{scores}: expected the file as it was written, found other bytes" in said


def test_evaluate_calibration_of_scores_that_were_made_again_since_is_refused(scored):
    scored.score(calibration_set="test")
    trials = scored.trials.read_text().splitlines(keepends=True)
    scored.trials.write_text("".join(reversed(trials)))  # other bytes
    scored.score()
    said = scored.refused(AGAIN, calibration_set="test")
    assert "max_cal/test_scores: made again, since its command or inputs have changed" in said


def test_evaluate_embeddings_that_were_edited_or_are_of_other_items_are_refused(scored):
    embed, items = scored.embed("face") / "test", scored.work / "items/test"
    items.mkdir(parents=True)
    (items / "status").write_text("a1 ok\n")
    write_record(items, ["stage 2"], [], [items / "status"])
    write_record(embed, ["stage 3"], [items / "status"], [embed / "embed.ark", embed / "embed.scp"])
    scored.score()
    content = (embed / "embed.ark").read_bytes()
    (embed / "embed.ark").write_bytes(content[:-1] + bytes([content[-1] ^ 0x80]))
    scored.refused(f"{embed}: expected embed.ark as it was written, found other bytes", DataError)
    (embed / "embed.ark").write_bytes(content)
    (items / "status").write_text("a1 no_face\n")
    write_record(items, ["stage 2"], [], [items / "status"])
    pairs = [f"{scored.words('face')} --items-dir {items.parent}"]
    with pytest.raises(ScoringError, match=f"{embed}: expected embeddings of the items in {items}, found"):
        evaluate(replace(scored.options(), pairs=pairs))


def test_evaluate_systems_that_cannot_be_are_refused_before_the_scores_are(scored):
    scored.refused("no back-end 'maxx'", backends="maxx")
    scored.refused("calibration_set: expected one of the test sets", calibration_set="nowhere")
    scored.refused("fusion_systems needs calibration_set", fusion_systems="max")


def test_evaluate_command_line_exit_status_tells_the_outcome(scored):
    scored.score()
    options = [f"--pairs={scored.words('face')}", f"--scores-dir={scored.work}/scores", "--embedders=face_net"]
    options += ["--test-sets=test", f"--output-dir={scored.work}/results"]
    command = [sys.executable, ROOT / "steps/evaluate.py", *options]
    assert subprocess.run(command, env={"PYTHONPATH": str(ROOT)}).returncode == 0
    assert (scored.work / "results/face_net/max/test.json").is_file()
    (scored.work / "scores/face_net/max/test_scores").write_text("a 1 9\n")
    run = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "max/test_scores: expected the file" in run.stderr
