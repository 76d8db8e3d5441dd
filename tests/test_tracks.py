"""Tracks of a segment beside plain loops: who goes on with whom, from when to when, and with which vector."""

from __future__ import annotations

import math

import naive_scoring as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidperson.backends.exact import length_normalise
from vidperson.backends.tracks import TRACK_QUALITIES, link, tracks_of
from vidperson.errors import ScoringError

FPS = 5


def faces_at(times, boxes, scores=0.9):
    """(N, 17) float32 rows of stage 2; frames at 25 a second."""
    rows = np.zeros((len(times), 17), np.float32)
    rows[:, 0], rows[:, 1] = np.round(np.multiply(times, 25)), times
    rows[:, 2:6], rows[:, 6] = boxes, scores
    return rows


def at(x, size=50.0):
    return [x, 10.0, x + size, 10.0 + size]


def person(seed, count, noise=0.05, dim=128):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(dim) + noise * rng.standard_normal((count, dim))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.25]))
def test_link_with_cuts_and_near_boxes_in_any_order_equals_the_plain_loop(count, seed, near_s):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 3)).astype(np.float32)
    times = np.sort(rng.integers(0, 12, count)) / FPS
    corner = rng.uniform(0, 30, (count, 2))
    faces = faces_at(times, np.column_stack([corner, corner + rng.uniform(20, 60, (count, 2))]))
    cuts = np.unique(rng.integers(1, 12, 2)).astype(np.float32)[:, None] / FPS
    order = rng.permutation(count)
    labels = link(length_normalise(rows[order]), faces[order], 0.3, cuts, near_s)
    groups = [sorted(order[labels == label].tolist()) for label in range(labels.max() + 1)]
    expected = naive.tracks(rows.astype(float), faces, similarity=0.3, cuts=(cuts[:, 0] - 1e-4).tolist(), near_s=near_s)
    assert sorted(groups) == sorted(expected)


def test_face_that_turns_away_goes_on_and_one_that_takes_its_place_after_a_cut_does_not():
    times = np.arange(12) / FPS
    rows = np.concatenate([person(1, 4), person(1, 4), person(2, 4)])
    rows[4:8] = rows[:4] + 2.2 * person(3, 4)  # the profile: a cosine of about 0.4 with the front
    front = length_normalise(rows)
    assert 0.1 < front[3] @ front[4] < 0.6
    faces = faces_at(times, [at(100.0)] * 12)
    tracks, units, _ = tracks_of("face", faces, None, rows, np.array([[0.0], [8 / FPS]], np.float32), 1 / FPS, 2.4, 0.9)
    assert [track.rows for track in tracks] == [tuple(range(8)), (8, 9, 10, 11)]
    assert [(track.start_s, track.end_s) for track in tracks] == [(0.0, 1.6), (1.6, 2.4)]
    assert units.shape == (2, 128)


def test_tracks_begin_at_their_first_item_and_end_an_interval_after_the_last_or_with_shot_or_video():
    times = np.array([0.0, 0.2, 0.4, 1.0, 1.2, 3.96])
    faces = faces_at(times, [at(0.0)] * 3 + [at(200.0)] * 2 + [at(400.0)])
    rows = np.concatenate([person(1, 3), person(2, 2), person(3, 1)])
    shots = np.array([[0.0], [0.5]], np.float32)
    spans = [(track.start_s, track.end_s) for track in tracks_of("face", faces, None, rows, shots, 0.2, 4.0)[0]]
    assert spans == [(0.0, 0.5), (1.0, 1.4), (3.96, 4.0)]
    unknown = [(track.start_s, track.end_s) for track in tracks_of("face", faces, None, rows, None, 0.2, 0.0)[0]]
    assert unknown == [(0.0, 0.6), (1.0, 1.4), (3.96, 4.16)]


def test_face_of_an_image_lasts_no_time():
    (track,), _, qualities = tracks_of("face", faces_at([0.0], [at(5.0)]), None, person(1, 1), None, 0.2, 0.0)
    assert (track.start_s, track.end_s, track.best, track.rows) == (0.0, 0.0, 0, (0,))
    assert (
        track.boxes == ((0.0, 5.0, 10.0, 55.0, 60.0),)
        and dict(zip(TRACK_QUALITIES, qualities[0], strict=True))["items"] == 1
    )


