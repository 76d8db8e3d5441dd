"""Pairs of aligned faces: their cosines by a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.face.align import CROP_SIZE
from vidperson.io.pairs import Pairs, find_pictures, read_pairs
from vidperson.io.pictures import Pictures
from vidperson.media.image import decode_intact_image
from vidperson.types import Float, Image

Embed = Callable[[Image], Float]
Scores = NDArray[np.float64]
AT_ONCE = 10_000  # pairs whose embeddings are laid side by side


def aligned_face(pictures: Pictures, index: int) -> Image:
    """(112, 112, 3) uint8 RGB of one image. Raises DataError where it is damaged or of another size."""
    try:
        crop = decode_intact_image(pictures.read(index))
    except MediaError as error:
        raise DataError(str(error), pictures.where(index)) from None
    if crop.shape != (CROP_SIZE, CROP_SIZE, 3):
        raise DataError(
            f"expected an aligned face of {CROP_SIZE} x {CROP_SIZE}, found {crop.shape[:2]}", pictures.where(index)
        )
    return crop


def read_usable_pairs(path: str, pictures: Pictures) -> Pairs:
    """A list of pairs of aligned faces, each of which was opened: what is wrong is found before anything is trained.

    Raises DataError for a list of one kind of pairs only, and for an image that is missing, damaged or of another size.
    """
    pairs = read_pairs(path)
    for index in set(find_pictures(pictures, pairs.first + pairs.second).tolist()):
        aligned_face(pictures, index)
    if pairs.is_target.all() or not pairs.is_target.any():
        raise DataError("expected pairs of one person and pairs of two, found one kind only", path)
    return pairs


def cross_scores(embed: Embed, pictures: Pictures, pairs: Pairs, batch: int) -> tuple[Scores, NDArray[np.bool_]]:
    """(M,) cosines of every two images of a list of pairs, and whether they show one person; each is embedded once.

    Persons are the images' folders. Raises DataError as :func:`pair_scores`, and where folders are not persons.
    """
    persons = pairs.persons()
    if persons is None:
        raise DataError("expected folders that are persons, found several of a person, or images of several in one")
    person_of = dict(zip(pairs.first + pairs.second, persons, strict=True))
    keys = sorted(person_of)
    units = _unit_embeddings(embed, pictures, find_pictures(pictures, keys), batch)
    names = np.unique([person_of[key] for key in keys], return_inverse=True)[1]
    scores, same = [], []
    for row in range(len(keys) - 1):
        scores.append(units[row + 1 :] @ units[row])
        same.append(names[row + 1 :] == names[row])
    return np.concatenate(scores), np.concatenate(same)


def pair_scores(embed: Embed, pictures: Pictures, pairs: Pairs, batch: int) -> NDArray[np.float64]:
    """(N,) float64 cosines of N pairs; each image is embedded once.

    embed: (B, 112, 112, 3) uint8 RGB to (B, D) float32. batch: the largest B.
    Raises DataError for an image that is missing, damaged, or of another size.
    """
    numbers = find_pictures(pictures, pairs.first + pairs.second)
    used, where = np.unique(numbers, return_inverse=True)
    embeddings = _unit_embeddings(embed, pictures, used, batch)
    first, second = where[: len(pairs)], where[len(pairs) :]
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scores[part] = np.einsum("nd,nd->n", embeddings[first[part]], embeddings[second[part]])
    return scores


def _unit_embeddings(embed: Embed, pictures: Pictures, numbers: NDArray[np.int64], batch: int) -> Scores:
    """(N, D) embeddings of images, of length 1; one without a length stays 0."""
    rows = []
    for start in range(0, len(numbers), batch):
        crops = [aligned_face(pictures, index) for index in numbers[start : start + batch].tolist()]
        rows.append(embed(np.stack(crops)).astype(np.float64))
    embeddings = np.concatenate(rows)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=embeddings, where=lengths > 0)
