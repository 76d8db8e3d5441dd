"""Which utterances of a training list have the wrong label, by one or several modalities.

Two steps, as the abstract of AVCleanse (Tao et al., ICASSP 2023, arXiv 2210.15903) names them. Its code is not
published, so what is done in them here is our own. A class is all that is labelled as one person.

Coarse. In each modality a class has a robust centre: the mean of its largest group of utterances that are alike,
without those that turn out wrong. The cosine of an utterance with the centre of its class, itself left out, becomes a
log-likelihood ratio of right against wrong. Cosines with centres of other classes show how wrong ones are distributed.
What remains of the cosines with own centres are right ones: as with the local false discovery rate (Efron, "Large-Scale
Inference", 2010).

Fine. The modalities are joined by the states in which an utterance can be: right, of somebody else, or wrong in one
modality only. The nearest other class in each modality is compared by all modalities.

Nothing depends on the order of utterances but the draws, which follow from their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.clustering import average_linkage
from vidperson.backends.exact import length_normalise
from vidperson.backends.identification import Products

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

ROUNDS = 3
MOST_LINKED = 1500
"""Members of a class among which its largest group is searched; evenly spaced where it has more."""
SMALLEST_GROUP = 3
APART = 4.0
"""Distance of the means of two normal distributions, in their mean deviation, from which they are two."""
NOT_LIKE_CLASS, LIKE_OTHER, DUPLICATE, SPLIT = "not_like_class", "like_other", "duplicate", "split"
DIFFERS, NO_ITEMS, NOT_JUDGED = "differs", "no_items", "not_judged"
_PRIOR_ROWS = 20.0
_MOST_WRONG = 0.9
_MOST_STEPS = 200
_MOST_FOR_PRIORS = 100_000
_PAIRS = 20_000
_IMPOSTOR_ROWS, _CLASSES_EACH = 20_000, 10
_BINS = 400
_ROWS_AT_ONCE = 4096
_LINK_BYTES = 2**26


@dataclass(frozen=True)
class View:
    """What one modality tells of the utterances.

    rows: (M,) int64 numbers of the utterances that it knows, ascending. vectors: (M, D) float32, one of each.
    """

    name: str
    rows: Index
    vectors: Float


@dataclass(frozen=True)
class Calibration:
    """From a similarity to the log-likelihood ratio of right against wrong.

    edges: (B + 1,) borders of bins. ratios: (B,) natural logarithms, not falling.
    share: of the utterances, that are wrong. counts, impostors: (B,) scores of own and of other classes.
    """

    edges: Double
    ratios: Double
    share: float
    counts: Index
    impostors: Index

    def __call__(self, scores: NDArray[np.floating]) -> Double:
        """Any shape; NaN gives 0: nothing is known."""
        middles = (self.edges[:-1] + self.edges[1:]) / 2
        found = np.interp(scores, middles, self.ratios)
        return np.where(np.isnan(scores), 0.0, found)

    def threshold(self) -> float | None:
        """The lowest similarity that speaks for the own class; None where none does."""
        if self.ratios[-1] <= 0:  # they do not fall
            return None
        return round(float(self.edges[np.argmax(self.ratios > 0)]), 4)

    def histogram(self) -> dict[str, list[float]]:
        """``edges``, ``targets`` and ``nontargets``, in 50 bins: similarities to the own and to other classes."""
        each = _BINS // 50
        counts = {"targets": self.counts, "nontargets": self.impostors}
        bins = {name: count.reshape(-1, each).sum(axis=1).tolist() for name, count in counts.items()}
        return {"edges": [round(edge, 5) for edge in self.edges[::each].tolist()], **bins}


def calibrate(own: Double, other: Double) -> Calibration | None:
    """own: (N,) similarities to the own centres, a part of them wrong. other: (K,) to centres of other classes.

    Without others, as in a list of one class, those that are wrong are the lower of two normal distributions. None
    where these are not apart.
    """
    if not len(other):
        other = _lower_component(own)
        if not len(other):
            return None
    low, high = float(min(own.min(), other.min())), float(max(own.max(), other.max()))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    counts, impostors = np.histogram(own, edges)[0], np.histogram(other, edges)[0]
    wrong, all_of_them = _smooth(other, impostors, edges), _smooth(own, counts, edges)
    width = edges[1] - edges[0]
    # How many are wrong: hardly any right one is less like its own centre than half of the others are.
    mark = np.median(other)
    share = min(float(np.mean(own <= mark)) / float(np.mean(other <= mark)), _MOST_WRONG)
    right = np.maximum(all_of_them - share * wrong, 0)
    # Right ones have one mode: what rises again on its left side are wrong ones that the estimate missed.
    mode = int(np.argmax(right)) + 1
    right[:mode] = np.minimum(right[:mode], np.minimum.accumulate(all_of_them[:mode][::-1])[::-1])
    right[:mode] = _rising(right[:mode], np.ones(mode))
    share = min(max(1 - float(right.sum()) * width, 0.0), _MOST_WRONG)
    right = np.maximum(right / (right.sum() * width), 0.5 / len(own) / width / _BINS)
    wrong = np.maximum(wrong, 0.5 / len(other) / width / _BINS)
    ratios = _rising(np.log(right / wrong), (right + wrong) * width)
    return Calibration(edges, ratios, share, counts, impostors)


def _lower_component(values: Double) -> Double:
    """(101,) quantiles of the lower of two normal distributions that are fitted to (N,) values; none if not apart."""
    low, high = np.quantile(values, (0.05, 0.75))
    means, spreads, weights = np.array([low, high]), np.full(2, max(float(values.std()) / 2, 1e-6)), np.full(2, 0.5)
    for _ in range(_MOST_STEPS):
        logs = np.log(weights) - np.log(spreads) - 0.5 * ((values[:, None] - means) / spreads) ** 2
        shares = _posteriors(logs)
        total = shares.sum(axis=0) + 1e-9
        weights, means = total / total.sum(), (shares * values[:, None]).sum(axis=0) / total
        spreads = np.sqrt((shares * (values[:, None] - means) ** 2).sum(axis=0) / total + 1e-6)
    apart = (means[1] - means[0]) / math.sqrt(float(np.square(spreads).mean()))
    if apart < APART or weights[0] * len(values) < 2 or weights[0] > 0.5:
        return np.zeros(0)
    normal = NormalDist(float(means[0]), float(spreads[0]))
    return np.array([normal.inv_cdf(share) for share in np.linspace(0.005, 0.995, 101)])


def _smooth(values: Double, counts: Index, edges: Double) -> Double:
    """(B,) density of a histogram, by a Gaussian kernel of the width of Silverman's rule."""
    width = edges[1] - edges[0]
    spread = min(float(values.std()), float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / 1.34) or float(
        values.std()
    )
    bandwidth = max(0.9 * spread * len(values) ** -0.2, width)
    reach = min(len(counts) - 1, math.ceil(4 * bandwidth / width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * width / bandwidth) ** 2)
    return np.convolve(counts, kernel / kernel.sum(), mode="same") / (len(values) * width)


