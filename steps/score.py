#!/usr/bin/env python3
"""Score the trials of a test set.

Inputs:
  ENROLL_EMBED/embed.scp    one (N, dim) float32 matrix per enrolment segment, a face per row; 0 rows is legal
  FALLBACK_EMBED/embed.scp  optional, the same for faces found without labels: a segment without a row in the
                            former gets the mean of its rows here
  ENROLL_DATA/spk2utt       <model> <segment> <segment> ...; the best of a model's segments counts
  TEST_EMBED/embed.scp      one (N, dim) float32 matrix per test segment
  TRIALS                    <model> <segment> [target|nontarget]
  ENROLL_FACES, TEST_FACES  optional, folders of stage 2 with faces.scp: the (N, 17) float32 faces that the rows of
                            ENROLL_EMBED and TEST_EMBED are of; read only by back-ends that link faces (track)
  COHORT_EMBED/embed.scp    optional: the scores are normalised (adaptive s-norm) by all faces of this set
Output:
  OUTPUT                    <model> <segment> <score>, in the order of the trials, with as many digits as the
                            float32 score has; appears only when it is whole

docs/metrics.md says what the back-ends do. A model or a test segment without any face scores 0. Memory is bounded
by --mem-gb, which changes no score.

Example:
  steps/score.py --enroll-embed exp/face_embed/r100/sre19_enroll_ref \\
    --fallback-embed exp/face_embed/r100/sre19_enroll_facedet --enroll-data data/sre19_enroll \\
    --test-embed exp/face_embed/r100/sre19_test --trials data/sre19_test/trials --backend max \\
    --output exp/scores/r100/max/sre19_test_scores
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def score_trials(
    enroll_embed: Path,
    fallback_embed: Path | None,
    enroll_data: Path,
    test_embed: Path,
    trials: Path,
    backend: str,
    output: Path,
    enroll_faces: Path | None = None,
    test_faces: Path | None = None,
    cohort_embed: Path | None = None,
    ncoh: int = 1000,
    ncoh_discard: int = 0,
    thr_ahc: float = 0.8,
    mem_gb: float = 4.0,
) -> None:
    """See the top of this file.

    Raises ScoringError for an unknown back-end, for models and segments of the trials that the other inputs
    lack, for embeddings that are not finite or of different sizes, for a cohort that is smaller than asked, for too
    little memory; DataError for malformed files. Nothing is written then.
    """
    import numpy as np

    from vidperson.backends import (
        AdaptiveSNorm,
        Context,
        EmbeddingSets,
        Scorer,
        get_backend,
        replace_missing_reference,
        score_pairs,
    )
    from vidperson.errors import ScoringError
    from vidperson.io.lists import read_spk2utt, read_trials, write_scores
    from vidperson.io.matrices import MatrixTable, load_matrices
    from vidperson.types import FACE_COLUMNS

    def context(faces: Path | None, option: str) -> Context:
        table: MatrixTable | None = None
        if method.needs_faces:
            if faces is None:
                raise ScoringError(f"back-end '{backend}' needs --{option}, the folder of stage 2 with faces.scp")
            table = load_matrices(faces / "faces.scp", len(FACE_COLUMNS))
        return Context(thr_ahc, int(mem_gb * 2**28), table)

    method = get_backend(backend)
    enrol_context, test_context = context(enroll_faces, "enroll-faces"), context(test_faces, "test-faces")
    trial_list = read_trials(trials)
    spk2utt = read_spk2utt(enroll_data / "spk2utt")
    enrol_matrices = load_matrices(enroll_embed / "embed.scp")
    test_matrices = load_matrices(test_embed / "embed.scp")

    models, segments = trial_list.model_ids, trial_list.segment_ids
    _require(
        models,
        spk2utt,
        f"models of {trials} are not in {enroll_data / 'spk2utt'}",
        "mend the trial list",
        lambda model: trial_list.where(int(np.argmax(trial_list.model_index == model))),
    )
    groups = {model: spk2utt[model] for model in models}
    videos = list(dict.fromkeys(video for members in groups.values() for video in members))
    _require(
        videos,
        enrol_matrices,
        f"enrolment segments of {enroll_data / 'spk2utt'} are not in {enroll_embed / 'embed.scp'}",
        "redo stages 2 and 3",
    )
    _require(
        segments,
        test_matrices,
        f"test segments of {trials} are not in {test_embed / 'embed.scp'}",
        "mend the trial list, or redo stages 2 and 3 for the set",
        lambda segment: trial_list.where(int(np.argmax(trial_list.segment_index == segment))),
    )

    with _naming(enroll_embed):
        reference = EmbeddingSets.from_items((video, enrol_matrices[video]) for video in videos)
    if fallback_embed is not None:
        detected = load_matrices(fallback_embed / "embed.scp")
        _require(
            reference.empty_keys(),
            detected,
            f"segments without reference faces are not in {fallback_embed / 'embed.scp'}",
            "redo stages 2 and 3",
        )
        with _naming(enroll_embed, fallback_embed):
            reference, replaced, _ = replace_missing_reference(reference, detected)
        _log_each(replaced, logging.info, "no reference face: the mean of the detected faces stands for it")
    _log_each(reference.empty_keys(), logging.warning, "enrolment segment without any face")
    with _naming(enroll_embed):
        enrolment = method.enrolment(reference, enrol_context).union(groups)
    del reference  # means and medians are much smaller
    _log_each(enrolment.empty_keys(), logging.warning, "model without any face: its trials score 0")
    with _naming(test_embed):
        test = method.test(
            EmbeddingSets.from_items((segment, test_matrices[segment]) for segment in segments), test_context
        )
    _log_each(test.empty_keys(), logging.warning, "test segment without any face: its trials score 0")

    with _naming(enroll_embed, test_embed):
        plain = method.scorer(enrolment, test)
    scorer: Scorer = plain
    if cohort_embed is not None:
        with _naming(cohort_embed):
            cohort = EmbeddingSets.from_items(load_matrices(cohort_embed / "embed.scp").items())
            scorer = AdaptiveSNorm(plain, cohort, ncoh, ncoh_discard)

    pairs = np.stack([trial_list.model_index, trial_list.segment_index], axis=1).astype(np.int64)
    write_scores(output, trial_list, score_pairs(scorer, pairs, mem_gb))
    logging.info(
        "%s: %d trials scored with '%s'%s; %d of %d models and %d of %d test segments without a face",
        output,
        len(trial_list),
        backend,
        ""
        if cohort_embed is None
        else f", normalised by {ncoh} of the {len(cohort.embeddings)} faces of {cohort_embed}",
        len(enrolment.empty_keys()),
        len(models),
        len(test.empty_keys()),
        len(segments),
    )


@contextmanager
def _naming(*folders: Path) -> Iterator[None]:
    """Puts the archives at fault in front of what is wrong with their embeddings."""
    from vidperson.errors import ScoringError

    try:
        yield
    except ScoringError as error:
        raise ScoringError(f"{' and '.join(str(folder / 'embed.scp') for folder in folders)}: {error}") from None


def _require(
    names: Sequence[str],
    known: Container[str],
    problem: str,
    cure: str,
    where: Callable[[int], str] | None = None,
) -> None:
    """Refuse names that are not known; where: a name's place in the list to ``<file>:<line>``."""
    from vidperson.errors import ScoringError

    missing = [i for i, name in enumerate(names) if name not in known]
    if missing:
        place = f"{where(missing[0])}: " if where else ""
        first = ", ".join(names[i] for i in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ScoringError(f"{place}{len(missing)} of {len(names)} {problem}: {first}; {cure}")


def _log_each(names: list[str], log: Callable[..., None], what: str) -> None:
    for name in names:
        log("%s: %s", name, what)
    if names:
        log("%d in all: %s", len(names), what)


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--enroll-embed", type=Path, required=True, help="folder with the reference faces' embed.scp")
    parser.add_argument("--fallback-embed", type=Path, help="folder with the embed.scp of all detected faces")
    parser.add_argument("--enroll-data", type=Path, required=True, help="data folder with spk2utt")
    parser.add_argument("--test-embed", type=Path, required=True, help="folder with the test faces' embed.scp")
    parser.add_argument("--trials", type=Path, required=True, help="trial list")
    parser.add_argument("--enroll-faces", type=Path, help="stage 2's folder of the reference faces, for track")
    parser.add_argument("--test-faces", type=Path, help="stage 2's folder of the test faces, for track")
    parser.add_argument("--backend", default="max", help="how two sets of embeddings are compared: a name or an alias")
    parser.add_argument("--thr-ahc", type=float, default=0.8, help="average cosine down to which clusters are merged")
    parser.add_argument("--cohort-embed", type=Path, help="folder with the embed.scp of the s-norm cohort's faces")
    parser.add_argument("--ncoh", type=cli.whole(1), default=1000, help="cohort faces that normalise a score")
    parser.add_argument("--ncoh-discard", type=cli.whole(0), default=0, help="better cohort faces left out before them")
    parser.add_argument("--mem-gb", type=cli.positive, default=4.0, help="memory to use, GiB")
    parser.add_argument("--output", type=Path, required=True, help="score file to write")
    cli.main(score_trials, parser.parse_args())
