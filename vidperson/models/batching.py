"""Batches for networks that take one picture at a time."""

from __future__ import annotations

import numpy as np

from vidperson.engines import Network
from vidperson.types import Float


def run_network(network: Network, batch: Float, pictures_per_run: int | None) -> list[Float]:
    """The outputs for a batch (N, C, H, W), N at least 1; each starts with N.

    pictures_per_run: None: the network takes any number; 1: it takes one at a time, and its outputs may lack the N.
    """
    if pictures_per_run is None:
        return network(batch)
    runs = [network(batch[index : index + 1]) for index in range(len(batch))]
    return [np.stack([out[0] if len(out) == 1 else out for out in outputs]) for outputs in zip(*runs, strict=True)]
