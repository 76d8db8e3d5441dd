"""What stage 2 does with a list of segments: which frames are searched, and what is stored of each segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from vidperson.face.candidates import SelectedFaces
from vidperson.face.drawing import draw_faces
from vidperson.face.looks import FillGaps, Look, MoreFrames
from vidperson.face.pipeline import Result, Task
from vidperson.io.items import archives_of, item_entries
from vidperson.io.job_store import JobStore
from vidperson.io.lists import LabelledBox
from vidperson.media.image import encode_jpeg
from vidperson.media.sampling import KeyFrameSampling, UniformSampling, WindowSampling

STATES = ("ok", "unsure", "no_face", "damaged", "unreadable")
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


def open_store(output_dir: str) -> JobStore:
    """The archives of a job, to append to; see :class:`~vidperson.io.job_store.JobStore`."""
    return JobStore(output_dir, ARCHIVES, STATES)


def store_faces(store: JobStore, results: Iterable[Result], stored: Callable[[str, str], None]) -> None:
    """Append each result as it comes. stored: told of each segment with its status after that."""
    for segment, status, faces in results:
        store.append(segment, status, archive_entries(segment, faces))
        stored(segment, status)


def archive_entries(segment: str, faces: SelectedFaces) -> dict[str, Iterator[bytes]]:
    """The bytes that a segment adds to each of ``ARCHIVES``, to be read once."""
    thumbnail = None
    if faces.thumbnail is not None:
        drawn = draw_faces(faces.thumbnail, faces.thumbnail_faces, faces.thumbnail.shape[1], len(faces.rows) > 0)
        thumbnail = encode_jpeg(drawn)
    return item_entries("faces", segment, faces.rows, faces.quality, faces.crops, thumbnail)
