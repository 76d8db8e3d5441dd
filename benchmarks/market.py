#!/usr/bin/env python3
"""How well body networks tell persons apart across cameras: rank-1, mAP and mINP on pictures named as in Market-1501.

Inputs:  PICTURES, a folder of persons cut out of frames: <person>_c<camera>... is a name; each picture
         is one person. The networks: in MODEL_DIR, or by download
Outputs: WORK_DIR/data/market and WORK_DIR/exp, made by stages 0, 2 and 3, which resume; on stdout a line
         of a Markdown table per network

Every picture searches all others. Those of its person by its own camera are left out; so is a
query without a picture of its person by another camera. Scores are cosines.

Example:
  python benchmarks/market.py --pictures ../shared/data/person/market100/gallery \\
      --model-dir ../shared/models --work-dir /tmp/market --embedders "osnet_x025_msmt17_onnx"
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson import cli
from vidperson.errors import DataError
from vidperson.metrics.reidentification import Retrieval, across_cameras

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = "osnet_x025_msmt17_onnx omz_person_reidentification_0277 omz_person_reidentification_0288"
NAME = re.compile(r"(-?\d+)_c(\d+)")
SET = "market"


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    pictures: Path = cli.option(help="folder of pictures")
    work_dir: Path = cli.option(help="folder for the data set and all that stages compute")
    model_dir: str = cli.option("", "folder to search for networks before downloading")
    embedders: str = cli.option(NETWORKS, "cards of the networks")
    engine: str = cli.option("auto", "what runs the networks")
    mirror: str = cli.option("", "mirrored pictures: none, concatenate or sum; empty: as the cards say")
    nj: int = cli.option(2, "jobs", convert=cli.whole(1))


def prepare(pictures: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Write the data folder. Returns segment -> person and camera, where the file name tells them."""
    from vidperson.corpora.data_folder import Segment, write_data_folder

    found = {path: NAME.match(path.name) for path in sorted(pictures.resolve().glob("*.jpg"))}
    segments = {path.stem: (path, named[1], named[2]) for path, named in found.items() if named}
    if not segments:
        raise DataError("expected pictures with names like 0012_c1s1_004.jpg, found none", pictures)
    listed = [Segment(name, str(path), person) for name, (path, person, _) in segments.items()]
    write_data_folder(folder, listed)
    return {name: (person, camera) for name, (_, person, camera) in segments.items()}


def run_stage(options: Options, stage: str, embedder: str, *more: str) -> None:
    """Raises DataError with the end of what a stage said that failed."""
    words = [f"./run_{stage}.sh", "--modalities", "body", "--trial-sets", f"{SET}:{SET}", "--body-embedder", embedder]
    words += ["--data-dir", str(options.work_dir / "data"), "--exp-dir", str(options.work_dir / "exp"), *more]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise DataError(f"{' '.join(words)} failed:\n{ran.stderr[-2000:]}")


def embeddings_of(options: Options, embedder: str, segments: Sequence[str]) -> NDArray[np.float32]:
    """(N, D), by stages 0, 2 and 3; what is there is kept."""
    from vidperson.io.matrices import load_matrices

    run_stage(options, "000_get_pretrained_models", embedder, "--model-dir", options.model_dir)
    work = ("--nj", str(options.nj), "--engine", options.engine)
    run_stage(options, "002_detect_faces", embedder, "--nj", str(options.nj))
    run_stage(options, "003_extract_embeddings", embedder, *work, "--embed-mirror", options.mirror, "--force", "true")
    table = load_matrices(options.work_dir / "exp/body_embed" / embedder / SET / "embed.scp")
    missing = [segment for segment in segments if not len(table[segment])]
    if missing:
        raise DataError(f"expected an embedding of every picture, found none of {missing[0]}")
    return np.stack([table[segment][0] for segment in segments])


def market(options: Options) -> dict[str, Retrieval]:
    """Network -> its figures, printed as they come. Raises VidPersonError for what is missing or fails."""
    known = prepare(options.pictures, options.work_dir / "data" / SET)
    segments = sorted(known)
    persons, cameras = ([known[segment][which] for segment in segments] for which in (0, 1))
    print("| network | engine | mirror | queries | rank-1 | mAP | mINP |\n|---|---|---|---|---|---|---|", flush=True)
    figures = {}
    for embedder in options.embedders.split():
        found = across_cameras(embeddings_of(options, embedder, segments), persons, cameras)
        values = f"{found.rank1:.3f} | {found.map:.3f} | {found.minp:.3f}"
        how = f"{options.engine} | {options.mirror or 'as the card says'}"
        print(f"| `{embedder}` | {how} | {found.queries} | {values} |", flush=True)
        figures[embedder] = found
    return figures


if __name__ == "__main__":
    cli.run(market, Options, __doc__)
