"""Persons found in frames: boxes against plain loops, frames of any size, engines, and stage 2 from list to archive."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_persons import CARD as PILLARS
from drawn_persons import picture, pillars, write_network
from engines_here import ENGINES
from naive_decoder import write_video
from PIL import Image as Picture

from vidperson.body import found
from vidperson.body.crops import BodyCrops, cut_out
from vidperson.body.detector import PersonDetector, Persons
from vidperson.body.found import OUT_OF_MEMORY, Searched, find_bodies, search_frames
from vidperson.engines import load_network
from vidperson.errors import ModelError
from vidperson.io.matrices import load_matrices
from vidperson.media.limits import USUAL_LIMITS
from vidperson.media.sampling import UniformSampling
from vidperson.networks.card import Output, load_card
from vidperson.types import Frame

CARD = load_card("yolox_nano_onnx")
Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]


# ---------------------------------------------------------------------------------------------------------- decoding


def naive_persons(rows: Array, height: int, width: int, threshold: float, nms: float) -> list[tuple[float, Box]]:
    """The published formulas, place after place, in float64; one frame of a network of 416 x 416."""
    factor = min(416 / height, 416 / width)
    to_x, to_y = width / int(width * factor), height / int(height * factor)
    candidates: list[tuple[float, Box]] = []
    index = 0
    for stride in (8, 16, 32):
        for row in range(416 // stride):
            for column in range(416 // stride):
                dx, dy, dw, dh, thing, person = (float(value) for value in rows[index, :6])
                index += 1
                if np.float32(thing) * np.float32(person) >= np.float32(threshold):
                    x, y, w, h = (
                        (dx + column) * stride,
                        (dy + row) * stride,
                        math.exp(dw) * stride,
                        math.exp(dh) * stride,
                    )
                    box = ((x - w / 2) * to_x, (y - h / 2) * to_y, (x + w / 2) * to_x, (y + h / 2) * to_y)
                    candidates.append((thing * person, box))
    assert index == len(rows)
    kept: list[tuple[float, Box]] = []
    for score, box in sorted(candidates, key=lambda pair: -pair[0]):
        if all(overlap(box, other) <= nms for _, other in kept):
            kept.append((score, box))
    clipped = [(score, (max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))) for score, (x1, y1, x2, y2) in kept]
    return [(score, box) for score, box in clipped if box[0] < box[2] and box[1] < box[3]]


def overlap(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def raw_outputs(frames: int, seed: int) -> Array:
    """(N, 3549, 85): about 60 of the places show a person, in groups that overlap."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.3, (frames, 3549, 85)).astype(np.float32)
    rows[..., 4:] = rng.uniform(0, 0.3, (frames, 3549, 81))
    for frame in rows:
        for place in rng.integers(0, 3500, 20):
            frame[place : place + 3, 2:4] = rng.normal(1.5, 0.7, (3, 2))
            frame[place : place + 3, 4:6] = rng.uniform(0.6, 1, (3, 2))
    return rows


@pytest.mark.parametrize("size", [(720, 1280), (416, 416), (90, 70), (1000, 333), (7, 2000)])
def test_persons_are_those_of_the_formulas_place_by_place(size: tuple[int, int]) -> None:
    rows = raw_outputs(2, seed=size[0])
    detector = PersonDetector(lambda batch: [rows], CARD, threshold=0.5, nms_threshold=0.4)
    for persons, raw in zip(detector.persons([rows], [size, size]), rows, strict=True):
        expected = naive_persons(raw, *size, 0.5, 0.4)
        assert len(expected) > (3 if size[0] > 7 else 0) and len(persons) == len(expected)
        np.testing.assert_allclose(persons.scores, [score for score, _ in expected], rtol=1e-6)
        np.testing.assert_allclose(persons.boxes, [box for _, box in expected], atol=2e-3, rtol=1e-5)


