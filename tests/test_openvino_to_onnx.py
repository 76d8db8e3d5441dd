"""OpenVINO IR: converted to ONNX with the same numbers, installed with its own files, refused where it is damaged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.engines import load_network
from vidperson.errors import DataError, EngineError, ModelError
from vidperson.io.record import sha256
from vidperson.networks.card import ModelCard, NetworkFile, OpenVinoIr, card_text, load_card
from vidperson.networks.install import install_model, installed_model
from vidperson.networks.opening import open_network
from vidperson.networks.openvino_to_onnx import convert_openvino

REAL = "omz_person_reidentification_0288"


def small_graph(extra: str = "") -> Any:
    """An OpenVINO model of all operators that are known, 3 x 16 x 8 to 6 values. extra: one that is not."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset8 as ops

    draw = np.random.default_rng(0)

    def constant(*shape: int) -> Any:
        return ops.constant(draw.normal(size=shape).astype(np.float16).astype(np.float32))

    def whole(*values: int) -> Any:
        return ops.constant(np.array(values, np.int64))

    images = ops.parameter([1, 3, 16, 8], np.float32, name="data")
    x: Any = ops.gather(images, whole(2, 1, 0), ops.constant(1))
    x = ops.multiply(ops.subtract(x, constant(1, 3, 1, 1)), constant(1, 3, 1, 1))
    x = ops.mvn(x, whole(2, 3), True, 1e-5, "inside_sqrt")
    x = ops.relu(ops.convolution(x, constant(4, 3, 3, 3), [2, 1], [1, 0], [1, 2], [1, 1]))
    x = ops.max_pool(x, [1, 1], [1, 1], [1, 1], [0, 0], [3, 3], "floor", "explicit").output(0)
    x = ops.group_convolution(x, constant(2, 3, 2, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    x = ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], False)
    x = ops.multiply(x, ops.sigmoid(ops.reduce_mean(x, whole(2, 3), True)))
    if extra:
        x = getattr(ops, extra)(x)
    x = ops.prelu(ops.add(ops.reduce_mean(x, whole(2, 3), False), constant(1, 6)), constant(1))
    x = ops.matmul(x, constant(6, 6), False, True)
    shape = ops.concat([ops.constant(np.array([1], np.int64)), ops.constant(np.array([6], np.int64))], 0)
    return openvino.Model([ops.reshape(x, shape, False)], [images], "small")


def write(folder: Path, extra: str = "") -> tuple[Path, Path]:
    """The graph and its weights, in 16 bits."""
    import openvino

    folder.mkdir(exist_ok=True)
    openvino.save_model(small_graph(extra), folder / "small.xml", compress_to_fp16=True)
    return folder / "small.xml", folder / "small.bin"


def small_card(graph: Path, weights: Path) -> ModelCard:
    return dataclasses.replace(
        load_card(REAL),
        name="small",
        file=NetworkFile(graph.name, sha256(graph)),
        openvino=OpenVinoIr(NetworkFile(weights.name, sha256(weights))),
        input=dataclasses.replace(load_card(REAL).input, width=8, height=16),
        output=dataclasses.replace(load_card(REAL).output, embedding_size=6),
    )


def assert_alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
    assert one.shape == other.shape and np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def test_converted_graph_of_all_known_operators_gives_on_each_engine_what_openvino_gives(tmp_path: Path) -> None:
    graph, weights = write(tmp_path)
    convert_openvino(small_card(graph, weights), graph, weights, tmp_path / "network.onnx")
    batch = np.random.default_rng(1).uniform(0, 255, (1, 3, 16, 8)).astype(np.float32)
    expected = load_network(graph, "openvino")(batch)[0]
    assert np.ptp(expected) > 1
    for engine in ENGINES:
        assert_alike(load_network(tmp_path / "network.onnx", engine)(batch)[0], expected)


def test_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    graph, weights = write(tmp_path, "cosh")
    with pytest.raises(ModelError, match=r"small.xml: layer '.*' of type Cosh: not known; known are Add "):
        convert_openvino(small_card(graph, weights), graph, weights, tmp_path / "network.onnx")
    assert not (tmp_path / "network.onnx").exists()


def test_damaged_graph_and_weights_are_refused_by_name(tmp_path: Path) -> None:
    graph, weights = write(tmp_path)
    card = small_card(graph, weights)
    weights.write_bytes(weights.read_bytes()[:-2])
    with pytest.raises(ModelError, match="small.xml: layer .* expected .* bytes at"):
        convert_openvino(card, graph, weights, tmp_path / "network.onnx")
    graph.write_text(graph.read_text()[:-40])
    with pytest.raises(ModelError, match="small.xml: not a graph of OpenVINO"):
        convert_openvino(card, graph, weights, tmp_path / "network.onnx")
    with pytest.raises(ModelError, match="expected embeddings of 7 values, as the card says"):
        more = dataclasses.replace(card, output=dataclasses.replace(card.output, embedding_size=7))
        convert_openvino(more, *write(tmp_path / "other"), tmp_path / "network.onnx")


def test_installed_ir_is_run_as_it_is_by_openvino_and_checked(tmp_path: Path) -> None:
    graph, weights = write(tmp_path)
    (tmp_path / "small.yaml").write_text(card_text(small_card(graph, weights)))
    installed = install_model(str(tmp_path / "small.yaml"), tmp_path / "models")
    folder = tmp_path / "models/small"
    assert installed.openvino_graph == folder / "network.xml" and (folder / "network.bin").is_file()
    batch = np.random.default_rng(1).uniform(0, 255, (1, 3, 16, 8)).astype(np.float32)
    assert_alike(open_network(installed, "openvino")(batch)[0], open_network(installed, "onnxruntime")(batch)[0])
    (folder / "network.xml").unlink()
    with pytest.raises(EngineError, match="small: its OpenVINO IR is not there; run ./run_000"):
        open_network(installed, "openvino")
    again = install_model(str(tmp_path / "small.yaml"), tmp_path / "models")
    assert again.sha256 == installed.sha256 and again.openvino_graph
    (folder / "network.bin").write_bytes(bytes(len(weights.read_bytes())))
    with pytest.raises(DataError, match=r"network\.bin: expected SHA-256"):
        open_network(installed_model(folder), "openvino")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "body_detector", "output": {"decoder": "x"}}, "openvino: expected an embedder, found"),
        ({"checkpoint": {"architecture": "iresnet18"}}, "openvino: expected no checkpoint beside it"),
        ({"openvino": {"weights": {"name": "person-reidentification-retail-0288.xml"}}}, "another name than that of"),
    ],
)
def test_card_of_an_ir_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    import yaml

    fields = {**yaml.safe_load(card_text(load_card(REAL))), **change, "name": "other"}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(ModelError, match=message):
        load_card(tmp_path / "other.yaml")


def test_real_ir_converted_gives_on_each_engine_what_openvino_gives(shared: Path, tmp_path: Path) -> None:
    installed = install_model(REAL, tmp_path, [shared / "models/body"])
    batch = np.random.default_rng(0).uniform(0, 255, (1, 3, 256, 128)).astype(np.float32)
    expected = open_network(installed, "openvino")(batch)[0]
    for engine in ENGINES:
        assert_alike(load_network(installed.network, engine)(batch)[0], expected)
