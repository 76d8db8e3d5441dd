#!/usr/bin/env python3
"""Time of scoring beside that of the bare matrix products it is made of, turn by turn in one run.

Prints CPU seconds and ratios for `max` (all pairs of models and test segments), for the same by plain NumPy and, where
it is installed, by FAISS; for lines of score files; and for adaptive s-norm. The embeddings are random.

Example:
  OMP_NUM_THREADS=1 python benchmarks/scoring.py --models 1000 --segments 2000 --faces 1 5 --cohort 20000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from vidperson.backends import AdaptiveSNorm, EmbeddingSets, score_pairs
from vidperson.backends.scorers import Cosine
from vidperson.backends.trials import rows_in_memory
from vidperson.io.lists import ScoreLines, score_texts


def random_sets(rng: np.random.Generator, sets: int, faces: int, dim: int) -> EmbeddingSets:
    rows = rng.standard_normal((sets * faces, dim), dtype=np.float32)
    return EmbeddingSets(tuple(map(str, range(sets))), rows, np.arange(sets + 1, dtype=np.int64) * faces)


def cpu_seconds(functions: dict[str, Callable[[], object]], repeat: int = 1) -> dict[str, float]:
    """The shortest of some turns of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeat):
        for name, function in functions.items():
            begin = time.process_time()
            function()
            times[name].append(time.process_time() - begin)
    return {name: min(taken) for name, taken in times.items()}


def products(left: NDArray[np.floating], right: NDArray[np.floating]) -> Callable[[], None]:
    """All (A, dim) with all (B, dim), in blocks of 4096 x 1024 of the result."""
    out = np.empty((4096, 1024), dtype=left.dtype)

    def multiply() -> None:
        for i in range(0, len(left), 4096):
            for j in range(0, len(right), 1024):
                rows, columns = left[i : i + 4096], right[j : j + 1024]
                np.matmul(rows, columns.T, out=out[: len(rows), : len(columns)])

    return multiply


