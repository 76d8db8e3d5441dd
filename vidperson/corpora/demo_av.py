"""A tiny corpus in the layout of VoxCeleb: videos of talking people, made from faces inside Python packages.

The faces are those of vidperson/corpora/demo_clips.py and more of Labeled Faces in the Wild; the voices are those of
vidperson/corpora/voices.py, which are artificial. A person keeps face and voice, and who has which voice is drawn at
random. Each video of a person is made on another day: other mood, room, microphone, light, and sometimes dark glasses
or a microphone before the mouth. Lips do not move. Error rates say nothing about real data.

``voxceleb1`` has videos and the trial lists O and E, of other persons each; in a few videos nobody is seen or nothing
is heard. ``voxceleb2`` has sounds, aligned faces and a training list, in which some rows have the wrong speaker.
"""

from __future__ import annotations

import math
import os
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, cycle, product
from pathlib import Path

import numpy as np

from vidperson.corpora import voices
from vidperson.corpora.demo import load_pictures
from vidperson.corpora.demo_clips import FACES, lfw_portraits, people
from vidperson.corpora.film import Portrait, Sound, film, num_frames, similarity
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write, make_once
from vidperson.io.lines import write_lines

RECIPE = "1"
LEARNT = (7, 9, 10, 12, 13, 16, 17, 19, 20, 23, 24, 26, 27, 28, 31, 32, 37, 39, 41, 42, 44, 45)
"""Further faces of LFW, of people that look different: persons of the training list."""
TRIALS = ("O", "E")
"""Lists of trials."""
MOST_PERSONS, LEARNT_PER_TESTED = 10, 3
"""Persons of a trial list, and of the training list for each of these."""
SESSIONS, UTTERANCES = 3, 2
"""Videos of a person, and utterances of a video."""
WRONG = 0.05
"""Share of the rows of the training list with the wrong speaker."""
UNSEEN, MUTE = 2, 2
"""So many videos of a trial list show nobody, and so many have no sound."""
SHORTEST_S = 1.0
FPS = 3
FACE_PX = (60.0, 110.0)
CROP_PX, CROPS_PER_S = 112, 1
LFW_TO_CROP = np.array([[0.755, 0.0, -20.8], [0.0, 0.755, -15.1]])
"""(2, 3) matrix from the portraits of LFW to aligned faces: by the mean of the landmarks that YuNet finds in them."""


@dataclass(frozen=True)
class Utterance:
    """path: `<speaker>/<video>/<number>`, without extension. heard, seen: persons, None for nobody."""

    path: str
    heard: int | None
    seen: int | None


def num_utterances(persons: int = MOST_PERSONS) -> int:
    return persons * (len(TRIALS) + LEARNT_PER_TESTED) * SESSIONS * UTTERANCES


def build(
    out_dir: str | os.PathLike[str],
    persons: int = MOST_PERSONS,
    seconds: float = 3.0,
    on_made: Callable[[], None] = lambda: None,
) -> bool:
    """Make the folders `voxceleb1` and `voxceleb2`, and `train_key.txt`, who is heard and seen in the training list.

    Its lines are `<speaker> <path> <speaker heard> <speaker seen>`. persons: of a trial list. seconds: length of every
    utterance. on_made is called after each of the :func:`num_utterances`.

    Returns and raises as :func:`vidperson.io.atomic.make_once`; DataError also for less than ``SHORTEST_S``, another
    number of persons than 2 to ``MOST_PERSONS``, and a missing package.
    """
    if not SHORTEST_S <= seconds < math.inf:
        raise DataError(f"expected at least {SHORTEST_S:g} seconds per utterance, found {seconds:g}")
    if not 2 <= persons <= MOST_PERSONS:
        raise DataError(f"expected 2 to {MOST_PERSONS} persons per trial list, found {persons}")

    def make(folder: Path) -> None:
        cast = _Cast(seconds)
        first = 0
        for part in TRIALS:
            utterances = list(_tested(first, persons))
            for utterance in utterances:
                cast.film(folder / "voxceleb1/mp4" / f"{utterance.path}.mp4", utterance)
                on_made()
            _write_trials(folder / "voxceleb1", part, utterances, seconds)
            first += persons
        learnt = list(_learnt(first, persons * LEARNT_PER_TESTED))
        for utterance in learnt:
            cast.record(folder / "voxceleb2", utterance)
            on_made()
        rows = [f"{_speaker(u.path)} {u.path}.wav {seconds:.2f}" for u in learnt]
        write_lines(folder / "voxceleb2/train_all.txt", rows)
        key = [f"{_speaker(u.path)} {u.path}.wav {_name(u.heard)} {_name(u.seen)}" for u in learnt]
        write_lines(folder / "train_key.txt", key)

    return make_once(out_dir, f"recipe {RECIPE}, {persons} persons, {seconds:g} s\n", make)


