"""Calibration and fusion against scikit-learn, closed forms and what must not change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import naive_scoring as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.calibrate import calibrate_scores
from steps.fuse import fuse_scores
from vidperson.backends.calibration import train_linear
from vidperson.backends.fusion import select_systems
from vidperson.errors import DataError, ScoringError
from vidperson.metrics import act_dcf, eer, roc

ROOT = Path(__file__).resolve().parents[1]


def gaussian(num_targets=300, num_nontargets=2000, seed=0, scales=(0.2, 3.0)):
    """(N, K) scores of which each column tells targets apart by itself, and (N,) labels."""
    rng = np.random.default_rng(seed)
    target = np.arange(num_targets + num_nontargets) < num_targets
    return np.column_stack([s * (rng.normal(size=len(target)) + 2 * target) + 5 * s for s in scales]), target


def cost(parameters, scores, target, prior, l2):
    """The definition, trial by trial."""
    weights, offset = np.array(parameters[:-1]), parameters[-1]
    odds = scores @ weights + offset + np.log(prior / (1 - prior))
    miss, alarm = np.logaddexp(0, -odds[target]).mean(), np.logaddexp(0, odds[~target]).mean()
    return prior * miss + (1 - prior) * alarm + l2 / 2 * weights @ weights


@pytest.mark.parametrize(("prior", "l2"), [(0.05, 1e-5), (0.5, 1e-5), (0.01, 0.1)])
@pytest.mark.parametrize("systems", [1, 2])
@pytest.mark.parametrize("shift", [0.0, 20.0], ids=["overlapping", "separable"])
def test_train_linear_gaussian_scores_reaches_the_minimum_that_scikit_learn_finds(prior, l2, systems, shift):
    scores, target = gaussian()
    scores = (scores + shift * target[:, None])[:, :systems]
    model = train_linear(scores, target, ("a", "b")[:systems], prior, l2)
    np.testing.assert_allclose(
        model.apply(scores), naive.calibration(scores, target, prior, l2)(scores), rtol=1e-6, atol=1e-6
    )
    found = np.array([*model.weights, model.offset])
    slope = [
        (cost(found + d, scores, target, prior, l2) - cost(found - d, scores, target, prior, l2)) / 2e-5
        for d in 1e-5 * np.eye(systems + 1)
    ]
    np.testing.assert_allclose(slope, 0, atol=1e-7)


def test_train_linear_scores_that_are_llrs_stay_what_they_are():
    # LLRs of N(d^2 / 2, d^2) against N(-d^2 / 2, d^2); quantiles instead of draws leave no sampling noise.
    from scipy.stats import norm

    d, quantiles = 2.0, norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    llrs = np.concatenate([d * quantiles + d * d / 2, d * quantiles - d * d / 2])
    model = train_linear(3 * llrs - 7, np.arange(40_000) < 20_000, ("a",))
    assert model.weights[0] == pytest.approx(1 / 3, rel=5e-3) and model.offset == pytest.approx(7 / 3, rel=5e-3)


def test_train_linear_calibrated_scores_again_change_nothing():
    scores, target = gaussian(scales=(0.3,))
    llrs = train_linear(scores, target, ("a",), l2=1e-9).apply(scores)
    again = train_linear(llrs, target, ("a",), l2=1e-9)
    np.testing.assert_allclose(again.apply(llrs), llrs, atol=1e-4)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.001, 1000), st.floats(-100, 100))
def test_train_linear_order_unit_and_origin_of_scores_change_nothing(seed, unit, origin):
    scores, target = gaussian(40, 60, scales=(1.0,))
    plain = train_linear(scores, target, ("a",), l2=1e-12).apply(scores)
    order = np.random.default_rng(seed).permutation(100)
    moved = unit * scores[order] + origin
    found = train_linear(moved, target[order], ("a",), l2=1e-12 * unit**2).apply(moved)
    np.testing.assert_allclose(found, plain[order], rtol=1e-5, atol=1e-5)


def test_train_linear_prior_keeps_numbers_of_trials_from_mattering():
    scores, target = gaussian(50, 50, scales=(1.0,))
    repeated = np.concatenate([scores, *[scores[~target]] * 9])
    labels = np.concatenate([target, np.zeros(450, bool)])
    few, many = train_linear(scores, target, ("a",)), train_linear(repeated, labels, ("a",))
    assert many.weights == pytest.approx(few.weights) and many.offset == pytest.approx(few.offset)


@pytest.mark.parametrize("gap", [1e-3, 1.0, 1e6])
def test_train_linear_separable_scores_stay_finite_and_in_order(gap):
    model = train_linear([gap, 2 * gap, 0.0, -gap], [True, True, False, False], ("a",))
    llrs = model.apply([gap, 2 * gap, 0.0, -gap])
    assert np.isfinite(llrs).all() and llrs[1] > llrs[0] > llrs[2] > llrs[3]


def test_train_linear_constant_scores_say_nothing():
    model = train_linear(np.full(5, 0.7), [True, False, False, True, False], ("a",))
    assert model.weights == (0,) and model.apply([0.7, 9.0]) == pytest.approx([0, 0], abs=1e-9)


def test_train_linear_system_twice_shares_the_weight():
    scores, target = gaussian(scales=(1.0,))
    alone = train_linear(scores, target, ("a",), l2=1e-9)
    twice = train_linear(np.column_stack([scores, scores]), target, ("a", "b"), l2=1e-9)
    assert twice.weights[0] == pytest.approx(twice.weights[1], rel=1e-6)
    assert sum(twice.weights) == pytest.approx(alone.weights[0], rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "target", "options", "message"),
    [
        ([1, 2], [True, True], {}, "found 2 and 0"),
        ([1, 2], [False, False], {}, "found 0 and 2"),
        ([1, np.nan], [True, False], {}, "1 of 2 trials have a score that is NaN or infinite"),
        ([1, 2], [True, False], {"prior": 1.0}, "prior"),
        ([1, 2], [True, False], {"l2": 0.0}, "l2"),
    ],
)
def test_train_linear_unusable_input_raises(scores, target, options, message):
    with pytest.raises(ScoringError, match=message):
        train_linear(scores, target, ("a",), **options)


def actual(targets, nontargets):
    return act_dcf(roc(targets, nontargets), 0.05)


def test_select_systems_takes_the_best_first_and_leaves_out_what_does_not_help():
    scores, target = gaussian(600, 4000, scales=(1.0, 1.0, 1.0))
    noise = np.random.default_rng(9).normal(size=len(scores))
    scores = np.column_stack([noise, scores[:, 0] + noise, scores[:, 1], scores[:, 1]])
    choices = select_systems(scores, target, ("noise", "noisy", "good", "good again"), actual)
    costs = [choice.cost for choice in choices]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == len(costs)
    assert choices[0].model.systems == ("good",)
    assert "good again" not in choices[-1].model.systems
    singles = [train_linear(scores[:, i], target, ("x",)).apply(scores[:, i]) for i in range(4)]
    assert choices[0].cost == min(actual(s[target], s[~target]) for s in singles)
    for choice in choices:
        columns = [("noise", "noisy", "good", "good again").index(name) for name in choice.model.systems]
        llrs = train_linear(scores[:, columns], target, choice.model.systems).apply(scores[:, columns])
        assert choice.cost == actual(llrs[target], llrs[~target])


def test_select_systems_stops_at_the_most_allowed_and_refuses_a_name_twice():
    scores, target = gaussian(scales=(1.0, 1.0, 1.0))
    assert len(select_systems(scores, target, ("a", "b", "c"), actual, max_systems=1)) == 1
    with pytest.raises(ScoringError, match="twice: a b a"):
        select_systems(scores, target, ("a", "b", "a"), actual)


@pytest.fixture
def task(tmp_path):
    """Two systems, face and voice, with scores of a dev and an eval set in different orders."""
    for name, seed in (("dev", 0), ("eval", 1)):
        scores, target = gaussian(60, 240, seed)
        lines = [f"m{i % 10} v{i}" for i in range(300)]
        (tmp_path / f"{name}_trials").write_text(
            "".join(f"{line} {'target' if t else 'nontarget'}\n" for line, t in zip(lines, target, strict=True))
        )
        for column, system in enumerate(("face", "voice")):
            (tmp_path / system).mkdir(exist_ok=True)
            rows = range(300) if system == "face" else reversed(range(300))
            text = "".join(f"{lines[row]} {np.float32(scores[row, column])}\n" for row in rows)
            (tmp_path / system / f"{name}_scores").write_text(text)
    return tmp_path


def evaluated(task, system, name):
    from vidperson.io.lists import read_key, read_scores_of

    trials, target = read_key(task / f"{name}_trials")
    values = read_scores_of(task / system / f"{name}_scores", trials)
    return roc(values[target], values[~target])


def calibration(task, **changes):
    given = {"scores_dir": task / "face", "train_set": "dev", "train_trials": task / "dev_trials"}
    calibrate_scores(**{**given, "sets": ["dev", "eval"], "output_dir": task / "face_cal", **changes})


def test_calibrate_scores_makes_llrs_of_all_sets_and_writes_the_model(task):
    calibration(task)
    for name in ("dev", "eval"):
        before, after = evaluated(task, "face", name), evaluated(task, "face_cal", name)
        assert eer(after) == pytest.approx(eer(before), abs=1e-9)
        assert act_dcf(before, 0.05) == 1 > act_dcf(after, 0.05)
    model = json.loads((task / "face_cal/calibration.json").read_text())
    assert model["systems"] == [str(task / "face")] and len(model["weights"]) == 1
    assert (model["prior"], model["l2"], model["trained_on"]) == (0.05, 1e-5, "dev")
    assert (model["num_targets"], model["num_nontargets"]) == (60, 240)
    line = (task / "face/eval_scores").read_text().splitlines()[3].split()
    written = (task / "face_cal/eval_scores").read_text().splitlines()[3].split()
    assert written[:2] == line[:2]
    assert float(written[2]) == pytest.approx(model["weights"][0] * float(line[2]) + model["offset"], rel=1e-6)


def test_fuse_scores_face_and_voice_is_better_than_each_and_names_the_systems(task):
    systems = [str(task / "face"), str(task / "voice")]
    fuse_scores(systems, "dev", task / "dev_trials", ["dev", "eval"], task / "av")
    calibration(task)
    for name in ("dev", "eval"):
        fused = evaluated(task, "av", name)
        assert eer(fused) < min(eer(evaluated(task, system, name)) for system in ("face", "voice"))
    model = json.loads((task / "av/fusion.json").read_text())
    assert sorted(model["systems"]) == sorted(systems) and len(model["weights"]) == 2 and model["eval_priors"] == [0.05]
    first, last = model["selection"]
    assert len(first["systems"]) == 1 and last["systems"] == model["systems"] and last["act_dcf"] < first["act_dcf"]
    assert last["act_dcf"] == pytest.approx(act_dcf(evaluated(task, "av", "dev"), 0.05))


def test_fuse_scores_of_another_evaluation_selects_by_the_mean_cost_at_its_priors(task):
    systems = [str(task / "face"), str(task / "voice")]
    fuse_scores(systems, "dev", task / "dev_trials", ["dev"], task / "av", primary="sre21")
    model = json.loads((task / "av/fusion.json").read_text())
    fused = evaluated(task, "av", "dev")
    assert model["eval_priors"] == [0.01, 0.05]
    assert model["selection"][-1]["act_dcf"] == pytest.approx((act_dcf(fused, 0.01) + act_dcf(fused, 0.05)) / 2)
    with pytest.raises(ScoringError, match="'sre99'; valid: sre19 sre21"):
        fuse_scores(systems, "dev", task / "dev_trials", ["dev"], task / "other", primary="sre99")


def with_first_score(path, score):
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first.rpartition(' ')[0]} {score}\n{rest}")


def without_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda t: without_last_line(t / "voice/dev_scores"),
            ScoringError,
            "dev_trials:1: 1 of 300 pairs, .* are not in .*voice/dev_scores: m0 v0",
        ),
        (
            lambda t: without_last_line(t / "voice/eval_scores"),
            ScoringError,
            "face/eval_scores:1: 1 of 300 pairs, .* are not in .*voice/eval_scores: m0 v0",
        ),
        (lambda t: (t / "voice/eval_scores").write_text("m v nan\n"), DataError, "eval_scores:1"),
        (lambda t: (t / "voice/eval_scores").unlink(), DataError, "eval_scores: no such file"),
        (lambda t: (t / "dev_trials").write_text("m0 v0\n"), ScoringError, "dev_trials has no key"),
        (
            lambda t: (t / "dev_trials").write_text((t / "dev_trials").read_text().replace(" target", " nontarget")),
            ScoringError,
            "dev_trials: expected target and nontarget trials, found 0 and 300",
        ),
        (
            lambda t: with_first_score(t / "face/eval_scores", "3e38"),
            ScoringError,
            r"eval_scores:\d+: 1 of 300 scores would be NaN or infinite, first that of 'm0 v0'",
        ),
    ],
)
def test_fuse_scores_unusable_input_raises_and_nothing_is_written(task, change, error, message):
    change(task)
    with pytest.raises(error, match=message):
        fuse_scores(
            [str(task / s) for s in ("face", "voice")], "dev", task / "dev_trials", ["dev", "eval"], task / "av"
        )
    assert not (task / "av").exists()


def test_calibrate_scores_that_no_file_could_hold_raise_and_nothing_is_written(task):
    with_first_score(task / "face/eval_scores", "-3e38")
    with pytest.raises(ScoringError, match="face/eval_scores:1: 1 of 300 scores would be NaN"):
        calibration(task)
    assert not (task / "face_cal").exists()


def test_calibrate_scores_set_without_scores_raises_and_nothing_is_written(task):
    with pytest.raises(DataError, match="other_scores: no such file"):
        calibration(task, sets=["dev", "other"])
    assert not (task / "face_cal").exists()


@pytest.mark.parametrize("step", ["calibrate", "fuse"])
def test_step_command_line_exit_status_tells_the_outcome(task, step):
    options = ["--train-set=dev", f"--train-trials={task}/dev_trials", "--sets", "eval", f"--output-dir={task}/out"]
    options += [f"--scores-dir={task}/face"] if step == "calibrate" else ["--systems", f"{task}/face"]
    command = [sys.executable, ROOT / f"steps/{step}.py", *options]
    assert subprocess.run(command, env={"PYTHONPATH": str(ROOT)}).returncode == 0
    assert len((task / "out/eval_scores").read_text().splitlines()) == 300
    (task / "face/eval_scores").write_text("m v\n")
    run = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "eval_scores:1" in run.stderr