def test_vector_is_the_weighted_mean_the_best_item_weighs_most_and_the_order_of_items_does_not_matter():
    rng = np.random.default_rng(5)
    rows = person(1, 9, 0.6) * rng.uniform(0.5, 2, (9, 1)).astype(np.float32)
    scores = rng.uniform(0.5, 1, 9).astype(np.float32)
    faces = faces_at(np.arange(9) / FPS, [at(50.0 + i) for i in range(9)], scores)
    quality = np.column_stack([rng.uniform(20, 40, 9), rng.uniform(0, 0.9, 9)]).astype(np.float32)
    (track,), units, qualities = tracks_of("face", faces, quality, rows, None, 0.2, 0.0)
    weights = [float(scores[i]) * (1 - float(quality[i, 1])) for i in range(9)]
    total = sum(weight * row.astype(float) for weight, row in zip(weights, rows, strict=True))
    np.testing.assert_allclose(units[0], total / math.sqrt(total @ total), atol=1e-6)
    lengths = [math.sqrt(float(row @ row)) for row in rows.astype(float)]
    assert track.best == max(range(9), key=lambda i: weights[i] * lengths[i])
    unit_rows = [row / length for row, length in zip(rows.astype(float), lengths, strict=True)]
    expected = {
        "items": 9.0,
        "size": float(np.median(quality[:, 0])),
        "score": float(np.mean(scores)),
        "norm": float(np.mean(lengths)),
        "coherence": float(np.mean([row @ units[0] for row in unit_rows])),
    }
    assert dict(zip(TRACK_QUALITIES, qualities[0], strict=True)) == pytest.approx(expected, rel=1e-5)
    order = rng.permutation(9)
    (other,), moved, same = tracks_of("face", faces[order], quality[order], rows[order], None, 0.2, 0.0)
    assert (moved == units).all() and np.allclose(same, qualities) and other.boxes == track.boxes
    assert [int(order[row]) for row in other.rows] == list(track.rows) and other.best == track.best


def test_nothing_found_gives_no_track_of_any_modality():
    for modality, columns in (("face", 17), ("body", 7), ("speaker", 7)):
        tracks, units, qualities = tracks_of(
            modality, np.zeros((0, columns), np.float32), None, np.zeros((0, 8), np.float32), None, 0.2, 3.0
        )
        assert tracks == [] and units.shape == (0, 8) and qualities.shape == (0, len(TRACK_QUALITIES))


@pytest.mark.parametrize(("embeddings", "quality"), [(2, None), (3, 2), (4, 3)])
def test_embeddings_or_qualities_of_another_number_are_refused_with_both(embeddings, quality):
    given = None if quality is None else np.ones((quality, 2), np.float32)
    with pytest.raises(ScoringError, match=f"of 3 items, found {embeddings} embeddings and {quality or 3} qualities"):
        tracks_of("face", faces_at([0, 0.2, 0.4], [at(0.0)] * 3), given, person(1, embeddings), None, 0.2, 0.0)


def test_embedding_that_is_no_number_is_refused():
    rows = person(1, 1)
    rows[0, 3] = np.nan
    with pytest.raises(ScoringError, match="NaN or infinite embedding"):
        tracks_of("face", faces_at([0.0], [at(0.0)]), None, rows, None, 0.2, 0.0)


def speech_at(spans):
    rows = np.zeros((len(spans), 7), np.float32)
    rows[:, :2], rows[:, 3] = spans, 20
    return rows


def test_voices_that_take_turns_become_tracks_and_a_long_pause_ends_one():
    spans = [(0, 2), (2, 4), (4.2, 6), (6, 8), (8, 10), (12, 14)]
    rows = np.concatenate([person(1, 2, 0.4), person(2, 2, 0.4), person(1, 2, 0.4)])
    order = np.array([3, 0, 5, 1, 4, 2])
    tracks, units, qualities = tracks_of("speaker", speech_at(spans)[order], None, rows[order], None, 0.2, 14.0, 0.5)
    assert [(track.start_s, track.end_s) for track in tracks] == [(0, 4), (4.2, 8), (8, 10), (12, 14)]
    assert [sorted(order[list(track.rows)].tolist()) for track in tracks] == [[0, 1], [2, 3], [4], [5]]
    assert all(track.boxes == () for track in tracks) and units.shape == (4, 128)
    assert qualities[:, TRACK_QUALITIES.index("size")] == pytest.approx([4, 3.8, 2, 2])


def test_stretch_that_is_unlike_the_one_before_but_like_the_voice_as_a_whole_does_not_end_a_track():
    rows = person(1, 6, 0.3)
    rows[2] -= 0.7 * person(9, 1)[0]
    rows[3] += 0.7 * person(9, 1)[0]
    cosines = length_normalise(rows) @ length_normalise(rows).T
    assert cosines[2, 3] < 0.5 < cosines[2:4][:, [0, 1, 4, 5]].min()
    (track,), _, _ = tracks_of(
        "speaker", speech_at([(2 * i, 2 * i + 2) for i in range(6)]), None, rows, None, 0.2, 0, 0.5
    )
    assert track.rows == tuple(range(6))


def test_one_embedding_of_all_stretches_is_that_of_each_track():
    spans = [(0, 2), (2.5, 4), (8, 9)]
    tracks, units, _ = tracks_of("speaker", speech_at(spans), None, person(1, 1), None, 0.2, 9.0)
    assert [(track.start_s, track.end_s) for track in tracks] == [(0, 4), (8, 9)] and (units[0] == units[1]).all()


def test_many_stretches_are_clustered_in_parts_and_keep_their_voices(monkeypatch):
    monkeypatch.setattr("vidperson.backends.tracks._STRETCHES_AT_ONCE", 4)
    rows = np.concatenate([person(1, 6), person(2, 5)])
    tracks, _, _ = tracks_of(
        "speaker", speech_at([(2 * i, 2 * i + 2) for i in range(11)]), None, rows, None, 0.2, 0, 0.5
    )
    assert [track.rows for track in tracks] == [(0, 1, 2, 3), (4, 5), (6, 7), (8, 9, 10)]
