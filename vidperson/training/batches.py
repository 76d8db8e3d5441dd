"""Batches in a random order that can be taken up anywhere.

The n-th item of an epoch, and everything that is random about it, depend only on the seed, the epoch and n: not on
the number of workers, nor on where a run was stopped and taken up again.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidperson.errors import DataError, MediaError

MOST_BROKEN = 20
CPU = torch.device("cpu")
Arrays = dict[str, NDArray[Any]]
Item = TypeVar("Item")


class ShuffledBatches(ABC):
    """Shuffled batches, the same for the same seed, epoch and step; a subclass loads one.

    count: items of an epoch. batch_size: items of one step on all ranks together; the last, smaller batch of an epoch
    is left out, unless it is the only one. rank, ranks: this process of how many; each takes every ranks-th item.
    workers: processes that load ahead; 0 loads in this one.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1, workers: int = 0) -> None:
        self.count, self.seed, self.rank, self.ranks, self.workers = count, seed, rank, ranks, workers
        self.per_rank = min(count, batch_size) // ranks
        self.steps_per_epoch = count // (self.per_rank * ranks)
        self.broken: set[str] = set()
        self._order = (-1, np.zeros(0, np.int64))
        self._ahead: Iterator[Any] | None = None  # of the workers, and the epoch and step that they give next
        self._next: tuple[int, int] | None = None

    @abstractmethod
    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """The batch of one step of this rank, arrays by name, and what was left out and why.

        Raises DataError when nothing usable is found.
        """

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The (N,) items in the order of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, self.shuffled(np.random.default_rng([self.seed, epoch]))
        return self._order[1]

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The (N,) items of an epoch, in its order."""
        return rng.permutation(self.count)

    def places_of(self, step: int) -> range:
        """Where in the order of an epoch the items of one step of this rank are."""
        whole = self.per_rank * self.ranks
        return range(step * whole + self.rank, (step + 1) * whole, self.ranks)

    def draws(self, epoch: int, step: int) -> Iterator[tuple[int, np.random.Generator]]:
        """The items of one step of this rank, each with the generator of everything random about it."""
        for place in self.places_of(step):
            yield int(self.order(epoch)[place]), np.random.default_rng([self.seed, epoch, place])

    def usable(self, item: int, rng: np.random.Generator, use: Callable[[int], Item]) -> tuple[Item, list[str]]:
        """What ``use`` makes of an item, or of its substitutes where it raises MediaError or OSError, so that all ranks
        have equally many; and what was left out.

        Raises DataError when item after item cannot be used.
        """
        broken: list[str] = []
        substitutes = self.substitutes(item, rng)
        for _ in range(MOST_BROKEN):
            try:
                return use(item), broken
            except MediaError as error:
                broken.append(str(error))
            except OSError as error:
                broken.append(f"{error.filename or f'item {item}'}: {error.strerror or error}")
            item = next(substitutes)
        raise DataError(f"{MOST_BROKEN} items in turn cannot be used, the last one: {broken[-1]}")

    def substitutes(self, item: int, rng: np.random.Generator) -> Iterator[int]:
        """What to take for an item that cannot be used, without end: random ones."""
        while True:
            yield int(rng.integers(self.count))

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from a step on, as tensors by name.

        Each broken item is logged once, and kept in ``broken``.
        """
        for loaded in self._loaded(epoch, first_step):
            if isinstance(loaded, str):
                raise DataError(loaded)
            tensors, broken = loaded  # the data loader has made tensors of the arrays
            for place in broken:
                if place not in self.broken:
                    self.broken.add(place)
                    logging.warning("left out: %s", place)
            yield tensors

    def _loaded(self, epoch: int, first_step: int) -> Iterator[tuple[dict[str, Tensor], list[str]] | str]:
        """What :class:`_Loader` makes of the rest of an epoch."""
        steps = range(first_step, self.steps_per_epoch)
        if not self.workers:
            keys = [(epoch, step) for step in steps]
            yield from torch.utils.data.DataLoader(_Loader(self), batch_size=None, sampler=keys)
            return
        if self._ahead is None or self._next != (epoch, first_step):
            self._ahead = self._start_workers(epoch, first_step)
        for step in steps:
            loaded = next(self._ahead)
            self._next = divmod(epoch * self.steps_per_epoch + step + 1, self.steps_per_epoch)
            yield loaded

    def _start_workers(self, epoch: int, first_step: int) -> Iterator[Any]:
        """Workers that load from a step on without end: starting them takes longer than a small epoch."""
        return iter(
            torch.utils.data.DataLoader(
                _Loader(self),
                batch_size=None,
                sampler=_Endless(epoch, first_step, self.steps_per_epoch),
                num_workers=self.workers,
                prefetch_factor=4,
                worker_init_fn=one_thread,
                # Not forked: the threads of a teacher's engine may hold locks at that moment.
                multiprocessing_context="forkserver",
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        """For the workers: all but the workers themselves."""
        return {**self.__dict__, "_ahead": None}


class IdentityBatches(ShuffledBatches):
    """Batches of P identities with K items each, which losses of triplets need; an epoch has every identity once.

    labels: (N,) class numbers of all items. identities: P, of one step on all ranks together; as many as can be shared
    out evenly are taken, an identity never to two ranks. images: K; of an identity with fewer, items come again.
    The other parameters are those of :class:`ShuffledBatches`; what an epoch leaves out is as there.
    Raises DataError for K below 2, and for fewer than two identities per rank.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        identities: int,
        images: int,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
    ) -> None:
        by_class = np.argsort(labels, kind="stable")
        self.members = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
        taken = min(len(self.members), identities) // ranks * ranks
        if images < 2 or taken < 2 * ranks:
            raise DataError(
                f"expected at least 2 images of each of at least {2 * ranks} identities in a batch, found {images} of "
                f"{min(len(self.members), identities)}"
            )
        self.labels, self.images = labels, images
        super().__init__(len(self.members) * images, taken * images, seed, rank, ranks, workers)

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The (identities * K,) items of an epoch: each identity's K are next to each other."""
        drawn = [np.resize(rng.permutation(self.members[k]), self.images) for k in rng.permutation(len(self.members))]
        return np.concatenate(drawn)

    def places_of(self, step: int) -> range:
        """Those of whole identities."""
        first = (step * self.ranks + self.rank) * self.per_rank
        return range(first, first + self.per_rank)

    def substitutes(self, item: int, rng: np.random.Generator) -> Iterator[int]:
        """Some others of its identity in random order, then random ones of all."""
        members = next(members for members in self.members if self.labels[members[0]] == self.labels[item])
        yield from (int(other) for other in rng.permutation(members)[: MOST_BROKEN // 2] if other != item)
        while True:
            yield int(rng.integers(len(self.labels)))


class TaughtBatches:
    """Batches with what a teacher says of exactly their images, augmented as they are.

    ask: the tensors of a batch, on ``device``, to those that the teacher adds.
    """

    def __init__(
        self,
        batches: ShuffledBatches,
        ask: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        device: torch.device = CPU,
    ) -> None:
        self.batches, self.ask, self.device = batches, ask, device
        self.steps_per_epoch = batches.steps_per_epoch

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in self.batches(epoch, first_step):
            there = {name: value.to(self.device) for name, value in batch.items()}
            yield {**there, **self.ask(there)}


class Normalise(nn.Module):
    """(N, H, W, 3) uint8 images to (N, 3, H, W) float32, ``(pixel - mean) / std``; mean, std: three each."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        width = images.shape[2]
        # Rows as a whole: a CPU is ten times slower with three channels next to each other.
        rows = images.flatten(2).float().sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)


class _Endless(torch.utils.data.Sampler[tuple[int, int]]):
    """All keys (epoch, step) from one on."""

    def __init__(self, epoch: int, step: int, steps_per_epoch: int) -> None:
        self.first, self.steps_per_epoch = epoch * steps_per_epoch + step, steps_per_epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return (divmod(number, self.steps_per_epoch) for number in itertools.count(self.first))


class _Loader(torch.utils.data.Dataset["tuple[Arrays, list[str]] | str"]):
    """A batch, or what is wrong with it, per key (epoch, step): what the data loader's workers run."""

    def __init__(self, batches: ShuffledBatches) -> None:
        self.batches = batches

    def __getitem__(self, key: tuple[int, int]) -> tuple[Arrays, list[str]] | str:
        try:
            return self.batches.load(*key)
        except DataError as error:
            return str(error)


def one_thread(worker: int) -> None:
    """For a data loader's worker: all of them fill the cores already."""
    cv2.setNumThreads(0)
