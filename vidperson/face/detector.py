"""One interface for face detectors: frames in, checked detections out. A detector adds only its own decoding."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vidperson.engines import Network
from vidperson.errors import ModelError
from vidperson.networks.batching import any_batch
from vidperson.networks.boxes import non_maximum_suppression
from vidperson.networks.card import ModelCard, picture_input
from vidperson.types import NUM_LANDMARKS, Detections, Float, Image

MAX_CANDIDATES = 5000
MIRRORED = (1, 0, 2, 4, 3)  # landmark of the mirrored face that each landmark is
# Where the landmarks lie in a face's box, for networks that find none; width and height are 1. Means over 288 portraits
# in which retinaface_tiny finds one face, made symmetric.
USUAL_LANDMARKS = np.array([[0.27, 0.40], [0.73, 0.40], [0.50, 0.61], [0.31, 0.75], [0.69, 0.75]], np.float32)
Faces = tuple[Float, Float, Float]  # boxes (K, 4), scores (K,), landmarks (K, 5, 2)
Shape = tuple[int, ...]

MAX_SIZE = 800  # long side of frames for the network, pixels
NMS_THRESHOLD = 0.4  # overlap above which the lower scored box is dropped


@dataclass(frozen=True)
class DetectorPass:
    """One batch in which the network looks at frames.

    sizes: (height, width) of the frames.
    scale, mirrored: how it looks at them.
    shape: that of the batch.
    last: whether it is the last one for these frames.
    """

    sizes: tuple[tuple[int, int], ...]
    scale: float
    mirrored: bool
    shape: Shape
    last: bool


class FaceDetector(ABC):
    """Resizes, batches, runs the network once for all thresholds, decodes, suppresses overlaps and maps boxes back.

    max_size: the long side of a picture is brought down to this many pixels; smaller pictures stay as they are.
    nms_threshold: of two boxes with a larger intersection over union only the better one stays.
    scales: sizes that the network looks at, as factors of that size; what it finds at all of them is put together.
    mirror: it also looks at each picture's mirror image.
    sides: instead of max_size, pixels that the shorter side is brought to, up or down, and the most of the longer one.
    """

    stride = 32  # pictures are padded at the right and the bottom to a multiple of this
    anchor_sizes: tuple[tuple[int, tuple[int, ...]], ...]  # per level of the network: its stride, sizes of its anchors
    first_centre: float | None = None  # x and y of the first anchors in pixels; None: half a stride
    last_pixel = 0.0  # what a box that reaches to the right border lacks to the width: 1 where corners are whole pixels

    def __init__(
        self,
        network: Network,
        card: ModelCard,
        max_size: int = MAX_SIZE,
        nms_threshold: float = NMS_THRESHOLD,
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
        sides: tuple[int, int] | None = None,
    ) -> None:
        if not scales or not all(0 < scale < np.inf for scale in scales):
            raise ValueError(f"expected scales above 0, found {list(scales)}")
        self.network, self.card = any_batch(network, card.input.batch), card
        self.max_size, self.nms_threshold = max_size, nms_threshold
        self.scales, self.mirror, self.sides = tuple(scales), mirror, sides
        self._warned = False
        pictures = picture_input(card)
        order = (0, 1, 2) if pictures.channels == "rgb" else (2, 1, 0)
        self._order = np.array(order)
        self._mean = np.array(pictures.mean, np.float32)[:, None, None]
        self._scale = np.reciprocal(np.array(pictures.std, np.float32))[:, None, None]

    @abstractmethod
    def arrange(
        self, outputs: Sequence[Float], levels: Sequence[tuple[int, int, int]]
    ) -> tuple[Float, Float, Float | None]:
        """Scores (N, A), box codes (N, A, 4) and landmark codes (N, A, 10), or None, in the order of the anchors.

        levels: per level its rows, columns and anchors per place. Raises ModelError for outputs of other shapes.
        """

    @abstractmethod
    def boxes(self, anchors: Float, codes: Float) -> Float:
        """(K, 4) corners in network pixels from anchors (centre x, centre y, width, height) and codes (K, 4)."""

    @abstractmethod
    def landmarks(self, anchors: Float, codes: Float) -> Float:
        """(K, 5, 2) network pixels from anchors (K, 4) and codes (K, 5, 2)."""

    def _warn_without_landmarks(self) -> None:
        """Once."""
        if not self._warned:
            self._warned = True
            name = self.card.name
            logging.warning("%s finds no landmarks: faces are cut out by their boxes, and not turned upright", name)

    def decode(self, outputs: Sequence[Float], height: int, width: int, min_score: float) -> list[Faces]:
        """Per picture: boxes (K, 4), scores (K,) and landmarks (K, 5, 2) with score >= min_score, in network pixels.

        Without landmarks in the outputs, they are put where they usually lie in the box. Raises ModelError for outputs
        of a network of another kind.
        """
        anchors = make_anchors(height, width, self.anchor_sizes, self.first_centre)
        levels = [(-(-height // stride), -(-width // stride), len(sizes)) for stride, sizes in self.anchor_sizes]
        scores, codes, points = self.arrange(outputs, levels)
        results = []
        for item in range(len(scores)):
            picked = np.flatnonzero(scores[item] >= min_score)
            boxes = self.boxes(anchors[picked], codes[item, picked])
            if points is None:
                self._warn_without_landmarks()
                landmarks = boxes[:, None, :2] + USUAL_LANDMARKS * (boxes[:, None, 2:] - boxes[:, None, :2])
            else:
                landmarks = self.landmarks(anchors[picked], points[item, picked].reshape(-1, NUM_LANDMARKS, 2))
            results.append((boxes, scores[item, picked], landmarks))
        return results

    def expect(self, outputs: Sequence[Float], *choices: tuple[str, Sequence[Shape]]) -> None:
        """Raises ModelError unless the outputs have the shapes of one of the choices, which are named."""
        found = [out.shape for out in outputs]
        if not any(found == list(shapes) for _, shapes in choices):
            expected = ", or ".join(f"{name} of shapes {list(shapes)}" for name, shapes in choices)
            raise ModelError(
                f"{self.card.name}: expected {expected}, found outputs of shapes {found}; "
                f"the file is another network than the card's decoder '{self.card.output.decoder}' is for"
            )

    def detect(self, images: Sequence[Image], min_score: float = 0.1) -> list[Detections]:
        """Faces of frames that the network sees in equal shapes, best first, in pixels of the frame.

        images: each (height, width, 3) uint8 RGB. Raises ValueError when their :meth:`shapes` differ.
        """
        if not images:
            return []
        return self.detections([(view, self.network(batch)) for view, batch in self.passes(images)], min_score)

    def shapes(self, height: int, width: int) -> tuple[Shape, ...]:
        """What the network gets for a frame of this size: (padded height, padded width) per scale.

        Frames for which it is the same can share batches.
        """
        return tuple(self._padded(*self._resized(height, width, scale)) for scale in self.scales)

    def passes(self, images: Sequence[Image]) -> Iterator[tuple[DetectorPass, Float]]:
        """The batches in which the network is to see the frames, one after the other, made as in :meth:`prepare`.

        Raises ValueError for frames whose :meth:`shapes` differ.
        """
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        if len({self.shapes(*size) for size in sizes}) > 1:
            raise ValueError(f"expected frames of equal size, found {sorted(set(sizes))}")
        ways = [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.mirror else (False,))]
        for number, (scale, mirrored) in enumerate(ways, 1):
            batch = np.zeros((len(images), 3, *self._padded(*self._resized(*sizes[0], scale))), np.float32)
            for item, image, size in zip(batch, images, sizes, strict=True):
                self._fill(
                    item, np.ascontiguousarray(image[:, ::-1]) if mirrored else image, *self._resized(*size, scale)
                )
            yield DetectorPass(tuple(sizes), scale, mirrored, batch.shape, number == len(ways)), batch

    def detections(self, seen: Sequence[tuple[DetectorPass, Sequence[Float]]], min_score: float) -> list[Detections]:
        """Per frame the faces with score >= min_score, best first, in pixels of the frame.

        seen: the network's outputs for all :meth:`passes` at these frames.
        """
        passes = [self._faces(view, outputs, min_score) for view, outputs in seen]
        results = []
        for (height, width), *found in zip(seen[0][0].sizes, *passes, strict=True):
            limits = np.array([width, height, width, height], np.float32)
            boxes, scores, landmarks = (np.concatenate(parts) for parts in zip(*found, strict=True))
            order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
            keep = order[non_maximum_suppression(boxes[order], self.nms_threshold)]
            results.append(Detections(np.clip(boxes[keep], 0, limits), scores[keep], landmarks[keep]))
        return results

    def _faces(self, view: DetectorPass, outputs: Sequence[Float], min_score: float) -> Iterator[Faces]:
        """Per frame what one pass of the network found, in pixels of the frame."""
        decoded = self.decode(outputs, view.shape[2], view.shape[3], min_score)
        for (height, width), (boxes, scores, landmarks) in zip(view.sizes, decoded, strict=True):
            new_height, new_width = self._resized(height, width, view.scale)
            back = np.array([width / new_width, height / new_height], np.float32)
            if view.mirrored:
                right = new_width - self.last_pixel
                boxes = np.stack([right - boxes[:, 2], boxes[:, 1], right - boxes[:, 0], boxes[:, 3]], axis=1)
                landmarks = np.stack([right - landmarks[..., 0], landmarks[..., 1]], axis=-1)[:, MIRRORED]
            yield boxes * np.tile(back, 2), scores, landmarks * back

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """Height and width that a frame is brought to."""
        least, most = sorted((height, width))
        factor = min(1.0, self.max_size / most)
        if self.sides:
            factor = min(self.sides[0] / least, self.sides[1] / most)
        factor *= scale
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _padded(self, height: int, width: int) -> Shape:
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def prepare(self, images: Sequence[Image], height: int, width: int) -> Float:
        """Pictures at (height, width) as the network takes them.

        (N, 3, padded height, padded width) float32, normalised as the card says; the padding is zero."""
        batch = np.zeros((len(images), 3, *self._padded(height, width)), np.float32)
        for item, image in zip(batch, images, strict=True):
            self._fill(item, image, height, width)
        return batch

    def _fill(self, item: Float, image: Image, height: int, width: int) -> None:
        """One picture of a batch."""
        if image.shape[:2] != (height, width):
            # Bilinear, as in the authors' own code, but where that would leave out pixels.
            leaves_out = image.shape[0] > 2 * height or image.shape[1] > 2 * width
            how = cv2.INTER_AREA if leaves_out else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
        planes = item[:, :height, :width]
        planes[:] = image.transpose(2, 0, 1)[self._order]
        planes -= self._mean
        planes *= self._scale


class RetinaFaceDetector(FaceDetector):
    """Anchors at strides 8, 16, 32 with two sizes each; outputs boxes (N, A, 4), scores (N, A), landmarks (N, A, 10).

    Boxes are coded as in SSD (Liu et al., ECCV 2016), landmarks as shifts from the anchor's centre.
    """

    anchor_sizes = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
    centre_variance, size_variance = 0.1, 0.2

    def arrange(
        self, outputs: Sequence[Float], levels: Sequence[tuple[int, int, int]]
    ) -> tuple[Float, Float, Float | None]:
        shape = (len(outputs[0]), sum(rows * columns * count for rows, columns, count in levels))
        self.expect(outputs, ("boxes, scores and landmarks", [(*shape, 4), shape, (*shape, 10)]))
        return outputs[1], outputs[0], outputs[2]

    def boxes(self, anchors: Float, codes: Float) -> Float:
        middle = anchors[:, :2] + codes[:, :2] * self.centre_variance * anchors[:, 2:]
        half = anchors[:, 2:] * np.exp(codes[:, 2:] * self.size_variance) / 2
        return np.hstack([middle - half, middle + half])

    def landmarks(self, anchors: Float, codes: Float) -> Float:
        return anchors[:, None, :2] + codes * self.centre_variance * anchors[:, None, 2:]


class RetinaFaceMxnetDetector(FaceDetector):
    """InsightFace's RetinaFace (``net3``) and SSH: per stride 32, 16, 8 maps of scores, boxes and, maybe, landmarks.

    Scores (N, 4, rows, columns): background of both anchors of a place, then face of both. Boxes (N, 8, ...): anchor by
    anchor the shift of the centre and the logarithm of the size, in sizes of the anchor. Landmarks (N, 20, ...): shifts
    from the anchor's centre. Corners are whole pixels: 16 pixels reach from 0 to 15; the first anchors of each level
    are that box, scaled about its centre. See InsightFace's ``detection/retinaface``; SSH is Najibi et al., ICCV 2017.
    """

    anchor_sizes = ((32, (512, 256)), (16, (128, 64)), (8, (32, 16)))
    first_centre = 7.5
    last_pixel = 1.0

    def arrange(
        self, outputs: Sequence[Float], levels: Sequence[tuple[int, int, int]]
    ) -> tuple[Float, Float, Float | None]:
        pictures = len(outputs[0])
        with_landmarks, without = (
            [(pictures, count * size, rows, columns) for rows, columns, count in levels for size in sizes]
            for sizes in ((2, 4, 10), (2, 4))
        )
        self.expect(
            outputs,
            ("scores, boxes and landmarks at strides 32, 16, 8", with_landmarks),
            ("scores and boxes", without),
        )
        step = len(outputs) // len(levels)

        def rows_of(first: int, size: int) -> Float:
            """(N, A, size) from the maps of one kind, (N, anchors of a place * size, rows, columns) each."""
            parts = [
                maps.reshape(pictures, -1, size, *maps.shape[2:]).transpose(0, 3, 4, 1, 2).reshape(pictures, -1, size)
                for maps in outputs[first::step]
            ]
            return np.concatenate(parts, axis=1)

        faces = [
            maps[:, count:].transpose(0, 2, 3, 1).reshape(pictures, -1)
            for maps, (_, _, count) in zip(outputs[::step], levels, strict=True)
        ]
        return np.concatenate(faces, axis=1), rows_of(1, 4), rows_of(2, 10) if step == 3 else None

    def boxes(self, anchors: Float, codes: Float) -> Float:
        middle = anchors[:, :2] + codes[:, :2] * anchors[:, 2:]
        half = (np.exp(codes[:, 2:]) * anchors[:, 2:] - 1) / 2
        return np.hstack([middle - half, middle + half])

    def landmarks(self, anchors: Float, codes: Float) -> Float:
        return anchors[:, None, :2] + codes * (self.card.output.landmark_std or 1.0) * anchors[:, None, 2:]


class ScrfdDetector(FaceDetector):
    """InsightFace's SCRFD (Guo et al., ICLR 2022, arXiv:2105.04714): distances from places to the sides of the box.

    Outputs are the scores at strides 8, 16, 32, (N, A, 1) each, then the boxes, (N, A, 4) each: distances to the left,
    upper, right and lower side, then, maybe, the landmarks, (N, A, 10) each: shifts; all in strides. A is rows, columns
    and two equal places; the first lies in the corner of the picture.
    """

    anchor_sizes = ((8, (8, 8)), (16, (16, 16)), (32, (32, 32)))
    first_centre = 0.0

    def arrange(
        self, outputs: Sequence[Float], levels: Sequence[tuple[int, int, int]]
    ) -> tuple[Float, Float, Float | None]:
        pictures = len(outputs[0])
        with_landmarks, without = (
            [(pictures, rows * columns * count, size) for size in sizes for rows, columns, count in levels]
            for sizes in ((1, 4, 10), (1, 4))
        )
        self.expect(
            outputs,
            ("scores, boxes and landmarks at strides 8, 16, 32", with_landmarks),
            ("scores and boxes", without),
        )
        kinds = [np.concatenate(outputs[first : first + 3], axis=1) for first in range(0, len(outputs), 3)]
        return kinds[0][..., 0], kinds[1], kinds[2] if len(kinds) == 3 else None

    def boxes(self, anchors: Float, codes: Float) -> Float:
        distances = codes * anchors[:, 2:3]
        return np.hstack([anchors[:, :2] - distances[:, :2], anchors[:, :2] + distances[:, 2:]])

    def landmarks(self, anchors: Float, codes: Float) -> Float:
        return anchors[:, None, :2] + codes * anchors[:, None, 2:]


@lru_cache(maxsize=64)
def make_anchors(
    height: int, width: int, anchor_sizes: tuple[tuple[int, tuple[int, ...]], ...], first_centre: float | None = None
) -> Float:
    """(A, 4) float32 centre x, centre y, width, height in pixels, over levels, rows, columns, sizes; read-only.

    anchor_sizes: per level its stride and the sizes of the anchors of a place. first_centre: x and y of each level's
    first place; None: half a stride.
    """
    levels = []
    for stride, sizes in anchor_sizes:
        first = stride / 2 if first_centre is None else first_centre
        y, x, size = np.meshgrid(
            np.arange(-(-height // stride)) * stride + first,
            np.arange(-(-width // stride)) * stride + first,
            sizes,
            indexing="ij",
        )
        levels.append(np.stack([x, y, size, size], axis=-1).reshape(-1, 4))
    anchors = np.concatenate(levels).astype(np.float32)
    anchors.setflags(write=False)
    return anchors


DECODERS: dict[str, type[FaceDetector]] = {
    "retinaface": RetinaFaceDetector,
    "retinaface_mxnet": RetinaFaceMxnetDetector,
    "scrfd": ScrfdDetector,
}


def make_detector(
    network: Network,
    card: ModelCard,
    max_size: int = MAX_SIZE,
    nms_threshold: float = NMS_THRESHOLD,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    sides: tuple[int, int] | None = None,
) -> FaceDetector:
    """The detector that the card's ``output.decoder`` names. Raises ModelError for another kind of card or decoder."""
    if card.kind != "face_detector":
        raise ModelError(f"{card.name} is a {card.kind}, not a face_detector")
    if card.output.decoder not in DECODERS:
        raise ModelError(
            f"{card.name}: output.decoder: expected one of {' '.join(DECODERS)}, found {card.output.decoder!r}"
        )
    return DECODERS[card.output.decoder](network, card, max_size, nms_threshold, scales, mirror, sides)
