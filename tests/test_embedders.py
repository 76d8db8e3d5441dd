"""Embedders in the layouts that were published: state dicts, fixed batches, mirrored crops."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines_here import ENGINES

from steps_face.extract_embeddings import ExtractOptions, extract_embeddings
from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError
from vidperson.face.crops import FaceCrops
from vidperson.face.embedder import FaceEmbedder
from vidperson.io.crops import TAR_END, tar_entry
from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import write_record
from vidperson.networks.card import ModelCard, NetworkFile, Output, PictureInput, WaveformInput, load_card
from vidperson.networks.install import install_model

Array = np.ndarray[Any, Any]
BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


def iresnet_by_name(weights: dict[str, Any], images: Any) -> Any:
    """iResNet written out from the names in a state dict of ``arcface_torch``, in float64."""
    from torch.nn import functional

    w = {key: value.double() for key, value in weights.items()}

    def norm(x: Any, name: str) -> Any:
        parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, eps=1e-5)

    x = functional.conv2d(images.double(), w["conv1.weight"], padding=1)
    x = functional.prelu(norm(x, "bn1"), w["prelu.weight"])
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in w:
            name, stride = f"layer{stage}.{block}", 2 if block == 0 else 1
            y = functional.conv2d(norm(x, f"{name}.bn1"), w[f"{name}.conv1.weight"], padding=1)
            y = functional.prelu(norm(y, f"{name}.bn2"), w[f"{name}.prelu.weight"])
            y = norm(functional.conv2d(y, w[f"{name}.conv2.weight"], stride=stride, padding=1), f"{name}.bn3")
            if f"{name}.downsample.0.weight" in w:
                x = functional.conv2d(x, w[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = x + y
            block += 1
    x = functional.linear(norm(x, "bn2").flatten(1), w["fc.weight"], w["fc.bias"])
    return norm(x, "features")


def random_iresnet(name: str, size: int, values: int, seed: int = 0) -> dict[str, Any]:
    """A state dict with the names and shapes of ``arcface_torch``, weights that keep the size of the signal."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    weights: dict[str, Any] = {}

    def conv(key: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = (inputs * kernel * kernel) ** -0.5
        weights[f"{key}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=draw) * scale

    def norm(key: str, channels: int) -> None:
        for part, low, high in (("weight", 0.5, 1), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            weights[f"{key}.{part}"] = low + (high - low) * torch.rand(channels, generator=draw)
        weights[f"{key}.running_var"] = 0.5 + torch.rand(channels, generator=draw)
        weights[f"{key}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 3, 3)
    norm("bn1", 64)
    weights["prelu.weight"] = torch.rand(64, generator=draw) * 0.5
    inputs = 64
    for stage, (count, outputs) in enumerate(zip(BLOCKS[name], (64, 128, 256, 512), strict=True), 1):
        for block in range(count):
            key = f"layer{stage}.{block}"
            norm(f"{key}.bn1", inputs)
            conv(f"{key}.conv1", outputs, inputs, 3)
            norm(f"{key}.bn2", outputs)
            weights[f"{key}.prelu.weight"] = torch.rand(outputs, generator=draw) * 0.5
            conv(f"{key}.conv2", outputs, outputs, 3)
            norm(f"{key}.bn3", outputs)
            if block == 0:
                conv(f"{key}.downsample.0", outputs, inputs, 1)
                norm(f"{key}.downsample.1", outputs)
            inputs = outputs
    norm("bn2", 512)
    flat = 512 * (size // 16) ** 2
    weights["fc.weight"] = torch.randn(values, flat, generator=draw) * flat**-0.5
    weights["fc.bias"] = torch.rand(values, generator=draw)
    norm("features", values)
    return weights


def small_card(architecture: str, state_dict: str | None = None) -> ModelCard:
    card = load_card("iresnet18_vox2_pytorch")
    assert card.checkpoint is not None
    return dataclasses.replace(
        card,
        input=dataclasses.replace(card.input, width=32, height=32),
        output=Output(embedding_size=24),
        checkpoint=dataclasses.replace(card.checkpoint, architecture=architecture, state_dict=state_dict),
    )


def under(prefix: str, **beside: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {**{prefix + key: value for key, value in weights.items()}, **beside}


@pytest.mark.parametrize(
    "name,wrap",
    [
        ("iresnet18", under("")),
        ("iresnet34", under("module.")),
        ("iresnet50", under("backbone.")),
        ("iresnet100", under("module.backbone.")),
        ("iresnet18", under("backbone.module.")),
        ("iresnet18", under("", weight="classes")),  # the VoxCeleb recipe: network and margin loss side by side
        ("iresnet18", under("face_encoder.", **{"face_loss.weight": "classes", "speaker_encoder.x": "voice"})),
    ],
)
def test_state_dict_of_arcface_torch_loads_under_every_wrapper(
    tmp_path: Path, name: str, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    torch = pytest.importorskip("torch", reason="reads PyTorch checkpoints")
    from vidperson.networks.convert import load_checkpoint

    weights = random_iresnet(name, 32, 24)
    content = {key: torch.zeros(2, 24) if isinstance(v, str) else v for key, v in wrap(weights).items()}
    torch.save(content, tmp_path / "x.model")
    network = load_checkpoint(small_card(name), tmp_path / "x.model")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = network(images), iresnet_by_name(weights, images)
    assert found.shape == (2, 24) and expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_state_dict_under_a_key_in_half_precision_and_without_counters_loads(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="reads PyTorch checkpoints")
    from vidperson.networks.convert import load_checkpoint

    weights = {
        key: value.half().float() if value.is_floating_point() else value
        for key, value in random_iresnet("iresnet18", 32, 24).items()
    }
    half = {f"module.{key}": value.half() for key, value in weights.items() if "num_batches" not in key}
    torch.save({"epoch": 3, "net": half}, tmp_path / "x.pt")
    network = load_checkpoint(small_card("iresnet18", "net"), tmp_path / "x.pt")
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = iresnet_by_name(weights, images)
        assert (network(images) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda w: {k: v for k, v in w.items() if k != "layer4.1.conv2.weight"}, "Missing key.*layer4.1.conv2.weight"),
        (lambda w: {**w, "layer5.0.weight": w["fc.bias"]}, "Unexpected key.*layer5.0.weight"),
        (lambda w: {**w, "fc.bias": w["fc.bias"][:5]}, "size mismatch for fc.bias"),
        (lambda w: [w], "not a checkpoint of tensors: expected tensors by their names, found list"),
        (lambda w: {}, "Missing key"),
    ],
)
def test_state_dict_of_another_network_is_refused_with_the_weight(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    torch = pytest.importorskip("torch", reason="reads PyTorch checkpoints")
    from vidperson.networks.convert import load_checkpoint

    torch.save(change(random_iresnet("iresnet18", 32, 24)), tmp_path / "x.model")
    with pytest.raises(ModelError, match=message):
        load_checkpoint(small_card("iresnet18"), tmp_path / "x.model")


def test_state_dict_under_another_key_than_the_card_says_is_refused_with_the_key(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="reads PyTorch checkpoints")
    from vidperson.networks.convert import load_checkpoint

    torch.save({"weights": {}}, tmp_path / "x.pt")
    with pytest.raises(
        ModelError, match="not a checkpoint of tensors: nothing in it is called 'net', as the card says"
    ):
        load_checkpoint(small_card("iresnet18", "net"), tmp_path / "x.pt")


def test_checkpoint_of_the_voxceleb_recipe_put_there_by_hand_embeds_crops(tmp_path: Path) -> None:
    """V-Vox2.model: no hash is known, weights lie beside the loss, colours are read in OpenCV's order."""
    torch = pytest.importorskip("torch", reason="converts a PyTorch checkpoint")
    weights = random_iresnet("iresnet18", 112, 512)
    mine = tmp_path / "mine" / "iresnet18_vox2_pytorch"
    mine.mkdir(parents=True)
    torch.save({**weights, "weight": torch.zeros(5994, 512)}, mine / "V-Vox2.model")
    installed = install_model("iresnet18_vox2_pytorch", tmp_path / "models", [tmp_path / "mine"])
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    pictures = (crops[..., ::-1].astype(np.float64) / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = iresnet_by_name(weights, torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()
    for engine in ENGINES:
        found = FaceEmbedder(load_network(installed.network, engine), installed.card).embed(crops)
        assert found.shape == (2, 512) and np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


# --- batches and mirrored crops


def write_embedder(path: Path, batch: int | str, flatten: bool = True) -> Array:
    """The mean of each 28 x 28 block of a 112 x 112 picture, times a matrix (48, 8), which is returned."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["data"], ["blocks"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["blocks"], ["flat"])
        if flatten
        else helper.make_node("Reshape", ["blocks", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["fc1"]),
    ]
    constants = [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(np.array([1, 48]), "shape")]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, 112, 112])
    result = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [batch, 8])
    graph = helper.make_graph(nodes, "embedder", [data], [result], constants[: 1 if flatten else 2])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return matrix


def card_for(batch: int | None, mirror: str = "none", values: int = 8) -> ModelCard:
    how = PictureInput("rgb", (127.5,) * 3, (127.5,) * 3, 112, 112, batch=batch)
    output = Output(embedding_size=values, mirror=mirror)
    file = NetworkFile("tiny.onnx")
    return ModelCard("tiny", "face_embedder", "d", "MIT", "https://example.org", "none", file, how, output)


def expected_embeddings(crops: Array, matrix: Array) -> Array:
    blocks = ((crops - 127.5) / 127.5).reshape(-1, 4, 28, 4, 28, 3).mean(axis=(2, 4))
    return np.asarray(blocks.transpose(0, 3, 1, 2).reshape(len(crops), -1) @ matrix.astype(np.float64))


CROPS = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_file,in_card,flatten", [("n", None, True), ("n", 1, True), (1, 1, True), (1, 1, False)])
def test_onnx_embedder_with_a_fixed_or_free_batch_embeds_any_number(
    tmp_path: Path, engine: str, in_file: int | str, in_card: int | None, flatten: bool
) -> None:
    matrix = write_embedder(tmp_path / "x.onnx", in_file, flatten)
    embedder = FaceEmbedder(load_network(tmp_path / "x.onnx", engine), card_for(in_card))
    assert embedder.embed(CROPS[:0]).shape == (0, 8)
    for count in (1, 3):
        expected = expected_embeddings(CROPS[:count], matrix)
        np.testing.assert_allclose(embedder.embed(CROPS[:count]), expected, atol=1e-5)


@pytest.mark.parametrize("in_card,values", [("none", 8), ("sum", 8), ("concatenate", 16)])
@pytest.mark.parametrize("asked", [None, "none", "sum", "concatenate"])
def test_mirrored_crops_are_embedded_as_asked_for_else_as_the_card_says(
    tmp_path: Path, in_card: str, values: int, asked: str | None
) -> None:
    matrix = write_embedder(tmp_path / "x.onnx", "n")
    embedder = FaceEmbedder(load_network(tmp_path / "x.onnx"), card_for(None, in_card, values), asked)
    plain, mirrored = expected_embeddings(CROPS, matrix), expected_embeddings(CROPS[:, :, ::-1], matrix)
    by_way = {"none": plain, "sum": plain + mirrored, "concatenate": np.hstack([plain, mirrored])}
    expected = by_way[asked or in_card]
    assert embedder.embedding_size == expected.shape[1]
    np.testing.assert_allclose(embedder.embed(CROPS), expected, atol=1e-5)


def test_mirror_of_an_unknown_kind_names_those_that_there_are() -> None:
    with pytest.raises(ModelError, match="mirror: expected one of none concatenate sum, found 'twice'"):
        FaceEmbedder(lambda batch: [], card_for(None), "twice")


@pytest.mark.parametrize("lacking", ["faces.scp", "status", "crops.scp"])
def test_segment_that_stage_2_has_not_seen_is_named_with_the_list_and_the_stage_to_run(
    tmp_path: Path, lacking: str
) -> None:
    install_model("arcface_tiny", tmp_path)
    (tmp_path / "vid.scp").write_text("a a.mp4\nb b.mp4\nc c.mp4\n")
    (tmp_path / "faces.ark").write_bytes(matrix_bytes("a", np.ones((1, 17))))
    places = {"faces.scp": f"{tmp_path}/faces.ark:2", "status": "ok", "crops.scp": f"{tmp_path}/crops.tar:0"}
    for name, place in places.items():
        known = "a" if name == lacking else "abc"
        (tmp_path / name).write_text("".join(f"{segment} {place}\n" for segment in known))
    message = f"{lacking}: 2 of 3 segments are not in it, first 'b'; run stage 2"
    with pytest.raises(DataError, match=re.escape(message)):
        extract_embeddings(ExtractOptions(tmp_path, tmp_path / "vid.scp", tmp_path / "arcface_tiny", tmp_path / "job"))


def test_embedder_whose_card_wants_more_than_a_crop_has_is_refused_with_both_sizes() -> None:
    card = card_for(None)
    larger = dataclasses.replace(card, input=dataclasses.replace(card.input, width=113))
    with pytest.raises(ModelError, match="input.width, input.height: expected at most 112 x 112, .*, found 113 x 112"):
        FaceEmbedder(lambda batch: [], larger)


def test_embedder_of_sound_is_no_face_embedder() -> None:
    card = dataclasses.replace(card_for(None), input=WaveformInput(sample_rate=16000))
    with pytest.raises(ModelError, match="input.kind: expected picture, found waveform"):
        FaceEmbedder(lambda batch: [], card)


def test_crop_that_belongs_to_another_segment_is_refused(tmp_path: Path) -> None:
    png = cv2.imencode(".png", CROPS[0])[1].tobytes()
    (tmp_path / "crops.tar").write_bytes(tar_entry("b/0.png", png) + TAR_END)
    (tmp_path / "faces.ark").write_bytes(matrix_bytes("a", np.ones((1, 17))))
    (tmp_path / "faces.scp").write_text(f"a {tmp_path}/faces.ark:2\n")
    (tmp_path / "crops.scp").write_text(f"a {tmp_path}/crops.tar:0\n")
    (tmp_path / "status").write_text("a ok\n")
    with pytest.raises(DataError, match="'b/0.png' at .* is not a crop of a; run stage 2 again"):
        list(FaceCrops(tmp_path).read("a"))


@pytest.mark.parametrize("name", ["status", "faces.scp", "faces.ark", "crops.scp"])
def test_file_of_stage_2_that_was_edited_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "faces.ark").write_bytes(matrix_bytes("a", np.ones((1, 17))))
    (tmp_path / "faces.scp").write_text(f"a {tmp_path}/faces.ark:2\n")
    (tmp_path / "crops.scp").write_text(f"a {tmp_path}/crops.tar:0\n")
    (tmp_path / "status").write_text("a ok\n")
    write_record(tmp_path, ["detect"], [], list(tmp_path.iterdir()))
    FaceCrops(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{name}: expected SHA-256"):
        FaceCrops(tmp_path)
