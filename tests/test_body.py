"""Bodies: persons cut out where boxes say, whatever the frame; their networks; stages 2 and 3 from list to archive."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from vidperson.body.crops import BodyCrops, cut_out
from vidperson.body.embedder import BodyEmbedder
from vidperson.body.given import cut_bodies
from vidperson.errors import DataError, MediaError, ModelError
from vidperson.io.lists import read_regions
from vidperson.io.matrices import load_matrices
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import UniformSampling
from vidperson.networks.card import ModelCard, NetworkFile, Output, PictureInput, card_text, load_card

CARD = load_card("osnet_x025_msmt17_onnx")


def frame(height: int = 90, width: int = 70, seed: int = 0) -> np.ndarray[Any, Any]:
    """A smooth picture, different everywhere."""
    rng = np.random.default_rng(seed)
    small = Picture.fromarray(rng.integers(1, 255, (6, 5, 3), np.uint8))
    return np.asarray(small.resize((width, height), Picture.Resampling.BICUBIC).convert("RGB")).clip(1, 255)


@pytest.mark.parametrize(
    ("box", "outside"),
    [
        ((10, 20, 40, 80), 0.0),
        ((0, 0, 70, 90), 0.0),
        ((10.4, 19.6, 39.6, 80.4), 0.0),
        ((-20, 10, 20, 60), 0.5),
        ((60, 80, 80, 100), 0.75),
        ((-10, -10, 80, 100), 1 - 6300 / 9900),
        ((200, 10, 240, 90), 1.0),
        ((12.1, 12.1, 12.2, 12.2), 0.0),
    ],
)
def test_cut_out_person_is_what_pillow_crops_and_resizes_with_black_outside(
    box: tuple[float, float, float, float], outside: float
) -> None:
    x1, y1, x2, y2 = map(round, box)
    whole = (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
    expected = Picture.fromarray(frame()).crop(whole).resize((128, 256), Picture.Resampling.BICUBIC)
    found, share = cut_out(frame(), box, USUAL_LIMITS)
    assert found.shape == (256, 128, 3) and (found == np.asarray(expected)).all()
    assert share == pytest.approx(outside)


def test_box_of_more_pixels_than_the_limits_allow_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(MediaError, match="more than max_pixels 10000"):
        cut_out(frame(), (-1e9, -1e9, 1e9, 1e9), Limits(max_pixels=10_000))


def saved(path: Path, seed: int = 0) -> str:
    Picture.fromarray(frame(seed=seed)).save(path)
    return str(path)


def test_person_of_a_folder_of_images_is_cut_out_of_each_frame(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in range(3):
        saved(folder / f"{number}.png", number)
    status, bodies = cut_bodies(str(folder), (10, 20, 40, 80), UniformSampling(1))
    assert status == "ok" and len(bodies) == 3
    stored = {name: b"".join(content) for name, content in bodies.entries("walk").items()}
    assert set(stored) == {"bodies.ark", "quality.ark", "shots.ark", "crops.tar", "thumbs.tar"}
    rows = np.frombuffer(stored["bodies.ark"][-3 * 7 * 4 :], np.float32).reshape(3, 7)
    assert rows.tolist() == [[n, n, 10, 20, 40, 80, 1] for n in range(3)]


@pytest.mark.parametrize(
    ("box", "status"),
    [
        (None, "ok"),
        ((0.0, 0.0, 5.0, 5.0), "ok"),
        ((70.0, 0.0, 90.0, 50.0), "no_body: its box lies outside the frame of 70 x 90 pixels"),
        ((0.0, 0.0, 1e6, 1e6), "unreadable: 1000000 x 1000000 pixels are more than max_pixels 100000000"),
    ],
)
def test_status_of_a_segment_says_what_became_of_its_box(tmp_path: Path, box: Any, status: str) -> None:
    said, bodies = cut_bodies(saved(tmp_path / "a.png"), box, UniformSampling(1))
    assert said == status and len(bodies) == (1 if status == "ok" else 0)


def test_file_that_is_cut_short_or_no_image_only_gives_a_status(tmp_path: Path) -> None:
    path = Path(saved(tmp_path / "a.png"))
    path.write_bytes(path.read_bytes()[:-200])
    said, bodies = cut_bodies(str(path), None, UniformSampling(1))
    assert said == "damaged: the PNG image is cut short" and len(bodies) == 1
    path.write_bytes(b"no image")
    said, bodies = cut_bodies(str(path), None, UniformSampling(1))
    assert said.startswith("unreadable: ") and not len(bodies)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 2 3", "expected '<segment> <x1> <y1> <x2> <y2>', found 'a 1 2 3'"),
        ("a 1 2 three 4", "expected '<segment>"),
        ("a 3 2 3 4", "expected x1 < x2 and y1 < y2"),
        ("a nan 2 3 4", "expected x1 < x2"),
        ("b 1 2 3 4", "'b' appears twice"),
    ],
)
def test_region_that_is_no_box_is_refused_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "region").write_text(f"b -5 0 3.5 4\n{line}\n")
    with pytest.raises(DataError, match="region:2: .*" + message.replace("(", "\\(")):
        read_regions(tmp_path / "region")
    (tmp_path / "region").write_text("b -5 0 3.5 4\n")
    assert read_regions(tmp_path / "region") == {"b": (-5, 0, 3.5, 4)}


def network(batch: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Means of the left and the right half per channel: 6 values that mirroring exchanges."""
    halves = batch.reshape(len(batch), 3, 256, 2, 64).mean(axis=(2, 4), dtype=np.float64)
    return [halves.reshape(len(batch), 6).astype(np.float32)]


