"""Segments in, embeddings out: the one loop for all modalities.

Batches run across segments. What is finished is noted in a journal (``vidperson.io.job_store``): a
job that was killed resumes after the last finished segment, and its archive has the same bytes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from vidperson.errors import ModelError
from vidperson.io.job_store import JobStore
from vidperson.io.matrices import matrix_bytes
from vidperson.progress import Progress
from vidperson.types import Float

ARCHIVE = "embed.ark"
Item = TypeVar("Item")


def embed_segments(
    statuses: Mapping[str, str],
    items_of: Callable[[str], Iterable[Item]],
    embed: Callable[[list[Item]], Float],
    embedding_size: int,
    output_dir: str | os.PathLike[str],
    states: Sequence[str],
    batch_size: int,
    join: Callable[[str, list[Float]], Float] = lambda segment, found: np.stack(found),
) -> None:
    """Write ``embed.ark`` and the journal of a job, for the segments that it has not finished yet.

    statuses: the segments of the job, in order, with the statuses that are noted.
    items_of: the items of a segment, such as its crops; none is legal and gives a (0, D) matrix.
    embed: up to ``batch_size`` items to (N, D) float32 embeddings, of one or several segments.
    embedding_size: D.
    states: what a status may begin with.
    join: a segment and the (D,) embedding of each of its items, at least one, to its matrix; by default a row an item.
    Raises ModelError for embeddings of another shape, DataError for a folder that is in use or
    cannot be written, and what the two functions raise.
    """
    with JobStore(output_dir, [ARCHIVE], states) as store:
        segments = [segment for segment in statuses if segment not in store.statuses]
        progress = Progress(len(statuses), "segments", done=len(statuses) - len(segments))
        for segment, matrix in _matrices(segments, items_of, embed, embedding_size, batch_size, join):
            store.append(segment, statuses[segment], {ARCHIVE: [matrix_bytes(segment, matrix)]})
            progress.step()


def _matrices(
    segments: Iterable[str],
    items_of: Callable[[str], Iterable[Item]],
    embed: Callable[[list[Item]], Float],
    embedding_size: int,
    batch_size: int,
    join: Callable[[str, list[Float]], Float],
) -> Iterator[tuple[str, Float]]:
    """Each segment with its (N, D) embeddings, when all its items have been in a batch."""
    rows: dict[str, list[Float]] = {}
    batch: list[tuple[str, Item]] = []
    read: deque[str] = deque()  # segments that are read to the end, and not yet given

    def run_batch() -> None:
        found = embed([item for _, item in batch])
        if found.shape != (len(batch), embedding_size):
            raise ModelError(f"expected embeddings of shape {(len(batch), embedding_size)}, found {found.shape}")
        for (segment, _), row in zip(batch, found, strict=True):
            rows[segment].append(row)
        batch.clear()

    def finished() -> Iterator[tuple[str, Float]]:
        """The batch is in order: what comes before its first segment is done."""
        while read and not (batch and batch[0][0] == read[0]):
            segment = read.popleft()
            found = rows.pop(segment)
            yield segment, join(segment, found) if found else np.zeros((0, embedding_size), np.float32)

    for segment in segments:
        rows[segment] = []
        for item in items_of(segment):
            batch.append((segment, item))
            if len(batch) == batch_size:
                run_batch()
        read.append(segment)
        yield from finished()
    if batch:
        run_batch()
    yield from finished()
