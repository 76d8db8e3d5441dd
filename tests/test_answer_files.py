"""Who is in which video, and when: the files of stage 5, each read by a program that is not ours."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import webvtt
from PIL import Image as Picture
from pycocotools.coco import COCO

from steps.write_answers import WriteAnswersOptions, write_answers
from vidperson.answers import Appearance, Candidate, Track, VideoAnswer, WhoRow
from vidperson.errors import DataError, ScoringError
from vidperson.io.answers import (
    Names,
    WhoCsv,
    answer_line,
    best_name,
    file_names,
    read_answers,
    read_who_csv,
)
from vidperson.io.crops import TAR_END
from vidperson.io.items import archives_of, item_entries
from vidperson.io.record import write_record
from vidperson.io.rttm import rttm_names
from vidperson.report.who_table import display_width, who_table
from vidperson.who.files import Source, write_answer_files

FRAMES_A_SECOND = 25
NASTY = 'Zoë "Zed" <b>, 李 & --> =1'
PERSONS = {"zoe": NASTY, "bob": "Bob", "bob2": "Bob_"}


def track(first: int, count: int, begin_s: float, modality: str = "face", step_s: float = 0.2) -> Track:
    """A track of ``count`` items from item ``first`` on; its best item is the last but one."""
    times = [begin_s + number * step_s for number in range(count)]
    boxes = tuple((time, 10.0 + 5 * time, 20.0, 50.0 + 5 * time, 80.0) for time in times)
    if modality == "speaker":
        boxes = ()
    end_s = times[-1] + step_s if count else begin_s
    return Track(modality, begin_s, end_s, tuple(range(first, first + count)), boxes, max(0, count - 2))


def appearance(person: str, decision: str, probability: float, *tracks: Track) -> Appearance:
    start_s, end_s = min(one.start_s for one in tracks), max(one.end_s for one in tracks)
    candidates = (Candidate("zoe", 3.0, 0.9), Candidate("bob", -4.0, 0.05))
    return Appearance(person, decision, probability, 3.0, start_s, end_s, tracks, candidates)


CLIP = VideoAnswer(
    *("clip", "ok", 10.0, 320, 240),
    (
        appearance("zoe", "yes", 0.971, track(0, 5, 1.0), track(5, 3, 3.0)),
        appearance("unknown 1", "unknown", 0.8, track(8, 3, 1.4)),
        appearance("bob", "unsure", 0.61, Track("speaker", 6.0, 8.5, (0,), (), 0)),
    ),
)
STILL = VideoAnswer(
    *("photo", "ok", 0.0, 64, 48),
    (appearance("bob", "yes", 0.9999, Track("face", 0.0, 0.0, (0,), ((0.0, 1, 2, 33, 44),), 0)),),
)
EMPTY = VideoAnswer("empty", "no_face", 4.0, 320, 240, (), "2024-05-01T10:20:30.000")
BROKEN = VideoAnswer("broken", "unreadable: not a media file", 0.0, 0, 0, ())
VIDEOS = {"clip": "deep/er/my clip.mp4", "photo": "Foto 1.jpg", "empty": "empty.mov", "broken": "broken.avi"}
ANSWERS = (CLIP, STILL, EMPTY, BROKEN)


def write_items(folder: Path, counts: dict[str, int], items: str = "faces") -> Path:
    """A folder of stage 2: item N of a segment is in frame 5 N, and its crop is of the grey 10 N."""
    names = archives_of(items)
    content, places = dict.fromkeys(names, b""), {name: [] for name in names}
    for segment, count in counts.items():
        rows = np.zeros((count, 17), np.float32)
        rows[:, 0], rows[:, 1] = 5 * np.arange(count), np.arange(count) / 5
        crops = []
        for number in range(count):
            stream = io.BytesIO()
            Picture.new("RGB", (112, 112), (10 * number,) * 3).save(stream, "PNG")
            crops.append(stream.getvalue())
        shots = np.array([[0, 320, 240]], np.float32)
        entries = item_entries(items, segment, rows, np.ones((count, 2), np.float32), shots, crops, None)
        for name, chunks in entries.items():
            skipped = len(f"{segment} ") if name.endswith(".ark") else 0
            places[name].append(f"{segment} {name}:{len(content[name]) + skipped}\n")
            content[name] += b"".join(chunks)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(content[name] + (TAR_END if name.endswith(".tar") else b""))
        (folder / name).with_suffix(".scp").write_text("".join(places[name]))
    (folder / "status").write_text("".join(f"{segment} ok\n" for segment in counts))
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Path:
    return write_items(tmp_path_factory.mktemp("det") / "test", {"clip": 11, "photo": 1, "empty": 0, "broken": 0})


@pytest.fixture(scope="module")
def written(tmp_path_factory, items) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_answer_files([Source(ANSWERS, Names(PERSONS, VIDEOS), {"face": items}, "test")], folder)
    return folder


def test_a_line_of_stage_4_read_again_is_the_same_answer(tmp_path) -> None:
    (tmp_path / "who.jsonl").write_bytes(b"".join(answer_line(answer) for answer in ANSWERS))
    assert tuple(read_answers(tmp_path / "who.jsonl")) == ANSWERS


def test_a_ratio_that_is_no_number_survives_a_line(tmp_path) -> None:
    alone = Appearance("unknown 1", "unknown", 1.0, math.nan, 0.0, 1.0, (track(0, 2, 0.0),))
    (tmp_path / "who.jsonl").write_bytes(answer_line(VideoAnswer("a", "ok", 1.0, 8, 8, (alone,))))
    (found,) = read_answers(tmp_path / "who.jsonl")
    assert math.isnan(found.appearances[0].llr)


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"segment": "a"}', '{"appearances": [{}]}', '{"appearances": 5}'])
def test_a_line_that_is_no_answer_is_refused_by_file_and_number(tmp_path, line) -> None:
    (tmp_path / "who.jsonl").write_bytes(answer_line(EMPTY) + line.encode() + b"\n")
    with pytest.raises(DataError, match=r"who\.jsonl:2: expected a video as stage 4 writes them"):
        list(read_answers(tmp_path / "who.jsonl"))


def test_who_csv_has_the_documented_header_and_names_as_typed(written) -> None:
    with open(written / "who.csv", encoding="utf-8", newline="") as stream:
        head, *lines = csv.reader(stream)
    header = "person,video,start_s,end_s,probability,decision,num_faces,best_time_s,best_face"  # others rely on it
    assert ",".join(head) == header
    assert lines == [
        [NASTY, "deep/er/my clip.mp4", "1.00", "3.60", "0.9710", "yes", "8", "1.60", "faces/clip_001.jpg"],
        ["unknown 1", "deep/er/my clip.mp4", "1.40", "2.00", "0.8000", "unknown", "3", "1.60", "faces/clip_002.jpg"],
        ["Bob", "deep/er/my clip.mp4", "6.00", "8.50", "0.6100", "unsure", "0", "6.00", ""],
        ["Bob", "Foto 1.jpg", "0.00", "0.00", "0.9999", "yes", "1", "0.00", "faces/photo_001.jpg"],
    ]


@pytest.mark.parametrize(
    "name", ["=1+1", "+a", "-a", "@a", "'=1", "''@", "'a", "", 'a"b', "a,b", "a;b\u2028c", "\uff1d1"]
)
def test_a_name_that_a_spreadsheet_would_compute_is_made_harmless_and_read_as_typed(tmp_path, name) -> None:
    from vidperson.io.answers import Listed

    names = Names({"zoe": name}, {"clip": name})
    listed = Listed(CLIP, "test", "clip", names, ("", "", ""), (((), ()), ((),), ((),)))
    with open(tmp_path / "who.csv", "w", encoding="utf-8", newline="") as stream:
        WhoCsv(stream).add(listed)
    with open(tmp_path / "who.csv", encoding="utf-8", newline="") as stream:
        cells = list(csv.reader(stream))[1]
    assert not cells[0].startswith(("=", "+", "-", "@", "\uff1d"))
    row = next(read_who_csv(tmp_path / "who.csv"))
    assert (row.person, row.video) == (name, name)


@pytest.mark.parametrize("content", ["", "person,video\n", "HEAD\na,b\n", "HEAD\na,b,x,1,1,yes,1,0,\n", "HEAD\n\xe9\n"])
def test_another_table_is_refused_as_who_csv(tmp_path, content) -> None:
    (tmp_path / "who.csv").write_bytes(content.replace("HEAD", ",".join(WhoRow._fields)).encode("latin-1"))
    with pytest.raises(DataError, match=r"who\.csv:[12]: expected"):
        list(read_who_csv(tmp_path / "who.csv"))


def test_who_json_has_every_box_with_its_frame(written) -> None:
    content = json.loads((written / "who.json").read_text(encoding="utf-8"))
    assert [person["name"] for person in content["persons"]] == list(PERSONS.values())
    assert [video["segment"] for video in content["videos"]] == ["clip", "photo", "empty", "broken"]
    assert content["videos"][3]["status"] == "unreadable: not a media file"
    assert [video["taken"] for video in content["videos"]] == ["", "", "2024-05-01T10:20:30.000", ""]
    found = content["videos"][0]["appearances"][0]
    assert found["tracks"][1]["frames"] == [25, 30, 35]
    assert found["tracks"][1]["boxes"][0] == [3.0, 25.0, 20.0, 65.0, 80.0]
    assert found["candidates"][0] == {"person": NASTY, "llr": 3.0, "probability": 0.9}


def test_the_best_item_of_each_appearance_is_stored_as_an_image(written) -> None:
    assert sorted(path.name for path in (written / "faces").iterdir()) == [
        *("clip_001.jpg", "clip_002.jpg", "photo_001.jpg")
    ]
    for name, grey in (("clip_001.jpg", 30), ("clip_002.jpg", 90), ("photo_001.jpg", 0)):
        with Picture.open(written / "faces" / name) as image:
            assert image.size == (112, 112)
            assert abs(np.asarray(image).mean() - grey) < 2


def test_subtitles_read_by_webvtt_py_name_who_is_there_at_each_moment(written) -> None:
    assert [str(path.relative_to(written)) for path in sorted((written / "subtitles").rglob("*.vtt"))] == [
        *("subtitles/deep/er/my clip.vtt", "subtitles/empty.vtt")
    ]
    cues = list(webvtt.read(written / "subtitles/deep/er/my clip.vtt"))
    zoe, nobody = f"{NASTY} (97 %)", "unknown 1"
    assert [(cue.start, cue.end, html.unescape(cue.raw_text)) for cue in cues] == [
        ("00:00:01.000", "00:00:01.400", zoe),
        ("00:00:01.400", "00:00:02.000", f"{zoe}\n{nobody}"),
        ("00:00:02.000", "00:00:03.600", zoe),
        ("00:00:06.000", "00:00:08.500", "Bob? (61 %)"),
    ]
    assert "<b>" not in (written / "subtitles/deep/er/my clip.vtt").read_text(encoding="utf-8")
    assert not list(webvtt.read(written / "subtitles/empty.vtt"))


def test_subtitles_of_a_clip_that_was_cut_out_of_a_film_are_in_the_time_of_players(shared, tmp_path, items) -> None:
    """The first frame of this one is shown at 0.852 s: before it there is sound."""
    media = {"clip": shared / "data/video/hamilton/short_hamilton_clip.mp4", "photo": tmp_path / "none.jpg"}
    write_answer_files([Source([CLIP, STILL], Names(PERSONS, VIDEOS), {"face": items}, "test", media)], tmp_path)
    cues = list(webvtt.read(tmp_path / "subtitles/deep/er/my clip.vtt"))
    assert (cues[0].start, cues[-1].end) == ("00:00:01.852", "00:00:09.352")
    videos = json.loads((tmp_path / "who.json").read_text(encoding="utf-8"))["videos"]
    assert [video["first_frame_s"] for video in videos] == [0.852, 0.0]
    assert next(read_who_csv(tmp_path / "who.csv")).start_s == 1.0


def test_subtitles_of_a_sound_of_unknown_length_name_who_is_heard(tmp_path) -> None:
    heard = VideoAnswer("talk", "ok", 0.0, 0, 0, CLIP.appearances[2:])
    write_answer_files([Source([heard], Names(PERSONS, {"talk": "talk.wav"}), {})], tmp_path)
    (cue,) = webvtt.read(tmp_path / "subtitles/talk.vtt")
    assert (cue.start, cue.end, cue.text) == ("00:00:06.000", "00:00:08.500", "Bob? (61 %)")


def test_rttm_lines_have_ten_fields_and_times_that_last(written) -> None:
    lines = [line.split(" ") for line in (written / "who.rttm").read_text(encoding="utf-8").splitlines()]
    assert {len(fields) for fields in lines} == {10}
    assert [(fields[1], float(fields[3]), float(fields[4]), fields[8]) for fields in lines] == [
        ("clip", 1.0, 2.6, "0.9710"),
        ("clip", 1.4, 0.6, "0.8000"),
        ("clip", 6.0, 2.5, "0.6100"),
    ]
    words = {person["id"]: person["rttm"] for person in json.loads((written / "who.json").read_text())["persons"]}
    assert [fields[7] for fields in lines] == [words["zoe"], "unknown_1", words["bob"]]
    assert all(fields[0] == "SPEAKER" and fields[2] == "1" for fields in lines)


def test_rttm_names_of_two_persons_are_never_the_same() -> None:
    names = {"a": "Ann Lee", "b": "Ann_Lee", "c": "unknown 1", "d": "Ann  Lee", "e": "Bo", "f": "<NA>"}
    words = rttm_names(names)
    assert words["e"] == "Bo"
    assert len(set(words.values())) == len(names)
    assert "unknown_1" not in words.values() and "<NA>" not in words.values()


def test_boxes_read_by_pycocotools_are_those_of_the_answers(written) -> None:
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(written / "coco.json"))
    names = {number: category["name"] for number, category in coco.cats.items()}
    assert list(names.values()) == [NASTY, "unknown 1", "Bob"]
    zoe = coco.loadAnns(coco.getAnnIds(catIds=[1]))
    assert [one["bbox"] for one in zoe][:2] == [[15.0, 20.0, 40.0, 60.0], [16.0, 20.0, 40.0, 60.0]]
    assert [coco.imgs[one["image_id"]]["frame_id"] for one in zoe] == [0, 5, 10, 15, 20, 25, 30, 35]
    assert {one["area"] for one in zoe} == {2400.0}
    assert [len({one["track_id"] for one in coco.loadAnns(coco.getAnnIds(catIds=[n]))}) for n in names] == [2, 1, 1]
    assert sorted(coco.imgs) == list(range(1, len(coco.imgs) + 1))
    (still,) = [image for image in coco.imgs.values() if image["file_name"] == "Foto 1.jpg"]
    assert (still["width"], still["height"]) == (64, 48)


def test_cvat_tracks_end_behind_their_last_box(written) -> None:
    root = ElementTree.parse(written / "cvat/deep/er/my clip.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == "interpolation"
    assert [label.findtext("name") for label in root.iter("label")] == [NASTY, "unknown 1", "Bob"]
    tracks = root.findall("track")
    assert [(one.get("id"), one.get("label")) for one in tracks] == [("0", NASTY), ("1", NASTY), ("2", "unknown 1")]
    for one in tracks:
        boxes = one.findall("box")
        frames = [int(box.get("frame")) for box in boxes]
        assert all(after > before for before, after in pairwise(frames))
        assert [box.get("outside") for box in boxes] == ["0"] * (len(boxes) - 1) + ["1"]
    first = tracks[0].find("box")
    assert [float(first.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")] == [15.0, 20.0, 55.0, 80.0]
    assert [one.text for one in first.iter("attribute")] == ["yes", "0.9710"]


def test_cvat_boxes_of_an_image_are_in_the_form_for_images(written) -> None:
    root = ElementTree.parse(written / "cvat/Foto 1.xml").getroot()
    image = root.find("image")
    assert (image.get("name"), image.get("width"), image.get("height")) == ("Foto 1.jpg", "64", "48")
    assert [box.get("label") for box in image.iter("box")] == ["Bob"]
    assert root.find("track") is None


@pytest.mark.parametrize(
    ("videos", "expected"),
    [
        ({"a": "x/a.mp4", "b": "b.mov"}, ["x/a", "b"]),
        ({"a": "a.mp4", "b": "a.mov"}, ["a.mp4", "a.mov"]),
        ({"a": "A.mp4", "b": "a.mp4"}, ["A.mp4", "b"]),
        ({"a": "../x.mp4", "b": "/x.mp4", "c": "..", "d": "x/../../y.mp4"}, ["a", "b", "c", "d"]),
        ({"a": "b.vtt/x.mp4", "b": "b.jpg/x.mp4", "c": "b.tmp/x.mp4"}, ["a", "b", "c"]),
        ({"a": "x" * 300 + ".mp4", "b": "é.mp4", "c": "e\u0301.mov"}, ["a", "é.mp4", "e\u0301.mov"]),
        ({"a": "b", "b": "../b"}, ["b", "b-2"]),
        ({"李": "李 明.mp4"}, ["李 明"]),
    ],
)
def test_names_of_files_are_different_and_stay_in_their_folder(videos, expected) -> None:
    assert list(file_names(videos).values()) == expected


def test_two_test_sets_with_the_same_segments_keep_their_files_apart(tmp_path, items) -> None:
    names = Names(PERSONS, VIDEOS)
    sources = [Source([CLIP], names, {"face": items}, "one"), Source([STILL, CLIP], names, {"face": items}, "two")]
    write_answer_files(sources, tmp_path)
    for name in ("one", "two"):
        assert (tmp_path / "subtitles" / name / "deep/er/my clip.vtt").is_file()
        assert (tmp_path / best_name("clip", 1, name)).is_file()
    rows = list(read_who_csv(tmp_path / "who.csv"))
    paths = [row.best_face for row in rows if row.best_face]
    assert len(set(paths)) == len(paths) == 5
    unknown = ["unknown 1 of one", "unknown 1 of two"]  # they are two persons
    assert [row.person for row in rows if row.decision == "unknown"] == unknown
    categories = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["categories"]
    assert [each["name"] for each in categories if "unknown" in each["name"]] == unknown


def test_images_of_ids_with_slashes_and_of_sets_with_alike_names_are_kept_apart(tmp_path) -> None:
    assert best_name("b_c", 1, "a") != best_name("c", 1, "a_b")
    items = write_items(tmp_path / "det", {"id1/clip": 11})
    answer = replace(CLIP, segment="id1/clip")
    write_answer_files([Source([answer], Names(PERSONS, {}), {"face": items})], tmp_path)
    paths = [row.best_face for row in read_who_csv(tmp_path / "who.csv") if row.best_face]
    assert paths == ["faces/id1/clip_001.jpg", "faces/id1/clip_002.jpg"]
    assert all((tmp_path / path).is_file() for path in paths) and (tmp_path / "subtitles/id1/clip.vtt").is_file()


def test_answers_of_other_items_are_refused_and_the_files_before_are_kept(tmp_path, items) -> None:
    names = Names(PERSONS, VIDEOS)
    write_answer_files([Source([CLIP], names, {"face": items})], tmp_path)
    before = (tmp_path / "who.csv").read_bytes()
    wrong = VideoAnswer("clip", "ok", 1.0, 8, 8, (appearance("zoe", "yes", 0.9, track(9, 3, 0.0)),))
    with pytest.raises(DataError, match="expected item 11 of a track, found 11 items; run stage 4 again"):
        write_answer_files([Source([wrong], names, {"face": items})], tmp_path)
    with pytest.raises(DataError, match="expected the folder with the items of face, found that of none"):
        write_answer_files([Source([CLIP], names, {})], tmp_path)
    assert (tmp_path / "who.csv").read_bytes() == before


def data_folders(root: Path) -> tuple[Path, Path]:
    enroll, test = root / "data/enroll", root / "data/test"
    enroll.mkdir(parents=True), test.mkdir()
    (enroll / "spk2utt").write_text("".join(f"{person} {person}-1\n" for person in PERSONS))
    (enroll / "names").write_text("".join(f"{person} {name}\n" for person, name in PERSONS.items()), encoding="utf-8")
    (test / "vid.scp").write_text("".join(f"{segment} {segment}.mp4\n" for segment in VIDEOS))
    (test / "names").write_text("".join(f"{segment} {name}\n" for segment, name in VIDEOS.items()))
    return enroll, test


def run_step(root: Path, capsys, answers=ANSWERS) -> str:
    if not (root / "data").exists():
        data_folders(root)
    (root / "who.jsonl").write_bytes(b"".join(map(answer_line, answers)))
    word = f"--answers {root}/who.jsonl --enroll-data {root}/data/enroll --test-data {root}/data/test"
    write_answers(WriteAnswersOptions([f"{word} --items face={root}/items"], root / "results"))
    return capsys.readouterr().out


def test_the_step_prints_the_table_and_tells_what_could_not_be_read(tmp_path, items, capsys) -> None:
    shutil.copytree(items, tmp_path / "items")
    said = run_step(tmp_path, capsys).splitlines()
    assert said[0].split() == list(WhoRow._fields[:-1])
    assert said[3].split() == ["Bob", "deep/er/my", "clip.mp4", "6.00", "8.50", "0.61", "unsure", "0", "6.00"]
    assert said[-2:] == [
        "files: 4, with nobody: 1; appearances: 2 recognised, 1 unsure, 1 unknown",
        "1 could not be read: broken.avi (not a media file)",
    ]


def test_answers_that_are_not_there_or_edited_are_refused_by_name(tmp_path, items) -> None:
    data_folders(tmp_path)
    word = f"--answers {tmp_path}/who.jsonl --test-data {tmp_path}/data/test --items face={items}"
    options = WriteAnswersOptions([word], tmp_path / "results")
    with pytest.raises(DataError, match=r"who\.jsonl: no such file; run ./run_004_score\.sh"):
        write_answers(options)
    (tmp_path / "who.jsonl").write_bytes(answer_line(EMPTY))
    write_record(tmp_path / "who.jsonl", ["x"], [], [tmp_path / "who.jsonl"])
    (tmp_path / "who.jsonl").write_bytes(answer_line(BROKEN))
    with pytest.raises(DataError, match=r"who\.jsonl: expected SHA-256"):
        write_answers(options)
    with pytest.raises(ScoringError, match="--items: expected <modality>=<folder>.*found 'nose=x'"):
        write_answers(WriteAnswersOptions([f"{word} nose=x"], tmp_path / "results"))


def test_a_second_run_writes_nothing_and_says_the_same(tmp_path, items, capsys) -> None:
    shutil.copytree(items, tmp_path / "items")
    first = run_step(tmp_path, capsys)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    assert run_step(tmp_path, capsys) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")} == before


def test_an_answer_file_that_was_edited_or_left_by_a_killed_run_is_made_again(tmp_path, items, capsys) -> None:
    shutil.copytree(items, tmp_path / "items")
    run_step(tmp_path, capsys)
    results = tmp_path / "results"
    whole = {path.relative_to(results): path.read_bytes() for path in results.rglob("*") if path.is_file()}
    (results / "who.rttm").write_text("x")
    (results / "answers.partial/faces").mkdir(parents=True)
    (results / "answers.partial/faces/old.jpg").write_bytes(b"x")
    shutil.copytree(results / "cvat", results / "cvat.old")
    shutil.rmtree(results / "cvat")
    run_step(tmp_path, capsys)
    again = {path.relative_to(results): path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert again == whole


def test_files_of_appearances_that_are_gone_are_removed(tmp_path, items, capsys) -> None:
    shutil.copytree(items, tmp_path / "items")
    run_step(tmp_path, capsys)
    run_step(tmp_path, capsys, (EMPTY,))
    results = tmp_path / "results"
    assert sorted(str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()) == [
        *("coco.json", "subtitles/empty.vtt", "who.csv", "who.csv.record.json", "who.json", "who.rttm")
    ]


# --- the table


def row(person: str, video: str = "v.mp4", end_s: float = 2.5) -> WhoRow:
    return WhoRow(person, video, 1.0, end_s, 0.97, "yes", 12, 1.2, "faces/v_001.jpg")


def test_columns_are_aligned_where_letters_are_wide_or_have_accents() -> None:
    lines = who_table([row("李 明"), row("e\u0301va"), row("Bob", "x" * 60), row("أحمد")])
    at = {display_width(line[: line.index(" 1.00 ")]) for line in lines[1:]}
    assert len(at) == 1
    assert max(map(display_width, lines)) < 120


def test_a_table_of_many_rows_ends_with_how_many_are_left() -> None:
    lines = who_table((row(f"p{number}") for number in range(250)), most=100)
    assert len(lines) == 102
    assert lines[-1] == "and 150 more, see who.csv"


def test_nobody_found_is_said_in_words() -> None:
    assert who_table([]) == ["nobody was found"]


def test_a_name_cannot_move_the_cursor_or_turn_the_line() -> None:
    text = "\n".join(who_table([row("a\x1b[2Jb\u202ec\rd")]))
    assert not set("\x1b\r\u202e") & set(text)
    assert len(text.splitlines()) == 2
