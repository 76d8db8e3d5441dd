"""Back-ends of cast search beside plain loops, on drawn films, and where there is next to nothing to compare."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks.cast_lists import NOBODY, drawn_film, measure, precisions, read_films, without_appearance
from steps.search_cast import ways_to_search
from vidperson.backends import cast_propagation
from vidperson.backends.cast import (
    APPEARANCE,
    EXCLUDED,
    EXPANSION,
    IDENTITY,
    NONE,
    NOTHING,
    REASONS,
    Cue,
    Film,
    Ranking,
    compared,
)
from vidperson.backends.cast_calibrated import calibrated
from vidperson.backends.cast_original import original
from vidperson.backends.cast_propagation import propagation
from vidperson.backends.propagation import propagate
from vidperson.backends.reranking import expanded_cross_neighbourhood, k_reciprocal
from vidperson.errors import ScoringError
from vidperson.io import ranks

BACKENDS = {"original": original, "propagation": propagation, "calibrated": calibrated}


def shown_by(count: int, cast: int, seed: int = 0) -> np.ndarray:
    """Whom the candidates show: a third are extras."""
    drawn = np.random.default_rng(seed).integers(0, cast + cast // 2 + 1, count)
    return np.where(drawn < cast, drawn, NOBODY)


def film_of(seed: int, count: int = 90, cast: int = 4, hidden: float = 0.5) -> tuple[Film, np.ndarray]:
    shown = shown_by(count, cast, seed)
    return drawn_film(np.random.default_rng(seed), shown, cast, hidden), shown


def rows_of(cue: Cue) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rows, cue.there[:, k]) for k, rows in enumerate(cue.units)]


def taken(cue: Cue, order: np.ndarray) -> Cue:
    return Cue(len(order), [(rows[order], there[order]) for rows, there in rows_of(cue)])


def is_sound(ranking: Ranking, film: Film) -> None:
    """Shapes, finite scores, and evidence that fits its reason."""
    count_cast, count = film.shape
    assert ranking.scores.shape == ranking.reasons.shape == ranking.evidence.shape == film.shape
    assert ranking.scores.dtype == np.float32 and np.isfinite(ranking.scores).all()
    for c in range(count_cast):
        for n in range(count):
            reason, evidence = ranking.reasons[c, n], ranking.evidence[c, n]
            assert evidence != n and -1 <= evidence < count + count_cast
            assert (evidence == NOTHING) == (reason == NONE)
            if reason == IDENTITY:
                assert evidence == count + c and film.cast.known[c] and film.identity.known[n]
            if reason in (EXPANSION, APPEARANCE):
                cue = film.identity if reason == EXPANSION else film.appearance
                assert evidence < count and cue.known[n] and cue.known[evidence]
            if reason == APPEARANCE:
                assert film.frames[evidence] != film.frames[n]


# -- the original, by loops


def naive_original(film: Film) -> tuple[list[list[int]], dict[tuple[int, int], tuple[str, int]]]:
    """Per cast member the candidates, best first, and why: facts of the original's fusion, with lists and loops."""
    count_cast, count = film.shape
    portraits, faces = (next(iter(rows_of(cue)))[0] for cue in (film.cast, film.identity))
    bodies = film.appearance.units[0]
    seen = [bool(film.identity.known[n]) for n in range(count)]

    def cosine(a, b):
        return float(sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)))

    face = [[cosine(faces[i], faces[j]) for j in range(count)] for i in range(count)]
    body = [[cosine(bodies[i], bodies[j]) for j in range(count)] for i in range(count)]
    smooth = []
    for i in range(count):
        near = sorted(range(count), key=lambda j: (-body[i][j], j))[:9]
        mean = sum(math.exp(body[i][j]) * bodies[j] for j in near)
        smooth.append(mean / np.linalg.norm(mean))
    look = [[(body[i][j] + cosine(smooth[i], smooth[j])) / 2 for j in range(count)] for i in range(count)]
    sets, why = [], {}
    for c in range(count_cast):
        value = {n: cosine(portraits[c], faces[n]) for n in range(count) if seen[n]}
        best = sorted(value, key=lambda n: (-value[n], n))
        seeds = [n for n in best if value[n] > 0.5]
        seeds = seeds if len(seeds) >= 5 else best[:5]
        why |= {(c, n): ("identity", count + c) for n in seeds}
        members = list(seeds)
        for threshold in (0.4, 0.3, 0.25):
            means = {n: sum(face[n][m] for m in members) / len(members) for n in range(count) if seen[n]}
            new = [n for n in means if n not in members and means[n] > threshold]
            for n in new:
                why[c, n] = "expansion", max(sorted(members), key=lambda m, n=n: face[n][m])
            members += sorted(new, key=lambda n, means=means: (-means[n], n))
        sets.append(members)
    given = {n for members in sets for n in members}
    lists = []
    for c, members in enumerate(sets):
        score, example = {}, {}
        for n in range(count):
            best = sorted(members, key=lambda m, n=n: (-look[n][m], m))[:3]
            weights = [math.exp(look[n][m]) for m in best]
            score[n] = sum(w * look[n][m] for w, m in zip(weights, best, strict=True)) / sum(weights)
            example[n] = best[0]
        rest = [n for n in range(count) if n not in given]
        clash = {n: [m for m in members if film.frames[m] == film.frames[n]] for n in rest}
        by_score = sorted(rest, key=lambda n, score=score: (-score[n], n))
        others = sorted((n for n in given if n not in members), key=lambda n, score=score: (-score[n], n))
        lists.append([*members, *(n for n in by_score if not clash[n]), *(n for n in by_score if clash[n]), *others])
        for n in rest:
            why[c, n] = ("excluded", clash[n][0]) if clash[n] else ("appearance", example[n])
    return lists, why


