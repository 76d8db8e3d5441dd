"""What is embedded of an utterance: the whole of it, in equal parts where it is long, and crops of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vidperson.errors import DataError, MediaError
from vidperson.io.items import StoredRows
from vidperson.media.audio import SoundReader
from vidperson.media.limits import Limits
from vidperson.speaker.fbank import repeated
from vidperson.types import SPEECH_COLUMNS, Float

CROP_S = 3.015  # as in the evaluation of the ECAPA-TDNN recipe: 300 hops of 10 ms and a part of a window
_BLOCK_S = 30.0
_SLACK_S = 0.02  # by which resampling to another rate than in stage 2 may shorten the sound
_SLACK = 1e-6  # times shown as float32
_ANY_LENGTH = Limits(max_duration_s=float("inf"))  # stage 2 has refused what is too long


@dataclass(frozen=True)
class CutPolicy:
    """What of an utterance is embedded.

    crops: so many of 3 s at equal steps, after the whole. longest_s: longer sound is embedded in equal parts, none of
    them longer; the embedding of the whole is their mean by duration.
    each: instead, every stretch is embedded by itself, whatever its length.
    """

    crops: int = 0
    longest_s: float = 60.0
    each: bool = False


class Span(NamedTuple):
    """Samples of the speech of an utterance, counted without what lies between its stretches.

    row: of the utterance's embeddings, 0 for the whole; or the number of the stretch. weight: its share in that row.
    least: if there are fewer samples, they are repeated.
    """

    start: int
    end: int
    row: int
    weight: float
    least: int = 0


class SpeechStretches(StoredRows):
    """The stretches in a folder of stage 2; see :class:`StoredRows`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder, "speech", len(SPEECH_COLUMNS))


def plan_spans(samples: int, rate: int, policy: CutPolicy) -> list[Span]:
    """In the order in which they end. samples: of speech in all, at ``rate`` Hz; none give no spans."""
    if not samples:
        return []
    parts = max(1, -(-samples // max(1, round(policy.longest_s * rate))))
    bounds = [samples * part // parts for part in range(parts + 1)]
    spans = [Span(start, end, 0, (end - start) / samples) for start, end in pairwise(bounds)]
    length = round(CROP_S * rate)
    starts = np.linspace(0, max(0, samples - length), policy.crops).astype(int).tolist()
    crops = [Span(at, min(at + length, samples), row, 1.0, length) for row, at in enumerate(starts, 1)]
    return sorted((*spans, *crops), key=lambda span: (span.end, span.row))


def _each(ranges: Sequence[tuple[int, int]]) -> list[Span]:
    ends = np.cumsum([end - start for start, end in ranges]).tolist()
    return [Span(start, end, row, 1.0) for row, (start, end) in enumerate(pairwise([0, *ends]))]


def ranges_of(rows: Float, rate: int) -> list[tuple[int, int]]:
    """Samples of the stretches (N, 7) of stage 2: the first ones, and those behind the last."""
    return [(round(float(start) * rate), round(float(end) * rate)) for start, end in rows[:, :2]]


def cut_spans(speech: Iterable[Float], spans: Sequence[Span]) -> Iterator[Float]:
    """The sound of each span, (samples,) float32, in their order; memory as for the longest one and a block.

    speech: blocks. A span that the speech does not fill is as long as there is speech.
    """
    waiting, held, begin = list(spans), np.zeros(0, np.float32), 0
    for block in speech:
        held = np.concatenate([held, block])
        while waiting and waiting[0].end <= begin + len(held):
            yield _sound(held, begin, waiting.pop(0))
        if not waiting:
            return
        passed = min(span.start for span in waiting) - begin
        if passed > 0:
            held, begin = held[passed:], begin + min(passed, len(held))
    for span in waiting:
        yield _sound(held, begin, span)


def _sound(held: Float, begin: int, span: Span) -> Float:
    return repeated(held[span.start - begin : span.end - begin], span.least)


def speech_of(blocks: Iterable[Float], ranges: Sequence[tuple[int, int]]) -> Iterator[Float]:
    """What of the sound is in the ranges, in blocks. blocks: of the sound. ranges: ascending, they do not overlap."""
    begin, waiting = 0, list(ranges)
    for block in blocks:
        while waiting and waiting[0][0] < begin + len(block):
            start, end = waiting[0]
            yield block[max(0, start - begin) : end - begin]
            if end > begin + len(block):
                break
            waiting.pop(0)
        begin += len(block)


def read_spans(path: str, rows: Float, rate: int, policy: CutPolicy | None = None) -> Iterator[tuple[Span, Float]]:
    """The spans of an utterance with their sound at ``rate`` Hz.

    rows: (N, 7) stretches of stage 2. Raises DataError for a file that is not as it was then.
    """
    ranges = ranges_of(rows, rate)
    planned = sum(end - start for start, end in ranges)
    spans = _each(ranges) if policy and policy.each else plan_spans(planned, rate, policy or CutPolicy())
    if not spans:
        return
    counted = 0

    def count(blocks: Iterable[Float]) -> Iterator[Float]:
        nonlocal counted
        for block in blocks:
            counted += len(block)
            yield block

    try:
        with SoundReader(path, rate, _BLOCK_S, _ANY_LENGTH) as reader:
            sounds = cut_spans(count(speech_of(reader, ranges)), spans)
            for span, sound in zip(spans, sounds, strict=True):
                if counted < span.end - _SLACK_S * rate - _SLACK * span.end or not len(sound):
                    raise DataError(f"expected {planned / rate:.2f} s of speech as in stage 2, found less", path)
                yield span, sound
    except MediaError as error:
        raise DataError(f"stage 2 could read it: {error}; put it back, or run stage 2 again", path) from None


def join_rows(spans: Sequence[Span], found: Sequence[Float]) -> Float:
    """(rows, D) float32: the embeddings of spans, each as its share of its row."""
    rows = np.zeros((1 + max(span.row for span in spans), len(found[0])))
    for span, embedding in zip(spans, found, strict=True):
        rows[span.row] += span.weight * embedding.astype(np.float64)
    return rows.astype(np.float32)
