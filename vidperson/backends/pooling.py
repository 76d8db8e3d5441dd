"""What the faces of one video are turned into before they are compared: means, clusters, tracks, attention.

Each function takes the (N, dim) float32 embeddings of one video, N > 0, as the network gave them, and returns
(M, dim) float64 ones. The order of the faces does not matter. A single face comes out as it went in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.clustering import average_linkage
from vidperson.backends.exact import Double, length_normalise, mean_row, shares, weighted_means

Float = NDArray[np.float32]

SELF_ATTENTION_SCALE = 2.0
_BLOCK_BYTES = 2**26


def mean(rows: Float) -> Double:
    """(1, dim): the mean of the embeddings as they are, so that short ones (poor faces) weigh less."""
    return mean_row(rows)


def median(rows: Float) -> Double:
    """(1, dim): the median of each number of the embeddings; the mean of the middle two where N is even."""
    return np.median(rows.astype(np.float64), axis=0, keepdims=True)


def norm_mean(rows: Float) -> Double:
    """(1, dim): the mean of the embeddings, each weighted by its length, sum |x| x / sum |x|."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    if not norms.any():
        return mean_row(rows)
    return weighted_means(shares((norms / norms.max())[None]), rows)


def cluster_means(rows: Float, threshold: float, max_bytes: int) -> Double:
    """(clusters, dim): the means of clusters whose average cosine is at least ``threshold``.

    max_bytes bounds the memory, see ``average_linkage``.
    """
    labels = average_linkage(length_normalise(rows), threshold, max_bytes)
    return means_by_label(rows, labels)


def means_by_label(rows: Float, labels: NDArray[np.int64]) -> Double:
    """(labels, dim): the mean of the rows of each label, in order of the labels."""
    return np.concatenate([mean_row(rows[labels == label]) for label in np.unique(labels)])


def self_attention(rows: Float) -> Double:
    """(N, dim): each embedding replaced by the mean of all, weighted by softmax(a cosine) over a row, a = 2.

    The N x N cosines are made in blocks of rows; never more than 64 MiB of them.
    """
    units = length_normalise(rows)
    size = max(1, _BLOCK_BYTES // (8 * len(rows)))
    blocks = (units[begin : begin + size] for begin in range(0, len(rows), size))
    return np.concatenate([attend(block, units, rows, SELF_ATTENTION_SCALE) for block in blocks])


def attend(queries: Double, units: Double, rows: NDArray[np.floating], scale: float) -> Double:
    """(M, dim): for each query the mean of ``rows`` weighted by softmax(scale cosine) over the rows.

    queries: (M, dim) and units: (N, dim), length-normalised; units are those of ``rows``, (N, dim).
    """
    cosines = queries @ units.T
    return weighted_means(shares(np.exp(scale * (np.minimum(cosines, 1.0) - 1.0))), rows)
