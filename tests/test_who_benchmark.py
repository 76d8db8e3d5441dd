"""The arithmetic of benchmarks/who.py: what counts as found, as a wrong name, as an error of time; composed clips."""

from __future__ import annotations

import json
import math
import wave
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.who import Row, appearances, clusters, judge, read_rows
from benchmarks.who_clips import (
    HEIGHT,
    RATE,
    WIDTH,
    Composed,
    Panel,
    Shown,
    compose,
    compose_voices,
    labels_of,
    read_labels,
    read_portraits,
    write_composed,
)
from vidperson.media.audio import read


def row(person: str, start: float, end: float, decision: str = "yes", place: float = 0.5, clip: str = "a.mp4") -> Row:
    return Row(clip, person, start, end, decision, 0.9, place)


def seen(person: str, start: float, end: float, px: int = 100, left: float = 0, right: float = 1) -> Shown:
    return Shown("a.mp4", person, start, end, px, left, right)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [(0, 4, 1), (1, 4, 1), (2, 4, 1), (2.1, 4, 0), (0, 8, 1), (0, 8.1, 0)],
)
def test_person_is_found_when_half_of_the_time_of_row_and_label_is_shared(start: float, end: float, found: int) -> None:
    figures = judge([seen("Ann", 0, 4)], [row("Ann", start, end)])
    assert (figures.wanted, figures.found) == (1, found)


def test_only_persons_with_portrait_seen_for_1_s_at_60_pixels_have_to_be_found() -> None:
    labels = [seen("Ann", 0, 0.98), seen("Bob", 0, 1), seen("Cem", 0, 9, px=59), seen("?guest", 0, 9)]
    labels.append(Shown("photo.jpg", "Dora", 0, 0, 80))
    wanted = [one.parts[0].person for one in appearances(labels) if one.is_wanted]
    assert wanted == ["Bob", "Dora"]
    assert judge(labels, [row("Dora", 0, 0, clip="photo.jpg")]).found == 1


def test_gaps_up_to_1_s_and_small_faces_count_neither_for_nor_against() -> None:
    labels = [seen("Ann", 0, 2), seen("Ann", 2, 3, px=0), seen("Ann", 4, 6)]
    (one,) = appearances(labels)
    assert one.overlap([row("Ann", 0, 6)]) == one.overlap([row("Ann", 0, 2), row("Ann", 4, 6)]) == 1.0
    assert one.overlap([row("Ann", 0, 2)]) == 0.5
    assert len(appearances([seen("Ann", 0, 2), seen("Ann", 3.1, 5)])) == 2


def test_times_are_wrong_by_their_distance_from_the_label_and_free_within_small_parts() -> None:
    figures = judge([seen("Ann", 1, 2, px=20), seen("Ann", 2, 5)], [row("Ann", 0.7, 5.25)])
    assert figures.starts == [pytest.approx(0.3)] and figures.ends == [pytest.approx(0.25)]
    assert judge([seen("Ann", 1, 2, px=20), seen("Ann", 2, 5)], [row("Ann", 1.5, 4)]).starts == [0.0]


def test_name_is_wrong_where_that_person_is_not_seen_at_that_time_and_place() -> None:
    labels = [seen("Ann", 0, 4, left=0, right=0.5), seen("Bob", 0, 4, left=0.5, right=1), seen("?guest", 4, 9)]
    right = [row("Ann", 0, 4, place=0.2), row("Bob", 0, 4, place=0.8), row("Bob", 1, 2, place=math.nan)]
    wrong = [row("Ann", 0, 4, place=0.8), row("Bob", 3, 9, place=0.8), row("Cem", 0, 4), row("Ann", 0, 4, clip="b.mp4")]
    figures = judge(labels, [*right, *wrong, row("Ann", 4, 9, "unsure"), row("unknown 1", 4, 9, "unknown")])
    assert (figures.named, figures.wrong, figures.unsure, figures.unsure_right) == (7, 4, 1, 0)
    assert (figures.wanted, figures.found) == (2, 2)


def test_unsure_rows_find_nobody_but_are_counted_beside() -> None:
    figures = judge([seen("Ann", 0, 4)], [row("Ann", 0, 4, "unsure")])
    assert (figures.found, figures.found_unsure, figures.unsure_right) == (0, 1, 1)


def test_voice_has_to_be_found_without_a_face_and_is_wrong_with_one() -> None:
    labels = [seen("Ann", 0, 4), Shown("a.mp4", "Eve", 0, 4, 0, is_heard=True)]
    figures = judge(labels, [row("Ann", 0, 4), row("Eve", 0, 4, place=math.nan), row("Eve", 0, 4)])
    assert (figures.wanted, figures.found, figures.wrong) == (2, 2, 1)


