#!/usr/bin/env python3
"""Two folders as a user has them, persons/ and videos/, with drawn faces of nobody: for pictures in the docs and tests.

The small networks that ship find these faces and tell them apart. Same arguments, same images.

Example:
  python benchmarks/drawn_folders.py --out-dir drawn
  ./run_who.sh drawn/persons drawn/videos
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vidperson import cli

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
SCALE = 2
"""Faces are drawn so many times as large, and made smaller: smooth edges."""
WIDTH, HEIGHT, FPS = 640, 360, 10


@dataclass(frozen=True)
class Look:
    """Of a person. Lengths are parts of the image's side. parting: degrees without hair, left and right."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    back: Colour
    lips: Colour
    width: float
    height: float
    jaw: float
    eyes: float
    brows: float
    mouth: float
    parting: tuple[int, int] = (12, 12)
    long: bool = False
    beard: bool = False
    glasses: bool = False


PERSONS = {
    "Anna": Look(
        (246, 214, 194), (120, 50, 30), (80, 120, 160), (170, 60, 80), (205, 215, 205), (190, 102, 97),
        width=0.205, height=0.28, jaw=0.42, eyes=0.5, brows=0.009, mouth=0.053, parting=(2, 2), long=True, glasses=True,
    ),
    "Chidi": Look(
        (112, 72, 50), (196, 156, 84), (60, 110, 80), (215, 170, 60), (190, 200, 180), (87, 34, 25),
        width=0.235, height=0.233, jaw=0.55, eyes=0.505, brows=0.021, mouth=0.057, parting=(3, 25), long=True,
        beard=True,
    ),
    "Emil": Look(
        (246, 214, 194), (22, 18, 18), (45, 28, 20), (80, 140, 150), (180, 200, 215), (191, 102, 97),
        width=0.163, height=0.251, jaw=0.58, eyes=0.444, brows=0.028, mouth=0.095, glasses=True,
    ),
}  # fmt: skip
NO_PORTRAIT = "Emil"
"""Nobody knows him: for the small embedder that ships he is like the others by a cosine of 0.1 at most."""


def draw_face(look: Look, size: int, time_s: float = 0.0) -> Pixels:
    """(size, size, 3) uint8 RGB: head and shoulders. time_s: moves the head, opens the mouth."""
    return _Drawing(look, size * SCALE, time_s).finished(size)


