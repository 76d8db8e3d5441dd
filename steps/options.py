"""Groups of options that steps of all modalities have."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass

from vidperson import cli
from vidperson.engines import ENGINES, PRECISIONS


def device_name(value: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:<number>``. Raises argparse.ArgumentTypeError for anything else."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", value):
        raise ArgumentTypeError(f"expected cpu, cuda or cuda:<number>, found {value}")
    return value


@dataclass(frozen=True)
class EngineOptions:
    """How a network is run."""

    engine: str = cli.option("auto", "what runs the network; auto: the best one here", choices=("auto", *ENGINES))
    device: str = cli.option("cpu", "where it runs: cpu, cuda or cuda:<number>", convert=device_name)
    precision: str = cli.option("fp32", "what it computes in", choices=PRECISIONS)
    threads: int = cli.option(1, "CPU threads", convert=cli.whole(1))
