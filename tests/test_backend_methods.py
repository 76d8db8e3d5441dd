"""Every back-end, and adaptive s-norm on top of it, against double loops written from the definitions."""

from __future__ import annotations

import naive_scoring as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from vidperson.backends import (
    BACKENDS,
    AdaptiveSNorm,
    Context,
    EmbeddingSets,
    clustering,
    pooling,
    score_pairs,
    snorm,
    tiles,
    tracks,
)
from vidperson.backends.exact import length_normalise
from vidperson.backends.scorers import Cosine
from vidperson.backends.tiles import tiling
from vidperson.backends.trials import rows_in_memory
from vidperson.errors import ScoringError

NAMES = sorted(naive.METHODS)
WITH_FACES = sorted({*NAMES, "track"})


def test_every_backend_is_compared_with_plain_loops():
    assert set(WITH_FACES) == set(BACKENDS)


def random_faces(rng, count, dim):
    """Faces of a few persons, so that there are clusters; lengths differ as those of embeddings do."""
    persons = rng.standard_normal((3, dim))
    rows = persons[rng.integers(0, 3, count)] + 0.3 * rng.standard_normal((count, dim))
    return (rows * rng.uniform(0.2, 3, (count, 1))).astype(np.float32)


def random_task(rng, counts, dim):
    """Models of one to three segments, videos; some without faces."""
    segments = [random_faces(rng, n, dim) for n in counts[: len(counts) // 2]]
    models, begin = [], 0
    while begin < len(segments):
        size = int(rng.integers(1, 4))
        models.append(segments[begin : begin + size])
        begin += size
    return models, [random_faces(rng, n, dim) for n in counts[len(counts) // 2 :]]


def boxes(count):
    """One face a second, far apart, so that no two link."""
    times = np.arange(count, dtype=np.float32)
    left = 1000 * times
    return np.stack([times, times, left, left, left + 10, left + 10], axis=1)


def make_scorer(name, models, videos, cohort=None, ncoh=0, discard=0):
    backend = BACKENDS[name]
    items = [(f"m{i}-{k}", segment) for i, model in enumerate(models) for k, segment in enumerate(model)]
    reference = EmbeddingSets.from_items(items)
    test = EmbeddingSets.from_items((f"v{i}", video) for i, video in enumerate(videos))
    context = Context(items={key: boxes(len(sets[i])) for sets in (reference, test) for i, key in enumerate(sets.keys)})
    groups = {f"m{i}": [f"m{i}-{k}" for k in range(len(model))] for i, model in enumerate(models)}
    scorer = backend.scorer(backend.enrolment(reference, context).union(groups), backend.test(test, context))
    if cohort is None:
        return scorer
    return AdaptiveSNorm(scorer, backend.cohort(EmbeddingSets.from_items([("cohort", cohort)])), ncoh, discard)


def all_pairs(models, videos):
    return np.array([(m, v) for m in range(len(models)) for v in range(len(videos))], dtype=np.int64)


counts = st.lists(st.integers(0, 6), min_size=2, max_size=8)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(counts=counts, dim=st.integers(2, 9), seed=st.integers(0, 2**32 - 1))
def test_backend_ragged_sets_equals_double_loop(name, counts, dim, seed):
    models, videos = random_task(np.random.default_rng(seed), counts, dim)
    trials = all_pairs(models, videos)
    scores = score_pairs(make_scorer(name, models, videos), trials)
    np.testing.assert_allclose(scores, naive.score(name, models, videos, trials), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(counts=counts, size=st.integers(2, 30), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_snorm_any_backend_equals_double_loop(name, counts, size, seed, data):
    rng = np.random.default_rng(seed)
    ncoh = data.draw(st.integers(2, size))
    discard = data.draw(st.integers(0, size - ncoh))
    models, videos = random_task(rng, counts, 6)
    cohort = rng.standard_normal((size, 6)).astype(np.float32)
    trials = all_pairs(models, videos)
    scores = score_pairs(make_scorer(name, models, videos, cohort, ncoh, discard), trials)
    # Where few cohort faces have nearly the same score, their deviation magnifies how cosines round.
    expected, errors = naive.scores_and_errors(name, models, videos, trials, cohort, ncoh, discard)
    assert np.all(np.abs(scores - expected) <= errors + 1e-6 * np.maximum(1, np.abs(expected)))


@pytest.mark.parametrize("cohort_size", [None, 40])
@pytest.mark.parametrize("name", WITH_FACES)
def test_backend_any_blocks_trials_and_order_of_faces_gives_the_same_bits(name, cohort_size):
    rng = np.random.default_rng(5)
    models, videos = random_task(rng, rng.integers(0, 20, 20).tolist(), 64)
    cohort = None if cohort_size is None else random_faces(rng, cohort_size, 64)
    scorer = make_scorer(name, models, videos, cohort, 15, 3)
    trials = all_pairs(models, videos)
    expected = score_pairs(scorer, trials)
    assert len(np.unique(expected)) > len(trials) / 2
    for blocks in ((1, 1), (7, 30), (64, 5), (10**6, 10**6)):
        order = rng.permutation(len(trials))[: 5 if blocks == (1, 1) else len(trials) // 3]
        assert score_pairs(scorer, trials[order], block_rows=blocks).tobytes() == expected[order].tobytes(), blocks
    first = 1 if name in ("whole", "crops", "whole-crops") else 0  # the whole utterance stays first

    def mixed(rows):
        return np.concatenate([rows[:first], rng.permutation(rows[first:])])

    shuffled = make_scorer(
        name,
        [[mixed(segment) for segment in model][::-1] for model in models],
        [mixed(video) for video in videos],
        cohort if cohort is None else rng.permutation(cohort),
        15,
        3,
    )
    assert score_pairs(shuffled, trials).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", WITH_FACES)
def test_backend_one_face_a_side_is_the_cosine_and_passes_through(name):
    rng = np.random.default_rng(6)
    models = [[rng.standard_normal((1, 16)).astype(np.float32)] for _ in range(5)]
    videos = [rng.standard_normal((1, 16)).astype(np.float32) for _ in range(6)]
    trials = all_pairs(models, videos)
    expected = [naive.cosine(models[m][0][0].astype(float), videos[v][0].astype(float)) for m, v in trials]
    np.testing.assert_allclose(score_pairs(make_scorer(name, models, videos), trials), expected, atol=2e-7)


@pytest.mark.parametrize("name", WITH_FACES)
def test_backend_sides_without_faces_score_zero_with_a_cohort_and_without(name):
    none, some = np.zeros((0, 4), np.float32), np.eye(4, dtype=np.float32)[:3] + np.float32(0.5)
    for cohort in (None, np.eye(4, dtype=np.float32)):
        for models, videos in (([[none]], [some]), ([[some]], [none]), ([[none]], [none])):
            scores = score_pairs(make_scorer(name, models, videos, cohort, 2), all_pairs(models, videos))
            assert [str(score) for score in scores] == ["0.0"]
        alone = score_pairs(make_scorer(name, [[some]], [some], cohort, 2), [[0, 0]])
        beside = score_pairs(make_scorer(name, [[none, some]], [some], cohort, 2), [[0, 0]])
        assert alone == beside != 0


@pytest.mark.parametrize("name", WITH_FACES)
def test_backend_embeddings_of_any_length_score_alike(name):
    """A video's embeddings as a whole may be as long or short as float32 holds."""
    rng = np.random.default_rng(8)
    models, videos = random_task(rng, [3, 4, 5, 6], 8)
    trials = all_pairs(models, videos)
    expected = score_pairs(make_scorer(name, models, videos), trials)
    for exponent in (-60, 60):
        scale = np.float32(2.0**exponent)
        scores = score_pairs(make_scorer(name, models, [scale * video for video in videos]), trials)
        np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("name", WITH_FACES)
def test_backend_zero_vectors_score_zero_and_not_nan(name):
    zeros = np.zeros((3, 4), np.float32)
    assert score_pairs(make_scorer(name, [[zeros]], [np.ones((2, 4), np.float32)]), [[0, 0]]) == 0


# --- clusters, tracks, attention -------------------------------------------------------------------------------


def clusters_of_scikit_learn(units, threshold):
    """Number of the cluster of each face; with a connectivity its own code merges, not SciPy's, which ours calls."""
    linkage = {"linkage": "average", "metric": "cosine", "connectivity": np.ones((len(units), len(units)))}
    return AgglomerativeClustering(n_clusters=None, distance_threshold=1 - threshold, **linkage).fit_predict(units)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(-1, 1), st.integers(0, 2**32 - 1))
def test_average_linkage_without_room_for_the_distances_gives_the_clusters_of_scikit_learn(count, threshold, seed):
    units = length_normalise(random_faces(np.random.default_rng(seed), count, 8))
    small, large = (clustering.average_linkage(units, threshold, room) for room in (0, 2**30))
    np.testing.assert_array_equal(small, large)
    if count > 1:
        expected = clusters_of_scikit_learn(units, threshold)
        assert len({*zip(expected, large, strict=True)}) == len(set(expected)) == len(set(large))
    assert list(dict.fromkeys(large)) == list(range(large.max() + 1))


def test_average_linkage_more_faces_than_a_block_gives_the_clusters_of_scikit_learn():
    units = length_normalise(random_faces(np.random.default_rng(3), 600, 16))
    expected = clusters_of_scikit_learn(units, 0.9)
    for room in (0, 2**30):
        labels = clustering.average_linkage(units, 0.9, room)
        assert 3 < len(set(labels)) < 600
        assert len({*zip(expected, labels, strict=True)}) == len(set(expected)) == len(set(labels))


def test_average_linkage_same_face_many_times_is_one_cluster_in_both_ways():
    units = length_normalise(np.tile(np.array([[1, 2, 3]], np.float32), (50, 1)))
    for room in (0, 2**30):
        assert clustering.average_linkage(units, 0.999, room).tolist() == [0] * 50


def test_self_attention_in_blocks_of_rows_is_the_same_to_the_bit(monkeypatch):
    rows = random_faces(np.random.default_rng(1), 50, 32)
    expected = pooling.self_attention(rows)
    monkeypatch.setattr(pooling, "_BLOCK_BYTES", 8 * 50 * 3)
    assert pooling.self_attention(rows).tobytes() == expected.tobytes()


def moving_people(rng, frames):
    """Two persons who walk past each other, one absent for a while, and a stranger in one frame."""
    people = rng.standard_normal((3, 16))
    rows, faces = [], []
    for frame in range(frames):
        for person, left in ((0, 20 * frame), (1, 20 * (frames - frame))):
            if person == 1 and 4 <= frame < 8:
                continue
            rows.append(people[person] + 0.2 * rng.standard_normal(16))
            faces.append([25 * frame, frame, left, 0, left + 50, 50])
        if frame == 2:
            rows.append(people[2])
            faces.append([25 * frame, frame, 500, 0, 550, 50])
    return np.array(rows, np.float32), np.array(faces, np.float32)


def test_link_people_who_walk_past_each_other_stay_apart_and_a_gap_ends_a_track():
    rows, faces = moving_people(np.random.default_rng(2), 12)
    labels = tracks.link(length_normalise(rows), faces)
    groups = [np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1)]
    assert sorted(groups) == sorted(naive.tracks(rows.astype(float), faces)) and len(groups) == 4
    assert max(map(len, groups)) == 12


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_link_faces_at_random_in_any_order_equals_the_plain_loop(count, seed):
    rng = np.random.default_rng(seed)
    rows = random_faces(rng, count, 4)
    frames = np.sort(rng.integers(0, 8, count))
    corner = rng.uniform(0, 30, (count, 2))
    faces = np.column_stack([frames, frames, corner, corner + rng.uniform(20, 40, (count, 2))]).astype(np.float32)
    order = rng.permutation(count)
    labels = tracks.link(length_normalise(rows[order]), faces[order])
    groups = [sorted(order[labels == label].tolist()) for label in range(labels.max() + 1)]
    assert sorted(groups) == sorted(naive.tracks(rows.astype(float), faces))


def test_track_backend_one_embedding_per_track_is_its_mean():
    rows, faces = moving_people(np.random.default_rng(2), 12)
    groups = naive.tracks(rows.astype(float), faces)
    pooled = tracks.track_means(rows, faces)
    expected = [rows[group].mean(axis=0) for group in groups]
    assert len(pooled) == len(expected)
    assert all(np.abs(pooled - mean).max(axis=1).min() < 1e-6 for mean in expected)


@pytest.mark.parametrize("faces", [None, {}, {"v": boxes(2)}])
def test_track_backend_items_missing_or_of_another_number_raises_naming_the_segment(faces):
    sets = EmbeddingSets.from_items([("one", np.ones((1, 4))), ("v", np.ones((3, 4)))])
    with pytest.raises(ScoringError, match="'v': 3 embeddings, (no list of|2) items"):
        BACKENDS["track"].test(sets, Context(items=faces))


# --- adaptive s-norm -----------------------------------------------------------------------------------------------


def test_best_ties_take_the_first_and_counts_are_exact():
    scores = np.array([[1, 3, 3, 3, 0], [2, 2, 2, 2, 2], [5, 4, 3, 2, 1]], float)
    assert snorm.best(scores, 2).tolist() == [
        [False, True, True, False, False],
        [True, True, False, False, False],
        [True, True, False, False, False],
    ]
    assert snorm.best(scores, 5).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1), st.data())
def test_best_any_scores_equals_a_stable_sort(rows, size, seed, data):
    count = data.draw(st.integers(1, size))
    scores = np.random.default_rng(seed).integers(0, 8, (rows, size)).astype(float)
    expected = np.zeros(scores.shape, bool)
    np.put_along_axis(expected, np.argsort(-scores, axis=1, kind="stable")[:, :count], True, axis=1)
    np.testing.assert_array_equal(snorm.best(scores, count), expected)


def test_snorm_cohort_of_one_face_many_times_has_its_deviation_floored():
    cohort = np.tile(np.array([[3, 4]], np.float32), (20, 1))
    models, videos = [[np.array([[1, 0]], np.float32)]], [np.array([[0, 1]], np.float32)]
    scores = score_pairs(make_scorer("max", models, videos, cohort, 10), [[0, 0]])
    np.testing.assert_allclose(scores, (-0.6 - 0.8) / 1e-5 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("name", ["max", "xatt"])
def test_snorm_more_cohort_faces_than_a_chunk_and_large_cohort_equals_double_loop(name):
    rng = np.random.default_rng(4)
    models, videos = [[random_faces(rng, 3, 12)]], [random_faces(rng, 2, 12)]
    cohort = random_faces(rng, 2100, 12)
    scores = score_pairs(make_scorer(name, models, videos, cohort, 2000, 10), [[0, 0]])
    np.testing.assert_allclose(scores, naive.score(name, models, videos, [(0, 0)], cohort, 2000, 10), rtol=2e-6)


@pytest.mark.parametrize(("ncoh", "discard", "asked"), [(41, 0, 41), (40, 1, 41), (1000, 0, 1000)])
def test_snorm_cohort_smaller_than_asked_raises_naming_both_numbers(ncoh, discard, asked):
    face = np.ones((1, 4), np.float32)
    with pytest.raises(ScoringError, match=rf"cohort has 40 items, {asked} are asked for"):
        make_scorer("max", [[face]], [face], np.ones((40, 4), np.float32), ncoh, discard)


def test_snorm_cohort_of_another_size_raises_naming_both():
    face = np.ones((1, 4), np.float32)
    with pytest.raises(ScoringError, match="cohort embeddings have 8 numbers, those to score 4"):
        make_scorer("max", [[face]], [face], np.ones((40, 8), np.float32), 10)


# --- memory and sparse lists ---------------------------------------------------------------------------------------


def sets_of(counts, dim):
    rng = np.random.default_rng(0)
    return EmbeddingSets.from_items((str(i), random_faces(rng, n, dim)) for i, n in enumerate(counts))


def test_rows_in_memory_embeddings_held_beside_those_of_the_scorer_count_where_they_are_more():
    sets = EmbeddingSets.from_items([("a", np.ones((1000, 512), np.float32))])
    scorer = BACKENDS["max"].scorer(sets, sets)
    alone = rows_in_memory(scorer, 0.3)
    assert rows_in_memory(scorer, 0.3, others_bytes=scorer.held_bytes) == alone
    assert rows_in_memory(scorer, 0.3, others_bytes=10 * scorer.held_bytes) < alone
    with pytest.raises(ScoringError, match="mem_gb 0.3 is too little"):
        rows_in_memory(scorer, 0.3, others_bytes=2**28)


def test_rows_in_memory_less_memory_takes_smaller_blocks_and_too_little_raises():
    scorer = Cosine(sets_of([1000] * 3, 64), sets_of([500] * 3, 64))
    more, less = rows_in_memory(scorer, 4.0), rows_in_memory(scorer, 0.26)
    assert more > less and min(less) >= 1
    assert rows_in_memory(scorer, 0.5, num_trials=4_800_000) < rows_in_memory(scorer, 0.5)
    for mem_gb, num_trials in ((0.1, 0), (0.4, 4_000_000)):
        message = rf"mem_gb {mem_gb} is too little: the program takes 0.25 GiB, .* give [01].\d or more"
        with pytest.raises(ScoringError, match=message):
            rows_in_memory(scorer, mem_gb, num_trials)


@pytest.mark.parametrize("with_cohort", [False, True])
def test_score_pairs_sparse_list_compares_only_the_pairs_that_it_names(with_cohort, monkeypatch):
    monkeypatch.setattr("vidperson.backends.trials.tiling", lambda dim: None)
    enrolment, test = sets_of([3] * 50, 16), sets_of([4] * 60, 16)
    compared = []

    class Counting(Cosine):
        def compare(self, enrolment, test):
            compared.append(len(enrolment[0]) * len(test[0]))
            return super().compare(enrolment, test)

    scorer = Counting(enrolment, test)
    if with_cohort:
        scorer = AdaptiveSNorm(scorer, sets_of([100], 16), 50)
    trials = np.array([(i, (7 * i) % 60) for i in range(50)])
    sparse = score_pairs(scorer, trials)
    assert sum(compared) == 50 * 3 * 4
    compared.clear()
    dense = score_pairs(scorer, all_pairs(range(50), range(60))).reshape(50, 60)
    assert sum(compared) == 50 * 3 * 60 * 4
    assert sparse.tobytes() == dense[trials[:, 0], trials[:, 1]].tobytes()


@pytest.mark.skipif(tiling(16) is None, reason="this BLAS library has no products in fixed tiles")
@pytest.mark.parametrize("counts", [(3, 4), (1, 30), (1, 1)])
def test_score_pairs_sparse_list_in_tiles_gathers_the_rows_that_it_names(monkeypatch, counts):
    enrolment, test = (sets_of([count] * 2000, 16) for count in counts)
    multiplied = []
    maxima = tiles.maxima
    monkeypatch.setattr(tiles, "maxima", lambda *a: multiplied.append(a[3] * a[6]) or maxima(*a))
    trials = np.array([(i, (7 * i) % 2000) for i in range(1000)])
    sparse = score_pairs(Cosine(enrolment, test), trials)
    assert 0 < sum(multiplied) < 1000 * 1000 * counts[0] * counts[1] / 10
    near = score_pairs(Cosine(enrolment, test), all_pairs(range(60), range(500)))
    named = trials[(trials[:, 0] < 60) & (trials[:, 1] < 500)]
    assert sparse[: len(named)].tobytes() == near[named[:, 0] * 500 + named[:, 1]].tobytes()
