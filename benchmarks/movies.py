"""Movies for the search of a cast, composed of clips of talking persons, in the layout of WIDER Person Search (CSM).

A frame shows one to four persons side by side, each cut out of a clip or a photo. A person is never twice in a
frame. Each film has a few kinds of light; frames differ in framing, size, sharpness and compression, too. Portraits of
the cast are from clips that the candidates are not from. Others of a film are persons with a single clip, and persons
of photos. Half of the heads, or another share, can be covered. Everything follows from the seed and the media.

The cast of val and that of test are different persons, and so are the others.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.media.image import decode_intact_image
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.types import Detections, Image

WIDTH, HEIGHT = 1280, 720
Casts = Mapping[str, Mapping[str, Sequence[str]]]
CASTS: Casts = {
    "val": {"v1": ("asl_A", "asl_C", "3DsHHfu4", "Obama"), "v2": ("asl_E", "M030", "andrew", "FrKHP3yLjJw")},
    "test": {
        "t1": ("asl_B", "asl_D", "5JGS4NZrYpk", "GzLqfm08oBI"),
        "t2": ("s1", "W009", "W011", "feifeili", "K84V0Tmdzzo"),
    },
}
"""Part -> film -> its cast. Persons who are alike are in one film: same room, same dark stage, same studio."""
LEFT_OUT = {"GRID_bbaf2n", "id2_vcd_swwp2s"}  # the same file as s1_bbaf2n; perhaps one of the speakers GRID_*
SMALLEST_FACE = 40  # pixels
FPS = 4.0  # frames of a clip to choose from
MASKS = ("fill", "blur", "away")

Find = Callable[[Image], Detections]
Light = NDArray[np.float32]


class Look(NamedTuple):
    """A person in a picture: (height, width, 3) uint8 RGB, and x1 y1 x2 y2 of the face."""

    picture: Image
    face: tuple[float, float, float, float]


@dataclass(frozen=True)
class Person:
    """clips: name -> what the person looks like in it, one or several times."""

    name: str
    clips: Mapping[str, Sequence[Look]]


@dataclass(frozen=True)
class Plan:
    """How a film is made.

    shown: fewest and most candidates per cast member. extras: those of a person with a single clip.
    photos: persons out of photos per film, with one or two candidates each.
    masked: share of the candidates of each person with a covered head.
    clips: most clips that the candidates of a person come from; 0 for all but that of the portrait.
    lights: kinds of light.
    """

    shown: tuple[int, int] = (14, 22)
    extras: tuple[int, int] = (2, 6)
    photos: int = 40
    masked: float = 0.5
    clips: int = 0
    lights: int = 6


class Shot(NamedTuple):
    """A candidate. mask: how the head is covered, empty for not at all. seed: of all that is random in it."""

    person: str
    clip: str
    look: Look
    mask: str
    seed: int


# -- persons


def talking_clips(shared: Path) -> list[Path]:
    """Those of the folder of real media, in the order of their folders and names. Raises DataError for none."""
    folders = [shared / "data/video" / name for name in ("avspeech", "grid", "mead", "talks")]
    folders += sorted((shared / "data/clips").glob("asl_*"))
    paths = [path for folder in folders for path in sorted(folder.glob("*.m*")) if path.stem not in LEFT_OUT]
    if not paths:
        raise DataError("expected data/video and data/clips with clips of talking persons", shared)
    return paths


def read_persons(clips: Sequence[Path], find: Find, looks: int = 8) -> dict[str, Person]:
    """Name -> person. looks: frames of each clip, evenly spread; those without a face are left out.

    find: a face detector. The largest face of a frame is that of the person.
    """
    found: dict[str, dict[str, list[Look]]] = {}
    for path in clips:
        with FrameReader(path, UniformSampling(FPS)) as reader:
            frames = [frame.image for frame in reader]
        picked = np.linspace(0, len(frames) - 1, min(looks, len(frames))).round().astype(int)
        some = [look for look in (_look(frames[place], find) for place in picked.tolist()) if look]
        if some:
            found.setdefault(_name(path), {})[path.stem] = some
    return {name: Person(name, clips) for name, clips in sorted(found.items())}


def read_photos(shared: Path, find: Find, numbers: Sequence[int]) -> dict[str, Person]:
    """Name -> person, of those of the numbered photos in which one face, and a large one, is found."""
    found = {}
    with tarfile.open(shared / "data/photos/unlabelled_single.tar") as tar:
        for number in numbers:
            member = tar.extractfile(f"single/{number:05d}.jpg")
            picture = decode_intact_image(member.read()) if member else None
            look = None if picture is None else _look(picture, find, only=True)
            if look:
                found[f"photo{number:05d}"] = Person(f"photo{number:05d}", {"photo": [look]})
    return found


def _name(path: Path) -> str:
    """Whom a clip shows."""
    if path.parent.name.startswith("asl_"):
        return path.parent.name
    if path.parent.name == "grid":
        return "s1" if path.stem.startswith("s1_") else path.stem
    return path.stem.split("_")[0]


def _look(picture: Image, find: Find, only: bool = False) -> Look | None:
    faces = find(picture)
    sides = faces.boxes[:, 3] - faces.boxes[:, 1]
    if not len(sides) or (only and len(sides) > 1) or sides.max() < SMALLEST_FACE:
        return None
    x1, y1, x2, y2 = faces.boxes[int(sides.argmax())].tolist()
    return Look(picture, (x1, y1, x2, y2))


# -- corpora


def write_corpus(
    root: Path,
    persons: Mapping[str, Person],
    photos: Mapping[str, Person],
    seed: int,
    plan: Plan = Plan(),
    casts: Casts = CASTS,
) -> int:
    """Write the lists, such as `val.json`, and the folders of images; returns how many candidates there are.

    `shown.json` beside them says of each cast member and candidate what it was made of: person, clip, mask.
    Raises DataError for a cast member with fewer than two clips.
    """
    singles = [name for name, person in persons.items() if len(person.clips) == 1]
    root.mkdir(parents=True)
    shown: dict[str, Any] = {}
    everybody = {**persons, **photos}
    for number, (part, films) in enumerate(casts.items()):
        strangers = [*singles[number :: len(casts)]], [*photos][number :: len(casts)]
        lists = {}
        for place, (film, cast) in enumerate(films.items()):
            rng = np.random.default_rng([seed, zlib.crc32(film.encode())])
            others = strangers[1][place :: len(films)]
            others = [others[i] for i in rng.permutation(len(others))[: plan.photos].tolist()]
            lists[film] = _film(root / part, film, cast, [*strangers[0], *others], everybody, rng, plan, shown)
        (root / f"{part}.json").write_text(json.dumps(lists, indent=1) + "\n")
    (root / "shown.json").write_text(json.dumps(shown, indent=1) + "\n")
    return sum("mask" in made for made in shown.values())


def _film(
    folder: Path,
    film: str,
    cast: Sequence[str],
    others: Sequence[str],
    persons: Mapping[str, Person],
    rng: np.random.Generator,
    plan: Plan,
    shown: dict[str, Any],
) -> dict[str, Any]:
    """Write a film's images, note its candidates, and return its entry of the list."""
    lacking = [name for name in cast if name not in persons or len(persons[name].clips) < 2]
    if lacking:
        raise DataError(f"expected at least two clips with a face of {lacking[0]}", folder)
    for name in ("cast", "frames"):
        (folder / film / name).mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {"cast": [], "candidates": []}
    shots: dict[str, list[Shot]] = {}
    for name in cast:
        clips = [sorted(persons[name].clips)[i] for i in rng.permutation(len(persons[name].clips)).tolist()]
        image = f"{film}/cast/{name}.jpg"
        _write(folder / image, _portrait(_drawn(persons[name].clips[clips[0]], rng), rng))
        entries["cast"].append({"id": f"{film}_{name}", "img": image, "label": name})
        shown[f"{film}_{name}"] = {"person": name, "clip": clips[0]}
        clips = clips[1 : plan.clips + 1] if plan.clips else clips[1:]
        shots[name] = _shots(persons[name], clips, int(rng.integers(*plan.shown, endpoint=True)), rng, plan)
    for name in others:
        most = (1, 2) if name.startswith("photo") else plan.extras
        clips = sorted(persons[name].clips)
        shots[name] = _shots(persons[name], clips, int(rng.integers(*most, endpoint=True)), rng, plan)
    lights = _lights(plan.lights, rng)
    for number, together in enumerate(_frames(shots, rng)):
        image = f"{film}/frames/{number:04d}.jpg"
        frame, boxes = compose(together, lights[int(rng.integers(len(lights)))], rng)
        _write(folder / image, frame, int(rng.integers(70, 93)))
        for place, (shot, box) in enumerate(zip(together, boxes, strict=True)):
            name = f"{film}_{number:04d}_{place}"
            label = shot.person if shot.person in cast else "others"
            entries["candidates"].append({"id": name, "img": image, "bbox": box, "label": label})
            shown[name] = {"person": shot.person, "clip": shot.clip, "mask": shot.mask}
    return entries


