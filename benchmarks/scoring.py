#!/usr/bin/env python3
"""Time of scoring beside that of the bare matrix products it is made of, in one run.

Prints CPU seconds and ratios for `max` (all pairs of models and test segments) and for adaptive s-norm. The
embeddings are random. Products are measured on some blocks and multiplied by how many there are.

Example:
  python benchmarks/scoring.py --models 200 --segments 2000 --cohort 20000 --snorm-segments 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidperson.backends import AdaptiveSNorm, EmbeddingSets, score_pairs
from vidperson.backends.scorers import Cosine
from vidperson.backends.trials import rows_in_memory


def random_sets(rng: np.random.Generator, sets: int, faces: int, dim: int) -> EmbeddingSets:
    rows = rng.standard_normal((sets * faces, dim), dtype=np.float32)
    return EmbeddingSets(tuple(map(str, range(sets))), rows, np.arange(sets + 1, dtype=np.int64) * faces)


def cpu_seconds(function: Callable[[], object], repeat: int = 1) -> float:
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return min(times)


def product_seconds(rng: np.random.Generator, a: int, b: int, inner: int, dtype: type) -> float:
    """CPU seconds of (a x inner) times (inner x b), in blocks of 2048 x 1024 of the result, measured on one of them."""
    left: NDArray[np.floating] = rng.random((min(a, 2048), inner)).astype(dtype)
    right: NDArray[np.floating] = rng.random((min(b, 1024), inner)).astype(dtype)
    seconds = cpu_seconds(lambda: left @ right.T, 3)
    return seconds * a * b / (len(left) * len(right))


def all_trials(models: int, segments: int) -> NDArray[np.int64]:
    return np.stack(np.divmod(np.arange(models * segments), segments), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=10000)
    parser.add_argument("--faces", type=int, default=20, help="faces per model and per segment")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--cohort", type=int, default=20000, help="cohort faces; 0: no s-norm")
    parser.add_argument("--ncoh", type=int, default=1000)
    parser.add_argument("--snorm-models", type=int, default=50)
    parser.add_argument("--snorm-segments", type=int, default=100)
    parser.add_argument("--mem-gb", type=float, default=4.0)
    parser.add_argument("--repeat", type=int, default=1, help="turns, of which the fastest counts")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)

    e, t = arguments.models * arguments.faces, arguments.segments * arguments.faces
    enrolment = random_sets(rng, arguments.models, arguments.faces, arguments.dim)
    test = random_sets(rng, arguments.segments, arguments.faces, arguments.dim)
    trials = all_trials(arguments.models, arguments.segments)
    double, single = (product_seconds(rng, e, t, arguments.dim, dtype) for dtype in (np.float64, np.float32))
    taken = cpu_seconds(lambda: score_pairs(Cosine(enrolment, test), trials, arguments.mem_gb), arguments.repeat)
    print(f"max: {arguments.models} models x {arguments.segments} segments x {arguments.faces} faces")
    print(f"  {taken:.2f} s; {taken / double:.2f} x the products in float64, {taken / single:.2f} x those in float32")

    if not arguments.cohort:
        return
    e, t = arguments.snorm_models * arguments.faces, arguments.snorm_segments * arguments.faces
    enrolment = random_sets(rng, arguments.snorm_models, arguments.faces, arguments.dim)
    test = random_sets(rng, arguments.snorm_segments, arguments.faces, arguments.dim)
    cohort = random_sets(rng, 1, arguments.cohort, arguments.dim)
    trials = all_trials(arguments.snorm_models, arguments.snorm_segments)
    scorer = AdaptiveSNorm(Cosine(enrolment, test), cohort, arguments.ncoh)
    cosines = sum(
        product_seconds(rng, a, b, arguments.dim, np.float64)
        for a, b in ((e, t), (e, arguments.cohort), (t, arguments.cohort))
    )
    selected = 2 * product_seconds(rng, e, t, arguments.cohort, np.float64)
    taken = cpu_seconds(lambda: score_pairs(scorer, trials, arguments.mem_gb), arguments.repeat)
    print(f"s-norm: {e} enrolment and {t} test faces, {arguments.ncoh} of {arguments.cohort} cohort faces")
    print(f"  blocks of {rows_in_memory(scorer, arguments.mem_gb)} rows")
    print(f"  {taken:.2f} s; {taken / (cosines + selected):.2f} x its products ({cosines:.2f} s of cosines, ")
    print(f"  {selected:.2f} s of squares times selections); {taken / cosines:.2f} x the cosines")


if __name__ == "__main__":
    main()
