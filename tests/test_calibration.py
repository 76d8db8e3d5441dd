"""Calibration and fusion against scikit-learn, closed forms and what must not change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import naive_scoring as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.calibrate import CalibrateOptions, TrainOptions, calibrate
from steps.fuse import FuseOptions, fuse
from steps.score import RunOptions, SystemOptions
from vidperson.backends.calibration import train_linear
from vidperson.backends.fusion import select_systems
from vidperson.backends.systems import System, all_systems, fusion_folders, plain_systems
from vidperson.errors import DataError, ScoringError
from vidperson.io.record import read_record, write_record
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
            (tmp_path / system / "max").mkdir(parents=True, exist_ok=True)
            rows = range(300) if system == "face" else reversed(range(300))
            text = "".join(f"{lines[row]} {np.float32(scores[row, column])}\n" for row in rows)
            (tmp_path / system / "max" / f"{name}_scores").write_text(text)
    return tmp_path


def evaluated(task, system, name):
    from vidperson.io.lists import read_key, read_scores_of

    trials, target = read_key(task / f"{name}_trials")
    values = read_scores_of(task / system / f"{name}_scores", trials)
    return roc(values[target], values[~target])


def systems(task, **changes):
    given = {"scores_dir": task, "embedders": "face", "test_sets": "dev eval", "calibration_set": "dev"}
    return SystemOptions(**given | {"experiment": "av"} | changes)


ONCE = RunOptions()


def calibration(task, run=ONCE, **changes):
    calibrate(CalibrateOptions(TrainOptions(task / "dev_trials"), systems(task, **changes), run))


def fusion(task, run=ONCE, **changes):
    options = systems(task, **{"embedders": "face voice", "fusion_systems": "max", **changes})
    fuse(FuseOptions(TrainOptions(task / "dev_trials"), options, run))


def made(folder):
    """When each file below a folder was written, and its bytes."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_calibrate_makes_llrs_of_all_sets_and_writes_the_model(task):
    calibration(task)
    for name in ("dev", "eval"):
        before, after = evaluated(task, "face/max", name), evaluated(task, "face/max_cal", name)
        assert eer(after) == pytest.approx(eer(before), abs=1e-9)
        assert act_dcf(before, 0.05) == 1 > act_dcf(after, 0.05)
    model = json.loads((task / "face/max_cal/calibration.json").read_text())
    assert model["systems"] == [str(task / "face/max")] and len(model["weights"]) == 1
    assert (model["prior"], model["l2"], model["trained_on"]) == (0.05, 1e-5, "dev")
    assert (model["num_targets"], model["num_nontargets"]) == (60, 240)
    line = (task / "face/max/eval_scores").read_text().splitlines()[3].split()
    written = (task / "face/max_cal/eval_scores").read_text().splitlines()[3].split()
    assert written[:2] == line[:2]
    assert float(written[2]) == pytest.approx(model["weights"][0] * float(line[2]) + model["offset"], rel=1e-6)


def test_calibrate_all_systems_of_all_embedders_in_one_call_gives_the_bytes_of_single_calls(task):
    calibration(task, embedders="face voice")
    both = made(task)
    for embedder in ("face", "voice"):
        shutil.rmtree(task / embedder / "max_cal")
        calibration(task, embedders=embedder)
    lists = [path for path in both if path.name.endswith("_scores") and "max_cal" in str(path)]
    assert len(lists) == 4 and all(path.read_bytes() == both[path][1] for path in lists)


def test_calibrate_makes_only_what_an_input_or_an_option_changes(task):
    calibration(task, embedders="face voice")
    before = made(task)
    calibration(task, embedders="face voice")
    assert made(task) == before
    with_first_score(task / "voice/max/eval_scores", "0.5")
    inputs = made(task)
    calibration(task, embedders="face voice")
    changed = {path.relative_to(task).as_posix() for path, state in made(task).items() if inputs.get(path) != state}
    assert changed == {"voice/max_cal/eval_scores", "voice/max_cal/eval_scores.record.json"}
    calibration(task, embedders="face voice", test_sets="dev eval", max_systems=1, thr_ahc=0.1)
    assert {path for path, state in made(task).items() if before.get(path) != state} >= {task / "voice/max/eval_scores"}
    now = made(task)
    calibration(task, RunOptions(force=True))
    assert {path.parent.name for path, state in made(task).items() if now.get(path) != state} == {"max_cal"}


