"""Faces of persons who are known by boxes: which face each person gets, and stage 2 on sets with the list `region`."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib import cbook, image
from PIL import Image as Picture
from recipe import Recipe, outputs

from steps_face.detect_faces import DetectOptions, detect_faces
from vidperson import cli
from vidperson.face import pipeline
from vidperson.face.bodies import (
    NO_FACE,
    ORIGINAL_SCALES,
    ORIGINAL_SIDES,
    Bodies,
    Given,
    best_face,
    give_faces,
)
from vidperson.face.crops import FaceCrops
from vidperson.face.detector import make_detector
from vidperson.io.job_store import read_notes
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.segment_inputs import segment_inputs
from vidperson.networks.card import load_card
from vidperson.networks.install import install_model
from vidperson.supervision import Watch
from vidperson.types import Box, Detections

# ------------------------------------------------------------------------------------- which face a person gets


def faces(*boxes: tuple[float, ...], scores: tuple[float, ...] = ()) -> Detections:
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(found, np.array(scores or [1.0] * len(boxes), np.float32), np.zeros((len(boxes), 5, 2)))  # type: ignore[arg-type]


def naive_cost(body: Box, face: tuple[float, ...]) -> float | None:
    """By plain arithmetic; None where the face cannot be the body's."""
    (x1, y1, x2, y2), (a1, b1, a2, b2) = body, face
    width, height, x, y = x2 - x1, y2 - y1, (a1 + a2) / 2, (b1 + b2) / 2
    shared = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
    shift = abs(x - (x1 + x2) / 2) / width
    cost = abs((b1 - y1) / (b2 - b1) - 0.3) / 0.1 + shift / 0.06
    fits = (
        x1 <= x <= x2 and y1 <= y <= y2 and shared >= 0.5 * (a2 - a1) * (b2 - b1) and b2 - b1 >= height / 16
        and y - y1 <= height * 2 / 3 and shift <= 0.4 and cost < NO_FACE
    )  # fmt: skip
    return cost if fits else None


def naive_total(bodies: list[Box], found: list[tuple[float, ...]]) -> float:
    """The least total cost, by trying all ways."""
    places: list[int | None] = [*range(len(found)), *[None] * len(bodies)]
    totals = []
    for way in set(itertools.permutations(places, len(bodies))):
        costs = [NO_FACE if j is None else naive_cost(body, found[j]) for body, j in zip(bodies, way, strict=True)]
        if None not in costs:
            totals.append(sum(cost for cost in costs if cost is not None))
    return min(totals)


def test_faces_are_given_at_the_least_total_cost_of_all_ways_whatever_the_order_of_bodies() -> None:
    rng = np.random.default_rng(3)
    shared = 0
    for _ in range(60):
        bodies, found = [], []
        for _ in range(int(rng.integers(1, 5))):
            x, y, size = rng.uniform(0, 60), rng.uniform(0, 30), rng.uniform(8, 25)
            bodies.append((x - 1.5 * size, y - 0.3 * size, x + 1.5 * size, y + rng.uniform(2, 7) * size))
            if rng.random() < 0.7:
                found.append((x - size / 2, y, x + size / 2, y + size * rng.uniform(0.8, 1.4)))
        boxes: dict[str, Box] = {f"b{place}": body for place, body in enumerate(bodies)}
        given = give_faces(boxes, faces(*found))
        table = faces(*found).boxes.tolist()
        taken = [one.face for one in given.values() if one.face is not None]
        assert len(set(taken)) == len(taken)
        costs = [NO_FACE if (j := given[name].face) is None else naive_cost(boxes[name], table[j]) for name in boxes]
        assert None not in costs
        assert sum(cost for cost in costs if cost is not None) == pytest.approx(naive_total(bodies, table))
        assert give_faces(dict(reversed(boxes.items())), faces(*found)) == given
        shared += any(one.state.startswith("face_rejected: the face in its box is that of b") for one in given.values())
    assert shared >= 5


def test_overlapping_bodies_that_share_a_face_leave_it_to_the_one_that_it_fits() -> None:
    front, behind = (20.0, 0.0, 60.0, 100.0), (30.0, 10.0, 90.0, 120.0)
    given = give_faces({"front": front, "behind": behind}, faces((34, 4, 46, 19)))
    assert given == {
        "front": Given(0),
        "behind": Given(None, "face_rejected: the face in its box is that of front"),
    }


