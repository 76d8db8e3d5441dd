"""steps/evaluate.py on small lists."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steps.evaluate import evaluate
from vidperson.errors import DataError, ScoringError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def task(tmp_path):
    (tmp_path / "trials").write_text("a 1 target\na 2 nontarget\nb 1 nontarget\nb 2 target\nb 3 nontarget\n")
    (tmp_path / "scores").write_text("b 3 -8\na 1 9\na 2 -5.5\nb 1 1\nb 2 0\n")
    return {
        "scores": tmp_path / "scores",
        "trials": tmp_path / "trials",
        "name": "small_test",
        "system": "net",
        "priors": "0.5 0.05",
        "output_dir": tmp_path / "results",
    }


def test_evaluate_scores_in_other_order_than_trials_writes_metrics_worked_out_by_hand(task):
    evaluate(**task)
    result = json.loads((task["output_dir"] / "small_test.json").read_text())
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
    assert sum(evaluate(**task)["histogram"]["nontargets"]) == 3


def test_evaluate_trials_without_key_writes_counts_and_says_so(task, caplog):
    caplog.set_level(logging.INFO)
    task["trials"].write_text("a 1\na 2\nb 1\nb 2\nb 3\n")
    made_by = {"backend": "max", "snorm_cohort": "dev_test", "calibrated_on": None}
    evaluate(**task, **made_by)
    result = json.loads((task["output_dir"] / "small_test.json").read_text())
    assert result == {"name": "small_test", "system": "net", "has_key": False, "num_trials": 5} | made_by
    assert "no key" in caplog.text and "nothing to evaluate" in caplog.text


def test_evaluate_partitions_weigh_equally_in_the_primary_cost(task, tmp_path):
    (tmp_path / "partitions").write_text("b 1 y\nb 2 y\nb 3 y\na 1 x\na 2 x\n")
    evaluate(**task, primary="sre21", partitions=tmp_path / "partitions")
    primary = json.loads((task["output_dir"] / "small_test.json").read_text())["primary"]
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
    result = evaluate(**{**task, "priors": "0.5"}, c_miss=2, c_fa=6)
    assert (result["c_miss"], result["c_fa"]) == (2, 6)
    assert result["dcf"][0]["threshold"] == pytest.approx(np.log(3))
    assert result["dcf"][0]["act"] == pytest.approx(0.5)


def test_evaluate_run_twice_gives_equal_bytes(task):
    evaluate(**task)
    first = (task["output_dir"] / "small_test.json").read_bytes()
    evaluate(**task)
    assert (task["output_dir"] / "small_test.json").read_bytes() == first


def refuse(task, match, error=ScoringError):
    with pytest.raises(error, match=match):
        evaluate(**task)
    assert not task["output_dir"].exists()


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
    refuse({**task, "priors": priors}, "prior")


@pytest.mark.parametrize("name", ["results", "a/b", ""])
def test_evaluate_name_that_would_overwrite_something_else_raises(task, name):
    refuse({**task, "name": name}, "under the name")


def test_evaluate_command_line_exit_status_tells_the_outcome(task):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in task.items()]
    command = [sys.executable, ROOT / "steps/evaluate.py", *arguments]
    assert subprocess.run(command, env={"PYTHONPATH": str(ROOT)}).returncode == 0
    task["scores"].write_text("a 1 9\n")
    run = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "trials:2: 4 of 5 pairs" in run.stderr
