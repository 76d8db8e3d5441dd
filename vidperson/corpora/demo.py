"""A tiny corpus in the exact layout of SRE19 AV, made from public-domain portraits inside Python packages.

Eileen Collins (NASA portrait, in scikit-image) and Grace Hopper (US Navy portrait, in matplotlib) are put
before photographs of scikit-image and filmed by a virtual camera that pans, zooms and rolls. It proves that
the recipe works from lists to report; its error rates say nothing about real data.

Each part (dev, eval) has one enrolment video per person, one of which shows the other person too, so that the
labelled box matters, and eight test videos: three of each person, one of both, one of nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidperson.corpora.film import FPS, Matrix, Pixels, Portrait, film, num_frames
from vidperson.errors import DataError
from vidperson.io.atomic import make_once
from vidperson.io.lines import write_lines

RECIPE = "1"
PARTS = {"dev": 1, "eval": 2}
PEOPLE = ("collins", "hopper")
BACKGROUNDS = ("coffee", "chelsea", "hubble_deep_field", "rocket")
TEST_CASTS: tuple[tuple[str, ...], ...] = (*(("collins",), ("hopper",)) * 3, PEOPLE, ())
LABEL_AT = (0.2, 0.5, 0.8)
NUM_VIDEOS = len(PARTS) * (len(PEOPLE) + len(TEST_CASTS))


@dataclass(frozen=True)
class Video:
    """A video to make: ``name`` seeds everything random in it."""

    part: str
    name: str
    cast: tuple[str, ...]
    background: str


def build(out_dir: str | os.PathLike[str], seconds: float = 6.0, on_video: Callable[[], None] = lambda: None) -> bool:
    """Make `<out_dir>/dev` and `<out_dir>/eval`, each laid out like an LDC release of SRE19 AV.

    seconds: length of every video. on_video is called after each of the ``NUM_VIDEOS`` videos.
    The folder appears whole, with a `.done` in it; same arguments and package versions, same bytes.

    Returns False when it was there already. Raises DataError for no length, a missing package, or a folder
    that holds something else.
    """
    frames = num_frames(seconds)

    def make(folder: Path) -> None:
        portraits, backgrounds = load_pictures()
        for part in PARTS:
            _build_part(folder / part, part, portraits, backgrounds, frames, on_video)

    return make_once(out_dir, f"recipe {RECIPE}, {seconds:g} s\n", make)


def load_pictures() -> tuple[dict[str, Portrait], dict[str, Pixels]]:
    """Portraits and RGB backgrounds. Raises DataError where a package is missing."""
    try:
        import skimage.data
        from matplotlib import cbook
        from matplotlib.image import imread
    except ImportError as error:
        raise DataError(f"the demo corpus needs the package {error.name}; run: pip install '.[demo]'") from None
    hopper = np.asarray(imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    pictures: Any = skimage.data
    portraits = {
        "collins": Portrait(pictures.astronaut(), face=(178.0, 65.0, 269.0, 176.0), cut=(20, 0, 430, 512)),
        "hopper": Portrait(hopper, face=(177.0, 123.0, 356.0, 336.0), cut=(20, 10, 500, 600)),
    }
    return portraits, {name: getattr(pictures, name)() for name in BACKGROUNDS}


def _build_part(
    root: Path,
    part: str,
    portraits: dict[str, Portrait],
    backgrounds: dict[str, Pixels],
    frames: int,
    on_video: Callable[[], None],
) -> None:
    distracted = PARTS[part] % len(PEOPLE)
    enrolment: list[tuple[str, str]] = []
    boxes: list[tuple[str, str, float, str]] = []
    keys: list[tuple[str, str, str, str]] = []

    def make(side: str, video: Video) -> dict[str, Matrix]:
        path = root / "data" / side / f"{video.name}.mp4"
        cast = {person: portraits[person] for person in video.cast}
        seed = [PARTS[video.part], *video.name.encode()]
        tracks = film(path, seed, cast, backgrounds[video.background], frames)
        subjects = ",".join(video.cast) or "none"
        keys.append((video.name, subjects, "female", side))
        on_video()
        return tracks

    for i, person in enumerate(PEOPLE):
        cast: tuple[str, ...] = PEOPLE if i == distracted else (person,)
        video = Video(part, f"{part}_enroll{i + 1}", cast, BACKGROUNDS[(i + PARTS[part]) % len(BACKGROUNDS)])
        track = make("enrollment", video)[person]
        enrolment.append((person, video.name))
        for frame in dict.fromkeys(int(at * (frames - 1)) for at in LABEL_AT):
            corners = ",".join(f"{v:.1f}" for v in track[frame])
            boxes.append((video.name, "face", frame / FPS, corners))
    trials: list[tuple[str, str, str]] = []
    for i, cast in enumerate(TEST_CASTS):
        background = BACKGROUNDS[(i + i // 2 + PARTS[part]) % len(BACKGROUNDS)]
        video = Video(part, f"{part}_test{i + 1}", cast, background)
        make("test", video)
        trials += [(person, video.name, "target" if person in cast else "nontarget") for person in PEOPLE]
    trials.sort()

    def table(name: str, header: str, rows: list[tuple[Any, ...]]) -> None:
        lines = [header.replace(" ", "\t"), *("\t".join(map(str, row)) for row in rows)]
        write_lines(root / "docs" / f"sre19_av_{part}_{name}.tsv", lines)

    table("enrollment", "modelid segmentid", list(enrolment))
    table("enrollment_boundingbox", "segmentid type frame_sec bounding_box", list(boxes))
    table("segment_key", "segmentid subjectid gender partition", list(keys))
    table("trials", "modelid segmentid side", [(model, name, "a") for model, name, _ in trials])
    table("trial_key", "modelid segmentid side targettype", [(m, name, "a", label) for m, name, label in trials])