def test_face_of_several_segments_with_the_same_box_goes_to_the_first_name() -> None:
    box = (0.0, 0.0, 40.0, 100.0)
    for names in ("ba", "dcba", "abcdefghij"):
        for others in ([], [(120.0, 5.0, 132.0, 20.0)]):
            given = give_faces(dict.fromkeys(names, box), faces(*others, (14, 5, 26, 20)))
            assert given.pop("a").face == len(others) and {one.face for one in given.values()} == {None}


@pytest.mark.parametrize(("face", "state"), [
    ((40, 9, 60, 35), ""),
    ((200, 9, 220, 35), "no_face"),
    ((40, 5, 44, 9), "face_rejected: the face has less than 1/16 of the height of its box"),
    ((40, 70, 60, 96), "face_rejected: the face lies in the lower third of its box"),
    ((2, 9, 16, 25), "face_rejected: the face lies at a side of its box"),
    ((-40, -30, 60, 35), "face_rejected: less than half of the face lies in its box"),
    ((45, 40, 55, 50), "face_rejected: the face lies too far below the top of its box"),
])  # fmt: skip
def test_face_that_cannot_be_the_bodys_is_rejected_with_the_reason(face: tuple[float, ...], state: str) -> None:
    assert give_faces({"a": (0.0, 0.0, 100.0, 100.0)}, faces(face))["a"] == Given(None if state else 0, state)


def test_sure_faces_come_first_and_an_unsure_one_goes_to_a_body_without() -> None:
    bodies = Bodies({"a": (0.0, 0.0, 40.0, 100.0), "b": (50.0, 0.0, 90.0, 100.0), "c": (300.0, 0.0, 340.0, 9.0)}, ["a"])
    found = faces((14, 5, 26, 20), (13, 6, 27, 22), (64, 5, 76, 20), scores=(0.5, 0.95, 0.4))
    given = bodies.give(found, 0.9, 100, 100)
    assert given["a"].face == 1 and given["b"].face == 2
    assert given["c"] == Given(None, "no_face: its box lies outside the frame of 100 x 100 pixels")


@pytest.mark.parametrize(("found", "face", "state"), [
    ([(45, 20, 61, 42), (30, 10, 60, 44)], 1, ""),  # the larger one
    ([(45, 20, 61, 42), (10, 60, 40, 94)], 0, ""),  # the one nearer to (w / 2, h / 3)
    ([(45, 20, 55, 40)], None, "face_rejected: the largest face is at most 1/50 of its box"),
    ([(0, 20, 30, 42)], None, "face_rejected: the largest face is in the outer sixths of its box"),
    ([], None, "no_face"),
])  # fmt: skip
def test_best_face_is_the_originals_choice(found: list[tuple[float, ...]], face: int | None, state: str) -> None:
    moved = [(x1 + 7, y1 - 9, x2 + 7, y2 - 9) for x1, y1, x2, y2 in found]
    assert best_face({"a": (7.0, -9.0, 107.0, 91.0)}, faces(*moved))["a"] == Given(face, state)


def test_segments_of_one_file_change_with_each_other_and_no_others_do(tmp_path: Path) -> None:
    region = tmp_path / "region"
    lines = {"a": "1.png", "b": "2.png", "c": f"{tmp_path}/1.png"}

    def inputs(text: str, paths: dict[str, str] = lines) -> dict[str, str]:
        region.write_text(text)
        return dict(segment_inputs(paths, [region], tmp_path, of_files=True))

    first = inputs("a 1 2 3 4\nb 1 2 3 4\n")
    changed = inputs("a 1 2 3 5\nb 1 2 3 4\n")
    assert {name for name in first if first[name] != changed[name]} == {"a", "c"}
    added = inputs("a 1 2 3 4\nb 1 2 3 4\n", {**lines, "d": "2.png"})
    assert {name for name in first if first[name] != added[name]} == {"b"}
    assert inputs("a 1 2 3 4\nb 1 2 3 4\n", dict(reversed(lines.items()))) == first


# -------------------------------------------------------------------------------------------------- stage 2, made up

