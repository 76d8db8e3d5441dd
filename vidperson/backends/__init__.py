"""Set-to-set scoring: which back-ends there are and how they are called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.cosine import max_cosine
from vidperson.backends.enrolment import replace_missing_reference
from vidperson.backends.sets import EmbeddingSets, Index
from vidperson.errors import ScoringError

Backend = Callable[[EmbeddingSets, EmbeddingSets, Index], NDArray[np.float32]]
"""(enrolment, test, (T, 2) trial positions) -> (T,) float32 scores."""

BACKENDS: dict[str, Backend] = {"max": max_cosine}

__all__ = ["BACKENDS", "Backend", "EmbeddingSets", "get_backend", "max_cosine", "replace_missing_reference"]


def get_backend(name: str) -> Backend:
    """Raises ScoringError naming the valid back-ends for any other name."""
    if name not in BACKENDS:
        raise ScoringError(f"no back-end '{name}'; valid: {' '.join(BACKENDS)}")
    return BACKENDS[name]
