"""Scores to log-likelihood ratios: an affine map, trained by prior-weighted logistic regression.

Source: N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20 (2006); N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU submission for
the NIST SRE 2006", IEEE Transactions on Audio, Speech and Language Processing 15 (2007), for several systems at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import ScoringError
from vidperson.types import Calibration

OF_CARDS_PRIOR = 0.1
"""Weight of the targets for the calibration of a network: on the other half of LFW's View 1 the log-likelihood ratios
of three networks cost least (Cllr) with 0.1 to 0.5, and with 0.1 too many fewer pairs are false alarms."""
_OF_CARDS_L2 = 1e-9  # slopes of cosines are large: the usual penalty takes 5 % of them away
_MOST_NONTARGETS = 1_000_000  # what more of them tell is not worth the time
_DIGITS = 4
_MOST_STEPS = 100
_OF_MEASURES = ("measures", "usual")
_ENOUGH = 1e-15  # of the cost, which is below 1: what another Newton step would still gain


@dataclass(frozen=True)
class LinearModel:
    """Log-likelihood ratio = offset + sum of weight * input over the scores of the systems, and the measures.

    prior, l2, num_targets, num_nontargets, trained_on: how it was trained.
    measures: names of further inputs, which may be unknown (NaN). usual: what is taken for each then, its mean in
        training.
    """

    systems: tuple[str, ...]
    weights: tuple[float, ...]
    offset: float
    prior: float
    l2: float
    trained_on: str
    num_targets: int
    num_nontargets: int
    measures: tuple[str, ...] = ()
    usual: tuple[float, ...] = ()

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(N, K) scores and measures, or (N,) scores of the only system, to (N,) natural log-likelihood ratios."""
        values = np.asarray(scores, dtype=np.float64)
        values = _filled(values.reshape(len(values), len(self.weights)), self.usual)
        return np.asarray(values @ np.array(self.weights) + self.offset)

    def as_dict(self) -> dict[str, Any]:
        """What the JSON file holds: of a model without measures nothing about them."""
        return {name: value for name, value in asdict(self).items() if self.measures or name not in _OF_MEASURES}


def _filled(values: NDArray[np.float64], usual: Sequence[float]) -> NDArray[np.float64]:
    """(N, K) inputs with what is usual in the place of NaN, in the last columns."""
    if not usual:
        return values
    values = values.copy()
    last = values[:, -len(usual) :]
    np.copyto(last, np.array(usual), where=np.isnan(last))
    return values


