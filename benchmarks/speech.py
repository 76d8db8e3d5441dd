#!/usr/bin/env python3
"""How well speaker networks tell voices apart: EER and minDCF on two small lists of real speech.

Inputs:  SPEECH, a folder with ucla/<speaker>/*_<number><session>_*.flac, librispeech/<speaker>/*.flac
         and librispeech_cohort/*.flac. The networks: cards, their files in MODEL_DIR, beside the cards
         or by download
Outputs: WORK_DIR/data/speech and WORK_DIR/exp, made by stages 0, 2 and 3, which resume; on stdout a line
         of a Markdown table per network and list

ucla: all pairs of recordings of different sessions. librispeech: all pairs of its recordings. Scores
are cosines, raw and after the mean of the cohort's embeddings of length 1 is subtracted.

Example:
  python benchmarks/speech.py --speech ../shared/data/speech --model resemblyzer_dvector \\
      --model-dir ../shared/models/speaker --work-dir /tmp/speech
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson import cli
from vidperson.errors import DataError
from vidperson.metrics.detection import Roc, eer_simple, min_dcf, roc

SESSION = re.compile(r"_\d+([A-Z])_")
PRIOR = 0.05
ROOT = Path(__file__).resolve().parents[1]
SET = "speech"
Vectors = dict[Path, NDArray[np.float64]]


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    speech: Path = cli.option(help="folder with ucla, librispeech and librispeech_cohort")
    work_dir: Path = cli.option(help="folder for the data set and all that stages compute")
    model: str = cli.option("resemblyzer_dvector", "cards of the networks, by name or path")
    model_dir: str = cli.option("", "folder to search for networks before downloading")
    engine: str = cli.option("auto", "what runs the networks")
    detector: str = cli.option("", "what finds speech; empty: the whole sound is speech")
    nj: int = cli.option(1, "jobs", convert=cli.whole(1))


@dataclass(frozen=True)
class Figures:
    """Of one list: errors at every threshold, of the raw cosines and after the cohort's mean is subtracted."""

    raw: Roc
    centred: Roc


def prepare(files: list[Path], folder: Path) -> dict[Path, str]:
    """Write the data folder. Returns file -> segment."""
    from vidperson.corpora.data_folder import Segment, write_data_folder

    names = {path: f"{path.parent.name}_{path.stem}" for path in files}
    write_data_folder(folder, [Segment(name, "", path.parent.name, sound=path) for path, name in names.items()])
    return names


def run_stage(options: Options, stage: str, card: str, *more: str) -> None:
    """Raises DataError with the end of what a stage said that failed."""
    words = [f"./run_{stage}.sh", "--modalities", "speaker", "--trial-sets", f"{SET}:{SET}"]
    words += ["--speaker-embedder", card, "--speaker-detector", options.detector]
    words += ["--data-dir", str(options.work_dir / "data"), "--exp-dir", str(options.work_dir / "exp"), *more]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise DataError(f"{' '.join(words)} failed:\n{ran.stderr[-2000:]}")


def embed_all(options: Options, card: str, names: dict[Path, str]) -> Vectors:
    """One vector of length 1 a recording, by stages 0, 2 and 3; what is there is kept."""
    from vidperson.io.matrices import load_matrices

    name = Path(card).stem if card.endswith(".yaml") else card
    run_stage(options, "000_get_pretrained_models", card, "--model-dir", options.model_dir)
    run_stage(options, "002_detect_faces", name, "--nj", str(options.nj))
    run_stage(options, "003_extract_embeddings", name, "--nj", str(options.nj), "--engine", options.engine)
    table = load_matrices(options.work_dir / "exp/speaker_embed" / name / SET / "embed.scp")
    vectors = {path: table[segment].astype(np.float64) for path, segment in names.items()}
    missing = [path for path, rows in vectors.items() if not len(rows)]
    if missing:
        raise DataError("expected an embedding of every recording, found none", missing[0])
    return {path: rows[0] / np.linalg.norm(rows[0]) for path, rows in vectors.items()}


def session_of(path: Path) -> str:
    found = SESSION.search(path.name)
    if found is None:
        raise DataError("expected a name such as FEMALE_TRAIN_039A_S01_2.flac", path)
    return found[1]


def pairs_of(folder: Path) -> list[tuple[Path, Path]]:
    """All pairs of a folder of speakers; of ucla those of two sessions."""
    files = sorted(folder.glob("*/*.flac"))
    pairs = list(combinations(files, 2))
    if folder.name == "ucla":
        pairs = [(one, other) for one, other in pairs if session_of(one) != session_of(other)]
    return pairs


def curve_of(pairs: list[tuple[Path, Path]], vectors: Vectors, centre: NDArray[np.float64] | float) -> Roc:
    units = {path: (vector - centre) / np.linalg.norm(vector - centre) for path, vector in vectors.items()}
    scores = np.array([units[one] @ units[other] for one, other in pairs])
    target = np.array([one.parent == other.parent for one, other in pairs])
    return roc(scores[target], scores[~target])


def speech(options: Options) -> dict[tuple[str, str], Figures]:
    """(network, list) -> its figures, printed as they come. Raises VidPersonError for what is missing."""
    speech = options.speech.resolve()
    cohort = sorted((speech / "librispeech_cohort").glob("*.flac"))
    lists = {name: pairs_of(speech / name) for name in ("ucla", "librispeech")}
    if not cohort or not all(lists.values()):
        raise DataError("expected ucla, librispeech and librispeech_cohort with FLAC files", speech)
    files = sorted({path for pairs in lists.values() for pair in pairs for path in pair} | set(cohort))
    names = prepare(files, options.work_dir / "data" / SET)
    print("| network | list | trials (target) | EER % raw | after cohort mean | minDCF 0.05 raw | after |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found = {}
    for card in options.model.split():
        vectors = embed_all(options, card, names)
        centre = np.mean([vectors[path] for path in cohort], axis=0)
        for name, pairs in lists.items():
            figures = Figures(curve_of(pairs, vectors, 0.0), curve_of(pairs, vectors, centre))
            both = figures.raw, figures.centred
            values = [f"{100 * eer_simple(curve):.2f}" for curve in both] + [f"{min_dcf(c, PRIOR):.3f}" for c in both]
            size = f"{len(pairs)} ({figures.raw.num_targets})"
            print(f"| `{Path(card).stem}` | {name} | {size} | {' | '.join(values)} |", flush=True)
            found[Path(card).stem, name] = figures
    return found


if __name__ == "__main__":
    cli.run(speech, Options, __doc__)
