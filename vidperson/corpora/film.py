"""Short films of portraits: put before a photograph, and filmed by a virtual camera that pans, zooms and rolls.

They may have a sound track. What the demo corpora are made of. Same arguments and package versions, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Sound = NDArray[np.float32]
Corners = tuple[float, float, float, float]

WIDTH, HEIGHT, FPS = 640, 360, 25
SOUND_RATE = 16000


@dataclass(frozen=True)
class Portrait:
    """An RGB picture of a person. Corners are x1 y1 x2 y2 in its pixels."""

    pixels: Pixels
    face: Corners
    cut: tuple[int, int, int, int]
    """What of the picture is put into the scene."""


def num_frames(seconds: float, fps: int = FPS) -> int:
    """The frames of a film. Raises DataError where it would have none."""
    frames = round(seconds * fps)
    if frames < 1:
        raise DataError(f"expected at least {1 / fps:g} seconds per video, found {seconds:g}")
    return frames


class Wave:
    """A smooth random motion: the sum of two slow sines, between -1 and 1, drawn from ``rng``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._hz = rng.uniform((0.06, 0.15), (0.15, 0.4))
        self._phase = rng.uniform(0, 2 * np.pi, 2)

    def __call__(self, time_s: float) -> float:
        return float(np.dot((0.7, 0.3), np.sin(2 * np.pi * self._hz * time_s + self._phase)))


def similarity(scale: float, degrees: float, source: tuple[float, float], target: tuple[float, float]) -> Matrix:
    """(3, 3) matrix that scales, turns and takes the point ``source`` to ``target``."""
    angle = np.deg2rad(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    (x, y), (u, v) = source, target
    return np.array([[c, -s, u - c * x + s * y], [s, c, v - s * x - c * y], [0, 0, 1]])


class Actor:
    """A portrait, cut out with soft edges and scaled to the wanted face height, that sways in the scene."""

    def __init__(self, portrait: Portrait, at: tuple[float, float], face_px: float, rng: np.random.Generator) -> None:
        import cv2

        x1, y1, x2, y2 = portrait.face
        left, top, right, bottom = portrait.cut
        scale = face_px / (y2 - y1)
        size = round((right - left) * scale), round((bottom - top) * scale)
        cut = np.ascontiguousarray(portrait.pixels[top:bottom, left:right])
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
        return similarity(1 + 0.05 * size, 7 * roll, self.center, (self._at[0] + 18 * x, self._at[1] + 8 * y))

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
        shifted, size = (similarity(1, 0, (left, top), (0, 0)) @ matrix)[:2], (right - left, bottom - top)
        light = cv2.warpAffine(self._light, shifted, size)
        shade = cv2.warpAffine(self._shade, shifted, size, borderValue=(255, 255, 255))
        area = picture[top:bottom, left:right]
        picture[top:bottom, left:right] = cv2.add(cv2.multiply(area, shade, scale=1 / 255), light)


def film(
    path: Path,
    seed: Sequence[int],
    cast: Mapping[str, Portrait],
    background: Pixels,
    frames: int,
    face_px: tuple[float, float] = (85.0, 140.0),
    fps: int = FPS,
    sound: Sound | None = None,
) -> dict[str, Matrix]:
    """Encode one video (H.264, with sound AAC); returns person -> (frames, 4) face boxes in pixels.

    seed: of everything random in it. cast: up to two persons, by name. background: (H, W, 3) RGB.
    face_px: smallest and largest height of a face. sound: (samples,) at ``SOUND_RATE``, from -1 to 1.
    """
    import av
    import cv2

    picture: Any
    rng = np.random.default_rng(seed)
    cover = 1.3 * max(WIDTH / background.shape[1], HEIGHT / background.shape[0])
    smooth = cv2.INTER_AREA if cover < 1 else cv2.INTER_LINEAR
    scene = cv2.resize(background, None, fx=cover, fy=cover, interpolation=smooth)
    to_scene = similarity(1, 0, (scene.shape[1] / 2, scene.shape[0] / 2), (WIDTH / 2, HEIGHT / 2))
    spots = rng.permutation([185.0, 455.0]) if len(cast) > 1 else rng.uniform(230, 410, 1)
    actors = {
        person: Actor(portrait, (float(x), rng.uniform(150, 175)), rng.uniform(*face_px), rng)
        for (person, portrait), x in zip(cast.items(), spots, strict=False)
    }
    camera = [Wave(rng) for _ in range(4)]
    gain, shift = rng.uniform(0.65, 1.2), rng.uniform(0, 25)
    blur, grain, crf = rng.uniform(0, 1.3), rng.uniform(1, 6), int(rng.integers(24, 36))
    noise = (grain * rng.standard_normal((HEIGHT + 64, WIDTH + 64, 1)) * np.ones(3)).round().astype(np.int16)

    path.parent.mkdir(parents=True, exist_ok=True)
    tracks: dict[str, list[Matrix]] = {person: [] for person in actors}
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        coding = {"crf": str(crf), "preset": "superfast", "flags": "+bitexact"}
        stream: Any = container.add_stream("libx264", rate=fps, options=coding)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        if sound is not None:
            _mux_sound(container, sound)
        for index in range(frames):
            pan, tilt, zoom, roll = (wave(index / fps) for wave in camera)
            aim = (WIDTH / 2 + 30 * pan, HEIGHT / 2 + 14 * tilt)
            look = similarity(1.06 + 0.08 * zoom, 3 * roll, (WIDTH / 2, HEIGHT / 2), aim)
            to_view, size = (look @ to_scene)[:2], (WIDTH, HEIGHT)
            picture = cv2.warpAffine(scene, to_view, size, borderMode=cv2.BORDER_REFLECT_101)
            for person, actor in actors.items():
                matrix = look @ actor.pose(index / fps)
                tracks[person].append(actor.face_box(matrix))
                actor.draw(picture, matrix)
            if blur > 0.4:
                picture = cv2.GaussianBlur(picture, (0, 0), blur)
            picture = cv2.convertScaleAbs(picture, alpha=gain, beta=shift)
            top, left = rng.integers(0, 64, 2)
            picture = cv2.add(picture, noise[top : top + HEIGHT, left : left + WIDTH], dtype=cv2.CV_8U)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return {person: np.array(track) for person, track in tracks.items()}


def _mux_sound(container: Any, sound: Sound) -> None:
    """Add a track of sound, which the container interleaves with the frames that follow."""
    import av

    track = container.add_stream("aac", rate=SOUND_RATE, layout="mono", options={"flags": "+bitexact"})
    frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
    container.mux(track.encode(frame))
    container.mux(track.encode())