class _Drawing:
    """An image while it is drawn; positions are parts of its side."""

    def __init__(self, look: Look, side: int, time_s: float) -> None:
        self.look, self.side, self.time_s = look, side, time_s
        self.x, self.y = 0.5 + 0.02 * math.sin(1.7 * time_s), 0.46 + 0.01 * math.sin(2.3 * time_s)
        self.eye_y, self.eye_x = self.y - 0.03, look.width * look.eyes
        self.dark = _mixed(look.skin, (0, 0, 0), 0.22)
        self.image = Image.new("RGB", (side, side), look.back)
        self.pen = ImageDraw.Draw(self.image)
        self._body()
        self._skull()
        self._shade()
        self._fringe()
        for sign in (-1, 1):
            self._eye(self.x + sign * self.eye_x)
        self._nose()
        self._mouth()
        if look.beard:
            self._beard()
        if look.glasses:
            self._glasses()

    def finished(self, size: int) -> Pixels:
        soft = self.image.filter(ImageFilter.GaussianBlur(self.side / 500)).resize((size, size), Image.Resampling.BOX)
        grain = np.random.default_rng(round(self.time_s * 1000)).normal(0, 2.5, (size, size, 3))
        return np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)

    def _at(self, *places: float) -> list[float]:
        return [place * self.side for place in places]

    def _around(self, x: float, y: float, rx: float, ry: float) -> list[float]:
        return self._at(x - rx, y - ry, x + rx, y + ry)

    def _paint(self, colour: Colour, strength: int, blur: float, *ovals: tuple[float, float, float, float]) -> None:
        """Soft ovals of a colour. strength: 0..255."""
        mask = Image.new("L", self.image.size, 0)
        for oval in ovals:
            ImageDraw.Draw(mask).ellipse(self._around(*oval), fill=strength)
        self.image.paste(Image.new("RGB", self.image.size, colour), (0, 0), mask.filter(self._blur(blur)))

    def _blur(self, part: float) -> ImageFilter.Filter:
        return ImageFilter.GaussianBlur(part * self.side)

    def _width(self, part: float) -> int:
        return max(1, round(part * self.side))

    def _body(self) -> None:
        look, x, y = self.look, self.x, self.y
        self.pen.rounded_rectangle(self._at(0.12, 0.86, 0.88, 1.4), self.side * 0.2, fill=look.shirt)
        neck = self._at(x - 0.09, y + look.height * 0.7, x + 0.09, y + look.height * 0.7)
        self.pen.polygon([*neck, *self._at(0.61, 0.9, 0.5, 0.96, 0.39, 0.9)], fill=self.dark)
        if look.long:
            half = look.width + 0.05
            around = self._at(x - half, y - look.height * 0.75, x + half, y + look.height * 1.05)
            self.pen.rounded_rectangle(around, self.side * 0.18, fill=look.hair)
        self.pen.ellipse(self._around(x, y - 0.09, look.width + 0.035, look.height * 0.92), fill=look.hair)

    def _skull(self) -> None:
        look, x, y, width, height = self.look, self.x, self.y, self.look.width, self.look.height
        for sign in (-1, 1):
            self.pen.ellipse(self._around(x + sign * width, y + 0.02, 0.028, 0.055), fill=self.dark)
        self.pen.ellipse(self._around(x, y, width, height), fill=look.skin)
        sides = self._at(x - width * 0.93, y + height * 0.3, x + width * 0.93, y + height * 0.3)
        chin = self._at(x + width * look.jaw, y + height * 0.86, x, y + height * 1.02)
        chin += self._at(x - width * look.jaw, y + height * 0.86)
        self.pen.polygon([*sides, *chin], fill=look.skin)
        self.image = self.image.filter(self._blur(1 / 220))

    def _shade(self) -> None:
        x, y, width, height = self.x, self.y, self.look.width, self.look.height
        self._paint(self.dark, 120, 0.03, (x + width * 0.86, y + 0.02, width * 0.16, height * 0.75))
        sockets = [(x + sign * self.eye_x, self.eye_y, 0.062, 0.042) for sign in (-1, 1)]
        self._paint(self.dark, 110, 0.014, *sockets, (x, y + height * 0.77, 0.09, 0.01))
        self._paint(self.dark, 80, 0.01, (x + 0.022, y + 0.06, 0.016, 0.06))
        light = _mixed(self.look.skin, (255, 255, 255), 0.35)
        cheek = (x - width * 0.5, y + 0.08, 0.045, 0.035)
        self._paint(light, 110, 0.02, (x - 0.02, y - height * 0.58, 0.07, 0.04), cheek)
        self._paint(light, 120, 0.006, (x - 0.004, y + 0.04, 0.009, 0.05))
        self.pen = ImageDraw.Draw(self.image)

    def _fringe(self) -> None:
        look = self.look
        half, top = look.width + 0.01, self.y - look.height - 0.03
        box = self._at(self.x - half, top, self.x + half, self.y + look.height / 2)
        self.pen.chord(box, 180 + look.parting[0], 360 - look.parting[1], fill=look.hair)

    def _eye(self, x: float) -> None:
        y = self.eye_y
        white, black = (238, 236, 232), (15, 12, 12)
        for rx, ry, colour in ((0.045, 0.021, white), (0.02, 0.02, self.look.iris), (0.01, 0.01, black)):
            self.pen.ellipse(self._around(x, y, rx, ry), fill=colour)
        self.pen.ellipse(self._around(x + 0.007, y - 0.007, 0.004, 0.004), fill=(250, 250, 250))
        self.pen.arc(self._at(x - 0.05, y - 0.03, x + 0.05, y + 0.04), 190, 350, (50, 35, 30), self._width(0.008))
        brow = self._at(x - 0.06, y - 0.053, x, y - 0.07, x + 0.06, y - 0.053)
        self.pen.line(brow, self.look.hair, self._width(self.look.brows), joint="curve")

    def _nose(self) -> None:
        for sign in (-1, 1):
            x, y = self.x + sign * 0.02, self.y + 0.11
            self.pen.ellipse(self._around(x, y, 0.011, 0.006), fill=_mixed(self.dark, (0, 0, 0), 0.4))

    def _mouth(self) -> None:
        half, y = self.look.mouth, self.y + self.look.height * 0.62
        opened = 0.004 + 0.006 * (math.sin(7 * self.time_s) > 0)
        self.pen.chord(self._at(self.x - half, y - 0.022, self.x + half, y + 0.02), 180, 360, fill=self.look.lips)
        lower = _mixed(self.look.lips, (255, 255, 255), 0.15)
        self.pen.chord(self._at(self.x - half, y - 0.025, self.x + half, y + 0.034), 0, 180, fill=lower)
        self.pen.ellipse(self._around(self.x, y, half * 0.9, opened), fill=(90, 30, 35))

    def _beard(self) -> None:
        width, height, y = self.look.width, self.look.height, self.y
        mask = Image.new("L", self.image.size, 0)
        pen = ImageDraw.Draw(mask)
        pen.ellipse(self._at(self.x - width * 0.98, y + 0.02, self.x + width * 0.98, y + height * 1.03), fill=170)
        pen.ellipse(self._at(self.x - width * 0.78, y - 0.1, self.x + width * 0.78, y + height * 0.48), fill=0)
        pen.ellipse(self._around(self.x, y + height * 0.62, self.look.mouth * 1.15, 0.033), fill=0)
        self.image.paste(Image.new("RGB", self.image.size, self.look.hair), (0, 0), mask.filter(self._blur(1 / 90)))
        self.pen = ImageDraw.Draw(self.image)

    def _glasses(self) -> None:
        frame = (30, 30, 35)
        for sign in (-1, 1):
            around = self._around(self.x + sign * self.eye_x, self.eye_y, 0.068, 0.047)
            self.pen.rounded_rectangle(around, self.side * 0.03, outline=frame, width=self._width(0.009))
        bridge = self._at(self.x - self.eye_x + 0.068, self.eye_y, self.x + self.eye_x - 0.068, self.eye_y)
        self.pen.line(bridge, frame, self._width(0.009))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def frames(shots: Sequence[tuple[float, Sequence[str]]]) -> Iterator[Pixels]:
    """Of a video: per shot its seconds and who is seen, side by side."""
    count = 0
    for seconds, persons in shots:
        size = HEIGHT - 20 if len(persons) == 1 else 260
        for _ in range(round(seconds * FPS)):
            wall = np.linspace(90, 150, WIDTH).astype(np.uint8)
            image = np.ascontiguousarray(np.broadcast_to(wall[None, :, None], (HEIGHT, WIDTH, 3)))
            for place, person in enumerate(persons):
                left = round((place + 0.5) * WIDTH / len(persons) - size / 2)
                image[HEIGHT - size :, left : left + size] = draw_face(PERSONS[person], size, count / FPS + 3 * place)
            count += 1
            yield image


def write_video(path: Path, shots: Sequence[tuple[float, Sequence[str]]]) -> None:
    """H.264 without sound."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in frames(shots):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_photo(path: Path, person: str, time_s: float = 0.0, size: int = 256) -> None:
    """JPEG."""
    Image.fromarray(draw_face(PERSONS[person], size, time_s)).save(path, quality=92)


def write_folders(out_dir: Path) -> None:
    """persons/ and videos/ below a folder."""
    videos = out_dir / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    for name in PERSONS.keys() - {NO_PORTRAIT}:
        (out_dir / "persons" / name).mkdir(parents=True, exist_ok=True)
        write_photo(out_dir / "persons" / name / "portrait.jpg", name, 0.4)
    write_video(videos / "birthday.mp4", [(3, ["Anna"]), (2.6, ["Anna", "Chidi"]), (2, ["Emil"])])
    write_video(videos / "garden.mp4", [(2, ["Chidi"]), (3, ["Anna", "Emil"]), (1.6, ["Emil"])])
    write_photo(videos / "lunch.jpg", "Chidi", 2.2)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", type=Path, required=True, help="where the two folders are written")
    cli.main(write_folders, parser.parse_args())
