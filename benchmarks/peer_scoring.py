"""The largest cosine of each model's and each segment's faces, in several ways. benchmarks/peers.py runs it.

Inputs:  random embeddings, the same for every way: float32, --models x --model-faces and --segments x --segment-faces.
Outputs: an NPY file of the scores, float32, model by model; on standard output the CPU seconds from embeddings that
         are not normalised to scores, without imports and files.

    products   the float32 products, and nothing else: the floor; its file holds no scores
    ours       vidperson.backends, the back-end max
    numpy      the float32 products and their maxima
    sklearn    sklearn.metrics.pairwise.cosine_similarity, then the maxima by NumPy
    faiss      faiss.pairwise_distances, then the maxima by NumPy; a search (faiss.knn) takes four times as long

The ways of the peers need the packages of requirements/bench.txt and none of ours. Example:
  .venv-bench/bin/python benchmarks/peer_scoring.py --way faiss --models 205 --segments 1000 --output scores.npy
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
BLOCK = 2048  # rows of a product


class Task:
    """models (M * m, D) and segments (S * s, D) float32 embeddings; model_faces, segment_faces: m and s."""

    def __init__(self, models: int, segments: int, model_faces: int, segment_faces: int, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.models = rng.standard_normal((models * model_faces, dim), dtype=np.float32)
        self.segments = rng.standard_normal((segments * segment_faces, dim), dtype=np.float32)
        self.model_faces, self.segment_faces = model_faces, segment_faces

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.models) // self.model_faces, len(self.segments) // self.segment_faces

    def maxima(self, cosines_of: Callable[[Float, Float], Float]) -> Float:
        """(models, segments), the largest cosine of each pair; by blocks of whole sets.

        The sets of more faces are the rows: NumPy finds maxima over rows faster than over neighbours in a row.
        """
        turned = self.segment_faces > self.model_faces
        sides = [(self.models, self.model_faces), (self.segments, self.segment_faces)]
        (rows, row_faces), (columns, column_faces) = sides[::-1] if turned else sides
        step = max(1, BLOCK // row_faces) * row_faces
        found = []
        for first in range(0, len(rows), step):
            cosines = cosines_of(rows[first : first + step], columns)
            of_rows = cosines.reshape(-1, row_faces, len(columns)).max(axis=1)
            found.append(np.maximum.reduceat(of_rows, np.arange(0, len(columns), column_faces), axis=1))
        scores = np.concatenate(found)
        return scores.T if turned else scores


def normalised(rows: Float) -> Float:
    unit: Float = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def products(task: Task) -> Float:
    models, segments = normalised(task.models), normalised(task.segments)
    for first in range(0, len(models), BLOCK):
        models[first : first + BLOCK] @ segments.T
    return np.zeros(0, np.float32)


def numpy(task: Task) -> Float:
    return task.maxima(lambda rows, columns: normalised(rows) @ normalised(columns).T)


def ours(task: Task) -> Float:
    from vidperson.backends import EmbeddingSets, score_pairs
    from vidperson.backends.scorers import Cosine

    models, segments = (
        EmbeddingSets(tuple(map(str, range(len(rows) // size))), rows, np.arange(0, len(rows) + 1, size))
        for rows, size in ((task.models, task.model_faces), (task.segments, task.segment_faces))
    )
    trials = np.stack(np.divmod(np.arange(np.prod(task.shape)), task.shape[1]), axis=1)
    return np.asarray(score_pairs(Cosine(models, segments), trials), np.float32)


def sklearn(task: Task) -> Float:
    from sklearn.metrics.pairwise import cosine_similarity

    return task.maxima(cosine_similarity)


def faiss(task: Task) -> Float:
    import faiss as library

    def cosines(rows: Float, columns: Float) -> Float:
        found: Float = library.pairwise_distances(normalised(rows), normalised(columns), library.METRIC_INNER_PRODUCT)
        return found

    return task.maxima(cosines)


WAYS: dict[str, Callable[[Task], Float]] = {
    "products": products,
    "numpy": numpy,
    "ours": ours,
    "sklearn": sklearn,
    "faiss": faiss,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", required=True, choices=WAYS)
    parser.add_argument("--models", type=int, default=205)
    parser.add_argument("--segments", type=int, default=1000)
    parser.add_argument("--model-faces", type=int, default=20)
    parser.add_argument("--segment-faces", type=int, default=20)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    sizes = (options.models, options.segments, options.model_faces, options.segment_faces, options.dim)
    WAYS[options.way](Task(2, 2, options.model_faces, options.segment_faces, options.dim))  # imports, first calls
    task = Task(*sizes)
    begin = time.process_time()
    scores = WAYS[options.way](task)
    seconds = time.process_time() - begin
    np.save(options.output, scores.ravel().astype(np.float32))
    print(seconds)


if __name__ == "__main__":
    main()
