"""Faces to train on: which images there are of whom, and batches of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.face.align import fitted_crop
from vidperson.io.lines import read_lines, read_scp
from vidperson.io.pictures import SUFFIXES, Pictures, list_pictures, walk_folder
from vidperson.training.augment import Augmentation, mix_pairs
from vidperson.training.batches import Arrays, ShuffledBatches
from vidperson.types import Image

VOXCELEB_LIST = "train_all.txt"
Decoder = Callable[[bytes], Image]


@dataclass(frozen=True)
class FaceSet:
    """All items to train on. An item is an image, or an utterance of which each epoch takes one random frame.

    identities: names of the C classes, sorted. labels: (N,) int64 class of each item.
    sources: where the images are. source, number: (N,) the item's source and its number there.
    """

    identities: list[str]
    labels: NDArray[np.int64]
    sources: list[Pictures | Utterances]
    source: NDArray[np.int64]
    number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of who is in which item, by their names: other data of the same size has another."""
        found = hashlib.sha256()
        for label, source, number in zip(*map(np.ndarray.tolist, (self.labels, self.source, self.number)), strict=True):
            found.update(os.fsencode(f"{self.identities[label]}\n{self.sources[source].names[number]}\n"))
        return found.hexdigest()

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
            raise FileNotFoundError(2, "no image in the folder", folder)
        path = f"{folder}/{frames[int(rng.integers(len(frames)))]}"
        return Path(path).read_bytes(), path


def read_faces(sources: Sequence[str]) -> FaceSet:
    """The union of several sources; identities of the same name are the same person.

    A source is a folder or tar archive of ``<identity>/<picture>``, where the identity is the whole path of the
    image's folder; ``<crops.tar>:<utt2spk>`` for the aligned faces of stage 2, whose segments the list gives to
    identities; or a folder in the layout of VoxCeleb2, with ``train_all.txt`` (``<identity> <identity>/<video>/
    <utterance>.wav ...``) and ``frame_align/<identity>/<video>/<utterance>/*.jpg``.
    Raises DataError for a source that is missing or broken, a folder without images, or images without identity.
    """
    if not sources:
        raise DataError("no training data is named")
    kept: list[Pictures | Utterances] = []
    items: list[tuple[str, int, int]] = []
    homes: dict[str, set[int]] = {}
    for at, source in enumerate(sources):
        pictures, names = _open(source)
        kept.append(pictures)
        items += [(name, at, number) for number, name in enumerate(names)]
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
    """The images or utterances of one source, and each one's identity."""
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
        raise DataError(f"expected <identity>/<image>, found '{pictures.names[names.index('')]}' in no folder", source)
    if os.path.isdir(source):
        filled = set(names)
        for inside, below, _ in walk_folder(source):
            name = inside.rstrip("/")
            if not below and name not in filled:
                raise DataError(
                    f"no image ({' '.join(SUFFIXES)}) in it; remove the folder or fill it", f"{source}/{name}"
                )
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


class FaceBatches(ShuffledBatches):
    """Batches of augmented faces: crops, labels, other_labels and share, see :class:`~vidperson.training.task`.

    decode: encoded bytes to (H, W, 3) uint8 RGB, raising MediaError for images not to be used.
    The other parameters are those of :class:`ShuffledBatches`. Raises DataError for fewer than two items per rank.
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
        super().__init__(len(faces), batch_size, seed, rank, ranks, workers)
        self.faces, self.decode, self.augmentation = faces, decode, augmentation

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """crops: (B, 112, 112, 3) uint8 RGB. labels: (B,) int64. other_labels, share: (B,) what each crop was mixed
        with, and the share of the first, float32; the labels themselves and 1 where nothing was mixed."""
        crops, labels, broken = [], [], []
        for item, rng in self.draws(epoch, step):
            (crop, label), left_out = self.usable(item, rng, partial(self._face, rng=rng))
            broken += left_out
            crops.append(self.augmentation(crop, rng))
            labels.append(label)
        stack, names, share = np.stack(crops), np.array(labels, np.int64), 1.0
        others = names
        rng = np.random.default_rng([self.seed, epoch, step, self.rank])
        if rng.random() < self.augmentation.mix:
            partners, share = mix_pairs(len(crops), rng)
            stack, others = _mixed(stack, stack[partners], share), names[partners]
        shares = np.full(len(names), share, np.float32)
        return {"crops": stack, "labels": names, "other_labels": others, "share": shares}, broken

    def _face(self, item: int, rng: np.random.Generator) -> tuple[Image, int]:
        data, where = self.faces.read(item, rng)
        try:
            return fitted_crop(self.decode(data)), int(self.faces.labels[item])
        except MediaError as error:
            raise MediaError(f"{where}: {error}") from None


def _mixed(crops: Image, others: Image, share: float) -> Image:
    """``share`` of each crop and the rest of the other, both (N, H, W, 3) uint8."""
    rows = len(crops), -1  # OpenCV knows images of two and three dimensions
    mixed = cv2.addWeighted(crops.reshape(rows), share, others.reshape(rows), 1 - share, 0)
    return np.asarray(mixed, np.uint8).reshape(crops.shape)
