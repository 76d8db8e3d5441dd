"""Persons to put into frames: a body drawn in coloured clothes, with the face of a portrait or without any face.

What the demo corpus of films is made of. Same arguments and package versions, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidperson.corpora.film import Corners, Matrix, Pixels, Portrait, similarity

Colour = tuple[int, int, int]
Point = tuple[float, float]
Side = Literal["front", "back", "covered"]
"""What is seen of a head: its face, its hair, or a sheet of paper before the face."""

WIDTH, HEIGHT, FACE_HEIGHT = 300, 600, 84
"""Of the canvas on which a person is drawn, and of the face, in pixels."""
CENTRE = WIDTH // 2
HEAD: Point = (CENTRE, 62.0)
NECK, SHOULDERS, ELBOWS, HIPS, KNEES, FEET = 95, 122, 205, 300, 430, 575
"""Heights on the canvas."""

COLOURS: dict[str, Colour] = {
    "beige": (196, 172, 134),
    "black": (35, 34, 38),
    "blue": (42, 74, 160),
    "brown": (104, 72, 48),
    "green": (46, 120, 66),
    "grey": (130, 132, 136),
    "navy": (34, 42, 84),
    "orange": (214, 120, 40),
    "purple": (108, 56, 130),
    "red": (178, 36, 42),
    "teal": (40, 135, 140),
    "white": (225, 224, 218),
    "yellow": (222, 190, 60),
}
PATTERNS = ("plain", "plain", "stripes", "hoops", "checks")
HAIR: tuple[Colour, ...] = ((28, 24, 22), (70, 48, 32), (120, 84, 50), (150, 148, 146))
SKIN: tuple[Colour, ...] = ((230, 190, 165), (205, 160, 130), (150, 105, 80))
SHOES: Colour = (40, 34, 32)


@dataclass(frozen=True)
class Clothes:
    """What a person wears, hair and skin included."""

    top: Colour
    accent: Colour
    bottom: Colour
    pattern: str
    skirt: bool
    long_sleeves: bool
    hair: Colour
    skin: Colour


@dataclass(frozen=True)
class Figure:
    """A person: (HEIGHT, WIDTH, 3) RGB, (HEIGHT, WIDTH) opacity 0..255, and x1 y1 x2 y2 round what is opaque."""

    pixels: Pixels
    opacity: Pixels
    box: Corners

    def draw(self, picture: Pixels, to_picture: Matrix) -> None:
        """Put it into a picture, (height, width, 3), under a (3, 3) matrix from the canvas to the picture."""
        import cv2

        corners = self.box_in(to_picture).round().astype(int)
        left, top, right, bottom = corners.clip(0, [picture.shape[1], picture.shape[0]] * 2)
        if left < right and top < bottom:
            shifted, size = (similarity(1, 0, (left, top), (0, 0)) @ to_picture)[:2], (right - left, bottom - top)
            light, alpha = (
                np.asarray(cv2.warpAffine(image, shifted, size), np.uint8) for image in (self.pixels, self.opacity)
            )
            _blend(picture[top:bottom, left:right], light, alpha)

    def box_in(self, to_picture: Matrix) -> Matrix:
        """(4,) x1 y1 x2 y2 round the box under the matrix, in pixels of the picture."""
        x1, y1, x2, y2 = self.box
        corners = (to_picture @ [[x1, x2, x1, x2], [y1, y1, y2, y2], [1, 1, 1, 1]])[:2]
        return np.hstack([corners.min(axis=1), corners.max(axis=1)])


def choose_clothes(rng: np.random.Generator) -> Clothes:
    """Clothes, hair and skin at random."""
    top, accent, bottom = (COLOURS[name] for name in rng.choice(list(COLOURS), 3, replace=False))
    pattern = str(rng.choice(PATTERNS))
    skirt, long_sleeves = rng.random(2) < (0.3, 0.6)
    hair, skin = HAIR[rng.integers(len(HAIR))], SKIN[rng.integers(len(SKIN))]
    return Clothes(top, accent, bottom, pattern, bool(skirt), bool(long_sleeves), hair, skin)


def draw_figure(clothes: Clothes, portrait: Portrait, side: Side, rng: np.random.Generator) -> Figure:
    """A person in a pose at random. The portrait has the face that is seen from the front."""
    canvas = _Canvas()
    top: Pixels | Colour = clothes.top if clothes.pattern == "plain" else _pattern(clothes)
    _draw_legs(canvas, clothes, rng.uniform(2, 26))
    canvas.oval((HEAD[0], HEAD[1] - 6), (43, 56), clothes.hair)
    canvas.line([(CENTRE, NECK), (CENTRE, SHOULDERS)], 30, clothes.skin)
    right = [(168, SHOULDERS - 10), (202, SHOULDERS), (190, 220), (192, HIPS + 8)]
    canvas.area([*right, *((WIDTH - x, y) for x, y in reversed(right))], top)
    canvas.shade(rng)
    if side == "front":
        _put_face(canvas, portrait, clothes.skin)
    elif side == "covered":
        canvas.area([(96, 20), (204, 20), (204, 150), (96, 150)], COLOURS["white"])
    for sign in (-1, 1):
        bend, reach = rng.uniform((-10, -30), (26, 22))
        elbow = (CENTRE + sign * (54 + bend), ELBOWS)
        hand = (CENTRE + sign * 50, 130) if side == "covered" else (elbow[0] + sign * reach, 285)
        arm = [(CENTRE + sign * 44, SHOULDERS + 14), elbow, hand]
        canvas.line(arm, 27, clothes.skin)
        canvas.line(arm[: 3 if clothes.long_sleeves else 2], 31, top)
        canvas.oval(hand, (15, 17), clothes.skin)
    rows, columns = (np.flatnonzero(canvas.opacity.any(axis=axis)) for axis in (1, 0))
    box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Figure(canvas.pixels, canvas.opacity, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))


class _Canvas:
    """Shapes, painted over each other. A colour is one, or (HEIGHT, WIDTH, 3), that of each pixel."""

    def __init__(self) -> None:
        self.pixels: Pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self.opacity: Pixels = np.zeros((HEIGHT, WIDTH), np.uint8)

    def line(self, points: Sequence[Point], width: int, colour: Pixels | Colour) -> None:
        import cv2

        self._paint(lambda image, value: cv2.polylines(image, [_whole(points)], False, value, width), colour)

    def area(self, points: Sequence[Point], colour: Pixels | Colour) -> None:
        import cv2

        self._paint(lambda image, value: cv2.fillPoly(image, [_whole(points)], value), colour)

    def oval(self, centre: Point, axes: tuple[int, int], colour: Pixels | Colour) -> None:
        import cv2

        at = _whole([centre])[0].tolist()
        self._paint(lambda image, value: cv2.ellipse(image, at, axes, 0, 0, 360, value, -1), colour)

    def _paint(self, draw: Callable[[Pixels, Any], Any], colour: Pixels | Colour) -> None:
        draw(self.opacity, 255)
        if isinstance(colour, tuple):
            draw(self.pixels, colour)
        else:
            shape = np.zeros_like(self.opacity)
            draw(shape, 255)
            np.copyto(self.pixels, colour, where=shape[..., None] > 0)

    def shade(self, rng: np.random.Generator) -> None:
        """Folds, and a side that is darker."""
        import cv2

        folds = rng.uniform(0.8, 1.15, (24, 12)) * np.linspace(0.8, 1.1, 12)[:: int(rng.choice([-1, 1]))]
        light = cv2.resize((160 * folds).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self.pixels = np.asarray(cv2.multiply(self.pixels, cv2.merge([light] * 3), scale=1 / 160), np.uint8)


def _whole(points: Sequence[Point]) -> NDArray[np.int32]:
    return np.array(points).round().astype(np.int32)


def _blend(picture: Pixels, above: Pixels, opacity: Pixels) -> None:
    """Put pixels above those of a picture, as far as they are opaque, 0..255."""
    import cv2

    alpha = cv2.merge([opacity] * 3)
    picture[:] = cv2.add(cv2.multiply(above, alpha, scale=1 / 255), cv2.multiply(picture, 255 - alpha, scale=1 / 255))


def _draw_legs(canvas: _Canvas, clothes: Clothes, stride: float) -> None:
    for sign in (-1, 1):
        foot = (CENTRE + sign * (20 + stride), FEET)
        leg = [(CENTRE + sign * 20, HIPS), (CENTRE + sign * (22 + stride / 2), KNEES), foot]
        canvas.line(leg, 42, clothes.skin if clothes.skirt else clothes.bottom)
        canvas.line([foot, (foot[0] + sign * 10, FEET + 4)], 30, SHOES)
    if clothes.skirt:
        canvas.area([(110, HIPS - 20), (190, HIPS - 20), (218, KNEES + 10), (82, KNEES + 10)], clothes.bottom)


def _pattern(clothes: Clothes) -> Pixels:
    """(HEIGHT, WIDTH, 3) the cloth of a top that is not plain."""
    stripes, hoops = np.arange(WIDTH) // 12 % 2, np.arange(HEIGHT)[:, None] // 18 % 2
    accents = {"stripes": stripes + 0 * hoops, "hoops": 0 * stripes + hoops, "checks": stripes ^ hoops}[clothes.pattern]
    return np.array([clothes.top, clothes.accent], np.uint8)[accents]


def _put_face(canvas: _Canvas, portrait: Portrait, skin: Colour) -> None:
    """Put the oval round the face of a portrait on the head; a grey one gets the colour of the skin."""
    import cv2

    x1, y1, x2, y2 = portrait.face
    scale = FACE_HEIGHT / (y2 - y1)
    size = 2 * FACE_HEIGHT
    centre = size / 2, size / 2
    to_head = similarity(scale, 0, ((x1 + x2) / 2, (y1 + y2) / 2), centre)
    face = cv2.warpAffine(portrait.pixels, to_head[:2], (size, size), flags=cv2.INTER_AREA)
    if not np.ptp(portrait.pixels, axis=2).any():
        face = (face * (np.array(skin) / np.mean(skin))).clip(0, 255)
    oval = np.zeros((size, size), np.uint8)
    axes = round(0.54 * scale * (x2 - x1)), round(0.56 * FACE_HEIGHT)
    cv2.ellipse(oval, _whole([centre])[0].tolist(), axes, 0, 0, 360, 255, -1)
    top, left = max(round(HEAD[1] - size / 2), 0), round(HEAD[0] - size / 2)
    hidden = max(round(size / 2 - HEAD[1]), 0)  # rows above the canvas
    area = canvas.pixels[top : top + size - hidden, left : left + size]
    _blend(area, face.astype(np.uint8)[hidden:], np.asarray(cv2.GaussianBlur(oval, (0, 0), 2.5), np.uint8)[hidden:])