def _rising(values: Double, weights: Double) -> Double:
    """The nearest sequence that never falls, by weighted squares: pool adjacent violators."""
    means: list[float] = []
    totals: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        totals.append(weight)
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = totals[-2] + totals[-1]
            means[-2] = (means[-2] * totals[-2] + means[-1] * totals[-1]) / total
            totals[-2] = total
            sizes[-2] += sizes[-1]
            del means[-1], totals[-1], sizes[-1]
    return np.repeat(means, sizes)


class Centres:
    """The robust centres of one modality.

    classes: (N,) int64 class of each utterance. count: C classes.
    core: (M,) bool, the vectors that make the centres. sums: (C, D) float64 of their unit vectors. sizes: (C,).
    """

    def __init__(self, view: View, classes: Index, count: int, seed: int) -> None:
        self.view, self.count = view, count
        self.of = classes[view.rows]
        self.order = np.argsort(self.of, kind="stable")
        self.bounds = np.searchsorted(self.of[self.order], np.arange(count + 1))
        self._rng = np.random.default_rng(seed)
        self.threshold = self._threshold()
        self.core = self._largest_groups()
        self.estimate()

    def units(self, rows: Index) -> Double:
        return length_normalise(self.view.vectors[rows])

    def _blocks(self) -> Iterator[Index]:
        for begin in range(0, len(self.of), _ROWS_AT_ONCE):
            yield np.arange(begin, min(begin + _ROWS_AT_ONCE, len(self.of)))

    def _threshold(self) -> float:
        """The cosine at which as many pairs of a class are less alike as pairs of different classes are more alike."""
        sizes = np.diff(self.bounds)[self.of]
        several = np.flatnonzero(sizes > 1)
        self.unlike = math.inf
        if not len(several):
            return math.inf
        left = several[self._rng.integers(len(several), size=_PAIRS)]
        place = self._rng.integers(np.iinfo(np.int64).max, size=_PAIRS)
        right = self.order[self.bounds[self.of[left]] + place % sizes[left]]
        same = self._cosines(left[left != right], right[left != right])
        left, right = self._rng.integers(len(self.of), size=(2, _PAIRS))
        different = self._cosines(*(side[self.of[left] != self.of[right]] for side in (left, right)))
        self.unlike = float(np.quantile(different, 0.9995)) if len(different) else math.inf
        if not len(different):
            middle = np.median(same)
            return float(middle - 3 * 1.4826 * np.median(np.abs(same - middle)))
        marks = np.unique(np.concatenate([same, different]))
        below = np.searchsorted(np.sort(same), marks) / len(same)
        above = 1 - np.searchsorted(np.sort(different), marks) / len(different)
        return float(marks[np.argmin(np.abs(below - above))])

    def _cosines(self, left: Index, right: Index) -> Double:
        parts = [slice(begin, begin + _ROWS_AT_ONCE) for begin in range(0, len(left), _ROWS_AT_ONCE)]
        found = [(self.units(left[part]) * self.units(right[part])).sum(axis=1) for part in parts]
        return np.concatenate(found) if found else np.zeros(0)

    def _largest_groups(self) -> Mask:
        core = np.zeros(len(self.of), bool)
        for begin, end in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            members = self.order[begin:end]
            if len(members) > MOST_LINKED:
                members = members[np.linspace(0, len(members) - 1, MOST_LINKED).astype(np.int64)]
            if len(members) < 3:
                core[members] = True
                continue
            labels = average_linkage(self.units(members), self.threshold, _LINK_BYTES)
            core[members[labels == np.argmax(np.bincount(labels))]] = True
        return core

    def estimate(self) -> None:
        """Make the centres of what is in ``core``."""
        self.sizes = np.bincount(self.of[self.core], minlength=self.count)
        self.sums = np.zeros((self.count, self.view.vectors.shape[1]))
        for rows in self._blocks():
            rows = self.order[rows]
            rows = rows[self.core[rows]]
            if len(rows):
                starts = np.flatnonzero(np.diff(self.of[rows], prepend=-1))
                self.sums[self.of[rows[starts]]] += np.add.reduceat(self.units(rows), starts, axis=0)
        self.lengths = np.sqrt(np.square(self.sums).sum(axis=1))

    def keep(self, core: Mask) -> None:
        """Make the centres of these (M,) vectors; a class without any of them keeps what it has."""
        filled = np.bincount(self.of[core], minlength=self.count) > 0
        self.core = np.where(filled[self.of], core, self.core)
        self.estimate()

    def same(self, left: int, right: int, least: float) -> bool:
        """Whether two utterances have a cosine above ``least``, or one of them no vector."""
        at = np.searchsorted(self.view.rows, (left, right))
        if (at == len(self.view.rows)).any() or (self.view.rows[at] != (left, right)).any():
            return True
        return bool(np.multiply(*self.units(at)).sum() > least)

    def own(self) -> Double:
        """(M,) cosines with the own centres, each vector itself left out; NaN where no other is left."""
        found = np.full(len(self.of), np.nan)
        for rows in self._blocks():
            units, mine = self.units(rows), self.of[rows]
            inside = self.core[rows]
            along, square = (units * self.sums[mine]).sum(axis=1), self.lengths[mine] ** 2
            length = np.sqrt(np.maximum(square - inside * (2 * along - 1), 0))
            left = self.sizes[mine] - inside
            good = (left > 0) & (length > 1e-9)
            found[rows[good]] = (along - inside)[good] / length[good]
        return found

    def impostors(self) -> Double:
        """(K,) cosines of vectors with centres of other classes, drawn; the same draw each time."""
        there = np.flatnonzero(self.lengths > 1e-9)
        if not len(there):
            return np.zeros(0)
        rng = np.random.default_rng(1)
        rows = np.arange(len(self.of))
        if len(rows) > _IMPOSTOR_ROWS:
            rows = np.sort(rng.choice(rows, _IMPOSTOR_ROWS, replace=False))
        drawn = there[rng.integers(len(there), size=(_CLASSES_EACH, len(rows)))]
        found = []
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[begin : begin + _ROWS_AT_ONCE]
            units = self.units(some)
            for other in drawn[:, begin : begin + _ROWS_AT_ONCE]:
                cosines = (units * self.sums[other]).sum(axis=1) / self.lengths[other]
                found.append(cosines[other != self.of[some]])
        return np.concatenate(found)

    def nearest_others(self) -> tuple[Index, Double]:
        """(M,) the class beside the own one with the nearest centre, -1 for none, and (M,) the cosine with it."""
        there = np.flatnonzero(self.lengths > 1e-9)
        where = np.full(self.count, -1)
        where[there] = np.arange(len(there))
        found, cosines = np.full(len(self.of), -1), np.full(len(self.of), np.nan)
        if not len(there):
            return found, cosines
        products = Products((self.sums[there] / self.lengths[there, None]).T)
        for rows in self._blocks():
            scores = products(self.units(rows))
            own = where[self.of[rows]]
            scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
            best = scores.argmax(axis=1)
            cosine = scores[np.arange(len(rows)), best]
            good = np.isfinite(cosine)
            found[rows[good]], cosines[rows[good]] = there[best[good]], cosine[good]
        return found, cosines

    def cosines_with(self, classes: Index) -> Double:
        """(M,) cosines of the vectors with the centre of the (M,) classes; NaN for class -1 or one without centre."""
        found = np.full(len(self.of), np.nan)
        for rows in self._blocks():
            rows = rows[(classes[rows] >= 0) & (self.lengths[classes[rows]] > 1e-9)]
            other = classes[rows]
            found[rows] = (self.units(rows) * self.sums[other]).sum(axis=1) / self.lengths[other]
        return found


