"""Pictures to train on: which there are of whom, and batches of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.io.pictures import Pictures, held_out
from vidperson.training.augment import Augmentation, mix_pairs
from vidperson.training.batches import Arrays, IdentityBatches, ShuffledBatches
from vidperson.types import Image

Decoder = Callable[[bytes], Image]
NOBODY = -1  # the class of a picture that nobody is known in


class Source(Protocol):
    """Where items are; ``names`` has one each."""

    @property
    def names(self) -> list[str]: ...

    def read_item(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """Encoded bytes of an item's picture, and its place for messages. Raises OSError where it cannot be read."""
        ...


@dataclass(frozen=True)
class PlainPictures:
    """Each picture is an item. pictures: all of a folder or an archive. chosen: those that are meant, by number."""

    pictures: Pictures
    chosen: Sequence[int]

    @property
    def names(self) -> list[str]:
        return [self.pictures.names[number] for number in self.chosen]

    def read_item(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """See :class:`Source`."""
        at = self.chosen[number]
        return self.pictures.read(at), self.pictures.where(at)


@dataclass(frozen=True)
class PictureSet:
    """All items to train on.

    identities: names of the C classes, sorted. labels: (N,) int64 class of each item, ``NOBODY`` where it is not known.
    sources: where the pictures are. source, number: (N,) the item's source and its number there.
    """

    identities: list[str]
    labels: NDArray[np.int64]
    sources: list[Source]
    source: NDArray[np.int64]
    number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of who is in which item, by their names: other data of the same size has another."""
        found = hashlib.sha256()
        names = [source.names for source in self.sources]
        identities = [*self.identities, ""]  # the last one is NOBODY's
        for label, source, number in zip(*map(np.ndarray.tolist, (self.labels, self.source, self.number)), strict=True):
            found.update(os.fsencode(f"{identities[label]}\n{names[source][number]}\n"))
        return found.hexdigest()

    def pick(self, chosen: NDArray[np.bool_]) -> PictureSet:
        """The items where (N,) ``chosen`` is true; classes keep their numbers."""
        parts = self.labels[chosen], self.sources, self.source[chosen], self.number[chosen]
        return PictureSet(self.identities, *parts)

    def read(self, item: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """Encoded bytes of an item and its place for messages. Raises OSError where it cannot be read."""
        return self.sources[self.source[item]].read_item(int(self.number[item]), rng)


def picture_set(found: Sequence[tuple[Source, Sequence[str]]]) -> PictureSet:
    """The union of several sources, each with its items' identities; "" where nobody is known."""
    items = [(name, at, number) for at, (_, names) in enumerate(found) for number, name in enumerate(names)]
    identities = sorted({name for name, _, _ in items} - {""}, key=os.fsencode)
    classes = {"": NOBODY, **{name: number for number, name in enumerate(identities)}}
    return PictureSet(
        identities,
        np.array([classes[name] for name, _, _ in items], np.int64),
        [source for source, _ in found],
        np.array([at for _, at, _ in items], np.int64),
        np.array([number for _, _, number in items], np.int64),
    )


class Loader(Protocol):
    """What makes batches of items, pictures or others; ``len`` tells how many items there are."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class of each item, ``NOBODY`` where it is not known."""
        ...

    def __len__(self) -> int: ...

    def load(self, batches: ShuffledBatches, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """The items that ``batches`` draws for a step, as arrays by name, and what was left out and why."""
        ...


@dataclass(frozen=True)
class PictureLoader:
    """An item as a crop, changed at random. decode: encoded bytes to (H, W, 3) uint8 RGB, raising MediaError for
    pictures not to be used. fit: a decoded picture to the size of a crop; raises MediaError, too.
    """

    pictures: PictureSet
    decode: Decoder
    fit: Callable[[Image], Image]
    augmentation: Augmentation

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class of each picture."""
        return self.pictures.labels

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, batches: ShuffledBatches, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """crops: (B, height, width, 3) uint8 RGB. labels: (B,) int64. other_labels, share: (B,) what each crop was
        mixed with, and the share of the first, float32; the labels themselves and 1 where nothing was mixed. And what
        was left out, and why."""
        crops, labels, broken = [], [], []
        for item, rng in batches.draws(epoch, step):
            (crop, label), left_out = batches.usable(item, rng, partial(self._crop, rng=rng))
            broken += left_out
            crops.append(self.augmentation(crop, rng))
            labels.append(label)
        stack, names, share = np.stack(crops), np.array(labels, np.int64), 1.0
        others = names
        rng = np.random.default_rng([batches.seed, epoch, step, batches.rank])
        if rng.random() < self.augmentation.mix:
            partners, share = mix_pairs(len(crops), rng)
            stack, others = _mixed(stack, stack[partners], share), names[partners]
        shares = np.full(len(names), share, np.float32)
        return {"crops": stack, "labels": names, "other_labels": others, "share": shares}, broken

    def _crop(self, item: int, rng: np.random.Generator) -> tuple[Image, int]:
        data, where = self.pictures.read(item, rng)
        try:
            return self.fit(self.decode(data)), int(self.pictures.labels[item])
        except MediaError as error:
            raise MediaError(f"{where}: {error}") from None


class PictureBatches(ShuffledBatches):
    """Batches in which any item comes once an epoch, see :meth:`Loader.load`.

    The other parameters are those of :class:`ShuffledBatches`. Raises DataError for fewer than two items per rank.
    """

    def __init__(
        self, loader: Loader, batch_size: int, seed: int = 0, rank: int = 0, ranks: int = 1, workers: int = 0
    ) -> None:
        count = len(loader)
        if min(count, batch_size) < 2 * ranks:
            raise DataError(f"expected at least {2 * ranks} items in a batch, found {min(count, batch_size)}")
        super().__init__(count, batch_size, seed, rank, ranks, workers)
        self.loader = loader

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """See :meth:`Loader.load`."""
        return self.loader.load(self, epoch, step)


class IdentityPictureBatches(IdentityBatches):
    """Batches of some identities with some items each; parameters as of :class:`IdentityBatches`."""

    def __init__(
        self,
        loader: Loader,
        identities: int,
        images: int,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
    ) -> None:
        super().__init__(loader.labels, identities, images, seed, rank, ranks, workers)
        self.loader = loader

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """See :meth:`Loader.load`."""
        return self.loader.load(self, epoch, step)


class JoinedBatches(ShuffledBatches):
    """The batches of one source, each with those of another behind it, which starts again whenever it ends.

    first: says how long an epoch is. second: of the same rank, and of any length.
    """

    def __init__(self, first: ShuffledBatches, second: ShuffledBatches, workers: int = 0) -> None:
        super().__init__(first.count, first.per_rank * first.ranks, first.seed, first.rank, first.ranks, workers)
        self.first, self.second = first, second

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """The arrays of both, those of the second behind those of the first."""
        one, broken = self.first.load(epoch, step)
        other, more = self.second.load(*divmod(epoch * self.steps_per_epoch + step, self.second.steps_per_epoch))
        return {name: np.concatenate([one[name], other[name]]) for name in one}, broken + more


def refuse_shared(learnt: Sequence[str], measured: Sequence[str]) -> None:
    """Raises DataError for a folder or file that is both learnt from and measured on."""
    known = {os.path.realpath(source) for source in learnt}
    for source in measured:
        if os.path.realpath(source) in known:
            raise DataError("the same is learnt from and measured on; name others, or hold some out", source)


def split_off(identities: Sequence[Sequence[str]], wanted: int, what: str) -> tuple[list[list[int]], list[list[int]]]:
    """The items of several sources without ``wanted`` identities, and those of these, by number in each source.

    identities: of the items of each source, "" where nobody is known; those of different sources are different. The
    ones that are held out are spread evenly over all that have two items or more. what: they are, for the message.
    Raises DataError where none would be left to train on.
    """
    counts = Counter((at, name) for at, names in enumerate(identities) for name in names if name)
    able = sorted((key for key, count in counts.items() if count > 1), key=lambda key: (key[0], os.fsencode(key[1])))
    which = " that have two items or more"
    out = {able[number] for number in held_out(len(able), wanted, what, which)[1]}
    parts: tuple[list[list[int]], list[list[int]]] = [], []
    for at, names in enumerate(identities):
        for is_out, part in enumerate(parts):
            part.append([number for number, name in enumerate(names) if ((at, name) in out) == is_out])
    return parts


def _mixed(crops: Image, others: Image, share: float) -> Image:
    """``share`` of each crop and the rest of the other, both (N, H, W, 3) uint8."""
    rows = len(crops), -1  # OpenCV knows images of two and three dimensions
    mixed = cv2.addWeighted(crops.reshape(rows), share, others.reshape(rows), 1 - share, 0)
    return np.asarray(mixed, np.uint8).reshape(crops.shape)