def test_clusters_of_unknown_persons_have_the_b_cubed_values_of_a_worked_example() -> None:
    labels = [seen("?x", 0, 3), seen("?y", 3, 6)]
    rows = [row("unknown 1", 0, 1), row("unknown 1", 1, 2), row("unknown 2", 2, 3), row("unknown 1", 3, 6)]
    precision, recall, count = clusters(labels, rows)
    # by row: precision 2/3 2/3 1 1/3, recall 2/3 2/3 1/3 1
    assert (precision, recall, count) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 4)


def test_rows_take_their_place_from_the_boxes_of_who_json(tmp_path: Path) -> None:
    header = "person,video,start_s,end_s,probability,decision,num_faces,best_time_s,best_face\n"
    (tmp_path / "who.csv").write_text(header + "Ann,a.mp4,0,1,0.9,yes,2,0,x\nBob,a.mp4,2,3,0.8,unsure,0,2,\n")
    tracks = [{"boxes": [[0, 10, 0, 30, 9], [0.2, 20, 0, 40, 9]]}]
    video = {"video": "a.mp4", "width": 100, "appearances": [{"tracks": tracks}, {"tracks": [{"boxes": []}]}]}
    (tmp_path / "who.json").write_text(json.dumps({"videos": [video]}))
    first, second = read_rows(tmp_path)
    assert first == Row("a.mp4", "Ann", 0.0, 1.0, "yes", 0.9, 0.25)
    assert second.person == "Bob" and math.isnan(second.place)


def test_labels_share_no_person_or_clip_between_the_halves_and_no_portrait_is_tested() -> None:
    halves = [read_labels(half) for half in ("choose", "test")]
    portraits = [read_portraits(half) for half in ("choose", "test")]
    for at, labels in enumerate(halves):
        named = {one.person for one in labels if not one.is_stranger}
        assert named <= {one.person for one in portraits[at]}
        assert not {one.clip for one in labels} & {one.file for half in portraits for one in half}
        assert all(one.start_s <= one.end_s and 0 <= one.left < one.right <= 1 for one in labels)
    for part in ("person", "clip"):
        assert not {getattr(one, part) for one in halves[0]} & {getattr(one, part) for one in halves[1]}


def test_composed_clips_are_the_same_each_time_with_different_neighbours() -> None:
    shown = read_labels("test")
    found = compose(shown, 2)
    assert found == compose(shown, 2) and Counter(one.columns for one in found) == {1: 8, 2: 6}
    person = {one.clip: one.person for one in shown}
    for clip in compose_voices(shown, 2):
        assert clip.sound and person[clip.sound.clip] != person[clip.panels[0].clip]
    for clip in found:
        assert all(person[one.clip] != person[other.clip] for one, other in pairwise(clip.panels))


def test_composed_clip_shows_what_its_labels_say(tmp_path: Path) -> None:
    grey = {"dark.mp4": 60, "light.mp4": 220}
    for name, level in grey.items():
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", RATE)
            stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
            for _ in range(2 * RATE):
                frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), level, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with wave.open(str(tmp_path / "tone.wav"), "wb") as tone:
        tone.setparams((1, 2, 16000, 0, "NONE", ""))
        tone.writeframes((9000 * np.sin(np.arange(32000) / 5)).astype("<i2").tobytes())
    sound = Panel("tone.wav", 0.5, 0, 1.2)
    clip = Composed("both.mp4", (Panel("dark.mp4", 0.4, 0, 1), Panel("light.mp4", 0, 0.4, 1.2, 1)), sound)
    write_composed(clip, tmp_path, tmp_path / "both.mp4")
    shown = [Shown("dark.mp4", "Ann", 0, 1.2, 40, 0.25, 0.75), Shown("light.mp4", "Bob", 0.2, 2, 50, 0, 1)]
    shown.append(Shown("tone.wav", "Eve", 0, 2, 0))
    labels = labels_of(clip, shown, dict.fromkeys(grey, (320, 180)))
    assert labels == [
        Shown("both.mp4", "Eve", 0, 1.2, 0, is_heard=True),
        Shown("both.mp4", "Ann", 0, 0.8, 80, 0.125, 0.375),
        Shown("both.mp4", "Bob", 0.6, 1.6, 100, 0.5, 1),
    ]
    heard = read(tmp_path / "both.mp4", 16000)
    assert len(heard) / 16000 == pytest.approx(1.2, abs=0.1) and 0.1 < np.abs(heard[2000:18000]).mean() < 0.3
    with av.open(str(tmp_path / "both.mp4")) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == 1.6 * RATE and pictures[0].shape == (HEIGHT, 2 * WIDTH)
    levels = [(picture[180, 320], picture[180, 960]) for picture in (pictures[0], pictures[15], pictures[-1])]
    assert [[value > 100 for value in pair] for pair in levels] == [[False, False], [False, True], [False, True]]
    assert [pair[0] > 30 for pair in levels] == [True, True, False]
