"""Sound in, embeddings out, as the model card says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.batching import any_batch, by_shape
from vidperson.networks.card import FbankInput, ModelCard, WaveformInput
from vidperson.networks.embedder import check_embeddings
from vidperson.speaker.fbank import network_input
from vidperson.types import Float

KIND = "speaker_embedder"
_CROPS_AT_ONCE = 32  # of one stretch of sound: a call's size would change last digits, so it is no option


class SpeakerEmbedder:
    """A network behind its card: front end, crops of networks that take one length, and their mean.

    sample_rate: of the sound that it takes, Hz. embedding_size: D.
    Raises ModelError for a card of another kind, or of another input than sound.
    """

    def __init__(self, network: Network, card: ModelCard) -> None:
        if card.kind != KIND:
            raise ModelError(f"{card.name} is a {card.kind}, not a {KIND}")
        if not isinstance(card.input, FbankInput | WaveformInput):
            raise ModelError(f"{card.name}: input.kind: expected fbank or waveform, found {card.input.kind}")
        assert card.output.embedding_size
        self.network, self.card = any_batch(network, card.input.batch), card
        self.sample_rate, self.embedding_size = card.input.sample_rate, card.output.embedding_size

    def items(self, sound: Float) -> Float:
        """What the network takes for a stretch of sound: (N, ...) float32, N crops, or 1 for the whole of it.

        sound: (samples,) float32 from -1 to 1. Sound without a whole frame gives no crop.
        """
        if isinstance(self.card.input, FbankInput):
            return network_input(sound, self.card.input)
        assert isinstance(self.card.input, WaveformInput)
        return (sound * np.float32(self.card.input.scale))[None, :]

    def embed(self, items: Sequence[Float]) -> Float:
        """(N, D) float32, not length-normalised, of N stretches: each of the mean of its crops.

        items: of each what :meth:`items` gives. Stretches of one crop each go through the network together where these
        are equally long, so that nothing is filled up and none depends on the others.
        Raises ModelError for a stretch without a crop, when the network gives another size than the card says, or
        numbers that are not finite.
        """
        if any(not len(crops) for crops in items):
            raise ModelError(f"{self.card.name}: the sound is too short for one frame")
        found = np.zeros((len(items), self.embedding_size), np.float32)
        single = [place for place, crops in enumerate(items) if len(crops) == 1]
        for places, batch in by_shape(single, [items[place][0] for place in single]):
            found[places] = self._run(batch)
        for place, crops in enumerate(items):
            if len(crops) > 1:
                parts = [crops[at : at + _CROPS_AT_ONCE] for at in range(0, len(crops), _CROPS_AT_ONCE)]
                found[place] = np.concatenate([self._run(part) for part in parts]).mean(axis=0, dtype=np.float64)
        return found

    def _run(self, batch: Float) -> Float:
        return check_embeddings(self.network(batch)[0], (len(batch), self.embedding_size), self.card)
