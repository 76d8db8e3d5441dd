"""Frames in, the persons in them out, as the model card says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.batching import any_batch
from vidperson.networks.boxes import non_maximum_suppression
from vidperson.networks.card import ModelCard, picture_input
from vidperson.types import Float, Image

THRESHOLD = 0.5  # score from which on a person is kept
NMS_THRESHOLD = 0.45  # overlap above which the lower scored box is dropped, as in the authors' code
DECODERS = ("yolox",)
_STRIDES = (8, 16, 32)
_PADDING = 114.0
_ROUNDING = 1e-3  # of scores, by engines
_MOST = 1000  # boxes of a frame that are compared with each other


@dataclass(frozen=True)
class Persons:
    """Those found in one frame, best score first; nobody is a normal case.

    boxes: (N, 4) float32 x1 y1 x2 y2 in pixels, inside the frame. scores: (N,) float32 in 0..1.
    Raises ValueError for other shapes.
    """

    boxes: Float
    scores: Float

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4) or self.scores.ndim != 1:
            raise ValueError(f"expected boxes (N, 4), scores (N,); found {self.boxes.shape}, {self.scores.shape}")

    def __len__(self) -> int:
        return len(self.scores)


class PersonDetector:
    """A YOLOX network (Ge et al., arXiv:2107.08430): pictures of one size to persons.

    threshold: the lowest score of a person: that there is a thing, times that it is a person.
    nms_threshold: of two boxes with a larger intersection over union only the better one stays.

    A frame is resized to fit into the card's width and height, keeping its shape; it lies at the upper left, the rest
    is grey. Raises ModelError for a card of another kind, decoder or input.
    """

    def __init__(
        self,
        network: Network,
        card: ModelCard,
        threshold: float = THRESHOLD,
        nms_threshold: float = NMS_THRESHOLD,
    ) -> None:
        if card.kind != "body_detector":
            raise ModelError(f"{card.name} is a {card.kind}, not a body_detector")
        if card.output.decoder not in DECODERS:
            expected = f"expected one of {' '.join(DECODERS)}"
            raise ModelError(f"{card.name}: output.decoder: {expected}, found {card.output.decoder!r}")
        pictures = picture_input(card)
        sides = (pictures.height, pictures.width)
        if any(side is None or side % _STRIDES[-1] for side in sides):
            expected = f"expected two multiples of {_STRIDES[-1]}"
            raise ModelError(
                f"{card.name}: input.width, input.height: {expected}, found {pictures.width} x {pictures.height}"
            )
        self.height, self.width = (side or 0 for side in sides)
        self.network, self.card = any_batch(network, card.input.batch), card
        self.threshold, self.nms_threshold = threshold, nms_threshold
        self._order = (0, 1, 2) if pictures.channels == "rgb" else (2, 1, 0)
        self._mean = np.array(pictures.mean, np.float32)[:, None, None]
        self._scale = np.reciprocal(np.array(pictures.std, np.float32))[:, None, None]

    def detect(self, images: Sequence[Image]) -> list[Persons]:
        """The persons of each (height, width, 3) uint8 RGB image, of whatever sizes."""
        if not images:
            return []
        return self.persons(self.network(self.prepare(images)), [image.shape[:2] for image in images])

    def prepare(self, images: Sequence[Image]) -> Float:
        """(N, 3, height, width) float32 as the network takes them."""
        batch = np.full((len(images), 3, self.height, self.width), _PADDING, np.float32)
        for item, image in zip(batch, images, strict=True):
            height, width = self._resized(image.shape[0], image.shape[1])
            if image.shape[:2] != (height, width):
                image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
            for plane, channel in zip(item, self._order, strict=True):
                plane[:height, :width] = image[..., channel]
        batch -= self._mean
        batch *= self._scale
        return batch

    def persons(self, outputs: Sequence[Float], sizes: Sequence[tuple[int, ...]]) -> list[Persons]:
        """Per frame its persons, from what the network gave for :meth:`prepare`.

        outputs: one array (N, A, 5 + kinds of things): shift of the centre, logarithm of the size, both in strides,
        score of a thing, scores of its kinds, persons first. A: places, over strides, rows, columns.
        sizes: (height, width) of each frame in pixels.
        Raises ModelError for outputs of another shape, numbers that are not finite, and scores outside of 0 to 1.
        """
        places = make_places(self.height, self.width)
        found = [output.shape for output in outputs]
        if len(found) != 1 or len(found[0]) != 3 or found[0][1] != len(places) or found[0][2] < 6:
            expected = f"expected one output of shape ({len(sizes)}, {len(places)}, 6 or more)"
            raise ModelError(
                f"{self.card.name}: {expected}, found {found}; the file is another network than the card's decoder "
                f"'{self.card.output.decoder}' is for"
            )
        scores = outputs[0][..., 4:6]
        if not (np.isfinite(outputs[0]).all() and (np.abs(scores - 0.5) <= 0.5 + _ROUNDING).all()):
            raise ModelError(
                f"{self.card.name}: expected finite numbers, and scores of 0 to 1; the file or the card is wrong"
            )
        return [self._of_frame(rows, places, *size) for rows, size in zip(outputs[0], sizes, strict=True)]

    def _of_frame(self, rows: Float, places: Float, height: int, width: int) -> Persons:
        """The persons of one frame. rows: (A, 5 + kinds)."""
        scores = rows[:, 4] * rows[:, 5]
        picked = np.flatnonzero(scores >= self.threshold)
        picked = picked[np.argsort(-scores[picked], kind="stable")][:_MOST]
        codes, strides = rows[picked, :4], places[picked, 2:]
        middle = (codes[:, :2] + places[picked, :2]) * strides
        half = np.exp(codes[:, 2:]) * strides / 2
        new_height, new_width = self._resized(height, width)
        back = np.array([width / new_width, height / new_height] * 2, np.float32)
        boxes: Float = np.hstack([middle - half, middle + half], dtype=np.float32) * back
        keep = non_maximum_suppression(boxes, self.nms_threshold)
        boxes = boxes[keep].clip(0, np.array([width, height] * 2, np.float32))
        seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # the rest lies in the padding
        return Persons(boxes[seen], scores[picked][keep][seen])

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame is brought to."""
        factor = min(self.height / height, self.width / width)
        return max(1, int(height * factor)), max(1, int(width * factor))


@lru_cache(maxsize=8)
def make_places(height: int, width: int) -> Float:
    """(A, 3) float32 column, row and stride, over strides, rows, columns; read-only."""
    levels = []
    for stride in _STRIDES:
        row, column = np.mgrid[: height // stride, : width // stride]
        levels.append(np.stack([column, row, np.full_like(row, stride)], axis=-1).reshape(-1, 3))
    places = np.concatenate(levels).astype(np.float32)
    places.setflags(write=False)
    return places