PHOTO = np.asarray(image.imread(cbook.get_sample_data("grace_hopper.jpg")))
BIG, SMALL = (20, 72, 300, 400), (420, 212, 580, 400)  # where two prints of it lie in a frame
# of the frames: 0 RGB, 1 grey, 2 CMYK, 3 cut short, 4 no image, 5 a wall; boxes that overlap, and one outside
SEGMENTS: dict[str, tuple[int, str]] = {
    "a": (0, "20 72 300 400"), "b": (1, "20 72 300 400"), "c": (0, "420 212 580 400"), "d": (2, "10 60 320 420"),
    "e": (0, "60 80 640 400"), "f": (3, "20 72 300 400"), "g": (2, "420 212 580 400"), "h": (4, "0 0 9 9"),
    "i": (5, "5 5 90 90"), "j": (0, "640 0 700 90"), "k": (1, "350 180 600 410"), "l": (0, "0 260 300 400"),
    "m": (4, ""), "n": (5, ""),
}  # fmt: skip
STATUSES = {
    "a": "ok", "b": "ok", "c": "ok", "d": "ok", "e": "face_rejected: the face in its box is that of a",
    "f": "damaged: a part of the JPEG image is lost", "g": "ok", "i": "no_face",
    "j": "no_face: its box lies outside the frame of 640 x 400 pixels", "k": "ok", "l": "no_face", "n": "no_face",
}  # fmt: skip


