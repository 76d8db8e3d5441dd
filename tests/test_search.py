"""Ranked lists beside a plain loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.backends.identification import ClassMean
from vidperson.backends.search import Ranks, search
from vidperson.backends.sets import EmbeddingSets


class Table:
    """A searcher whose vectors are the scores."""

    def __init__(self, models):
        self.models = tuple(models)

    def scores(self, vectors):
        return vectors


def naive(models, segments, offsets, scores, groups, top, persons):
    """Model -> segments and segment -> models, best first, then by name."""
    pairs = []
    for columns, rows in groups.values():
        for s in rows:
            tracks = scores[offsets[s] : offsets[s + 1]]
            pairs += [(models[m], segments[s], max(track[m] for track in tracks)) for m in columns if len(tracks)]
    ranked, persons_of = {}, {}
    for model, segment, score in sorted(pairs, key=lambda pair: (-pair[2], pair[1].encode())):
        ranked.setdefault(model, []).append((segment, float(score)))
    for model, segment, score in sorted(pairs, key=lambda pair: (-pair[2], pair[0].encode())):
        persons_of.setdefault(segment, []).append((model, float(score)))
    return {m: found[:top] for m, found in ranked.items()}, {s: found[:persons] for s, found in persons_of.items()}


def as_dicts(models, segments, found: tuple[Ranks, Ranks]):
    tables = []
    for ranks, rows, columns in ((found[0], models, segments), (found[1], segments, models)):
        table = {}
        for row, column, rank, score in zip(ranks.rows, ranks.columns, ranks.ranks, ranks.scores, strict=True):
            assert rank == len(table.setdefault(rows[row], [])) + 1
            table[rows[row]].append((columns[column], float(score)))
        assert list(table) == sorted(table, key=str.encode)
        tables.append(table)
    return tuple(tables)


def task(rng, segments=150, models=37, groups=1, values=None):
    """Random scores of segments with 0 to 3 tracks; values: so many different ones only."""
    counts = rng.integers(0, 4, segments)
    scores = rng.standard_normal((counts.sum(), models)).astype(np.float32)
    if values:
        scores = rng.integers(0, values, scores.shape).astype(np.float32)
    names = tuple(sorted((f"{'sZé'[i % 3]}{i}" for i in range(segments)), key=str.encode))
    persons = tuple(sorted((f"{'pé'[i % 2]}{i}" for i in range(models)), key=str.encode))
    group_of = rng.integers(0, groups, segments)
    table = {}
    for group in range(groups):
        some = np.flatnonzero(rng.random(models) < 0.6) if groups > 1 else np.arange(models)
        table[f"g{group}"] = some, np.flatnonzero(group_of == group)
    return persons, EmbeddingSets(names, scores, np.append(0, np.cumsum(counts))), table


@pytest.mark.parametrize("values", [None, 3, 1])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("rows_at_once", [1, 7, 40, 10_000])
def test_search_any_blocks_groups_and_ties_gives_the_lists_of_a_plain_loop(values, groups, rows_at_once, monkeypatch):
    monkeypatch.setattr("vidperson.backends.search._KEPT_AT_ONCE", 100)
    rng = np.random.default_rng(groups)
    models, tracks, table = task(rng, groups=groups, values=values)
    found = search(Table(models), tracks, table, top=10, persons=3, rows_at_once=rows_at_once)
    expected = naive(models, tracks.keys, tracks.offsets, tracks.embeddings, table, 10, 3)
    assert as_dicts(models, tracks.keys, found) == expected


def test_search_segments_in_other_blocks_of_vectors_give_the_same_bytes():
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((700, 512)).astype(np.float32)
    means = rng.standard_normal((300, 512)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    searcher = ClassMean([f"p{i:03d}" for i in range(300)], means)
    groups = {"all": (np.arange(300), np.arange(700))}
    tracks = EmbeddingSets(tuple(f"s{i:03d}" for i in range(700)), vectors, np.arange(701))
    first, *others = (search(searcher, tracks, groups, 100, 5, rows_at_once=rows) for rows in (2112, 100, 31))
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert all(getattr(ours, name).tobytes() == getattr(theirs, name).tobytes() for name in vars(ours))


def test_search_fewer_segments_than_wanted_ranks_all_of_them():
    tracks = EmbeddingSets(("a", "b"), np.array([[1.0], [2.0]], np.float32), np.array([0, 1, 2]))
    ranked, persons = search(Table(["p"]), tracks, {"g": (np.array([0]), np.array([0, 1]))}, 100, 5)
    assert ranked.columns.tolist() == [1, 0] and ranked.ranks.tolist() == [1, 2]
    assert persons.columns.tolist() == [0, 0] and persons.ranks.tolist() == [1, 1]


def test_search_no_segment_with_a_track_gives_empty_lists():
    tracks = EmbeddingSets(("a",), np.zeros((0, 1), np.float32), np.array([0, 0]))
    ranked, persons = search(Table(["p"]), tracks, {"g": (np.array([0]), np.array([0]))}, 100, 5)
    assert len(ranked.rows) == len(persons.rows) == 0


def test_search_zero_of_either_sign_is_a_tie():
    tracks = EmbeddingSets(("a", "b"), np.array([[-0.0], [0.0]], np.float32), np.array([0, 1, 2]))
    ranked, _ = search(Table(["p"]), tracks, {"g": (np.array([0]), np.array([0, 1]))}, 100, 5)
    assert ranked.columns.tolist() == [0, 1]
