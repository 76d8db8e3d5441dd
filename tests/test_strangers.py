"""Thresholds for strangers and the probability of nobody."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vidperson.backends.strangers import probabilities, threshold_for, train_nobody
from vidperson.errors import ScoringError


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.29, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_threshold_is_the_lowest_that_a_share_of_the_strangers_reach(rate, count):
    scores = np.random.default_rng(count).choice(np.linspace(-1, 1, 41), count).astype(np.float32)
    threshold = threshold_for(scores, count, rate)
    allowed = rate * count + 1e-9
    assert np.count_nonzero(scores >= np.float32(threshold)) <= allowed
    lower = np.nextafter(np.float32(threshold), np.float32(-9))
    assert np.count_nonzero(scores >= lower) > allowed or np.all(scores >= np.float32(threshold))


def test_threshold_strangers_without_an_item_count_and_reach_nothing():
    assert threshold_for([0.5, 0.25], 200, 0.01) == 0.25
    assert np.float32(threshold_for([0.5, 0.25], 100, 0.01)) == np.nextafter(np.float32(0.25), np.float32(1))


def test_threshold_read_from_text_is_reached_by_the_same_scores():
    scores = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    texts = [float(str(score)) for score in scores]
    threshold = threshold_for(texts, 500, 0.1)
    assert sum(score >= threshold for score in texts) == 50


def test_threshold_without_a_stranger_is_refused():
    with pytest.raises(ScoringError, match="expected a stranger"):
        threshold_for([], 3, 0.01)


def test_probabilities_are_those_of_a_logistic_regression_with_as_many_strangers():
    rng = np.random.default_rng(2)
    known, strangers = rng.normal(0.5, 0.2, 4000), rng.normal(0.1, 0.2, 1000)
    model = train_nobody(known, strangers, "system", "valid")
    scores = np.linspace(-0.5, 1, 9)
    # Two normal distributions of one width: the log-odds are linear, and known.
    expected = [1 / (1 + 4 * math.exp((-((score - 0.5) ** 2) + (score - 0.1) ** 2) / (2 * 0.2**2))) for score in scores]
    np.testing.assert_allclose(probabilities(model, scores), expected, atol=0.03)
    # At the optimum the mean probability is the share of the strangers, of whom 1 / 1002 counts as known.
    expected = (1000 * 1001 / 1002 + 4000 / 4002) / 5000
    assert probabilities(model, np.concatenate([known, strangers])).mean() == pytest.approx(expected, abs=1e-6)
    assert (model.num_targets, model.num_nontargets) == (1000, 4000)


def test_few_segments_without_an_error_give_no_certainty():
    """The optimum passes through Platt's probabilities where each kind has one score."""
    model = train_nobody([0.9] * 8, [0.2] * 5, "system", "valid")
    np.testing.assert_allclose(probabilities(model, [0.9, 0.2]), [1 / 10, 6 / 7], atol=1e-3)


@pytest.mark.parametrize(("known", "strangers"), [([], [1.0]), ([1.0], [])])
def test_train_nobody_without_either_kind_is_refused(known, strangers):
    with pytest.raises(ScoringError, match="to calibrate on, found"):
        train_nobody(known, strangers, "system", "valid")
