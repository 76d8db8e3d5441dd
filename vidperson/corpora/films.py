"""A user's own films and portraits: what there is to search, and the sets that come of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.corpora.data_folder import (
    Search,
    Segment,
    check_path,
    remove_lists,
    safe_id,
    shortened,
    unique_ids,
    write_data_folder,
)
from vidperson.corpora.folder import VIDEOS, bare_id, media_of_persons
from vidperson.errors import DataError
from vidperson.io.lines import read_lines
from vidperson.types import IMAGE_SUFFIXES

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]
CAST, CANDIDATES, FRAMES = "film_cast", "film_candidates", "frames"


@dataclass(frozen=True)
class Person:
    """id: the model. name: of the folder. portraits: segment -> file."""

    id: str
    name: str
    portraits: Mapping[str, Path]


@dataclass(frozen=True)
class Film:
    """id: the group. path: a video, or a folder of images."""

    id: str
    path: Path


def read_films(videos_dir: PathLike) -> list[Film]:
    """The videos in a folder, and the folders of images in it, in the order of their ids.

    The folder itself is a film where it holds images and neither videos nor folders. Names become ids by
    :func:`~vidperson.corpora.data_folder.safe_id`. Raises DataError where there is no film.
    """
    root = Path(os.path.abspath(videos_dir))
    if not root.is_dir():
        raise DataError("no such folder", root)
    found: list[Path] = []
    others: list[Path] = []
    for path in sorted(root.iterdir(), key=os.fsencode):
        if path.name.startswith("."):
            continue
        images = _images_in(path) if path.is_dir() else []
        for each in (path, *images):
            check_path(each)
        is_film = bool(images) or (path.suffix.lower() in VIDEOS and not path.is_dir())
        (found if is_film else others).append(path)
    if not found and _images_in(root):
        found, others = [root], []
    if others:
        message = "%s: %d files and folders that are neither a video nor a folder of images are left out: %s"
        log.warning(message, root, len(others), shortened([path.name for path in others]))
    if not found:
        raise DataError("no film in it; expected videos, or a folder of images per film", root)
    ids = unique_ids({path.name: safe_id(path.name) if path.is_dir() else bare_id(path.name) for path in found})
    return sorted((Film(ids[path.name], path) for path in found), key=lambda film: film.id)


def _images_in(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)


def read_cast(persons_dir: PathLike) -> list[Person]:
    """One folder per person with portraits, images or videos, at any depth. Raises DataError where there is none."""
    root = Path(os.path.abspath(persons_dir))
    files = media_of_persons(root)
    models = unique_ids({person: safe_id(person) for person in files})
    wished = {
        f"{person}/{name}": f"{models[person]}-{bare_id(name)}" for person, names in files.items() for name in names
    }
    ids = unique_ids(wished, set(models.values()))
    return [
        Person(models[person], person, {ids[f"{person}/{name}"]: root / person / name for name in names})
        for person, names in files.items()
    ]


def write_sets(
    data_dir: PathLike, cast: Sequence[Person], films: Sequence[Film], key: PathLike | None = None
) -> list[Path]:
    """Write `film_cast` and `film_candidates` below data_dir.

    films: those that were searched: `film_candidates/frames/<film>/persons` has a line per person,
        `<time> <x1> <y1> <x2> <y2> <score> <image>`, see :mod:`vidperson.body.film`.
    key: who is who, lines `<person's folder><tab><candidate>`. A film of which no candidate is in it is not known.

    A candidate is the segment `<film>-<time>-<number>`, numbered from the left. Each person is searched in each film.
    Returns the folders written. Raises DataError, before anything is written, for films without anybody, and a key
    that names what is not there or gives a candidate to two persons.
    """
    folder = Path(data_dir) / CANDIDATES
    segments = [segment for film in films for segment in _candidates(folder / FRAMES / film.id, film)]
    searched = {segment.group for segment in segments}
    if empty := [film.id for film in films if film.id not in searched]:
        log.warning("%d of %d films show nobody: %s", len(empty), len(films), shortened(empty))
    if not segments:
        lower = "lower --person-threshold, or --det-threshold where persons are found by their faces"
        raise DataError(f"nobody was found in any of the films; {lower}", folder)
    relevant = None if not key else _read_key(Path(key), cast, segments)
    groups = {person.id: sorted(searched) for person in cast}
    owner = {candidate: person for person, shown in (relevant or {}).items() for candidate in shown}
    segments = [
        Segment(segment.id, segment.path, owner.get(segment.id, ""), segment.group, segment.region)
        for segment in segments
    ]
    portraits = [Segment(portrait, path, person.id) for person in cast for portrait, path in person.portraits.items()]
    names = {person.id: person.name for person in cast}
    films_named = {film.id: film.path.name for film in films if film.id in searched}
    return [
        write_data_folder(Path(data_dir) / CAST, portraits, names=names),
        write_data_folder(folder, segments, search=Search(list(groups), relevant, groups), names=films_named),
    ]


def remove_sets(data_dir: PathLike) -> None:
    """Remove the lists of both sets."""
    for name in (CAST, CANDIDATES):
        remove_lists(Path(data_dir) / name)


def _candidates(folder: Path, film: Film) -> list[Segment]:
    """The persons of a film, from left to right in each frame."""
    segments: list[Segment] = []
    count, last = 0, ""
    for _, line in read_lines(folder / "persons"):
        time, x1, y1, x2, y2, _, image = line.split(" ", 6)
        count, last = count + 1 if time == last else 1, time
        region = float(x1), float(y1), float(x2), float(y2)
        path = os.path.join(FRAMES, film.id, image) if not os.path.isabs(image) else image
        segments.append(Segment(f"{film.id}-{time}-{count:02d}", path, "", film.id, region))
    return segments


def _read_key(path: Path, cast: Sequence[Person], segments: Sequence[Segment]) -> dict[str, list[str]]:
    """Model -> its candidates."""
    models, films = {person.name: person.id for person in cast}, {segment.id: segment.group for segment in segments}
    owner: dict[str, str] = {}
    for number, line in read_lines(path):
        person, tab, candidate = line.partition("\t")
        if not tab:
            raise DataError(f"expected '<person><tab><candidate>', found '{line}'", path, number)
        if person not in models:
            raise DataError(
                f"no portraits of a person '{person}'; the persons are: {shortened(sorted(models))}", path, number
            )
        if candidate not in films:
            raise DataError(f"no candidate '{candidate}'; see the list vid.scp of {CANDIDATES}", path, number)
        if owner.setdefault(candidate, models[person]) != models[person]:
            raise DataError(f"candidate '{candidate}' is given to two persons; remove one", path, number)
    if not owner:
        raise DataError("no line '<person><tab><candidate>' in it", path)
    if unknown := sorted(set(films.values()) - {films[candidate] for candidate in owner}):
        message = "%s: %d films have no candidate in it, so all of their candidates count as others: %s"
        log.warning(message, path, len(unknown), shortened(unknown))
    shown: dict[str, list[str]] = {}
    for candidate, model in owner.items():
        shown.setdefault(model, []).append(candidate)
    return shown
