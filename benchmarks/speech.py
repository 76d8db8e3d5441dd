#!/usr/bin/env python3
"""How well a speaker network tells voices apart: EER and minDCF on two small lists of real speech.

Inputs:  SPEECH, a folder with ucla/<speaker>/*_<number><session>_*.flac, librispeech/<speaker>/*.flac
         and librispeech_cohort/*.flac. The networks: cards, their files in MODEL_DIR or by download
Outputs: WORK_DIR/<network>; on stdout a line of a Markdown table per network and list

ucla: all pairs of recordings of different sessions. librispeech: all pairs of its recordings. Scores
are cosines, raw and after the mean of the cohort's embeddings is subtracted.

Example:
  python benchmarks/speech.py --speech ../shared/data/speech --model resemblyzer_dvector \\
      --model-dir ../shared/models/speaker --work-dir /tmp/speech
"""

from __future__ import annotations

import re
import time
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
Vectors = dict[Path, NDArray[np.float64]]


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    speech: Path = cli.option(help="folder with ucla, librispeech and librispeech_cohort")
    work_dir: Path = cli.option(help="folder for installed networks")
    model: str = cli.option("resemblyzer_dvector", "cards of the networks, by name or path")
    model_dir: str = cli.option("", "folder to search for networks before downloading")
    engine: str = cli.option("auto", "what runs the networks")


@dataclass(frozen=True)
class Figures:
    """Of one list. EER in 0..1."""

    raw: Roc
    centred: Roc


def embed_all(options: Options, card: str, files: list[Path]) -> Vectors:
    """One vector a recording, not length-normalised."""
    from vidperson.media.audio import read
    from vidperson.networks.install import install_model
    from vidperson.networks.opening import open_network
    from vidperson.speaker.embedder import SpeakerEmbedder

    installed = install_model(card, options.work_dir, [options.model_dir] if options.model_dir else [])
    embedder = SpeakerEmbedder(open_network(installed, options.engine), installed.card)
    return {path: embedder.embed([embedder.items(read(path))])[0].astype(np.float64) for path in files}


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
    """(network, list) -> its curves, printed as they come. Raises VidPersonError for what is missing."""
    cohort = sorted((options.speech / "librispeech_cohort").glob("*.flac"))
    lists = {name: pairs_of(options.speech / name) for name in ("ucla", "librispeech")}
    if not cohort or not all(lists.values()):
        raise DataError("expected ucla, librispeech and librispeech_cohort with FLAC files", options.speech)
    files = sorted({path for pairs in lists.values() for pair in pairs for path in pair} | set(cohort))
    print("| network | list | trials (target) | EER % raw | after cohort mean | minDCF 0.05 raw | after | CPU s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    found = {}
    for card in options.model.split():
        start = time.process_time()
        vectors = embed_all(options, card, files)
        seconds = time.process_time() - start
        centre = np.mean([vector / np.linalg.norm(vector) for path, vector in vectors.items() if path in cohort], axis=0)
        units = {path: vector / np.linalg.norm(vector) for path, vector in vectors.items()}
        for name, pairs in lists.items():
            figures = Figures(curve_of(pairs, units, 0.0), curve_of(pairs, units, centre))
            values = [f"{100 * eer_simple(curve):.2f}" for curve in (figures.raw, figures.centred)]
            values += [f"{min_dcf(curve, PRIOR):.3f}" for curve in (figures.raw, figures.centred)]
            size = f"{len(pairs)} ({figures.raw.num_targets})"
            print(f"| `{Path(card).stem}` | {name} | {size} | {' | '.join(values)} | {seconds:.1f} |", flush=True)
            found[Path(card).stem, name] = figures
    return found


if __name__ == "__main__":
    cli.run(speech, Options, __doc__)