def write_frames(folder: Path) -> None:
    """A data folder ``film``: two prints of a portrait in frames of several kinds, and other files."""
    frame = np.full((400, 640, 3), 90, np.uint8)
    for x1, y1, x2, y2 in (BIG, SMALL):
        frame[y1:y2, x1:x2] = cv2.resize(PHOTO, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    data = folder / "film"
    data.mkdir(parents=True)
    picture = Picture.fromarray(frame)
    picture.save(data / "0.jpg", quality=95)
    picture.convert("L").save(data / "1.jpg", quality=95)
    picture.convert("CMYK").save(data / "2.jpg", quality=95)
    whole = (data / "0.jpg").read_bytes()
    half = len(whole) * 3 // 4
    (data / "3.jpg").write_bytes(whole[:half] + b"\xff\x00" * 40 + whole[half + 80 :])
    (data / "4.jpg").write_bytes(b"no image")
    Picture.fromarray(np.full((100, 100, 3), 120, np.uint8)).save(data / "5.jpg")
    write_lists(data)


def write_lists(data: Path) -> None:
    (data / "vid.scp").write_text("".join(f"{name} {frame}.jpg\n" for name, (frame, _) in SEGMENTS.items()))
    (data / "region").write_text("".join(f"{name} {box}\n" for name, (_, box) in SEGMENTS.items() if box))
    (data / "utt2spk").write_text("".join(f"{name} {name}\n" for name in SEGMENTS))
    (data / "spk2utt").write_text("".join(f"{name} {name}\n" for name in SEGMENTS))


@pytest.fixture(scope="module")
def made(repo: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Recipe:
    """The set with its faces and embeddings, by one job. Nobody may change it."""

    def make(work: Path) -> None:
        write_frames(work / "data")
        for name in ("retinaface_tiny", "arcface_tiny"):
            install_model(name, work / "exp/face_models")
        Recipe(repo, work, "demo").run("002_detect_faces", *FILM, "--nj", "1", "--stop-stage", "3")

    return Recipe(repo, made_once("face_regions", make), "demo")


FILM = ("--trial-sets", "film:film")


def copy_of(made: Recipe, work: Path) -> Recipe:
    """The data and networks of the set, without what was found."""
    (work / "exp").mkdir(parents=True)
    (work / "exp/face_models").symlink_to(made.work / "exp/face_models")
    write_frames(work / "data")
    return Recipe(made.root, work, "demo")


def test_every_person_of_a_frame_gets_its_own_face_or_the_reason_why_not(made: Recipe) -> None:
    folder = made.faces("film")
    statuses = read_scp(folder / "status")
    assert statuses.pop("h").startswith("unreadable: ") and statuses.pop("m").startswith("unreadable: ")
    assert statuses == STATUSES
    rows = load_matrices(folder / "faces.scp", 17)
    assert {name: len(rows[name]) for name in SEGMENTS} == {
        name: int(STATUSES.get(name) == "ok") for name in SEGMENTS
    } | {"f": 1}
    for name, place in {"a": BIG, "b": BIG, "c": SMALL, "d": BIG, "g": SMALL, "k": SMALL}.items():
        x1, y1, x2, y2 = rows[name][0, 2:6]
        assert place[0] < x1 < x2 < place[2] and place[1] < y1 < y2 < place[3]
    (crop,) = FaceCrops(folder).read("b")
    assert (crop[..., 0] == crop[..., 2]).all() and crop.std() > 20  # grey, and of the face
    status = read_scp(made.embeddings("film") / "status")
    assert status["e"] == STATUSES["e"] and status["a"] == "ok"


def test_three_jobs_that_share_frames_write_the_bytes_of_one(made: Recipe, tmp_path: Path) -> None:
    again = copy_of(made, tmp_path)
    again.run("002_detect_faces", *FILM, "--nj", "3")
    assert outputs(again.faces("film")) == outputs(made.faces("film"))
    # a neighbour's box decides the outcome of all in that frame, and of no others
    region = tmp_path / "data/film/region"
    region.write_text(region.read_text().replace("c 420 212 580 400\n", "c 420 300 580 400\n"))
    said = again.run("002_detect_faces", *FILM, "--nj", "2").stdout
    assert "5 of 14 segments are new or changed" in said
    status = read_scp(again.faces("film") / "status")
    assert status["e"] == "ok" and status["a"] == "ok" and status["g"] == "ok"


ARCHIVES = ("faces.ark", "quality.ark", "shots.ark", "crops.tar", "thumbs.tar")


def rows_of(job: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Segment -> the (N, 17) rows that a job has stored."""
    starts = {note["segment"]: note["start"]["faces.ark"] for note, _, _ in read_notes(job, ARCHIVES)}
    (job / "faces.scp").write_text("".join(f"{name} faces.ark:{at + len(name) + 1}\n" for name, at in starts.items()))
    table = load_matrices(job / "faces.scp", 17)
    return {name: np.asarray(table[name]) for name in starts}


STEP = """
import os, signal, sys
from vidperson import cli
from vidperson.supervision import Watch
from steps_face.detect_faces import DetectOptions, detect_faces
ended = []
def end(segment):
    ended.append(segment)
    if len(ended) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
detect_faces(cli.parse(DetectOptions, None, sys.argv[1:]), Watch(id, end, ()))
"""


def words(made: Recipe, output: Path, **more: str) -> list[str]:
    data = made.work / "data/film"
    options = {
        "scp": f"{data}/vid.scp", "region": f"{data}/region", "output_dir": str(output),
        "model": f"{made.work}/exp/face_models/retinaface_tiny", **more,
    }  # fmt: skip
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]


def test_job_that_was_killed_resumes_and_gives_the_same_bytes_in_the_order_of_its_list(
    made: Recipe, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    environment = {**os.environ, "PYTHONPATH": str(made.root)}
    killed = subprocess.run([sys.executable, "-c", STEP, *words(made, job)], env=environment, capture_output=True)
    assert killed.returncode == -9
    done = [note["segment"] for note, _, _ in read_notes(job, ARCHIVES)]
    assert done[0] == "a" and 3 <= len(done) < len(SEGMENTS)
    detect_faces(cli.parse(DetectOptions, None, words(made, job)))
    assert [note["segment"] for note, _, _ in read_notes(job, ARCHIVES)] == list(SEGMENTS)
    assert (job / "faces.ark").read_bytes() == (made.faces("film") / "faces.ark").read_bytes()
    assert (made.faces("film") / "crops.tar").read_bytes().startswith((job / "crops.tar").read_bytes())


class Counted(pipeline.FrameReader):
    """Notes which files are opened."""

    opened: list[str] = []

    def __init__(self, path: Any, *arguments: Any) -> None:
        Counted.opened.append(Path(path).name)
        super().__init__(path, *arguments)


def test_each_frame_of_a_job_is_decoded_once_and_what_began_ends_in_the_same_order(
    made: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "FrameReader", Counted)
    monkeypatch.setattr(Counted, "opened", [])
    events: dict[str, list[str]] = {"begin": [], "end": []}
    part = tmp_path / "vid.scp"  # of the others' frames, this job has some persons only
    data = made.work / "data/film"
    part.write_text("".join(f"{name} {data}/{SEGMENTS[name][0]}.jpg\n" for name in "beglk"))
    options = words(made, tmp_path / "job", scp=str(part), all_scp=f"{data}/vid.scp", det_batch="3")
    statuses = detect_faces(
        cli.parse(DetectOptions, None, options), Watch(events["begin"].append, events["end"].append, ["g"])
    )
    assert statuses == {name: STATUSES[name] for name in "beglk"}
    assert sorted(Counted.opened) == ["0.jpg", "1.jpg", "2.jpg"]
    assert events["begin"] == events["end"] == ["b", "e", "g"]


def test_frame_that_crashes_the_decoder_costs_its_own_persons_and_the_order_of_the_list_stays(
    made: Recipe, tmp_path: Path
) -> None:
    frames = ["ok", "crash", "memory", "ok", "crash", "memory"]
    for name in set(frames):
        (tmp_path / f"{name}.jpg").write_bytes((made.work / "data/film/0.jpg").read_bytes())
    lines = [(f"s{number}", name) for number, name in enumerate(frames)]
    (tmp_path / "vid.scp").write_text("".join(f"{segment} {tmp_path}/{name}.jpg\n" for segment, name in lines))
    (tmp_path / "region").write_text("".join(f"{segment} 20 72 300 400\n" for segment, _ in lines))
    more = {"scp": f"{tmp_path}/vid.scp", "region": f"{tmp_path}/region", "det_batch": "3"}
    environment = {**os.environ, "PYTHONPATH": str(made.root)}
    step = [sys.executable, "tests/faulty_decoder.py", *words(made, tmp_path / "job", **more)]
    ran = subprocess.run(step, cwd=made.root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    stored = [(note["segment"], note["status"]) for note, _, _ in read_notes(tmp_path / "job", ARCHIVES)]
    taken = "face_rejected: the face in its box is that of s0"
    crashed = "unreadable: the process that decodes it died of SIGSEGV"
    memory = "unreadable: its frames need more memory than there is"
    expected = ["ok", crashed, memory, taken, crashed, memory]
    assert stored == [(segment, status) for (segment, _), status in zip(lines, expected, strict=True)]


@pytest.mark.parametrize(("height", "width", "factor"), [(188, 160, 5.0), (1000, 100, 1.2), (900, 1000, 800 / 900)])
def test_what_a_box_cuts_out_is_seen_in_the_originals_five_sizes(height: int, width: int, factor: float) -> None:
    card = load_card("retinaface_tiny")
    detector = make_detector(lambda batch: [], card, scales=ORIGINAL_SCALES, sides=ORIGINAL_SIDES)
    factors = [factor * side / 800 for side in (500, 800, 1100, 1400, 1700)]
    padded = [tuple(32 * math.ceil(round(side * f) / 32) for side in (height, width)) for f in factors]
    assert detector.shapes(height, width) == tuple(padded)


def test_each_box_by_itself_is_searched_enlarged_and_the_originals_choice_is_taken(
    made: Recipe, tmp_path: Path
) -> None:
    frame, part = made.work / "data/film/0.jpg", tmp_path / "vid.scp"
    part.write_text(f"c {frame}\ns {frame}\n")
    (tmp_path / "region").write_text("c 420 212 580 400\ns 300 -400 900 400\n")
    more = {"scp": str(part), "region": f"{tmp_path}/region", "face_per_region": "true"}
    statuses = detect_faces(cli.parse(DetectOptions, None, words(made, tmp_path / "job", **more)))
    assert statuses == {"c": "ok", "s": "face_rejected: the largest face is at most 1/50 of its box"}
    (row,) = rows_of(tmp_path / "job")["c"]
    (once,) = load_matrices(made.faces("film") / "faces.scp", 17)["c"]
    assert np.abs(row[2:6] - once[2:6]).max() < 6  # of the frame, too, though seen ten times as large


# ------------------------------------------------------------------------------------------------------ real frames

STILLS = {  # boxes by YOLOX-nano, and where the person's face is to be
    "pair-a": ("hamilton/two_people.jpg", "10 6 562 656", (230, 15, 390, 235)),
    "pair-b": ("hamilton/two_people.jpg", "573 8 1121 648", (780, 40, 945, 260)),
    "still1-jack": ("titanic/still01.jpg", "203 12 953 830", None),
    "still1-rose": ("titanic/still01.jpg", "1039 139 1546 838", (1100, 200, 1265, 455)),
    "still3-jack": ("titanic/still03.jpg", "1041 87 1877 832", None),
    "still3-rose": ("titanic/still03.jpg", "704 69 1275 838", (970, 150, 1130, 345)),
}


def test_persons_of_photos_and_film_stills_get_their_faces(shared: Path, made: Recipe, tmp_path: Path) -> None:
    folder = shared / "data/video"
    (tmp_path / "vid.scp").write_text("".join(f"{name} {folder}/{still}\n" for name, (still, _, _) in STILLS.items()))
    (tmp_path / "region").write_text("".join(f"{name} {box}\n" for name, (_, box, _) in STILLS.items()))
    more = {"scp": f"{tmp_path}/vid.scp", "region": f"{tmp_path}/region"}
    statuses = detect_faces(cli.parse(DetectOptions, None, words(made, tmp_path / "job", **more)))
    rows = rows_of(tmp_path / "job")
    for name, (_, _, place) in STILLS.items():
        if place is None:
            assert not len(rows[name]) and statuses[name] != "ok", name
            continue
        (row,) = rows[name]
        assert statuses[name] == "ok" and (row[2:4] >= place[:2]).all() and (row[4:6] <= place[2:]).all(), name