@pytest.mark.parametrize("step", [calibration, fusion])
def test_step_with_check_says_what_is_to_be_made_and_writes_nothing(task, step, capsys):
    before = made(task)
    with pytest.raises(SystemExit, match="3"):
        step(task, RunOptions(check=True))
    assert capsys.readouterr().out.endswith(" and 2 more\n") and made(task) == before
    step(task)
    with pytest.raises(SystemExit, match="0"):
        step(task, RunOptions(check=True))
    (task / "dev_trials").write_text((task / "dev_trials").read_text() + "\n")
    before = made(task)
    with pytest.raises(SystemExit, match="3"):
        step(task, RunOptions(check=True))
    said = capsys.readouterr().out
    assert said.count(": made again, since its command or inputs have changed (< then, > now):\n") == 1
    assert said.count(": likewise\n") == 2 and said.count("dev_trials ") == 2 and made(task) == before


@pytest.mark.parametrize(("step", "folder"), [(calibration, "face/max_cal"), (fusion, "fusion/av")])
def test_step_makes_edited_scores_again(task, step, folder):
    step(task)
    scores = task / folder / "eval_scores"
    before = scores.read_bytes()
    with_first_score(scores, "7")
    step(task)
    assert scores.read_bytes() == before


@pytest.mark.parametrize(("step", "edited"), [(calibration, "face/max/dev_scores"), (fusion, "voice/max/eval_scores")])
def test_step_refuses_an_edited_input_by_name(task, step, edited):
    write_record(task / edited, ["steps/score.py"], [], [task / edited])
    with_first_score(task / edited, "7")
    with pytest.raises(DataError, match=f"{edited}: expected SHA-256 .*, found .*; put it back, or run"):
        step(task)
    assert not list(task.glob("face/max_cal/*_scores")) and not list(task.glob("fusion/av/*_scores"))


def test_fuse_face_and_voice_is_better_than_each_and_names_the_systems(task):
    names = [str(task / "face/max"), str(task / "voice/max")]
    fusion(task)
    for name in ("dev", "eval"):
        fused = evaluated(task, "fusion/av", name)
        assert eer(fused) < min(eer(evaluated(task, f"{system}/max", name)) for system in ("face", "voice"))
    model = json.loads((task / "fusion/av/fusion.json").read_text())
    assert sorted(model["systems"]) == sorted(names) and len(model["weights"]) == 2 and model["eval_priors"] == [0.05]
    first, last = model["selection"]
    assert len(first["systems"]) == 1 and last["systems"] == model["systems"] and last["act_dcf"] < first["act_dcf"]
    assert last["act_dcf"] == pytest.approx(act_dcf(evaluated(task, "fusion/av", "dev"), 0.05))


def test_fuse_systems_elsewhere_and_of_an_earlier_run_is_not_refused(task):
    shutil.copytree(task / "face/max", task / "face/median")  # no back-end of this experiment
    shutil.move(task / "voice/max", task / "elsewhere")
    fusion(task, embedders="face", fusion_systems=f"max median {task}/elsewhere")
    record = read_record(task / "fusion/av/eval_scores")
    assert record and [str(task / name) for name in ("face/max", "face/median", "elsewhere")] == record.command[3:6]


def test_fuse_two_experiments_do_not_touch_each_other(task):
    fusion(task)
    before = made(task / "fusion/av")
    fusion(task, experiment="face_alone", embedders="face")
    assert made(task / "fusion/av") == before and (task / "fusion/face_alone/eval_scores").is_file()
    record = read_record(task / "fusion/face_alone/eval_scores")
    assert record and str(task / "voice/max") not in " ".join(record.command)
    with pytest.raises(ScoringError, match="experiment: expected the name of a folder for the fusion, found ''"):
        fusion(task, experiment="")


def test_fuse_of_another_evaluation_selects_by_the_mean_cost_at_its_priors(task):
    fusion(task, test_sets="dev", primary_cost="sre21")
    model = json.loads((task / "fusion/av/fusion.json").read_text())
    fused = evaluated(task, "fusion/av", "dev")
    assert model["eval_priors"] == [0.01, 0.05]
    assert model["selection"][-1]["act_dcf"] == pytest.approx((act_dcf(fused, 0.01) + act_dcf(fused, 0.05)) / 2)
    with pytest.raises(ScoringError, match="'sre99'; valid: sre19 sre21"):
        fusion(task, primary_cost="sre99")


def with_first_score(path, score):
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first.rpartition(' ')[0]} {score}\n{rest}")


