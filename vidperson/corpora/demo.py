"""A tiny corpus in the exact layout of SRE19 AV, made from public-domain portraits inside Python packages.

Eileen Collins (NASA portrait, in scikit-image) and Grace Hopper (US Navy portrait, in matplotlib) are put
before photographs of scikit-image and filmed by a virtual camera that pans, zooms and rolls. It proves that
the recipe works from lists to report; its error rates say nothing about real data.

Each part (dev, eval) has one enrolment video per person, one of which shows the other person too, so that the
labelled box matters, and eight test videos: three of each person, one of both, one of nobody.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lines import write_lines

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

WIDTH, HEIGHT, FPS = 640, 360, 25
RECIPE = "1"
PARTS = {"dev": 1, "eval": 2}
PEOPLE = ("collins", "hopper")
# where the face is in the portrait: x1 y1 x2 y2 in pixels of the original
FACES = {"collins": (178.0, 65.0, 269.0, 176.0), "hopper": (177.0, 123.0, 356.0, 336.0)}
# what is cut out of the portrait: x1 y1 x2 y2
CUTS = {"collins": (20, 0, 430, 512), "hopper": (20, 10, 500, 600)}
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
    out, stamp, num_frames = Path(out_dir), f"recipe {RECIPE}, {seconds:g} s\n", round(seconds * FPS)
    if num_frames < 1:
        raise DataError(f"expected at least {1 / FPS:g} seconds per video, found {seconds:g}")
    done = out / ".done"
    if done.is_file() and done.read_text() == stamp:
        return False
    if out.exists() and not done.is_file():
        raise DataError("exists and is not a finished demo corpus; remove it or choose another folder", out)
    portraits, backgrounds = _load_pictures()
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part in PARTS:
        _build_part(partial / part, part, portraits, backgrounds, num_frames, on_video)
    with atomic_write(partial / ".done") as stream:
        stream.write(stamp)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)
    return True


def _load_pictures() -> tuple[dict[str, Pixels], dict[str, Pixels]]:
    """RGB portraits and backgrounds."""
    try:
        import skimage.data
        from matplotlib import cbook
        from matplotlib.image import imread
    except ImportError as error:
        raise DataError(f"the demo corpus needs the package {error.name}; run: pip install '.[demo]'") from None
    hopper = imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    pictures: Any = skimage.data
    portraits = {"collins": pictures.astronaut(), "hopper": np.asarray(hopper)}
    return portraits, {name: getattr(pictures, name)() for name in BACKGROUNDS}


def _build_part(
    root: Path,
    part: str,
    portraits: dict[str, Pixels],
    backgrounds: dict[str, Pixels],
    num_frames: int,
    on_video: Callable[[], None],
) -> None:
    distracted = PARTS[part] % len(PEOPLE)
    enrolment: list[tuple[str, str]] = []
    boxes: list[tuple[str, str, float, str]] = []
    keys: list[tuple[str, str, str, str]] = []

    def make(side: str, video: Video) -> dict[str, Matrix]:
        path = root / "data" / side / f"{video.name}.mp4"
        tracks = _film(path, video, portraits, backgrounds[video.background], num_frames)
        subjects = ",".join(video.cast) or "none"
        keys.append((video.name, subjects, "female", side))
        on_video()
        return tracks

    for i, person in enumerate(PEOPLE):
        cast: tuple[str, ...] = PEOPLE if i == distracted else (person,)
        video = Video(part, f"{part}_enroll{i + 1}", cast, BACKGROUNDS[(i + PARTS[part]) % len(BACKGROUNDS)])
        track = make("enrollment", video)[person]
        enrolment.append((person, video.name))
        for frame in dict.fromkeys(int(at * (num_frames - 1)) for at in LABEL_AT):
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


class Wave:
    """A smooth random motion: the sum of two slow sines, between -1 and 1, drawn from ``rng``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._hz = rng.uniform((0.06, 0.15), (0.15, 0.4))
        self._phase = rng.uniform(0, 2 * np.pi, 2)

    def __call__(self, time_s: float) -> float:
        return float(np.dot((0.7, 0.3), np.sin(2 * np.pi * self._hz * time_s + self._phase)))


