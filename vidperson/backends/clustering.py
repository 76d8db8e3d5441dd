"""Average-linkage agglomerative clustering of unit vectors by their cosine, exact at any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import UNIT_BITS, Double, round_to_grid

Labels = NDArray[np.int64]
NOBODY_APART: Labels = np.zeros((0, 2), np.int64)
_APART = 1e9  # a distance: as many vectors as there can be do not make up for it
_FEW, _WIDE, _ROWS = 4096, 16384, 64  # vectors at once; rows of which the links are held at once
_ROUNDING = 1e-5  # more than float32 is off


def average_linkage(units: Double, threshold: float, max_bytes: int, apart: Labels = NOBODY_APART) -> Labels:
    """Merge the two clusters with the largest average cosine between their members while it is >= threshold.

    units: (N, dim) float64 rows of length 1 (see ``length_normalise``), N > 0.
    max_bytes: memory to use. The N (N - 1) / 2 distances and SciPy's copy of them take 8 N^2 bytes, 0.5 GiB for
        8,192 faces; where they do not fit, clusters are compared by their mean vectors instead, with memory for
        three times the units. Both give the same clusters; the latter takes O(N^2 dim) time.
    apart: (M, 2) rows that are never in one cluster. Compared by means, they are parted when all is merged.
    Returns (N,) int64 labels from 0 on, numbered by the first member.
    """
    count = len(units)
    if count == 1:
        return np.zeros(1, dtype=np.int64)
    if 8 * count**2 <= max_bytes:
        return _in_order(_by_distances(units, threshold, apart))
    return _in_order(_parted(_by_means(units, threshold), apart))


def _in_order(labels: Labels) -> Labels:
    """The same clusters, numbered from 0 on by the first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _parted(labels: Labels, apart: Labels) -> Labels:
    """The second of two rows that are apart leaves a cluster of both, for one of its own."""
    labels = labels.copy()
    for one, other in apart.tolist():
        if labels[one] == labels[other]:
            labels[other] = labels.max() + 1
    return labels


def linked_clusters(units: Double, threshold: float, max_bytes: int, apart: Labels = NOBODY_APART) -> Labels:
    """The clusters of :func:`average_linkage`, faster where most of many vectors are alike to few others.

    Where the average cosine of two clusters is >= threshold, that of some of their members is, too. So no cluster
    reaches beyond the vectors that such cosines link, directly or through others. Each group of these is clustered by
    itself. A group is found in O(N^2 dim) time, without a loop over vectors. Takes memory for 2^26 cosines beside that
    of the groups.
    """
    count = len(units)
    if count <= _FEW:
        return average_linkage(units, threshold, max_bytes, apart) if count else np.zeros(0, np.int64)
    groups = _linked(units.astype(np.float32), np.float32(threshold - _ROUNDING))
    together = apart[groups[apart[:, 0]] == groups[apart[:, 1]]]
    together = together[np.argsort(groups[together[:, 0]], kind="stable")]
    bounds = np.searchsorted(groups[together[:, 0]], np.arange(groups.max() + 2))
    labels, places = np.empty(count, np.int64), np.empty(count, np.int64)
    order = np.argsort(groups, kind="stable")
    done = 0
    for group, members in enumerate(np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)):
        places[members] = np.arange(len(members))
        pairs = places[together[bounds[group] : bounds[group + 1]]]
        own = average_linkage(units[members], threshold, max_bytes, pairs)
        labels[members] = own + done
        done += int(own.max()) + 1
    return _in_order(labels)


def _linked(vectors: NDArray[np.float32], threshold: np.float32) -> Labels:
    """(N,) number of the group of each vector: those that are linked by cosines >= threshold.

    Links within a group so far are dropped, a few rows at a time: many vectors of one person have N^2 / 2 links.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(vectors)
    groups = np.arange(count)
    for begin in range(0, count, _FEW):
        for other in range(begin, count, _WIDE):
            near = vectors[begin : begin + _FEW] @ vectors[other : other + _WIDE].T >= threshold
            for first in range(0, len(near), _ROWS):
                some = near[first : first + _ROWS]
                own, theirs = groups[begin + first :][: len(some)], groups[other:][: some.shape[1]]
                rows, columns = np.nonzero(some & (own[:, None] != theirs))
                if len(rows):
                    links = np.ones(len(rows), np.bool_), (own[rows], theirs[columns])
                    groups = connected_components(coo_array(links, shape=(count, count)), directed=False)[1][groups]
    return np.asarray(groups, np.int64)


def _by_distances(units: Double, threshold: float, apart: Labels) -> Labels:
    from scipy.cluster.hierarchy import fcluster, linkage

    count = len(units)
    distances = np.empty(count * (count - 1) // 2)
    end = 0
    for begin in range(0, count - 1, 512):
        cosines = units[begin : begin + 512] @ units[begin:].T
        for i, row in enumerate(cosines[: count - 1 - begin]):
            start, end = end, end + count - 1 - begin - i
            np.subtract(1.0, row[i + 1 :], out=distances[start:end])
    np.maximum(distances, 0.0, out=distances)
    low, high = np.sort(apart, axis=1).T
    distances[low * (2 * count - low - 1) // 2 + high - low - 1] = _APART
    tree = linkage(distances, method="average")
    return np.asarray(fcluster(tree, 1.0 - threshold, criterion="distance"), dtype=np.int64)


def _by_means(units: Double, threshold: float) -> Labels:
    """Nearest-neighbour chains (Murtagh, The Computer Journal 26(4), 1983) over the clusters' mean vectors.

    The average cosine between the members of two clusters is the inner product of the means of their unit vectors.
    A merged cluster is never nearer to a third than the nearer of its parts, so a cluster without a neighbour
    within the threshold is final. Means lie on the grid 2^-26: inner products are exact, so that who is nearest
    does not depend on who asks.
    """
    count = len(units)
    labels = np.arange(count, dtype=np.int64)
    sums, means = units.copy(), units.copy()
    sizes = np.ones(count)
    active = np.ones(count, dtype=bool)
    chain: list[int] = []
    while chain or active.any():
        if not chain:
            chain.append(int(np.argmax(active)))
        tip = chain[-1]
        cosines = np.where(active, means @ means[tip], -np.inf)
        cosines[tip] = -np.inf
        nearest = int(np.argmax(cosines))
        if cosines[nearest] < threshold:
            active[chain.pop()] = False
        elif len(chain) > 1 and cosines[chain[-2]] == cosines[nearest]:
            kept, gone = chain.pop(), chain.pop()
            active[gone] = False
            labels[labels == gone] = kept
            sums[kept] += sums[gone]
            sizes[kept] += sizes[gone]
            means[kept] = round_to_grid(sums[kept] / sizes[kept], UNIT_BITS)
        else:
            chain.append(nearest)
    return labels
