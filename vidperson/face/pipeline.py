"""Stage 2's work on the segments of a job: decoding, resizing, network and the rest run at the same time.

Four generators, each in a thread of its own but the last one, which runs where the results are used:

    decode  frames of one segment after the other, and what became of it
    gather  batches of frames that the network sees in one shape, of whatever segments, resized and normalised
    run     the network's outputs
    finish  in the order of the frames again: boxes, choice, crops; each segment's status and faces

Memory is bounded by a number of frames, and where frames are large by their bytes; neither depends on how long videos
are and how many there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count
from typing import NamedTuple

import numpy as np

from vidperson.engines import Network
from vidperson.errors import MediaError
from vidperson.face.bodies import Bodies
from vidperson.face.candidates import Boxes, Candidates, SelectedFaces, SelectionPolicy
from vidperson.face.detector import DetectorPass, FaceDetector, Shape
from vidperson.face.looks import Look, Seen, SeenFrame
from vidperson.media.cuts import SampledShots
from vidperson.media.hardware import GpuDecoder
from vidperson.media.image import box_size, cut_box, thumbnail_of
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import Sampling
from vidperson.media.video import FrameReader
from vidperson.prefetch import Answers, MemoryBudget, Prefetch
from vidperson.supervision import UNWATCHED
from vidperson.types import Box, Detections, Float, Frame, Image

_FRAMES_AHEAD = 4  # decoded frames that wait; labelled windows come in bursts
_BATCHES_AHEAD = 2  # one is on its way, beside it the end of a segment
_SEGMENTS_AHEAD = 4  # that may wait to hear whether there is a further look at them
_WAIT = 4  # a frame waits for others to fill its batch until so many batches' worth has passed it
_SILENCE_S = 1.0  # or until the decoder gives nothing for so long
_BUDGET = 32 << 20  # bytes of frames under way, per frame of a batch and once more; ten frames of 720p, one of 4K
OUT_OF_MEMORY = "unreadable: its frames need more memory than there is"


@dataclass(frozen=True)
class Task:
    """One segment.

    sampling: the frames to decode, None where there is no label to search for.
    labels: the labelled boxes of each labelled time, as ``Frame.label`` counts them; empty: every face counts.
    looks: what to search besides, one after the other, by what was found so far.
    bodies: the persons whose faces these are, each a segment; the task has the name of the first that is wanted.
    """

    segment: str
    path: str
    sampling: Sampling | None
    labels: Sequence[Boxes] = ()
    looks: Sequence[Look] = ()
    bodies: Bodies | None = None

    @property
    def segments(self) -> Sequence[str]:
        """The segments to give results of."""
        return self.bodies.wanted if self.bodies else [self.segment]

    @property
    def cut(self) -> Box | None:
        """What the network sees of each frame; None: all of it."""
        return next(iter(self.bodies.boxes.values())) if self.bodies and self.bodies.cut else None


class Result(NamedTuple):
    """What was found in a segment. faces: their crops are to be read before the next result is asked for."""

    segment: str
    status: str
    faces: SelectedFaces


class _End(NamedTuple):
    """The end of a look at a segment: its status with faces, None if it cannot have any, and without.

    total, last_s: how far it reached, as FrameReader says it.
    asks: an answer is waited for, which frames to look at next.
    """

    with_faces: str | None
    without: str
    total: int = 0
    last_s: float = 0.0
    asks: bool = False


class _Item(NamedTuple):
    """A frame or the end of a look at a segment. number: its place among all of them."""

    number: int
    task: Task
    content: Frame | _End

    def pictures(self) -> list[Image]:
        """What the network is to see of it: a frame or a part of one; nothing of an end."""
        if not isinstance(self.content, Frame):
            return []
        return [cut_box(self.content.image, self.task.cut)[0] if self.task.cut else self.content.image]

    def moved(self, faces: Detections) -> Detections:
        """Faces of that picture in pixels of the frame."""
        if not self.task.cut:
            return faces
        corner = np.array([round(side) for side in self.task.cut[:2]], np.float32)
        return Detections(faces.boxes + np.tile(corner, 2), faces.scores, faces.landmarks + corner)


def find_faces(
    tasks: Sequence[Task],
    detector: FaceDetector,
    policy: SelectionPolicy,
    batch_size: int = 1,
    threads: int = 1,
    limits: Limits = USUAL_LIMITS,
    begin: Callable[[str], None] = UNWATCHED.begin,
    alone: Collection[str] = (),
    gpu: GpuDecoder | None = None,
) -> Generator[Result, None, None]:
    """The status and faces of each task, in order. Neither depends on ``batch_size`` and the other tasks.

    A task with bodies has a result for each that is wanted.

    A bad file only gives a status. So does one with frames too large for the memory when it is searched by itself.
    threads: of the decoder.
    begin: called, in another thread, before a segment is worked on.
    alone: segments that are done with no other one under way.
    gpu: what decodes the videos that it can.
    """
    single, begun = set(alone), set[str]()

    def note(segment: str) -> None:
        begun.add(segment)
        begin(segment)

    done = 0
    while done < len(tasks):
        end = next((place for place in range(done, len(tasks)) if tasks[place].segment in single), len(tasks))
        together = tasks[done : max(end, done + 1)]
        try:
            with closing(_find_together(together, detector, policy, batch_size, threads, limits, note, gpu)) as found:
                for results in found:
                    done += 1
                    yield from results
        except MemoryError:
            if len(together) > 1:
                single |= begun  # which of them needs so much is seen when each has all of the memory
            else:
                done += 1
                yield from (Result(name, OUT_OF_MEMORY, Candidates(policy).select()) for name in together[0].segments)


def _find_together(
    tasks: Sequence[Task],
    detector: FaceDetector,
    policy: SelectionPolicy,
    batch_size: int,
    threads: int,
    limits: Limits,
    begin: Callable[[str], None],
    gpu: GpuDecoder | None,
) -> Generator[list[Result], None, None]:
    budget = MemoryBudget(_BUDGET * (batch_size + 1))
    answers = Answers[Sampling | None]()
    ahead = max(_SEGMENTS_AHEAD, batch_size)
    decoded = _decode(tasks, threads, limits, begin, budget, answers, ahead, gpu)
    with (
        Prefetch(decoded, _FRAMES_AHEAD, silence=(_SILENCE_S, None)) as items,
        Prefetch(_gather(items, detector, batch_size), _BATCHES_AHEAD) as batches,
        Prefetch(map(partial(_run, detector.network), batches), _BATCHES_AHEAD) as outputs,
        budget,
        answers,
    ):
        found = _detect(outputs, detector, Candidates(policy).min_score)
        yield from _finish(_in_order(found), policy, budget, answers)


def _decode(
    tasks: Sequence[Task],
    threads: int,
    limits: Limits,
    begin: Callable[[str], None],
    budget: MemoryBudget,
    answers: Answers[Sampling | None],
    ahead: int,
    gpu: GpuDecoder | None,
) -> Generator[_Item | None, None, None]:
    """The frames and the end of each look. None: nothing comes for a while, so nothing should wait for it.

    ahead: segments that are begun at most while one waits for its answer: their results wait, too.
    """
    numbers = count()
    waiting: deque[tuple[int, Task]] = deque()  # with their places

    def look(place: int, task: Task, sampling: Sampling | None) -> Iterator[_Item | None]:
        for content in _read(task, sampling, threads, limits, gpu):
            if isinstance(content, Frame):
                if not budget.has(content.image.nbytes):
                    yield None
                budget.take(content.image.nbytes)
            elif content.asks:
                waiting.append((place, task))
            yield _Item(next(numbers), task, content)

    def look_again() -> Iterator[_Item | None]:
        if not answers.has():
            yield None
        (place, task), sampling = waiting.popleft(), answers.take()
        if sampling is not None:
            yield from look(place, task, sampling)

    for place, task in enumerate(tasks):
        begin(task.segment)
        yield from look(place, task, task.sampling)
        while waiting and (answers.has() or place - waiting[0][0] >= ahead):
            yield from look_again()
    while waiting:
        yield from look_again()


def _read(
    task: Task, sampling: Sampling | None, threads: int, limits: Limits, gpu: GpuDecoder | None
) -> Iterator[Frame | _End]:
    if sampling is None:
        yield _End(None, "no_face: no labelled box")
        return
    try:
        if task.cut:
            limits.check_size(*box_size(task.cut))
        with FrameReader(task.path, sampling, threads, limits, gpu) as reader:
            yield from reader
    except MediaError as error:
        yield _End(None, f"unreadable: {error}")
        return
    asks = bool(task.looks) and reader.total > 1
    if reader.damage:
        yield _End(f"damaged: {reader.damage}", f"damaged: {reader.damage}", reader.total, reader.last_s, asks)
        return
    late = reader.labels_past_end
    of_labels = f": {late} of {len(task.labels)} labelled times lie after the end of the video" if late else ""
    yield _End("ok", f"no_face{of_labels}", reader.total, reader.last_s, asks)


class _Batch(NamedTuple):
    """Frames that the network gets together, in one of its passes; or the end of a segment.

    data: what goes into the network or, after it, what comes out.
    """

    items: list[_Item]
    view: DetectorPass | None
    data: list[Float]


def _gather(items: Iterator[_Item | None], detector: FaceDetector, batch_size: int) -> Iterator[_Batch]:
    """Full batches where that is possible within bounds."""
    groups: dict[tuple[Shape, ...], list[_Item]] = {}  # frames that wait, by what the network gets; the oldest first

    def batches(shapes: tuple[Shape, ...]) -> Iterator[_Batch]:
        group = groups.pop(shapes)
        images = [picture for item in group for picture in item.pictures()]
        return (_Batch(group, view, [batch]) for view, batch in detector.passes(images))

    for item in items:
        if item is None:
            due = list(groups)
        else:
            if isinstance(item.content, Frame):
                groups.setdefault(detector.shapes(*item.pictures()[0].shape[:2]), []).append(item)
            else:
                yield _Batch([item], None, [])
            passed = item.number - _WAIT * batch_size
            due = [key for key, group in groups.items() if len(group) == batch_size or group[0].number <= passed]
        for shapes in due:
            yield from batches(shapes)
    for shapes in list(groups):
        yield from batches(shapes)


def _run(network: Network, batch: _Batch) -> _Batch:
    return batch._replace(data=network(batch.data[0])) if batch.view else batch


def _detect(batches: Iterator[_Batch], detector: FaceDetector, min_score: float) -> Iterator[tuple[_Item, Detections]]:
    """The faces of each frame, in the order of the batches."""
    seen: list[tuple[DetectorPass, list[Float]]] = []
    for items, view, outputs in batches:
        if view is None:
            yield items[0], Detections.empty()
            continue
        seen.append((view, outputs))
        if view.last:
            for item, faces in zip(items, detector.detections(seen, min_score), strict=True):
                yield item, item.moved(faces)
            seen = []


def _in_order(found: Iterator[tuple[_Item, Detections]]) -> Iterator[tuple[_Item, Detections]]:
    early: dict[int, tuple[_Item, Detections]] = {}
    number = 0
    for pair in found:
        early[pair[0].number] = pair
        while number in early:
            yield early.pop(number)
            number += 1


class _Segment:
    """What was seen of one segment."""

    def __init__(self, name: str, candidates: Candidates) -> None:
        self.name, self.candidates = name, candidates
        self._rejected = ""

    def reject(self, state: str) -> None:
        """Note why it got no face in a frame; a rejected one says more than none, the first of several counts."""
        if not self._rejected or (state.startswith("face_rejected") and self._rejected.startswith("no_face")):
            self._rejected = state

    def result(self, end: _End) -> Result:
        counted = self.candidates if end.with_faces else Candidates(self.candidates.policy)
        selected = counted.select()
        if end.with_faces == "ok" and self._rejected:
            end = end._replace(without=self._rejected)
        return Result(self.name, _status(end, counted, len(selected.rows) > 0), selected)


class _UnderWay:
    """A task whose frames come."""

    def __init__(self, task: Task, policy: SelectionPolicy) -> None:
        self.name, self._task, self._policy = task.segment, task, policy
        regions = task.bodies.boxes if task.bodies else {}
        self._segments = [_Segment(name, Candidates(policy, task.labels, regions.get(name))) for name in task.segments]
        self._looks = iter(task.looks)
        self._frames: list[SeenFrame] = []
        self._shots = SampledShots()
        self._end: _End | None = None
        self.is_done = False

    def add(self, frame: Frame, faces: Detections) -> None:
        self._shots.add(frame.image, frame.time_s)
        if self._task.bodies:
            self._give(self._task.bodies, frame, faces)
            return
        self._segments[0].candidates.add(frame, faces)
        if self._task.looks:
            sure = bool((faces.scores >= self._policy.threshold).any())
            self._frames.append(SeenFrame(frame.index, frame.time_s, sure))

    def _give(self, bodies: Bodies, frame: Frame, faces: Detections) -> None:
        height, width = frame.image.shape[:2]
        given = bodies.give(faces, self._policy.threshold, width, height)
        thumbnail = cache(partial(thumbnail_of, frame.image))
        for segment in self._segments:
            face, state = given[segment.name]
            segment.candidates.add(frame, faces[slice(0) if face is None else slice(face, face + 1)], thumbnail)
            segment.reject(state)

    def end(self, end: _End) -> Sampling | None:
        """A look has ended. Returns the frames to look at next; with None the task is done."""
        first = self._end or end
        self._end = end if first.with_faces == "ok" else first
        seen = Seen(self._frames, first.total, first.last_s)
        for look in self._looks if end.asks else ():
            if (sampling := look(seen)) is not None:
                return sampling
        self.is_done = True
        return None

    def results(self) -> list[Result]:
        assert self._end
        found = [segment.result(self._end) for segment in self._segments]
        if self._end.with_faces is None:
            return found
        shots = self._shots.rows()
        return [each._replace(faces=replace(each.faces, shots=shots)) for each in found]


def _finish(
    found: Iterator[tuple[_Item, Detections]],
    policy: SelectionPolicy,
    budget: MemoryBudget,
    answers: Answers[Sampling | None],
) -> Generator[list[Result], None, None]:
    """Each task's results, in the order in which they were begun."""
    under_way: dict[str, _UnderWay] = {}
    for (_, task, content), faces in found:
        if task.segment not in under_way:
            under_way[task.segment] = _UnderWay(task, policy)
        begun = under_way[task.segment]
        if isinstance(content, Frame):
            begun.add(content, faces)
            budget.give(content.image.nbytes)
            continue
        sampling = begun.end(content)
        if content.asks:
            answers.give(sampling)
        while under_way and (first := next(iter(under_way.values()))).is_done:
            yield under_way.pop(first.name).results()


def _status(end: _End, seen: Candidates, kept: bool) -> str:
    """The status of a segment by its end and its faces; says the score of a best face below the threshold."""
    if end.with_faces is None or not seen.best_score:
        return end.without
    if seen.has_sure_face():
        return end.with_faces
    shown = math.floor(100 * seen.best_score) / 100  # rounded, 0.897 would look like 0.9
    best = f"best face {shown:.2f}"
    if end.with_faces == "ok":
        status = f"unsure: {best}, det_threshold is {seen.policy.threshold:g}"
    else:
        status = f"{end.with_faces}; {best}"
    return status + ("; kept" if kept else "")
