"""What steps/check_precision.py needs of a modality: its networks as functions, and samples."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from vidperson.engines import Network
from vidperson.errors import MediaError
from vidperson.face.crops import FaceCrops
from vidperson.face.detector import make_detector
from vidperson.face.embedder import FaceEmbedder
from vidperson.io.lines import read_paths
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.networks.card import ModelCard
from vidperson.types import Float, Image


def open_embedder(network: Network, card: ModelCard) -> Callable[[list[Image]], Float]:
    """A function from N crops, (112, 112, 3) uint8 RGB, to (N, D) embeddings."""
    embedder = FaceEmbedder(network, card)
    return lambda crops: embedder.embed(np.stack(crops))


def open_detector(
    network: Network, card: ModelCard, max_size: int, keep_overlaps: bool
) -> Callable[[Image, float], Float]:
    """A function from a frame, (height, width, 3) uint8 RGB, and a lowest score to (N, 4) boxes."""
    detector = make_detector(network, card, max_size)
    if keep_overlaps:
        detector.nms_threshold = 1.0
    return lambda frame, score: detector.detect([frame], score)[0].boxes


def sample_items(items_dir: str | os.PathLike[str], wanted: int) -> Iterator[Image]:
    """About ``wanted`` crops of a folder of stage 2, of segments spread over the set."""
    return FaceCrops(items_dir).sample(wanted)


def sample_frames(scp: str | os.PathLike[str], wanted: int, threads: int) -> Iterator[Image]:
    """About ``wanted`` frames, a second apart, of segments spread over the list of videos or images.

    What cannot be read is left out.
    """
    paths = list(read_paths(scp).values())
    picked = paths[:: max(1, len(paths) // wanted)]
    each = -(-wanted // max(1, len(picked)))
    for path in picked:
        try:
            with FrameReader(path, UniformSampling(1), threads) as reader:
                for frame in islice(reader, each):
                    yield frame.image
        except MediaError as error:
            logging.warning("%s: left out: %s", path, error)
