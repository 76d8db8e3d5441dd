"""Which systems to fuse: greedy selection, each set of systems fused by prior-weighted logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.backends.calibration import LinearModel, train_linear
from vidperson.errors import ScoringError

Cost = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""(T,) target and (N,) non-target log-likelihood ratios -> what they cost; less is better."""


@dataclass(frozen=True)
class Choice:
    """A fusion and what it costs on the trials that it was trained on."""

    model: LinearModel
    cost: float


def select_systems(
    scores: ArrayLike,
    is_target: ArrayLike,
    systems: Sequence[str],
    cost: Cost,
    max_systems: int = 5,
    prior: float = 0.05,
    l2: float = 1e-5,
    trained_on: str = "",
) -> list[Choice]:
    """The best system, then each time the one that lowers the cost most; the last entry is the fusion to use.

    scores: (N, K) of K systems. is_target: (N,) bool. Ends at ``max_systems``, or before when no system lowers the
    cost further. Of equally good systems the one listed first is taken.

    Raises ScoringError for a system named twice, and as :func:`train_linear`.
    """
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if len(set(systems)) < len(systems):
        raise ScoringError(f"a system is there twice: {' '.join(systems)}")
    chosen: list[int] = []
    choices: list[Choice] = []
    while len(choices) < min(max_systems, len(systems)):
        candidates = []
        for column in (i for i in range(len(systems)) if i not in chosen):
            columns = [*chosen, column]
            names = tuple(systems[i] for i in columns)
            model = train_linear(values[:, columns], target, names, prior, l2, trained_on)
            ratios = model.apply(values[:, columns])
            candidates.append((cost(ratios[target], ratios[~target]), column, model))
        best, column, model = min(candidates, key=lambda candidate: candidate[0])
        if choices and best >= choices[-1].cost:
            break
        chosen.append(column)
        choices.append(Choice(model, best))
    return choices
