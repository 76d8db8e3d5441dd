"""Options that steps share."""

from __future__ import annotations

from dataclasses import dataclass

from vidperson import cli


@dataclass(frozen=True)
class EngineOptions:
    """How a step runs its network."""

    engine: str = cli.option("auto", "what runs the network; auto: the best one here")
    device: str = cli.option("cpu", "where the network runs: cpu, cuda or cuda:<number>")
    precision: str = cli.option("fp32", "what the network computes in: fp32, bf16 or fp16")
    threads: int = cli.option(1, "CPU threads of the network", convert=cli.whole(1))
