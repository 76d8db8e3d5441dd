"""What a network for re-identification gives to the losses that it is trained with."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class Features(NamedTuple):
    """Of N pictures, not length-normalised but where a network says so.

    embedding: (N, D), what the network is for. metric: (N, .) each, for losses of distances such as triplets.
    identity: (N, .) each, for a classifier of its own each.
    """

    embedding: Tensor
    metric: list[Tensor]
    identity: list[Tensor]


class Halved(nn.Module):
    """(N, 3, height, width) float images, even sides, to what a network gives for them at half their size.

    network: one that has ``features`` and ``identity_sizes``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.identity_sizes: tuple[int, ...] = network.identity_sizes  # type: ignore[assignment]

    def features(self, images: Tensor) -> Features:
        """See the network's own."""
        found: Features = self.network.features(functional.avg_pool2d(images, 2))  # type: ignore[operator]
        return found

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(functional.avg_pool2d(images, 2))
        return found