def train_linear(
    scores: ArrayLike,
    is_target: ArrayLike,
    systems: tuple[str, ...],
    prior: float = 0.05,
    l2: float = 1e-5,
    trained_on: str = "",
    weights: ArrayLike | None = None,
    measures: tuple[str, ...] = (),
) -> LinearModel:
    """Logistic regression in which targets weigh ``prior`` and non-targets 1 - ``prior``, whatever their numbers.

    scores: (N, K) of K systems, or (N,) of one. is_target: (N,) bool. systems: their K names.
    Minimises, with x the score times weight plus offset and L = logit(prior),
    prior * mean over targets of ln(1 + e^-(x + L)) + (1 - prior) * mean over non-targets of ln(1 + e^(x + L))
    + l2 / 2 * sum of the squared weights, by Newton steps that are halved until the cost falls. The penalty keeps the
    weights finite where scores part targets from non-targets without error, and gives constant scores the weight 0.
    weights: (N,) of the scores, from 0 on, which sum to 1, in place of those means.
    measures: names of further columns behind those of the systems. NaN there is unknown: the mean of the others.

    Raises ScoringError without targets or without non-targets, for scores that are not finite, and for a prior or
    penalty that cannot be.
    """
    target = np.asarray(is_target, dtype=bool)
    values = np.asarray(scores, dtype=np.float64).reshape(len(target), len(systems) + len(measures))
    num_targets = int(np.count_nonzero(target))
    num_nontargets = len(target) - num_targets
    if not num_targets or not num_nontargets:
        raise ScoringError(
            f"expected target and nontarget trials to train on, found {num_targets} and {num_nontargets}"
        )
    if not 0 < prior < 1:
        raise ScoringError(f"expected a target prior strictly between 0 and 1, found {prior:g}")
    if not 0 < l2 < math.inf:
        raise ScoringError(f"expected a finite penalty l2 above 0, found {l2:g}")
    usual = tuple(_known_mean(values[:, len(systems) + i]) for i in range(len(measures)))
    values = _filled(values, usual)
    broken = np.count_nonzero(~np.isfinite(values).all(axis=1))
    if broken:
        raise ScoringError(f"{broken} of {len(values)} trials have a score that is NaN or infinite")

    # Centred and scaled, so that the steps are exact whatever the unit of the scores is.
    mean, scale = values.mean(axis=0), values.std(axis=0)
    flat = scale <= 1e-14 * np.maximum(1, np.abs(mean))
    scale[flat] = 1
    inputs = np.column_stack([np.where(flat, 0, (values - mean) / scale), np.ones(len(values))])
    trial_weights = np.where(target, prior / num_targets, (1 - prior) / num_nontargets)
    if weights is not None:
        trial_weights = np.asarray(weights, dtype=np.float64)
    signs = np.where(target, -1.0, 1.0)
    penalty = np.append(l2 / scale**2, 0)
    log_odds = math.log(prior) - math.log1p(-prior)

    def cost(at: NDArray[np.float64]) -> float:
        losses = np.logaddexp(0, signs * (inputs @ at + log_odds))
        return float(trial_weights @ losses + 0.5 * penalty @ at**2)

    found = np.zeros(values.shape[1] + 1)
    now = cost(found)
    for _ in range(_MOST_STEPS):
        errors = 1 / (1 + np.exp(np.clip(-signs * (inputs @ found + log_odds), -700, 700)))
        gradient = inputs.T @ (trial_weights * signs * errors) + penalty * found
        curvature = (inputs * (trial_weights * errors * (1 - errors))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.lstsq(curvature, -gradient, rcond=None)[0]
        gain = float(-gradient @ step)
        share = 1.0
        while share > 1e-10 and cost(found + share * step) > now - 1e-4 * share * gain:
            share /= 2
        if gain <= _ENOUGH or share <= 1e-10:
            break
        found = found + share * step
        now = cost(found)
    slopes = np.where(flat, 0, found[:-1] / scale)
    return LinearModel(
        systems=tuple(systems),
        weights=tuple(slopes.tolist()),
        offset=float(found[-1] - slopes @ mean),
        prior=prior,
        l2=l2,
        trained_on=trained_on,
        num_targets=num_targets,
        num_nontargets=num_nontargets,
        measures=measures,
        usual=usual,
    )


def _known_mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; 0 of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def calibration_of_scores(scores: ArrayLike, is_target: ArrayLike, measured_on: str) -> Calibration:
    """The calibration of a network's card, by logistic regression of (N,) cosines of pairs, see :func:`train_linear`.

    Of very many non-targets every n-th counts, so that memory and time stay small; ``num_nontargets`` says how many.
    Raises ScoringError as there, and where the same person has no higher cosines than others.
    """
    values, target = np.asarray(scores, np.float64), np.asarray(is_target, bool)
    others = values[~target]
    others = others[:: max(1, -(-len(others) // _MOST_NONTARGETS))]
    values = np.concatenate([values[target], others])
    is_first = np.arange(len(values)) < len(values) - len(others)
    found = train_linear(values, is_first, ("cosine",), OF_CARDS_PRIOR, _OF_CARDS_L2)
    if not found.weights[0] > 0:
        raise ScoringError("pairs of one person have no higher cosines than others; is the key that of these scores?")
    slope, offset = round(found.weights[0], _DIGITS), round(found.offset, _DIGITS)
    return Calibration(slope, offset, measured_on, found.num_targets, found.num_nontargets)
