"""The loop from segments to embeddings: batches across segments, none twice, none lost, the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vidperson import embedding
from vidperson.embedding import embed_segments
from vidperson.errors import ModelError
from vidperson.io.job_store import JobStore
from vidperson.types import Float

COUNTS = {"a": 3, "b": 0, "c": 1, "d": 7, "e": 0, "f": 2}
STATUSES = {name: "ok" if count else "no_face" for name, count in COUNTS.items()}
SIZE = 4
STATES = ("ok", "no_face")


def items_of(segment: str) -> Iterator[Float]:
    """Any object can be an item; here (2,) arrays."""
    for number in range(COUNTS[segment]):
        yield np.array([ord(segment), number], np.float32)


def embed(items: list[Float]) -> Float:
    return np.stack([np.array([*item, item.sum(), 1], np.float32) for item in items])


def matrices(folder: Path) -> dict[str, Float]:
    """What the archive holds, read from its bytes."""
    import kaldiio

    return dict(kaldiio.load_ark(str(folder / "embed.ark")))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 13, 100])
def test_each_segment_gets_its_items_in_order_whatever_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    batches: list[int] = []

    def counted(items: list[Float]) -> Float:
        batches.append(len(items))
        return embed(items)

    embed_segments(STATUSES, items_of, counted, SIZE, tmp_path, STATES, batch_size)
    found = matrices(tmp_path)
    assert list(found) == list(COUNTS)
    for segment, count in COUNTS.items():
        items = list(items_of(segment))
        np.testing.assert_array_equal(found[segment], embed(items) if count else np.zeros((0, 0)))
    total = sum(COUNTS.values())
    full, rest = divmod(total, batch_size)
    assert batches == [batch_size] * full + [rest] * (rest > 0)  # batches run across segments


@pytest.mark.parametrize("done", range(8))
def test_job_stopped_after_any_batch_resumes_with_the_segments_that_are_left(tmp_path: Path, done: int) -> None:
    embed_segments(STATUSES, items_of, embed, SIZE, tmp_path / "whole", STATES, 2)
    left = [done]

    def stops(items: list[Float]) -> Float:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return embed(items)

    try:
        embed_segments(STATUSES, items_of, stops, SIZE, tmp_path / "job", STATES, 2)
    except KeyboardInterrupt:
        assert done < 7
    with JobStore(tmp_path / "job", ["embed.ark"], STATES) as store:
        finished = list(store.statuses)
    assert finished == list(COUNTS)[: len(finished)] and (done < 6 or len(finished) >= 5)
    read: list[str] = []

    def watched(segment: str) -> Iterator[Float]:
        read.append(segment)
        return items_of(segment)

    embed_segments(STATUSES, watched, embed, SIZE, tmp_path / "job", STATES, 2)
    assert read == list(COUNTS)[len(finished) :]
    for name in ("embed.ark", "journal.jsonl"):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_statuses_and_progress_are_those_of_the_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embed_segments(STATUSES, items_of, embed, SIZE, tmp_path, STATES, 4)
    with JobStore(tmp_path, ["embed.ark"], STATES) as store:
        assert store.statuses == STATUSES
    assert "progress 6/6 segments" in capsys.readouterr().err
    embed_segments(STATUSES, lambda segment: pytest.fail("read again"), embed, SIZE, tmp_path, STATES, 4)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (4,)])
def test_embeddings_of_another_shape_are_refused_with_both(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected embeddings of shape \(4, 4\), found"):
        embed_segments(STATUSES, items_of, lambda items: np.zeros(shape, np.float32), SIZE, tmp_path, STATES, 4)


def test_status_of_a_state_that_the_step_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a: expected a status of .*'ok'.*, found 'lost'"):
        embed_segments({"a": "lost"}, items_of, embed, SIZE, tmp_path, STATES, 4)


def test_loop_names_no_modality() -> None:
    assert embedding.__file__ is not None
    assert not {"face", "speaker", "body"} & set(Path(embedding.__file__).read_text().lower().split())