def _drawn(looks: Sequence[Look], rng: np.random.Generator) -> Look:
    return looks[int(rng.integers(len(looks)))]


def _shots(person: Person, clips: Sequence[str], count: int, rng: np.random.Generator, plan: Plan) -> list[Shot]:
    """Candidates of a person. Whether heads are covered changes nothing else."""
    picked = [clips[i % len(clips)] for i in range(count)]
    looks = [_drawn(person.clips[clip], rng) for clip in picked]
    seeds = rng.integers(1 << 31, size=count).tolist()
    covered = set(rng.permutation(count)[: round(plan.masked * count + rng.uniform(-0.25, 0.25))].tolist())
    kinds = rng.integers(len(MASKS), size=count).tolist()
    return [
        Shot(person.name, clip, look, MASKS[kinds[i]] if i in covered else "", seeds[i])
        for i, (clip, look) in enumerate(zip(picked, looks, strict=True))
    ]


def _frames(shots: Mapping[str, Sequence[Shot]], rng: np.random.Generator) -> Iterator[list[Shot]]:
    """The candidates, one to four different persons a frame, in a random order."""
    left = {name: [some[i] for i in rng.permutation(len(some)).tolist()] for name, some in shots.items()}
    while left:
        names = list(left)
        many = np.array([len(left[name]) for name in names])
        count = min(int(rng.choice(4, p=(0.25, 0.35, 0.25, 0.15))) + 1, len(names))
        together = rng.choice(len(names), count, replace=False, p=many / many.sum()).tolist()
        yield [left[names[i]].pop() for i in together]
        left = {name: some for name, some in left.items() if some}


