"""Pseudo-clips for person identification, out of aligned photos of known persons.

Each photo is degraded like a face in a film: small, moved, partly hidden, dark, compressed. A clip is 6 to 12 such
photos of one person, and up to two faces of somebody else. Persons of another source, at most four photos each, are
the strangers. A photo is in one clip only. Everything follows from the seed and from the names of the photos.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vidperson.corpora.data_folder import Search, Segment, write_data_folder
from vidperson.io.matrices import matrix_bytes
from vidperson.training.augment import Augmentation
from vidperson.types import Image

Float = NDArray[np.float32]
Whole = NDArray[np.int64]

SIZE = 112
EYES = 35.2  # pixels between the eyes of an aligned crop
SMALL = (16, 48)  # pixels across a crop of a small face
SHARE_SMALL = (0.5, 1.0)  # of the faces of a clip: seen from near, from far
TARGETS, STRANGERS = ("train_pins105.tar", "train_celebs.tar", "train_bollywood100.tar"), "train_celeba10k.tar"
STRANGER_SOURCE = "celeba10k"
SAME_PERSON = 0.55
POINTS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]) / SIZE  # of an aligned crop
BEFORE = Augmentation(mirror=0.0, motion=0.4, dark=0.3, cutout=0.3)  # at the size of the crop


class Photo(NamedTuple):
    """One aligned face. person: lower case, so that one who is in two sources is one person."""

    name: str
    person: str
    data: bytes


def read_photos(tars: Sequence[Path]) -> list[Photo]:
    """The images ``<source>/<person>/<name>`` of tar files, sorted by name."""
    photos = []
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None:
                    photos.append(Photo(member.name, member.name.split("/")[-2].lower(), stream.read()))
    return sorted(photos)


def open_photo(photo: Photo) -> Image:
    """(112, 112, 3) uint8 RGB."""
    return cv2.imdecode(np.frombuffer(photo.data, np.uint8), cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def degraded(photo: Photo, version: int) -> tuple[Image, float, float]:
    """A version of the photo as a film might show it, the distance of the eyes in its pixels, the share of black.

    Half of the faces are 16 to 48 pixels wide; 40 % are moved, 30 % partly hidden, 30 % dark; all are compressed
    at their own size (JPEG 15 to 60), then brought back to 112 x 112.
    """
    rng = np.random.default_rng([zlib.crc32(photo.name.encode()), version])
    crop = BEFORE(open_photo(photo), rng)
    side = int(rng.integers(*SMALL, endpoint=True)) if rng.random() < SHARE_SMALL[version] else SIZE
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), rng.normal(0, 3), rng.normal(1, 0.03))
    turn[:, 2] = turn[:, 2] + rng.normal(0, 1.5, 2)
    crop = cv2.warpAffine(crop, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    quality = int(rng.integers(15, 61))
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    packed: Any = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    crop = cv2.resize(packed, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return crop, EYES * side / SIZE, float((crop.max(axis=2) == 0).mean())


@dataclass(frozen=True)
class Clip:
    """A pseudo-clip.

    person: whom it shows, None for a stranger. photos: (N,) int64 numbers of its photos, in the order of its frames.
    version: how they are degraded. guest: (N,) bool, the faces of somebody else. faces: (N, 17) float32 as stage 2
    writes them: frame, seconds, box in a picture of 640 x 360, score, five points.
    """

    id: str
    person: str | None
    photos: Whole
    version: int
    guest: NDArray[np.bool_]
    faces: Float


@dataclass(frozen=True)
class Plan:
    """How many clips, and of what.

    faces: fewest and most photos of the person in a clip. kept: photos of each target that only appear as guests.
    shares: of the clips of a target, for train, valid and test. strangers: clips of strangers in each of them.
    far: share of the clips that are seen from far, see :data:`SHARE_SMALL`.
    """

    faces: tuple[int, int] = (6, 12)
    kept: int = 4
    shares: tuple[float, float, float] = (0.4, 0.3, 0.3)
    strangers: int = 1000
    far: float = 0.5


SETS = ("train", "valid", "test")


def draw(
    photos: Sequence[Photo], looks: Float, strangers: Sequence[str], seed: int, plan: Plan = Plan()
) -> dict[str, list[Clip]]:
    """Set -> clips, sorted by id. A photo is in one clip only, those of guests apart.

    looks: (N, D) float32 unit vectors of the undamaged photos, by a network that is not under test: a clip takes
        photos of one person that look alike, as those of one scene do.
    strangers: the persons who are nobody's target, in any order.
    """
    rng = np.random.default_rng(seed)
    of_person: dict[str, list[int]] = {}
    for number, photo in enumerate(photos):
        of_person.setdefault(photo.person, []).append(number)
    unknown = rng.permutation(sorted(strangers)).tolist()
    targets = sorted(set(of_person) - {photo.person for photo in photos if photo.name.startswith(STRANGER_SOURCE)})
    shown: dict[str, list[tuple[str, str | None, Whole]]] = {name: [] for name in SETS}
    guests: list[tuple[str, Whole]] = []
    for person in targets:
        mine = rng.permutation(of_person[person])
        guests.append((person, mine[: plan.kept]))
        scenes = list(_scenes(mine[plan.kept :], looks, plan.faces, rng))
        bounds = _bounds(len(scenes), plan.shares)
        for number, scene in enumerate(scenes):
            shown[SETS[int(np.searchsorted(bounds, number, side="right"))]].append(
                (f"{person}-{number:02d}", person, scene)
            )
    for number, name in enumerate(unknown[: len(SETS) * plan.strangers]):
        scene = rng.permutation(of_person[name])[:4]
        shown[SETS[number % len(SETS)]].append((f"nobody-{number:04d}", None, scene))
    for name in unknown[len(SETS) * plan.strangers :]:
        guests.append((name, np.array(of_person[name][:2])))
    return {name: [_clip(*each, guests, plan, rng) for each in sorted(clips)] for name, clips in shown.items()}


def _scenes(mine: Whole, looks: Float, sizes: tuple[int, int], rng: np.random.Generator) -> Iterator[Whole]:
    """Photos that look alike, of one person; too few are left over."""
    scenes = []
    while len(mine) >= sizes[0]:
        count = min(len(mine), int(rng.integers(*sizes, endpoint=True)))
        near = np.argsort(-(looks[mine] @ looks[mine[0]]), kind="stable")[:count]
        scenes.append(rng.permutation(mine[near]))
        mine = np.delete(mine, near)
    return (scenes[i] for i in rng.permutation(len(scenes)))


def _bounds(count: int, shares: tuple[float, float, float]) -> Whole:
    """Where valid and test begin among so many clips; each set has one, where there are three."""
    first = max(1, round(shares[0] * count))
    return np.array([first, first + (max(1, round(shares[1] * count)) if count > 2 else 0)])


def _clip(
    name: str,
    person: str | None,
    scene: Whole,
    guests: Sequence[tuple[str, Whole]],
    plan: Plan,
    rng: np.random.Generator,
) -> Clip:
    version = int(rng.random() < plan.far)
    most = 2 if len(scene) >= plan.faces[0] else 1 if len(scene) > 2 else 0
    count = int(rng.integers(most + 1))
    other = person
    while other == person:
        other, theirs = guests[int(rng.integers(len(guests)))]
    theirs = rng.permutation(theirs)[:count]
    beside = rng.random() < 0.5  # in frames of the person, else in frames of their own, after a cut
    width = rng.uniform(20, 45) if version else rng.uniform(30, 120)
    places = rng.uniform((width, width), (640 - width, 360 - width)), np.zeros(2)
    places = places[0], (places[0] + (320, 0)) % 640 if beside or rng.random() < 0.5 else places[0]
    steps = np.arange(len(scene))
    cut = int(rng.integers(len(scene) + 1))
    theirs_at = np.minimum(cut + np.arange(len(theirs)), len(scene) - 1) if beside else cut + np.arange(len(theirs))
    if not beside:
        steps = steps + len(theirs) * (steps >= cut)
    at, guest = np.concatenate([steps, theirs_at]), np.arange(len(scene) + len(theirs)) >= len(scene)
    order = np.lexsort((guest, at))
    at, guest = at[order], guest[order]
    faces = np.stack([_face(int(step), places[int(who)], width, rng) for step, who in zip(at, guest, strict=True)])
    return Clip(name, person, np.concatenate([scene, theirs])[order].astype(np.int64), version, guest, faces)


def _face(step: int, place: NDArray[np.float64], width: float, rng: np.random.Generator) -> Float:
    """A row of ``faces``, four frames a second at 25 frames a second; it moves a little."""
    x, y = place + rng.normal(0, 0.08 * width, 2)
    box = x - width / 2, y - 0.65 * width, x + width / 2, y + 0.65 * width
    points = (POINTS - 0.5) * 1.3 * width + (x, y)
    frame = round(step * 25 / 4)
    return np.array([frame, frame / 25, *box, rng.uniform(0.9, 1), *points.ravel()], dtype=np.float32)


@dataclass(frozen=True)
class Embedded:
    """Every photo in both versions, by a network. rows: (N, 2, D) float32. quality: (N, 2, 2) as of stage 2."""

    rows: Float
    quality: Float


def embed_versions(photos: Sequence[Photo], embed: Callable[[Image], Float], batch: int = 64) -> Embedded:
    """embed: (B, 112, 112, 3) uint8 RGB to (B, D) float32."""
    rows, quality = [], []
    for begin in range(0, len(photos), batch):
        made = [degraded(photo, version) for photo in photos[begin : begin + batch] for version in (0, 1)]
        rows.append(embed(np.stack([crop for crop, _, _ in made])))
        quality.append(np.array([[eyes, black] for _, eyes, black in made], np.float32))
    return Embedded(np.concatenate(rows).reshape(len(photos), 2, -1), np.concatenate(quality).reshape(-1, 2, 2))


def unit_looks(photos: Sequence[Photo], embed: Callable[[Image], Float], batch: int = 64) -> Float:
    """(N, D) float32 unit vectors of the undamaged photos."""
    parts = [photos[begin : begin + batch] for begin in range(0, len(photos), batch)]
    rows = np.concatenate([embed(np.stack([open_photo(photo) for photo in part])) for part in parts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unknown_persons(photos: Sequence[Photo], looks: Float) -> list[str]:
    """The strangers. Those with a mean near that of a target (cosine >= 0.55) may be the same person and are left out.

    Of this source and the network mobilefacenet_arcface_mxnet, 84 of 5,425 are at 0.6 to 0.95, and next to none between
    0.5 and 0.6.
    """
    persons = np.array([photo.person for photo in photos])
    strange = np.array([photo.name.startswith(STRANGER_SOURCE) for photo in photos])

    def means(names: Sequence[str]) -> Float:
        sums = np.stack([looks[persons == name].sum(axis=0) for name in names])
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)

    targets, names = sorted(set(persons[~strange])), sorted(set(persons[strange]))
    nearest = (means(names) @ means(targets).T).max(axis=1)
    return [str(name) for name, cosine in zip(names, nearest, strict=True) if cosine < SAME_PERSON]


def write_data(root: Path, sets: Mapping[str, Sequence[Clip]], videos: Path) -> None:
    """data/<set> of clips that are, or would be, videos/<clip>.mp4.

    All are searched sets with a key, so that each can be learnt from, too.
    """
    models = sorted({clip.person for clip in sets["train"] if clip.person})
    for name, clips in sets.items():
        relevant = {model: [clip.id for clip in clips if clip.person == model] for model in models}
        search = Search(models, {model: ids for model, ids in relevant.items() if ids})
        segments = [Segment(clip.id, videos / f"{clip.id}.mp4", clip.person or "") for clip in clips]
        write_data_folder(root / "data" / name, segments, search=search)


def write_sets(root: Path, sets: Mapping[str, Sequence[Clip]], pools: Mapping[str, Embedded]) -> None:
    """The clips as data folders and as what stages 2 and 3 make: data/<set>, det/made/<set>, embed/<embedder>/<set>.

    Their videos do not exist.
    """
    write_data(root, sets, Path("/no/such"))
    pool = next(iter(pools.values()))
    for name, clips in sets.items():
        items = root / "det/made" / name
        write_archive(items, "faces", ((clip.id, clip.faces) for clip in clips))
        write_archive(items, "quality", ((clip.id, pool.quality[clip.photos, clip.version]) for clip in clips))
    write_embeddings(root / "embed", sets, pools)


def write_embeddings(root: Path, sets: Mapping[str, Sequence[Clip]], pools: Mapping[str, Embedded]) -> None:
    """<embedder>/<set>/embed.scp below ``root``, as stage 3 writes it."""
    for embedder, pool in pools.items():
        for name, clips in sets.items():
            rows = ((clip.id, pool.rows[clip.photos, clip.version]) for clip in clips)
            write_archive(root / embedder / name, "embed", rows)


def write_archive(folder: Path, name: str, matrices: Iterable[tuple[str, Float]]) -> None:
    """Name and (N, D) float32 rows of each segment, as the stages write them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.ark", "wb") as archive, open(folder / f"{name}.scp", "w") as listed:
        for key, matrix in matrices:
            listed.write(f"{key} {name}.ark:{archive.tell() + len(key) + 1}\n")
            archive.write(matrix_bytes(key, matrix))


