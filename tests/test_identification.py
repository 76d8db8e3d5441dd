"""Vectors of segments, and the scores of persons, beside plain loops in float64."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from vidperson.backends.exact import length_normalise
from vidperson.backends.identification import (
    ClassMean,
    Fusion,
    Identifier,
    Pooled,
    Products,
    ShiftedClassMean,
    SomeColumns,
    Standard,
    Whitened,
    Whitening,
    as_compared,
    class_means,
    columns_of,
    item_weights,
    measure,
    pool,
)
from vidperson.errors import ScoringError


def items_at(frames, x=0.0, score=0.9):
    """Items in these frames, four a second, with boxes of 100 pixels at ``x`` (one for all, or each its own)."""
    items = np.zeros((len(frames), 17), np.float32)
    items[:, 0], items[:, 1] = frames, np.asarray(frames) / 4
    items[:, 2] = x
    items[:, 4] = items[:, 2] + 100
    items[:, 5], items[:, 6] = 100, score
    return items


def unit(vector):
    return vector / math.sqrt(sum(float(number) ** 2 for number in vector))


def naive_pool(embeddings, weights, members):
    """One track: the sum of weight * embedding, length-normalised, per embedder."""
    parts = []
    for rows in embeddings:
        total = sum(weights[i] * np.asarray(rows[i], dtype=np.float64) for i in members)
        parts.append(unit(total))
    return np.concatenate(parts)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def two_people(rng, count=12, dim=16):
    """Embeddings and items of two persons side by side in each frame, in no order."""
    centres = rng.standard_normal((2, dim)) * 3
    person = np.repeat([0, 1], count)
    rows = (centres[person] + rng.standard_normal((2 * count, dim)) * 0.5).astype(np.float32)
    items = items_at(np.tile(np.arange(count), 2), x=person * 300.0, score=rng.uniform(0.5, 1, 2 * count))
    order = rng.permutation(2 * count)
    return rows[order], items[order], person[order]


def test_pool_two_people_in_each_frame_gives_a_vector_each_as_a_plain_loop_does(rng):
    rows, items, person = two_people(rng)
    others = rng.standard_normal((len(rows), 5)).astype(np.float32)
    weights = item_weights(len(rows), items)
    pooled = pool([rows, others], items, weights)
    assert len(pooled) == 2
    for track in range(2):
        members = np.flatnonzero(pooled.labels == track)
        assert len(set(person[members])) == 1 and len(members) == 12
        np.testing.assert_allclose(
            pooled.vectors[track], naive_pool([rows, others], items[:, 6].astype(float), members), atol=1e-6
        )
        expected = sum(float(items[i, 6]) * np.linalg.norm(rows[i].astype(float)) for i in members)
        assert pooled.weights[track] == pytest.approx(expected)


def test_pool_main_track_is_the_heaviest_and_none_without_items(rng):
    rows, items, person = two_people(rng)
    rows[person == 1] *= 2
    pooled = pool([rows], items, item_weights(len(rows), items))
    assert set(person[pooled.labels == pooled.main]) == {1}
    none = pool([np.zeros((0, 4), np.float32)], items_at([]), item_weights(0))
    assert none.vectors.shape == (0, 4) and none.main is None and len(none) == 0


def test_pool_unlike_items_in_one_place_are_tracks_of_their_own_unless_link_cosine_is_low(rng):
    rows = (rng.standard_normal(64) + 2 * rng.standard_normal((9, 64))).astype(np.float32)
    cosines = [unit(rows[i].astype(float)) @ unit(rows[i + 1].astype(float)) for i in range(8)]
    assert -0.1 < min(cosines) < 0.3 and max(cosines) < 0.5
    weights = item_weights(9)
    assert len(pool([rows], items_at(np.arange(9)), weights)) > 1
    assert len(pool([rows], items_at(np.arange(9)), weights, link_cosine=-0.1)) == 1
    pooled = pool([rows], items_at(np.arange(9), x=np.repeat([0, 700, 300], 3)), weights, link_cosine=-0.1)
    assert pooled.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_pool_items_in_another_order_gives_the_same_bytes(rng):
    rows, items, _ = two_people(rng)
    first = pool([rows], items, item_weights(len(rows), items))
    for _ in range(5):
        order = rng.permutation(len(rows))
        again = pool([rows[order]], items[order], item_weights(len(rows), items[order]))
        assert again.vectors.tobytes() == first.vectors.tobytes()
        assert again.weights.tobytes() == first.weights.tobytes()


def test_pool_without_items_is_one_track_of_equal_weights(rng):
    rows = rng.standard_normal((7, 6)).astype(np.float32)
    pooled = pool([rows], None, item_weights(7))
    np.testing.assert_allclose(pooled.vectors, [naive_pool([rows], [1.0] * 7, range(7))], atol=1e-6)


def test_pool_track_without_weight_takes_its_items_alike(rng):
    rows = rng.standard_normal((3, 6)).astype(np.float32)
    pooled = pool([rows], None, np.zeros(3))
    expected = unit(sum(unit(row.astype(float)) for row in rows))
    np.testing.assert_allclose(pooled.vectors[0], expected, atol=1e-6)
    assert pooled.weights[0] == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_pool_embedding_that_is_not_finite_is_refused(wrong):
    rows = np.ones((2, 4), np.float32)
    rows[1, 2] = wrong
    with pytest.raises(ScoringError, match="NaN or infinite embedding"):
        pool([rows], None, item_weights(2))


def test_pool_embeddings_of_other_items_are_refused():
    with pytest.raises(ScoringError, match="embeddings of 3 items"):
        pool([np.ones((2, 4), np.float32)], None, item_weights(3))
    with pytest.raises(ScoringError, match="frames and boxes of 2 items"):
        pool([np.ones((2, 4), np.float32)], items_at([1]), item_weights(2))


def test_item_weights_are_score_times_what_is_not_black_or_those_given():
    items, quality = items_at([0, 1, 2], score=0.5), np.array([[40, 0], [20, 0.25], [5, 1]], np.float32)
    np.testing.assert_allclose(item_weights(3, items), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(item_weights(3, items, quality), [0.5, 0.375, 0])
    np.testing.assert_allclose(item_weights(3, items, quality, np.array([[3], [0], [2]], np.float32)), [3, 0, 2])


@pytest.mark.parametrize("given", [[[1], [-1]], [[1], [np.nan]], [[1]]])
def test_item_weights_negative_not_finite_or_too_few_are_refused(given):
    with pytest.raises(ScoringError, match="weights"):
        item_weights(2, given=np.array(given, np.float32))


def test_class_means_are_unit_means_by_person_in_the_order_of_the_c_locale(rng):
    vectors = rng.standard_normal((6, 8)).astype(np.float32)
    persons = ["b", "é", "b", "Z", "é", "b"]
    names, means = class_means(vectors, persons)
    assert names == ("Z", "b", "é")
    for name, mean in zip(names, means, strict=True):
        total = sum(vectors[i].astype(float) for i in range(6) if persons[i] == name)
        np.testing.assert_allclose(mean, unit(total), atol=1e-6)
    order = rng.permutation(6)
    assert class_means(vectors[order], [persons[i] for i in order])[1].tobytes() == means.tobytes()


def searchers(rng, dim=600, persons=50):
    """One of each kind; more numbers than a tile sums at once."""
    means = np.stack([unit(row) for row in rng.standard_normal((persons, dim))]).astype(np.float32)
    strangers = np.stack([unit(row) for row in rng.standard_normal((70, dim))]).astype(np.float32)
    names = [f"p{i:02d}" for i in range(persons)]
    plain, shifted = ClassMean(names, means), ShiftedClassMean(names, means, strangers)
    whitened = Whitened(shifted, Whitening(np.concatenate([means, strangers])))
    matrix = rng.standard_normal((dim // 2, persons + 1)).astype(np.float32)
    labels = ["nobody", *names]
    network = Identifier(labels, names, lambda rows: np.tanh(rows @ matrix), batch=16)
    network = SomeColumns(network, np.arange(dim // 2, dim))
    fusion = Fusion([(plain, Standard(0.1, 2.0)), (network, Standard(-1.0, 0.5))])
    return (
        means,
        strangers,
        matrix,
        {
            "plain": plain,
            "shifted": shifted,
            "whitened": whitened,
            "network": network,
            "fusion": fusion,
        },
    )


def test_scores_of_every_searcher_are_as_a_plain_loop_says(rng):
    means, strangers, matrix, kinds = searchers(rng)
    vectors = rng.standard_normal((9, means.shape[1])).astype(np.float32)
    found = {name: kind.scores(vectors) for name, kind in kinds.items()}
    for i, vector in enumerate(vectors.astype(float)):
        cosines = np.array([unit(vector) @ mean for mean in means.astype(float)])
        everybody = np.concatenate([means, strangers]).astype(float)
        near = sorted((unit(vector) @ one for one in everybody), reverse=True)[:10]
        outputs = np.tanh(vector[300:] @ matrix.astype(float))[1:]
        np.testing.assert_allclose(found["plain"][i], cosines, atol=1e-6)
        np.testing.assert_allclose(found["shifted"][i], cosines - sum(near) / 20, atol=1e-6)
        np.testing.assert_allclose(found["network"][i], outputs, atol=1e-5)
        np.testing.assert_allclose(found["fusion"][i], ((cosines - 0.1) / 2 + (outputs + 1) / 0.5) / 2, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "shifted", "whitened"])
def test_scores_of_a_vector_among_others_are_its_scores_alone(rng, kind):
    means, _, _, kinds = searchers(rng)
    vectors = rng.standard_normal((1200, means.shape[1])).astype(np.float32)
    together = kinds[kind].scores(vectors)
    for i in (0, 11, 527, 528, 1199):
        assert kinds[kind].scores(vectors[i : i + 1]).tobytes() == together[i].tobytes()


def test_shift_strangers_in_another_order_give_the_same_bytes(rng):
    means, strangers, _, kinds = searchers(rng)
    vectors = rng.standard_normal((5, means.shape[1])).astype(np.float32)
    other = ShiftedClassMean(kinds["plain"].models, means, strangers[::-1])
    assert other.scores(vectors).tobytes() == kinds["shifted"].scores(vectors).tobytes()


def test_shift_without_strangers_takes_the_nearest_persons(rng):
    means = np.eye(3, 4, dtype=np.float32)
    found = ShiftedClassMean(["a", "b", "c"], means, np.zeros((0, 4), np.float32)).scores(np.ones((1, 4), np.float32))
    np.testing.assert_allclose(found, 0.25, atol=1e-6)


def test_products_on_a_machine_without_tiles_are_the_same_to_float32(rng, monkeypatch):
    left, right = rng.standard_normal((2, 30, 64)).astype(np.float32)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    left = length_normalise(left)
    tiled = Products(right.T * 5)(left)
    monkeypatch.setattr("vidperson.backends.identification.tiling", lambda dim: None)
    exact = Products(right.T * 5)(left)
    np.testing.assert_allclose(tiled, exact, atol=5e-6)
    assert Products(right.T * 5)(left[3:4]).tobytes() == exact[3].tobytes()


def test_identifier_person_that_it_does_not_know_is_named():
    with pytest.raises(ScoringError, match="1 of 2 searched persons are not among its labels: carol"):
        Identifier(["alice", "bob"], ["bob", "carol"], lambda rows: rows)


@pytest.mark.parametrize(
    ("run", "message"),
    [(lambda rows: rows[:, :1], "expected .* scores of the network"), (lambda rows: rows * np.nan, "NaN or infinite")],
)
def test_identifier_outputs_that_are_no_scores_are_refused(run, message):
    network = Identifier(["a", "b"], ["a", "b"], run, batch=4)
    with pytest.raises(ScoringError, match=message):
        network.scores(np.ones((3, 2), np.float32))


def naive_whitening(vectors):
    """x -> unit((x - mean) L), L L' the inverse of the shrunk covariance."""
    rows = np.asarray(vectors, dtype=float)
    covariance = np.cov(rows.T, bias=True)
    shrunk = 0.7 * covariance + 0.3 * np.diag(covariance).mean() * np.eye(rows.shape[1])
    values, directions = np.linalg.eigh(shrunk)
    origin = rows.mean(axis=0)
    # Another factor of the same inverse: angles are the same.
    return lambda x: unit((x - origin) @ directions / np.sqrt(values))


