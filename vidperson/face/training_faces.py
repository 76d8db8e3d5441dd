"""Faces to train on: which images there are of whom."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidperson.errors import DataError
from vidperson.face.align import fitted_crop
from vidperson.io.lines import read_lines, read_scp
from vidperson.io.pictures import SUFFIXES, Pictures, list_pictures, walk_folder
from vidperson.training.augment import Augmentation
from vidperson.training.pictures import (
    Decoder,
    PictureBatches,
    PictureLoader,
    PictureSet,
    PlainPictures,
    Source,
    picture_set,
)

VOXCELEB_LIST = "train_all.txt"


@dataclass(frozen=True)
class Utterances:
    """Folders of frames below one folder; the frames are listed when they are wanted."""

    folder: str
    names: list[str]

    def read_item(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """A random frame of an utterance and its path. Raises OSError where there is none."""
        folder = f"{self.folder}/{self.names[number]}"
        frames = sorted((name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)), key=os.fsencode)
        if not frames:
            raise FileNotFoundError(2, "no image in the folder", folder)
        path = f"{folder}/{frames[int(rng.integers(len(frames)))]}"
        return Path(path).read_bytes(), path


def read_faces(sources: Sequence[str]) -> PictureSet:
    """The union of several sources; identities of the same name are the same person.

    A source is a folder or tar archive of ``<identity>/<picture>``, where the identity is the whole path of the
    image's folder; ``<crops.tar>:<utt2spk>`` for the aligned faces of stage 2, whose segments the list gives to
    identities; what it does not name, as a cleansed list, is left out; or a folder in the layout of VoxCeleb2, with
    ``train_all.txt`` (``<identity> <identity>/<video>/<utterance>.wav ...``) and
    ``frame_align/<identity>/<video>/<utterance>/*.jpg``.
    Raises DataError for a source that is missing or broken, a folder without images, or one without any identity.
    """
    if not sources:
        raise DataError("no training data is named")
    found: list[tuple[Source, list[str]]] = [_open(source) for source in sources]
    homes: dict[str, set[int]] = {}
    for at, (_, names) in enumerate(found):
        for name in names:
            homes.setdefault(name, set()).add(at)
    shared = sorted(name for name, where in homes.items() if len(where) > 1)
    if shared:
        logging.info("%d identities are in several sources and are taken as one, e.g. '%s'", len(shared), shared[0])
    counts = Counter(name for _, names in found for name in names)
    lonely = [name for name, count in counts.items() if count == 1]
    if lonely:
        logging.info("%d of %d identities have one item only, e.g. '%s'", len(lonely), len(counts), lonely[0])
    return picture_set(found)


def _open(source: str) -> tuple[Source, list[str]]:
    """The images or utterances of one source, and each one's identity."""
    if os.path.isfile(f"{source}/{VOXCELEB_LIST}"):
        return _voxceleb(source)
    archive, colon, table = source.rpartition(":")
    if colon and not os.path.exists(source):
        pictures = list_pictures(archive)
        speakers = read_scp(table)
        chosen = [number for number, name in enumerate(pictures.names) if os.path.dirname(name) in speakers]
        if len(chosen) < len(pictures):
            known = len(pictures) - len(chosen), len(pictures), archive, table
            logging.warning("%d of %d images of %s are of segments that %s does not name: left out", *known)
        if not chosen:
            raise DataError(f"expected segments of {archive}, found none of them", table)
        return PlainPictures(pictures, chosen), [speakers[os.path.dirname(pictures.names[n])] for n in chosen]
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
    return _plain(pictures), names


def _plain(pictures: Pictures) -> PlainPictures:
    return PlainPictures(pictures, range(len(pictures)))


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


def face_batches(
    faces: PictureSet,
    decode: Decoder,
    batch_size: int,
    augmentation: Augmentation,
    seed: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
) -> PictureBatches:
    """Batches of augmented faces; the parameters are those of :class:`PictureBatches` and its loader."""
    loader = PictureLoader(faces, decode, fitted_crop, augmentation)
    return PictureBatches(loader, batch_size, seed, rank, ranks, workers)
