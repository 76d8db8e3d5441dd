"""Groups of options that steps of all modalities have."""

from __future__ import annotations

import logging
import os
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from vidperson import cli
from vidperson.engines import ENGINES, PRECISIONS, Network

if TYPE_CHECKING:
    from vidperson.networks.card import ModelCard


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


def open_model(folder: str | os.PathLike[str], options: EngineOptions, batch: int) -> tuple[Network, ModelCard]:
    """The installed network of a folder, ready to run, and its card; the next job of this process gets the same.

    batch: items per call. Raises as :func:`~vidperson.networks.opening.open_network` and ``installed_model``.
    """
    hits = kept_open.cache_info().hits
    network, card = kept_open(os.fspath(folder), options, batch)
    if kept_open.cache_info().hits > hits:
        engine = type(network).__module__.rpartition(".")[2].removesuffix("_engine")
        logging.info(
            "network %s: engine %s, device %s, %s, %d threads; open since an earlier job of this process",
            *(folder, engine, options.device, options.precision, options.threads),
        )
    return network, card


@lru_cache(maxsize=2)  # a detector and an embedder
def kept_open(folder: str, options: EngineOptions, batch: int) -> tuple[Network, ModelCard]:
    """See :func:`open_model`."""
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    installed = installed_model(folder)
    network = open_network(installed, options.engine, options.device, options.threads, options.precision, batch)
    return network, installed.card
