#!/usr/bin/env python3
"""Does a network say in bf16 or fp16 what it says in fp32? Fails when it does not.

Inputs:  an installed network, and a sample to try it on: for an embedder the output folder of
         stage 2 (--items-dir), for a detector a list of videos or images (--scp).
Outputs: with --card the figures in a model card, as bf16_check, once the check is passed in bf16:
         stages 2 and 3 then take bf16 with --precision auto;
         the figures in the log; exit status 1 when
         embedder: the cosine of the two embeddings of an item is below 0.999 for any of the sample
         detector: of the boxes that fp32 gives with a score of 0.9 or more, less than 99 % are
         among those found in the other precision, within 1 pixel on every side

Example:
  python steps/check_precision.py --model exp/face_models/arcface_tiny --precision bf16 \\
      --items-dir exp/face_det/retinaface_tiny/demo_dev_test
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.options import EngineOptions
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.networks.install import InstalledModel
    from vidperson.types import Float

MIN_COSINE = 0.999
MAX_SHIFT = 1.0  # pixels of the frame
MIN_WITHIN = 0.99
SCORE, LOWEST_SCORE = 0.9, 0.5
_BATCH = 16


@dataclass(frozen=True)
class CheckOptions:
    """See the top of this file."""

    model: Path = cli.option(help="folder of the installed network")
    items_dir: Path | None = cli.option(None, "output folder of stage 2, for an embedder")
    scp: Path | None = cli.option(None, "segment and path of videos or images, for a detector")
    items_scp: Path | None = cli.option(None, "segment and path of what items are read from, where stage 2 keeps none")
    max_size: int = cli.option(800, "long side that frames are brought down to", convert=cli.whole(1))
    card: Path | None = cli.option(None, "card to note the figures in when bf16 passes: a .yaml file")
    sample: int = cli.option(64, "items or frames to compare, about", convert=cli.whole(1))
    network: EngineOptions = cli.group(EngineOptions)


def check_precision(options: CheckOptions) -> dict[str, float]:
    """See the top of this file. Returns the figures; a sample without items passes, with a warning.

    Raises ModelError when the precision is not good enough; other VidPersonErrors for what is missing.
    """
    from vidperson.errors import ModelError
    from vidperson.networks.install import installed_model

    installed, precision = installed_model(options.model), options.network.precision
    check = _check_detector if installed.card.role == "detector" else _check_embedder
    figures, passed, wanted, found = check(installed, options)
    name = installed.card.name
    if not figures["items"]:
        logging.warning("%s: nothing in the sample: %s could not be compared with fp32", name, precision)
        return figures
    logging.info("%s in %s: %s", name, precision, found)
    if not passed:
        raise ModelError(f"{name}: {precision} is not exact enough: expected {wanted}, found: {found}; use fp32")
    if options.card is not None:
        _note(options.card, precision, figures)
    return figures


def _note(path: Path, precision: str, figures: dict[str, float]) -> None:
    """Raises ModelError for another precision than bf16, and for a file that is no card."""
    from dataclasses import replace

    from vidperson.errors import ModelError
    from vidperson.io.atomic import atomic_write
    from vidperson.networks.card import card_text, load_card

    if precision != "bf16":
        raise ModelError(f"{path}: a card notes checks of bf16, not of {precision}; leave --card out")
    text = card_text(replace(load_card(path), bf16_check={name: round(value, 6) for name, value in figures.items()}))
    with atomic_write(path) as stream:
        stream.write(text)


def _check_embedder(installed: InstalledModel, options: CheckOptions) -> tuple[dict[str, float], bool, str, str]:
    """The figures, whether they are good enough, and in words what is wanted and what was found."""
    folder = _given(installed, "--items-dir", options.items_dir)
    modality = _modality(installed)
    exact, tried = (
        modality.open_embedder(_network(installed, options, precision, _BATCH), installed.card)
        for precision in ("fp32", options.network.precision)
    )
    files = {} if options.items_scp is None else {"scp": options.items_scp}
    figures = compare_embeddings(exact, tried, modality.sample_items(folder, options.sample, **files))
    found = f"lowest {figures['lowest']:.6f}, mean {figures['mean']:.6f} of {figures['items']:.0f} items"
    return figures, figures["lowest"] >= MIN_COSINE, f"a cosine of {MIN_COSINE} or more with fp32", found


def _check_detector(installed: InstalledModel, options: CheckOptions) -> tuple[dict[str, float], bool, str, str]:
    """As :func:`_check_embedder`. The second one keeps overlapping boxes, see :func:`compare_boxes`."""
    scp = _given(installed, "--scp", options.scp)
    modality = _modality(installed)
    exact, tried = (
        modality.open_detector(_network(installed, options, precision, 1), installed.card, options.max_size, overlaps)
        for precision, overlaps in (("fp32", False), (options.network.precision, True))
    )
    frames = modality.sample_frames(scp, options.sample, options.network.threads)
    figures = compare_boxes(exact, tried, frames)
    share = f"{figures['within']:.2%} of {figures['items']:.0f} boxes"
    found = f"{share} are, the largest shift is {figures['shift']:.2f}"
    return figures, figures["within"] >= MIN_WITHIN, f"within {MAX_SHIFT:g} pixel for {MIN_WITHIN:.0%}", found


def _given(installed: InstalledModel, option: str, value: Path | None) -> Path:
    from vidperson.errors import DataError

    if value is None:
        raise DataError(f"{installed.card.name} is a {installed.card.kind}: expected {option}")
    return value


def _modality(installed: InstalledModel) -> Any:
    """``vidperson/<modality>/sampling.py``: open_embedder, open_detector, sample_items, sample_frames."""
    import importlib

    return importlib.import_module(f"vidperson.{installed.card.modality}.sampling")


def _network(installed: InstalledModel, options: CheckOptions, precision: str, batch: int) -> Any:
    from vidperson.networks.opening import open_network

    how = options.network
    return open_network(installed, how.engine, how.device, how.threads, precision, batch)


def compare_embeddings(
    exact: Callable[[list[Any]], Float], tried: Callable[[list[Any]], Float], items: Iterable[Any]
) -> dict[str, float]:
    """items: their number; lowest and mean cosine of the two (D,) embeddings of an item."""
    import numpy as np

    cosines: list[float] = []
    stream = iter(items)
    while batch := list(islice(stream, _BATCH)):
        one, other = exact(batch), tried(batch)
        cosines += ((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).tolist()
    lowest, mean = (min(cosines), sum(cosines) / len(cosines)) if cosines else (1.0, 1.0)
    return {"items": len(cosines), "lowest": lowest, "mean": mean}


def compare_boxes(
    exact: Callable[[Any, float], Float], tried: Callable[[Any, float], Float], frames: Iterable[Any]
) -> dict[str, float]:
    """items: boxes of ``exact`` at 0.9; within: share that ``tried`` has within a pixel; shift: the largest.

    ``tried`` keeps overlapping boxes and has a lower threshold: which of two anchors with nearly
    equal scores stays is chance in any precision. So is on which side of a threshold a score lies.
    """
    import numpy as np

    shifts: list[float] = []
    for frame in frames:
        wanted, found = exact(frame, SCORE), tried(frame, LOWEST_SCORE)
        distance = np.abs(wanted[:, None] - found[None]).max(axis=2)
        shifts += distance.min(axis=1).tolist() if len(found) else [float("inf")] * len(wanted)
    within = sum(shift <= MAX_SHIFT for shift in shifts) / len(shifts) if shifts else 1.0
    return {"items": len(shifts), "within": within, "shift": max(shifts, default=0.0)}


if __name__ == "__main__":
    cli.run(check_precision, CheckOptions, __doc__)
