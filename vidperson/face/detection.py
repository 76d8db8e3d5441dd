"""What stage 2 does with a list of segments: which frames are searched, and what is stored of each segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from vidperson.face.candidates import SelectedFaces
from vidperson.face.drawing import draw_faces
from vidperson.face.looks import FillGaps, Look, MoreFrames
from vidperson.face.pipeline import Result, Task
from vidperson.io.crops import tar_entry
from vidperson.io.job_store import JobStore
from vidperson.io.lists import LabelledBox
from vidperson.io.matrices import matrix_bytes
from vidperson.media.sampling import KeyFrameSampling, UniformSampling, WindowSampling

STATES = ("ok", "unsure", "no_face", "damaged", "unreadable")
ARCHIVES = ("faces.ark", "quality.ark", "crops.tar", "thumbs.tar")
_THUMBNAIL = [cv2.IMWRITE_JPEG_QUALITY, 85]


def uniform_tasks(segments: Mapping[str, str], sampling: UniformSampling, second_look: int = 0) -> list[Task]:
    """The segments (id -> path), each searched evenly in time for every face.

    second_look: frames of a short video to search besides where none shows a sure face; 0: none.
    """
    looks = [MoreFrames(second_look)] if second_look else []
    return [Task(segment, path, sampling, looks=looks) for segment, path in segments.items()]


def fast_tasks(segments: Mapping[str, str], fps: float, longest_gap_s: float, second_look: int = 0) -> list[Task]:
    """The segments (id -> path), searched in key frames first, then where these left something open.

    fps: most frames to search per second. longest_gap_s: see :class:`~vidperson.face.looks.FillGaps`; second_look: see
    :func:`uniform_tasks`.
    """
    looks: list[Look] = [FillGaps(fps, longest_gap_s)]
    if second_look:
        looks.append(MoreFrames(second_look))
    return [Task(segment, path, KeyFrameSampling(fps), looks=looks) for segment, path in segments.items()]


def labelled_tasks(
    segments: Mapping[str, str], labels: Mapping[str, Sequence[LabelledBox]], unit: str, window: int
) -> list[Task]:
    """The segments (id -> path), each searched around its labelled times for the labelled person only.

    unit, window: see :class:`~vidperson.media.sampling.WindowSampling`; refused as there, even without any segment.
    """
    WindowSampling((), unit, window)
    tasks = []
    for segment, path in segments.items():
        found = labels.get(segment, [])
        times = sorted({label.position for label in found})
        boxes = [[label.box for label in found if label.position == time] for time in times]
        sampling = WindowSampling(tuple(times), unit, window) if found else None
        tasks.append(Task(segment, path, sampling, boxes))
    return tasks


def open_store(output_dir: str) -> JobStore:
    """The archives of a job, to append to; see :class:`~vidperson.io.job_store.JobStore`."""
    return JobStore(output_dir, ARCHIVES, STATES)


def store_faces(store: JobStore, results: Iterable[Result], stored: Callable[[str, str], None]) -> None:
    """Append each result as it comes. stored: told of each segment with its status after that."""
    for segment, status, faces in results:
        store.append(segment, status, archive_entries(segment, faces))
        stored(segment, status)


def store_unreadable(output_dir: str, segment: str, why: str) -> None:
    """Note a segment that crashed or hung its process, unless the job has finished it."""
    none = [matrix_bytes(segment, np.zeros((0, 0)))]
    with open_store(output_dir) as store:
        if segment not in store.statuses:
            entries = {"faces.ark": none, "quality.ark": none, "crops.tar": [], "thumbs.tar": []}
            store.append(segment, f"unreadable: {why}", entries)


def archive_entries(segment: str, faces: SelectedFaces) -> dict[str, Iterator[bytes]]:
    """The bytes that a segment adds to each of ``ARCHIVES``, to be read once."""
    names = (f"{segment}/{number:05d}_{int(frame):07d}.png" for number, frame in enumerate(faces.rows[:, 0]))
    entries: dict[str, Iterator[bytes]] = {
        "faces.ark": iter([matrix_bytes(segment, faces.rows)]),
        "quality.ark": iter([matrix_bytes(segment, faces.quality)]),
        "crops.tar": (tar_entry(name, png) for name, png in zip(names, faces.crops, strict=True)),
        "thumbs.tar": iter([]),
    }
    if faces.thumbnail is not None:
        drawn = draw_faces(faces.thumbnail, faces.thumbnail_faces, faces.thumbnail.shape[1], len(faces.rows) > 0)
        jpeg = cv2.imencode(".jpg", drawn[..., ::-1], _THUMBNAIL)[1].tobytes()
        entries["thumbs.tar"] = iter([tar_entry(f"{segment}.jpg", jpeg)])
    return entries
