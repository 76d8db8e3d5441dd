"""One interface for face detectors: frames in, checked detections out. A detector adds only its own decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.models.card import ModelCard
from vidperson.types import Detections, Float, Image

MAX_CANDIDATES = 5000


class FaceDetector(ABC):
    """Resizes, batches, runs the network once for all thresholds, decodes, suppresses overlaps and maps boxes back.

    max_size: the long side of a picture is brought down to this many pixels; smaller pictures stay as they are.
    nms_threshold: of two boxes with a larger intersection over union only the better one stays.
    """

    stride = 32  # pictures are padded at the right and the bottom to a multiple of this

    def __init__(self, network: Network, card: ModelCard, max_size: int = 800, nms_threshold: float = 0.4) -> None:
        self.network, self.card, self.max_size, self.nms_threshold = network, card, max_size, nms_threshold
        order = (0, 1, 2) if card.input.channels == "rgb" else (2, 1, 0)
        self._order = np.array(order)
        self._mean = np.array(card.input.mean, np.float32)[:, None, None]
        self._scale = np.reciprocal(np.array(card.input.std, np.float32))[:, None, None]

    @abstractmethod
    def decode(
        self, outputs: Sequence[Float], height: int, width: int, min_score: float
    ) -> list[tuple[Float, Float, Float]]:
        """Per picture: boxes (K, 4), scores (K,) and landmarks (K, 5, 2) with score >= min_score, in network pixels."""

    def detect(self, images: Sequence[Image], min_score: float = 0.1) -> list[Detections]:
        """Faces of frames of equal size, best first, in pixels of the frame.

        images: each (height, width, 3) uint8 RGB. Raises ValueError when the sizes differ.
        """
        if not images:
            return []
        if len({image.shape for image in images}) > 1:
            raise ValueError(f"expected frames of equal size, found {sorted({image.shape for image in images})}")
        height, width = images[0].shape[:2]
        shrink = min(1.0, self.max_size / max(height, width))
        new_height, new_width = max(1, round(height * shrink)), max(1, round(width * shrink))
        batch = self.prepare(images, new_height, new_width)
        outputs = self.network(batch)
        back = np.array([width / new_width, height / new_height], np.float32)
        limits = np.array([width, height, width, height], np.float32)
        results = []
        for boxes, scores, landmarks in self.decode(outputs, batch.shape[2], batch.shape[3], min_score):
            order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
            boxes, scores, landmarks = boxes[order], scores[order], landmarks[order]
            keep = non_maximum_suppression(boxes, self.nms_threshold)
            boxes = np.clip(boxes[keep] * np.tile(back, 2), 0, limits)
            results.append(Detections(boxes, scores[keep], landmarks[keep] * back))
        return results

    def prepare(self, images: Sequence[Image], height: int, width: int) -> Float:
        """Pictures at (height, width) as the network takes them.

        (N, 3, padded height, padded width) float32, normalised as the card says; the padding is zero."""
        padded = [-(-size // self.stride) * self.stride for size in (height, width)]
        batch = np.zeros((len(images), 3, *padded), np.float32)
        for item, image in zip(batch, images, strict=True):
            if image.shape[:2] != (height, width):
                image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            planes = item[:, :height, :width]
            planes[:] = image.transpose(2, 0, 1)[self._order]
            planes -= self._mean
            planes *= self._scale
        return batch


def non_maximum_suppression(boxes: Float, threshold: float) -> NDArray[np.intp]:
    """Indices of the boxes that stay; ``boxes`` (N, 4) come best first.

    A box goes when its intersection over union with a better one that stays exceeds the threshold; a threshold of the
    score applied afterwards gives the same faces as one applied before.
    """
    corner1, corner2 = boxes[:, :2], boxes[:, 2:]
    area = np.clip(corner2 - corner1, 0, None).prod(axis=1)
    left = np.arange(len(boxes))
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)
        shared = np.clip(
            np.minimum(corner2[best], corner2[left]) - np.maximum(corner1[best], corner1[left]), 0, None
        ).prod(axis=1)
        union = area[best] + area[left] - shared
        left = left[shared <= threshold * union]
    return np.array(keep, dtype=np.intp)


class RetinaFaceDetector(FaceDetector):
    """Anchors at strides 8, 16, 32 with two sizes each; outputs boxes (N, A, 4), scores (N, A), landmarks (N, A, 10).

    Boxes are coded as in SSD (Liu et al., ECCV 2016), landmarks as shifts from the anchor's centre.
    """

    anchor_sizes = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
    centre_variance, size_variance = 0.1, 0.2

    def decode(
        self, outputs: Sequence[Float], height: int, width: int, min_score: float
    ) -> list[tuple[Float, Float, Float]]:
        anchors = make_anchors(height, width, self.anchor_sizes)
        if len(outputs) != 3 or any(out.shape[1] != len(anchors) for out in outputs):
            raise ModelError(
                f"{self.card.name}: expected boxes, scores and landmarks for {len(anchors)} anchors, "
                f"found outputs of shapes {[out.shape for out in outputs]}"
            )
        results = []
        for codes, scores, points in zip(*outputs, strict=True):
            picked = np.flatnonzero(scores >= min_score)
            centre, size = anchors[picked, :2], anchors[picked, 2:]
            middle = centre + codes[picked, :2] * self.centre_variance * size
            half = size * np.exp(codes[picked, 2:] * self.size_variance) / 2
            landmarks = centre[:, None] + points[picked].reshape(-1, 5, 2) * self.centre_variance * size[:, None]
            results.append((np.hstack([middle - half, middle + half]), scores[picked], landmarks))
        return results


@lru_cache(maxsize=64)
def make_anchors(height: int, width: int, anchor_sizes: tuple[tuple[int, tuple[int, ...]], ...]) -> Float:
    """(A, 4) float32 centre x, centre y, width, height in pixels, over strides, rows, columns, sizes; read-only."""
    levels = []
    for stride, sizes in anchor_sizes:
        y, x, size = np.meshgrid(
            np.arange(-(-height // stride)) * stride + stride / 2,
            np.arange(-(-width // stride)) * stride + stride / 2,
            sizes,
            indexing="ij",
        )
        levels.append(np.stack([x, y, size, size], axis=-1).reshape(-1, 4))
    anchors = np.concatenate(levels).astype(np.float32)
    anchors.setflags(write=False)
    return anchors


DECODERS: dict[str, type[FaceDetector]] = {"retinaface": RetinaFaceDetector}


def make_detector(network: Network, card: ModelCard, max_size: int = 800, nms_threshold: float = 0.4) -> FaceDetector:
    """The detector that the card's ``output.decoder`` names. Raises ModelError for another kind of card or decoder."""
    if card.kind != "face_detector":
        raise ModelError(f"{card.name} is a {card.kind}, not a face_detector")
    if card.output.decoder not in DECODERS:
        raise ModelError(
            f"{card.name}: output.decoder: expected one of {' '.join(DECODERS)}, found {card.output.decoder!r}"
        )
    return DECODERS[card.output.decoder](network, card, max_size, nms_threshold)
