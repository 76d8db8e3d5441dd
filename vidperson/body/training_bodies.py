"""Persons to train on and to measure on: which pictures there are of whom, and by which camera."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from vidperson.body.crops import CROP_HEIGHT, CROP_WIDTH
from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.io.pictures import Pictures, list_pictures
from vidperson.io.record import checked
from vidperson.training.pictures import PictureSet, PlainPictures, picture_set, split_off
from vidperson.types import Image

MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)")
_CAMERA = re.compile(r"c(\d+)(?!\d)")
_NOBODY = re.compile(r"-1|0+")  # detections of a part of a person or of none, and distractors


@dataclass(frozen=True)
class BodySet:
    """Pictures of persons. persons, cameras: N each, "" where it is not known."""

    source: PlainPictures
    persons: list[str]
    cameras: list[str]


def read_bodies(source: str, items_dir: str | os.PathLike[str]) -> BodySet:
    """One source:

    a data folder of the recipe, with ``utt2spk``: the persons that stage 2 cut out of its frames, below ``items_dir``;
    segments without a person are nobody's, cameras are not known;
    a folder or tar archive of pictures with names as in Market-1501, ``<person>_c<camera>...``, the persons -1 and 0000
    being nobody; or a folder or tar archive of ``<person>/<picture>``, where the person is the whole path of the
    picture's folder, and the camera is known where the picture's name is ``c<camera>_...``.
    Raises DataError for a source that is missing or broken, and for a picture of which it cannot be told who it is.
    """
    if os.path.isfile(f"{source}/vid.scp"):
        pictures = _items(source, items_dir)
        segments = [os.path.dirname(name) for name in pictures.names]
        spoken = read_scp(f"{source}/utt2spk") if os.path.isfile(f"{source}/utt2spk") else {}
        return _set_of(pictures, [spoken.get(segment, "") for segment in segments], [""] * len(segments))
    pictures = list_pictures(source)
    found = [MARKET_NAME.match(os.path.basename(name)) for name in pictures.names]
    if all(found):
        named = [match for match in found if match]
        persons = ["" if _NOBODY.fullmatch(match[1]) else match[1] for match in named]
        return _set_of(pictures, persons, [match[2] for match in named])
    persons = [os.path.dirname(name) for name in pictures.names]
    if "" in persons:
        strange = next(name for name, match in zip(pictures.names, found, strict=True) if not match)
        raise DataError(
            f"'{strange}': expected names like 0012_c1s1_004.jpg, as in Market-1501, or <person>/<picture>", source
        )
    cameras = [_CAMERA.match(os.path.basename(name)) for name in pictures.names]
    return _set_of(pictures, persons, [match[1] if match else "" for match in cameras])


def read_unlabelled(source: str, items_dir: str | os.PathLike[str]) -> PlainPictures:
    """All pictures of a folder or tar archive, or those that stage 2 cut for a data folder, whoever they show.

    Raises DataError for a source that is missing or broken.
    """
    pictures = _items(source, items_dir) if os.path.isfile(f"{source}/vid.scp") else list_pictures(source)
    return PlainPictures(pictures, range(len(pictures)))


def training_set(sources: Sequence[BodySet], unnamed: Sequence[PlainPictures]) -> PictureSet:
    """The persons of some sources, those of different sources being different persons; and the pictures of nobody
    known, which are not in ``sources``. The pictures of nobody in these are left out.
    """
    found = []
    for number, each in enumerate(sources):
        kept = [place for place, person in enumerate(each.persons) if person]
        if left := len(each.persons) - len(kept):
            logging.info("%s: %d pictures show nobody who is known: left out", each.source.pictures.source, left)
        chosen = PlainPictures(each.source.pictures, [each.source.chosen[place] for place in kept])
        found.append((chosen, [f"{number}:{each.persons[place]}" for place in kept]))
    made = picture_set([*found, *((pictures, [""] * len(pictures.names)) for pictures in unnamed)])
    counts = Counter(made.labels[made.labels >= 0].tolist())
    lonely = [made.identities[label] for label, count in sorted(counts.items()) if count == 1]
    if lonely:
        logging.info("%d of %d persons have one picture only, e.g. '%s'", len(lonely), len(counts), lonely[0])
    return made


def split_persons(sources: Sequence[BodySet], wanted: int) -> tuple[list[BodySet], list[BodySet]]:
    """The sources without ``wanted`` persons, and these; see :func:`~vidperson.training.pictures.split_off`."""
    kept, out = split_off([each.persons for each in sources], wanted, "persons")
    return list(map(_picked, sources, kept)), list(map(_picked, sources, out))


def fitted_body(image: Image) -> Image:
    """A person's whole picture at the size of a crop, (256, 128, 3), as stage 2 resizes what it cuts out."""
    if image.shape[:2] == (CROP_HEIGHT, CROP_WIDTH):
        return image
    picture = Picture.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((CROP_WIDTH, CROP_HEIGHT), Picture.Resampling.BICUBIC), np.uint8)


def _picked(bodies: BodySet, places: Sequence[int]) -> BodySet:
    chosen = PlainPictures(bodies.source.pictures, [bodies.source.chosen[place] for place in places])
    return BodySet(chosen, [bodies.persons[place] for place in places], [bodies.cameras[place] for place in places])


def _set_of(pictures: Pictures, persons: list[str], cameras: list[str]) -> BodySet:
    return BodySet(PlainPictures(pictures, range(len(pictures))), persons, cameras)


def _items(folder: str, items_dir: str | os.PathLike[str]) -> Pictures:
    """The crops of stage 2 for a data folder, ``<segment>/<picture>`` each."""
    archive = Path(items_dir) / os.path.basename(os.path.normpath(folder)) / "crops.tar"
    if not archive.is_file():
        raise DataError(f"no persons of {folder} are there; run ./run_002_detect_faces.sh", archive)
    return list_pictures(checked(archive))
