"""A quick check that long trial lists are flawless, without a Python object per line.

What it finds flawless, `vidperson.io.data_dir` would find flawless. What is wrong with other lists
is said there: slowly, line by line.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.lines import check_id, read_scp
from vidperson.io.lists import Pairs, read_partitions, read_trials

_CHUNK_BYTES = 1 << 20


def flawless_trial_lists(folder: Path) -> list[str]:
    """Those of `trials` and `trial_partitions` with which nothing is wrong, neither alone nor together.

    Empty as well where `utt2spk` cannot be read, or where one of two lists has a flaw.
    """
    trials, partitions = folder / "trials", folder / "trial_partitions"
    if not trials.is_file():
        return []
    try:
        known = read_scp(folder / "utt2spk").keys()
        pairs = read_trials(trials)
        key = np.array([len(" nontarget"), len(" target")])
        tail = 0 if pairs.targets is None else int(key[pairs.targets.astype(np.intp)].sum())
        if not _is_flawless(pairs, tail, known):
            return []
        if not partitions.is_file():
            return ["trials"]
        others, labels = read_partitions(partitions)
        tail = _bytes_of([f" {name}" for name in labels.names], labels.index)
        return ["trials", "trial_partitions"] if _is_flawless(others, tail, known) and _same(pairs, others) else []
    except DataError:
        return []


def _is_flawless(pairs: Pairs, tail_bytes: int, known: Collection[str]) -> bool:
    """Whether a list that could be read is also in order, of known segments, and without superfluous blanks.

    tail_bytes: length of all that follows the segments in their lines.
    """
    try:
        for name in (*pairs.model_ids, *pairs.segment_ids):
            check_id(name, "id", pairs.path, 0)
    except DataError:
        return False
    if any(segment not in known for segment in pairs.segment_ids):
        return False
    # No character of an id sorts before the blank behind it: lines are ordered by model, then by segment.
    rows = _ranks(pairs.model_ids)[pairs.model_index] * len(pairs.segment_ids)
    rows += _ranks(pairs.segment_ids)[pairs.segment_index]
    if not (rows[1:] > rows[:-1]).all():
        return False
    expected = _bytes_of(pairs.model_ids, pairs.model_index) + _bytes_of(pairs.segment_ids, pairs.segment_index)
    path = Path(pairs.path)
    return path.stat().st_size == expected + tail_bytes + 2 * len(pairs) and not _has_tab(path)


def _ranks(names: list[str]) -> NDArray[np.int64]:
    """The place of each name in the order of the C locale."""
    encoded = [name.encode() for name in names]
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[sorted(range(len(names)), key=encoded.__getitem__)] = np.arange(len(names))
    return ranks


def _bytes_of(names: list[str], index: NDArray[np.int32]) -> int:
    lengths = np.array([len(name.encode()) for name in names], dtype=np.int64)
    return int(lengths @ np.bincount(index, minlength=len(names)))


def _has_tab(path: Path) -> bool:
    with open(path, "rb") as stream:
        return any(b"\t" in chunk for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""))


def _same(pairs: Pairs, others: Pairs) -> bool:
    ids = pairs.model_ids, pairs.segment_ids
    return len(pairs) == len(others) and np.array_equal(pairs.keys(*ids), others.keys(*ids))