def small_card(**changes: Any) -> ModelCard:
    return dataclasses.replace(CARD, **{"output": Output(embedding_size=6, mirror="sum"), **changes})


@pytest.mark.parametrize(("mirror", "size"), [(None, 6), ("none", 6), ("concatenate", 12)])
def test_embedding_of_a_body_is_normalised_and_mirrored_as_the_card_or_the_option_says(
    mirror: str | None, size: int
) -> None:
    assert isinstance(CARD.input, PictureInput)
    crops = np.stack([cut_out(frame(seed=seed), (0, 0, 70, 90), USUAL_LIMITS)[0] for seed in range(2)])
    inputs = (crops.astype(np.float64) - CARD.input.mean) / CARD.input.std
    straight, mirrored = (
        np.stack([half.mean(axis=(1, 2)) for half in np.split(view, 2, axis=2)], axis=2).reshape(2, 6)
        for view in (inputs, inputs[:, :, ::-1])
    )
    expected = {None: straight + mirrored, "none": straight, "concatenate": np.hstack([straight, mirrored])}[mirror]
    embedder = BodyEmbedder(network, small_card(), mirror)
    assert embedder.embedding_size == size
    np.testing.assert_allclose(embedder.embed(crops), expected, atol=1e-4)


def test_network_for_other_pictures_or_of_another_modality_is_refused() -> None:
    for size in ({"width": 64, "height": 128}, {"width": 128, "height": 384}):
        with pytest.raises(ModelError, match=r"input.width, input.height: expected .*128 x 256, the size of a crop"):
            BodyEmbedder(network, small_card(input=dataclasses.replace(CARD.input, **size)))
    with pytest.raises(ModelError, match="is a face_embedder, not a body_embedder"):
        BodyEmbedder(network, load_card("arcface_tiny"))


def write_network(folder: Path) -> None:
    """A card and its ONNX file: the mean of each channel, three values."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    images, means = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3, *sizes])
        for name, sizes in (("images", (256, 128)), ("embeddings", ()))
    )
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    node = helper.make_node("ReduceMean", ["images", "axes"], ["embeddings"], keepdims=0)
    graph = helper.make_graph([node], "means", [images], [means], [axes])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "means.onnx")
    card = small_card(name="means", file=NetworkFile("means.onnx"), output=Output(embedding_size=3))
    (folder / "means.yaml").write_text(card_text(card))


def stage(repo: Path, work: Path, name: str, *options: str) -> str:
    words = [f"./run_{name}.sh", "--modalities", "body", "--trial-sets", "film:film", "--body-embedder", *options]
    words += ["--data-dir", str(work / "data"), "--exp-dir", str(work / "exp")]
    ran = subprocess.run(words, cwd=repo, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout + ran.stderr


def test_stages_cut_and_embed_bodies_with_the_same_bytes_whatever_the_number_of_jobs(
    repo: Path, tmp_path: Path
) -> None:
    write_network(tmp_path)
    data = tmp_path / "data/film"
    data.mkdir(parents=True)
    boxes = {"a": "10 20 40 80", "b": "-20 10 20 60", "c": "200 0 240 90"}
    for number, segment in enumerate("abcd"):
        saved(data / f"{segment}.png", number)
    (data / "vid.scp").write_text("".join(f"{segment} {segment}.png\n" for segment in "abcd"))
    (data / "region").write_text("".join(f"{segment} {box}\n" for segment, box in boxes.items()))
    (data / "utt2spk").write_text("a one\nb two\nc one\nd two\n")
    (data / "spk2utt").write_text("one a c\ntwo b d\n")
    stage(repo, tmp_path, "000_get_pretrained_models", str(tmp_path / "means.yaml"))
    stage(repo, tmp_path, "002_detect_faces", "means", "--nj", "1", "--contact-sheet", "true")
    items = tmp_path / "exp/body_det/given/film"
    made = {path.name: path.read_bytes() for path in items.iterdir() if path.suffix in (".ark", ".tar", ".scp", ".jpg")}
    stage(repo, tmp_path, "002_detect_faces", "means", "--nj", "3", "--force", "true", "--stop-stage", "3")
    assert {name: (items / name).read_bytes() for name in made if name != "contact_sheet.jpg"}.items() <= made.items()
    assert "contact_sheet.jpg" in made and (items / "status").read_text().splitlines() == [
        "a ok", "b ok", "c no_body: its box lies outside the frame of 70 x 90 pixels", "d ok",
    ]  # fmt: skip
    crops, rows = BodyCrops(items), load_matrices(items / "bodies.scp", 7)
    assert rows["b"].tolist() == [[0, 0, -20, 10, 20, 60, 1]] and not len(rows["c"])
    assert rows["d"].tolist() == [[0, 0, 0, 0, 70, 90, 1]]
    assert load_matrices(items / "quality.scp", 2)["b"].tolist() == [[50, 0.5]]
    (crop,) = crops.read("b")
    assert (crop == cut_out(frame(seed=1), (-20, 10, 20, 60), USUAL_LIMITS)[0]).all()
    embedded = load_matrices(tmp_path / "exp/body_embed/means/film/embed.scp", 3)
    assert isinstance(CARD.input, PictureInput) and not len(embedded["c"])
    expected = (crop.mean(axis=(0, 1)) - CARD.input.mean) / CARD.input.std
    np.testing.assert_allclose(embedded["b"], expected[None], atol=1e-4)