@pytest.mark.parametrize("count", [5, 400])
def test_whitening_gives_the_angles_of_a_plain_loop_with_fewer_vectors_than_numbers_too(rng, count):
    mixing = rng.standard_normal((24, 24))
    vectors = np.stack([unit(row @ mixing + 3) for row in rng.standard_normal((count, 24))]).astype(np.float32)
    found = Whitening(vectors).apply(vectors[:40])
    naive = naive_whitening(vectors)
    expected = np.stack([naive(row.astype(float)) for row in vectors[:40]])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-5)


def test_whitening_vectors_in_another_order_give_the_same_bytes(rng):
    vectors = rng.standard_normal((60, 12)).astype(np.float32)
    first = Whitening(vectors).apply(vectors)
    again = Whitening(vectors[rng.permutation(60)]).apply(vectors)
    assert again.tobytes() == first.tobytes()


def test_whitening_by_some_of_the_vectors_is_that_of_them_alone(rng):
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    some = rng.permutation(60)[:20]
    found, expected = Whitening(vectors, some), Whitening(vectors[some])
    assert np.array_equal(found.origin, expected.origin) and np.array_equal(found.matrix, expected.matrix)


def test_whitening_of_vectors_that_are_all_the_same_is_refused():
    with pytest.raises(ScoringError, match="segments that differ, found 3 that do not"):
        Whitening(np.ones((3, 4), np.float32))


