"""Cast search by propagation: links of identity and appearance, persons of a frame that object, and competition.

The third place of WIDER Person Search 2019 (github.com/lknight8631) so spreads averaged affinities of faces and bodies;
``propagation`` is its core. What differs was measured on films of real faces and bodies (benchmarks/lab_notes.md):
links are probabilities instead of cosines, which makes bodies and faces comparable; identity adds to appearance
where both candidates show it; the softmax is softer; and a candidate may be nobody.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from vidperson.backends.cast import Compared, Film, Ranking, compared, explain, together
from vidperson.backends.exact import Double
from vidperson.backends.propagation import propagate

SLOPE, MIDDLE = 1.5, 3.0
"""Of the probability that two show the same person, over their cosine in units of :func:`cast.compared`."""
IDENTITY_SHARE = 0.5
"""What the identity of two candidates counts beside their appearance."""
NEAREST = 50
FROZEN, TEMPERATURE, NOBODY = 0.3, 0.2, 0.3


def propagation(film: Film) -> Ranking:
    """Scores are beliefs, 0..1; those of a candidate sum to 1, or less where it may be nobody."""
    cosines = compared(film)
    portraits, identity, appearance = map(same_person, (cosines.portraits, cosines.identity, cosines.appearance))
    links = _nearest(_same_by_both(cosines))
    beliefs = propagate(portraits, links, film.frames, frozen=FROZEN, temperature=TEMPERATURE, nobody=NOBODY)
    reasons = explain(portraits, identity, appearance, beliefs.astype(np.float64), together(film.frames))
    return Ranking(beliefs, *reasons)


def same_person(cosines: Double) -> Double:
    """Probabilities of cosines in units of :func:`cast.compared`; 0 where nothing can be compared."""
    return np.where(np.isnan(cosines), 0.0, 1 / (1 + np.exp(-SLOPE * (np.nan_to_num(cosines) - MIDDLE))))


def _same_by_both(cosines: Compared) -> Double:
    """(N, N) probabilities that two candidates are the same person, by all that can be compared."""
    worn = cosines.appearance
    beside = IDENTITY_SHARE * (cosines.identity - MIDDLE)
    both = np.where(np.isnan(worn), cosines.identity, worn + np.nan_to_num(beside))
    return same_person(both)


def _nearest(links: Double) -> sparse.csr_array:
    """The (N, N) links of each candidate to its nearest, and to those of which it is among the nearest."""
    count = len(links)
    kept = np.zeros(links.shape, dtype=bool)
    nearest = np.argsort(-links, axis=1, kind="stable")[:, :NEAREST]
    kept[np.arange(count)[:, None], nearest] = True
    return sparse.csr_array(np.where(kept | kept.T, links, 0.0))
