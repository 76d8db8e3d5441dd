#!/usr/bin/env python3
"""How long it takes to rank segments for persons, on random vectors, and how much memory.

Prints wall and CPU seconds of each back-end, and the largest memory of the process.

    python benchmarks/searching.py --segments 60000 --persons 10034
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from vidperson.backends.identification import ClassMean, Searcher, ShiftedClassMean, Whitened, Whitening
from vidperson.backends.search import search
from vidperson.backends.sets import EmbeddingSets


def random_units(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """(count, dim) float32 of length 1."""
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=60_000, help="segments, of one track each")
    parser.add_argument("--persons", type=int, default=10_034)
    parser.add_argument(
        "--strangers", type=int, default=0, help="known strangers; 0: no shift, and nothing is whitened"
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--best", type=int, default=5, help="persons per segment")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = random_units(rng, arguments.segments, arguments.dim)
    means = random_units(rng, arguments.persons, arguments.dim)
    names = tuple(f"s{i:06d}" for i in range(arguments.segments))
    tracks = EmbeddingSets(names, vectors, np.arange(arguments.segments + 1))
    models = [f"p{i:06d}" for i in range(arguments.persons)]
    searchers: dict[str, Searcher] = {"class-mean": ClassMean(models, means)}
    if arguments.strangers:
        strangers = random_units(rng, arguments.strangers, arguments.dim)
        whitening = Whitening(strangers)
        searchers["class-mean-whitened"] = Whitened(searchers["class-mean"], whitening)
        searchers["class-mean-whitened-shift"] = Whitened(ShiftedClassMean(models, means, strangers), whitening)
    groups = {"all": (np.arange(arguments.persons), np.arange(arguments.segments))}
    print(f"{arguments.segments} segments x {arguments.persons} persons, vectors of {arguments.dim} numbers")
    for name, searcher in searchers.items():
        wall, cpu = time.perf_counter(), time.process_time()
        search(searcher, tracks, groups, arguments.top, arguments.best)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"  {name}: {wall:.1f} s, {cpu:.1f} CPU s")
    print(f"  largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