@pytest.mark.parametrize("seed", [0, 1])
def test_original_ranks_and_explains_as_plain_loops(seed: int) -> None:
    film, _ = film_of(seed, count=60, cast=3)
    found, (lists, why) = original(film), naive_original(film)
    for scores, expected in zip(found.scores, lists, strict=True):
        assert np.argsort(-scores, kind="stable").tolist() == expected
    assert {REASONS[reason] for reason in found.reasons.ravel()} == {"identity", "expansion", "appearance", "excluded"}
    for (c, n), expected in why.items():
        assert (REASONS[found.reasons[c, n]], found.evidence[c, n]) == expected
    is_sound(found, film)


@pytest.mark.parametrize(("word", "way"), [("identity", k_reciprocal), ("identity:ecn", expanded_cross_neighbourhood)])
def test_original_with_reranked_identity_takes_seeds_by_it(word: str, way) -> None:
    film, _ = film_of(0, count=60, cast=3, hidden=0.0)
    similar = 1 - way(np.concatenate([film.cast.units[0], film.identity.units[0]]), None)[:3, 3:]
    found = original(film, [word])
    for c in range(3):
        seeds = set(np.flatnonzero(found.reasons[c] == IDENTITY))
        assert {*np.flatnonzero(similar[c] > 0.5)} <= seeds and len(seeds) >= 5
    assert (found.scores != original(film).scores).any()


def test_original_expands_to_candidates_that_share_an_embedder_with_a_part_of_the_set() -> None:
    """Three have the first embedder, three have both, and the last one, like these at 0.45, has the second."""
    rows = np.tile([1.0, 0.0], (7, 1))
    other = rows.copy()
    other[6] = 0.45, np.sqrt(1 - 0.45**2)
    there = np.arange(7) < 6, np.arange(7) >= 3
    identity = Cue(7, list(zip((rows, other), there, strict=True)))
    cast = Cue(1, [(rows[:1], np.ones(1, bool))] * 2)
    found = original(Film(cast, identity, Cue(7, []), np.arange(7)))
    assert [REASONS[reason] for reason in found.reasons[0]] == ["identity"] * 6 + ["expansion"]
    assert found.evidence[0, 6] == 3


# -- units of a film, links and examples, by formulas


def test_units_of_a_film_are_those_of_its_pairs_of_different_persons() -> None:
    film, shown = film_of(3, count=300, cast=5, hidden=0.0)
    units, cosines = compared(film), film.identity.cosines(film.identity)
    different = (shown[:, None] != shown[None]) & np.triu(np.ones((300, 300), bool), 1)
    mean, deviation = cosines[different].mean(), cosines[different].std()
    expected = (cosines - mean) / deviation
    assert np.isnan(np.diag(units.identity)).all()
    assert np.abs(units.identity - expected)[different].max() < 0.6
    assert abs(np.median(units.appearance[different])) < 0.3