# -- pictures


def compose(shots: Sequence[Shot], light: Light, rng: np.random.Generator) -> tuple[Image, list[list[int]]]:
    """A frame, and x, y, width, height of each person."""
    ground = rng.integers(20, 200, (5, 8, 3), dtype=np.uint8)
    frame: Any = cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    boxes = []
    slot = WIDTH // len(shots)
    for place, shot in enumerate(shots):
        own = np.random.default_rng(shot.seed)
        picture = cut_out(shot)
        height, width = picture.shape[:2]
        scale = min(own.uniform(260, 640) / height, (slot - 20) / width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        coarse = own.uniform(0.25, 1.0) if own.random() < 0.5 else 1.0
        small = max(round(size[0] * coarse), 8), max(round(size[1] * coarse), 8)
        picture = cv2.resize(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), size)  # type: ignore[assignment]
        if own.random() < 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), own.uniform(0.8, 2.5))  # type: ignore[assignment]
        x = place * slot + int(own.integers(0, slot - size[0] + 1))
        y = HEIGHT - size[1] - int(own.integers(0, min(HEIGHT - size[1], 60) + 1))
        frame[y : y + size[1], x : x + size[0]] = picture
        inner = [round(side * own.uniform(0, 0.06)) for side in (size[0], size[1], size[0], size[1])]
        boxes.append([x + inner[0], y + inner[1], size[0] - inner[0] - inner[2], size[1] - inner[1] - inner[3]])
    gain, gamma = light[:3], light[3]
    lit = 255 * np.clip((np.arange(256)[:, None] / 255) ** gamma * gain, 0, 1)
    return cv2.LUT(frame, lit.round().astype(np.uint8)[:, None]), boxes


