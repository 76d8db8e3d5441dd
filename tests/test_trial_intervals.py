"""EER and min DCF as scripts around scikit-learn compute them, ties included, and their intervals over persons."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from steps.evaluate import CostOptions, evaluate_scores
from vidperson import metrics
from vidperson.metrics.intervals import drawn_units
from vidperson.metrics.trials import MIN_PERSONS, drawn_rates, interval, persons_of, trial_intervals


def sweep(targets, nontargets, **options):
    """P_miss and P_fa by falling thresholds, by scikit-learn."""
    labels = np.append(np.ones(len(targets)), np.zeros(len(nontargets)))
    p_fa, hits, _ = roc_curve(labels, np.append(targets, nontargets), **options)
    return 1 - hits, p_fa


def lists(count):
    """Scores of targets and of others: few and many, parted and mixed, half of them with ties."""
    rng = np.random.default_rng(3)
    for number in range(count):
        sizes = rng.integers(1, (12, 40, 400)[number % 3], 2)
        targets = rng.normal(rng.uniform(-1, 3) + 10 * (number % 7 == 0) - 20 * (number % 11 == 0), 1, sizes[0])
        nontargets = rng.normal(0, 1, sizes[1])
        yield (np.round(2 * targets) / 2, np.round(2 * nontargets) / 2) if number % 2 else (targets, nontargets)


def test_eer_at_the_nearest_point_is_that_of_a_script_around_scikit_learn_to_the_last_bit():
    for targets, nontargets in lists(300):
        p_miss, p_fa = sweep(targets, nontargets)
        nearest = np.argmin(np.abs(p_miss - p_fa))
        assert metrics.eer_point(metrics.roc(targets, nontargets)) == max(p_miss[nearest], p_fa[nearest])


def test_min_dcf_of_tied_scores_is_that_over_the_points_of_scikit_learn():
    for targets, nontargets in lists(200):
        curve = metrics.roc(targets, nontargets)
        p_miss, p_fa = sweep(targets, nontargets, drop_intermediate=False)
        for prior in (0.05, 0.01):
            expected = ((prior * p_miss + (1 - prior) * p_fa) / prior).min()
            assert metrics.min_dcf(curve, prior) == pytest.approx(expected, abs=1e-12)


def trial_by_trial(scores, is_target, prior):
    """AVCleanse's minimum: trials are rejected one after the other, ties in the order of the list."""
    target = np.asarray(is_target)[np.argsort(scores, kind="stable")]
    p_miss, p_fa = np.cumsum(target) / target.sum(), 1 - np.cumsum(~target) / (~target).sum()
    return ((prior * p_miss + (1 - prior) * p_fa) / prior).min()


def test_min_dcf_trial_by_trial_is_ours_without_ties_and_depends_on_the_order_of_the_list_with_them():
    rng = np.random.default_rng(0)
    target = rng.random(300) < 0.4
    scores = rng.normal(2 * target, 1)
    ours = metrics.min_dcf(metrics.roc(scores[target], scores[~target]), 0.05)
    assert trial_by_trial(scores, target, 0.05) == pytest.approx(ours, abs=1e-12)
    tied, order = np.round(scores), np.argsort(target, kind="stable")  # non-targets first
    ours = metrics.min_dcf(metrics.roc(tied[target], tied[~target]), 0.05)
    lucky = trial_by_trial(tied[order], target[order], 0.05)
    assert lucky < ours - 0.1 and trial_by_trial(tied[order[::-1]], target[order[::-1]], 0.05) > lucky


def test_persons_are_what_target_trials_join_and_the_rest_is_by_itself():
    #         0-1, 1-2, 3-3 are targets; 4 and 5 are in no target trial
    models, segments = [0, 1, 3, 0, 4, 2], [1, 2, 3, 4, 5, 3]
    first, second = persons_of(models, segments, [True, True, True, False, False, False])
    assert first[0] == first[1] == first[3] == first[5] == second[0] == second[1]
    assert len({*first, *second}) == 4 and first[2] == second[2] == second[5]
    first, second = persons_of([0, 1, 2, 0], [0, 2, 0, 1], [False, True, False, False])  # model 0 is not segment 0
    assert first[0] == first[3] != second[0] == second[2] and first[1] == second[1] == first[2] == second[3]
    assert len({*first, *second}) == 3
    chain = np.arange(200)
    assert len(np.unique(np.concatenate(persons_of(chain, chain + 1, np.ones(200, bool))))) == 1


