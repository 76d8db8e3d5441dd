"""Photos to train a face detector on: marked or not, newly put together for every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, TrainingError
from vidperson.face.anchors import encode, match_anchors
from vidperson.face.annotations import FaceMarks
from vidperson.face.detector import RetinaFaceDetector, make_anchors
from vidperson.face.photos import Decoder, PhotoSet
from vidperson.training import augment
from vidperson.training.batches import Arrays, ShuffledBatches
from vidperson.types import Float, Image

MIRRORED = (1, 0, 2, 4, 3)  # the landmarks that take the places of the five in a mirror
PADDING = 127
SMALLEST = 4.0  # sides of a face in the training image, pixels; smaller ones are not taught
AIM_SMALLEST = 20.0  # side of the smallest face that photos are brought to the size of, pixels


@dataclass(frozen=True)
class PhotoAugmentation:
    """How often each change is made, 0..1.

    mosaic: four photos in one image, around a random point. mirror: left and right swapped, per photo. colour, grey,
    blur, motion, dark, jpeg: as for faces (:mod:`vidperson.training.augment`), per image.
    aim: of a photo with faces, a part is shown in which one of them has a random size, from AIM_SMALLEST to that of the
    image, all ratios alike: large faces are then as frequent as small ones (data-anchor-sampling of Tang et al.,
    PyramidBox, ECCV 2018, section 3.4, with sizes in between).
    cut: of the photos aimed at, so many are cut off on one side within the face, up to its middle.
    zoom: other photos are not just fitted in, but brought to 0.4..2.5 times that size, the part outside cut off.
    """

    mosaic: float = 0.3
    mirror: float = 0.5
    aim: float = 0.0
    cut: float = 0.0
    zoom: float = 0.8
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    motion: float = 0.0
    dark: float = 0.0
    jpeg: float = 0.0

    @classmethod
    def parse(cls, text: str) -> PhotoAugmentation:
        """``mosaic=0.5 blur=0.1``; see :func:`~vidperson.training.augment.parse_shares`."""
        return cls(**augment.parse_shares(text, [field.name for field in dataclasses.fields(cls)]))


class PhotoBatches(ShuffledBatches):
    """Batches of square images put together of photos, and what is marked in them at each anchor.

    sizes: sides of the images in pixels, multiples of 32, of which each step takes one.
    decode: encoded bytes to (H, W, 3) uint8 RGB, raising MediaError for images not to be used.
    places: (M, 4) boxes x1 y1 x2 y2 of the faces of each photo to aim at; the marked ones if not given.
    The other parameters are those of :class:`ShuffledBatches`. Raises TrainingError for other sizes.
    """

    def __init__(
        self,
        photos: PhotoSet,
        decode: Decoder,
        batch_size: int,
        augmentation: PhotoAugmentation,
        sizes: Sequence[int] = (320,),
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        places: Sequence[Float] | None = None,
    ) -> None:
        if not sizes or any(size < 64 or size % 32 for size in sizes):
            raise TrainingError(f"image sizes: expected multiples of 32 from 64 on, found {' '.join(map(str, sizes))}")
        if min(len(photos), batch_size) < ranks:
            raise DataError(f"expected at least {ranks} photos in a batch, found {min(len(photos), batch_size)}")
        super().__init__(len(photos), batch_size, seed, rank, ranks, workers)
        self.photos, self.decode, self.augmentation, self.sizes = photos, decode, augmentation, tuple(sizes)
        if places is None and photos.marks is not None:
            places = [marks.boxes for marks in photos.marks]
        self.places = places

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """images: (B, S, S, 3) uint8 RGB; for marked photos also faces (B, A) bool, boxes (B, A, 4) and landmarks
        (B, A, 10), the codes at the anchors, NaN where unknown."""
        size = int(np.random.default_rng([self.seed, epoch, step]).choice(self.sizes))
        pictures, codes, broken = [], [], []
        for item, rng in self.draws(epoch, step):
            picture, marks, left_out = self.picture(item, size, rng)
            broken += left_out
            pictures.append(picture)
            if self.photos.marks is not None:
                codes.append(_codes(marks, size))
        arrays: Arrays = {"images": np.stack(pictures)}
        if codes:
            arrays |= zip(("faces", "boxes", "landmarks"), map(np.stack, zip(*codes, strict=True)), strict=True)
        return arrays, broken

    def picture(self, item: int, size: int, rng: np.random.Generator) -> tuple[Image, FaceMarks, list[str]]:
        """One training image that shows a photo, or it and three others; its marks; and what was left out."""
        canvas = np.full((size, size, 3), PADDING, np.uint8)
        across, down = size, size
        if rng.random() < self.augmentation.mosaic:
            across, down = (round(size * rng.uniform(0.3, 0.7)) for _ in range(2))
        marks, broken = [], []
        for top, bottom in ((0, down), (down, size)):
            for left, right in ((0, across), (across, size)):
                if left == right or top == bottom:
                    continue
                (photo, found, places), left_out = self.usable(item, rng, self._photo)
                broken += left_out
                part = canvas[top:bottom, left:right]
                marks.append(_shifted(self._place(photo, found, places, part, rng), left, top))
                item = int(rng.integers(self.count))
        for name in ("colour", "grey", "blur", "motion", "dark", "jpeg"):
            if rng.random() < getattr(self.augmentation, name):
                canvas = augment.CHANGES[name](canvas, rng)
        boxes, landmarks = (np.concatenate(parts) for parts in zip(*marks, strict=True))
        return np.ascontiguousarray(canvas), FaceMarks(boxes, landmarks), broken

    def _photo(self, item: int) -> tuple[Image, FaceMarks, Float]:
        marks = self.photos.marks[item] if self.photos.marks is not None else _NOTHING
        places = self.places[item] if self.places is not None else _NOTHING.boxes
        return self.photos.read(item, self.decode), marks, places

    def _place(
        self, photo: Image, marks: FaceMarks, places: Float, part: Image, rng: np.random.Generator
    ) -> tuple[Float, Float]:
        """Draw a photo into a part of the image; returns the boxes and landmarks that are still to be seen there."""
        tall, wide = part.shape[:2]
        boxes, landmarks = marks.boxes.astype(np.float64), marks.landmarks.astype(np.float64)
        if len(places) and rng.random() < self.augmentation.aim:
            place = places[rng.integers(len(places))]
            cut = rng.random() < self.augmentation.cut
            top, bottom, left, right, scale = _aimed(place, photo, part, cut, rng)
            photo = photo[top:bottom, left:right]
            boxes, landmarks = boxes - np.tile([left, top], 2), landmarks - [left, top]
            height, width = photo.shape[:2]
        else:
            height, width = photo.shape[:2]
            scale = min(tall / height, wide / width)
            if rng.random() < self.augmentation.zoom:
                scale *= _log_uniform(0.4, 2.5, rng)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        # Where the photo's corner comes to lie: anywhere that leaves no part empty without need.
        top, left = (_offset(room, length, rng) for room, length in ((tall, new_height), (wide, new_width)))
        scales = np.array([new_width / width, new_height / height])
        boxes, landmarks = boxes * np.tile(scales, 2), landmarks * scales
        if rng.random() < self.augmentation.mirror:
            photo = cv2.flip(np.ascontiguousarray(photo), 1)  # type: ignore[assignment]
            boxes = np.stack([new_width - boxes[:, 2], boxes[:, 1], new_width - boxes[:, 0], boxes[:, 3]], axis=1)
            landmarks = np.stack([new_width - landmarks[..., 0], landmarks[..., 1]], axis=2)[:, MIRRORED]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(np.ascontiguousarray(photo), (new_width, new_height), interpolation=how)
        y, x = max(0, top), max(0, left)
        shown = resized[y - top : tall - top, x - left : wide - left]
        part[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
        boxes, landmarks = boxes + [left, top] * 2, landmarks + [left, top]
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        seen = [x, y, min(wide, left + new_width), min(tall, top + new_height)]
        inside = ((middle >= seen[:2]) & (middle < seen[2:])).all(axis=1)
        boxes = boxes.clip(seen[:2] * 2, seen[2:] * 2)
        inside &= ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(axis=1)
        return boxes[inside].astype(np.float32), landmarks[inside].astype(np.float32)


_NOTHING = FaceMarks(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32))


def _aimed(
    place: Float, photo: Image, part: Image, cut: bool, rng: np.random.Generator
) -> tuple[int, int, int, int, float]:
    """Rows and columns of a photo, and the scale at which they fill a part of the image, with a face in them, or, if
    it is to be cut, more than half of it."""
    face = np.maximum(place[2:] - place[:2], 1.0)
    smaller = min(part.shape[:2])
    scale = _log_uniform(min(AIM_SMALLEST, smaller), smaller, rng) / float(face.max())
    edge, share = (int(rng.integers(4)), 0.5 * rng.random()) if cut else (-1, 0.0)  # top, bottom, left, right
    edges: list[int] = []
    for number, near, length, whole, side in (
        (0, place[1], face[1], photo.shape[0], part.shape[0]),
        (2, place[0], face[0], photo.shape[1], part.shape[1]),
    ):
        window = side / scale
        start = min(max(0.0, near - rng.random() * (window - length)), max(0.0, whole - window))
        if edge == number:
            start = max(0.0, near + share * length)
        end = start + window
        if edge == number + 1:
            end = near + (1 - share) * length
            start = max(0.0, end - window)
        first = min(int(start), whole - 1)
        edges += [first, max(first + 1, min(whole, round(end)))]
    return edges[0], edges[1], edges[2], edges[3], scale


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _offset(room: int, length: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(0, room - length), max(0, room - length) + 1))


def _shifted(marks: tuple[Float, Float], left: int, top: int) -> tuple[Float, Float]:
    shift = np.array([left, top], np.float32)
    return marks[0] + np.tile(shift, 2), marks[1] + shift


def _codes(marks: FaceMarks, size: int) -> tuple[NDArray[np.bool_], Float, Float]:
    """(A,) bool, (A, 4) and (A, 10) at the anchors of a square image."""
    anchors = make_anchors(size, size, RetinaFaceDetector.anchor_sizes)
    matches = match_anchors(anchors, marks.boxes)
    faces = matches >= 0
    boxes = np.full((len(anchors), 4), np.nan, np.float32)
    landmarks = np.full((len(anchors), 10), np.nan, np.float32)
    if faces.any():
        picked = matches[faces]
        boxes[faces], landmarks[faces] = encode(anchors[faces], marks.boxes[picked], marks.landmarks[picked])
    return faces, boxes, landmarks
