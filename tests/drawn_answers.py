"""An answer about persons that are drawn: no real person is in it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidperson.answers import Appearance, Candidate, Track, VideoAnswer
from vidperson.io.answers import best_name

BACK = ((226, 232, 238), (238, 230, 220), (222, 234, 226), (236, 226, 232), (228, 228, 240))
SIDE = 112

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """What a person looks like; ``wide``: the face, in pixels."""

    skin: Colour
    hair: Colour
    shirt: Colour
    long: bool = False
    curly: bool = False
    glasses: bool = False
    beard: bool = False
    wide: float = 52


LOOKS = {
    "Anna": Look((246, 214, 186), (110, 70, 40), (86, 128, 170), long=True),
    "Otto": Look((250, 222, 198), (176, 176, 180), (104, 120, 110), glasses=True, beard=True, wide=54),
    "Maria": Look((214, 162, 122), (34, 30, 34), (176, 96, 92), long=True, curly=True, wide=50),
    "Ben": Look((132, 88, 62), (30, 26, 26), (196, 160, 92), curly=True, wide=51),
    "Zoe": Look((252, 226, 204), (168, 70, 44), (104, 150, 116), wide=48),
    "unknown 1": Look((228, 184, 148), (52, 38, 30), (92, 104, 120), beard=True, wide=53),
    "unknown 2": Look((186, 130, 92), (40, 34, 34), (128, 110, 168), long=True, glasses=True, wide=50),
}


def drawn_face(person: str, shot: int = 0) -> bytes:
    """A JPEG file, 112 x 112 pixels; ``shot``: turns the head a little and changes the light and what is behind."""
    from PIL import Image, ImageDraw

    look = LOOKS.get(person, LOOKS["Anna"])
    turn = np.random.default_rng([len(person), shot]).normal(0, 8)
    scale = 4
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), BACK[shot % len(BACK)])
    draw = ImageDraw.Draw(picture)

    def oval(x: float, y: float, width: float, height: float, colour: Colour) -> None:
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        draw.ellipse([scale * side for side in (left, top, right, bottom)], fill=colour)

    width, height = look.wide, 66
    dark = (int(0.82 * look.skin[0]), int(0.82 * look.skin[1]), int(0.82 * look.skin[2]))
    oval(56, 122, 104, 70, look.shirt)
    if look.long:
        oval(56, 66, width + 26, height + 34, look.hair)
    draw.rectangle([scale * side for side in (46, 80, 66, 98)], fill=dark)
    oval(56, 50 if look.long else 46, width + (12 if look.curly else 8), height + 6, look.hair)
    if look.curly:
        for angle in np.linspace(np.pi, 2 * np.pi, 9):
            oval(56 + 31 * np.cos(angle), 42 + 27 * np.sin(angle), 20, 20, look.hair)
    oval(56, 58, width, height, look.skin)
    oval(56 - turn / 4, 58 - 0.44 * height, width * 0.86, height * 0.36, look.hair)
    middle = 56 + turn / 2
    if look.beard:
        oval(middle, 58 + 0.36 * height, width * 0.74, height * 0.34, look.hair)
    for side in (-1, 1):
        x = middle + 11.5 * side
        oval(x, 56, 9, 6.5, (252, 252, 252))
        oval(x + turn / 20, 56, 4.6, 5.4, (44, 44, 52))
        draw.line([scale * value for value in (x - 5, 49.5, x + 5, 48.8)], fill=look.hair, width=2 * scale)
        if look.glasses:
            box = [scale * value for value in (x - 9, 48.5, x + 9, 63.5)]
            draw.rounded_rectangle(box, radius=5 * scale, outline=(60, 60, 70), width=scale + 2)
    draw.line([scale * value for value in (middle, 58, middle + turn / 6 + 1.5, 66)], fill=dark, width=2 * scale)
    smile = [scale * value for value in (middle - 9, 64, middle + 9, 79)]
    draw.arc(smile, 25, 155, fill=(168, 76, 76), width=2 * scale + 2)
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    light = np.asarray(small, np.float32) * np.random.default_rng([shot, 3]).uniform(0.92, 1.04)
    stream = io.BytesIO()
    Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def appearance(
    person: str,
    start_s: float,
    end_s: float,
    probability: float = 0.97,
    decision: str = "yes",
    others: Mapping[str, float] | None = None,
    modality: str = "face",
) -> Appearance:
    """One track, five items a second; of an image (0 to 0) one."""
    times = np.arange(start_s, max(end_s, start_s + 0.1), 0.2).round(3).tolist()
    boxes = tuple((time, 40.0, 30.0, 152.0, 142.0) for time in times) if modality != "speaker" else ()
    track = Track(modality, start_s, end_s, tuple(range(len(times))), boxes, len(boxes) // 2)
    listed = {} if decision == "unknown" else {person: probability}
    candidates = [Candidate(name, 3.0, share) for name, share in (listed | dict(others or {})).items()]
    return Appearance(person, decision, probability, 3.0, start_s, end_s, (track,), tuple(candidates))


def video(segment: str, duration_s: float, *appearances: Appearance, status: str = "ok") -> VideoAnswer:
    """A video of 1280 x 720 pixels; an image where it lasts 0 s."""
    ordered = sorted(appearances, key=lambda one: one.start_s)
    return VideoAnswer(segment, status, duration_s, 1280, 720, tuple(ordered))


PERSONS = {
    "Anna": "Anna",
    "Otto": "Grandpa Otto",
    "Maria": "María José",
    "Ben": "Ben",
    "Zoe": "Zoë",
    "Tom": "Uncle Tom",
}
"""Id -> name of those with a portrait; Tom is nowhere."""


def family() -> dict[str, VideoAnswer]:
    """Name of a video as typed -> what is in it."""
    unsure = appearance("Anna", 150, 163.4, 0.6, "unsure", {"Zoe": 0.31})
    party = [appearance("Anna", 3.2, 41, 0.985), appearance("Anna", 66, 93), unsure, appearance("Otto", 12, 60, 0.998)]
    party += [appearance("Maria", 70, 120, 0.93), appearance("unknown 1", 130, 150, 0.9, "unknown")]
    play = [appearance("Zoe", 30 + 290 * act, 100 + 290 * act, 0.95) for act in range(13)]
    play += [appearance("Ben", 500, 900, 0.9), appearance("unknown 1", 1000, 1010.5, 0.9, "unknown")]
    call = [appearance("Ben", 0, 60.4, 0.99), appearance("Ben", 61, 75, 0.9, modality="speaker")]
    return {
        "birthday party.mp4": video("party", 200, *party),
        "school play.mov": video("play", 3900, *play),
        "call with Ben.mp4": video("call", 75.5, *call),
        "hall.mkv": video("hall", 12.4, appearance("Zoe", 1.2, 4.6, 0.88), appearance("Anna", 5, 11.8)),
        "dog.mp4": video("dog", 33),
        "old tape.avi": video("tape", 0, status="unreadable: the file ends after 12 of 4096 bytes"),
        "holiday.mts": video("holiday", 61, appearance("Otto", 2, 30), status="damaged: frames 120 to 140 are missing"),
        "beach/IMG_0001.JPG": video(
            "beach1", 0, appearance("Anna", 0, 0), appearance("Otto", 0, 0), appearance("unknown 2", 0, 0, 1, "unknown")
        ),
        "beach/IMG_0002.HEIC": video("beach2", 0, appearance("Maria", 0, 0, 0.62, "unsure", {"Zoe": 0.3})),
    }


def write_faces(folder: Path, answers: Iterable[VideoAnswer]) -> None:
    """``faces/<segment>_<number>.jpg`` of each appearance that is seen, as stage 5 names them."""
    for answer in answers:
        for number, one in enumerate(answer.appearances, 1):
            if one.tracks[0].boxes:
                path = folder / best_name(answer.segment, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn_face(one.person, number + len(answer.segment)))
