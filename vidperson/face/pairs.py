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


def pair_scores(embed: Embed, pictures: Pictures, pairs: Pairs, batch: int) -> NDArray[np.float64]:
    """(N,) float64 cosines of N pairs; each image is embedded once.

    embed: (B, 112, 112, 3) uint8 RGB to (B, D) float32. batch: the largest B.
    Raises DataError for an image that is missing, damaged, or of another size.
    """
    numbers = find_pictures(pictures, pairs.first + pairs.second)
    used, where = np.unique(numbers, return_inverse=True)
    rows = []
    for start in range(0, len(used), batch):
        crops = [aligned_face(pictures, index) for index in used[start : start + batch].tolist()]
        rows.append(embed(np.stack(crops)).astype(np.float64))
    embeddings = np.concatenate(rows)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings = np.divide(embeddings, lengths, out=embeddings, where=lengths > 0)
    first, second = where[: len(pairs)], where[len(pairs) :]
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scores[part] = np.einsum("nd,nd->n", embeddings[first[part]], embeddings[second[part]])
    return scores
