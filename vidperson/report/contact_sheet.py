"""Small pictures to see at a glance what the face detector found."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidperson.types import Image

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

TILE_WIDTH = 320
PICTURE_HEIGHT = 240
LABEL_HEIGHT = 44
GAP = 8
COLUMNS = 6

_STATE_COLOURS = {
    "ok": (30, 120, 30),
    "unsure": (0, 90, 170),
    **dict.fromkeys(("no_face", "face_rejected", "no_body"), (150, 100, 0)),
    "damaged": (190, 60, 0),
    "unreadable": (180, 0, 0),
}


@dataclass(frozen=True)
class Tile:
    """One segment of a contact sheet.

    status: ``<state>[: <why>]``.
    thumbnail: (height, width, 3) uint8 RGB, or None for a grey tile.
    """

    segment: str
    status: str
    thumbnail: Image | None


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most ``most`` of the positions 0..count - 1, spread evenly, with the first and the last."""
    positions: list[int] = np.rint(np.linspace(0, count - 1, min(count, most))).astype(int).tolist()
    return positions


def shown_segments(statuses: Mapping[str, str], most: int) -> list[str]:
    """At most ``most`` segments, spread evenly over the list, and after them those that are ``unsure``.

    The latter get a third of the places, and more where there are few others.
    """
    unsure = [segment for segment, status in statuses.items() if status.partition(":")[0] == "unsure"]
    others = [segment for segment, status in statuses.items() if status.partition(":")[0] != "unsure"]
    places = min(len(unsure), max(most // 3, most - len(others)))
    parts = (others, most - places), (unsure, places)
    return [segments[i] for segments, count in parts for i in evenly_spaced(len(segments), count)]


def decode_picture(content: bytes) -> Image:
    """(height, width, 3) uint8 RGB out of a JPEG or PNG file; raises OSError when it is damaged."""
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def compose(tiles: Sequence[Tile]) -> bytes:
    """A JPEG file with the tiles in rows of at most six, the segment's name and status under each."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    font = ImageFont.truetype(_font_path(), 14)
    columns = max(1, min(COLUMNS, len(tiles)))
    rows = -(-len(tiles) // columns)
    step_x, step_y = TILE_WIDTH + GAP, PICTURE_HEIGHT + LABEL_HEIGHT + GAP
    sheet = Picture.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        x, y = GAP + number % columns * step_x, GAP + number // columns * step_y
        state, _, why = tile.status.partition(": ")
        colour = _STATE_COLOURS.get(state, (0, 0, 0))
        if tile.thumbnail is None:
            draw.rectangle((x, y, x + TILE_WIDTH - 1, y + PICTURE_HEIGHT - 1), (205, 205, 205))
            for line, text in enumerate(_wrapped(why or "no picture", font, TILE_WIDTH - 20, 5)):
                draw.text((x + 10, y + 70 + 20 * line), text, (60, 60, 60), font)
        else:
            draw.rectangle((x, y, x + TILE_WIDTH - 1, y + PICTURE_HEIGHT - 1), (240, 240, 240))
            picture = Picture.fromarray(tile.thumbnail)
            scale = min(TILE_WIDTH / picture.width, PICTURE_HEIGHT / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            if size != picture.size:
                picture = picture.resize(size, Picture.Resampling.BILINEAR)
            sheet.paste(picture, (x + (TILE_WIDTH - size[0]) // 2, y + (PICTURE_HEIGHT - size[1]) // 2))
        draw.text((x, y + PICTURE_HEIGHT + 3), shortened(tile.segment, font, TILE_WIDTH), (0, 0, 0), font)
        draw.text((x, y + PICTURE_HEIGHT + 22), shortened(tile.status, font, TILE_WIDTH), colour, font)
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _font_path() -> str:
    """DejaVu Sans comes with matplotlib and draws Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def shortened(text: str, font: FreeTypeFont, width: int) -> str:
    """``text`` with its middle left out until it is at most ``width`` pixels wide."""
    kept, short = len(text), text
    while font.getlength(short) > width and kept > 1:
        kept -= 1
        short = text[: (kept + 1) // 2] + "\N{HORIZONTAL ELLIPSIS}" + text[len(text) - kept // 2 :]
    return short


def _wrapped(text: str, font: FreeTypeFont, width: int, most: int) -> list[str]:
    """``text`` in at most ``most`` lines of at most ``width`` pixels."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return [shortened(line, font, width) for line in lines[:most]]
