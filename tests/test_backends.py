"""Set-to-set scoring against a plain double loop."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidperson.backends import EmbeddingSets, get_backend, replace_missing_reference, score_pairs, tiles
from vidperson.backends import trials as trials_module
from vidperson.backends.exact import length_normalise
from vidperson.backends.scorers import Cosine, row_lengths
from vidperson.backends.sets import row_blocks
from vidperson.errors import ScoringError


def make_sets(arrays, prefix="s"):
    return EmbeddingSets.from_items((f"{prefix}{i}", array) for i, array in enumerate(arrays))


def random_arrays(rng, counts, dim):
    return [rng.standard_normal((n, dim)).astype(np.float32) * rng.uniform(0.1, 30) for n in counts]


def all_pairs(num_models, num_videos):
    return np.array([(m, v) for m in range(num_models) for v in range(num_videos)], dtype=np.int64).reshape(-1, 2)


def max_cosine(enrolment, test, trials, block_rows=None):
    rows = (block_rows, block_rows) if isinstance(block_rows, int) else block_rows
    return score_pairs(Cosine(enrolment, test), trials, block_rows=rows)


def naive_max_cosine(enrolment, test, trials):
    """Pair by pair, face by face; no face on one side: 0."""
    scores = []
    for m, v in trials:
        best = None
        for a in enrolment[m].astype(np.float64):
            for b in test[v].astype(np.float64):
                norms = np.sqrt(a @ a) * np.sqrt(b @ b)
                cosine = a @ b / norms if norms > 0 else 0.0
                best = cosine if best is None or cosine > best else best
        scores.append(0.0 if best is None else best)
    return np.array(scores)


counts = st.lists(st.integers(0, 6), min_size=1, max_size=7)


@settings(max_examples=150, deadline=None)
@given(counts, counts, st.integers(1, 9), st.integers(1, 25), st.integers(0, 2**32 - 1), st.data())
def test_max_cosine_ragged_sets_any_block_size_equals_double_loop(left, right, dim, block_size, seed, data):
    rng = np.random.default_rng(seed)
    enrolment, test = random_arrays(rng, left, dim), random_arrays(rng, right, dim)
    for arrays in (enrolment, test):
        if len(arrays[0]):
            arrays[0][0] = 0
    pairs = all_pairs(len(left), len(right))
    chosen = data.draw(st.lists(st.integers(0, len(pairs) - 1), unique=True))
    trials = pairs[chosen]
    scores = max_cosine(make_sets(enrolment), make_sets(test), trials, block_size)
    assert scores.shape == (len(trials),) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, naive_max_cosine(enrolment, test, trials), atol=2e-7)


def test_max_cosine_different_block_sizes_trial_subsets_and_orders_scores_identical():
    rng = np.random.default_rng(1)
    enrolment = make_sets(random_arrays(rng, rng.integers(0, 40, 30), 512))
    test = make_sets(random_arrays(rng, rng.integers(0, 60, 50), 512))
    trials = all_pairs(30, 50)
    expected = max_cosine(enrolment, test, trials)
    for block_size in (1, 7, 64, 333, 10**6):
        order = rng.permutation(len(trials))[: 5 if block_size == 1 else len(trials) // 3]
        scores = max_cosine(enrolment, test, trials[order], block_size)
        assert scores.tobytes() == expected[order].tobytes(), block_size


def fused_by_fractions(x, y):
    """The product by the definition in ``tiles``, each sum rounded once from exact numbers."""
    total = None
    for begin in (*range(0, len(x) - 511, 512), *range(len(x) // 512 * 512, len(x), 256)):
        whole = begin + 512 <= len(x) and begin % 512 == 0
        parts = []
        for first in (begin, begin + 256) if whole else (begin,):
            part = np.float32(0)
            for a, b in zip(x[first : first + 256].tolist(), y[first : first + 256].tolist(), strict=True):
                part = nearest_float32(Fraction(a) * Fraction(b) + Fraction(float(part)))
            parts.append(part)
        piece = parts[0] + parts[1] if whole else parts[0]
        total = piece if total is None else total + piece
    return total


def nearest_float32(value):
    """Correctly rounded: of the neighbours of a first guess the nearest, of two the even one."""
    guess = np.float32(float(value))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda x: (abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1))


@pytest.mark.parametrize("dim", [1, 3, 256, 300, 512, 700, 1100])
def test_chains_equal_sums_of_exact_fractions_rounded_at_each_step(dim):
    rng = np.random.default_rng(dim)
    left, right = (rng.standard_normal((2, dim)).astype(np.float32) for _ in range(2))
    found = tiles.chains(left, right)
    assert found.tolist() == [[fused_by_fractions(x, y) for y in right] for x in left]


def test_tiles_that_do_not_give_the_same_bits_at_each_place_are_not_used(monkeypatch):
    multiply = tiles._multiply

    def edges_apart(left, right, out, more):
        found = multiply(left, right, out, more)
        found[:, -1] = np.nextafter(found[:, -1], np.float32(2))
        return found

    monkeypatch.setattr(tiles, "_multiply", edges_apart)
    tiles.tiling.cache_clear()
    shapes = tiles.tiling(40)
    tiles.tiling.cache_clear()
    assert shapes is None or shapes.guard  # the last column is one that does not count


def test_max_cosine_without_tiles_is_the_exact_one_and_within_rounding_of_the_other(monkeypatch):
    rng = np.random.default_rng(2)
    sides = [make_sets(random_arrays(rng, rng.integers(1, 9, 20), 512)) for _ in range(2)]
    found = max_cosine(*sides, all_pairs(20, 20))
    monkeypatch.setattr(trials_module, "tiling", lambda dim: None)
    exact = max_cosine(*sides, all_pairs(20, 20))
    units = [length_normalise(side.embeddings) for side in sides]
    products = units[0] @ units[1].T
    expected = np.maximum.reduceat(np.maximum.reduceat(products, sides[1].offsets[:-1], axis=1), sides[0].offsets[:-1])
    np.testing.assert_array_equal(exact, expected.astype(np.float32).ravel())
    np.testing.assert_allclose(found, exact, atol=5e-7)


needs_tiles = pytest.mark.skipif(tiles.tiling(64) is None, reason="this BLAS library has no products in fixed tiles")


@needs_tiles
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 300, 512]))
def test_max_cosine_any_blocks_parts_and_density_gives_the_chains_to_the_bit(seed, dim):
    """The largest chain of the unit vectors, whatever else is compared beside it, and how."""
    rng = np.random.default_rng(seed)
    largest = rng.choice([1, 2, 6, 60], 2)
    sides = [make_sets(random_arrays(rng, rng.integers(0, most + 1, rng.integers(1, 30)), dim)) for most in largest]
    pairs = all_pairs(len(sides[0]), len(sides[1]))
    pairs = rng.permutation(pairs)[: max(1, int(len(pairs) * rng.choice([0.02, 0.3, 1])))]
    expected = max_cosine(*sides, pairs)
    for _ in range(2):
        blocks = tuple(rng.integers(1, 200, 2).tolist())
        chosen = rng.permutation(len(pairs))[: rng.integers(1, len(pairs) + 1)]
        assert max_cosine(*sides, pairs[chosen], blocks).tobytes() == expected[chosen].tobytes()
    faces = [side[i] for side, i in zip(sides, pairs[0], strict=True)]
    units = [(rows * (1 / row_lengths(rows))[:, None]).astype(np.float32) for rows in faces]
    if min(map(len, units)):
        assert np.clip(tiles.chains(*units).max() + 0.0, -1, 1) == expected[0]


@needs_tiles
@pytest.mark.parametrize("core", ["Haswell", "Zen", "SkylakeX"])
def test_max_cosine_kernels_of_other_processors_give_the_same_bytes(core):
    """Where NumPy has OpenBLAS, which obeys the variable; other libraries give the bytes of this process anyway."""
    if "avx512f" not in Path("/proc/cpuinfo").read_text() if core == "SkylakeX" else not Path("/proc/cpuinfo").exists():
        pytest.skip("this processor cannot run them")
    found = [
        subprocess.run([sys.executable, "-c", SCORES], check=True, capture_output=True, env=os.environ | more).stdout
        for more in ({}, {"OPENBLAS_CORETYPE": core, "OMP_NUM_THREADS": "1"})
    ]
    assert found[0] == found[1] and len(found[0]) == 32 * 40 * 4


SCORES = """
import sys
import numpy as np
from vidperson.backends import EmbeddingSets, score_pairs
from vidperson.backends.scorers import Cosine
rng = np.random.default_rng(0)
sides = [EmbeddingSets.from_items((str(i), rng.standard_normal((1 + i % 20, 512))) for i in range(n)) for n in (32, 40)]
scores = score_pairs(Cosine(*sides), np.stack(np.divmod(np.arange(32 * 40), 40), axis=1))
sys.stdout.buffer.write(scores.tobytes())
"""


def test_max_cosine_swapped_sides_scores_identical():
    rng = np.random.default_rng(2)
    left, right = make_sets(random_arrays(rng, [3, 0, 5], 128)), make_sets(random_arrays(rng, [2, 9], 128))
    trials = all_pairs(3, 2)
    np.testing.assert_array_equal(max_cosine(left, right, trials), max_cosine(right, left, trials[:, ::-1]))


def test_max_cosine_same_direction_any_length_scores_one_at_most():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((200, 64)).astype(np.float32)
    one = EmbeddingSets.from_items((f"m{i}", rows[i : i + 1]) for i in range(200))
    scaled = EmbeddingSets.from_items(
        (f"v{i}", rows[i : i + 1] * np.float32(10.0 ** rng.uniform(-18, 18))) for i in range(200)
    )
    scores = max_cosine(one, scaled, np.stack([np.arange(200)] * 2, axis=1))
    assert scores.max() <= 1
    np.testing.assert_allclose(scores, 1, atol=3e-7)


@pytest.mark.parametrize(("left", "right"), [((0, 0), (2, 8)), ((2, 8), (0, 0)), ((0, 0), (0, 8))])
def test_max_cosine_side_without_any_embedding_scores_zero(left, right):
    scores = max_cosine(make_sets([np.ones(left)]), make_sets([np.ones(right)]), all_pairs(1, 1))
    assert scores.tolist() == [0]


def test_max_cosine_all_cosines_negative_keeps_the_largest_and_empty_neighbour_scores_zero():
    enrolment = make_sets([np.array([[1, 0]]), np.zeros((0, 2)), np.array([[0, 2]])])
    test = make_sets([np.zeros((0, 2)), np.array([[-1, 0], [-3, -4]]), np.zeros((0, 2))])
    scores = max_cosine(enrolment, test, all_pairs(3, 3)).reshape(3, 3)
    np.testing.assert_allclose(scores, [[0, -0.6, 0], [0, 0, 0], [0, 0, 0]], atol=1e-7)


def test_max_cosine_no_trials_returns_no_scores():
    assert max_cosine(make_sets([np.ones((1, 2))]), make_sets([np.ones((1, 2))]), all_pairs(0, 0)).shape == (0,)


def test_max_cosine_different_embedding_sizes_raises_with_both_sizes():
    with pytest.raises(ScoringError, match=r"128.*512"):
        max_cosine(make_sets([np.ones((1, 128))]), make_sets([np.ones((1, 512))]), all_pairs(1, 1))


def test_length_normalise_inner_products_are_exact_in_any_order_of_summing():
    rng = np.random.default_rng(6)
    rows = length_normalise(rng.standard_normal((40, 512)).astype(np.float32))
    products = rows @ rows.T
    exact = [[math.fsum(a * b) for b in rows] for a in rows]
    order = rng.permutation(512)
    assert products.tolist() == exact
    assert (rows[:, order] @ rows[:, order].T).tolist() == exact


def test_max_cosine_zero_vector_against_negative_numbers_scores_zero_without_sign():
    scores = max_cosine(make_sets([np.zeros((1, 3))]), make_sets([-np.ones((1, 3))]), all_pairs(1, 1))
    assert str(scores[0]) == "0.0"


def test_length_normalise_zero_vector_stays_zero_and_others_have_length_one():
    rows = length_normalise(np.array([[0, 0, 0], [3, 0, 4], [1e-30, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0, 0, 0], [0.6, 0, 0.8], [1, 0, 0]], atol=1e-8)


@settings(deadline=None)
@given(counts, st.integers(1, 12), st.randoms(use_true_random=False))
def test_row_blocks_any_size_give_back_every_row_once_in_order(sizes, block_size, random):
    offsets = np.cumsum([0, *sizes])
    asked = list(range(len(sizes)))
    random.shuffle(asked)
    rows: dict[int, list[int]] = {i: [] for i in asked}
    for block in row_blocks(offsets, np.array(asked, dtype=np.int64), block_size):
        assert 0 < len(block.rows) <= block_size
        for position, start, end in zip(block.sets.tolist(), block.starts, block.ends, strict=True):
            assert start < end
            rows[position] += block.rows[start:end].tolist()
    assert rows == {i: list(range(offsets[i], offsets[i + 1])) for i in range(len(sizes))}


def test_union_model_of_several_segments_holds_all_faces_and_may_share_them():
    rng = np.random.default_rng(4)
    sets = make_sets(random_arrays(rng, [2, 0, 3], 4))
    models = sets.union({"a": ["s2", "s0"], "b": ["s1"], "c": ["s0", "s1"]})
    assert models.keys == ("a", "b", "c") and models.counts.tolist() == [5, 0, 2]
    np.testing.assert_array_equal(models[0], np.concatenate([sets[2], sets[0]]))
    np.testing.assert_array_equal(models[2], sets[0])
    assert models.empty_keys() == ["b"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sets_embedding_not_finite_raises_naming_the_segment(bad):
    rows = np.ones((2, 3))
    rows[1, 2] = bad
    items = [
        ("good", np.ones((2, 3))),
        ("empty", np.zeros((0, 0))),
        ("broken-7", rows),
        ("later", np.ones((1, 3))),
    ]
    with pytest.raises(ScoringError, match=r"'broken-7'.*1 of 5"):
        EmbeddingSets.from_items(items)


def test_sets_infinities_of_both_signs_in_one_row_raises():
    with pytest.raises(ScoringError, match="'x'"):
        EmbeddingSets.from_items([("x", np.array([[np.inf, -np.inf]]))])


def test_sets_segments_of_different_size_raises_naming_the_segment():
    with pytest.raises(ScoringError, match="'b': embeddings have 3 numbers, those before it 2"):
        EmbeddingSets.from_items([("a", np.ones((1, 2))), ("b", np.ones((1, 3)))])


@pytest.mark.parametrize("offsets", [[0, 2], [0, 1, 3], [1, 1, 2], [0, 3, 2]])
def test_sets_offsets_that_do_not_fit_raise(offsets):
    with pytest.raises(ValueError, match="offsets"):
        EmbeddingSets(("a", "b"), np.ones((2, 2), np.float32), np.array(offsets))


def test_sets_joined_from_many_arrays_take_the_memory_of_all_of_them_once():
    tracemalloc.start()
    sets = EmbeddingSets.from_items((str(i), np.full((100, 64), i)) for i in range(200))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sets.embeddings.nbytes == 200 * 100 * 64 * 4 and peak < 1.25 * sets.embeddings.nbytes
    assert sets[199].min() == 199 == sets.embeddings.max()


def test_sets_name_given_twice_raises():
    with pytest.raises(ValueError, match="unique"):
        EmbeddingSets.from_items([("a", np.ones((1, 2)))] * 2)


def test_replace_missing_reference_takes_mean_of_detected_faces_only_where_none_is_left():
    reference = EmbeddingSets.from_items(
        [
            ("kept", np.array([[1.0, 2.0]])),
            ("filled", np.zeros((0, 2))),
            ("lost", np.zeros((0, 0))),
            ("unknown", np.zeros((0, 0))),
        ]
    )
    detected = {
        "kept": np.array([[9.0, 9.0]], np.float32),
        "filled": np.array([[2.0, 0.0], [4.0, 8.0]], np.float32),
        "lost": np.zeros((0, 0), np.float32),
    }
    completed, replaced, absent = replace_missing_reference(reference, detected)
    assert completed.keys == reference.keys and completed.counts.tolist() == [1, 1, 0, 0]
    assert completed[0].tolist() == [[1, 2]] and completed[1].tolist() == [[3, 4]]
    assert replaced == ["filled"] and absent == ["lost", "unknown"]


def test_replace_missing_reference_nothing_missing_returns_the_same_sets():
    reference = make_sets([np.ones((1, 2))])
    assert replace_missing_reference(reference, {}) == (reference, [], [])


@pytest.mark.parametrize("name", ["mix", "", "v10", "v0"])
def test_get_backend_unknown_name_raises_with_the_valid_names_and_aliases(name):
    with pytest.raises(ScoringError, match=rf"'{name}'; valid: max \(v1\) mean \(v2\).* selfatt \(v9\).* track"):
        get_backend(name)


def test_get_backend_alias_is_the_same_as_the_name():
    names = ["max", "mean", "median", "ahc-test", "ahc", "selfatt-test", "xatt", "selfatt-all", "selfatt"]
    assert [get_backend(f"v{i}") for i in range(1, 10)] == [get_backend(name) for name in names]


@pytest.mark.parametrize("package", ["vidperson.backends", "vidperson.metrics"])
def test_import_without_engines_and_opencv_works(package):
    absent = ["cv2", "av", "torch", "onnxruntime", "openvino", "matplotlib", "scipy", "kaldiio", "PIL"]
    code = f"import sys\nfor name in {absent}: sys.modules[name] = None\nimport {package}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_score_pairs_list_that_is_almost_a_grid_gets_the_scores_of_its_own_pairs():
    """The last of three videos named twice for the second model, and never for the first."""
    rng = np.random.default_rng(0)
    sides = [make_sets(random_arrays(rng, [2] * 3, 8)) for _ in range(2)]
    table = max_cosine(*sides, all_pairs(3, 3)).reshape(3, 3)
    listed = np.array([[0, 0], [0, 1], [1, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]])
    assert max_cosine(*sides, listed).tolist() == table[listed[:, 0], listed[:, 1]].tolist()
