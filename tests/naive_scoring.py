"""Scores by double loops, written from the definitions of the back-ends: slow and plain, to compare with."""

from __future__ import annotations

import math

import numpy as np
from sklearn.linear_model import LogisticRegression

COSINE_ERROR = 1e-7


def cosine(a, b):
    norms = math.sqrt(a @ a) * math.sqrt(b @ b)
    return float(a @ b / norms) if norms > 0 else 0.0


def softmax(values):
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def weighted(weights, rows):
    return sum(weight * row for weight, row in zip(weights, rows, strict=True))


def same(rows):
    return list(rows)


def mean(rows):
    return [sum(rows) / len(rows)]


def median(rows):
    columns = [sorted(column) for column in zip(*rows, strict=True)]
    half = len(rows) // 2
    return [np.array([c[half] if len(c) % 2 else (c[half - 1] + c[half]) / 2 for c in columns])]


def norm_mean(rows):
    norms = [math.sqrt(row @ row) for row in rows]
    return [weighted(norms, rows) / sum(norms)] if sum(norms) else mean(rows)


def clusters(rows, threshold=0.8):
    """Merge the pair with the largest mean cosine, from scratch each time."""
    groups = [[row] for row in rows]
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        cosines = [sum(cosine(a, b) for a in groups[i] for b in groups[j]) for i, j in pairs]
        cosines = [c / len(groups[i]) / len(groups[j]) for c, (i, j) in zip(cosines, pairs, strict=True)]
        if max(cosines) < threshold:
            break
        i, j = pairs[int(np.argmax(cosines))]
        groups[j] += groups.pop(i)
    return [sum(group) / len(group) for group in groups]


def self_attention(rows, a=2.0):
    if len(rows) == 1:
        return list(rows)
    return [weighted(softmax([a * cosine(row, other) for other in rows]), rows) for row in rows]


def attended(source, rows, a=4.0):
    return weighted(softmax([a * cosine(source, row) for row in rows]), rows)


def whole(rows, others):
    """The cosine of the first rows."""
    return cosine(rows[0], others[0])


def mean_cosine(rows, others):
    """The mean of the cosines of all pairs."""
    return sum(cosine(row, other) for row in rows for other in others) / (len(rows) * len(others))


def crops(rows, others):
    """The same of the rows after the first."""
    return mean_cosine(*(side[1:] if len(side) > 1 else side for side in (rows, others)))


def whole_crops(rows, others):
    return (whole(rows, others) + crops(rows, others)) / 2


def segment(rows):
    return [rows]


# What segments turn into on either side; their vectors are compared by their cosine. Segments as they are have
# a function of all their rows.
METHODS = {
    "max": (same, same),
    "mean": (mean, same),
    "median": (median, same),
    "ahc-test": (median, clusters),
    "ahc": (clusters, clusters),
    "selfatt-test": (median, self_attention),
    "xatt": (median, self_attention),
    "selfatt-all": (same, self_attention),
    "selfatt": (self_attention, self_attention),
    "norm-mean": (norm_mean, same),
    "whole": (segment, segment),
    "crops": (segment, segment),
    "whole-crops": (segment, segment),
    "mean-cosine": (segment, segment),
}
OF_SEGMENTS = {"whole": whole, "crops": crops, "whole-crops": whole_crops, "mean-cosine": mean_cosine}


def comparisons(backend, enrolment_vectors, test_vectors):
    """Pairs of an enrolment vector and something on the test side: (vector, what, score of any vector with what)."""
    for e in enrolment_vectors:
        if backend in OF_SEGMENTS:
            (rows,) = test_vectors
            yield e, lambda source, rows=rows: OF_SEGMENTS[backend](source, rows)
        elif backend == "xatt":
            yield e, lambda source: cosine(source, attended(source, test_vectors))
        else:
            for t in test_vectors:
                yield e, lambda source, t=t: cosine(source, t)


def score(backend, models, videos, trials, cohort=None, ncoh=0, discard=0):
    """models: per model a list of (n, dim) enrolment segments; videos: (n, dim) arrays; trials: positions.

    With a cohort, (C, dim), adaptive s-norm; 0 for trials without a face on one side.
    """
    return scores_and_errors(backend, models, videos, trials, cohort, ncoh, discard)[0]


