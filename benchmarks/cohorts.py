#!/usr/bin/env python3
"""What sub-mean and s-norm do with cohorts of the same and of other recording conditions, and what tells them apart.

Inputs:  as benchmarks/speech.py, which makes the embeddings
Outputs: WORK_DIR, as there; on stdout a line of a Markdown table per list and cohort: how far the medians of cosines
         are apart before and after sub-mean (standard deviations), and EERs

A half of ucla is all pairs of different sessions of ten speakers, chosen at random; its cohort are the utterances of
the ten others, or read speech. The mean that is subtracted is that of the cohort.

Example:
  python benchmarks/cohorts.py --speech ../shared/data/speech --model resemblyzer_dvector \\
      --model-dir ../shared/models/speaker --work-dir /tmp/speech
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.speech import SET, Options, Vectors, embed_all, pairs_of, prepare
from vidperson import cli
from vidperson.backends import AdaptiveSNorm, EmbeddingSets, score_pairs
from vidperson.backends.cohort import USUAL_MEANS, compare_domains, sample_units
from vidperson.backends.scorers import Cosine
from vidperson.metrics.detection import eer_simple, roc

Pairs = list[tuple[Path, Path]]


def sets_of(files: list[Path], vectors: Vectors, mean: np.ndarray | float) -> EmbeddingSets:
    return EmbeddingSets.from_items((str(path), (vectors[path] - mean)[None].astype(np.float32)) for path in files)


def compare(pairs: Pairs, cohort: list[Path], vectors: Vectors) -> list[str]:
    """Cells: distances of the domains raw and after sub-mean, EER raw, s-norm, sub-mean, sub-mean and s-norm."""
    files = sorted({path for pair in pairs for path in pair})
    place = {path: i for i, path in enumerate(files)}
    trials = np.array([(place[one], place[other]) for one, other in pairs])
    target = np.array([one.parent == other.parent for one, other in pairs])
    shifts, errors = [], []
    for mean in (0.0, np.mean([vectors[path] for path in cohort], axis=0)):
        tested, others = sets_of(files, vectors, mean), sets_of(cohort, vectors, mean)
        domains = compare_domains(sample_units(tested), sample_units(others))
        assert domains is not None
        shifts.append(f"{domains.shift:+.2f}" + (" (warned)" if domains.differ else ""))
        plain = Cosine(tested, tested)
        for scorer in (plain, AdaptiveSNorm(plain, others, min(USUAL_MEANS, len(cohort)))):
            scores = score_pairs(scorer, trials)
            errors.append(f"{100 * eer_simple(roc(scores[target], scores[~target])):.2f}")
    return shifts + errors


def cohorts(options: Options) -> None:
    speech = options.speech.resolve()
    pairs = {name: pairs_of(speech / name) for name in ("ucla", "librispeech")}
    readers = sorted((speech / "librispeech_cohort").glob("*.flac"))
    files = {name: sorted({path for pair in ours for path in pair}) for name, ours in pairs.items()}
    names = prepare(sorted({*files["ucla"], *files["librispeech"], *readers}), options.work_dir / "data" / SET)
    vectors = embed_all(options, options.model, names)
    lists = [(name, "60 readers", ours, readers) for name, ours in pairs.items()]
    lists.append(("librispeech", "ucla", pairs["librispeech"], files["ucla"]))
    speakers = sorted({path.parent for path in files["ucla"]})
    for seed in range(3):
        mine = {speakers[i] for i in np.random.default_rng(seed).permutation(len(speakers))[: len(speakers) // 2]}
        half = [pair for pair in pairs["ucla"] if mine >= {path.parent for path in pair}]
        others = [path for path in files["ucla"] if path.parent not in mine]
        lists += [(f"half {seed} of ucla", "the other half", half, others),
                  (f"half {seed} of ucla", "60 readers", half, readers)]  # fmt: skip
    print("| list | cohort | apart | after sub-mean | EER % | s-norm | sub-mean | both |")
    print("|---|---|---|---|---|---|---|---|")
    for name, cohort, ours, others in lists:
        print(f"| {name} | {cohort} | {' | '.join(compare(ours, others, vectors))} |", flush=True)


if __name__ == "__main__":
    cli.run(cohorts, Options, __doc__)