def render(path: Path, clip: Clip, photos: Sequence[Photo], shown_s: float = 0.4) -> None:
    """The clip as a real video, H.264, 640 x 360: each of its photos is shown for ``shown_s`` and moves meanwhile.

    The degraded faces are enlarged to 150 pixels, so that a detector finds them. Same arguments, same bytes.
    """
    import av

    rng = np.random.default_rng([zlib.crc32(clip.id.encode()), 7])
    ground = cv2.resize(rng.integers(60, 190, (6, 8, 3), dtype=np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)
    crops = [degraded(photos[number], clip.version)[0] for number in clip.photos.tolist()]
    crops = [cv2.resize(crop, (150, 150), interpolation=cv2.INTER_LINEAR) for crop in crops]  # type: ignore[misc]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        coding = {"crf": "26", "preset": "superfast", "flags": "+bitexact"}
        stream: Any = container.add_stream("libx264", rate=25, options=coding)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.thread_count = 1
        number = 0
        for frame_number in np.unique(clip.faces[:, 0]):
            now = np.flatnonzero(clip.faces[:, 0] == frame_number).tolist()
            for step in range(round(25 * shown_s)):
                picture: Any = ground.copy()
                for item in now:
                    x, y = (400 if clip.guest[item] else 60) + 2 * step, 90 + step
                    picture[y : y + 150, x : x + 150] = crops[item]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode())