def state_priors(ratios: Double) -> Double:
    """(N, V) log-likelihood ratios of V modalities that all are known -> (S,) how often each state is.

    States: right; wrong in all; of several modalities also wrong in modality v only. By expectation maximisation.
    """
    return _priors(_likelihoods(ratios), np.zeros(0))


def _likelihoods(ratios: Double) -> Double:
    """(N, S) logarithms, beside those of the state that is wrong in all."""
    total = ratios.sum(axis=1)
    alone = [total - ratios[:, v] for v in range(ratios.shape[1])] if ratios.shape[1] > 1 else []
    return np.stack([total, np.zeros(len(ratios)), *alone], axis=1)


def _priors(table: Double, before: Double) -> Double:
    """before: (S,) priors of others, which count as ``_PRIOR_ROWS`` rows; none: unknown."""
    states = table.shape[1]
    table = table[:: -(-len(table) // _MOST_FOR_PRIORS)]
    start = np.append(1 - 0.02 * (states - 1), np.full(states - 1, 0.02))
    priors, pseudo = (before, _PRIOR_ROWS * before) if len(before) else (start, start)
    for _ in range(_MOST_STEPS):
        shares = _posteriors(table + np.log(priors))
        new = (shares.sum(axis=0) + pseudo) / (len(shares) + pseudo.sum())
        change, priors = np.abs(new - priors).max(), new
        if change < 1e-7:
            break
    return priors


def _posteriors(logs: Double) -> Double:
    """(N, S) logarithms, any constant per row -> (N, S) shares of their row."""
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Judged:
    """Probabilities of the states of N utterances, by V modalities.

    right: that the label is right in all modalities that are known. somebody: that all are of a person who is no class
    of the list, or not known to be one. other: that they are of the class ``nearest``. only: (N, V) that just this
    modality is not of the class.
    """

    right: Double
    somebody: Double
    other: Double
    only: Double

    def doubts(self, view: int) -> Double:
        """(N,) probability that a modality is not of the class."""
        return self.somebody + self.other + self.only[:, view]


def judge(ratios: Double, known: Mask, evidence: Double, classes: int) -> Judged:
    """ratios: (N, V) log-likelihood ratios for the own class, 0 where not known. known: (N, V).

    evidence: (N,) the sum of ratios for the nearest other class, -inf for none. classes: in the list.
    Utterances that lack a modality have priors of their own, so far as they are enough to tell.
    """
    count, views = ratios.shape
    found = Judged(np.ones(count), np.zeros(count), np.zeros(count), np.zeros((count, views)))
    complete = known.all(axis=1)
    everywhere = state_priors(ratios[complete]) if views > 1 and complete.any() else np.zeros(0)
    patterns = known @ (1 << np.arange(views))
    for pattern in np.unique(patterns[patterns > 0]).tolist():
        rows = np.flatnonzero(patterns == pattern)
        inside = np.flatnonzero(known[rows[0]])
        table = _likelihoods(ratios[np.ix_(rows, inside)])
        if len(everywhere) and len(inside) == views:
            priors = everywhere
        else:
            priors = _priors(table, _marginal(everywhere, inside))
        listed = math.log(0.5 * priors[1] / max(classes - 1, 1))
        logs = np.column_stack([table + np.log(priors), evidence[rows] + listed])
        logs[:, 1] = math.log((0.5 if classes > 1 else 1.0) * priors[1])
        shares = _posteriors(logs)
        found.right[rows], found.somebody[rows], found.other[rows] = shares[:, 0], shares[:, 1], shares[:, -1]
        if len(inside) > 1:
            found.only[np.ix_(rows, inside)] = shares[:, 2:-1]
    return found


def _marginal(priors: Double, inside: Index) -> Double:
    """Priors of the states of some modalities by those of all; nothing is known where there are none."""
    if not len(priors):
        return priors
    wrong = priors[1] + (priors[2 + inside[0]] if len(inside) == 1 else 0.0)
    only = priors[2 + inside] if len(inside) > 1 else np.zeros(0)
    return np.concatenate([[1 - wrong - only.sum()], [wrong], only])


@dataclass(frozen=True)
class Cleansed:
    """What was found of N utterances, by V modalities.

    similarity: (N, V) cosine with the own centre, NaN where not known. known: (N, V) whether there is a vector.
    judged: as :class:`Judged`. nearest: (N,) the other class that is likeliest, -1 for none. noisy: (N,).
    twin: (N,) another utterance, with another label, that is the same in all modalities; -1 for none.
    group: (N,) number of the group of those that are alike, but not like their class; 0 for none, per class from 1 on.
    merges: pairs of classes that may be one person, and the share of the utterances of the first that say so.
    calibrations: by modality; None where nothing could be told. limit: of the probability to be wrong.
    """

    similarity: Double
    known: Mask
    judged: Judged
    nearest: Index
    noisy: Mask
    twin: Index
    group: Index
    merges: list[tuple[int, int, float]]
    calibrations: list[Calibration | None]
    limit: float

    def reason(self, row: int, names: Sequence[str]) -> str:
        """Why an utterance is noisy, or could not be judged; "" for one that is simply clean."""
        judged = self.judged
        if not self.known[row].any():
            return NO_ITEMS
        if not self.noisy[row]:
            return "" if np.isfinite(self.similarity[row]).any() else NOT_JUDGED
        if self.twin[row] >= 0:
            return DUPLICATE
        if self.group[row]:
            return SPLIT
        states = [judged.other[row], judged.somebody[row], *judged.only[row]]
        best = int(np.argmax(states))
        return (LIKE_OTHER, NOT_LIKE_CLASS)[best] if best < 2 else f"{names[best - 2]}_{DIFFERS}"


def cleanse(
    classes: Index, count: int, views: Sequence[View], precision: float | None = None, duplicate: float = 0.98
) -> Cleansed:
    """classes: (N,) int64 class of each utterance, 0 to ``count`` - 1.

    precision: the utterances that are likeliest to be wrong are noisy, as many as can be for this share of them to be
    wrong, as estimated; None: those that are wrong with more than 0.5. duplicate: cosine from which two are the same.
    """
    centres = [Centres(view, classes, count, seed) for seed, view in enumerate(views)]
    known = np.zeros((len(classes), len(views)), bool)
    for v, each in enumerate(centres):
        known[each.view.rows, v] = True
    nothing = np.full(len(classes), -np.inf)
    for last in [False] * ROUNDS + [True]:
        similarity, ratios, calibrations = _own_evidence(centres, known)
        if last:
            break
        judged = judge(ratios, known, nothing, 1)
        for v, each in enumerate(centres):
            each.keep(judged.doubts(v)[each.view.rows] <= 0.5)
    nearest, evidence, found = _nearest(centres, known, calibrations)
    judged = judge(ratios, known, evidence, count)
    noisy, limit = _decide(1 - judged.right, precision)
    noisy |= ~known.any(axis=1)
    twin = _twins(centres, found, known, 1 - judged.right, duplicate)
    noisy |= twin >= 0
    group = _groups(centres, classes, known, noisy & (twin < 0) & (judged.somebody > judged.other))
    merges = _merges(classes, count, nearest, ~noisy & (evidence > math.log(max(count - 1, 1))))
    return Cleansed(similarity, known, judged, nearest, noisy, twin, group, merges, calibrations, limit)


def _own_evidence(centres: Sequence[Centres], known: Mask) -> tuple[Double, Double, list[Calibration | None]]:
    """(N, V) similarities and log-likelihood ratios, and the calibrations."""
    similarity, ratios = np.full(known.shape, np.nan), np.zeros(known.shape)
    calibrations: list[Calibration | None] = []
    for v, each in enumerate(centres):
        own = each.own()
        similarity[each.view.rows, v] = own
        there = own[np.isfinite(own)]
        calibrations.append(calibrate(there, each.impostors()) if len(there) else None)
        if (calibration := calibrations[v]) is not None:
            ratios[each.view.rows, v] = calibration(own)
    return similarity, ratios, calibrations


def _nearest(
    centres: Sequence[Centres], known: Mask, calibrations: Sequence[Calibration | None]
) -> tuple[Index, Double, list[Index]]:
    """(N,) the likeliest of the other classes that are nearest in a modality, and (N,) the sum of its ratios.

    -1 and -inf for none. And of each modality the nearest other class of its vectors.
    """
    nearest, evidence = np.full(len(known), -1), np.full(len(known), -np.inf)
    found = []
    for each in centres:
        others = each.nearest_others()[0]
        found.append(others)
        proposed = np.full(len(known), -1)
        proposed[each.view.rows] = others
        total = np.where(proposed >= 0, 0.0, -np.inf)
        for one, calibration in zip(centres, calibrations, strict=True):
            if calibration is not None:
                total[one.view.rows] += calibration(one.cosines_with(proposed[one.view.rows]))
        better = total > evidence
        nearest[better], evidence[better] = proposed[better], total[better]
    return nearest, evidence, found


def _decide(wrong: Double, precision: float | None) -> tuple[Mask, float]:
    """Which are noisy, by the (N,) probabilities to be wrong, and the lowest probability of those."""
    if precision is None:
        return wrong > 0.5, 0.5
    values = np.sort(wrong)[::-1]
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    count = int(np.count_nonzero(means >= precision))  # they fall
    limit = float(values[count - 1]) if count else math.inf
    return wrong >= limit, limit


def _twins(centres: Sequence[Centres], nearest: Sequence[Index], known: Mask, wrong: Double, duplicate: float) -> Index:
    """(N,) of the utterances that are the same as one of another class and likelier to be wrong, that one; else -1.

    The centre of another class that is nearest to an utterance names the class to compare it with.
    """
    twin = np.full(len(known), -1)
    for v, each in enumerate(centres):
        rows = each.view.rows
        order = np.argsort(nearest[v], kind="stable")
        ends = np.searchsorted(nearest[v][order], np.arange(each.count + 1))
        least = max(duplicate, each.unlike)
        for other in np.flatnonzero(np.diff(ends)).tolist():
            mine = order[ends[other] : ends[other + 1]]
            theirs = each.order[each.bounds[other] : each.bounds[other + 1]]
            for some, others in product(_parts(mine), _parts(theirs)):
                for left, right in np.argwhere(each.units(some) @ each.units(others).T > least).tolist():
                    pair = int(rows[some[left]]), int(rows[others[right]])
                    if all(one.same(*pair, duplicate) for one in centres):
                        worse, better = sorted(pair, key=lambda row: (-wrong[row], -row))
                        twin[worse] = better if twin[worse] < 0 else min(twin[worse], better)
    return twin


def _parts(rows: Index) -> list[Index]:
    """Rows, some at a time."""
    return [rows[begin : begin + _ROWS_AT_ONCE] for begin in range(0, len(rows), _ROWS_AT_ONCE)]


def _groups(centres: Sequence[Centres], classes: Index, known: Mask, doubted: Mask) -> Index:
    """(N,) number of the group of the doubted ones of a class that are alike, of 3 or more; 0 for none."""
    found = np.zeros(len(classes), np.int64)
    rows = np.flatnonzero(doubted)
    rows = rows[np.argsort(classes[rows], kind="stable")]
    for members in np.split(rows, np.flatnonzero(np.diff(classes[rows])) + 1):
        number = 0
        for some in [centres, *([each] for each in centres if len(centres) > 1)]:
            inside = np.array([v for v, each in enumerate(centres) if each in some])
            left = members[known[np.ix_(members, inside)].all(axis=1) & (found[members] == 0)][:MOST_LINKED]
            if len(left) < SMALLEST_GROUP:
                continue
            joined = np.concatenate([each.units(np.searchsorted(each.view.rows, left)) for each in some], axis=1)
            threshold = float(np.mean([each.threshold for each in some]))
            labels = average_linkage(length_normalise(joined), threshold, _LINK_BYTES)
            for label in np.flatnonzero(np.bincount(labels) >= SMALLEST_GROUP).tolist():
                number += 1
                found[left[labels == label]] = number
    return found


def _merges(classes: Index, count: int, nearest: Index, alike: Mask) -> list[tuple[int, int, float]]:
    """Pairs of classes, where at least half of the utterances of the first are (N,) alike to the second."""
    sizes = np.bincount(classes, minlength=count)
    pairs, votes = np.unique(classes[alike] * count + nearest[alike], return_counts=True)
    found = []
    for pair, number in zip(pairs.tolist(), votes.tolist(), strict=True):
        first, second = divmod(pair, count)
        if number >= 2 and 2 * number >= sizes[first]:
            found.append((first, second, number / int(sizes[first])))
    return found
