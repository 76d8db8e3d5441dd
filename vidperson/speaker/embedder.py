"""Sound in, embeddings out, as the model card says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.batching import any_batch, by_shape
from vidperson.networks.card import FbankInput, ModelCard, WaveformInput
from vidperson.networks.embedder import check_embeddings
from vidperson.speaker.fbank import least_samples, network_input, repeated
from vidperson.types import Float

KIND = "speaker_embedder"


class SpeakerEmbedder:
    """A network behind its card: front end, crops of networks that take one length, and their mean.

    batch: crops per call. sample_rate: of the sound that it takes, Hz. embedding_size: D.
    Raises ModelError for a card of another kind, or of another input than sound.
    """

    def __init__(self, network: Network, card: ModelCard, batch: int = 16) -> None:
        if card.kind != KIND:
            raise ModelError(f"{card.name} is a {card.kind}, not a {KIND}")
        if not isinstance(card.input, FbankInput | WaveformInput):
            raise ModelError(f"{card.name}: input.kind: expected fbank or waveform, found {card.input.kind}")
        assert card.output.embedding_size
        self.network, self.card, self._batch = any_batch(network, card.input.batch), card, batch
        self._least = round(card.input.min_s * card.input.sample_rate)
        self.sample_rate, self.embedding_size = card.input.sample_rate, card.output.embedding_size

    def items(self, sound: Float) -> Float:
        """What the network takes for a stretch of sound: (N, ...) float32, N crops, or 1 for the whole of it.

        sound: (samples,) float32 from -1 to 1, at least one. It is repeated where the network or a frame takes more.
        """
        what = self.card.input
        if isinstance(what, FbankInput):
            return network_input(repeated(sound, max(self._least, least_samples(what, 1))), what)
        assert isinstance(what, WaveformInput)
        return (repeated(sound, self._least) * np.float32(what.scale))[None, :]

    def embed(self, items: Sequence[Float]) -> Float:
        """(N, D) float32, not length-normalised, of N stretches: each of the mean of its crops.

        items: of each what :meth:`items` gives. Crops go through the network together where they are equally long, so
        that nothing is filled up and none depends on the others.
        Raises ModelError when the network gives another size than the card says, or numbers that are not finite.
        """
        sums = np.zeros((len(items), self.embedding_size))
        owners = [place for place, crops in enumerate(items) for _ in crops]
        for places, batch in by_shape(owners, [crop for crops in items for crop in crops], self._batch):
            found = check_embeddings(self.network(batch)[0], (len(batch), self.embedding_size), self.card)
            np.add.at(sums, places, found)
        counts = np.array([len(crops) for crops in items]).reshape(-1, 1)
        return (sums / counts).astype(np.float32)