def test_links_of_propagation_are_its_formula_of_both_cues() -> None:
    film, _ = film_of(2, count=40, cast=3)
    units = compared(film)
    links, portraits = np.zeros((40, 40)), np.zeros((3, 40))
    for i in range(40):
        for c in range(3):
            if film.identity.known[i]:
                portraits[c, i] = 1 / (1 + math.exp(-1.5 * (units.portraits[c, i] - 3)))
        for j in range(40):
            if i != j:
                both = film.identity.known[i] and film.identity.known[j]
                value = units.appearance[i, j] + (0.5 * (units.identity[i, j] - 3) if both else 0)
                links[i, j] = 1 / (1 + math.exp(-1.5 * (value - 3)))
    expected = propagate(portraits, links, film.frames, frozen=0.3, temperature=0.2, nobody=0.3)
    assert cast_propagation.NEAREST >= 40
    assert np.allclose(propagation(film).scores, expected, atol=1e-6)


def test_calibrated_scores_are_the_log_odds_of_plain_loops() -> None:
    film, _ = film_of(4, count=24, cast=3)
    units, cast, count = compared(film), range(3), range(24)
    apart = [[j for j in count if film.frames[j] != film.frames[i]] for i in count]
    mates = [[j for j in count if film.frames[j] == film.frames[i] and j != i] for i in count]

    def told(i, j):
        value = 1.25 * (units.appearance[i, j] - 2)
        if film.identity.known[i] and film.identity.known[j]:
            value += 0.5 * (units.identity[i, j] - 2)
        return math.exp(min(value, 4.0))

    def odds_of(examples):
        seen = film.identity.known
        own = [[1.4 * (units.portraits[c, n] - 2.5) if seen[n] else 0.0 for n in count] for c in cast]
        return [[math.exp(own[c][n] + examples[c][n]) / 3 for n in count] for c in cast]

    def exclusive(odds):
        rivals = [[sum(odds[d][n] for d in cast) + sum(odds[c][m] for m in mates[n]) for n in count] for c in cast]
        return [[odds[c][n] / (1 + rivals[c][n]) for n in count] for c in cast]

    def examples_of(beliefs):
        found = []
        for share in beliefs:
            densities = []
            for of in (share, [1 - p for p in share]):
                tops = [sum(of[j] * told(n, j) for j in apart[n]) + 1e-3 for n in count]
                densities.append(
                    [top / (sum(of[j] for j in apart[n]) + 1e-3) for n, top in zip(count, tops, strict=True)]
                )
            found.append([math.log(mine / theirs) for mine, theirs in zip(*densities, strict=True)])
        return found

    odds = odds_of([[0.0] * 24] * 3)
    beliefs = exclusive(odds)
    for _ in range(10):
        odds = odds_of(examples_of(beliefs))
        new = exclusive(odds)
        beliefs = [[(beliefs[c][n] + new[c][n]) / 2 for n in count] for c in cast]
    expected = [[math.log(p / (1 - p)) for p in row] for row in exclusive(odds)]
    assert np.allclose(calibrated(film).scores, expected, atol=1e-4)


# -- what they are good for