def without_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda t: without_last_line(t / "voice/max/dev_scores"),
            ScoringError,
            "dev_trials:1: 1 of 300 pairs, .* are not in .*voice/max/dev_scores: m0 v0",
        ),
        (
            lambda t: without_last_line(t / "voice/max/eval_scores"),
            ScoringError,
            "face/max/eval_scores:1: 1 of 300 pairs, .* are not in .*voice/max/eval_scores: m0 v0",
        ),
        (lambda t: (t / "voice/max/eval_scores").write_text("m v nan\n"), DataError, "eval_scores:1"),
        (lambda t: (t / "other/eval_scores").unlink(), ScoringError, "there is no .*other/eval_scores; run"),
        (lambda t: (t / "dev_trials").write_text("m0 v0\n"), ScoringError, "dev_trials has no key"),
        (
            lambda t: (t / "dev_trials").write_text((t / "dev_trials").read_text().replace(" target", " nontarget")),
            ScoringError,
            "dev_trials: expected target and nontarget trials, found 0 and 300",
        ),
        (
            lambda t: with_first_score(t / "face/max/eval_scores", "3e38"),
            ScoringError,
            r"eval_scores:\d+: 1 of 300 scores would be NaN or infinite, first that of 'm0 v0'",
        ),
    ],
)
def test_fuse_unusable_input_raises_and_nothing_is_written(task, change, error, message):
    shutil.copytree(task / "voice/max", task / "other")
    change(task)
    with pytest.raises(error, match=message):
        fusion(task, fusion_systems=f"max {task}/other" if "other" in message else "max")
    assert not (task / "fusion").exists()


def test_calibrate_scores_that_no_file_could_hold_raise_and_nothing_is_written(task):
    with_first_score(task / "face/max/eval_scores", "-3e38")
    with pytest.raises(ScoringError, match="face/max/eval_scores:1: 1 of 300 scores would be NaN"):
        calibration(task)
    assert not (task / "face/max_cal").exists()


def test_calibrate_set_without_scores_raises_and_nothing_is_written(task):
    with pytest.raises(DataError, match="other_scores: no such file"):
        calibration(task, test_sets="dev other")
    assert not (task / "face/max_cal").exists()


@pytest.mark.parametrize("step", ["calibrate", "fuse"])
def test_step_command_line_exit_status_tells_the_outcome(task, step):
    options = [f"--train-trials={task}/dev_trials", "--test-sets", "dev eval", f"--scores-dir={task}"]
    options += ["--embedders", "face", "--calibration-set", "dev", "--experiment", "out"]
    options += ["--fusion-systems", "max"] if step == "fuse" else []
    command = [sys.executable, ROOT / f"steps/{step}.py", *options]
    assert subprocess.run(command, env={"PYTHONPATH": str(ROOT)}).returncode == 0
    output = task / ("fusion/out" if step == "fuse" else "face/max_cal") / "eval_scores"
    assert len(output.read_text().splitlines()) == 300
    (task / "face/max/eval_scores").write_text("m v\n")
    run = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "eval_scores:1" in run.stderr


def test_all_systems_stand_in_the_order_of_the_tables():
    plain = [one for embedder in "ef" for one in plain_systems(embedder, ["max", "v5", "max"], "dev", "train")]
    names = [system.folder for system in all_systems(plain, "cal", ("norm",))]
    norms = ("", "_snorm", "_submean", "_submean_snorm")
    per = [f"{name}{norm}{cal}" for name in ("max", "v5") for norm in norms for cal in ("", "_cal", "_qmf")]
    assert names == [f"{embedder}/{name}" for embedder in "ef" for name in per]
    assert [system.folder for system in all_systems(plain_systems("e", ["max"]))] == ["e/max"]
    assert System("fusion", "fusion", calibrated_on="dev", experiment="a+b").folder == "fusion/a+b"


def test_fusion_folders_plain_names_mean_every_embedder_and_paths_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["max", "e/ahc_snorm", "./voice/ecapa", "/there/x", "../up", "a/b/c", "./one"]
    folders = [str(folder) for folder in fusion_folders(names, Path("exp/scores"), ["e", "f"], ())]
    assert folders == [
        *("exp/scores/e/max", "exp/scores/f/max", "exp/scores/e/ahc_snorm"),
        *("voice/ecapa", "/there/x", "../up", "a/b/c", "one"),
    ]


def test_fusion_folders_name_that_may_mean_two_folders_is_refused_with_what_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voice/ecapa").mkdir(parents=True)
    with pytest.raises(ScoringError, match="found only a folder voice/ecapa here; write ./voice/ecapa$"):
        fusion_folders(["voice/ecapa"], Path("exp/scores"), ["e"], ())
    match = "voice/ecapa is a system below exp/scores and a folder here; write exp/scores/voice/ecapa or ./voice/ecapa$"
    with pytest.raises(ScoringError, match=match):
        fusion_folders(["voice/ecapa"], Path("exp/scores"), ["e"], ["voice/ecapa"])
    assert fusion_folders(["./voice/ecapa"], Path("exp/scores"), ["e"], ()) == [Path("voice/ecapa")]
