"""The types that cross module borders, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Box = tuple[float, float, float, float]  # x1 y1 x2 y2 in pixels
Image = NDArray[np.uint8]

ITEMS = {"face": "faces", "speaker": "speech", "body": "bodies"}
"""Modality -> what stage 2 finds of it: the name of its archive, and the word for it in tables."""

HEARD = ("speech",)
"""Items without pictures: stage 2 stores no crops of them."""

CUT_BY_BOX = ("bodies",)
"""Items with crops that show what is in their box and nothing else, so that others can be drawn on them."""

LINKED = ("faces", "bodies")
"""Items with a frame and a box, which link those of one person to tracks. Others of a segment are of one person."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif",
)  # fmt: skip
"""Extensions of images that are decoded as such, lower case."""


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its extension."""
    return name.lower().endswith(IMAGE_SUFFIXES)


NUM_LANDMARKS = 5
FACE_COLUMNS = ("frame", "time_s", "x1", "y1", "x2", "y2", "score") + tuple(
    f"{axis}_{point}" for point in ("eye_r", "eye_l", "nose", "mouth_r", "mouth_l") for axis in "xy"
)


BODY_COLUMNS = ("frame", "time_s", "x1", "y1", "x2", "y2", "score")

SPEECH_COLUMNS = ("start_s", "end_s", "level_db", "snr_db", "clipped_share", "speech_share", "rate_hz")
"""Of a stretch of sound: seconds since the beginning, level (dB of full scale), estimated signal-to-noise ratio (dB),
shares (0..1) of samples at full scale and of time in which somebody talks, sample rate of the file."""
SPEECH_SUMMARY = ("duration_s", *SPEECH_COLUMNS[2:])


def speech_summary(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(6,) values of a segment, named in ``SPEECH_SUMMARY``: the seconds of its stretches together, and means by time.

    rows: (N, 7), columns as in ``SPEECH_COLUMNS``. Without a stretch 0 seconds, and the rest is no number.
    """
    values = np.asarray(rows, np.float64).reshape(-1, len(SPEECH_COLUMNS))
    seconds = values[:, 1] - values[:, 0]
    total = float(seconds.sum())
    means = seconds @ values[:, 2:] / total if total else np.full(len(SPEECH_COLUMNS) - 2, np.nan)
    return np.concatenate([[total], means])


SUMMARIES = {"speech": (SPEECH_SUMMARY, speech_summary)}
"""What is found -> names of the values that tell the quality of a segment, and what makes them of its items."""


def _checked(name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> Float:
    checked = np.ascontiguousarray(array, dtype=np.float32)
    if checked.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, found {checked.shape}")
    return checked


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    image: (height, width, 3) uint8 RGB, upright, square pixels.
    index: number of the frame in display order, from 0.
    time_s: seconds since the first frame of the stream.
    label: number of the labelled time whose window the frame belongs to, -1 outside windows.
    """

    image: Image
    index: int
    time_s: float
    label: int = -1

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3 or not self.image.size:
            raise ValueError(f"image: expected (height, width, 3) uint8, found {self.image.shape} {self.image.dtype}")


@dataclass(frozen=True)
class Detections:
    """Faces found in one frame, in pixels of that frame, best score first; no face is a normal case.

    boxes: (N, 4) float32 x1 y1 x2 y2.
    scores: (N,) float32 in 0..1.
    landmarks: (N, 5, 2) float32 x y of the eyes (image left, image right), the nose and the mouth corners.
    """

    boxes: Float
    scores: Float
    landmarks: Float

    def __post_init__(self) -> None:
        n = len(self.scores)
        object.__setattr__(self, "scores", _checked("scores", self.scores, (n,)))
        object.__setattr__(self, "boxes", _checked("boxes", self.boxes, (n, 4)))
        object.__setattr__(self, "landmarks", _checked("landmarks", self.landmarks, (n, NUM_LANDMARKS, 2)))

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros((0, NUM_LANDMARKS, 2)))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Detections:
        """The faces that a mask, an index array or a slice picks."""
        return Detections(self.boxes[index], self.scores[index], self.landmarks[index])

    def as_rows(self, frame: Frame) -> Float:
        """(N, 17) float32 rows of the `faces` archive, columns as in ``FACE_COLUMNS``."""
        n = len(self)
        where = np.broadcast_to(np.array([frame.index, frame.time_s], dtype=np.float32), (n, 2))
        return np.hstack([where, self.boxes, self.scores[:, None], self.landmarks.reshape(n, 2 * NUM_LANDMARKS)])

    @classmethod
    def from_rows(cls, rows: Float) -> Detections:
        """The inverse of :meth:`as_rows`, without frame number and time."""
        rows = _checked("faces", rows, (len(rows), len(FACE_COLUMNS)))
        return cls(rows[:, 2:6], rows[:, 6], rows[:, 7:].reshape(-1, NUM_LANDMARKS, 2))


@dataclass(frozen=True)
class Calibration:
    """How the cosine of two embeddings of a network becomes a natural log-likelihood ratio, same person or another.

    llr = offset + slope * cosine. measured_on: the lists of pairs that it was learnt from, or who published it.
    num_targets, num_nontargets: pairs of them; 0 where it was not learnt from pairs.
    Raises ValueError for a slope that is not positive, and for numbers that are not finite.
    """

    slope: float
    offset: float
    measured_on: str
    num_targets: int = 0
    num_nontargets: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.slope < np.inf or not np.isfinite(self.offset):
            raise ValueError(f"expected a slope above 0 and a finite offset, found {self.slope} and {self.offset}")

    def llr(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """Cosines of any shape to natural log-likelihood ratios of that shape."""
        return np.asarray(self.offset + self.slope * np.asarray(cosines, np.float64))

    def cosine(self, llr: float) -> float:
        """The cosine that has this log-likelihood ratio."""
        return (llr - self.offset) / self.slope
