#!/usr/bin/env python3
"""CPU time of training and of running an identifier, on made-up clips.

Times the preparation of clips, the drawing and pooling of batches, the steps of a training, and the
exported network. Prints CPU seconds, and what they make for an epoch and a prediction of the sizes
asked for: divided by the cores, that is the time on a machine with nothing else to do.

Example:
  OMP_NUM_THREADS=2 python benchmarks/identifier.py --threads 2 --persons 4934
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.training.clips import Clips

Result = TypeVar("Result")
BATCH = 1024
MOST_ITEMS = 30
AT_ONCE = 256  # vectors per call where segments are searched


@dataclass(frozen=True)
class Options:
    """What is timed."""

    clips: int = cli.option(12 * BATCH, "clips that are made, of one to 30 items", convert=cli.whole(BATCH))
    persons: int = cli.option(4934, "persons; classes of a prediction, too", convert=cli.whole(2))
    size: int = cli.option(512, "numbers of an embedding", convert=cli.whole(1))
    architecture: str = cli.option("original", "of the identifier: original or cosine")
    precision: str = cli.option("fp32", "of the training: fp32 or bf16")
    threads: int = cli.option(2, "CPU threads", convert=cli.whole(1))
    engine: str = cli.option("auto", "what runs the exported network")
    epoch: int = cli.option(250_000, "clips of the epoch that is reckoned")
    predicted: int = cli.option(60_000, "vectors of the prediction that is reckoned")


def benchmark(options: Options) -> None:
    """Prints a line for each thing that is timed."""
    from vidperson.training import command

    command.begin(options.threads)
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_items(root, options)
        clips, seconds = timed(lambda: prepare(root, options))
        tell("preparing clips", seconds / options.clips, options.epoch, "the clips of the epoch")
        time_batches(clips, options)
        time_training(clips, root / "who", options)
        time_prediction(root / "who", options)


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """What a function gives, and its CPU seconds."""
    begin = time.process_time()
    result = function()
    return result, time.process_time() - begin


def tell(what: str, each: float, count: int, all_of_it: str) -> None:
    """each: CPU seconds of one."""
    print(f"{what}: {1e6 * each:.1f} CPU us each, {each * count:.1f} CPU s for {all_of_it} ({count})")


def make_items(root: Path, options: Options) -> None:
    """One part, ``embed/net/part`` and ``items/part``, of random numbers."""
    from vidperson.io.matrices import matrix_bytes

    rng = np.random.default_rng(0)
    counts = rng.integers(1, MOST_ITEMS + 1, options.clips)
    rows = rng.standard_normal((MOST_ITEMS + 999, options.size), dtype=np.float32)
    for place, name in (("embed/net/part", "embed"), ("items/part", "faces")):
        folder = root / place
        folder.mkdir(parents=True)
        with open(folder / f"{name}.ark", "wb") as archive, open(folder / f"{name}.scp", "w") as listed:
            for number, count in enumerate(counts.tolist()):
                matrix = rows[number % 1000 : number % 1000 + count]
                if name == "faces":
                    matrix = np.zeros((count, 17), np.float32)
                    matrix[:, 0] = matrix[:, 1] = np.arange(count)
                    matrix[:, 2:7] = 10, 10, 90, 90, 1
                listed.write(f"c{number:07d} {name}.ark:{archive.tell() + 9}\n")
                archive.write(matrix_bytes(f"c{number:07d}", matrix))


def prepare(root: Path, options: Options) -> Clips:
    """The clips as the step prepares them: half of them of persons, the others of strangers."""
    from steps.train_identifier import Learnt, SetOptions, read_clips

    names = [f"c{number:07d}" for number in range(options.clips)]
    data = root / "data"
    data.mkdir()
    (data / "vid.scp").write_text("".join(f"{name} x.mp4\n" for name in names))
    known = enumerate(names[::2])
    (data / "utt2spk").write_text("".join(f"{name} p{number % options.persons:06d}\n" for number, name in known))
    learnt = Learnt(data, SetOptions("face", ["part"], [root / "embed/net"], root / "items").part("part"))
    persons = [f"p{number:06d}" for number in range(options.persons)]
    return read_clips(root / "clips", [learnt], persons, options.size)


def time_batches(clips: Clips, options: Options) -> None:
    from vidperson.training.clips import ClipBatches, Draw

    every = np.arange(options.clips)
    batches = ClipBatches(clips, every, every, Draw.parse("1=0.25 3=0.65 5=0.1"), BATCH, 0)
    steps = batches.steps_per_epoch
    _, seconds = timed(lambda: [batches.load(0, step) for step in range(steps)])
    tell("drawing and pooling batches", seconds / steps / BATCH, options.epoch, "an epoch")


def time_training(clips: Clips, folder: Path, options: Options) -> None:
    """Of one epoch, its checkpoints included; leaves the exported network."""
    from steps.train_identifier import whitening
    from vidperson.report.plots import training_curves
    from vidperson.training.command import IdentifierOptions, TrainingOptions, train_plan
    from vidperson.training.identifier import Validation, export_identifier, identifier_card, plan_identifier
    from vidperson.training.loop import join_world
    from vidperson.training.settings import Settings

    loss = "sigmoid" if options.architecture == "cosine" else "softmax"
    how = IdentifierOptions(architecture=options.architecture, loss=loss, batch_size=BATCH)
    settings = Settings(epochs=1, optimiser="sgd", lr=0.01, precision=options.precision)
    training = TrainingOptions(["made up"], str(folder), threads=options.threads, settings=settings)
    card = identifier_card(how, training, clips.persons, options.size, ["net"], "face")
    nothing = Validation(lambda run: 0.0, "")
    with join_world("cpu") as world:
        plans = plan_identifier(clips, card, how, training, world, None, lambda held: nothing, whitening)
        best, seconds = timed(lambda: train_plan(plans[""], training, world, training_curves, folder))
        count = plans[""].source.steps_per_epoch * BATCH
        tell(f"training in {options.precision}", seconds / count, options.epoch, "an epoch")
        export_identifier(plans, {"": best}, how, training, None)


def time_prediction(folder: Path, options: Options) -> None:
    from vidperson.networks.card import load_card
    from vidperson.networks.install import InstalledModel
    from vidperson.networks.opening import open_network

    installed = InstalledModel(load_card(folder / "who.yaml"), folder / "who.onnx", "")
    vectors = np.random.default_rng(0).standard_normal((AT_ONCE, options.size), dtype=np.float32)
    for precision in ("fp32", "bf16"):
        run = open_network(installed, options.engine, "cpu", options.threads, precision)
        run(vectors)
        best = min(timed(lambda: [run(vectors) for _ in range(10)])[1] for _ in range(3))  # noqa: B023
        tell(f"prediction in {precision}", best / 10 / AT_ONCE, options.predicted, "the vectors of a prediction")


if __name__ == "__main__":
    cli.run(benchmark, Options, __doc__)
