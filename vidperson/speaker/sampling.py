"""A sample of voices, for comparing networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vidperson.engines import Network
from vidperson.io.lines import read_paths
from vidperson.networks.card import ModelCard
from vidperson.speaker.cutting import SpeechStretches, read_spans
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.types import Float

_RATE = 16000  # Hz: networks for another rate are compared on sound that is played too fast or too slowly


def open_embedder(network: Network, card: ModelCard) -> Callable[[list[Float]], Float]:
    """Sounds to (N, D) embeddings."""
    embedder = SpeakerEmbedder(network, card)
    return lambda sounds: embedder.embed([embedder.items(sound) for sound in sounds])


def sample_items(items_dir: Path, wanted: int, scp: Path) -> Iterator[Float]:
    """The sound, (samples,) float32, of about ``wanted`` segments spread over the set."""
    stretches, paths = SpeechStretches(items_dir), read_paths(scp)
    segments = [segment for segment in paths if stretches.count(segment)]
    for segment in segments[:: max(1, len(segments) // wanted)]:
        for _, sound in read_spans(paths[segment], stretches.rows(segment), _RATE):
            yield sound
