"""What steps/check_precision.py needs of this modality: its networks as functions, and samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from vidperson.body.crops import BodyCrops
from vidperson.body.embedder import BodyEmbedder
from vidperson.engines import Network
from vidperson.networks.card import ModelCard
from vidperson.types import Float, Image


def open_embedder(network: Network, card: ModelCard) -> Callable[[list[Image]], Float]:
    """A function from N crops, (256, 128, 3) uint8 RGB, to (N, D) embeddings."""
    embedder = BodyEmbedder(network, card)
    return lambda crops: embedder.embed(np.stack(crops))


def sample_items(items_dir: str | os.PathLike[str], wanted: int) -> Iterator[Image]:
    """About ``wanted`` crops of a folder of stage 2, of segments spread over the set."""
    return BodyCrops(items_dir).sample(wanted)
