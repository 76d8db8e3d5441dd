"""Random changes to images, driven by an explicit generator: the same generator gives the same image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidperson.errors import TrainingError
from vidperson.types import Image

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
MIDDLE = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made, 0..1, in the order in which they are made.

    mirror: left and right swapped. jitter: turned by up to 10 degrees, scaled by 0.9..1.1, shifted by up to 4 pixels.
    colour: brightness, contrast and saturation times 0.6..1.4 each. grey: without colour. blur: Gaussian, sigma
    0.5..2 pixels. gauss: Gaussian, sigma 0.1..5 pixels, of which 5 x 9 pixels (width x height) count. motion: moved in
    a straight line meanwhile, in any direction, by up to a tenth of the larger side. dark: values 0..1 to the power of
    1..3. scale: shrunk to 25..75 % and grown again. jpeg: compressed with quality 20..90.
    cutout: a rectangle of 15..45 % of each side filled with noise.
    pad: padded with black by a 25th of the height (10 of 256 pixels), and a random part of the old size taken.
    recolour: other colours for the upper part, from a sixth of the height to the middle, and for the lower one; what is
    at the very top, and often at the sides, keeps its own. For persons: other clothes.
    erase: a rectangle of 2..40 % of the area, 0.3..3.3 times as high as wide, filled with ``mean`` (Zhong et al.,
    Random Erasing Data Augmentation, AAAI 2020).
    mix: share of the batches in which each image is mixed with another (Zhang et al., mixup, ICLR 2018).

    mean: the pixel that a network takes as 0, three values 0..255; what is erased then says nothing.
    """

    mirror: float = 0.5
    jitter: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    gauss: float = 0.0
    motion: float = 0.0
    dark: float = 0.0
    scale: float = 0.0
    jpeg: float = 0.0
    cutout: float = 0.0
    pad: float = 0.0
    recolour: float = 0.0
    erase: float = 0.0
    mix: float = 0.0
    mean: tuple[float, ...] = MIDDLE

    @classmethod
    def parse(cls, text: str, mean: tuple[float, ...] = MIDDLE) -> Augmentation:
        """``mirror=0.5 blur=0.1``; see :func:`parse_shares`."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "mean"]
        return cls(**parse_shares(text, names), mean=mean)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """A changed copy of (H, W, 3) uint8 RGB, of the same shape; everything but ``mix``."""
        for name, change in CHANGES.items():
            share = getattr(self, name)
            if share == 0 and name == "gauss":  # no draw: trainings without it stay what they were
                continue
            if rng.random() < share:
                image = change(image, rng)
        if rng.random() < self.erase:
            image = _erase(image, rng, self.mean)
        return np.ascontiguousarray(image, dtype=np.uint8)


def parse_shares(text: str, names: Sequence[str]) -> dict[str, float]:
    """``mirror=0.5 blur=0.1`` as a share for each of ``names``, 0 for what is not named.

    Raises TrainingError for an unknown name or a share outside 0..1.
    """
    shares = dict.fromkeys(names, 0.0)
    for word in text.split():
        name, _, value = word.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if name not in shares or not 0 <= share <= 1:
            raise TrainingError(f"augmentation: expected <name>=<share 0..1>, found '{word}'; names: {' '.join(names)}")
        shares[name] = share
    return shares


def mix_pairs(count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """For a batch that is mixed: (count,) numbers of the partners, a permutation, and the share 0.5..1 of the first.

    The share is drawn from Beta(0.4, 0.4), the larger part staying with the image itself.
    """
    share = float(rng.beta(0.4, 0.4))
    return rng.permutation(count), max(share, 1 - share)


def _mirror(image: Image, rng: np.random.Generator) -> Image:
    return image[:, ::-1]


def _jitter(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-10, 10), rng.uniform(0.9, 1.1))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-4, 4, size=2)
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _colour(image: Image, rng: np.random.Generator) -> Image:
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, size=3)
    mix = np.full((3, 1), 1 - saturation) * LUMA + np.eye(3) * saturation
    mean = np.mean(cv2.mean(np.ascontiguousarray(image))[:3])
    # All three as one matrix: the mean of all pixels keeps its place but for the brightness.
    matrix = np.hstack([mix * contrast, np.full((3, 1), mean * (1 - contrast))]) * brightness
    return cv2.transform(np.ascontiguousarray(image), matrix)  # type: ignore[return-value]


def _grey(image: Image, rng: np.random.Generator) -> Image:
    return np.repeat(_luma(image.astype(np.float32))[..., None].round().astype(np.uint8), 3, axis=2)


def _luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array(LUMA, np.float32)


def _blur(image: Image, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), rng.uniform(0.5, 2))  # type: ignore[return-value]


def _gauss(image: Image, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(np.ascontiguousarray(image), (5, 9), rng.uniform(0.1, 5))  # type: ignore[return-value]


def _motion(image: Image, rng: np.random.Generator) -> Image:
    reach = rng.uniform(0, max(image.shape[:2]) / 20)  # to either side
    angle = rng.uniform(0, np.pi)
    middle = int(reach) + 1
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
    steps = np.linspace(-reach, reach, 4 * middle + 1)
    np.add.at(kernel, tuple(np.rint(middle + np.outer([np.sin(angle), np.cos(angle)], steps)).astype(int)), 1)
    return cv2.filter2D(np.ascontiguousarray(image), -1, kernel / kernel.sum())  # type: ignore[return-value]


def _dark(image: Image, rng: np.random.Generator) -> Image:
    table = (np.linspace(0, 1, 256) ** rng.uniform(1, 3) * 255).round().astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table)  # type: ignore[return-value]


def _scale(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    factor = rng.uniform(0.25, 0.75)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _jpeg(image: Image, rng: np.random.Generator) -> Image:
    quality = int(rng.integers(20, 91))
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def _cutout(image: Image, rng: np.random.Generator) -> Image:
    image = image.copy()
    height, width = image.shape[:2]
    tall, wide = (max(1, round(side * rng.uniform(0.15, 0.45))) for side in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    image[top : top + tall, left : left + wide] = rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)
    return image


def _pad(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    border = max(1, round(height / 25.6))
    padded = np.pad(image, ((border, border), (border, border), (0, 0)))
    top, left = rng.integers(0, 2 * border + 1, size=2)
    return padded[top : top + height, left : left + width]


def _recolour(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    down, aside = np.arange(height)[:, None] / height, np.abs(np.arange(width) / width - 0.5)
    lower = _from(down, rng.uniform(0.42, 0.58))
    upper = _from(down, rng.uniform(0.13, 0.2)) * (1 - lower)
    middle = 1 - _from(aside, rng.uniform(0.28, 0.6), 0.03)
    image = found = np.ascontiguousarray(image)
    for part in (upper, lower):
        if rng.random() < 0.75:
            other = _other_hue(image, rng) if rng.random() < 0.5 else _tinted(image, rng)
            share = (part * middle).astype(np.float32)
            found = np.asarray(cv2.blendLinear(other, found, share, 1 - share), np.uint8)
    return found


def _from(places: np.ndarray, start: float, soft: float = 0.01) -> np.ndarray:
    """0 below ``start``, 1 above, with a soft edge."""
    return 1 / (1 + np.exp((start - places) / soft))


def _other_hue(image: Image, rng: np.random.Generator) -> Image:
    """Turned hue, saturation times 0.3..2 and some more, brightness to a power of 0.45..2.2."""
    steps = np.arange(256)
    tables = (
        (steps + rng.integers(180)) % 180,
        (steps * rng.uniform(0.3, 2) + rng.uniform(0, 40)).clip(0, 255),
        (steps / 255) ** np.exp(rng.uniform(-0.8, 0.8)) * 255,
    )
    table = np.stack(tables, axis=-1).astype(np.uint8)[None]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def _tinted(image: Image, rng: np.random.Generator) -> Image:
    """40 % or more of a random colour, as bright and dark as the image is."""
    mean = max(20.0, float(np.dot(cv2.mean(image)[:3], LUMA)))
    colour, share = rng.uniform(0, 255, 3), rng.uniform(0.4, 1)
    tint = cv2.transform(image, np.outer(colour / mean, LUMA))
    return cv2.addWeighted(tint, share, image, 1 - share, 0)  # type: ignore[return-value]


def _erase(image: Image, rng: np.random.Generator, fill: Sequence[float]) -> Image:
    height, width = image.shape[:2]
    for _ in range(100):
        area, ratio = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
        tall, wide = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < tall < height and 0 < wide < width:
            top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
            image = image.copy()
            image[top : top + tall, left : left + wide] = np.rint(fill)
            break
    return image


CHANGES: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "mirror": _mirror,
    "jitter": _jitter,
    "colour": _colour,
    "grey": _grey,
    "blur": _blur,
    "gauss": _gauss,
    "motion": _motion,
    "dark": _dark,
    "scale": _scale,
    "jpeg": _jpeg,
    "cutout": _cutout,
    "pad": _pad,
    "recolour": _recolour,
}
"""Each changes an image of any size, (H, W, 3) uint8 RGB; ``erase`` comes after them, as it needs the mean."""