def test_frame_lies_at_the_upper_left_of_grey_with_its_shape_and_the_channels_of_the_card() -> None:
    image = np.random.default_rng(0).integers(0, 255, (100, 400, 3), np.uint8)
    detector = PersonDetector(lambda batch: [batch], CARD)
    (item,) = detector.prepare([image])
    assert item.shape == (3, 416, 416) and item.dtype == np.float32
    expected = cv2.resize(image, (416, 104), interpolation=cv2.INTER_LINEAR)
    assert (item[:, :104] == expected[..., ::-1].transpose(2, 0, 1)).all() and (item[:, 104:] == 114).all()
    rgb = dataclasses.replace(
        CARD, input=dataclasses.replace(CARD.input, channels="rgb", mean=(10, 0, 0), std=(2, 1, 1))
    )
    (other,) = PersonDetector(lambda batch: [batch], rgb).prepare([image])
    assert (other[0] == (item[2] - 10) / 2).all() and (other[2] == item[0]).all()


def test_frames_of_different_sizes_in_one_batch_are_as_one_after_the_other() -> None:
    images = [picture([(1, 2)], 64, 64), picture([(5, 1), (2, 3)], 128, 200), picture([], 300, 20)]
    detector = PersonDetector(pillars, PILLARS)
    together = detector.detect(images)
    assert [len(persons) for persons in together] == [1, 2, 0] and detector.detect([]) == []
    for image, persons in zip(images, together, strict=True):
        (single,) = detector.detect([image])
        assert (single.boxes == persons.boxes).all() and (single.scores == persons.scores).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "face_detector"}, "is a face_detector, not a body_detector"),
        ({"output": Output(decoder="scrfd")}, "output.decoder: expected one of yolox, found 'scrfd'"),
        ({"input": dataclasses.replace(CARD.input, width=400)}, "expected two multiples of 32, found 400 x 416"),
        ({"input": dataclasses.replace(CARD.input, height=None)}, "expected two multiples of 32, found 416 x None"),
    ],
)
def test_card_of_another_kind_decoder_or_size_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PersonDetector(pillars, dataclasses.replace(CARD, **changes))


@pytest.mark.parametrize("shape", [(1, 3548, 85), (1, 3549, 5), (1, 85, 3549), (3549, 85)])
def test_outputs_of_another_network_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    detector = PersonDetector(lambda batch: [np.zeros(shape, np.float32)], dataclasses.replace(CARD))
    with pytest.raises(ModelError, match=r"expected one output of shape \(1, 3549, 6 or more\), found \[\("):
        detector.persons([np.zeros(shape, np.float32)], [(10, 10)])


@pytest.mark.parametrize(("place", "value"), [(0, np.nan), (5, np.inf), (4, 1.5), (5, -4.0)])
def test_outputs_that_are_no_numbers_or_no_scores_are_refused(place: int, value: float) -> None:
    rows = raw_outputs(1, seed=0)
    rows[0, 99, place] = value
    with pytest.raises(ModelError, match="expected finite numbers, and scores of 0 to 1; the file or the card is wron"):
        PersonDetector(lambda batch: [rows], CARD).persons([rows], [(90, 70)])


def test_persons_of_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected boxes"):
        Persons(np.zeros((2, 4), np.float32), np.zeros(3, np.float32))


def test_engines_find_the_same_persons_in_a_film_still(shared: Path) -> None:
    path = shared / "models/body/yolox_nano_onnx/yolox_nano.onnx"
    still = shared / "data/video/titanic/still01.jpg"
    image = np.asarray(Picture.open(still).convert("RGB"))
    found = [PersonDetector(load_network(path, engine), CARD).detect([image])[0] for engine in ENGINES]
    assert len(found[0]) >= 2 and found[0].scores[1] > 0.8
    for other in found[1:]:
        np.testing.assert_allclose(other.boxes, found[0].boxes, atol=0.1)
        np.testing.assert_allclose(other.scores, found[0].scores, atol=1e-4)