def _speaker(path: str) -> str:
    return path.split("/")[0]


def _name(person: int | None) -> str:
    """The speaker that a person is in the lists."""
    return "-" if person is None else f"id{10001 + person}"


def _paths(persons: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Person and path of each utterance."""
    for person, session, number in product(persons, range(SESSIONS), range(UTTERANCES)):
        yield person, f"{_name(person)}/video{session + 1}/{number + 1:05d}"


def _tested(first: int, persons: int) -> Iterator[Utterance]:
    """The utterances of a trial list, those of the last sessions being incomplete for some persons."""
    for person, path in _paths(range(first, first + persons)):
        last = path.endswith(f"video{SESSIONS}/{UTTERANCES:05d}")
        unseen = last and person - first < UNSEEN
        mute = last and UNSEEN <= person - first < UNSEEN + MUTE
        yield Utterance(path, None if mute else person, None if unseen else person)


def _learnt(first: int, persons: int) -> Iterator[Utterance]:
    """The utterances of the training list. Wrong ones are of somebody else: in sound and image, or in one of them."""
    rows = list(_paths(range(first, first + persons)))
    rng = np.random.default_rng([5, 0])
    wrong = dict(zip(rng.permutation(len(rows))[: round(WRONG * len(rows))].tolist(), cycle((0, 1, 2)), strict=False))
    for row, (person, path) in enumerate(rows):
        other = first + (person - first + int(rng.integers(1, persons))) % persons
        kind = wrong.get(row)
        yield Utterance(path, other if kind in (0, 1) else person, other if kind in (0, 2) else person)


def _write_trials(folder: Path, part: str, utterances: Sequence[Utterance], seconds: float) -> None:
    """Every two utterances of different videos of a person, and as many of two persons."""
    pairs = list(combinations([u.path for u in utterances], 2))
    same = [pair for pair in pairs if len({_speaker(path) for path in pair}) == 1]
    targets = [pair for pair in same if len({os.path.dirname(path) for path in pair}) == 2]
    others = [pair for pair in pairs if len({_speaker(path) for path in pair}) == 2]
    rng = np.random.default_rng([5, *part.encode()])
    chosen = [others[i] for i in sorted(rng.permutation(len(others))[: len(targets)])]
    lines = [f"{label} {one}.wav {two}.wav" for label, rows in ((1, targets), (0, chosen)) for one, two in rows]
    write_lines(folder / f"{part}_trials.txt", lines)
    write_lines(folder / f"{part}_list.txt", [f"{u.path}.wav {seconds:.2f}" for u in utterances])


class _Cast:
    """The persons of the corpus, who speak in front of a camera."""

    def __init__(self, seconds: float) -> None:
        portraits, backgrounds = load_pictures()
        portraits |= lfw_portraits((*FACES, *LEARNT))
        self._faces = [portraits[name] for name in (*people(), *(f"lfw_{number:02d}" for number in LEARNT))]
        self._voices = [voices.draw_voice(np.random.default_rng([5, 1, person])) for person in range(len(self._faces))]
        self._backgrounds = list(backgrounds.values())
        self._seconds = seconds

    def film(self, path: Path, utterance: Utterance) -> None:
        """Write a video."""
        day, now = _generators(utterance.path)
        sound = self._say(utterance, day, now)
        cast = {} if utterance.seen is None else {"speaker": _on_a_day(self._faces[utterance.seen], day)}
        background = self._backgrounds[int(day.integers(len(self._backgrounds)))]
        seed = [5, 3, *utterance.path.encode()]
        film(path, seed, cast, background, num_frames(self._seconds, FPS), FACE_PX, FPS, sound)

    def record(self, folder: Path, utterance: Utterance) -> None:
        """Write sound and aligned faces."""
        import cv2

        day, now = _generators(utterance.path)
        sound = self._say(utterance, day, now)
        assert sound is not None and utterance.seen is not None
        path = folder / "wav" / f"{utterance.path}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as stream:
            stream.setparams((1, 2, voices.RATE, 0, "NONE", ""))
            stream.writeframes((sound * 32767).round().astype("<i2").tobytes())
        faces = folder / "frame_align" / utterance.path
        faces.mkdir(parents=True)
        portrait = _on_a_day(self._faces[utterance.seen], day)
        for number in range(max(1, round(self._seconds * CROPS_PER_S))):
            centre = (CROP_PX / 2, CROP_PX / 2)
            shaken = similarity(now.uniform(0.95, 1.05), now.uniform(-6, 6), centre, tuple(now.normal(56, 2, 2)))
            matrix = (shaken @ np.vstack([LFW_TO_CROP, [0, 0, 1]]))[:2]
            crop = cv2.warpAffine(portrait.pixels, matrix, (CROP_PX, CROP_PX), borderMode=cv2.BORDER_REPLICATE)
            grain = now.uniform(1, 6) * now.standard_normal((CROP_PX, CROP_PX, 1))
            crop = (crop + grain).round().clip(0, 255).astype(np.uint8)
            data = cv2.imencode(".jpg", np.ascontiguousarray(crop[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            with atomic_write(faces / f"{(number + 1) * 25 // CROPS_PER_S:04d}.jpg", "wb") as image:
                image.write(data.tobytes())

    def _say(self, utterance: Utterance, day: np.random.Generator, now: np.random.Generator) -> Sound | None:
        """(samples,) of an utterance; None for nobody's."""
        voice = voices.on_another_day(self._voices[utterance.heard or 0], day)
        place = voices.draw_place(day)
        if utterance.heard is None:
            return None
        return voices.record(voices.speak(voice, self._seconds, now), place, now)


def _generators(path: str) -> tuple[np.random.Generator, np.random.Generator]:
    """What draws the day of an utterance, the same for all of its video, and what draws the rest."""
    video, number = os.path.split(path)
    return np.random.default_rng([5, 2, *video.encode()]), np.random.default_rng([5, 2, *path.encode(), int(number)])


def _on_a_day(portrait: Portrait, rng: np.random.Generator) -> Portrait:
    """The person in other light, more or less sharp, sometimes with dark glasses or a microphone."""
    import cv2

    x1, y1, x2, y2 = portrait.face
    width, height = x2 - x1, y2 - y1
    pixels = portrait.pixels.copy()
    extra = rng.choice(["none", "glasses", "microphone"], p=[0.7, 0.15, 0.15])
    if extra == "glasses":
        for side in (0.28, 0.72):
            centre = round(x1 + side * width), round(y1 + 0.36 * height)
            cv2.ellipse(pixels, centre, (round(0.2 * width), round(0.12 * height)), 0, 0, 360, (20, 20, 25), -1)
    elif extra == "microphone":
        centre = round(x1 + rng.uniform(0.4, 0.6) * width), round(y1 + 0.85 * height)
        cv2.circle(pixels, centre, round(0.22 * width), (40, 40, 40), -1)
    rows = (np.arange(pixels.shape[0], dtype=np.float32)[:, None] - (y1 + y2) / 2) / height
    columns = (np.arange(pixels.shape[1], dtype=np.float32) - (x1 + x2) / 2) / width
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.4)
    slope = (np.cos(angle) * columns + np.sin(angle) * rows).clip(-1, 1)[..., None]
    shades = (255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4)).astype(np.float32)
    lit = cv2.GaussianBlur(
        shades[pixels] * (1 + np.float32(strength) * slope), (0, 0), height * rng.uniform(0.003, 0.03)
    )
    return replace(portrait, pixels=lit.round().clip(0, 255).astype(np.uint8))
