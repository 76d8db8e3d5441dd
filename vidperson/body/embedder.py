"""Persons in, embeddings out, as the model card says."""

from __future__ import annotations

from vidperson.body.crops import CROP_HEIGHT, CROP_WIDTH
from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.card import ModelCard, picture_input
from vidperson.networks.embedder import PictureEmbedder


class BodyEmbedder(PictureEmbedder):
    """A body network: (N, 256, 128, 3) uint8 RGB crops to embeddings; see :class:`PictureEmbedder`.

    Raises ModelError for a network of smaller pictures, too: nothing may be cut off a person.
    """

    def __init__(self, network: Network, card: ModelCard, mirror: str | None = None) -> None:
        super().__init__(network, card, "body_embedder", (CROP_HEIGHT, CROP_WIDTH), mirror)
        pictures = picture_input(card)
        if (pictures.height, pictures.width) != self.crop_size:
            raise ModelError(
                f"{card.name}: input.width, input.height: expected {CROP_WIDTH} x {CROP_HEIGHT}, the size of a crop, "
                f"found {pictures.width} x {pictures.height}"
            )