# -------------------------------------------------------------------------------------------------- frames under way


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches do not depend on how busy the machine is."""
    monkeypatch.setattr(found, "_SILENCE_S", 600.0)


def frames(count: int, size: int = 8) -> Iterator[Frame]:
    return (Frame(np.full((size, size, 3), number, np.uint8), number, float(number)) for number in range(count))


def marked(images: Sequence[Array]) -> list[Persons]:
    """As many persons as the first pixel says."""
    return [Persons(np.zeros((int(i[0, 0, 0]), 4), np.float32), np.zeros(int(i[0, 0, 0]), np.float32)) for i in images]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_frames_and_what_is_between_them_come_in_order_in_full_batches(batch_size: int) -> None:
    sizes: list[int] = []

    def contents() -> Iterator[Frame | str]:
        for frame in frames(10):
            yield frame
            if frame.index % 4 == 3:
                yield f"after {frame.index}"

    def detect(images: Sequence[Array]) -> list[Persons]:
        sizes.append(len(images))
        return marked(images)

    order = []
    for item in search_frames(contents(), detect, batch_size):
        if isinstance(item, Searched):
            assert len(item.persons) == item.frame.index
            order.append(item.frame.index)
        else:
            assert item == f"after {order[-1]}"
    assert order == list(range(10)) and sum(sizes) == 10 and set(sizes[:-1]) <= {min(batch_size, 10)}


def test_large_frames_do_not_pile_up_while_results_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_BUDGET", 1000)
    made: list[int] = []

    def contents() -> Iterator[Frame]:
        for frame in frames(50, size=16):  # 768 bytes; two of them fit into the budget of one batch
            made.append(frame.index)
            yield frame

    monkeypatch.setattr(found, "_SILENCE_S", 0.02)
    searched = search_frames(contents(), marked)
    for number, item in enumerate(searched):
        assert isinstance(item, Searched) and item.frame.index == number
        threading.Event().wait(0.002)
        assert len(made) <= number + 4
    assert len(made) == 50


# ------------------------------------------------------------------------------------------------- segments, stage 2


def saved(path: Path, image: Array) -> str:
    Picture.fromarray(image).save(path)
    return str(path)


@pytest.fixture
def media(tmp_path: Path) -> dict[str, str]:
    """A video of four frames, a folder of two images, an image of nobody, one cut short, and what is no image."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(2):
        saved(folder / f"{number}.png", picture([(number, 1)], 60 + number, 64))
    cut = Path(saved(tmp_path / "cut.png", picture([(1, 1)])))
    cut.write_bytes(cut.read_bytes()[:-20])
    (tmp_path / "text.jpg").write_text("no image")
    walk = [picture([(step, 1), (7, 4)][: step + 1], 128, 128) for step in range(4)]
    return {
        "a-video": str(write_video(tmp_path / "a.mp4", walk, rate=1, options={"crf": "1"})),
        "b-folder": str(folder),
        "c-nobody": saved(tmp_path / "c.png", picture([])),
        "d-cut": str(cut),
        "e-text": str(tmp_path / "text.jpg"),
        "f-missing": str(tmp_path / "missing.mp4"),
    }


def stored(
    media: dict[str, str], batch_size: int, alone: Sequence[str] = ()
) -> list[tuple[str, str, dict[str, bytes]]]:
    detect = PersonDetector(pillars, PILLARS).detect
    results = find_bodies(media, detect, UniformSampling(1), batch_size, alone=alone)
    return [
        (segment, status, {name: b"".join(content) for name, content in bodies.entries(segment).items()})
        for segment, status, bodies in results
    ]


