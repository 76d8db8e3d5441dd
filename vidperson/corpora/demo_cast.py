"""A tiny corpus in the layout of WIDER Person Search (CSM), made from faces inside Python packages.

Twenty-two actors, those of vidperson/corpora/demo_clips.py, play in seven films, drawn bodies under their faces. In a
film a person always wears the same clothes; in the next one the same actor wears others. Each film has a cast of four,
one of whom is in the cast of the next, too, and two extras. In two of five candidates no face is seen: the person
turns away, or holds a sheet of paper. Each face is one picture, so that a person's faces are much alike: error rates
say nothing about real data.

The lists are read by vidperson/corpora/csm.py. `train` is to train a body embedder on, `val` is to search.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vidperson.corpora.csm import OTHERS
from vidperson.corpora.demo import load_pictures
from vidperson.corpora.demo_clips import lfw_portraits, people
from vidperson.corpora.figures import HEAD, Clothes, Side, choose_clothes, draw_figure
from vidperson.corpora.film import HEIGHT, WIDTH, Matrix, Pixels, Portrait, similarity
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write, make_once

RECIPE = "1"
PARTS = {"train": 4, "val": 3}
"""Part -> its films."""
NUM_CAST, NUM_EXTRAS = 4, 2
SHOT_FRAMES, SHOT_PERSONS = 3, (2, 3, 1)
"""A shot has the same persons before the same background. So many are in the first, the second, ... shot."""
FEWEST_FRAMES = SHOT_FRAMES * len(SHOT_PERSONS)
"""In so many everybody of a film is seen."""
SIDES: Mapping[Side, float] = {"front": 0.6, "back": 0.25, "covered": 0.15}
"""How often they are seen."""
FIGURE_SCALE, PORTRAIT_SCALE = (0.5, 0.8), 1.3
PORTRAIT_PX = 240


@dataclass(frozen=True)
class _Person:
    """Somebody in a film. label: that of a cast member, or `others`."""

    label: str
    portrait: Portrait
    clothes: Clothes


def build(out_dir: str | os.PathLike[str], frames: int = 24, on_film: Callable[[], None] = lambda: None) -> bool:
    """Make `train.json`, `val.json`, `val_label.json` and the folders `train` and `val` of images.

    frames: of every film. on_film is called after each of the films of ``PARTS``.

    Returns and raises as :func:`vidperson.io.atomic.make_once`; DataError also for fewer than ``FEWEST_FRAMES``,
    and for a missing package.
    """
    if frames < FEWEST_FRAMES:
        raise DataError(f"expected at least {FEWEST_FRAMES} frames per film, found {frames}")

    def make(folder: Path) -> None:
        portraits, backgrounds = load_pictures()
        portraits |= lfw_portraits()
        numbers = iter(range(sum(PARTS.values())))
        for part, num_films in PARTS.items():
            films = {}
            for number in islice(numbers, num_films):
                name = f"tt{number + 1:07d}"
                films[name] = _make_film(folder / part, name, number, portraits, list(backgrounds.values()), frames)
                on_film()
            _write_json(folder / f"{part}.json", films)
        _write_json(folder / f"{part}_label.json", _key(films))

    return make_once(out_dir, f"recipe {RECIPE}, {frames} frames\n", make)


def _make_film(
    folder: Path, name: str, number: int, portraits: Mapping[str, Portrait], backgrounds: Sequence[Pixels], frames: int
) -> dict[str, Any]:
    """Write the images of a film below the folder of its part; returns its entry in the list."""
    rng = np.random.default_rng([4, number])
    persons = [_Person(label, portraits[who], choose_clothes(rng)) for label, who in _roles(number)]
    (folder / name / "cast").mkdir(parents=True)
    (folder / name / "candidates").mkdir()
    cast = []
    for person in persons[:NUM_CAST]:
        image = f"{name}/cast/{person.label}.jpg"
        _save(folder / image, _take_portrait(person.portrait, rng), 90)
        cast.append({"id": f"{name}_{person.label}", "img": image, "label": person.label})
    candidates: list[dict[str, Any]] = []
    queue: list[_Person] = []
    for shot in range(-(-frames // SHOT_FRAMES)):
        queue = queue or [persons[i] for i in rng.permutation(len(persons))]
        count = SHOT_PERSONS[shot % len(SHOT_PERSONS)]
        shown, queue = queue[:count], queue[count:]
        scene = _Scene(shown, backgrounds[int(rng.integers(len(backgrounds)))], rng)
        for index in range(shot * SHOT_FRAMES, min((shot + 1) * SHOT_FRAMES, frames)):
            picture, boxes = scene.take(rng)
            image = f"{name}/candidates/shot_{shot:04d}_img_{index}.jpg"
            _save(folder / image, picture, int(rng.integers(70, 93)))
            for person, (x1, y1, x2, y2) in zip(shown, boxes, strict=True):
                entry = {"id": f"{name}_{len(candidates):04d}", "img": image, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                candidates.append({**entry, "label": person.label})
    return {"cast": cast, "candidates": candidates}


def _roles(number: int) -> list[tuple[str, str]]:
    """Label and name of everybody in a film: the cast, then the extras."""
    actors = people()
    first = number * (NUM_CAST - 1)  # the last of a cast is the first of the next
    last_extras = actors[sum(PARTS.values()) * (NUM_CAST - 1) + 1 :]
    extras = [last_extras[(number * NUM_EXTRAS + k) % len(last_extras)] for k in range(NUM_EXTRAS)]
    cast = [(f"nm{actor + 1:07d}", actors[actor]) for actor in range(first, first + NUM_CAST)]
    return [*cast, *((OTHERS, extra) for extra in extras)]


def _take_portrait(portrait: Portrait, rng: np.random.Generator) -> Pixels:
    """(PORTRAIT_PX, PORTRAIT_PX, 3) RGB: head and shoulders, in other clothes than in any film."""
    picture: Pixels = np.empty((PORTRAIT_PX, PORTRAIT_PX, 3), np.uint8)
    picture[:] = np.interp(np.arange(PORTRAIT_PX), [0, PORTRAIT_PX], rng.uniform(90, 200, 2))[:, None, None]
    figure = draw_figure(choose_clothes(rng), portrait, "front", rng)
    figure.draw(picture, similarity(PORTRAIT_SCALE, rng.uniform(-5, 5), HEAD, (PORTRAIT_PX / 2, PORTRAIT_PX / 2.2)))
    return _film_look(picture, rng.uniform(0.85, 1.1, 3), 2, rng)


class _Scene:
    """Persons before a background, under the same light."""

    def __init__(self, persons: Sequence[_Person], background: Pixels, rng: np.random.Generator) -> None:
        import cv2

        cover = rng.uniform(1.2, 1.6) * max(WIDTH / background.shape[1], HEIGHT / background.shape[0])
        wide = cv2.resize(background, None, fx=cover, fy=cover, interpolation=cv2.INTER_LINEAR)
        self._background: Pixels = np.asarray(wide, np.uint8)
        self._persons = persons
        self._light = rng.uniform(0.7, 1.15) * rng.uniform(0.9, 1.1, 3)
        self._grain = rng.uniform(1, 6)
        self._scales = rng.uniform(*FIGURE_SCALE, len(persons))
        self._spots = rng.permutation(len(persons))

    def take(self, rng: np.random.Generator) -> tuple[Pixels, list[list[int]]]:
        """A frame, (HEIGHT, WIDTH, 3) RGB, and x1 y1 x2 y2 of each person in it, cut off at its edges."""
        top, left = (
            int(rng.integers(b - s + 1)) for b, s in zip(self._background.shape, (HEIGHT, WIDTH), strict=False)
        )
        picture = self._background[top : top + HEIGHT, left : left + WIDTH].copy()
        boxes = []
        for person, scale, spot in zip(self._persons, self._scales, self._spots, strict=True):
            side = rng.choice(list(SIDES), p=list(SIDES.values()))
            figure = draw_figure(person.clothes, person.portrait, side, rng)
            x = WIDTH * (spot + 0.5) / len(self._persons) + rng.uniform(-45, 45)
            matrix = similarity(scale, rng.uniform(-4, 4), HEAD, (x, rng.uniform(55, 110)))
            figure.draw(picture, matrix)
            limits = np.array([WIDTH, HEIGHT] * 2)
            boxes.append([int(value) for value in figure.box_in(matrix).round().clip(0, limits)])
        return _film_look(picture, self._light, self._grain, rng), boxes


def _film_look(picture: Pixels, light: Matrix, grain: float, rng: np.random.Generator) -> Pixels:
    """A picture under light, (3,) a factor per colour, with some blur and grain."""
    import cv2

    blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.0)) * light.astype(np.float32)
    noise = grain * rng.standard_normal((*picture.shape[:2], 1), np.float32)
    return (blurred + noise).round().clip(0, 255).astype(np.uint8)


def _key(films: Mapping[str, Any]) -> dict[str, list[str]]:
    """Cast id -> its candidates."""
    return {
        cast["id"]: [entry["id"] for entry in film["candidates"] if entry["label"] == cast["label"]]
        for film in films.values()
        for cast in film["cast"]
    }


def _save(path: Path, picture: Pixels, quality: int) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, quality=quality)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")
