"""Stage 2 for persons that a detector finds: any number of them in each frame of a segment.

Decoding, the network and the rest run at the same time; memory is bounded by a number of frames, and where frames are
large by their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple, TypeVar

from vidperson.body.detector import Persons
from vidperson.body.gathering import Bodies
from vidperson.errors import MediaError
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import Sampling
from vidperson.media.video import FrameReader
from vidperson.prefetch import MemoryBudget, Prefetch
from vidperson.supervision import UNWATCHED
from vidperson.types import Box, Frame, Image

Detect = Callable[[Sequence[Image]], Sequence[Persons]]
T = TypeVar("T")

_FRAMES_AHEAD = 4  # decoded frames that wait
_BATCHES_AHEAD = 1
_SILENCE_S = 1.0  # a batch that is not full waits no longer
_BUDGET = 32 << 20  # bytes of frames under way, per frame of a batch and once more; ten frames of 720p, one of 4K
OUT_OF_MEMORY = "unreadable: its frames need more memory than there is"


class BodyResult(NamedTuple):
    """What was found in a segment. bodies: to be stored before the next result is asked for."""

    segment: str
    status: str
    bodies: Bodies


class Searched(NamedTuple):
    """A frame and the persons in it."""

    frame: Frame
    persons: Persons


class _End(NamedTuple):
    """The end of a segment. damage: what was lost; error: why nothing can be read."""

    segment: str
    damage: str | None = None
    error: str | None = None


def find_bodies(
    paths: Mapping[str, str],
    detect: Detect,
    sampling: Sampling,
    batch_size: int = 1,
    threads: int = 1,
    limits: Limits = USUAL_LIMITS,
    begin: Callable[[str], None] = UNWATCHED.begin,
    alone: Collection[str] = (),
) -> Generator[BodyResult, None, None]:
    """The status and the persons of each segment (id -> path), in order. Neither depends on ``batch_size``.

    A bad file only gives a status. So does one with frames too large for the memory when it is searched by itself.
    sampling: the frames to search. threads: of the decoder.
    begin: called, in another thread, before a segment is worked on.
    alone: segments that are done with no other one under way.
    """
    single, begun = set(alone), set[str]()

    def contents(segments: Sequence[str]) -> Iterator[Frame | _End]:
        for segment in segments:
            begun.add(segment)
            begin(segment)
            yield from _read(segment, paths[segment], sampling, threads, limits)

    left = list(paths)
    while left:
        count = next((place for place, segment in enumerate(left) if segment in single), len(left))
        together = left[: max(count, 1)]
        try:
            with closing(search_frames(contents(together), detect, batch_size)) as found:
                for result in _gathered(found, limits):
                    left.remove(result.segment)
                    yield result
        except MemoryError:
            if len(together) > 1:
                single |= begun  # which of them needs so much is seen when each has all of the memory
            else:
                left.remove(together[0])
                yield BodyResult(together[0], OUT_OF_MEMORY, Bodies(limits))


def _read(segment: str, path: str, sampling: Sampling, threads: int, limits: Limits) -> Iterator[Frame | _End]:
    try:
        with FrameReader(path, sampling, threads, limits) as reader:
            yield from reader
    except MediaError as error:
        yield _End(segment, error=str(error))
        return
    yield _End(segment, reader.damage)


def _gathered(found: Iterator[Searched | _End], limits: Limits) -> Iterator[BodyResult]:
    bodies = Bodies(limits)
    for content in found:
        if isinstance(content, Searched):
            persons = content.persons
            boxes: list[Box] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in persons.boxes.tolist()]
            bodies.add(content.frame, boxes, persons.scores.tolist())
            continue
        if content.error is not None:
            yield BodyResult(content.segment, f"unreadable: {content.error}", Bodies(limits))
        elif content.damage is not None:
            yield BodyResult(content.segment, f"damaged: {content.damage}", bodies)
        else:
            yield BodyResult(content.segment, "ok" if len(bodies) else "no_body", bodies)
        bodies = Bodies(limits)


def search_frames(
    contents: Iterator[Frame | T], detect: Detect, batch_size: int = 1
) -> Generator[Searched | T, None, None]:
    """Frames with the persons in them, and what else comes among the frames, in order.

    contents: used up in another thread. detect: called in a third one with up to ``batch_size`` images.
    """
    budget = MemoryBudget(_BUDGET * (batch_size + 1))

    def within_budget() -> Iterator[Frame | T | None]:
        for content in contents:
            if isinstance(content, Frame):
                if not budget.has(content.image.nbytes):
                    yield None
                budget.take(content.image.nbytes)
            yield content

    with (
        Prefetch(within_budget(), _FRAMES_AHEAD, silence=(_SILENCE_S, None)) as items,
        Prefetch(_detected(items, detect, batch_size), _BATCHES_AHEAD) as batches,
        budget,
    ):
        for batch in batches:
            for found in batch:
                yield found
                if isinstance(found, Searched):
                    budget.give(found.frame.image.nbytes)


def _detected(items: Iterator[Frame | T | None], detect: Detect, batch_size: int) -> Iterator[list[Searched | T]]:
    """Stretches of the items, each with at most ``batch_size`` frames. None: nothing comes for a while."""
    waiting: list[Frame | T] = []
    images: list[Image] = []
    for item in items:
        if item is not None:
            waiting.append(item)
        if isinstance(item, Frame):
            images.append(item.image)
        if waiting and (item is None or len(images) in (0, batch_size)):
            yield _searched(waiting, images, detect)
            waiting, images = [], []
    if waiting:
        yield _searched(waiting, images, detect)


def _searched(items: Sequence[Frame | T], images: Sequence[Image], detect: Detect) -> list[Searched | T]:
    persons = iter(detect(images) if images else ())
    return [Searched(item, next(persons)) if isinstance(item, Frame) else item for item in items]