def test_segments_get_their_persons_and_statuses_whatever_the_batches(media: dict[str, str]) -> None:
    results = stored(media, 1)
    assert [segment for segment, *_ in results] == list(media)
    statuses = [status for _, status, _ in results]
    assert statuses[:4] == ["ok", "ok", "no_body", "damaged: the PNG image is cut short"]
    assert all(status.startswith("unreadable: ") for status in statuses[4:])
    rows = np.frombuffer(results[0][2]["bodies.ark"][-7 * 7 * 4 :], np.float32).reshape(7, 7)
    assert rows[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(rows[0, 2:6], [0, 0, 16, 48], atol=1)  # a pillar is three cells high, from the one above
    assert stored(media, 3) == results and stored(media, 1, alone=["b-folder", "d-cut"]) == results


def test_segment_that_needs_more_memory_than_there_is_only_gets_a_status(media: dict[str, str]) -> None:
    def detect(images: Sequence[Array]) -> list[Persons]:
        if images[0].shape[0] == 61:
            raise MemoryError
        return PersonDetector(pillars, PILLARS).detect(images)

    statuses = {result.segment: result.status for result in find_bodies(media, detect, UniformSampling(1))}
    assert list(statuses) == list(media) and statuses["b-folder"] == OUT_OF_MEMORY
    assert statuses["a-video"] == "ok" and statuses["c-nobody"] == "no_body"


def stage(repo: Path, work: Path, name: str, *options: str) -> str:
    words = [f"./run_{name}.sh", "--modalities", "body", "--trial-sets", "cast:film", *options]
    words += ["--data-dir", str(work / "data"), "--exp-dir", str(work / "exp")]
    ran = subprocess.run(words, cwd=repo, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout + ran.stderr


def test_stage_2_finds_persons_where_there_is_no_region_and_keeps_given_boxes(
    repo: Path, tmp_path: Path, media: dict[str, str]
) -> None:
    pytest.importorskip("onnx")
    card = write_network(tmp_path)
    for name, segments in (("cast", list(media)), ("film", ["c-nobody"])):
        data = tmp_path / "data" / name
        data.mkdir(parents=True)
        (data / "vid.scp").write_text("".join(f"{segment} {media[segment]}\n" for segment in segments))
        (data / "utt2spk").write_text("".join(f"{segment} {segment}\n" for segment in segments))
        (data / "spk2utt").write_text("".join(f"{segment} {segment}\n" for segment in segments))
    (tmp_path / "data/film/region").write_text("c-nobody 1 2 30 40\n")
    models = ["--models-dir", str(tmp_path / "exp/body_models"), "--modality", "body", "--detector", str(card)]
    ran = subprocess.run([sys.executable, "steps/get_models.py", *models], cwd=repo, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    stage(repo, tmp_path, "002_detect_faces", "--body-detector", "pillars", "--nj", "1", "--contact-sheet", "true")
    items = tmp_path / "exp/body_det/pillars"
    assert (items / "cast/contact_sheet.jpg").is_file()
    made = {path: path.read_bytes() for path in items.glob("*/*") if path.suffix in (".ark", ".tar", ".scp")}
    stage(repo, tmp_path, "002_detect_faces", "--body-detector", "pillars", "--nj", "3", "--force", "true")
    assert len(made) == 20 and all(path.read_bytes() == content for path, content in made.items())
    statuses = dict(line.split(maxsplit=1) for line in (items / "cast/status").read_text().splitlines())
    assert list(statuses) == list(media) and statuses["a-video"] == "ok" and statuses["c-nobody"] == "no_body"
    rows = load_matrices(items / "cast/bodies.scp", 7)
    assert len(rows["a-video"]) == 7 and len(rows["b-folder"]) == 2 and not len(rows["f-missing"])
    assert load_matrices(items / "film/bodies.scp", 7)["c-nobody"].tolist() == [[0, 0, 1, 2, 30, 40, 1]]
    image = np.asarray(Picture.open(Path(media["b-folder"]) / "1.png"))
    x1, y1, x2, y2 = rows["b-folder"][1, 2:6].tolist()
    *_, crop = BodyCrops(items / "cast").read("b-folder")
    assert (crop == cut_out(image, (x1, y1, x2, y2), USUAL_LIMITS)[0]).all()
