#!/usr/bin/env python3
"""Every engine and precision that runs here on the same networks and the same batch, in one run.

Prints per network and engine the time per item, how many times faster that is than ONNX Runtime in float32 on the CPU,
and the largest difference from it, relative to the largest output. CPU times are CPU seconds of this process (wall
seconds for mxnet, which has a process of its own); GPU times are wall seconds, copies to and from the GPU included,
with the share of the rate at which this GPU multiplies large matrices in the same precision.

Example:
  python benchmarks/engines.py --models exp/face_models/retinaface_tiny exp/face_models/arcface_tiny --batch 16
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidperson.engines import ENGINES, PRECISIONS
from vidperson.errors import EngineError
from vidperson.networks.install import InstalledModel, installed_model
from vidperson.networks.opening import open_network


def measure(models: list[str], device: str, batch: int, threads: int, repeat: int, size: list[int]) -> None:
    """Print the tables."""
    peaks = {precision: matrix_rate(device, precision) for precision in PRECISIONS} if device != "cpu" else {}
    print(f"device {device}, batches of {batch}, {threads} threads, shortest of {repeat} calls\n")
    print("| network | engine | precision | ms per item | times as fast | largest difference |", end="")
    print(" share of the matrix rate |" if peaks else "")
    print("|---" * (7 if peaks else 6) + "|")
    for folder in models:
        installed = installed_model(folder)
        pictures = make_batch(installed, batch, size)
        plain = open_network(installed, "onnxruntime", "cpu", threads)
        expected = plain(pictures)
        base = shortest(partial(plain, pictures), repeat, time.process_time)
        for engine, precision in [(engine, precision) for engine in ENGINES for precision in PRECISIONS]:
            try:
                network = open_network(installed, engine, device, threads, precision, batch)
            except EngineError:
                continue
            found = network(pictures)
            clock = time.process_time if device == "cpu" and engine != "mxnet" else time.perf_counter
            seconds = shortest(partial(network, pictures), repeat, clock)
            difference = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))
            row = [installed.card.name, engine, precision, f"{1000 * seconds / batch:.2f}", f"{base / seconds:.2f}"]
            row.append(f"{difference:.0e}")
            if peaks:
                row.append(f"{operations(installed, pictures) / seconds / peaks[precision]:.1%}")
            print("| " + " | ".join(row) + " |", flush=True)
            del network


def make_batch(installed: InstalledModel, count: int, size: list[int]) -> np.ndarray:
    """Random pixels as the network wants them; ``size`` is (width, height) for detectors."""
    how = installed.card.input
    shape = (count, 3, how.height or size[1], how.width or size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (how.mean, how.std))
    return np.asarray((pixels - mean) / std, np.float32)


def shortest(task: Callable[[], object], repeat: int, clock: Callable[[], float]) -> float:
    """Seconds of the shortest of some calls, which other work disturbs least, after one that does not count."""
    task()
    found = []
    for _ in range(repeat):
        start = clock()
        task()
        found.append(clock() - start)
    return min(found)


def operations(installed: InstalledModel, pictures: np.ndarray) -> float:
    """Multiplications and additions of a pass in convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vidperson.engines.torch_graph import OnnxModule

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        OnnxModule(str(installed.network)).eval()(torch.from_numpy(pictures[:1]))
    return float(counter.get_total_flops()) * len(pictures)


def matrix_rate(device: str, precision: str, size: int = 8192) -> float:
    """Operations per second of a product of two large square matrices on a GPU."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    matrix = torch.randn(size, size, device=device).to(kind)

    def product() -> None:
        matrix @ matrix
        torch.cuda.synchronize(device)

    return 2 * size**3 / shortest(product, 10, time.perf_counter)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="folders of installed networks")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--batch", type=int, default=16, help="items per call")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeat", type=int, default=5, help="calls that are timed")
    parser.add_argument("--size", type=int, nargs=2, default=[800, 448], help="width and height for detectors")
    measure(**vars(parser.parse_args()))