def test_propagation_and_calibrated_beat_the_original_and_bodies_help_hidden_faces() -> None:
    found = {name: [] for name in BACKENDS}
    faces = {name: [] for name in BACKENDS}
    for seed in range(4):
        film, shown = film_of(seed, count=200, cast=6)
        for name, search in BACKENDS.items():
            found[name] += precisions(search(film), shown)
            faces[name] += precisions(search(without_appearance(film)), shown)
    means = {name: np.mean(some) for name, some in found.items()}
    assert min(means["propagation"], means["calibrated"]) > means["original"] + 0.01
    assert all(means[name] > np.mean(faces[name]) + 0.1 for name in BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_two_embedders_are_the_mean_of_their_cosines(name: str) -> None:
    film, _ = film_of(5, count=80)
    one, two = film.appearance.units[0], np.random.default_rng(1).standard_normal((80, 32))
    there = np.ones(80, bool)
    pair = Film(film.cast, film.identity, Cue(80, [(one, there), (two, there)]), film.frames)
    side_by_side = np.concatenate([one, two / np.linalg.norm(two, axis=1, keepdims=True)], axis=1)
    joint = Film(film.cast, film.identity, Cue(80, [(side_by_side, there)]), film.frames)
    assert np.allclose(BACKENDS[name](pair).scores, BACKENDS[name](joint).scores, atol=1e-4)
    assert (BACKENDS[name](pair).scores != BACKENDS[name](film).scores).any()
    assert np.isnan(Cue(80, [(one, there), (two, ~there)]).cosines(Cue(80, [(one, ~there), (two, there)]))).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_other_order_of_candidates_and_cast_gives_the_same_scores_and_reasons(name: str) -> None:
    film, _ = film_of(6, count=120, cast=5)
    rng = np.random.default_rng(2)
    order, cast = rng.permutation(120), rng.permutation(5)
    frames = rng.permutation(film.frames.max() + 1)[film.frames][order]
    turned = Film(taken(film.cast, cast), taken(film.identity, order), taken(film.appearance, order), frames)
    found, expected = BACKENDS[name](turned), BACKENDS[name](film)
    assert found.scores.tobytes() == expected.scores[cast][:, order].tobytes()
    assert found.reasons.tolist() == expected.reasons[cast][:, order].tolist()
    back = np.concatenate([order, 120 + cast, [NOTHING]])  # of -1, too
    assert back[found.evidence].tolist() == expected.evidence[cast][:, order].tolist()


@pytest.mark.parametrize("name", BACKENDS)
def test_person_beside_a_sure_one_ranks_behind_a_like_one_in_another_frame(name: str) -> None:
    """Candidates 6 and 7 look alike; 6 shares a frame with the surest one."""
    film, _ = film_of(7, count=60, cast=2, hidden=0.0)
    faces, bodies = film.identity.units[0].copy(), film.appearance.units[0].copy()
    seen, frames = np.ones(60, bool), np.arange(60)
    faces[0], seen[6:8], frames[6] = film.cast.units[0][0], False, frames[0]
    bodies[6], bodies[7] = bodies[0], bodies[0]
    film = Film(film.cast, Cue(60, [(faces, seen)]), Cue(60, [(bodies, np.ones(60, bool))]), frames)
    found = BACKENDS[name](film)
    assert found.scores[0, 0] > found.scores[0, 7] > found.scores[0, 6]
    assert (found.reasons[0, 6], found.evidence[0, 6]) == (EXCLUDED, 0)
    assert (found.reasons[0, 0], found.evidence[0, 0]) == (IDENTITY, 60)
    assert found.reasons[0, 7] == APPEARANCE


def test_one_candidate_is_sure_for_at_most_one_cast_member() -> None:
    film, _ = film_of(8, count=150, cast=6, hidden=0.2)
    beliefs = propagation(film).scores
    odds = np.exp(calibrated(film).scores.astype(np.float64))
    for sure in (beliefs, odds / (1 + odds)):
        assert (sure.sum(axis=0) <= 1 + 1e-5).all()
        assert (sure > 0.5).sum(axis=0).max() == 1
    for frame in np.unique(film.frames):
        assert ((odds > 1)[:, film.frames == frame].sum(axis=1) <= 1).all()


# -- next to nothing


def cut(
    film: Film, cast=slice(None), some=slice(None), no_identity=False, no_appearance=False, one_frame=False
) -> Film:
    def part(cue: Cue, rows, gone=False) -> Cue:
        count = len(np.arange(len(cue))[rows])
        return Cue(count, [(units[rows], there[rows] & (not gone)) for units, there in rows_of(cue)])

    frames = np.zeros_like(film.frames) if one_frame else film.frames
    return Film(
        part(film.cast, cast),
        part(film.identity, some, no_identity),
        part(film.appearance, some, no_appearance),
        frames[some],
    )


CASES = {
    "one candidate": {"some": slice(1)},
    "two candidates": {"some": slice(2)},
    "nine candidates": {"some": slice(9)},
    "one cast member": {"cast": slice(1)},
    "no face": {"no_identity": True},
    "no body": {"no_appearance": True},
    "neither": {"no_identity": True, "no_appearance": True},
    "one frame": {"one_frame": True},
    "one candidate of no face": {"some": slice(1), "no_identity": True},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", BACKENDS)
def test_film_with_next_to_nothing_is_ranked_all_the_same(name: str, case: str) -> None:
    film = cut(film_of(9, count=40)[0], **CASES[case])
    found = BACKENDS[name](film)
    is_sound(found, film)
    if case == "neither":
        assert (found.reasons == NONE).all()
    if case == "no body":
        assert not (found.reasons == APPEARANCE).any()


@pytest.mark.parametrize("name", BACKENDS)
def test_cast_member_without_a_portrait_gets_a_list_and_the_others_the_same_reasons(name: str) -> None:
    film, shown = film_of(10, count=120, cast=4)
    rows, there = film.cast.units[0], np.array([True, False, True, True])
    found = BACKENDS[name](Film(Cue(4, [(rows, there)]), film.identity, film.appearance, film.frames))
    full = BACKENDS[name](film)
    assert not (found.reasons[1] == IDENTITY).any() and np.isfinite(found.scores[1]).all()
    assert np.mean(precisions(found, np.where(shown == 1, NOBODY, shown))) > 0.6
    same = (found.reasons == full.reasons)[[0, 2, 3]].mean()
    assert same > 0.7


@pytest.mark.parametrize("name", BACKENDS)
def test_equal_candidates_in_different_frames_get_equal_scores(name: str) -> None:
    there = np.ones(12, bool)
    film = Film(
        Cue(2, [(np.eye(4)[:2], there[:2])]),
        Cue(12, [(np.tile(np.eye(4)[:1], (12, 1)), there)]),
        Cue(12, [(np.ones((12, 3)), there)]),
        np.arange(12),
    )
    found = BACKENDS[name](film)
    assert (found.scores[0] == found.scores[0, 0]).all()
    assert (found.scores[0] > found.scores[1]).all()
    if name != "original":  # it forces the first five to be seeds of the other cast member
        assert (found.scores[1] == found.scores[1, 0]).all()


def test_wrong_vectors_are_refused() -> None:
    one, there = np.ones((2, 3)), np.ones(2, bool)
    with pytest.raises(ScoringError, match="NaN or infinite"):
        Cue(2, [(np.full((2, 3), np.nan), there)])
    with pytest.raises(ScoringError, match="expected vectors of 3 persons"):
        Cue(3, [(one, there)])
    with pytest.raises(ScoringError, match="same embedders"):
        Cue(2, [(one, there)]).cosines(Cue(2, [(np.ones((2, 4)), there)]))
    with pytest.raises(ScoringError, match="as many candidates"):
        Film(Cue(1, []), Cue(2, []), Cue(2, []), np.zeros(3, np.int64))


def test_reasons_are_those_of_the_lists_and_back_ends_those_of_the_step() -> None:
    assert tuple(ranks.REASONS) == REASONS
    assert list(ways_to_search()) == list(BACKENDS)


# -- the benchmark


def test_benchmark_on_lists_prints_a_line_per_back_end(tmp_path, capsys) -> None:
    names = [f"tt1_{n:04d}" for n in range(40)]
    key = {f"tt1_nm{c}": names[c::4] for c in range(3)}
    (tmp_path / "key.json").write_text(json.dumps(key))
    (tmp_path / "ranks").write_text("".join(f"{cast} {','.join(reversed(names))}\n" for cast in key))
    films = read_films(tmp_path / "key.json", tmp_path / "ranks")
    assert films["tt1"][0].tolist() == [0, 1, 2, NOBODY] * 10 and films["tt1"][1] == 3
    measure(str(tmp_path / "key.json"), str(tmp_path / "ranks"), seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 films, 3 cast members, 40 candidates"
    assert [line.split("`")[1] for line in lines[3:]] == list(BACKENDS)


def test_benchmark_reads_the_real_lists_in_their_sizes(shared) -> None:
    lists = shared / "data/cast/wider2018_val_lists"
    films = read_films(lists / "val_label.json", lists / "val_rank.txt")
    assert (len(films), sum(cast for _, cast in films.values())) == (19, 147)
    assert sum(len(shown) for shown, _ in films.values()) == 15124
    assert sum(np.count_nonzero(shown != NOBODY) for shown, _ in films.values()) == 8123
