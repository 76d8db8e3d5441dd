"""The clips of benchmarks/who.py: what is seen in them, the portraits, and clips composed of others.

Inputs:  who_labels.tsv and who_portraits.tsv beside this file, and the real media that they name, paths below
         <shared>/data.
Outputs: functions only.

A line of who_labels.tsv says that the face of a person is seen in a clip from start_s to end_s, at least face_px
pixels high, with its centre between the shares x1 and x2 of the width. 0 pixels: out of focus, or less than half of
the face is inside the picture. A person named with a leading "?" has no portrait. They were labelled by viewing
frames 0.1 to 0.5 s apart; cuts are exact to a frame; heights are those that YuNet finds, rounded down to 5 pixels.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidperson.errors import MediaError

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

RATE = 25
WIDTH, HEIGHT = 640, 360  # of a panel
CUTS, BESIDE, VOICES = 8, 6, 6  # composed clips of each kind, per half
SILENT = ("video/mead/", "clips/")
SOUND_RATE = 16000
PIECES = 5  # of a clip with cuts
LENGTHS_S = (1.4, 2.4)  # of a piece
BESIDE_S = 4.0
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Shown:
    """A face that is seen: a line of who_labels.tsv. is_heard: a voice without a face."""

    clip: str
    person: str
    start_s: float
    end_s: float
    face_px: int
    left: float = 0.0
    right: float = 1.0
    is_heard: bool = False

    @property
    def is_stranger(self) -> bool:
        return self.person.startswith("?")


@dataclass(frozen=True)
class Portrait:
    """An image, or the frame of a video at time_s."""

    person: str
    file: str
    time_s: float | None


@dataclass(frozen=True)
class Panel:
    """A part of a composed clip: seconds of a clip from start_s on, shown from at_s on in a column of the picture."""

    clip: str
    start_s: float
    at_s: float
    seconds: float
    column: int = 0


@dataclass(frozen=True)
class Composed:
    """A clip made of others, in columns, after each other, or both. sound: what is heard."""

    name: str
    panels: tuple[Panel, ...]
    sound: Panel | None = None

    @property
    def columns(self) -> int:
        return 1 + max(panel.column for panel in self.panels)

    @property
    def seconds(self) -> float:
        return max(panel.at_s + panel.seconds for panel in self.panels)


def read_labels(half: str, path: Path = FOLDER / "who_labels.tsv") -> list[Shown]:
    """What is seen in the clips of a half, `choose` or `test`."""
    return [
        Shown(clip, person, float(start), float(end), int(px), float(left), float(right))
        for clip, person, start, end, px, left, right in _lines(half, path)
    ]


def read_portraits(half: str, path: Path = FOLDER / "who_portraits.tsv") -> list[Portrait]:
    """The portraits of the persons of a half."""
    return [Portrait(person, file, float(time) if time else None) for person, file, time in _lines(half, path)]


def _lines(half: str, path: Path) -> Iterator[list[str]]:
    for line in path.read_text("utf-8").splitlines()[1:]:
        first, *rest = line.split("\t")
        if first == half:
            yield rest


def compose(shown: Sequence[Shown], seed: int) -> list[Composed]:
    """Clips out of those in which one person is seen, the same ones for the same seed.

    No two panels that follow each other or are beside each other show the same person.
    """
    draw = random.Random(seed)
    single: dict[str, Shown] = {}
    for one in shown:
        if sum(other.clip == one.clip for other in shown) == 1 and one.end_s > LENGTHS_S[1]:
            single[one.clip] = one
    whole = [one for one in single.values() if one.end_s >= BESIDE_S / 1.5]
    found = []
    for number in range(CUTS):
        at, panels = 0.0, []
        for one in _drawn(list(single.values()), PIECES, draw):
            seconds = round(draw.uniform(*LENGTHS_S) * RATE) / RATE
            panels.append(Panel(one.clip, _start(one, seconds, draw), at, seconds))
            at = round(at + seconds, 2)
        found.append(Composed(f"composed/cuts_{number}.mp4", tuple(panels)))
    for number in range(BESIDE):
        panels = []
        for column, one in enumerate(_drawn(whole, 2, draw)):
            late = round(draw.uniform(0, 1) * RATE) / RATE if column else 0.0
            seconds = round(min(BESIDE_S, one.end_s - 0.2) * RATE) / RATE
            panels.append(Panel(one.clip, _start(one, seconds, draw), late, seconds, column))
        found.append(Composed(f"composed/beside_{number}.mp4", tuple(panels)))
    return found


def compose_voices(shown: Sequence[Shown], seed: int) -> list[Composed]:
    """Silent clips of a person with the voice of another one, who has to be found by it."""
    draw = random.Random(seed)
    single = [one for one in shown if not one.is_stranger and one.end_s > LENGTHS_S[1] and one.face_px]
    faces = [one for one in single if one.clip.startswith(SILENT)]
    voices = [one for one in single if one.clip.startswith(("video/talks/", "video/avspeech/", "video/grid/"))]
    found = []
    for number in range(VOICES):
        (face,), (voice,) = _drawn(faces, 1, draw), _drawn(voices, 1, draw)
        seconds = round(min(BESIDE_S, face.end_s, voice.end_s) * RATE - 1) / RATE
        panel, sound = (Panel(one.clip, 0.0, 0.0, seconds) for one in (face, voice))
        found.append(Composed(f"composed/voice_{number}.mp4", (panel,), sound))
    return found


def _drawn(pool: Sequence[Shown], count: int, draw: random.Random) -> list[Shown]:
    """So many clips, in a random order, neighbours of different persons."""
    by_person = {one.person: [other for other in pool if other.person == one.person] for one in pool}
    while True:
        persons = [draw.choice(sorted(by_person)) for _ in range(count)]
        if all(one != other for one, other in pairwise(persons)):
            return [draw.choice(by_person[person]) for person in persons]


def _start(one: Shown, seconds: float, draw: random.Random) -> float:
    return round(draw.uniform(0, max(0.0, one.end_s - seconds - 0.1)), 2)


def labels_of(composed: Composed, shown: Sequence[Shown], sizes: dict[str, tuple[int, int]]) -> list[Shown]:
    """What is seen in a composed clip. sizes: clip -> width and height of its frames."""
    found = []
    for panel in composed.panels:
        width, height = sizes[panel.clip]
        scale, margin = _fit(width, height)
        for one in shown:
            start, end = max(one.start_s, panel.start_s), min(one.end_s, panel.start_s + panel.seconds)
            if one.clip == panel.clip and end > start:
                left, right = (
                    (panel.column * WIDTH + margin + share * width * scale) / (composed.columns * WIDTH)
                    for share in (one.left, one.right)
                )
                shift, px = panel.at_s - panel.start_s, int(one.face_px * scale)
                found.append(
                    Shown(composed.name, one.person, round(start + shift, 2), round(end + shift, 2), px, left, right)
                )
    if composed.sound:
        heard = next(one.person for one in shown if one.clip == composed.sound.clip)
        found.append(Shown(composed.name, heard, 0.0, composed.sound.seconds, 0, is_heard=True))
    return sorted(found, key=lambda one: (one.start_s, one.left))


def _fit(width: int, height: int) -> tuple[float, float]:
    """By what a frame is scaled to fit into a panel, and how wide the bar on its left is."""
    scale = min(WIDTH / width, HEIGHT / height)
    return scale, (WIDTH - width * scale) / 2


def write_composed(composed: Composed, data: Path, target: Path) -> None:
    """Encode a composed clip as H.264 of ``RATE`` frames per second; what no panel covers is black."""
    import av

    with ExitStack() as stack:
        readers = {panel: _panel(panel, data, stack) for panel in composed.panels}
        container = stack.enter_context(av.open(os.fspath(target), "w"))
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH * composed.columns, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", SOUND_RATE, layout="mono") if composed.sound else None
        for number in range(round(composed.seconds * RATE)):
            picture = np.zeros((HEIGHT, WIDTH * composed.columns, 3), np.uint8)
            for panel, reader in readers.items():
                if panel.at_s <= number / RATE + 1e-6 < panel.at_s + panel.seconds:
                    picture[:, panel.column * WIDTH :][:, :WIDTH] = next(reader)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound and composed.sound:
            container.mux(sound.encode(_sound(composed.sound, data)))
            container.mux(sound.encode(None))


def _sound(panel: Panel, data: Path) -> av.AudioFrame:
    """The sound of a clip from start_s on, as long as the panel."""
    import av

    from vidperson.media.audio import read

    first = round(panel.start_s * SOUND_RATE)
    samples = read(data / panel.clip, SOUND_RATE)[first : first + round(panel.seconds * SOUND_RATE)]
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1).astype(np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts = SOUND_RATE, 0
    return frame


def _panel(panel: Panel, data: Path, stack: ExitStack) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a panel, (HEIGHT, WIDTH, 3), one per frame of the composed clip; the last one is repeated."""
    frames = frames_of(data / panel.clip, stack)
    (_, frame), ahead = next(frames), next(frames, None)
    for number in range(round(panel.seconds * RATE)):
        wanted = panel.start_s + number / RATE
        while ahead and ahead[0] <= wanted + 1e-3:
            (_, frame), ahead = ahead, next(frames, None)
        yield _padded(frame)


def _padded(frame: av.VideoFrame) -> NDArray[np.uint8]:
    scale, _ = _fit(frame.width, frame.height)
    width, height = (round(side * scale) // 2 * 2 for side in (frame.width, frame.height))
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    picture[top : top + height, left : left + width] = frame.reformat(width, height, "rgb24").to_ndarray()
    return picture


def frames_of(path: Path, stack: ExitStack) -> Iterator[tuple[float, av.VideoFrame]]:
    """Seconds since the first frame, and the frame. Raises MediaError for a video without one."""
    import av

    container = stack.enter_context(av.open(os.fspath(path)))
    first = None
    for frame in container.decode(video=0):
        first = frame.time if first is None else first
        yield (frame.time or 0.0) - (first or 0.0), frame
    if first is None:
        raise MediaError(f"{path}: no frame of the video can be decoded")


def frame_at(path: Path, time_s: float) -> av.VideoFrame:
    """The frame that is shown at a time; after the end the last one."""
    with ExitStack() as stack:
        before = None
        for time, frame in frames_of(path, stack):
            if before is not None and time > time_s + 1e-3:
                break
            before = frame
    assert before is not None
    return before
