"""Batches for networks that take one item at a time, and of items that differ in length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vidperson.engines import Network
from vidperson.types import Float


def any_batch(network: Network, items_per_run: int | None) -> Network:
    """A network that takes any number of items, at least 1, and whose outputs all start with that number.

    items_per_run: what ``network`` takes. None: any number; 1: one at a time, and its outputs may lack the number.
    """
    if items_per_run is None:
        return network

    def run(batch: Float) -> list[Float]:
        runs = [network(batch[index : index + 1]) for index in range(len(batch))]
        return [np.stack([out[0] if len(out) == 1 else out for out in outputs]) for outputs in zip(*runs, strict=True)]

    return run


def by_shape(keys: Sequence[int], items: Sequence[Float], most: int) -> Iterator[tuple[list[int], Float]]:
    """Groups of at most so many items of one shape, in the order of their first ones: their keys, and one array."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item.shape, []).append(place)
    for places in groups.values():
        for start in range(0, len(places), most):
            part = places[start : start + most]
            yield [keys[place] for place in part], np.stack([items[place] for place in part])