def _lights(count: int, rng: np.random.Generator) -> list[Light]:
    """Gains of red, green and blue, and an exponent, of each kind of light."""
    gains, exponents = rng.normal(0, 0.15, (count, 3)), rng.normal(0, 0.25, (count, 1))
    return list(np.exp(np.hstack([gains, exponents])).astype(np.float32))


def cut_out(shot: Shot) -> Image:
    """The person from head to chest or waist, perhaps mirrored, with the head covered where the mask says so."""
    look = shot.look
    picture = covered(look, shot.mask, np.random.default_rng([shot.seed, 2])) if shot.mask else look.picture
    x1, y1, x2, y2 = look.face
    centre, side = (x1 + x2) / 2, y2 - y1
    height, width = picture.shape[:2]
    rng = np.random.default_rng([shot.seed, 1])
    left, right = (side * rng.uniform(0.9, 1.6) for _ in range(2))
    top, bottom = side * rng.uniform(0.3, 0.6), side * np.exp(rng.uniform(np.log(0.8), np.log(4)))
    a, b = max(round(centre - left), 0), min(round(centre + right), width)
    c, d = max(round(y1 - top), 0), min(round(y2 + bottom), height)
    part = picture[c:d, a:b]
    return part[:, ::-1] if rng.random() < 0.5 else part


def covered(look: Look, kind: str, rng: np.random.Generator) -> Image:
    """The picture with the head hidden: filled with one colour, blurred, or as if seen from behind."""
    picture = look.picture.copy()
    x1, y1, x2, y2 = look.face
    side = y2 - y1
    height, width = picture.shape[:2]
    a, b = max(int(x1 - 0.3 * side), 0), min(int(x2 + 0.3 * side) + 1, width)
    c, d = max(int(y1 - 0.4 * side), 0), min(int(y2 + 0.15 * side) + 1, height)
    head = picture[c:d, a:b]
    if kind == "fill":
        picture[c:d, a:b] = rng.integers(30, 220, 3, dtype=np.uint8)
        return picture
    oval = np.zeros(head.shape[:2], np.float32)
    middle, radii = ((b - a) // 2, (d - c) // 2), ((b - a) // 2, (d - c) // 2)
    cv2.ellipse(oval, middle, radii, 0, 0, 360, 1.0, -1)
    soft = cv2.blur(oval, (int(side / 12) + 1,) * 2)[..., None]
    if kind == "blur":
        wide = (int(side / 2) + 1,) * 2
        inside: Any = cv2.blur(cv2.blur(head, wide), wide)
    else:  # hair all over, with strands
        crown = picture[max(int(y1 - 0.15 * side), 0) : int(y1 + 0.1 * side) + 1, int(max(x1, 0)) : int(x2) + 1]
        strands = rng.normal(0, 12, (8, b - a)).astype(np.float32)
        inside = np.median(crown.reshape(-1, 3), axis=0) + cv2.resize(strands, (b - a, d - c))[..., None]
    mixed = soft * inside + (1 - soft) * head
    picture[c:d, a:b] = np.clip(mixed, 0, 255).astype(np.uint8)
    return picture


def _portrait(look: Look, rng: np.random.Generator) -> Image:
    """The head, with little of the clothes, at least 240 pixels high."""
    x1, y1, x2, y2 = look.face
    centre, side = (x1 + x2) / 2, y2 - y1
    height, width = look.picture.shape[:2]
    left, right, top, bottom = side * rng.uniform([0.65, 0.65, 0.3, 0.2], [0.9, 0.9, 0.5, 0.4])
    a, b = max(round(centre - left), 0), min(round(centre + right), width)
    c, d = max(round(y1 - top), 0), min(round(y2 + bottom), height)
    part: Any = look.picture[c:d, a:b]
    scale = max(240 / (d - c), 1.0)
    return cv2.resize(part, (round((b - a) * scale), round((d - c) * scale)), interpolation=cv2.INTER_CUBIC)


def _write(path: Path, image: Image, quality: int = 92) -> None:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data.tobytes())
