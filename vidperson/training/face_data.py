"""Faces to train on: which pictures there are of whom, and batches of them in an order that can be taken up anywhere.

The n-th picture of an epoch, and everything that is random about it, depend on the seed, the epoch and n alone: not on
the number of workers, nor on where a run was stopped and taken up again.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidperson.errors import DataError, MediaError
from vidperson.io.lists import read_lines, read_scp
from vidperson.io.pictures import SUFFIXES, Pictures, list_pictures
from vidperson.training.augment import Augmentation, mix_pairs
from vidperson.types import Image

CROP_SIZE = 112
VOXCELEB_LIST = "train_all.txt"
MOST_BROKEN = 20
Decoder = Callable[[bytes], Image]


@dataclass(frozen=True)
class FaceSet:
    """All items to train on. An item is a picture, or an utterance of which each epoch takes one random frame.

    identities: names of the C classes, sorted. labels: (N,) int64 class of each item.
    sources: where the pictures are. source, number: (N,) the item's source and its number there.
    """

    identities: list[str]
    labels: NDArray[np.int64]
    sources: list[Pictures | Utterances]
    source: NDArray[np.int64]
    number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, item: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """Encoded bytes of an item and its place for messages. Raises OSError where it cannot be read."""
        source, number = self.sources[self.source[item]], int(self.number[item])
        if isinstance(source, Utterances):
            return source.read(number, rng)
        return source.read(number), source.where(number)


@dataclass(frozen=True)
class Utterances:
    """Folders of frames below one folder; the frames are listed when they are wanted."""

    folder: str
    names: list[str]

    def read(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """A random frame of an utterance and its path. Raises OSError where there is none."""
        folder = f"{self.folder}/{self.names[number]}"
        frames = sorted((name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)), key=os.fsencode)
        if not frames:
            raise FileNotFoundError(2, "no picture in the folder", folder)
        path = f"{folder}/{frames[int(rng.integers(len(frames)))]}"
        return Path(path).read_bytes(), path


def read_faces(sources: Sequence[str]) -> FaceSet:
    """The union of several sources; identities of the same name are the same person.

    A source is a folder or tar archive of ``<identity>/<picture>``, where the identity is the whole path of the
    picture's folder; ``<crops.tar>:<utt2spk>`` for the aligned faces of stage 2, whose segments the list gives to
    identities; or a folder in the layout of VoxCeleb2, with ``train_all.txt`` (``<identity> <identity>/<video>/
    <utterance>.wav ...``) and ``frame_align/<identity>/<video>/<utterance>/*.jpg``.
    Raises DataError for a source that is missing or broken, a folder without pictures, or pictures without identity.
    """
    if not sources:
        raise DataError("no training data is named")
    kept: list[Pictures | Utterances] = []
    items: list[tuple[str, int, int]] = []
    homes: dict[str, set[int]] = {}
    for at, source in enumerate(sources):
        pictures, names = _open(source)
        kept.append(pictures)
        items += [(name, at, number) for number, name in enumerate(names) if name]
        for name in names:
            homes.setdefault(name, set()).add(at)
    shared = sorted(name for name, where in homes.items() if len(where) > 1)
    if shared:
        logging.info("%d identities are in several sources and are taken as one, e.g. '%s'", len(shared), shared[0])
    counts = Counter(name for name, _, _ in items)
    lonely = [name for name, count in counts.items() if count == 1]
    if lonely:
        logging.info("%d of %d identities have one item only, e.g. '%s'", len(lonely), len(counts), lonely[0])
    identities = sorted(counts, key=os.fsencode)
    classes = {name: number for number, name in enumerate(identities)}
    return FaceSet(
        identities,
        np.array([classes[name] for name, _, _ in items], np.int64),
        kept,
        np.array([at for _, at, _ in items], np.int64),
        np.array([number for _, _, number in items], np.int64),
    )


def _open(source: str) -> tuple[Pictures | Utterances, list[str]]:
    """The pictures or utterances of one source, and each one's identity ("": none)."""
    if os.path.isfile(f"{source}/{VOXCELEB_LIST}"):
        return _voxceleb(source)
    archive, colon, table = source.rpartition(":")
    if colon and not os.path.exists(source):
        pictures = list_pictures(archive)
        speakers = read_scp(table)
        names = [speakers.get(os.path.dirname(name), "") for name in pictures.names]
        unknown = sorted({os.path.dirname(n) for n, who in zip(pictures.names, names, strict=True) if not who})
        if unknown:
            raise DataError(f"{len(unknown)} segments of {archive} have no identity, first '{unknown[0]}'", table)
        return pictures, names
    pictures = list_pictures(source)
    names = [os.path.dirname(name) for name in pictures.names]
    if "" in names:
        raise DataError(
            f"expected <identity>/<picture>, found '{pictures.names[names.index('')]}' in no folder", source
        )
    if os.path.isdir(source):
        filled = set(names)
        for folder, below, _ in os.walk(source, followlinks=True):
            if not below and os.path.relpath(folder, source) not in filled:
                raise DataError(f"no picture ({' '.join(SUFFIXES)}) in it; remove the folder or fill it", folder)
    return pictures, names


def _voxceleb(folder: str) -> tuple[Utterances, list[str]]:
    table = f"{folder}/{VOXCELEB_LIST}"
    utterances, names = [], []
    for number, line in read_lines(table):
        fields = line.split()
        if len(fields) < 2 or not fields[1].startswith(fields[0] + "/"):
            raise DataError(
                f"expected '<identity> <identity>/<video>/<utterance>.wav ...', found '{line}'", table, number
            )
        names.append(fields[0])
        utterances.append(os.path.splitext(fields[1])[0])
    if not names:
        raise DataError("no utterances", table)
    return Utterances(f"{folder}/frame_align", utterances), names


@dataclass(frozen=True)
class Batch:
    """crops: (B, 112, 112, 3) uint8 RGB, augmented. labels: (B,) int64.

    partners, share: for a mixed batch, which crop each was mixed with and the share of the first; else None and 1.
    broken: place and reason of the pictures that were left out; others took their places.
    """

    crops: Image
    labels: NDArray[np.int64]
    partners: NDArray[np.int64] | None
    share: float
    broken: list[str]


class _Loader(torch.utils.data.Dataset["Batch | str"]):
    """A batch, or what is wrong with it, per key (epoch, step): what the data loader's workers run."""

    def __init__(self, batches: FaceBatches) -> None:
        self.batches = batches

    def __getitem__(self, key: tuple[int, int]) -> Batch | str:
        try:
            return self.batches.load(*key)
        except DataError as error:
            return str(error)


def _one_thread(worker: int) -> None:
    """OpenCV's threads do not outlive the fork of a worker, and the workers fill the cores."""
    cv2.setNumThreads(0)


class FaceBatches:
    """Shuffled, augmented batches, the same for the same seed, epoch and step.

    batch_size: crops of one step on all ranks together. The last, smaller batch of an epoch is left out, unless it is
    the only one. rank, ranks: this process of how many; each takes every ranks-th item.
    decode: encoded bytes to (H, W, 3) uint8 RGB, raising MediaError for pictures not to be used.
    workers: processes that load ahead; 0 loads in this one.
    A picture that cannot be used is replaced by a random other one, so that all ranks have equally many.
    Raises DataError where there are fewer than two items per rank.
    """

    def __init__(
        self,
        faces: FaceSet,
        decode: Decoder,
        batch_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
    ) -> None:
        if min(len(faces), batch_size) < 2 * ranks:
            raise DataError(f"expected at least {2 * ranks} faces in a batch, found {min(len(faces), batch_size)}")
        self.faces, self.decode, self.augmentation = faces, decode, augmentation
        self.seed, self.rank, self.ranks, self.workers = seed, rank, ranks, workers
        self.per_rank = min(len(faces), batch_size) // ranks
        self.steps_per_epoch = len(faces) // (self.per_rank * ranks)
        self.broken: set[str] = set()
        self._order = (-1, np.zeros(0, np.int64))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The (N,) items in the order of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.faces))
        return self._order[1]

    def load(self, epoch: int, step: int) -> Batch:
        """The batch of one step of this rank. Raises DataError when picture after picture cannot be used."""
        whole = self.per_rank * self.ranks
        places = np.arange(step * whole + self.rank, (step + 1) * whole, self.ranks)
        crops, labels, broken = [], [], []
        for place, item in zip(places.tolist(), self.order(epoch)[places].tolist(), strict=True):
            rng = np.random.default_rng([self.seed, epoch, place])
            for _ in range(MOST_BROKEN):
                try:
                    data, where = self.faces.read(item, rng)
                except OSError as error:
                    broken.append(f"{error.filename or f'item {item}'}: {error.strerror or error}")
                    item = int(rng.integers(len(self.faces)))
                    continue
                try:
                    crop = _fitted(self.decode(data))
                    break
                except MediaError as error:
                    broken.append(f"{where}: {error}")
                    item = int(rng.integers(len(self.faces)))
            else:
                raise DataError(f"{MOST_BROKEN} pictures in turn cannot be used, the last one: {broken[-1]}")
            crops.append(self.augmentation(crop, rng))
            labels.append(self.faces.labels[item])
        stack = np.stack(crops)
        partners, share = None, 1.0
        rng = np.random.default_rng([self.seed, epoch, step, self.rank])
        if rng.random() < self.augmentation.mix:
            partners, share = mix_pairs(len(crops), rng)
            stack = (share * stack + (1 - share) * stack[partners]).round().astype(np.uint8)
        return Batch(stack, np.array(labels, np.int64), partners, share, broken)

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from a step on, as tensors: crops, labels, other_labels and share.

        Each broken picture is logged once, and counted in ``broken``.
        """
        keys = [(epoch, step) for step in range(first_step, self.steps_per_epoch)]
        loader = torch.utils.data.DataLoader(
            _Loader(self),
            batch_size=None,
            sampler=keys,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_one_thread,
            # Not forked: the threads of a teacher's engine may hold locks at that moment.
            multiprocessing_context="forkserver" if self.workers else None,
        )
        for batch in loader:
            if isinstance(batch, str):
                raise DataError(batch)
            for place in batch.broken:
                if place not in self.broken:
                    self.broken.add(place)
                    logging.warning("left out: %s", place)
            others = batch.labels if batch.partners is None else batch.labels[batch.partners]
            yield {
                "crops": torch.from_numpy(batch.crops),
                "labels": torch.from_numpy(batch.labels),
                "other_labels": torch.from_numpy(others),
                "share": torch.full((len(batch.labels),), batch.share, dtype=torch.float32),
            }


def _fitted(image: Image) -> Image:
    """A square picture at the size of a crop. Raises MediaError for another shape."""
    height, width = image.shape[:2]
    if height != width:
        raise MediaError(f"expected an aligned, square face, found {width} x {height} pixels")
    if height == CROP_SIZE:
        return image
    how = cv2.INTER_AREA if height > CROP_SIZE else cv2.INTER_LINEAR
    return cv2.resize(image, (CROP_SIZE, CROP_SIZE), interpolation=how)  # type: ignore[return-value]
