#!/usr/bin/env python3
"""Measure a face network on a list of picture pairs: same person or not?

Inputs:
  MODEL            folder of an installed face network
  PICTURES         folder or tar of aligned 112 x 112 faces
  PAIRS            LFW's pairs file (View 1 or 2), or lines `<picture> <picture> target|nontarget`; a picture is named
                   by its folder and file name without ending, e.g. Al_Gore/Al_Gore_0001
  THRESHOLD_PAIRS  another such list, of which the threshold of `accuracy` is learnt (LFW View 1: DevTrain)
Output, as JSON to OUTPUT if it is given, and in words to the log:
  eer, tar_at_far (true accept rate per false accept rate), ten_fold_accuracy and ten_fold_std (threshold of each fold
  from the nine others), accuracy and threshold (with THRESHOLD_PAIRS); shares 0..1, thresholds are cosines.

Example:
  python steps_face/evaluate_pairs.py --model exp/face_models/mobilefacenet_casia_pytorch \\
      --pictures lfw_view1_aligned.tar --pairs lfw_pairsDevTest.txt --threshold-pairs lfw_pairsDevTrain.txt
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vidperson import cli

if TYPE_CHECKING:
    import numpy as np

    from vidperson.io.pairs import Pairs
    from vidperson.io.pictures import Pictures
    from vidperson.types import Float, Image

FALSE_ACCEPT_RATES = (0.01, 0.001)
AT_ONCE = 10_000  # pairs whose embeddings are laid side by side


def aligned_face(pictures: Pictures, index: int) -> Image:
    """(112, 112, 3) uint8 RGB of one picture. Raises DataError where it is damaged or of another size."""
    from vidperson.errors import DataError, MediaError
    from vidperson.media.image import decode_sound_image

    try:
        crop = decode_sound_image(pictures.read(index))
    except MediaError as error:
        raise DataError(str(error), pictures.where(index)) from None
    if crop.shape != (112, 112, 3):
        raise DataError(f"expected an aligned face of 112 x 112, found {crop.shape[:2]}", pictures.where(index))
    return crop


def pair_scores(embed: Callable[[Image], Float], pictures: Pictures, pairs: Pairs, batch: int = 64) -> np.ndarray:
    """(N,) float64 cosines of N pairs; each picture is embedded once.

    embed: (B, 112, 112, 3) uint8 RGB to (B, D) float32.
    Raises DataError for a picture that is missing, damaged, or of another size.
    """
    import numpy as np

    from vidperson.io.pairs import find_pictures

    numbers = find_pictures(pictures, pairs.first + pairs.second)
    used, where = np.unique(numbers, return_inverse=True)
    rows = []
    for start in range(0, len(used), batch):
        crops = [aligned_face(pictures, index) for index in used[start : start + batch].tolist()]
        rows.append(embed(np.stack(crops)).astype(np.float64))
    embeddings = np.concatenate(rows)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings = np.divide(embeddings, lengths, out=embeddings, where=lengths > 0)
    first, second = where[: len(pairs)], where[len(pairs) :]
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scores[part] = np.einsum("nd,nd->n", embeddings[first[part]], embeddings[second[part]])
    return scores


def pair_figures(
    embed: Callable[[Image], Float],
    pictures: Pictures,
    pairs: Pairs,
    threshold_pairs: Pairs | None = None,
    batch: int = 64,
) -> dict[str, Any]:
    """What the step writes; see the top of this file. Raises as :func:`pair_scores`, and ScoringError."""
    from vidperson import metrics

    scores = pair_scores(embed, pictures, pairs, batch)
    targets, nontargets = scores[pairs.is_target], scores[~pairs.is_target]
    curve = metrics.roc(targets, nontargets)
    figures: dict[str, Any] = {
        "num_targets": len(targets),
        "num_nontargets": len(nontargets),
        "eer": metrics.eer(curve),
        "tar_at_far": {f"{far:g}": metrics.tar_at_far(curve, far) for far in FALSE_ACCEPT_RATES},
    }
    folds = pairs.folds
    if folds is None and min(len(targets), len(nontargets)) >= 10:
        folds = metrics.split_folds(pairs.is_target)
    if folds is not None:
        accuracies = metrics.fold_accuracies(scores, pairs.is_target, folds)
        figures |= {"ten_fold_accuracy": float(accuracies.mean()), "ten_fold_std": float(accuracies.std(ddof=1))}
    if threshold_pairs is not None:
        others = pair_scores(embed, pictures, threshold_pairs, batch)
        learnt = metrics.roc(others[threshold_pairs.is_target], others[~threshold_pairs.is_target])
        threshold = metrics.best_threshold(learnt)
        figures |= {"threshold": threshold, "accuracy": metrics.accuracy(targets, nontargets, threshold)}
    return figures


def describe(figures: dict[str, Any]) -> str:
    """The figures in one line."""
    text = f"EER {100 * figures['eer']:.2f} %"
    text += "".join(f", TAR {100 * tar:.2f} % at FAR {far}" for far, tar in figures["tar_at_far"].items())
    if "ten_fold_accuracy" in figures:
        text += f", 10-fold {100 * figures['ten_fold_accuracy']:.2f} +- {100 * figures['ten_fold_std']:.2f} %"
    if "accuracy" in figures:
        text += f", accuracy {100 * figures['accuracy']:.2f} %"
    return f"{text} ({figures['num_targets']} same, {figures['num_nontargets']} different)"


def evaluate_pairs(
    model: str,
    pictures: str,
    pairs: str,
    threshold_pairs: str = "",
    output: str = "",
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int = 1,
    embed_batch: int = 16,
) -> dict[str, Any]:
    """See the top of this file. Returns what was written.

    Raises VidPersonError for lists, pictures and models that are wrong.
    """
    import json

    from vidperson.face.embedder import FaceEmbedder
    from vidperson.io.atomic import atomic_write
    from vidperson.io.pairs import read_pairs
    from vidperson.io.pictures import list_pictures
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    test = read_pairs(pairs)
    train = read_pairs(threshold_pairs) if threshold_pairs else None
    installed = installed_model(model)
    network = open_network(installed, engine, device, threads, precision, embed_batch)
    embedder = FaceEmbedder(network, installed.card)
    figures = pair_figures(embedder.embed, list_pictures(pictures), test, train, embed_batch)
    logging.info("%s: %s", installed.card.name, describe(figures))
    if output:
        with atomic_write(output) as stream:
            stream.write(json.dumps({"network": installed.card.name, **figures}, indent=1) + "\n")
    return figures


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of the installed face network")
    parser.add_argument("--pictures", required=True, help="folder or tar of aligned faces")
    parser.add_argument("--pairs", required=True, help="list of pairs to measure on")
    parser.add_argument("--threshold-pairs", default="", help="list of pairs to learn the threshold of")
    parser.add_argument("--output", default="", help="JSON file to write")
    parser.add_argument("--engine", default="auto", help="what runs the network; auto: the best one here")
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda or cuda:<number>")
    parser.add_argument("--precision", default="fp32", help="what the network computes in: fp32, bf16 or fp16")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network")
    parser.add_argument("--embed-batch", type=int, default=16, help="crops per call of the network")
    cli.main(evaluate_pairs, parser.parse_args())
