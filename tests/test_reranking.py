"""Re-ranking against plain loops over full matrices, written from the papers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vidperson.backends.exact import length_normalise
from vidperson.backends.reranking import expanded_cross_neighbourhood, k_reciprocal
from vidperson.errors import ScoringError


def persons(count, dim=64, per_person=12, spread=1.4, seed=0):
    """(count, dim) float32 vectors of length 1 of persons whose neighbourhoods overlap."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(count // per_person, 1), dim))
    rows = centres[rng.integers(len(centres), size=count)] + spread * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def all_distances(queries, gallery):
    points = np.concatenate([queries, queries[:0] if gallery is None else gallery]).astype(np.float64)
    return np.stack([((points - point) ** 2).sum(axis=1) for point in points])


def naive_k_reciprocal(queries, gallery, k1, k2, weight):
    """Zhong et al., CVPR 2017, section 3; each row in units of its maximum, as in the authors' program."""
    distance = all_distances(queries, gallery)
    total, first = len(distance), 0 if gallery is None else len(queries)
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable").tolist()

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    halves = [reciprocal(i, int(np.around(k1 / 2))) for i in range(total)]
    encoding = np.zeros((total, total))
    for i in range(total):
        own = reciprocal(i, k1)
        members = set(own)
        for j in own:
            if len(halves[j] & own) > 2 / 3 * len(halves[j]):
                members |= halves[j]
        members = sorted(members)
        encoding[i, members] = np.exp(-distance[i, members])
        encoding[i] /= encoding[i].sum() or 1.0
    encoding = np.stack([encoding[order[i][:k2]].mean(axis=0) for i in range(total)])
    result = np.empty((len(queries), total - first))
    for i in range(len(queries)):
        shared, all_of_both = (choose(encoding[i], encoding[first:]).sum(axis=1) for choose in (np.minimum, np.maximum))
        with np.errstate(invalid="ignore"):
            jaccard = 1 - np.where(shared > 0, shared / all_of_both, 0.0)
        result[i] = (1 - weight) * jaccard + weight * distance[i, first:]
    return result


def naive_ecn(queries, gallery, k, t, q):
    """Sarfraz et al., CVPR 2018, equations 2 to 4; rows of similarities scaled as in the authors' program."""
    order = np.argsort(all_distances(queries, gallery), axis=1, kind="stable")
    total, first = len(order), 0 if gallery is None else len(queries)
    credit = np.zeros((total, total))
    for i in range(total):
        for rank, j in enumerate(order[i], 1):
            credit[i, j] = max(k + 1 - rank, 0)
    similar = credit @ credit.T
    least, most = similar.min(axis=1, keepdims=True), similar.max(axis=1, keepdims=True)
    distance = 1 - (similar - least) / (most - least)
    around = []
    for i in range(total):
        inner = order[i, 1 : t + 1].tolist()
        around.append(inner + [n for j in inner for n in order[j, 1 : q + 1].tolist()])
    return np.array(
        [[distance[around[p] + around[g], [g] * len(around[p]) + [p] * len(around[g])].mean()
          for g in range(first, total)] for p in range(len(queries))]
    )  # fmt: skip


METHODS = pytest.mark.parametrize("method", [k_reciprocal, expanded_cross_neighbourhood])


@pytest.mark.parametrize(
    ("count", "spread", "k1", "k2", "weight"),
    [(500, 1.4, 20, 6, 0.3), (500, 0.4, 20, 6, 0.3), (400, 3.0, 55, 8, 0.2), (150, 1.4, 5, 1, 0.0), (150, 1, 3, 2, 0.5),
     (120, 1.4, 1, 1, 0.3), (120, 1.4, 7, 300, 0.3), (90, 1.4, 200, 6, 0.3)],
)  # fmt: skip
def test_k_reciprocal_equals_the_definition_over_full_matrices(count, spread, k1, k2, weight) -> None:
    rows = persons(count, spread=spread)
    expected = naive_k_reciprocal(rows[:40], rows[40:], k1, k2, weight)
    found = k_reciprocal(rows[:40], rows[40:], k1, k2, weight)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_k_reciprocal_of_vectors_of_other_lengths_equals_the_definition_on_squared_euclidean_distances() -> None:
    rows = persons(200) * np.random.default_rng(1).uniform(0.1, 50, (200, 1)).astype(np.float32)
    expected = naive_k_reciprocal(rows[:20], rows[20:], 20, 6, 0.3)
    assert np.abs(k_reciprocal(rows[:20], rows[20:]) - expected).max() < 1e-6


def test_k_reciprocal_of_a_movie_takes_less_than_the_budget() -> None:
    rows = persons(1500, dim=512, per_person=40)
    spent = []
    for _ in range(3):
        begin = time.process_time()
        k_reciprocal(rows[:10], rows[10:])
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.3


@pytest.mark.parametrize(("count", "k", "t", "q"), [(400, 25, 3, 8), (60, 25, 3, 8), (60, 5, 10, 2), (30, 100, 3, 50)])
def test_ecn_equals_the_definition_over_full_matrices(count, k, t, q) -> None:
    rows = persons(count)
    expected = naive_ecn(rows[:20], rows[20:], k, t, q)
    assert np.abs(expanded_cross_neighbourhood(rows[:20], rows[20:], k, t, q) - expected).max() < 1e-6


