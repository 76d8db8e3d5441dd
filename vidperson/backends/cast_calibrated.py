"""Cast search by log-likelihood ratios: portraits, then a density of examples, exclusive within a frame.

A cosine, in units of the film's pairs of different persons, becomes a log-likelihood ratio: natural logarithm of how
much likelier it is for the same person. To its portrait a cast member adds examples: every candidate, with the
probability that it is this person. A candidate is compared with the density of the examples of a cast member and with
that of everybody else (a kernel density estimate), so that likeness to all says nothing. Probabilities are exclusive:
a candidate is one cast member or nobody, a cast member is in a frame once. Both are repeated until they hardly change.
"""

from __future__ import annotations

import numpy as np

from vidperson.backends.cast import Bool, Compared, Film, Index, Ranking, compared, explain, together
from vidperson.backends.cast_propagation import same_person
from vidperson.backends.exact import Double, round_to_grid

PORTRAIT_SLOPE, PORTRAIT_ZERO = 1.4, 2.5
"""Log-likelihood ratio of a portrait and a candidate: slope times what their cosine exceeds the second by."""
IDENTITY_SLOPE, APPEARANCE_SLOPE, LINK_ZERO = 0.5, 1.25, 2.0
MOST_TOLD = 4.0
"""The same of two candidates, which are at most this: pairs of a film are not independent, and no pair is certain."""
ROUNDS, DAMPING = 10, 0.5
_FEW = 1e-3  # added to sums of probabilities: who has no example is like everybody
_EXTREME = 30.0
_KERNEL_BITS = 24


def calibrated(film: Film) -> Ranking:
    """Scores are natural logarithms of the odds that a candidate is the cast member."""
    cosines, same = compared(film), together(film.frames)
    final, beliefs = _settled(cosines, film.frames, same)
    scores = np.log(np.maximum(final, np.finfo(float).tiny)) - np.log1p(-final)
    seen, identity, appearance = map(same_person, (cosines.portraits, cosines.identity, cosines.appearance))
    return Ranking(scores.astype(np.float32), *explain(seen, identity, appearance, beliefs, same))


def _settled(cosines: Compared, frames: Index, same: Bool) -> tuple[Double, Double]:
    """(C, N) probabilities of the last round, and those that are damped. same: see :func:`cast.together`."""
    count_cast, count = cosines.portraits.shape
    portraits = _ratio(cosines.portraits, PORTRAIT_SLOPE, PORTRAIT_ZERO)
    links = _ratio(cosines.identity, IDENTITY_SLOPE, LINK_ZERO) + _ratio(
        cosines.appearance, APPEARANCE_SLOPE, LINK_ZERO
    )
    others = ~(same | np.eye(count, dtype=bool))
    kernel = round_to_grid(np.exp(np.minimum(links, MOST_TOLD) - MOST_TOLD), _KERNEL_BITS) * others
    prior = -np.log(max(count_cast, 1))  # as likely nobody as any of the cast
    odds = prior + portraits
    beliefs = _exclusive(odds, frames)
    for _ in range(ROUNDS):
        odds = prior + portraits + _examples(beliefs, kernel, others.astype(np.float64))
        beliefs = DAMPING * beliefs + (1 - DAMPING) * _exclusive(odds, frames)
    return _exclusive(odds, frames), beliefs


def _ratio(cosines: Double, slope: float, zero: float) -> Double:
    """Log-likelihood ratios; 0 where nothing can be compared."""
    return np.where(np.isnan(cosines), 0.0, slope * (np.nan_to_num(cosines) - zero))


def _examples(beliefs: Double, kernel: Double, others: Double) -> Double:
    """(C, N) log-likelihood ratios of candidates by the examples of each cast member.

    beliefs: (C, N). kernel: (N, N) likelihood ratios of pairs in units of the largest, 0 within a frame.
    others: (N, N) 1 for pairs that are not in a frame.
    """
    bits = 53 - _KERNEL_BITS - int(np.ceil(np.log2(max(kernel.shape[0], 2))))
    own = round_to_grid(beliefs, bits)  # so that the sums below are exact
    rest = 1 - own
    unit = _FEW * np.exp(-MOST_TOLD)
    mine = (own @ kernel + unit) / (own @ others + _FEW)
    theirs = (rest @ kernel + unit) / (rest @ others + _FEW)
    return np.log(mine) - np.log(theirs)


def _exclusive(odds: Double, frames: Index) -> Double:
    """(C, N) log odds against nobody to probabilities: one cast member per candidate, one candidate per frame."""
    likely = np.exp(np.clip(odds, -_EXTREME, _EXTREME))
    number = np.unique(frames, return_inverse=True)[1]
    in_frame = np.stack([np.bincount(number, row, minlength=1)[number] for row in likely]) if len(odds) else likely
    return likely / (1 + likely.sum(axis=0) + in_frame - likely)