def scores_and_errors(backend, models, videos, trials, cohort=None, ncoh=0, discard=0):
    """``score``, and by how much each may be off where cosines are off by 1e-7."""
    enrol, test = METHODS[backend]
    scores, errors = [], []
    for m, v in trials:
        segments = [segment.astype(np.float64) for segment in models[m] if len(segment)]
        faces = videos[v].astype(np.float64)
        if not segments or not len(faces):
            scores.append(0.0)
            errors.append(0.0)
            continue
        vectors = [vector for segment in segments for vector in enrol(list(segment))]
        found = []
        for e, score_of in comparisons(backend, vectors, test(list(faces))):
            value = score_of(e)
            plain = value, COSINE_ERROR
            if cohort is None:
                found.append(plain)
                continue
            others = cohort.astype(np.float64)
            if backend in OF_SEGMENTS:
                others = [[c] for c in others]
            compare = OF_SEGMENTS.get(backend, cosine)
            scores_of_cohort = [score_of(c) for c in others], [compare(e, c) for c in others]
            found.append(snorm(value, *scores_of_cohort, ncoh, discard))
        scores.append(max(value for value, _ in found))
        errors.append(max(error for _, error in found))
    return np.array(scores), np.array(errors)


def snorm(value, against_test, against_enrolment, ncoh, discard):
    """The normalised score, and by how much it may be off; any number where another face may be among those chosen."""
    total, error = 0.0, 0.0
    for choosing, scoring in ((against_test, against_enrolment), (against_enrolment, against_test)):
        order = sorted(range(len(choosing)), key=lambda i: -choosing[i])
        for last in (discard - 1, discard + ncoh - 1):
            if 0 <= last < len(order) - 1 and choosing[order[last]] - choosing[order[last + 1]] < 2 * COSINE_ERROR:
                error = math.inf
        chosen = [scoring[i] for i in order[discard : discard + ncoh]]
        average = sum(chosen) / ncoh
        deviation = max(math.sqrt(sum((x - average) ** 2 for x in chosen) / ncoh), 1e-5)
        total += (value - average) / deviation
        # The score and the mean are off by one cosine's error each, and so is the deviation.
        error += COSINE_ERROR * (2 + abs(value - average) / deviation) / deviation
    return total / math.sqrt(2), error / math.sqrt(2)


def tracks(rows, faces, gap=2.5, overlap=0.1, similarity=0.5, cuts=(), near_s=0.0):
    """Frame by frame, the likeliest link first. cuts: seconds. near_s: as of the package's link."""
    found: list[list[int]] = []
    for frame in sorted(set(faces[:, 0])):
        here = [i for i in range(len(rows)) if faces[i, 0] == frame]
        links = []
        for track in found:
            for i in here:
                cos = cosine(rows[track[-1]], rows[i])
                then, now = faces[track[-1], 1], faces[i, 1]
                if any(then < cut <= now for cut in cuts):
                    continue
                common = iou(faces[track[-1], 2:6], faces[i, 2:6])
                alike = now - then <= gap and common >= overlap and cos >= similarity
                if alike or (now - then <= near_s and common >= 0.4 and cos >= 0.1):
                    links.append((cos, track, i))
        used: list[int] = []
        continued: list[int] = []
        for _, track, i in sorted(links, key=lambda link: -link[0]):
            if i not in used and id(track) not in continued:
                track.append(i)
                used.append(i)
                continued.append(id(track))
        found += [[i] for i in here if i not in used]
    return [sorted(track) for track in found]


def track_means(rows, faces):
    """The mean embedding of each track."""
    return np.array([sum(rows[track]) / len(track) for track in tracks(rows, faces)])


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def calibration(scores, is_target, prior=0.05, l2=1e-5):
    """What turns (N, K) scores into log-likelihood ratios, learnt by scikit-learn from those of one set and its key.

    Its intercept is the offset plus the prior's log odds, and its C the inverse of the penalty. Trials with scores that
    are NaN teach nothing, and their ratio is 0.
    """
    there = ~np.isnan(scores).any(axis=1)
    scores, is_target = scores[there], is_target[there]
    weights = np.where(is_target, prior / np.sum(is_target), (1 - prior) / np.sum(~is_target))
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(scores, is_target, sample_weight=weights)
    offset = model.intercept_[0] - math.log(prior / (1 - prior))
    return lambda scores: np.nan_to_num(scores @ model.coef_[0] + offset, nan=0.0)


def fusion(systems, is_target, cost, most=5):
    """Names of the systems to fuse: each time the one that lowers the cost most, the first of equally good ones.

    systems: name -> (N,) scores. cost: of target and of non-target log-likelihood ratios.
    """
    chosen, paid = [], math.inf
    while len(chosen) < min(most, len(systems)):
        costs = {}
        for name in systems:
            if name not in chosen:
                scores = np.column_stack([systems[other] for other in (*chosen, name)])
                ratios = calibration(scores, is_target)(scores)
                costs[name] = cost(ratios[is_target], ratios[~is_target])
        best = min(costs, key=lambda name: costs[name])
        if costs[best] >= paid:
            break
        chosen, paid = [*chosen, best], costs[best]
    return chosen