@pytest.mark.parametrize("digits", [None, 0])
def test_rates_of_each_sample_are_those_of_trials_repeated_as_often_as_they_count(digits):
    rng = np.random.default_rng(1)
    models, segments = rng.integers(0, 8, (2, 120))
    target = models == segments
    scores = rng.normal(1.5 * target, 1) if digits is None else np.round(rng.normal(1.5 * target, 1), digits)
    drawn = list(drawn_rates(scores, target, (models, segments), 60))
    eers = np.concatenate([rates.eer() for rates in drawn])
    costs = np.concatenate([rates.min_dcf(0.05, 2, 3) for rates in drawn])
    for times, eer, cost in zip(drawn_units(8, 60), eers, costs, strict=True):
        count = np.where(models == segments, times[models], times[models] * times[segments])
        curve = metrics.roc(np.repeat(scores[target], count[target]), np.repeat(scores[~target], count[~target]))
        assert eer == pytest.approx(metrics.eer(curve), abs=1e-9)
        assert cost == pytest.approx(metrics.min_dcf(curve, 0.05, 2, 3), abs=1e-9)


def test_interval_over_persons_holds_the_rate_and_is_wider_than_over_trials_that_share_them():
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(12), 6)
    models, segments = np.triu_indices(len(person), 1)
    is_target = person[models] == person[segments]
    own = rng.normal(0, 1, 12)  # some persons are hard
    scores = rng.normal(3 * is_target + own[person[models]] + own[person[segments]], 0.5)
    persons = persons_of(models, segments, is_target)
    found = trial_intervals(scores, is_target, persons, (0.05,))
    (low, high), rate = found["eer"], metrics.eer(metrics.roc(scores[is_target], scores[~is_target]))
    assert (found["persons"], found["draws"], found["level"]) == (12, 1000, 0.95) and low < rate < high
    apart = np.arange(len(scores))  # every trial by itself, drawn as often as its only person
    alone = np.concatenate([rates.eer() for rates in drawn_rates(scores, is_target, (apart, apart), 300)])
    assert high - low > 2 * np.diff(interval(alone))[0]


def test_interval_of_too_few_persons_or_of_samples_without_targets_or_errors_is_none():
    models = np.arange(MIN_PERSONS - 1)
    few = np.repeat(models, 2), np.tile(models, 2)
    assert trial_intervals(np.arange(8), few[0] == few[1], few, (0.05,)) is None
    assert (
        interval(np.array([0.1, np.nan, np.nan])) is None
        and interval(np.zeros(20)) is None
        and interval(np.full(20, 0.25)) == [0.25, 0.25]
    )


def test_evaluated_list_has_the_intervals_of_its_persons(tmp_path):
    rng = np.random.default_rng(4)
    names = [f"p{person}-{clip}" for person in range(6) for clip in range(3)]
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    target = np.array([a[:2] == b[:2] for a, b in pairs])
    scores = rng.normal(target, 0.5).tolist()
    lines = (f"{a} {b} {'target' if same else 'nontarget'}\n" for (a, b), same in zip(pairs, target, strict=True))
    (tmp_path / "trials").write_text("".join(lines))
    (tmp_path / "scores").write_text("".join(f"{a} {b} {s!r}\n" for (a, b), s in zip(pairs, scores, strict=True)))
    output = tmp_path / "set.json"
    evaluate_scores(tmp_path / "scores", tmp_path / "trials", output, {}, CostOptions("0.05 0.01"))
    found = json.loads(output.read_text())["interval"]
    number = np.array([[names.index(name) for name in pair] for pair in pairs])
    persons = number // 3
    rates = trial_intervals(np.float32(scores), target, (persons[:, 0], persons[:, 1]), (0.05, 0.01))
    assert found == rates and found["persons"] == 6 and len(found["min_dcf"]) == 2
