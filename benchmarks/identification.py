#!/usr/bin/env python3
"""What each idea of identifying persons in clips gains: mAP@100 on pseudo-clips out of aligned photos.

Inputs:  FACES_DIR/train_{pins105,celebs,bollywood100,celeba10k}.tar, aligned faces of known persons
         (see pseudo_clips.py); EMBEDDER and LOOKS_NETWORK, in MODELS_DIR or MODEL_DIR
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
    embedder: str = cli.option("arcface_tiny", "card of the network under test")
    looks_network: str = cli.option("mobilefacenet_arcface_mxnet", "card of the network that is not under test")
    seeds: int = cli.option(5, "how often other clips are drawn", convert=cli.whole(1))
    only: str = cli.option("", "only the systems with this in their names")


@dataclass(frozen=True)
class View:
    """How the steps see the clips.

    items: whether boxes and qualities are known, so that tracks are linked and items weighed by more than their norm.
    unweighted: all items weigh the same.
    """

    items: bool = True
    unweighted: bool = False


@dataclass(frozen=True)
class System:
    """A row of the table.

    word: a back-end of search.py, a name of HEADS, or "fusion", that of FUSED.
    """

    name: str
    word: str
    view: View = View()


WHOLE = View(items=False)
TEACHING = "--batch-size 512 --epochs 40 --schedule cosine --valid-epochs 1000"
ORIGINAL = f"{TEACHING} --architecture original --loss softmax --score log-probability --items all=1"
HEADS = {
    "head": f"{TEACHING} --lr 0.003",
    "head-of-whole-clips": f"{TEACHING} --lr 0.003 --items all=1",
    "head-softmax": f"{TEACHING} --lr 0.003 --loss softmax",
    "original": f"{ORIGINAL} --optimiser sgd --lr 0.2 --weight-decay 0.0005",
}
"""Options of train_identifier.py."""
FUSED = "class-mean-whitened-shift head"
LINKS = "--link-cosine=-0.1"
"""A face here is another photo than the one before: they are less alike than successive faces of a video."""
SYSTEMS = (
    System("class mean, unweighted", "class-mean", View(items=False, unweighted=True)),
    System(BASELINE, "class-mean", WHOLE),
    System("class mean, tracks, weighted by quality, too", "class-mean"),
    System("the same, shifted by the nearest", "class-mean-shift"),
    System("whitened class mean, whole clips", "class-mean-whitened", WHOLE),
    System("whitened class mean, tracks", "class-mean-whitened"),
    System("the same, shifted", "class-mean-whitened-shift"),
    System("trained from the whitened class mean, sigmoid", "head"),
    System("the same, whole clips instead of 1, 3 or 5 faces", "head-of-whole-clips"),
    System("the same, softmax, a class of strangers", "head-softmax"),
    System("the head of the challenge's code", "original"),
    System("fusion: whitened and shifted, trained", "fusion"),
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
    systems = [one for one in SYSTEMS if options.only in one.name]
    found: dict[str, list[list[float]]] = {one.name: [] for one in systems}
    for seed in range(options.seeds):
        root = options.work_dir / f"seed{seed}"
        shutil.rmtree(root, ignore_errors=True)
        sets = draw(photos, looks, strangers, seed)
        write_sets(root, sets, pools)
        write_embeddings(root / "alike", sets, {name: alike(pool) for name, pool in pools.items()})
        each = [measure(root, systems, options.embedder, *pair) for pair in PAIRS]
        for name, rows in found.items():
            rows.append([of_pair[name] for of_pair in each])
            print(f"seed {seed}: {name}:", *(f"{100 * value:.2f}" for value in rows[-1]), file=sys.stderr, flush=True)
    print_table(found)


def embeddings(photos: Sequence[Photo], options: Options) -> tuple[np.ndarray, dict[str, Embedded]]:
    """The looks of the photos, and both versions of each by the network under test; made where they are not there."""
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
    arrays = kept(options.embedder, lambda net: vars(embed_versions(photos, net.embed)), options.embedder)
    return looks, {options.embedder: Embedded(arrays["rows"], arrays["quality"])}


def alike(pool: Embedded) -> Embedded:
    """The same with embeddings of length 1, so that all items weigh the same."""
    return replace(pool, rows=pool.rows / np.linalg.norm(pool.rows, axis=2, keepdims=True))


def open_embedder(card: str, options: Options) -> FaceEmbedder:
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.networks.install import install_model
    from vidperson.networks.opening import open_network

    installed = install_model(card, options.work_dir / "models", [options.model_dir] if options.model_dir else [])
    return FaceEmbedder(open_network(installed), installed.card)


def measure(root: Path, systems: Sequence[System], embedder: str, test_set: str, enroll: str) -> dict[str, float]:
    """Train what is to be trained, search, and measure: system -> mAP@100, 0..1. All that is made is removed."""
    from vidperson.io.ranks import read_ranks, read_relevant
    from vidperson.metrics.ranking import mean_average_precision

    relevant = read_relevant(root / "data" / test_set / "relevant")
    found = {}
    for view in dict.fromkeys(system.view for system in systems):
        wanted = [system for system in systems if system.view == view]
        fused = FUSED if any(system.word == "fusion" for system in wanted) else ""
        words = dict.fromkeys([system.word for system in wanted if system.word != "fusion"] + fused.split())
        heads = [word for word in words if word in HEADS]
        out, embed = root / "made", root / ("alike" if view.unweighted else "embed")
        items = ("--items-dir", root / "det/made") if view.items else ()
        for head in heads:
            step(
                "train_identifier.py",
                *("--train-data", *(root / "data" / each for each in enroll.split()), *items),
                *("--train-parts", *enroll.split(), "--embed-dirs", embed / embedder),
                *("--output-dir", out / "train" / head, *HEADS[head].split(), LINKS),
            )
        step(
            "search.py",
            *("--embed-dir", embed / embedder, "--data-dir", root / "data", "--train-root", out / "train", *items),
            *("--enroll-sets", enroll, "--test-set", test_set, "--scores-dir", out / "scores"),
            *("--search-backends", " ".join(word for word in words if word not in HEADS)),
            *("--identifiers", " ".join(heads), "--search-fusion", fused, "--experiment", "fused"),
            *("--embedders", embedder, "--test-sets", test_set, LINKS),
        )
        for system in wanted:
            folder = "fusion/fused" if system.word == "fusion" else f"{embedder}/{system.word}"
            ranks = read_ranks(out / "scores" / folder / f"{test_set}_ranks")
            found[system.name] = mean_average_precision(ranks, relevant, 100)
        shutil.rmtree(out)
    return found


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