def plain_maxima(enrolment: EmbeddingSets, test: EmbeddingSets) -> Callable[[], None]:
    """What a user of NumPy writes: unit vectors, products, the largest of each pair of sets."""

    def score() -> None:
        units = [sets.embeddings / np.linalg.norm(sets.embeddings, axis=1, keepdims=True) for sets in (enrolment, test)]
        models, most = len(enrolment), max(1, 4096 // int(enrolment.counts[0]))
        for i in range(0, models, most):
            offsets = enrolment.offsets[i : min(i + most, models) + 1]
            pairs = units[0][offsets[0] : offsets[-1]] @ units[1].T
            pairs = np.maximum.reduceat(pairs, offsets[:-1] - offsets[0], axis=0)
            np.maximum.reduceat(pairs, test.offsets[:-1], axis=1)

    return score


def faiss_search(enrolment: EmbeddingSets, test: EmbeddingSets) -> dict[str, Callable[[], object]]:
    """The nearest test face of each enrolled one: all products, and one largest for each row."""
    if find_spec("faiss") is None:
        return {}
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(test.embeddings.shape[1])
    index.add(test.embeddings)
    return {"FAISS, the nearest face only": lambda: index.search(enrolment.embeddings, 1)}


def all_trials(models: int, segments: int) -> NDArray[np.int32]:
    return np.stack(np.divmod(np.arange(models * segments, dtype=np.int32), segments), axis=1)


def time_max(enrolment: EmbeddingSets, test: EmbeddingSets, mem_gb: float, repeat: int) -> None:
    trials = all_trials(len(enrolment), len(test))
    rows = enrolment.embeddings, test.embeddings
    taken = cpu_seconds(
        {
            "products, float32": products(*rows),
            "products, float64": products(*(side.astype(np.float64) for side in rows)),
            "max": lambda: score_pairs(Cosine(enrolment, test), trials, mem_gb),
            "plain NumPy": plain_maxima(enrolment, test),
            **faiss_search(enrolment, test),
        },
        repeat,
    )
    for name, seconds in taken.items():
        print(f"  {name}: {seconds:.2f} s, {seconds / taken['products, float32']:.2f} x the products in float32")


def time_lines(count: int, repeat: int) -> None:
    scores = (np.random.default_rng(0).standard_normal(count) / 20).astype(np.float32)
    trials = all_trials(count // 1000 + 1, 1000)[:count]
    names = [f"model{i:06d}" for i in range(count // 1000 + 1)], [f"segment{i:06d}" for i in range(1000)]

    def write() -> None:
        with open("/dev/null", "wb") as stream:
            ScoreLines(stream, *names).write(trials[:, 0], trials[:, 1], scores)

    taken = cpu_seconds(
        {
            "digits": lambda: [len(score_texts(scores[i : i + 2**16])) for i in range(0, count, 2**16)],
            "digits by str()": lambda: [len(str(score)) for score in scores[: count // 10]],
            "whole lines": write,
        },
        repeat,
    )
    taken["digits by str()"] *= 10
    for name, seconds in taken.items():
        print(f"  {name}: {seconds / count * 1e9:.0f} ns a score")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=205)
    parser.add_argument("--segments", type=int, default=1000)
    parser.add_argument("--faces", type=int, nargs=2, default=(20, 20), help="faces per model and per segment")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of a score file; 0: none")
    parser.add_argument("--cohort", type=int, default=0, help="cohort faces; 0: no s-norm")
    parser.add_argument("--ncoh", type=int, default=1000)
    parser.add_argument("--snorm-models", type=int, default=50)
    parser.add_argument("--snorm-segments", type=int, default=100)
    parser.add_argument("--mem-gb", type=float, default=4.0)
    parser.add_argument("--repeat", type=int, default=5, help="turns, of which the fastest counts")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    faces, dim = arguments.faces, arguments.dim

    enrolment = random_sets(rng, arguments.models, faces[0], dim)
    test = random_sets(rng, arguments.segments, faces[1], dim)
    print(f"{arguments.models} models x {arguments.segments} segments, {faces[0]} x {faces[1]} faces of {dim} numbers")
    time_max(enrolment, test, arguments.mem_gb, arguments.repeat)
    if arguments.lines:
        print("score files")
        time_lines(arguments.lines, arguments.repeat)
    if not arguments.cohort:
        return
    enrolment = random_sets(rng, arguments.snorm_models, faces[0], dim)
    test = random_sets(rng, arguments.snorm_segments, faces[1], dim)
    cohort = random_sets(rng, 1, arguments.cohort, dim)
    trials = all_trials(arguments.snorm_models, arguments.snorm_segments)
    scorer = AdaptiveSNorm(Cosine(enrolment, test), cohort, arguments.ncoh)
    units = [sets.embeddings.astype(np.float64) for sets in (enrolment, test, cohort)]
    pairs = [products(units[i], units[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    cohort_scores = [np.ones((len(side), arguments.cohort)) for side in units[:2]]
    taken = cpu_seconds(
        {
            "cosines": lambda: [multiply() for multiply in pairs],
            "selected": lambda: [products(*cohort_scores)() for _ in range(2)],
            "snorm": lambda: score_pairs(scorer, trials, arguments.mem_gb),
        },
        arguments.repeat,
    )
    both = taken["cosines"] + taken["selected"]
    faces_text = f"{len(units[0])} enrolment and {len(units[1])} test faces"
    print(f"s-norm: {faces_text}, {arguments.ncoh} of {arguments.cohort} cohort faces")
    print(f"  blocks of {rows_in_memory(scorer, arguments.mem_gb)} rows")
    for name, seconds in taken.items():
        print(f"  {name}: {seconds:.2f} s, {seconds / both:.2f} x its products")


if __name__ == "__main__":
    main()