def test_without_a_gallery_the_queries_rank_one_another_and_none_is_there_twice() -> None:
    rows = persons(150)
    expected = naive_k_reciprocal(rows, None, 20, 6, 0.3)
    assert expected.shape == (150, 150)
    assert np.abs(k_reciprocal(rows, None) - expected).max() < 1e-6
    expected = naive_ecn(rows[:60], None, 25, 3, 8)
    assert np.abs(expanded_cross_neighbourhood(rows[:60], None) - expected).max() < 1e-6
    assert k_reciprocal(rows[:0], None).shape == (0, 0)


@METHODS
def test_bits_do_not_depend_on_blocks(method) -> None:
    rows = persons(300)
    expected = method(rows[:30], rows[30:])
    for max_bytes in (1, 8 * 300 * 7, 8 * 300 * 100):
        assert method(rows[:30], rows[30:], max_bytes=max_bytes).tobytes() == expected.tobytes()


@METHODS
def test_bits_do_not_depend_on_the_order_of_gallery_and_queries(method) -> None:
    rows = persons(700)
    queries, gallery = rows[:30], rows[30:]
    rng = np.random.default_rng(3)
    rearranged, order = rng.permutation(30), rng.permutation(670)
    found = method(queries[rearranged], gallery[order])
    assert found.tobytes() == method(queries, gallery)[np.ix_(rearranged, order)].tobytes()


@METHODS
def test_neighbours_side_by_side_among_many_are_all_found(method) -> None:
    """Images of a person come in a row, as in a film; the search by groups must not lose any of them."""
    rows = np.concatenate([persons(40, per_person=40, spread=0.3, seed=s) for s in range(50)])
    order = np.random.default_rng(0).permutation(2000)
    assert (method(rows[:1], rows)[:, order] == method(rows[:1], rows[order])).all()
    assert set(np.argsort(k_reciprocal(rows[:1], rows)[0])[:40].tolist()) == set(range(40))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_equal_distances_are_taken_in_the_order_of_the_vectors(weight) -> None:
    """Points of a small lattice: nearly all distances are equal to some others, and many points coincide."""
    rows = np.random.default_rng(0).integers(0, 3, (260, 3)).astype(np.float32)
    expected = naive_k_reciprocal(rows[:20], rows[20:], 20, 6, weight)
    assert np.abs(k_reciprocal(rows[:20], rows[20:], weight=weight) - expected).max() < 1e-6
    expected = naive_ecn(rows[:20], rows[20:], 25, 3, 8)
    assert np.abs(expanded_cross_neighbourhood(rows[:20], rows[20:]) - expected).max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 5, 19])
def test_few_candidates_are_ranked_as_the_definition_says(count) -> None:
    rows = persons(count + 1, per_person=3)
    expected = naive_k_reciprocal(rows[:1], rows[1:], 20, 6, 0.3)
    assert np.abs(k_reciprocal(rows[:1], rows[1:]) - expected).max() < 1e-6
    expected = naive_ecn(rows[:1], rows[1:], 25, 3, 8)
    assert np.abs(expanded_cross_neighbourhood(rows[:1], rows[1:]) - expected).max() < 1e-6


@METHODS
def test_no_candidates_or_no_queries_give_an_empty_result(method) -> None:
    rows = persons(5)
    assert method(rows, rows[:0]).shape == (5, 0)
    assert method(rows[:0], rows).shape == (0, 5)
    assert np.isfinite(method(rows[:1], None)).all()


@METHODS
@pytest.mark.parametrize("rows", [np.zeros((60, 4), np.float32), np.ones((60, 4), np.float32)])
def test_vectors_that_are_all_the_same_give_finite_distances(method, rows) -> None:
    found = method(rows[:5], rows[5:])
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


@METHODS
def test_embeddings_are_left_as_they_are_and_float64_is_taken_too(method) -> None:
    rows = persons(100)
    before = rows.tobytes()
    found = method(rows[:10], rows[10:])
    assert rows.tobytes() == before
    assert np.abs(method(length_normalise(rows[:10]), length_normalise(rows[10:])) - found).max() < 1e-5


@METHODS
@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "queries have 3 numbers, gallery has 4"),
        (np.zeros(3), np.zeros((2, 3)), r"queries: expected an array of the shape \(N, dim\), found \(3,\)"),
        (np.zeros((2, 3)), np.full((2, 3), np.nan), "gallery: expected finite embeddings"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(method, queries, gallery, message) -> None:
    with pytest.raises(ScoringError, match=message):
        method(queries, gallery)


def test_settings_out_of_range_are_refused() -> None:
    rows = persons(5)
    for settings in ({"k1": 0}, {"k2": 0}, {"weight": 1.5}, {"weight": -0.1}):
        with pytest.raises(ScoringError, match="k1 and k2 must be >= 1, weight 0..1"):
            k_reciprocal(rows, rows, **settings)
    for settings in ({"k": 0}, {"t": 0}, {"q": 0}):
        with pytest.raises(ScoringError, match="k, t and q must be >= 1"):
            expanded_cross_neighbourhood(rows, rows, **settings)
