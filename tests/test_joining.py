"""Tracks of several modalities become persons: who is in which body, who talks, and what a name is carried on by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vidperson.answers import Track
from vidperson.backends.decisions import Thresholds, posteriors
from vidperson.backends.exact import length_normalise
from vidperson.backends.finding import Finder, Found, Video
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.backends.joining import SAME_CLOTHES, SAME_CLOTHES_LATER, SAME_VOICE, Evidence, join_modalities
from vidperson.media.video import sound_after_frames_s
from vidperson.types import Calibration
from vidperson.who.finding import _on_clock_of_frames

PRIOR, PERSONS = 0.5, 2
CALIBRATION = Calibration(20.0, -10.0, "a test")
UNSURE = (0.0, 0.0)


def seen(modality, start, end, box, step=0.2):
    times = [round(start + step * i, 3) for i in range(round((end - start) / step))]
    boxes = tuple((time, *map(float, box)) for time in times)
    return Track(modality, start, end, tuple(range(len(times))), boxes, 0)


def heard(start, end):
    return Track("speaker", start, end, (0,), (), 0)


def vector(direction):
    return length_normalise(np.eye(8)[[direction]])[0]


def evidence(modality, tracks, llrs, directions=None, sizes=None):
    units = np.stack([vector(way) for way in directions or range(len(tracks))]) if tracks else np.zeros((0, 8))
    good = {"face": 40.0, "body": 200.0, "speaker": 3.0}[modality]
    return Evidence(
        modality,
        tracks,
        units,
        np.array(sizes or [good] * len(tracks)),
        np.array(llrs, np.float64).reshape(len(tracks), PERSONS),
        np.full(len(tracks), -np.inf),
        CALIBRATION,
    )


def joined(*all_evidence, starts=()):
    return {one.members: one for one in join_modalities(all_evidence, PRIOR, PERSONS, starts)}


def shares(llrs):
    found, nobody = posteriors(np.array(llrs, np.float64), PRIOR, PERSONS)
    return np.append(found, nobody)


def carried(llrs, sure):
    """What a name that is carried on should be, by the law of total probability."""
    before = np.array([PRIOR / PERSONS] * PERSONS + [1 - PRIOR])
    return sure * shares(llrs) + (1 - sure) * before


FACE_BOX, BODY_BOX, OTHER_BODY = (110, 20, 150, 70), (80, 0, 200, 300), (400, 0, 520, 300)


def test_one_modality_leaves_each_track_by_itself_with_its_own_ratios():
    faces = evidence("face", [seen("face", 0, 1, FACE_BOX), seen("face", 2, 3, FACE_BOX)], [(3, -1), (-2, -4)])
    found = join_modalities([faces], PRIOR, PERSONS)
    assert [one.members for one in found] == [(("face", 0),), (("face", 1),)]
    assert [one.llrs.tolist() for one in found] == [[3, -1], [-2, -4]]


def test_face_belongs_to_the_body_around_it_and_tells_who_it_is():
    faces = evidence("face", [seen("face", 1, 2, FACE_BOX)], [(9, -5)])
    bodies = evidence("body", [seen("body", 0, 4, OTHER_BODY), seen("body", 0, 4, BODY_BOX)], [(99, 99), (-99, 99)])
    found = joined(faces, bodies)
    assert set(found) == {(("face", 0), ("body", 1)), (("body", 0),)}
    assert found[("face", 0), ("body", 1)].llrs.tolist() == [9, -5]


@pytest.mark.parametrize("frames_outside", [1, 4])
def test_face_that_is_inside_in_less_than_half_of_its_frames_is_not_in_that_body(frames_outside):
    track = seen("face", 0, 1, FACE_BOX)
    moved = tuple((box[0], 600.0, 0.0, 640.0, 50.0) for box in track.boxes[:frames_outside])
    track = Track("face", 0, 1, track.rows, moved + track.boxes[frames_outside:], 0)
    found = joined(evidence("face", [track], [(9, -5)]), evidence("body", [seen("body", 0, 4, BODY_BOX)], [UNSURE]))
    assert ((("face", 0), ("body", 0)) in found) == (frames_outside == 1)


def test_faces_before_and_after_turning_away_are_one_person_and_another_face_in_the_same_body_is_not():
    tracks = [seen("face", start, start + length, FACE_BOX) for start, length in ((0, 2), (3, 1), (5, 1))]
    faces = evidence("face", tracks, [(8, 0), (2, 0), (-5, 7)], directions=[1, 1, 2])
    found = joined(faces, evidence("body", [seen("body", 0, 6, BODY_BOX)], [UNSURE]))
    assert set(found) == {(("face", 0), ("face", 1), ("body", 0)), (("face", 2),)}
    together = found[("face", 0), ("face", 1), ("body", 0)]
    assert together.llrs.tolist() == pytest.approx([(10 * 8 + 5 * 2) / 15, 0])


def test_face_whose_body_is_found_in_two_pieces_has_both_and_of_two_at_once_the_better_one():
    faces = evidence("face", [seen("face", 0, 4, FACE_BOX)], [(9, -5)])
    pieces = [seen("body", 0, 1, BODY_BOX), seen("body", 2, 4, BODY_BOX), seen("body", 2.4, 3, BODY_BOX)]
    found = joined(faces, evidence("body", pieces, [UNSURE] * 3, directions=[3, 4, 5]))
    assert set(found) == {(("face", 0), ("body", 1), ("body", 0)), (("body", 2),)}


def test_body_beside_the_one_like_it_is_not_that_person_and_a_small_one_tells_less():
    faces = evidence("face", [seen("face", 0, 1, FACE_BOX)], [(9, -5)])
    beside = [seen("body", 0, 1, BODY_BOX), seen("body", 0.4, 2, OTHER_BODY)]
    found = joined(faces, evidence("body", beside, [UNSURE] * 2, directions=[0, 0]))
    assert found[(("body", 1),)].llrs.tolist() == [0, 0]
    later = [seen("body", 0, 1, BODY_BOX), seen("body", 5, 6, OTHER_BODY)]
    small = joined(faces, evidence("body", later, [UNSURE] * 2, directions=[0, 0], sizes=[200.0, 20.0]))
    odds = math.exp(10.0 * 0.2) * SAME_CLOTHES / (1 - SAME_CLOTHES)
    assert shares(small[(("body", 1),)].llrs) == pytest.approx(carried((9, -5), odds / (1 + odds)), abs=1e-9)


@pytest.mark.parametrize("starts", [(), (0.0, 5.0)])
@pytest.mark.parametrize("direction", [0, 5])
def test_body_from_behind_takes_over_the_name_of_the_one_like_it_as_probable_as_that_is(direction, starts):
    faces = evidence("face", [seen("face", 0, 1, FACE_BOX)], [(9, -5)])
    tracks = [seen("body", 0, 1, BODY_BOX), seen("body", 5, 6, OTHER_BODY)]
    bodies = evidence("body", tracks, [UNSURE, (0, 50)], directions=[0, direction])
    behind = joined(faces, bodies, starts=starts)[(("body", 1),)]
    before = SAME_CLOTHES_LATER if starts else SAME_CLOTHES
    odds = math.exp(20.0 * (direction == 0) - 10.0) * before / (1 - before)
    assert shares(behind.llrs) == pytest.approx(carried((9, -5), odds / (1 + odds)), abs=1e-9)


def test_name_that_is_certain_is_carried_on_as_numbers():
    faces = evidence("face", [seen("face", 0, 1, FACE_BOX)], [(900, -900)])
    tracks = [seen("body", 0, 1, BODY_BOX), seen("body", 5, 6, OTHER_BODY)]
    bodies = evidence("body", tracks, [UNSURE] * 2, directions=[0, 0])
    bodies = replace(bodies, calibration=Calibration(400.0, 0.0, "x"))
    behind = joined(faces, bodies)[(("body", 1),)]
    assert np.isfinite(behind.llrs).all() and shares(behind.llrs) == pytest.approx([1, 0, 0], abs=1e-6)


def test_voice_joins_the_only_one_who_is_seen_and_nobody_where_two_are():
    voice = evidence("speaker", [heard(0.5, 2.5)], [UNSURE])
    one = evidence("face", [seen("face", 0, 3, FACE_BOX)], [(9, -5)])
    assert set(joined(one, voice)) == {(("face", 0), ("speaker", 0))}
    two = evidence("face", [seen("face", 0, 3, FACE_BOX), seen("face", 0, 3, OTHER_BODY)], [(9, -5), (-5, 9)])
    assert set(joined(two, voice)) == {(("face", 0),), (("face", 1),), (("speaker", 0),)}
    brief = evidence("face", [seen("face", 0, 0.8, FACE_BOX)], [(9, -5)])
    assert set(joined(brief, voice)) == {(("face", 0),), (("speaker", 0),)}


def test_voice_joins_the_one_of_two_whose_it_is_and_leaves_the_only_one_whose_it_is_not():
    two = evidence("face", [seen("face", 0, 3, FACE_BOX), seen("face", 0, 3, OTHER_BODY)], [(9, -5), (-5, 9)])
    found = joined(two, evidence("speaker", [heard(0.5, 2.5)], [(-4, 4)]))
    assert set(found) == {(("face", 0),), (("face", 1), ("speaker", 0))}
    one = evidence("face", [seen("face", 0, 3, FACE_BOX)], [(9, -5)])
    apart = joined(one, evidence("speaker", [heard(0.5, 3.5)], [(-6, 6)]))
    assert apart[(("speaker", 0),)].llrs.tolist() == [-6, 6] and len(apart) == 2


@pytest.mark.parametrize(("size", "seconds", "face_weight", "voice_weight"), [
    (40.0, 3.0, 1.0, 1.0), (5.0, 6.0, 0.25, 1.0), (40.0, 1.5, 1.0, 0.5), (5.0, 0.75, 1.0, 1.0),
])  # fmt: skip
def test_ratios_of_face_and_voice_are_added_by_their_trust(size, seconds, face_weight, voice_weight):
    face = evidence("face", [seen("face", 0, 8, FACE_BOX)], [(2, -1)], sizes=[size])
    voice = evidence("speaker", [heard(0, seconds)], [(3, -2)], sizes=[seconds])
    (one,) = joined(face, voice).values()
    assert one.llrs.tolist() == pytest.approx([2 * face_weight + 3 * voice_weight, -face_weight - 2 * voice_weight])


def test_voices_of_one_person_count_once():
    face = evidence("face", [seen("face", 0, 9, FACE_BOX)], [(2, -1)])
    voice = evidence("speaker", [heard(0, 2), heard(3, 7)], [(3, -2), (6, -2)], sizes=[2.0, 4.0])
    (one,) = joined(face, voice).values()
    assert one.members == (("face", 0), ("speaker", 0), ("speaker", 1))
    assert one.llrs.tolist() == pytest.approx([2 + (2 * 3 + 4 * 6) / 6, -3])


def test_voice_without_a_face_takes_over_the_name_of_the_same_voice_with_one():
    face = evidence("face", [seen("face", 0, 3, FACE_BOX)], [(9, -5)])
    voices = evidence("speaker", [heard(0, 3), heard(10, 13), heard(20, 23)], [UNSURE] * 3, directions=[1, 1, 2])
    found = joined(face, voices)
    odds = math.exp(10.0) * SAME_VOICE / (1 - SAME_VOICE)
    assert shares(found[(("speaker", 1),)].llrs) == pytest.approx(carried((9, -5), odds / (1 + odds)), abs=1e-9)
    assert shares(found[(("speaker", 2),)].llrs) == pytest.approx(shares(UNSURE), abs=1e-3)


def test_nothing_found_and_no_gallery_are_fine():
    nothing = evidence("face", [], [])
    assert join_modalities([nothing, evidence("speaker", [], [])], PRIOR, PERSONS) == []
    assert join_modalities([], PRIOR, PERSONS) == []
    bare = [
        Evidence(name, [track], vector(0)[None], np.ones(1), np.zeros((1, 0)), np.full(1, -np.inf), CALIBRATION)
        for name, track in (("face", seen("face", 0, 3, FACE_BOX)), ("speaker", heard(0, 3)))
    ]
    (one,) = join_modalities(bare, PRIOR, 0)
    assert one.members == (("face", 0), ("speaker", 0)) and len(one.llrs) == 0


def test_answer_of_a_video_has_one_appearance_for_a_face_its_body_and_its_voice():
    rng = np.random.default_rng(0)
    known = {name: rng.standard_normal((2, 64)).astype(np.float32) for name in ("face", "speaker")}
    galleries = {
        name: Gallery.of(Portrait(f"p{i}", f"p{i}", length_normalise(rows)[i]) for i in range(2))
        for name, rows in known.items()
    }
    finder = Finder(galleries, dict.fromkeys(known, CALIBRATION), Thresholds())
    frames = np.arange(10, dtype=np.float32)
    faces, bodies = np.zeros((10, 17), np.float32), np.zeros((10, 7), np.float32)
    for rows, box in ((faces, FACE_BOX), (bodies, BODY_BOX)):
        rows[:, 0], rows[:, 1], rows[:, 2:6], rows[:, 6] = 5 * frames, frames / 5, box, 0.9
    speech = np.zeros((2, 7), np.float32)
    speech[:, :2] = [[0.5, 2.0], [2.0, 3.5]]
    found = [
        Found("face", faces, None, np.repeat(known["face"][:1], 10, axis=0)),
        Found("body", bodies, None, np.ones((10, 16), np.float32)),
        Found("speaker", speech, None, np.repeat(known["speaker"][:1], 2, axis=0)),
    ]
    answer, unknown = finder.answer(Video("v", "ok", 4.0), found)
    (one,) = answer.appearances
    assert [track.modality for track in one.tracks] == ["face", "body", "speaker"] and unknown == []
    assert (one.person, one.decision, one.start_s, one.end_s, one.num_faces) == ("p0", "yes", 0.0, 3.5, 10)
    alone, _ = finder.answer(Video("v", "ok", 4.0), found[1:2])
    assert alone.appearances == ()


def test_voice_of_which_no_portrait_tells_anything_is_unknown_whatever_the_prior():
    face = Gallery.of([Portrait("p", "p", vector(0))])
    galleries = {"face": face, "speaker": Gallery.of([Portrait("p", "p", None)])}
    finder = Finder(galleries, dict.fromkeys(galleries, CALIBRATION), Thresholds(person_prior=0.9))
    speech = np.zeros((1, 7), np.float32)
    speech[:, 1] = 3
    nobody = Found("face", np.zeros((0, 17), np.float32), None, np.zeros((0, 8), np.float32))
    answer, unknown = finder.answer(Video("v", "ok", 4.0), [nobody, Found("speaker", speech, None, np.ones((1, 4)))])
    assert [one.decision for one in answer.appearances] == ["unknown"] and len(unknown) == 1


def test_sound_of_a_clip_that_begins_before_its_frames_is_told_on_their_clock(shared):
    """ffprobe: the video starts at 0.852 s, the sound at 0.008 s."""
    clip = shared / "data/video/hamilton/short_hamilton_clip.mp4"
    assert sound_after_frames_s(clip) == pytest.approx(0.008 - 0.852, abs=0.002)
    assert sound_after_frames_s(shared / "data/video/titanic/portrait_jack.jpg") == 0
    speech = np.zeros((2, 7), np.float32)
    speech[:, :2] = [[0.2, 0.6], [3, 4]]
    moved = _on_clock_of_frames(Found("speaker", speech, None, np.ones((2, 4), np.float32)), str(clip)).rows
    np.testing.assert_allclose(moved[:, :2], [[0, 0], [2.156, 3.156]], atol=0.002)


@pytest.mark.parametrize(("alike", "listed"), [(0.98, 1), (0.6, 1), (0.5, 0)])
def test_body_from_behind_is_listed_only_where_it_is_probably_somebody(alike, listed):
    """In the same shot; odds before are 1 to 4, and the ratios are 20 x cosine - 10."""
    galleries = {"face": Gallery.of([Portrait("p", "p", vector(0))])}
    finder = Finder(galleries, {"face": CALIBRATION}, Thresholds(), {"body": CALIBRATION})
    faces, bodies = np.zeros((1, 17), np.float32), np.zeros((2, 7), np.float32)
    faces[0, 2:7] = (*FACE_BOX, 0.9)
    bodies[:, 0], bodies[:, 1], bodies[:, 6] = [0, 50], [0, 10], 0.9
    bodies[:, 2:6] = BODY_BOX, OTHER_BODY
    worn = np.array([[1, 0], [alike, np.sqrt(1 - alike**2)]], np.float32)
    found = [Found("face", faces, None, vector(0)[None].astype(np.float32)), Found("body", bodies, None, worn)]
    answer, _ = finder.answer(Video("v", "ok", 12.0), found)
    assert [one.person for one in answer.appearances] == ["p"] * (1 + listed)
