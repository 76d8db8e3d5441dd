#!/usr/bin/env python3
"""A gallery of very many persons: how long the tracks of a minute of video take, beside flat indices of FAISS.

Faces are drawn: each is a random direction of its person plus noise, so that two of a person have the cosine that
``--cosine`` says. Prints per way CPU seconds of making and of searching once (the best of three), the largest memory of
its process, and the share of tracks for which the right person comes first. FAISS and NumPy get ``--threads`` threads.

    pip install faiss-cpu
    python benchmarks/galleries.py --persons 100000 --faces 10 --tracks 60
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import length_normalise
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.types import Calibration

Float = NDArray[np.float32]
Search = Callable[[Float], NDArray[np.int64]]
CALIBRATION = Calibration(36.8, -7.36, "two thresholds")
AT_ONCE = 500  # persons


def people(count: int, dim: int) -> Float:
    """(count, dim) directions of persons, length 1."""
    rows = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def faces_of(units: Float, each: int, cosine: float, seed: int) -> Float:
    """(count, each, dim) faces of persons, length 1; two of a person have about this cosine."""
    noise = np.random.default_rng(seed).standard_normal((len(units), each, units.shape[1]), dtype=np.float32)
    noise *= np.float32(np.sqrt((1 - cosine) / cosine / units.shape[1]))
    rows = units[:, None] + noise
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def blocks(options: argparse.Namespace) -> Iterator[tuple[int, Float]]:
    """First person, and the faces of some, of the whole gallery."""
    units = people(options.persons, options.dim)
    for begin in range(0, options.persons, AT_ONCE):
        yield begin, faces_of(units[begin : begin + AT_ONCE], options.faces, options.cosine, begin + 1)


def ours(options: argparse.Namespace) -> Search:
    portraits = (
        Portrait("", f"{begin + row:07d}", face)
        for begin, some in blocks(options)
        for row, own in enumerate(some)
        for face in length_normalise(own)
    )
    gallery = Gallery.of(portraits)

    def search(tracks: Float) -> NDArray[np.int64]:
        units = length_normalise(tracks)
        rows, _ = gallery.nearest(units, CALIBRATION)
        return rows[gallery.cosines(units, rows).argmax(axis=1)]

    search(tracks_of(options)[0][:1])  # the 8-bit vectors are made once
    return search


def flat_faces(options: argparse.Namespace) -> Search:
    import faiss

    index = faiss.IndexFlatIP(options.dim)
    for _, some in blocks(options):
        index.add(some.reshape(-1, options.dim))
    return lambda tracks: index.search(tracks, 10)[1][:, 0] // options.faces


def flat_means(options: argparse.Namespace) -> Search:
    import faiss

    index = faiss.IndexFlatIP(options.dim)
    for _, some in blocks(options):
        means = some.mean(axis=1)
        index.add(means / np.linalg.norm(means, axis=1, keepdims=True))
    return lambda tracks: index.search(tracks, 64)[1][:, 0]


WAYS = {"ours": ours, "faiss-faces": flat_faces, "faiss-means": flat_means}


def tracks_of(options: argparse.Namespace) -> tuple[Float, NDArray[np.int64]]:
    """(tracks, dim) tracks, and whom each shows."""
    who = np.random.default_rng(7).integers(0, options.persons, options.tracks)
    return faces_of(people(options.persons, options.dim)[who], 1, options.cosine, 10**6)[:, 0], who


def measure(way: str, options: argparse.Namespace) -> None:
    """Print a row; run in a process of its own."""
    begin = time.process_time()
    search = WAYS[way](options)
    made = time.process_time() - begin
    tracks, who = tracks_of(options)
    seconds, wall = [], []
    for _ in range(3):
        start = time.process_time(), time.perf_counter()
        found = search(tracks)
        seconds.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    right = float((found == who).mean())
    print(f"| {way} | {made:.1f} | {min(seconds):.3f} | {min(wall):.3f} | {peak:.2f} | {right:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=100_000)
    parser.add_argument("--faces", type=int, default=10)
    parser.add_argument("--tracks", type=int, default=60)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--cosine", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all, in turn")
    options = parser.parse_args()
    if options.threads != int(os.environ.get("OMP_NUM_THREADS", "0")):
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # read when NumPy is loaded
        os.execv(sys.executable, [sys.executable, *sys.argv])
    print("| | made, CPU s | searched, CPU s | searched, s | memory, GiB | right person first |")
    print("|---|---|---|---|---|---|", flush=True)
    for way in options.ways:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(way, options))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
