"""What a network for re-identification gives to the losses that it is trained with."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Of N pictures, not length-normalised but where a network says so.

    embedding: (N, D), what the network is for. metric: (N, .) each, for losses of distances such as triplets.
    identity: (N, .) each, for a classifier of its own each.
    """

    embedding: Tensor
    metric: list[Tensor]
    identity: list[Tensor]
