"""Faces that somebody else has cut out and aligned, as stage 2 would have found them: a folder or tar per segment."""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2
import numpy as np

from vidperson.errors import DataError, MediaError
from vidperson.face.align import CROP_SIZE, TEMPLATE, black_shares, eye_distances, fitted_crop
from vidperson.face.candidates import SelectedFaces
from vidperson.face.pipeline import Result
from vidperson.io.items import Spool
from vidperson.io.pictures import list_pictures
from vidperson.media.folder import OF_IMAGES, ImageFolder, Losses, natural_key
from vidperson.media.image import THUMB_WIDTH, decode_image, encode_png, kind_of_image
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.types import FACE_COLUMNS, IMAGE_SUFFIXES, Detections, Float, Image

_MAX_IMAGE_BYTES = 1 << 30
_Images = list[tuple[str, Callable[[], bytes]]]


def take_faces(segment: str, path: str, limits: Limits = USUAL_LIMITS, wanted: int = 0) -> Result:
    """The status and faces of a segment; its crops are to be read before the next one is taken.

    path: a folder of images, or an uncompressed tar of them; each is one face, square, of any size. They are taken in
    natural order of their names: the n-th is frame n, at n seconds. Its box is the whole image, its score 1; landmarks
    are those that all faces are aligned to. An image that is damaged, not square or too large is left out and counted.
    wanted: so many at equal steps, the first and the last among them; 0, or more than there are: all.
    """
    try:
        images = _images(path, limits)
    except MediaError as error:
        return Result(segment, f"unreadable: {error}", _none())
    rows, black, losses = [_row_of(0, 0)[:0]], [np.zeros(0, np.float32)], Losses()
    spool, thumbnail = Spool(), None
    chosen = [int(place) for place in np.linspace(0, len(images) - 1, min(wanted or len(images), len(images)))]
    for place in chosen:
        name, read = images[place]
        try:
            image = _image(read, limits)
            crop = fitted_crop(image)
        except MediaError as error:
            losses.note(name, str(error))
            continue
        rows.append(_row_of(place, len(image)))
        black.append(black_shares(crop[None]))
        spool.append(encode_png(crop))
        if thumbnail is None:
            thumbnail = np.asarray(cv2.resize(crop, (THUMB_WIDTH, THUMB_WIDTH)), np.uint8)

    faces, damage = np.concatenate(rows), losses.damage(len(chosen))
    if not len(faces):
        return Result(segment, f"unreadable: {damage}", _none())
    quality = np.stack([eye_distances(Detections.from_rows(faces).landmarks), np.concatenate(black)], axis=1)
    shown = Detections.from_rows(_row_of(0, THUMB_WIDTH))
    selected = SelectedFaces(faces, quality, spool.read(range(len(spool))), thumbnail, shown)
    return Result(segment, f"damaged: {damage}" if damage else "ok", selected)


def _none() -> SelectedFaces:
    return SelectedFaces(_row_of(0, 0)[:0], np.zeros((0, 2), np.float32), iter(()), None, Detections.empty())


def _row_of(place: int, side: int) -> Float:
    """(1, 17) float32: the face that an image of so many pixels is."""
    landmarks = (TEMPLATE + 0.5) * side / CROP_SIZE - 0.5
    row = np.array([[place, place, 0, 0, side, side, 1, *landmarks.ravel()]], np.float32)
    assert row.shape[1] == len(FACE_COLUMNS)
    return row


def _images(path: str, limits: Limits) -> _Images:
    """The images in order, each with what reads it. Raises MediaError where there are none, or too many."""
    if os.path.isdir(path):
        folder = ImageFolder(path, limits)
        return [(name, _reader(folder.where(place))) for place, name in enumerate(folder.names)]
    try:
        os.stat(path)
        pictures = list_pictures(path, IMAGE_SUFFIXES)
    except DataError as error:
        raise MediaError(str(error).removeprefix(f"{path}: ")) from None
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be read").lower()) from None
    found: _Images = []
    for place, name in enumerate(pictures.names):
        parts = name.split("/")
        if name.startswith("/") or ".." in parts:
            raise MediaError(f"'{name}' in the archive would leave its folder")
        if any(part.startswith(".") for part in parts):
            continue
        if pictures.sizes[place] > _MAX_IMAGE_BYTES:
            raise MediaError(f"'{name}' is an image of more than {_MAX_IMAGE_BYTES >> 30} GiB")
        found.append((name, lambda place=place: pictures.read(place)))  # type: ignore[misc]
    if not found:
        raise MediaError("an archive without an image")
    limits.check_duration(len(found), OF_IMAGES)
    return sorted(found, key=lambda image: natural_key(image[0]))


def _reader(path: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if not os.path.isfile(path) or os.path.getsize(path) > _MAX_IMAGE_BYTES:
            raise MediaError("no regular file, or one that is too large")
        with open(path, "rb") as stream:
            return stream.read()

    return read


def _image(read: Callable[[], bytes], limits: Limits) -> Image:
    """Raises MediaError for an image that cannot be read, or of which a part is lost."""
    try:
        data = read()
    except OSError as error:
        raise MediaError((error.strerror or "the file cannot be read").lower()) from None
    if not kind_of_image(data[:12]):
        raise MediaError("the file is no image")
    image, damage = decode_image(data, limits)
    if damage is not None:
        raise MediaError(damage)
    return image
