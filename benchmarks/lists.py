"""What reading trial and score lists costs, beside pandas' C reader on the same files, in one run.

Inputs:  none; lists of 1000 models are made in a temporary folder, 350 MB for each 10,000,000 lines.
Outputs: a Markdown table in CPU seconds, of --repeat turns the best of each. Without pandas, which is no part of the
         environment, its column stays empty. (pandas gives texts; ours gives numbered ids, having refused pairs that
         are there twice, and numbers that are right to the last bit.)

Example:
  python benchmarks/lists.py --lines 10000000
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidperson import cli

MODELS = 1000


def write(folder: Path, lines: int) -> None:
    """``scores`` and ``trials`` of MODELS models times ``lines`` / MODELS segments."""
    import numpy as np

    rng = np.random.default_rng(0)
    with open(folder / "scores", "w") as scores, open(folder / "trials", "w") as trials:
        for model in range(MODELS):
            values = rng.standard_normal(lines // MODELS).astype(np.float32)
            pairs = [f"id{model:05d} seg_{segment:06d}_a.mp4" for segment in range(len(values))]
            scores.writelines(f"{pair} {value!s}\n" for pair, value in zip(pairs, values, strict=True))
            labels = np.where(rng.random(len(values)) < 0.01, "target", "nontarget")
            trials.writelines(f"{pair} {label}\n" for pair, label in zip(pairs, labels, strict=True))


def seconds(read: Callable[[Path], Any], path: Path) -> float:
    begin = time.process_time()
    read(path)
    return time.process_time() - begin


def run(lines: int, repeat: int) -> None:
    from vidperson.io.lists import read_scores, read_trials

    installed = importlib.util.find_spec("pandas") is not None
    print("| list | lines | ours, CPU s | pandas, CPU s | ratio |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), lines)
        for name, read in (("scores", read_scores), ("trials", read_trials)):
            path = Path(folder) / name
            turns = [
                (seconds(read, path), seconds(read_with_pandas, path) if installed else None) for _ in range(repeat)
            ]
            ours, theirs = min(mine for mine, _ in turns), min((pandas for _, pandas in turns if pandas), default=None)
            rest = "not installed | " if theirs is None else f"{theirs:.2f} | {ours / theirs:.2f}"
            print(f"| {name} | {lines:,} | {ours:.2f} | {rest} |", flush=True)


def read_with_pandas(path: Path) -> Any:
    return importlib.import_module("pandas").read_csv(path, sep=" ", header=None, engine="c")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--lines", type=cli.whole(MODELS), default=10_000_000, help="lines of each list")
    parser.add_argument("--repeat", type=cli.whole(1), default=3, help="turns")
    cli.main(run, parser.parse_args())
