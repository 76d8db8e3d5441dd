#!/usr/bin/env python3
"""How long re-ranking takes and how much memory, on random vectors, beside the definition over full matrices.

Prints CPU seconds, the best of some runs in turn, the largest memory of a process with one run, and the largest
difference of the distances to those over full matrices.

    python benchmarks/reranking.py --counts 1500 5000 20000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.reranking import expanded_cross_neighbourhood, k_reciprocal

Float = NDArray[np.float32]
K1, K2, WEIGHT = 20, 6, 0.3


def persons(count: int, dim: int, spread: float) -> Float:
    """(count, dim) float32 vectors of length 1, about 20 of each person; with a larger spread persons mix."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((max(count // 20, 1), dim), dtype=np.float32)[
        rng.integers(max(count // 20, 1), size=count)
    ]
    rows += np.float32(spread) * rng.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def full_matrices(queries: Float, gallery: Float) -> Float:
    """k-reciprocal encoding (Zhong et al., CVPR 2017) with an array for all pairs at each step, in float32."""
    points = np.concatenate([queries, gallery])
    total, start = len(points), len(queries)
    distance = np.maximum(2 - 2 * (points @ points.T), 0)
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(i: int, count: int) -> NDArray[np.int64]:
        ahead = order[i, : count + 1]
        return ahead[(order[ahead, : count + 1] == i).any(axis=1)]

    encoding = np.zeros((total, total), dtype=np.float32)
    for i in range(total):
        own = reciprocal(i, K1)
        members = [own]
        for j in own:
            theirs = reciprocal(j, round(K1 / 2))
            if 3 * len(np.intersect1d(theirs, own)) > 2 * len(theirs):
                members.append(theirs)
        every = np.unique(np.concatenate(members))
        weights = np.exp(-distance[i, every])
        encoding[i, every] = weights / weights.sum()
    averaged = np.zeros_like(encoding)
    for i in range(total):
        averaged[i] = encoding[order[i, :K2]].mean(axis=0)
    members_of = [np.flatnonzero(column) for column in averaged.T]
    result = np.empty((start, total - start), dtype=np.float32)
    for i in range(start):
        shared = np.zeros(total, dtype=np.float32)
        for j in np.flatnonzero(averaged[i]):
            shared[members_of[j]] += np.minimum(averaged[i, j], averaged[members_of[j], j])
        jaccard = 1 - shared[start:] / (2 - shared[start:])
        result[i] = (1 - WEIGHT) * jaccard + WEIGHT * distance[i, start:]
    return result


METHODS = {"k-reciprocal": k_reciprocal, "ECN": expanded_cross_neighbourhood, "full matrices": full_matrices}


def measure(method: str, count: int, dim: int, spread: float) -> tuple[float, float, Float]:
    """CPU seconds, the largest memory of the process in MiB, and the distances; a tenth of the vectors are queries."""
    rows = persons(count, dim, spread)
    begin = time.process_time()
    found = METHODS[method](rows[: count // 10], rows[count // 10 :])
    return time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1500, 5000, 20_000], help="queries and gallery")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--spread", type=float, default=1.4, help="of a person's vectors; centres have 1 a dimension")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--most-full", type=int, default=5000, help="no full matrices for more vectors")
    arguments = parser.parse_args()
    for count in arguments.counts:
        methods = [name for name in METHODS if name != "full matrices" or count <= arguments.most_full]
        best: dict[str, tuple[float, float]] = {}
        distances: dict[str, Float] = {}
        for _ in range(arguments.runs):
            for name in methods:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    call = pool.submit(measure, name, count, arguments.dim, arguments.spread)
                    spent, memory, distances[name] = call.result()
                best[name] = min(best.get(name, (np.inf, np.inf)), (spent, memory))
        for name, (spent, memory) in best.items():
            print(f"{count} vectors, {name}: {spent:.2f} CPU s, {memory:.0f} MiB", flush=True)
        if "full matrices" in distances:
            difference = np.abs(distances["k-reciprocal"] - distances["full matrices"]).max()
            print(f"{count} vectors, largest difference of k-reciprocal to full matrices: {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
