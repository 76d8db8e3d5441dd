"""Pictures in, embeddings out, as the model card says; and what embeddings of any modality are checked for."""

from __future__ import annotations

import numpy as np

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.batching import any_batch
from vidperson.networks.card import MIRROR, ModelCard, picture_input
from vidperson.types import Float, Image


class PictureEmbedder:
    """A network behind its card: cut-out, channel order, normalisation and mirrored pass.

    kind: that the card must have. crop_size: (height, width) of the pictures; of a network for smaller ones the middle
    is cut out.
    mirror: one of ``MIRROR`` instead of what the card says: the embedding of the picture alone, of the picture and its
    mirror image one behind the other, or their sum. Raises ModelError for a card of another kind, or of a larger
    picture.
    """

    def __init__(
        self, network: Network, card: ModelCard, kind: str, crop_size: tuple[int, int], mirror: str | None = None
    ) -> None:
        if card.kind != kind:
            raise ModelError(f"{card.name} is a {card.kind}, not a {kind}")
        self.network, self.card, self.crop_size = any_batch(network, card.input.batch), card, crop_size
        pictures, (height, width) = picture_input(card), crop_size
        assert pictures.width and pictures.height and card.output.embedding_size
        if pictures.height > height or pictures.width > width:
            raise ModelError(
                f"{card.name}: input.width, input.height: expected at most {width} x {height}, the size of a crop, "
                f"found {pictures.width} x {pictures.height}"
            )
        if mirror not in (None, *MIRROR):
            raise ModelError(f"mirror: expected one of {' '.join(MIRROR)}, found '{mirror}'")
        self.mirror = mirror or card.output.mirror
        one_pass = card.output.embedding_size // (2 if card.output.mirror == "concatenate" else 1)
        self.embedding_size = one_pass * (2 if self.mirror == "concatenate" else 1)
        top, left = (height - pictures.height) // 2, (width - pictures.width) // 2
        order = np.s_[:: 1 if pictures.channels == "rgb" else -1]
        self._cut = np.s_[:, top : top + pictures.height, left : left + pictures.width, order]
        self._mean = np.array(pictures.mean, np.float32)[:, None, None]
        self._scale = np.reciprocal(np.array(pictures.std, np.float32))[:, None, None]

    def embed(self, crops: Image) -> Float:
        """(N, *crop_size, 3) uint8 RGB pictures to (N, embedding_size) float32, not length-normalised.

        Raises ModelError when the network gives another size than the card says, or numbers that are not finite.
        """
        if not len(crops):
            return np.zeros((0, self.embedding_size), np.float32)
        planes = np.ascontiguousarray(crops[self._cut].transpose(0, 3, 1, 2))
        pictures = np.subtract(planes, self._mean, dtype=np.float32)
        pictures *= self._scale
        embeddings = self.network(pictures)[0]
        if self.mirror != "none":
            mirrored = self.network(pictures[..., ::-1])[0]
            both = (embeddings, mirrored)
            embeddings = np.concatenate(both, axis=1) if self.mirror == "concatenate" else both[0] + both[1]
        return check_embeddings(embeddings, (len(crops), self.embedding_size), self.card)


def check_embeddings(found: Float, shape: tuple[int, int], card: ModelCard) -> Float:
    """The embeddings. Raises ModelError when they are not of the shape (N, D), or hold numbers that are not finite."""
    if found.shape != shape:
        raise ModelError(f"{card.name}: expected embeddings of shape {shape}, found {found.shape}")
    if not np.isfinite(found).all():
        raise ModelError(f"{card.name}: the network gave values that are not finite; the file or the card is wrong")
    return found
