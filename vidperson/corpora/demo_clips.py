"""A tiny corpus of clips in folders, made from faces inside Python packages: who of ten persons is in which clip?

Eileen Collins and Grace Hopper are those of vidperson/corpora/demo.py. The others are faces of Labeled Faces in the
Wild, 25 x 25 pixels in grey, that scikit-image carries without names. All are filmed by the same virtual camera.
Each of the others is one picture, so that clips of a person look alike: error rates say nothing about real data.

Ten persons have five clips each to learn from, twelve strangers one each. The folder `search` has two clips of each
person, clips of six other strangers, two of two persons, and one of nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from vidperson.corpora.demo import BACKGROUNDS, load_pictures
from vidperson.corpora.film import Pixels, Portrait, film, num_frames
from vidperson.io.atomic import make_once
from vidperson.io.lines import write_lines

RECIPE = "1"
FACES = (0, 3, 11, 14, 18, 29, 43, 67, 2, 6, 8, 15, 21, 25, 34, 38, 40, 46, 49, 54, 61, 65, 71, 79, 88, 95)
"""Those of LFW that are filmed: people that look different, and that both networks of the demo see well."""
NUM_PERSONS = 10
LEARN_CLIPS, SEARCH_CLIPS = 5, 2
KNOWN_STRANGERS, OTHER_STRANGERS = 12, 6
NUM_CLIPS = NUM_PERSONS * (LEARN_CLIPS + SEARCH_CLIPS) + KNOWN_STRANGERS + OTHER_STRANGERS + 3
FACE_PX = (40.0, 130.0)
SCALE, RIM = 6, 6


@dataclass(frozen=True)
class Clip:
    """A clip to make. ``cast``: names of persons and strangers."""

    path: str
    cast: tuple[str, ...]


def build(out_dir: str | os.PathLike[str], seconds: float = 1.6, on_video: Callable[[], None] = lambda: None) -> bool:
    """Make the folders `persons/<person>`, `strangers` and `search`, and `search.key`, who is in what is searched.

    The key has lines `<person><tab><clip>`. It names persons to learn only.
    seconds: length of every clip. on_video is called after each of the ``NUM_CLIPS`` clips.

    Returns and raises as :func:`vidperson.io.atomic.make_once`; DataError also for a missing package.
    """
    frames = num_frames(seconds)

    def make(folder: Path) -> None:
        portraits, backgrounds = load_pictures()
        portraits |= lfw_portraits()
        for number, clip in enumerate(clips()):
            cast = {name: portraits[name] for name in clip.cast}
            background = backgrounds[BACKGROUNDS[number % len(BACKGROUNDS)]]
            film(folder / clip.path, [3, number], cast, background, frames, FACE_PX)
            on_video()
        persons = people()[:NUM_PERSONS]
        searched = [clip for clip in clips() if clip.path.startswith("search/")]
        shown = [(who, Path(clip.path).name) for clip in searched for who in clip.cast if who in persons]
        write_lines(folder / "search.key", [f"{who}\t{name}" for who, name in shown])

    return make_once(out_dir, f"recipe {RECIPE}, {seconds:g} s\n", make)


def people() -> list[str]:
    """The persons to learn, then the strangers."""
    return ["collins", "hopper", *(f"lfw_{number:02d}" for number in FACES)]


def clips() -> Iterator[Clip]:
    """All clips. What is searched has names that do not tell who is in it."""
    persons, strangers = people()[:NUM_PERSONS], iter(people()[NUM_PERSONS:])
    for person in persons:
        for number in range(LEARN_CLIPS):
            yield Clip(f"persons/{person}/{number + 1}.mp4", (person,))
    for number in range(KNOWN_STRANGERS):
        yield Clip(f"strangers/{number + 1}.mp4", (next(strangers),))
    names = (f"search/{number:03d}.mp4" for number in count(1))
    for person in persons * SEARCH_CLIPS:
        yield Clip(next(names), (person,))
    for stranger in strangers:
        yield Clip(next(names), (stranger,))
    yield Clip(next(names), (persons[0], persons[-1]))
    yield Clip(next(names), (persons[1], persons[2]))
    yield Clip(next(names), ())


def lfw_portraits(numbers: Iterable[int] = FACES) -> dict[str, Portrait]:
    """Faces of LFW with a rim, that the soft edge of an actor may take, by ``lfw_<number>``."""
    import cv2
    import skimage.data

    pictures: Any = skimage.data
    shades = (255 * pictures.lfw_subset()).round().astype(np.uint8)
    return {f"lfw_{number:02d}": _lfw_portrait(cv2, shades[number]) for number in numbers}


def _lfw_portrait(cv2: Any, shades: Pixels) -> Portrait:
    wide = np.pad(shades, RIM, mode="edge")
    large = cv2.resize(wide, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    x1, y1, x2, y2 = (float(SCALE * (RIM + value)) for value in (5, 3, 20, 24))
    return Portrait(np.repeat(large[..., None], 3, axis=2), (x1, y1, x2, y2), (0, 0, *large.shape[::-1]))
