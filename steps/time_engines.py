#!/usr/bin/env python3
"""Time every engine and precision that runs here on the same networks and the same batch.

Inputs:  installed networks.
Outputs: on standard output per network and engine the time per item, how many times faster that is
         than ONNX Runtime in float32 on the CPU, and the largest difference from it, relative to
         the largest output. CPU times are CPU seconds of this process (wall seconds for mxnet,
         which has a process of its own). GPU times are wall seconds, copies included. The engine
         that --engine auto takes is marked.

Example:
  python steps/time_engines.py --model exp/face_models/retinaface_tiny exp/face_models/arcface_tiny
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.networks.card import ModelCard
    from vidperson.networks.install import InstalledModel
    from vidperson.types import Float


@dataclass(frozen=True)
class TimeOptions:
    """See the top of this file."""

    model: list[Path] = cli.option(help="folders of installed networks")
    device: str = cli.option("cpu", "where the networks run: cpu, cuda or cuda:<number>")
    batch: int = cli.option(16, "items per call", convert=cli.whole(1))
    threads: int = cli.option(1, "CPU threads", convert=cli.whole(1))
    repeat: int = cli.option(5, "calls that are timed, of which the shortest counts", convert=cli.whole(1))
    size: list[int] = cli.option((800, 448), "width and height of images for networks that take any size")
    frames: int = cli.option(200, "frames, of 10 ms each, of sound for networks that take any length")


def time_engines(options: TimeOptions) -> None:
    """Print the tables. Raises VidPersonError for networks and devices that are not there."""
    from vidperson.networks.install import installed_model

    what = f"batches of {options.batch}, {options.threads} threads, shortest of {options.repeat} calls"
    print(f"device {options.device}, {what}\n")
    print("| network | engine | precision | ms per item | times as fast | largest difference | auto |")
    print("|---" * 7 + "|")
    for folder in options.model:
        time_network(installed_model(folder), options)


def time_network(installed: InstalledModel, options: TimeOptions) -> None:
    """Print a row for each engine and precision that there is."""
    import numpy as np

    from vidperson.engines import ENGINES, PRECISIONS
    from vidperson.engines.processor import processor_features
    from vidperson.errors import EngineError
    from vidperson.networks.opening import cpu_engine, open_network

    card, cpu = installed.card, options.device == "cpu"
    items = make_batch(card, options)
    plain = open_network(installed, "onnxruntime", "cpu", options.threads)
    expected = plain(items)
    base = shortest(partial(plain, items), options.repeat, time.process_time)
    for engine, precision in [(engine, precision) for engine in ENGINES for precision in PRECISIONS]:
        try:
            network = open_network(installed, engine, options.device, options.threads, precision, options.batch)
        except EngineError:
            continue
        found = network(items)
        clock = time.process_time if cpu and engine != "mxnet" else time.perf_counter
        seconds = shortest(partial(network, items), options.repeat, clock)
        difference = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))
        auto = cpu and precision != "fp16" and cpu_engine(card, precision, processor_features())[0] == engine
        row = [card.name, engine, precision, f"{1000 * seconds / options.batch:.2f}", f"{base / seconds:.2f}"]
        print("| " + " | ".join([*row, f"{difference:.0e}", "yes" if auto else ""]) + " |", flush=True)
        del network


def make_batch(card: ModelCard, options: TimeOptions) -> Float:
    """Random numbers in the form that the network takes, (batch, ...) float32."""
    import numpy as np

    from vidperson.networks.card import FbankInput, PictureInput, VectorInput, WaveformInput

    rng, how = np.random.default_rng(0), card.input
    if isinstance(how, PictureInput):
        shape = (options.batch, 3, how.height or options.size[1], how.width or options.size[0])
        pixels = rng.integers(0, 256, shape).astype(np.float32)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (how.mean, how.std))
        return np.asarray((pixels - mean) / std, np.float32)
    if isinstance(how, FbankInput):
        inner: tuple[int, ...] = (how.crop_frames or options.frames, how.mel_bins)
        inner = inner[::-1] if how.channels_first else inner
    elif isinstance(how, WaveformInput):
        inner = (options.frames * how.sample_rate // 100,)
    else:
        assert isinstance(how, VectorInput)
        inner = (how.size,)
    return rng.normal(size=(options.batch, *inner)).astype(np.float32)


def shortest(task: Callable[[], object], repeat: int, clock: Callable[[], float]) -> float:
    """Seconds of the shortest of some calls, which other work disturbs least, after one that does not count."""
    task()
    found = []
    for _ in range(repeat):
        start = clock()
        task()
        found.append(clock() - start)
    return min(found)


if __name__ == "__main__":
    cli.run(time_engines, TimeOptions, __doc__)