def _similarity(scale: float, degrees: float, source: tuple[float, float], target: tuple[float, float]) -> Matrix:
    """(3, 3) matrix that scales, turns and takes the point ``source`` to ``target``."""
    angle = np.deg2rad(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    (x, y), (u, v) = source, target
    return np.array([[c, -s, u - c * x + s * y], [s, c, v - s * x - c * y], [0, 0, 1]])


class Actor:
    """A portrait, cut out with soft edges and scaled to the wanted face height, that sways in the scene."""

    def __init__(
        self, person: str, portrait: Pixels, at: tuple[float, float], face_px: float, rng: np.random.Generator
    ) -> None:
        import cv2

        x1, y1, x2, y2 = FACES[person]
        left, top, right, bottom = CUTS[person]
        scale = face_px / (y2 - y1)
        size = round((right - left) * scale), round((bottom - top) * scale)
        cut = np.ascontiguousarray(portrait[top:bottom, left:right])
        rgb = cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        sx, sy = size[0] / (right - left), size[1] / (bottom - top)
        inside = np.zeros((size[1], size[0]), np.float32)
        rim = round(0.22 * face_px)
        inside[rim:-rim, rim:-rim] = 1
        alpha = cv2.GaussianBlur(inside, (0, 0), rim / 2.5)[..., None]
        self._light: Pixels = (rgb * alpha).round().astype(np.uint8)
        self._shade: Pixels = np.repeat((255 * (1 - alpha)).round().astype(np.uint8), 3, axis=2)
        self.center = ((x1 + x2) / 2 - left) * sx, ((y1 + y2) / 2 - top) * sy
        self.radii = (x2 - x1) / 2 * sx, (y2 - y1) / 2 * sy
        self._at = at
        self._waves = [Wave(rng) for _ in range(4)]

    def pose(self, time_s: float) -> Matrix:
        """(3, 3) matrix from the cut-out to the scene."""
        x, y, roll, size = (wave(time_s) for wave in self._waves)
        return _similarity(1 + 0.05 * size, 7 * roll, self.center, (self._at[0] + 18 * x, self._at[1] + 8 * y))

    def face_box(self, matrix: Matrix) -> Matrix:
        """(4,) x1 y1 x2 y2 round the face's oval under a (3, 3) matrix from the cut-out to the picture.

        The oval has the face box's sides as diameters; an ellipse's extent under a linear map is the length
        of the map's rows weighted by the radii.
        """
        center = (matrix @ [*self.center, 1])[:2]
        reach = np.hypot(matrix[:2, 0] * self.radii[0], matrix[:2, 1] * self.radii[1])
        return np.hstack([center - reach, center + reach])

    def draw(self, picture: Pixels, matrix: Matrix) -> None:
        """Put the cut-out into ``picture``, (HEIGHT, WIDTH, 3), under a (3, 3) matrix from cut-out to it."""
        import cv2

        height, width = self._light.shape[:2]
        corners = (matrix @ [[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])[:2]
        left, top = np.maximum(np.floor(corners.min(axis=1)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=1)), (WIDTH, HEIGHT)).astype(int)
        shifted, size = (_similarity(1, 0, (left, top), (0, 0)) @ matrix)[:2], (right - left, bottom - top)
        light = cv2.warpAffine(self._light, shifted, size)
        shade = cv2.warpAffine(self._shade, shifted, size, borderValue=(255, 255, 255))
        area = picture[top:bottom, left:right]
        picture[top:bottom, left:right] = cv2.add(cv2.multiply(area, shade, scale=1 / 255), light)


def _film(
    path: Path, video: Video, portraits: dict[str, Pixels], background: Pixels, num_frames: int
) -> dict[str, Matrix]:
    """Encode one video (H.264, no sound); returns person -> (num_frames, 4) face boxes in pixels."""
    import av
    import cv2

    picture: Any
    rng = np.random.default_rng([PARTS[video.part], *video.name.encode()])
    cover = 1.3 * max(WIDTH / background.shape[1], HEIGHT / background.shape[0])
    smooth = cv2.INTER_AREA if cover < 1 else cv2.INTER_LINEAR
    scene = cv2.resize(background, None, fx=cover, fy=cover, interpolation=smooth)
    to_scene = _similarity(1, 0, (scene.shape[1] / 2, scene.shape[0] / 2), (WIDTH / 2, HEIGHT / 2))
    spots = rng.permutation([185.0, 455.0]) if len(video.cast) > 1 else rng.uniform(230, 410, 1)
    actors = {
        person: Actor(person, portraits[person], (float(x), rng.uniform(150, 175)), rng.uniform(85, 140), rng)
        for person, x in zip(video.cast, spots, strict=False)
    }
    camera = [Wave(rng) for _ in range(4)]
    gain, shift = rng.uniform(0.65, 1.2), rng.uniform(0, 25)
    blur, grain, crf = rng.uniform(0, 1.3), rng.uniform(1, 6), int(rng.integers(24, 36))
    noise = (grain * rng.standard_normal((HEIGHT + 64, WIDTH + 64, 1)) * np.ones(3)).round().astype(np.int16)

    path.parent.mkdir(parents=True, exist_ok=True)
    tracks: dict[str, list[Matrix]] = {person: [] for person in actors}
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        coding = {"crf": str(crf), "preset": "superfast", "flags": "+bitexact"}
        stream: Any = container.add_stream("libx264", rate=FPS, options=coding)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(num_frames):
            pan, tilt, zoom, roll = (wave(index / FPS) for wave in camera)
            aim = (WIDTH / 2 + 30 * pan, HEIGHT / 2 + 14 * tilt)
            look = _similarity(1.06 + 0.08 * zoom, 3 * roll, (WIDTH / 2, HEIGHT / 2), aim)
            to_view, size = (look @ to_scene)[:2], (WIDTH, HEIGHT)
            picture = cv2.warpAffine(scene, to_view, size, borderMode=cv2.BORDER_REFLECT_101)
            for person, actor in actors.items():
                matrix = look @ actor.pose(index / FPS)
                tracks[person].append(actor.face_box(matrix))
                actor.draw(picture, matrix)
            if blur > 0.4:
                picture = cv2.GaussianBlur(picture, (0, 0), blur)
            picture = cv2.convertScaleAbs(picture, alpha=gain, beta=shift)
            top, left = rng.integers(0, 64, 2)
            picture = cv2.add(picture, noise[top : top + HEIGHT, left : left + WIDTH], dtype=cv2.CV_8U)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return {person: np.array(track) for person, track in tracks.items()}
