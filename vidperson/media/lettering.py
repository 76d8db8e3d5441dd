"""Text of any script as an image, with the fonts that are there."""

from __future__ import annotations

import functools
import itertools
import os
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from vidperson.types import Image

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
_LONGEST = 60  # letters; the middle of a longer text is left out
_MARK = "\N{LEFT-TO-RIGHT MARK}"
_PADDING = 0.25  # around the text, in heights of it


@functools.lru_cache(256)
def label_image(text: str, height: int, ink: Colour, paper: Colour) -> Image:
    """(H, W, 3) uint8 RGB: a line of text on a plain ground. height: of its letters, in pixels.

    Letters that no font of this machine has become empty boxes.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, features

    direction = "ltr" if features.check("raqm") else None  # of the line; letters of other scripts turn in it
    text = "".join(letter if letter.isprintable() or letter == _MARK else " " for letter in text)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(_LONGEST // 2 - 1) :]}"
    runs = [(run, _opened(path, number, height)) for run, (path, number) in _runs(text)]
    padding = max(2, round(_PADDING * height))
    width = sum(round(font.getlength(run)) for run, font in runs) + 2 * padding
    image = Picture.new("RGB", (max(1, width), round(1.35 * height) + padding), paper)
    draw, x = ImageDraw.Draw(image), padding
    for run, font in runs:
        draw.text((x, image.height // 2), run, ink, font, anchor="lm", direction=direction)
        x += round(font.getlength(run))
    return np.asarray(image, np.uint8)


def undrawable(text: str) -> str:
    """The letters of a text that no font of this machine has, each once."""
    return "".join(
        letter for letter in dict.fromkeys(text) if letter.isprintable() and not _has(_font_of(letter), letter)
    )


def _runs(text: str) -> list[tuple[str, tuple[str, int]]]:
    """The text in pieces, each with a font that has its letters: the file, and the number of the font in it."""
    fonts: list[tuple[str, int]] = []
    for letter in text:
        if not fonts or not _has(fonts[-1], letter):
            fonts.append(_font_of(letter))
        else:
            fonts.append(fonts[-1])
    pairs = itertools.groupby(zip(fonts, text, strict=True), key=lambda pair: pair[0])
    return [("".join(letter for _, letter in group), font) for font, group in pairs]


@functools.lru_cache(4096)
def _font_of(letter: str) -> tuple[str, int]:
    usual = _usual_font()
    if _has(usual, letter) or letter.isspace():
        return usual
    return next((font for font in _fonts() if _has(font, letter)), usual)


def _has(font: tuple[str, int], letter: str) -> bool:
    if letter == _MARK or unicodedata.combining(letter):  # it is drawn with the letter before
        return True
    return ord(letter) in _letters(*font)


def _usual_font() -> tuple[str, int]:
    """DejaVu Sans comes with matplotlib and draws Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 0


@functools.cache
def _fonts() -> list[tuple[str, int]]:
    """The fonts of the machine, sorted by their paths; of a collection each."""
    from fontTools.ttLib import TTCollection
    from matplotlib.font_manager import findSystemFonts

    found: list[tuple[str, int]] = []
    for path in sorted(findSystemFonts(), key=lambda path: (os.path.basename(path), path)):
        if path.lower().endswith((".ttf", ".otf")):
            found.append((path, 0))
        elif path.lower().endswith((".ttc", ".otc")):
            try:
                with TTCollection(path, lazy=True) as collection:
                    found += [(path, number) for number in range(len(collection.fonts))]
            except Exception:  # a font that fontTools cannot read is as good as none
                continue
    return found


@functools.cache
def _letters(path: str, number: int) -> frozenset[int]:
    """The code points that a font has; none where it cannot be read."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(path, fontNumber=number, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # as above
        return frozenset()


@functools.lru_cache(64)
def _opened(path: str, number: int, height: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, height, index=number)
