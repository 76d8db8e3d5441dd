"""Labels that spread and compete: on graphs small enough for a pencil, and against dense loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

from vidperson.backends.propagation import compete, competitive_consensus, exclude_frames, propagate
from vidperson.errors import ScoringError


def symmetric(count, pairs):
    links = np.zeros((count, count))
    for (i, j), weight in pairs.items():
        links[i, j] = links[j, i] = weight
    return links


def naive_softmax(values, temperature, nobody):
    powers = [math.exp((value - max([*values, nobody])) / temperature) for value in [*values, nobody]]
    return [power / math.fsum(powers) for power in powers][:-1]


def naive_consensus(portraits, links, frozen, steps, temperature, nobody):
    """Huang et al., ECCV 2018, section 4, over full matrices, one candidate and one label at a time."""
    cast, total = portraits.shape
    beliefs = np.zeros((total, cast))
    doubt = {}
    done: set[int] = set()
    for step in range(steps):
        for i in set(range(total)) - done:
            evidence = []
            for label in range(cast):
                told = [links[i, j] * beliefs[j, label] for j in done if beliefs[j, label] >= 0.001]
                evidence.append(max([portraits[label, i], 0.0, *told]) + min([0.0, *told]))
            beliefs[i] = naive_softmax(evidence, temperature, nobody)
            doubt.pop(i, None)
            if max(evidence) > 0:
                # Beliefs close to 1 are all the same to a computer; what they lack is not.
                others = [*evidence, nobody]
                others.remove(max(evidence))
                doubt[i] = math.fsum(math.exp((other - max(evidence)) / temperature) for other in others)
        share = frozen + step * (1 - frozen) / max(steps - 1, 1)
        count = total - int(total * (1 - share))
        ranked = sorted(doubt.values())[:count]
        done |= {i for i in doubt if ranked and doubt[i] <= ranked[-1]}
    return portraits + beliefs.T


def random_film(seed, cast=4, total=60, density=0.2):
    rng = np.random.default_rng(seed)
    links = symmetric(total, {})
    some = np.triu(rng.random((total, total)) < density, 1)
    links[some] = rng.uniform(-0.3, 1, some.sum())
    return (
        rng.uniform(-0.2, 0.9, (cast, total)) * (rng.random(total) < 0.5),
        links + links.T,
        rng.integers(30, size=total),
    )


def test_a_label_passes_along_a_chain_one_candidate_a_step() -> None:
    """Portrait 0 - candidate 0 - 1 - 2, and portrait 1 - candidate 3."""
    portraits = np.array([[0.9, 0, 0, 0], [0, 0, 0, 0.9]])
    links = symmetric(4, {(0, 1): 0.8, (1, 2): 0.7})
    one, two, three = (competitive_consensus(portraits, links, 0.5, steps) for steps in (1, 2, 3))
    sure = 1 / (1 + math.exp(-0.9 / 0.03))
    assert one[:, 0] == pytest.approx([0.9 + sure, 1 - sure], abs=1e-9)
    assert one[:, 1].tolist() == [0.5, 0.5]
    assert two[0, 1] == pytest.approx(1 / (1 + math.exp(-0.8 * sure / 0.03)), abs=1e-9)
    assert two[:, 2].tolist() == [0.5, 0.5]
    assert three[0, 2] > 0.999


def test_cast_members_compete_and_the_strongest_single_link_wins_over_many_weaker_ones() -> None:
    """Candidate 4 resembles three candidates of cast member 0 a little, and one of cast member 1 a lot."""
    portraits = np.array([[0.9, 0.9, 0.9, 0, 0], [0, 0, 0, 0.9, 0]])
    links = symmetric(5, {(0, 4): 0.5, (1, 4): 0.5, (2, 4): 0.5, (3, 4): 0.6})
    found = competitive_consensus(portraits, links, steps=3)
    assert found[1, 4] == pytest.approx(1 / (1 + math.exp(-0.1 / 0.03)), abs=1e-6)
    assert found[:, 4].sum() == pytest.approx(1)


def test_only_the_surest_pass_their_beliefs_on_at_first() -> None:
    """Candidate 1 is unsure at first (0.50 against 0.51); the link to sure candidate 0 corrects it before it speaks."""
    portraits = np.array([[0.9, 0.50, 0.0], [0.0, 0.51, 0.0]])
    links = symmetric(3, {(0, 1): 0.8, (1, 2): 0.9})
    progressive = competitive_consensus(portraits, links, frozen=0.3, steps=3)
    assert progressive[0, 2] > 0.99
    at_once = competitive_consensus(portraits, links, frozen=1.0, steps=3)
    assert at_once[0, 2] < 0.5


def test_persons_of_one_frame_object_to_the_label_of_the_other() -> None:
    """Candidates 0 and 1 are in one frame; both resemble portrait 0, and 1 slightly portrait 1, too."""
    portraits = np.array([[0.9, 0.6], [0.0, 0.5]])
    alike = symmetric(2, {(0, 1): 0.9})
    together = exclude_frames(alike, np.array([7, 7]))
    assert together.toarray().tolist() == [[0, -1], [-1, 0]]
    apart = competitive_consensus(portraits, exclude_frames(alike, np.array([7, 8])), 0.5, 2)
    found = competitive_consensus(portraits, together, 0.5, 2)
    assert apart[0, 1] - portraits[0, 1] > 0.99
    assert found[1, 1] - portraits[1, 1] > 0.99


def test_exclude_frames_keeps_links_between_frames_and_drops_those_to_oneself() -> None:
    links = np.arange(1.0, 17).reshape(4, 4)
    found = exclude_frames(sparse.csr_array(links), np.array([3, 1, 3, 9]))
    assert found.toarray().tolist() == [[0, 2, -1, 4], [5, 0, 7, 8], [-1, 10, 0, 12], [13, 14, 15, 0]]
    assert found.nnz == 12


def test_nobody_takes_the_belief_of_candidates_without_evidence() -> None:
    portraits = np.array([[0.9, 0.0, 0.1], [0.1, 0.0, 0.0]])
    found = competitive_consensus(portraits, np.zeros((3, 3)), nobody=0.4) - portraits
    assert found[0, 0] > 0.99
    assert (found[:, 1:] < 0.001).all()
    assert competitive_consensus(portraits, np.zeros((3, 3)))[:, 1].tolist() == [0.5, 0.5]


def test_compete_makes_one_label_a_person() -> None:
    found = compete(np.array([[0.6, 0.0], [0.3, 0.0]]), temperature=0.3)
    assert found[:, 0] == pytest.approx([math.e / (1 + math.e), 1 / (1 + math.e)], abs=1e-7)
    assert found[:, 1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("nobody", [-math.inf, 0.3])
@pytest.mark.parametrize(("frozen", "steps", "temperature"), [(0.5, 5, 0.03), (0.3, 2, 0.03), (0.0, 4, 0.2), (1, 1, 1)])
def test_consensus_over_sparse_links_equals_loops_over_full_matrices(frozen, steps, temperature, nobody) -> None:
    for seed in range(3):
        portraits, links, frames = random_film(seed)
        excluded = exclude_frames(links, frames)
        expected = naive_consensus(portraits, excluded.toarray(), frozen, steps, temperature, nobody)
        found = competitive_consensus(portraits, excluded, frozen, steps, temperature, nobody)
        assert np.abs(found - expected).max() < 1e-6
        assert np.abs(competitive_consensus(portraits, links, frozen, steps) - portraits).max() <= 1


def test_rounds_feed_the_competing_scores_into_the_next_consensus() -> None:
    portraits, links, frames = random_film(5)
    dense = exclude_frames(links, frames).toarray()
    scores = portraits
    for _ in range(2):
        scores = naive_consensus(scores, dense, 0.3, 2, 0.03, -math.inf)
        scores = np.array([naive_softmax(column, 0.3, -math.inf) for column in scores.T]).T
    assert np.abs(propagate(portraits, sparse.csr_array(links), frames) - scores).max() < 1e-6


def test_bits_do_not_depend_on_the_order_of_candidates_and_cast() -> None:
    portraits, links, frames = random_film(8, cast=9, total=120)
    rng = np.random.default_rng(0)
    order, cast = rng.permutation(120), rng.permutation(9)
    found = propagate(portraits[np.ix_(cast, order)], links[np.ix_(order, order)], frames[order])
    assert found.tobytes() == propagate(portraits, links, frames)[np.ix_(cast, order)].tobytes()


def test_hidden_faces_are_found_by_bodies_and_a_double_in_the_frame_is_not() -> None:
    """20 persons a cast member, only the first 5 with a face; one stranger in a frame looks like cast member 0."""
    rng = np.random.default_rng(0)
    bodies = np.repeat(np.eye(4), 20, axis=0) + 0.15 * rng.standard_normal((80, 4))
    bodies = np.concatenate([bodies, bodies[:1]])
    bodies /= np.linalg.norm(bodies, axis=1, keepdims=True)
    portraits = np.zeros((4, 81))
    for i in range(4):
        portraits[i, 20 * i : 20 * i + 5] = 0.8
    frames = np.append(np.arange(80), 0)  # the double stands beside candidate 0
    links = bodies @ bodies.T
    links[links < 0.5] = 0
    found = propagate(portraits, links, frames)
    assert (found[:, :80].argmax(axis=0) == np.repeat(np.arange(4), 20)).all()
    assert found[0, 80] < found[0, :20].min()


@pytest.mark.parametrize(("cast", "total"), [(0, 5), (3, 0), (1, 1)])
def test_no_cast_no_candidates_or_one_of_each_give_scores_of_that_shape(cast, total) -> None:
    found = propagate(np.zeros((cast, total)), np.zeros((total, total)), np.arange(total))
    assert found.shape == (cast, total)
    assert found.dtype == np.float32


def test_input_that_does_not_fit_is_refused() -> None:
    portraits, links, frames = np.zeros((2, 3)), np.zeros((3, 3)), np.arange(3)
    for call, message in (
        (lambda: propagate(portraits, np.zeros((4, 4)), frames), r"links: expected the shape \(3, 3\)"),
        (lambda: propagate(portraits, links, np.arange(4)), r"links: expected the shape \(4, 4\)"),
        (lambda: propagate(portraits[0], links, frames), r"portraits: expected an array of the shape"),
        (lambda: propagate(portraits + np.nan, links, frames), "expected finite numbers"),
        (lambda: propagate(portraits, links, frames, rounds=0), "rounds must be >= 1"),
        (lambda: propagate(portraits, links, frames, between=0), "temperatures must be above 0"),
        (lambda: competitive_consensus(portraits, links, steps=0), "steps >= 1; found frozen 0.5, steps 0"),
        (lambda: competitive_consensus(portraits, links, frozen=1.1), r"frozen must be 0\.\.1"),
    ):
        with pytest.raises(ScoringError, match=message):
            call()