def test_measure_takes_the_scores_for_persons_that_segments_do_not_show(rng):
    means, _, _, kinds = searchers(rng)
    vectors = rng.standard_normal((40, means.shape[1])).astype(np.float32)
    persons = [f"p{i:02d}" for i in range(39)] + ["somebody else"]
    scores = kinds["plain"].scores(vectors).astype(float)
    wrong = [scores[i, j] for i in range(40) for j in range(50) if persons[i] != f"p{j:02d}"]
    found = measure(kinds["plain"], vectors, persons)
    assert found.mean == pytest.approx(np.mean(wrong)) and found.deviation == pytest.approx(np.std(wrong))


def test_measure_without_other_persons_is_refused():
    alone = ClassMean(["a"], np.ones((1, 4), np.float32) / 2)
    with pytest.raises(ScoringError, match="other persons"):
        measure(alone, np.ones((2, 4), np.float32), ["a", "a"])


def test_columns_of_embedders_follow_the_order_that_is_asked_for():
    assert columns_of({"x": 2, "y": 3}, ["y", "x"]).tolist() == [2, 3, 4, 0, 1]
    with pytest.raises(KeyError):
        columns_of({"x": 2}, ["z"])


def test_vectors_as_they_are_compared_have_the_scores_as_cosines_with_the_person(rng):
    """Of a person with one segment, of whom there is but that vector."""
    rows, other = rng.standard_normal((6, 8)).astype(np.float32), rng.standard_normal((5, 8)).astype(np.float32)
    whitening = Whitening(np.concatenate([rows[:1], other]))
    for plain, moved in ((rows, None), (whitening.apply(rows), whitening)):
        searcher = ClassMean(["p"], class_means(plain[:1], ["p"])[1])
        searcher = SomeColumns(Whitened(searcher, moved) if moved else searcher, np.arange(1, 9))
        wide = np.concatenate([np.zeros((6, 1), np.float32), rows], axis=1)
        compared = as_compared(searcher, wide)
        np.testing.assert_allclose(compared @ compared[0], searcher.scores(wide)[:, 0], atol=1e-6)
    assert as_compared(Fusion([(searcher, Standard(0, 1))]), wide) is None


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_largest_face_of_a_portrait_is_taken_though_a_bystander_has_a_longer_embedding(order):
    rows = np.array([[3, 0, 0], [0, 1, 0], [0, 0, 2]], np.float32)[order]  # a bystander, the person, another one
    items = np.zeros((3, 17), np.float32)
    items[:, 2:6] = np.array([[0, 0, 20, 20], [100, 0, 160, 70], [300, 0, 330, 30]], np.float32)[order]
    items[:, 6] = 0.95
    pooled = pool([rows], items, item_weights(3, items))
    assert np.argmax(pooled.vectors[pooled.main]) == 0 and np.argmax(pooled.vectors[pooled.largest]) == 1
    whole = pool([rows], None, item_weights(3))
    assert whole.largest == whole.main == 0
    assert pool([rows[:0]], items[:0], item_weights(0)).largest is None


def test_pooled_of_several_equal_tracks_the_first_is_the_main_one():
    assert Pooled(np.zeros((2, 1), np.float32), np.array([1.0, 1.0]), np.array([0, 1])).main == 0


def test_pool_of_a_film_with_many_tracks_needs_memory_for_its_faces_only():
    """As much for each face, however many tracks there are: 3000 faces, every two of them a track."""
    count = 3000
    rows = np.repeat(np.random.default_rng(3).standard_normal((count // 2, 16)), 2, axis=0).astype(np.float32)
    items = np.zeros((count, 17), np.float32)
    items[:, 0], items[:, 1] = np.arange(count), np.arange(count) / 2
    items[:, 2:6], items[:, 6] = np.array([0, 0, 100, 100]) + 500 * (np.arange(count) // 2 % 9)[:, None], 1
    tracemalloc.start()
    found = pool([rows], items, np.ones(count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == count // 2
    assert peak < 3000 * count  # bytes; a number for each face and track would take 36 MB
