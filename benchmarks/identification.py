#!/usr/bin/env python3
"""What each idea of identifying persons in clips gains: mAP@100 on pseudo-clips out of aligned photos.

Inputs:  FACES_DIR/train_{pins105,celebs,bollywood100,celeba10k}.tar, aligned faces of known persons
         (see pseudo_clips.py); the networks of EMBEDDERS and LOOKS_NETWORK, in MODELS_DIR or MODEL_DIR
Outputs: a Markdown table: for each system mAP@100, mean and deviation over the seeds
           valid: searched in `valid`, learnt from `train`. Choose by this column
           test:  searched in `test`, learnt from `train`, and from `train` and `valid`
         WORK_DIR keeps the embeddings (made once, minutes) and, of each seed, data folders, what
         stages 2 and 3 would have made, and ranks: run the steps on them as on a real corpus

The systems are those of the steps search.py and train_identifier.py. LOOKS_NETWORK is not under test:
it tells which photos look alike, and which strangers may be persons to find.

Example:
  python benchmarks/identification.py --faces-dir ../shared/data/faces --model-dir ../shared/models \\
      --work-dir /tmp/identification --seeds 5
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidperson import cli

if TYPE_CHECKING:
    from benchmarks.pseudo_clips import Embedded, Photo
    from vidperson.face.embedder import FaceEmbedder

ROOT = Path(__file__).resolve().parents[1]
PAIRS = (("valid", "train"), ("test", "train"), ("test", "train valid"))
BASELINE = "class mean, weighted by norm"


@dataclass(frozen=True)
class Options:
    """What is compared, on what."""

    faces_dir: Path = cli.option(help="folder of the tars")
    work_dir: Path = cli.option(help="folder for embeddings and sets; outside of the repository")
    model_dir: str = cli.option("", "folder to search for networks before downloading")
    embedders: list[str] = cli.option(("arcface_tiny",), "cards; the first is compared, all stand side by side")
    looks_network: str = cli.option("mobilefacenet_arcface_mxnet", "card of the network that is not under test")
    seeds: int = cli.option(5, "how often clips are drawn anew", convert=cli.whole(1))
    only: str = cli.option("", "only the systems whose names contain this")


@dataclass(frozen=True)
class System:
    """A row of the table.

    backends: of search.py. heads: options of train_identifier.py, of each identifier. All are fused.
    items: whether boxes and qualities are known, so that tracks are linked and items weighed by more than their norm.
    unweighted: all items weigh the same. embedders: how many stand side by side, for the heads.
    """

    name: str
    backends: str = ""
    heads: tuple[str, ...] = ()
    items: bool = True
    unweighted: bool = False
    embedders: int = 1


SYSTEMS = (
    System("class mean, unweighted", "class-mean", items=False, unweighted=True),
    System(BASELINE, "class-mean", items=False),
    System("class mean, tracks, weighted by quality, too", "class-mean"),
    System("the same, shifted by the nearest", "class-mean-shift"),
    System("whitened class mean, whole clips", "class-mean-whitened", items=False),
    System("whitened class mean, tracks", "class-mean-whitened"),
    System("the same, shifted", "class-mean-whitened-shift"),
)


def benchmark(options: Options) -> None:
    """Prints the table, and what is under way to the log."""
    from benchmarks.pseudo_clips import (
        STRANGERS,
        TARGETS,
        draw,
        read_photos,
        unknown_persons,
        write_embeddings,
        write_sets,
    )

    photos = read_photos([options.faces_dir / name for name in (*TARGETS, STRANGERS)])
    looks, pools = embeddings(photos, options)
    strangers = unknown_persons(photos, looks)
    systems = [one for one in SYSTEMS if options.only in one.name and one.embedders <= len(options.embedders)]
    found: dict[str, list[list[float]]] = {one.name: [] for one in systems}
    for seed in range(options.seeds):
        root = options.work_dir / f"seed{seed}"
        shutil.rmtree(root, ignore_errors=True)
        sets = draw(photos, looks, strangers, seed)
        write_sets(root, sets, pools)
        write_embeddings(root / "alike", sets, {name: alike(pool) for name, pool in pools.items()})
        for one in systems:
            found[one.name].append([mean_ap(root, one, options.embedders, *pair) for pair in PAIRS])
            print(seed, one.name, " ".join(f"{100 * value:.2f}" for value in found[one.name][-1]), flush=True)
    print_table(found)


def embeddings(photos: Sequence[Photo], options: Options) -> tuple[np.ndarray, dict[str, Embedded]]:
    """The looks of the photos, and both versions of each by each network under test; made where they are not there."""
    from benchmarks.pseudo_clips import Embedded, embed_versions, unit_looks

    def kept(name: str, make: Callable[[FaceEmbedder], dict[str, np.ndarray]], card: str) -> dict[str, np.ndarray]:
        path = options.work_dir / f"{name}.npz"
        if not path.is_file():
            options.work_dir.mkdir(parents=True, exist_ok=True)
            made = make(open_embedder(card, options))
            np.savez(path.with_suffix(".tmp.npz"), allow_pickle=False, **made)
            path.with_suffix(".tmp.npz").rename(path)
        with np.load(path) as arrays:
            return dict(arrays)

    looks = kept("looks", lambda net: {"rows": unit_looks(photos, net.embed)}, options.looks_network)["rows"]
    pools = {}
    for card in options.embedders:
        arrays = kept(card, lambda net: vars(embed_versions(photos, net.embed)), card)
        pools[card] = Embedded(arrays["rows"], arrays["quality"])
    return looks, pools


def alike(pool: Embedded) -> Embedded:
    """The same with embeddings of length 1, so that all items weigh the same."""
    return replace(pool, rows=pool.rows / np.linalg.norm(pool.rows, axis=2, keepdims=True))


def open_embedder(card: str, options: Options) -> FaceEmbedder:
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.networks.install import install_model
    from vidperson.networks.opening import open_network

    installed = install_model(card, options.work_dir / "models", [options.model_dir] if options.model_dir else [])
    return FaceEmbedder(open_network(installed), installed.card)


def mean_ap(root: Path, system: System, embedders: Sequence[str], test_set: str, enroll: str) -> float:
    """Train what is to be trained, search, and measure; 0..1."""
    from vidperson.io.ranks import read_ranks, read_relevant
    from vidperson.metrics.ranking import mean_average_precision

    out = root / "systems" / f"{slug(system.name)}-{slug(enroll)}-{test_set}"
    names = [f"head{number}" for number, _ in enumerate(system.heads)]
    for name, options in zip(names, system.heads, strict=True):
        step(
            "train_identifier.py",
            *("--train-data", *(root / "data" / each for each in enroll.split()), "--train-parts", *enroll.split()),
            *("--embed-dirs", *(root / "embed" / each for each in embedders[: system.embedders])),
            *(("--items-dir", root / "det/made") if system.items else ()),
            *("--output-dir", out / "train" / name, *options.split()),
        )
    fused = [*system.backends.split(), *names]
    pools = root / ("alike" if system.unweighted else "embed")
    step(
        "search.py",
        *("--embed-dir", pools / embedders[0], "--embed-root", pools, "--data-dir", root / "data"),
        *(("--items-dir", root / "det/made") if system.items else ()),
        *("--train-root", out / "train", "--enroll-sets", enroll, "--test-set", test_set),
        *("--search-backends", system.backends, "--identifiers", " ".join(names), "--scores-dir", out / "scores"),
        *("--search-fusion", " ".join(fused) if len(fused) > 1 else "", "--experiment", "fused"),
        *("--embedders", embedders[0], "--test-sets", test_set),
    )
    folder = "fusion/fused" if len(fused) > 1 else f"{embedders[0]}/{fused[0]}"
    ranks = read_ranks(out / "scores" / folder / f"{test_set}_ranks")
    shutil.rmtree(out)
    return mean_average_precision(ranks, read_relevant(root / "data" / test_set / "relevant"), 100)


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def step(name: str, *options: object) -> None:
    """Run a step as a user does. Raises CalledProcessError, after its messages."""
    words = [sys.executable, str(ROOT / "steps" / name), "--modality", "face", *map(str, options)]
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    if ran.returncode:
        print(ran.stderr, file=sys.stderr)
        ran.check_returncode()


def print_table(found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """found: system -> for each seed the figures of PAIRS, 0..1."""
    base = np.mean(found.get(BASELINE) or [[np.nan] * len(PAIRS)], axis=0)
    print("| system |" + "".join(f" {pair[0]}, learnt from {pair[1]} |" for pair in PAIRS) + " gain |")
    print("|---" * (len(PAIRS) + 2) + "|")
    for name, rows in found.items():
        mean, deviation = 100 * np.mean(rows, axis=0), 100 * np.std(rows, axis=0)
        cells = (f" {one:.1f} ± {other:.1f} |" for one, other in zip(mean, deviation, strict=True))
        print(f"| {name} |" + "".join(cells) + f" {mean[-1] - 100 * base[-1]:+.1f} |")


if __name__ == "__main__":
    cli.run(benchmark, Options, __doc__)
