#!/usr/bin/env python3
"""CPU seconds and peak memory of stage 4 on trials of utterances, as many as VoxCeleb1-E has.

Inputs:  none; random embeddings, one an utterance, and trials are made in a temporary folder (170 MB)
Outputs: on stdout a line of a Markdown table for each way to compare: the whole of steps/score.py, files included

Example:
  OMP_NUM_THREADS=1 python benchmarks/utterances.py --backends "whole whole-crops"
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    utterances: int = cli.option(145_000, "number of utterances", convert=cli.whole(2))
    trials: int = cli.option(580_000, "number of trials, in no order", convert=cli.whole(1))
    rows: int = cli.option(1, "embeddings per utterance", convert=cli.whole(1))
    dim: int = cli.option(192, "numbers per embedding", convert=cli.whole(1))
    backends: str = cli.option("whole", "ways to compare, one after the other")
    repeat: int = cli.option(1, "turns, of which the fastest counts", convert=cli.whole(1))


def write(folder: Path, options: Options) -> None:
    """``embed/net/x`` and ``data/x`` of utterances that are their own models, named as those of VoxCeleb."""
    import numpy as np

    from vidperson.io.matrices import matrix_bytes

    rng = np.random.default_rng(0)
    names = [f"id{10000 + i // 116:05d}-{i // 8 * 7919 % 99991:05d}abcDEF-{i % 116:05d}"
             for i in range(options.utterances)]  # fmt: skip
    embed, data = folder / "embed/net/x", folder / "data/x"
    for made in (embed, data):
        made.mkdir(parents=True)
    with open(embed / "embed.ark", "wb") as ark, open(embed / "embed.scp", "w") as scp:
        for name in names:
            scp.write(f"{name} embed.ark:{ark.tell() + len(name) + 1}\n")
            ark.write(matrix_bytes(name, rng.standard_normal((options.rows, options.dim), dtype=np.float32)))
    (data / "spk2utt").write_text("".join(f"{name} {name}\n" for name in names))
    pairs = np.unique(rng.integers(0, len(names), (2 * options.trials, 2)), axis=0)
    pairs = rng.permutation(pairs)[: options.trials]
    lines = [f"{names[a]} {names[b]} {'target' if i % 2 else 'nontarget'}\n" for i, (a, b) in enumerate(pairs.tolist())]
    (data / "trials").write_text("".join(lines))


def measure(folder: Path, backend: str, turn: int) -> tuple[float, float]:
    """CPU seconds and peak MB of one call of the step."""
    data, out = folder / "data/x", folder / f"scores{turn}" / backend
    words = [sys.executable, str(ROOT / "steps/score.py"), "--modality", "speaker"]
    words += ["--embed-dir", f"{folder}/embed/net", "--enroll-parts", "x", "--enroll-data", str(data)]
    words += ["--test-part", "x", "--test-data", str(data)]
    started = subprocess.Popen([*words, "--scores-dir", str(out), "--backends", backend],
                               env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)  # fmt: skip
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, words)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def run(options: Options) -> None:
    print("| back-end | utterances | trials | CPU s | peak MB |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options)
        for backend in options.backends.split():
            turns = [measure(Path(folder), backend, turn) for turn in range(options.repeat)]
            seconds, memory = min(turn[0] for turn in turns), max(turn[1] for turn in turns)
            cells = f"`{backend}` | {options.utterances:,} | {options.trials:,} | {seconds:.1f} | {memory:.0f}"
            print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    cli.run(run, Options, __doc__)
