"""Aligned crops in, embeddings out, as the model card says."""

from __future__ import annotations

from vidperson.engines import Network
from vidperson.face.align import CROP_SIZE
from vidperson.networks.card import ModelCard
from vidperson.networks.embedder import PictureEmbedder


class FaceEmbedder(PictureEmbedder):
    """A face network: (N, 112, 112, 3) uint8 RGB crops to embeddings; see :class:`PictureEmbedder`."""

    def __init__(self, network: Network, card: ModelCard, mirror: str | None = None) -> None:
        super().__init__(network, card, "face_embedder", (CROP_SIZE, CROP_SIZE), mirror)
