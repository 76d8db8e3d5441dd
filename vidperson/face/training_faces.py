"""Faces to train on: which images there are of whom."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidperson.errors import DataError
from vidperson.face.align import fitted_crop
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.pictures import SUFFIXES, Pictures, list_pictures, walk_folder
from vidperson.io.record import checked
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

VOXCELEB_LISTS = ("train_all.txt", "train_all_clean.txt")


@dataclass(frozen=True)
class Utterances:
    """Each segment is an item, of which one aligned face is drawn at random whenever it is read.

    names: of the segments. paths: of each a folder of faces, or an uncompressed tar of them; they are listed when they
    are wanted.
    """

    names: list[str]
    paths: list[str]

    def read_item(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """A random face of a segment and its place. Raises OSError where there is none."""
        path = self.paths[number]
        if not os.path.isdir(path):
            try:
                pictures = list_pictures(path)
            except DataError as error:
                raise OSError(str(error)) from None
            at = int(rng.integers(len(pictures)))
            return pictures.read(at), pictures.where(at)
        frames = sorted((name for name in os.listdir(path) if name.lower().endswith(SUFFIXES)), key=os.fsencode)
        if not frames:
            raise FileNotFoundError(2, "no image in the folder", path)
        frame = f"{path}/{frames[int(rng.integers(len(frames)))]}"
        return Path(frame).read_bytes(), frame


@dataclass(frozen=True)
class Segments:
    """As :class:`Utterances`, of faces that stage 2 cut out. members: of each segment the numbers of its faces."""

    names: list[str]
    pictures: Pictures
    members: list[list[int]]

    def read_item(self, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
        """A random face of a segment and its place. Raises OSError where it cannot be read."""
        members = self.members[number]
        at = members[int(rng.integers(len(members)))]
        return self.pictures.read(at), self.pictures.where(at)


def read_faces(sources: Sequence[str], items_dir: str | os.PathLike[str] = "") -> PictureSet:
    """The union of several sources; identities of the same name are the same person.

    A source is a folder or tar archive of ``<identity>/<picture>``, where the identity is the whole path of the
    image's folder; ``<crops.tar>:<utt2spk>`` for the aligned faces of stage 2, whose segments the list gives to
    identities; what it does not name, as a cleansed list, is left out; or a data folder of the recipe, of which each
    segment in ``utt2spk`` is one item, a random one of its faces each time: those of ``frames.scp`` or, where there
    is none, those of stage 2 below ``items_dir``.
    Raises DataError for a source that is missing or broken, a folder without images, or one without any identity.
    """
    if not sources:
        raise DataError("no training data is named")
    found: list[tuple[Source, list[str]]] = [_open(source, items_dir) for source in sources]
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


def _open(source: str, items_dir: str | os.PathLike[str]) -> tuple[Source, list[str]]:
    """The images or segments of one source, and each one's identity."""
    if os.path.isfile(f"{source}/utt2spk"):
        return _data_folder(Path(source), Path(items_dir))
    if any(os.path.isfile(f"{source}/{name}") for name in VOXCELEB_LISTS):
        hint = "prepare it by ./run_001_prepare_data.sh, then name its sets, such as --train-sets vox2_train_clean"
        raise DataError(f"a folder of VoxCeleb: {hint}", source)
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


def _data_folder(folder: Path, items_dir: Path) -> tuple[Source, list[str]]:
    speakers, list_of_faces = read_scp(folder / "utt2spk"), folder / "frames.scp"
    if list_of_faces.is_file():
        paths = read_paths(list_of_faces)
        known = _known(list(paths), speakers, list_of_faces)
        return Utterances(known, [paths[name] for name in known]), [speakers[name] for name in known]
    archive = items_dir / folder.resolve().name / "crops.tar"
    if not archive.is_file():
        raise DataError(f"no faces of {folder} are there; run ./run_002_detect_faces.sh", archive)
    pictures = list_pictures(checked(archive))
    members: dict[str, list[int]] = {}
    for number, name in enumerate(pictures.names):
        members.setdefault(os.path.dirname(name), []).append(number)
    known = _known(list(members), speakers, archive)
    return Segments(known, pictures, [members[name] for name in known]), [speakers[name] for name in known]


def _known(segments: list[str], speakers: Mapping[str, str], source: Path) -> list[str]:
    """Those of which it is known who they are. Raises DataError where there are none."""
    known = [name for name in segments if name in speakers]
    if not known:
        raise DataError("none of its segments is in utt2spk", source)
    if len(known) < len(segments):
        logging.info("%s: %d segments show nobody who is known: left out", source, len(segments) - len(known))
    return known


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
