"""What stage 2 does with a list of segments: which frames are searched, and what is stored of each segment."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from vidperson.face.bodies import Bodies
from vidperson.face.candidates import SelectedFaces
from vidperson.face.drawing import draw_faces
from vidperson.face.looks import FillGaps, Look, MoreFrames
from vidperson.face.pipeline import Result, Task
from vidperson.io.items import Spool, archives_of, item_entries
from vidperson.io.job_store import JobStore
from vidperson.io.lists import LabelledBox
from vidperson.media.image import encode_jpeg
from vidperson.media.sampling import KeyFrameSampling, UniformSampling, WindowSampling
from vidperson.types import Box

STATES = ("ok", "unsure", "no_face", "face_rejected", "damaged", "unreadable")
ARCHIVES = archives_of("faces")


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


def body_tasks(
    segments: Mapping[str, str],
    everybody: Mapping[str, str],
    regions: Mapping[str, Box],
    sampling: UniformSampling,
    each_alone: bool = False,
) -> list[Task]:
    """The persons of the files of these segments (id -> path), each file searched once, evenly in time.

    everybody: likewise, all segments of the set: neighbours of those that are searched share their faces.
    regions: segment -> x1 y1 x2 y2 in pixels, where the person is; others are as large as the frame.
    each_alone: a file is searched once per segment, in what its box cuts out, see ``Bodies.cut``.
    """
    if each_alone:
        alone = (Bodies({segment: regions.get(segment)}, [segment], cut=True) for segment in segments)
        return [Task(body.wanted[0], segments[body.wanted[0]], sampling, bodies=body) for body in alone]
    wanted, boxes = dict[str, list[str]](), defaultdict[str, dict[str, Box | None]](dict)
    for segment, path in segments.items():
        wanted.setdefault(os.path.abspath(path), []).append(segment)
    for segment, path in everybody.items():
        if (place := os.path.abspath(path)) in wanted:
            boxes[place][segment] = regions.get(segment)
    return [Task(names[0], path, sampling, bodies=Bodies(boxes[path], names)) for path, names in wanted.items()]


def open_store(output_dir: str) -> JobStore:
    """The archives of a job, to append to; see :class:`~vidperson.io.job_store.JobStore`."""
    return JobStore(output_dir, ARCHIVES, STATES)


def store_faces(
    store: JobStore, results: Iterable[Result], segments: Iterable[str], stored: Callable[[str, str], None]
) -> None:
    """Append the results of the segments, in their order.

    What comes early, since it shares a file with an earlier segment, waits in a temporary file.
    stored: told of each segment with its status when it is stored.
    """
    order, early, spool = iter(segments), dict[str, tuple[str, range]](), Spool()
    next_one = next(order, None)
    for segment, status, faces in results:
        entries = archive_entries(segment, faces)
        if segment != next_one:
            first = len(spool)
            for name in ARCHIVES:
                spool.append(b"".join(entries[name]))
            early[segment] = status, range(first, len(spool))
            continue
        store.append(segment, status, entries)
        stored(segment, status)
        while (next_one := next(order, None)) in early:
            status, pieces = early.pop(next_one)
            store.append(
                next_one, status, {name: [piece] for name, piece in zip(ARCHIVES, spool.read(pieces), strict=True)}
            )
            stored(next_one, status)


def archive_entries(segment: str, faces: SelectedFaces) -> dict[str, Iterator[bytes]]:
    """The bytes that a segment adds to each of ``ARCHIVES``, to be read once."""
    thumbnail = None
    if faces.thumbnail is not None:
        width, kept = faces.thumbnail.shape[1], len(faces.rows) > 0
        drawn = draw_faces(faces.thumbnail, faces.thumbnail_faces, width, kept, faces.thumbnail_region)
        thumbnail = encode_jpeg(drawn)
    return item_entries("faces", segment, faces.rows, faces.quality, faces.shots, faces.crops, thumbnail)
