"""What the training steps have in common: options, progress and curves, and the network with its card at the end."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.networks.card import ModelCard
    from vidperson.training.batches import ShuffledBatches
    from vidperson.training.settings import Settings


Draw = Callable[[Sequence[Mapping[str, Any]]], bytes]
"""The entries of a run's log to a PNG file of its curves."""

DRAW_EVERY_S = 60.0  # drawing takes seconds, an epoch perhaps less


def begin(threads: int) -> None:
    """Have torch compute in so many threads. Raises EngineError where it is not installed."""
    try:
        import torch
    except ImportError:
        from vidperson.errors import EngineError

        raise EngineError("training needs the torch extra; run: utils/make_env.sh torch") from None
    torch.set_num_threads(threads)


def teacher_precision(precision: str, engine: str) -> str:
    """bf16 where it is trained in bf16: a teacher is then two to three times faster on a CPU, and says the same."""
    return "bf16" if precision == "bf16" and engine in ("auto", "openvino") else "fp32"


def reporter(folder: Path, steps_per_epoch: int, draw: Draw) -> Callable[[int, int], None]:
    """What :func:`~vidperson.training.loop.train` calls with steps done and in all: progress, and after an
    epoch the curves, unless they were drawn within the last minute.
    """
    from vidperson.progress import Progress

    progress: list[Progress] = []
    drawn = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal drawn
        if not progress:
            progress.append(Progress(total, "steps", done=done))
        elif done > progress[0].done:
            progress[0].step(done - progress[0].done)
        if done and done % steps_per_epoch == 0 and time.monotonic() - drawn >= DRAW_EVERY_S:
            draw_curves(folder, draw)
            drawn = time.monotonic()

    return report


def draw_curves(folder: Path, draw: Draw) -> None:
    """Draw the log of a training run as curves.png."""
    from vidperson.io.atomic import atomic_write
    from vidperson.training.loop import read_log

    with atomic_write(folder / "curves.png", "wb") as stream:
        stream.write(draw(read_log(folder)))


def finish(
    folder: Path,
    card: ModelCard,
    half_weights: bool,
    batches: ShuffledBatches,
    best: dict[str, float],
    recipe: dict[str, Any],
    how: Settings,
    figures_of: Callable[[Path, ModelCard], dict[str, Any]] | None,
    draw: Draw,
) -> dict[str, Any]:
    """Export the best epoch's network, and write its card with the figures of the very file, which are returned.

    recipe: with the ``architecture``, what goes into the card's ``training``. figures_of: of a network's file with its
    card; None: there is nothing to measure it on.
    """
    from vidperson.training.export import export_best, write_card

    if batches.broken:
        by = f" by process 1 of {batches.ranks}" if batches.ranks > 1 else ""
        logging.warning("%d pictures were left out%s; they are named above", len(batches.broken), by)
    draw_curves(folder, draw)
    card = export_best(folder, card, recipe["architecture"], half_weights)
    figures = figures_of(folder / card.file.name, card) if figures_of else {}
    training = {"best_epoch": int(best["epoch"]) + 1, **recipe, **dataclasses.asdict(how)}
    write_card(folder, dataclasses.replace(card, training=training, figures=figures))
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all training steps have: data, teacher, card, device, and the fields of ``Settings``."""
    from vidperson.training import settings

    parser.add_argument("--train-data", nargs="+", required=True, help="what to train on, see above")
    parser.add_argument("--output-dir", required=True, help="folder of the network, named like it")
    parser.add_argument("--teacher", default="", help="folder of an installed network to imitate")
    parser.add_argument(
        "--init", default="", help="best.pt of an earlier run whose weights to start from, not random ones"
    )
    parser.add_argument("--licence", default="none stated", help="licence of the network, for its card")
    parser.add_argument("--homepage", default="none: trained by this recipe", help="where it comes from, for its card")
    parser.add_argument("--half-weights", type=cli.flag, default=False, help="store the network's weights in 16 bits")
    parser.add_argument("--device", default="cpu", help="where the network is trained: cpu or cuda")
    parser.add_argument(
        "--engine", default="auto", help="what runs the teacher and the exported network; auto: the best one here"
    )
    parser.add_argument("--threads", type=cli.whole(1), default=1, help="CPU threads of the networks")
    parser.add_argument(
        "--workers", type=cli.whole(0), default=0, help="processes that load pictures, for each that trains"
    )
    settings.add_arguments(parser)
