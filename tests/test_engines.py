"""What all engines have in common: the same numbers as ONNX Runtime in float32, and clear refusals."""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import logging
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.engines import join_parts, load_network, parts_of
from vidperson.engines.processor import processor_features
from vidperson.errors import DataError, EngineError, ModelError
from vidperson.gpu import ONE_AT_A_TIME
from vidperson.networks import opening
from vidperson.networks.card import ZOO, ModelCard, NetworkFile, Output, PictureInput, VectorInput, WaveformInput
from vidperson.networks.install import MXNET_FILES, InstalledModel, install_model, installed_model
from vidperson.networks.opening import cpu_engine, open_network

DETECTORS = ("retinaface_tiny", "retinaface_mnet025_pytorch")
MXNET = "mobilefacenet_arcface_mxnet"
OTHERS = tuple(engine for engine in ENGINES if engine != "onnxruntime")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs the torch extra")


def shape_of(name: str) -> tuple[int, int, int]:
    if name in DETECTORS:
        return (3, 96, 160)
    return (3, 112, 96) if name == "mobilefacenet_casia_pytorch" else (3, 112, 112)


def batch_of(name: str, count: int) -> np.ndarray:
    pixels = np.random.default_rng(count).integers(0, 256, (count, *shape_of(name))).astype(np.float32)
    return pixels if name == MXNET else pixels - 127 if name in DETECTORS else (pixels - 127.5) / 127.5


def assert_close(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float, what: object) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape, what
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max(), what


# --- the same numbers


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", ["arcface_tiny", "retinaface_tiny"])
def test_shipped_network_on_every_engine_equals_onnxruntime(name: str, engine: str) -> None:
    exact, tried = (load_network(ZOO / f"{name}.onnx", one) for one in ("onnxruntime", engine))
    for count in (1, 3, 16):
        batch = batch_of(name, count)
        assert_close(tried(batch), exact(batch), 1e-4, (name, engine, count))


@pytest.mark.parametrize("engine", OTHERS)
def test_published_networks_on_every_engine_equal_onnxruntime(models: Path, engine: str) -> None:
    for name in ("retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch"):
        exact, tried = (load_network(models / name / "network.onnx", one) for one in ("onnxruntime", engine))
        for count in (1, 3, 16):
            batch = batch_of(name, count)
            assert_close(tried(batch), exact(batch), 1e-4, (name, engine, count))


@needs_torch
@pytest.mark.parametrize(
    ("name", "size"),
    [("yunet_onnx/yunet_n_dynamic", (96, 160)), ("osnet_x025_msmt17_onnx/osnet_x0_25_msmt17", (256, 128))],
)
def test_torch_runs_networks_that_others_exported_as_onnxruntime_does(shared: Path, name: str, size: Any) -> None:
    """Older operator sets: sizes worked out in the graph, attributes that became inputs later."""
    path = shared / "models" / f"{name}.onnx"
    exact, tried = (load_network(path, engine) for engine in ("onnxruntime", "torch"))
    batch = np.random.default_rng(0).normal(size=(3, 3, *size)).astype(np.float32) * 60
    assert_close(tried(batch), exact(batch), 1e-4, name)


@needs_torch
@pytest.mark.parametrize("name", ["arcface_tiny", "retinaface_tiny"])
def test_torch_in_bf16_is_close_to_fp32_and_differs(name: str) -> None:
    exact, tried = (load_network(ZOO / f"{name}.onnx", "torch", precision=one) for one in ("fp32", "bf16"))
    batch = batch_of(name, 3)
    for one, other in zip(tried(batch), exact(batch), strict=True):
        assert one.dtype == np.float32
        cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
        assert cosine > 0.999 and (one != other).any()


# --- batches


@pytest.mark.parametrize(
    ("count", "size", "counts"), [(5, 2, [2, 2, 1]), (4, 2, [2, 2]), (1, 3, [1]), (3, 0, [3]), (0, 0, [0]), (0, 4, [0])]
)
def test_batch_cut_into_parts_and_joined_is_the_batch(count: int, size: int, counts: list[int]) -> None:
    batch = np.random.default_rng(0).normal(size=(count, 3, 2, 2)).astype(np.float32)
    parts = list(parts_of(batch, size))
    assert [number for number, _ in parts] == counts
    assert {len(part) for _, part in parts} == {size or max(1, count)}
    outputs = [(number, len(part), [part, part.sum((1, 2, 3)), part.reshape(-1, 2)]) for number, part in parts]
    expected = [batch, batch.sum((1, 2, 3)), batch.reshape(-1, 2)]
    for found, wanted in zip(join_parts(outputs), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


# --- refusals


def test_engine_given_a_network_of_another_kind_says_which_ones_run_it(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").touch()
    (tmp_path / "x-symbol.json").touch()
    with pytest.raises(EngineError, match="'mxnet' runs an MXNet checkpoint .* use another engine: openvino onnxr"):
        load_network(tmp_path / "x.onnx", "mxnet")
    with pytest.raises(
        EngineError, match="'openvino' runs an ONNX file, not .*x-symbol.json; use another engine: mxnet"
    ):
        load_network(tmp_path / "x-symbol.json", "openvino")


@pytest.mark.parametrize("engine", ENGINES)
def test_gpu_asked_for_and_missing_is_an_error(engine: str) -> None:
    """Device 9999 is not there, whatever the machine has."""
    with pytest.raises(EngineError, match=f"engine '{engine}'.*(cuda:9999|has no CUDA|runs on the device cpu)"):
        load_network(ZOO / "arcface_tiny.onnx", engine, device="cuda:9999")


def test_auto_on_a_missing_gpu_gives_the_reason_of_every_engine(tmp_path: Path) -> None:
    installed = install_model("arcface_tiny", tmp_path)
    with pytest.raises(EngineError, match="'cuda:9999' was asked for, and no engine can use it: .*torch.*onnxruntime"):
        open_network(installed, device="cuda:9999")


@needs_torch
def test_torch_on_the_cpu_refuses_fp16_naming_what_it_computes_in() -> None:
    with pytest.raises(EngineError, match="engine 'torch' computes in fp32 bf16 on the device cpu, 'fp16' was asked"):
        load_network(ZOO / "arcface_tiny.onnx", "torch", precision="fp16")


def test_engine_that_is_not_installed_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['openvino'] = None\n"
        "from vidperson.engines import load_network\n"
        "from vidperson.errors import EngineError\n"
        "for engine in ('torch', 'openvino'):\n"
        "    try: load_network(sys.argv[1], engine)\n"
        "    except EngineError as error: print(error)\n"
        "print(load_network(sys.argv[1], 'onnxruntime').__class__.__name__)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(ZOO / "arcface_tiny.onnx")], capture_output=True, text=True
    )
    assert result.stdout.splitlines() == [
        "engine 'torch' is not installed (torch); it is an extra: "
        "run VIDPERSON_EXTRAS=torch ./run_000_get_pretrained_models.sh",
        "engine 'openvino' is not installed (openvino); it is in requirements/base.txt: run . ./path.sh",
        "OnnxRuntimeNetwork",
    ]


def write_onnx(path: Path, *nodes: Any, opset: int = 18, sizes: Any = ("n", 3, 8, 9), **constants: Any) -> Path:
    """A network ``images`` -> ``out``."""
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


@needs_torch
@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("LRN", {"size": 3}, "operator 'LRN' of node 'odd' is not known to the engine torch; known operators: Abs"),
        ("Resize", {"mode": "cubic"}, "Resize 'odd': mode: expected one of nearest linear, found 'cubic'"),
        ("MaxPool", {"kernel_shape": [2, 2, 2]}, "MaxPool 'odd': expected one- or two-dimensional windows"),
        ("Pad", {"mode": "reflect"}, "Pad 'odd': mode: expected one of constant, found 'reflect'"),
    ],
)  # fmt: skip
def test_torch_names_the_node_that_it_cannot_run(tmp_path: Path, kind: str, attributes: Any, message: str) -> None:
    from onnx import helper

    path = write_onnx(tmp_path / "x.onnx", helper.make_node(kind, ["images"], ["out"], name="odd", **attributes))
    with pytest.raises(ModelError, match=re.escape(message)):
        load_network(path, "torch")


SINGLE = np.float32
SCALES = np.array([1, 1, 2, 2], SINGLE)
HALF_OF_SHAPE = [
    ("Shape", ["images"], {"start": 1, "end": 2}),
    ("Cast", ["y0"], {"to": 1}),
    ("Mul", ["y1", "half"], {}),
    ("Cast", ["y2"], {"to": 7}),
    ("Cast", ["y3"], {"to": 1}),
    ("Add", ["images", "y4"], {}),
]
ZEROS: list[Any] = [("Shape", ["images"], {"start": 2}), ("ConstantOfShape", ["y0"], {}), ("Add", ["images", "y1"], {})]
CUT = {"from": np.array([1]), "to": np.array([-1]), "axis": np.array([2]), "step": np.array([3])}
EXTREMES = {"low": SINGLE(0.1), "high": np.full((3, 1, 1), 0.4, SINGLE)}
SLOPES = np.linspace(-1, 1, 8, dtype=SINGLE).reshape(8, 1)
Operator = tuple[str, list[str], dict[str, Any]]
# Version of the operator set, operators (kind, inputs, attributes), constants.
OPERATORS: dict[str, tuple[int, list[Operator], dict[str, Any]]] = {
    "uneven-pads": (18, [("Conv", ["images", "w"], {"pads": [0, 1, 2, 0]})], {"w": np.ones((2, 3, 3, 3), SINGLE)}),
    "average-of-uneven-pads": (18, [("AveragePool", ["images"], {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2]})], {}),
    "average-with-pads": (18, [("AveragePool", ["images"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})], {}),
    "max-of-uneven-pads": (18, [("MaxPool", ["images"], {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2]})], {}),
    "linear": (18, [("Resize", ["images", "", "f"], {"mode": "linear"})], {"f": SCALES}),
    "aligned": (
        18,
        [("Resize", ["images", "", "f"], {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
        {"f": SCALES},
    ),
    "nearest": (18, [("Resize", ["images", "", "f"], {})], {"f": np.array([1, 1, 2, 3], SINGLE)}),
    "resize-10": (10, [("Resize", ["images", "f"], {})], {"f": SCALES}),
    "softmax-11": (11, [("Softmax", ["images"], {})], {}),
    "softmax-13": (13, [("Softmax", ["images"], {})], {}),
    "clip-6": (6, [("Clip", ["images"], {"min": -0.5, "max": 0.25})], {}),
    "clip-low": (18, [("Clip", ["images", "low"], {})], {"low": SINGLE(-0.5)}),
    "slice-9": (9, [("Slice", ["images"], {"starts": [1, -4], "ends": [3, 100], "axes": [1, 3]})], {}),
    "slice-steps": (18, [("Slice", ["images", *CUT], {})], CUT),
    "pad": (18, [("Pad", ["images", "p", "v"], {})], {"p": np.array([0, 1, 0, 2, 0, 0, 3, 0]), "v": SINGLE(7)}),
    "reduce-axes": (18, [("ReduceSum", ["images", "x"], {"keepdims": 0})], {"x": np.array([1, -1])}),
    "reduce-13": (13, [("ReduceL2", ["images"], {"axes": [1]})], {}),
    "mean": (18, [("ReduceMean", ["images", "x"], {})], {"x": np.array([2, 3])}),
    "gather": (18, [("Gather", ["images", "i"], {"axis": 1})], {"i": np.array([[2, 0], [-1, 1]])}),
    "gather-one": (18, [("Gather", ["images", "i"], {"axis": -1})], {"i": np.int64(-2)}),
    "hard": (18, [("HardSigmoid", ["images"], {}), ("HardSwish", ["y0"], {})], {}),
    "shape": (18, HALF_OF_SHAPE, {"half": SINGLE(0.5)}),
    "constant-of-shape": (18, ZEROS, {}),
    "expand": (18, [("GlobalMaxPool", ["images"], {}), ("Shape", ["images"], {}), ("Expand", ["y0", "y1"], {})], {}),
    "split": (
        18,
        [("Split", ["images", "n"], {"axis": 2, "_outputs": 2}), ("Sub", ["y0", "y0_1"], {})],
        {"n": np.array([4, 4])},
    ),
    "slopes-per-row": (18, [("PRelu", ["images", "s"], {})], {"s": SLOPES}),
    "extremes": (18, [("Max", ["images", *EXTREMES], {}), ("Min", ["y0", "high"], {})], EXTREMES),
    "gemm": (
        18,
        [("Flatten", ["images"], {}), ("Gemm", ["y0", "w"], {"alpha": 0.5, "transB": 1})],
        {"w": np.ones((2, 216), SINGLE)},
    ),
}


@needs_torch
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_on_torch_equals_onnxruntime(tmp_path: Path, name: str) -> None:
    """What the networks above and the operators of test_mxnet_to_onnx.py leave out."""
    from onnx import helper

    opset, operators, constants = OPERATORS[name]
    nodes = []
    for index, (kind, inputs, attributes) in enumerate(operators):
        attributes, last = dict(attributes), index == len(operators) - 1
        first = "out" if last else f"y{index}"
        outputs = [first, *(f"{first}_{k}" for k in range(1, attributes.pop("_outputs", 1)))]
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
    path = write_onnx(tmp_path / "x.onnx", *nodes, opset=opset, **constants)
    batch = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    found, expected = (load_network(path, engine)(batch) for engine in ("torch", "onnxruntime"))
    assert_close(found, [np.asarray(item, np.float32) for item in expected], 1e-5, name)


def conv1d() -> tuple[list[Any], dict[str, Any]]:
    """(n, 5, time) to (n, 6): convolutions and pooling over any number of frames, then mean and length."""
    from onnx import helper

    rng = np.random.default_rng(1)
    pooled = {"kernel_shape": [2], "strides": [2]}
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], kernel_shape=[3], pads=[2, 2], dilations=[2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"]),  # no attribute: the window is that of the weights
        helper.make_node("MaxPool", ["c2"], ["p1"], pads=[1, 0], **pooled),
        helper.make_node("AveragePool", ["p1"], ["p2"], pads=[0, 1], **pooled),
        helper.make_node("ReduceMean", ["p2", "time"], ["mean"], keepdims=0),
        helper.make_node("ReduceL2", ["p2", "time"], ["length"], keepdims=0),
        helper.make_node("Concat", ["mean", "length"], ["out"], axis=1),
    ]
    weights = {"w1": rng.normal(size=(4, 5, 3)), "b1": rng.normal(size=4), "w2": rng.normal(size=(3, 4, 1))}
    return nodes, {**{k: v.astype(SINGLE) for k, v in weights.items()}, "time": np.array([2])}


def products() -> tuple[list[Any], dict[str, Any]]:
    """(n, 7) to (n, 3)."""
    from onnx import helper

    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gemm", ["images", "w1", "b1"], ["g1"], transB=1),
        helper.make_node("Relu", ["g1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["out"]),
    ]
    weights = {"w1": rng.normal(size=(8, 7)), "b1": rng.normal(size=8), "w2": rng.normal(size=(8, 3))}
    return nodes, {k: v.astype(SINGLE) for k, v in weights.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_network_of_vectors_takes_any_number_of_them_on_every_engine(tmp_path: Path, engine: str) -> None:
    nodes, constants = products()
    network = load_network(write_onnx(tmp_path / "x.onnx", *nodes, sizes=("n", 7), **constants), engine)
    for count in (1, 3, 16):
        batch = np.random.default_rng(count).normal(size=(count, 7)).astype(np.float32)
        hidden = np.maximum(batch @ constants["w1"].T + constants["b1"], 0)
        assert_close(network(batch), [hidden @ constants["w2"]], 1e-5, (engine, count))


@pytest.mark.parametrize("engine", OTHERS)
def test_network_over_time_takes_any_number_of_items_and_frames_on_every_engine(tmp_path: Path, engine: str) -> None:
    nodes, constants = conv1d()
    path = write_onnx(tmp_path / "x.onnx", *nodes, sizes=("n", 5, "time"), **constants)
    exact, tried = (load_network(path, one) for one in ("onnxruntime", engine))
    for count, frames in ((1, 20), (3, 20), (3, 33), (2, 101), (3, 20)):
        batch = np.random.default_rng(frames).normal(size=(count, 5, frames)).astype(np.float32)
        found = tried(batch)
        assert found[0].shape == (count, 6)
        assert_close(found, exact(batch), 1e-4, (engine, count, frames))
        alone = np.concatenate([tried(item[None])[0] for item in batch])
        assert_close([alone], found, 1e-5, (engine, "one by one"))


@needs_torch
@pytest.mark.parametrize("shape", [(2, 7), (2, 5, 7), (2, 3, 4, 5)])
def test_torch_lays_only_items_of_images_out_channels_last(shape: tuple[int, ...]) -> None:
    import torch

    from vidperson.engines.torch_engine import _laid_out

    items = torch.arange(float(np.prod(shape))).reshape(shape)
    laid = _laid_out(items)
    assert torch.equal(laid, items)
    assert laid.is_contiguous() == (len(shape) != 4)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_batch_of_any_rank_cut_into_parts_and_joined_is_the_batch(rank: int) -> None:
    batch = np.random.default_rng(0).normal(size=(5, 3, 2, 4)[:rank]).astype(np.float32)
    parts = [(count, len(part), [part, part.reshape(len(part), -1).sum(1)]) for count, part in parts_of(batch, 2)]
    found, sums = join_parts(parts)
    np.testing.assert_array_equal(found, batch)
    np.testing.assert_array_equal(sums, batch.reshape(5, -1).sum(1))


@needs_torch
def test_torch_refuses_a_batch_of_another_rank_than_the_file_says(tmp_path: Path) -> None:
    nodes, constants = products()
    path = write_onnx(tmp_path / "x.onnx", *nodes, sizes=("n", 7), **constants)
    with pytest.raises(ModelError, match=r"failed on a batch of shape \(2, 1, 7\): expected \[None, 7\]"):
        load_network(path, "torch")(np.zeros((2, 1, 7), np.float32))


@needs_torch
def test_torch_given_a_batch_of_another_size_than_the_file_says_refuses_it(tmp_path: Path) -> None:
    from onnx import helper

    path = write_onnx(tmp_path / "x.onnx", helper.make_node("Relu", ["images"], ["out"]))
    with pytest.raises(ModelError, match=r"x.onnx: failed on a batch of shape \(2, 3, 8, 8\): expected .*3, 8, 9"):
        load_network(path, "torch")(np.zeros((2, 3, 8, 8), np.float32))


# --- the choice of auto


@pytest.fixture
def tiny(tmp_path: Path) -> InstalledModel:
    return install_model("arcface_tiny", tmp_path)


CPUINFO = {
    "amx": "processor\t: 0\nmodel name\t: Some Xeon\nflags\t\t: fpu sse4_2 fma avx2 avx512f avx512_bf16 amx_tile\n",
    "avx512": "processor\t: 0\nflags\t\t: fpu sse4_2 fma avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu\n",
    "avx2": "processor\t: 0\nflags\t\t: fpu sse4_2 fma avx2\n",
    "old": "processor\t: 0\nflags\t\t: fpu sse4_2 avx\n",
    "arm": "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes sha1\nCPU architecture: 8\n",
    "unknown": "cpu\t: something else\n",
}
X86 = ("amx", "avx512", "avx2")


def card_of(kind: str, how: Any) -> ModelCard:
    return ModelCard("x", kind, "", "", "", "", NetworkFile("x.onnx"), how, Output())


PICTURE, SOUND = PictureInput("rgb", (0.0,) * 3, (1.0,) * 3, 112, 112), WaveformInput(sample_rate=16000)


@pytest.mark.parametrize("processor", CPUINFO)
@pytest.mark.parametrize(
    ("kind", "how", "on_x86"),
    [
        ("face_embedder", PICTURE, "openvino"),
        ("body_classifier", PICTURE, "openvino"),
        ("face_detector", PICTURE, "onnxruntime"),
        ("speaker_embedder", SOUND, "onnxruntime"),
        ("person_classifier", VectorInput(size=512), "onnxruntime"),
    ],
)
def test_auto_on_a_processor_is_what_the_table_says(
    tmp_path: Path, processor: str, kind: str, how: Any, on_x86: str
) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO[processor])
    features = processor_features(tmp_path / "cpuinfo")
    assert ("avx2" in features) == (processor in X86)
    card = card_of(kind, how)
    assert cpu_engine(card, "fp32", features)[0] == (on_x86 if processor in X86 else "onnxruntime")
    assert cpu_engine(card, "bf16", features)[0] == "openvino"


def test_auto_without_a_description_of_the_processor_has_a_default(tmp_path: Path) -> None:
    assert processor_features(tmp_path / "none") == frozenset()
    assert cpu_engine(card_of("face_embedder", PICTURE), "fp32", ())[0] == "onnxruntime"


@pytest.mark.parametrize(("features", "engine"), [(["avx2"], "openvino"), ([], "onnxruntime")])
def test_auto_on_the_cpu_logs_the_engine_and_why(
    tiny: InstalledModel,
    features: list[str],
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opening, "processor_features", lambda: features)
    with caplog.at_level(logging.INFO):
        open_network(tiny)
    assert f"arcface_tiny: engine auto takes {engine}: for " in caplog.text
    assert f"engine {engine}, device cpu, fp32, 1 threads" in caplog.text


def test_auto_depends_neither_on_files_beside_the_network_nor_on_time(
    tiny: InstalledModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such files were once what decided."""
    monkeypatch.setattr(opening, "processor_features", lambda: {"avx2"})
    times = {"network_sha256": tiny.sha256, "cpu_seconds_per_item": {"onnxruntime": 0.001, "openvino": 1}}
    tiny.network.with_name("engines.json").write_text(json.dumps(times))
    choice = {"network_sha256": tiny.sha256, "cpu_engine": "onnxruntime"}
    tiny.network.with_name("cpu_engine.json").write_text(json.dumps(choice))
    for clock in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(f"time.{clock}", lambda: pytest.fail("a clock was read"))
    assert cpu_engine(tiny.card, "fp32", processor_features())[0] == cpu_engine(tiny.card, "fp32", {"avx2"})[0]
    monkeypatch.undo()
    with caplog.at_level(logging.INFO):
        open_network(tiny)
    expected = cpu_engine(tiny.card, "fp32", processor_features())[0]
    assert f"engine auto takes {expected}: " in caplog.text


def test_stage_0_writes_no_times(tiny: InstalledModel) -> None:
    assert sorted(path.name for path in tiny.network.parent.iterdir()) == [
        "arcface_tiny.yaml",
        "network.onnx",
        "record.json",
    ]


def test_engines_timed_on_request_print_a_row_each_and_mark_the_one_that_auto_takes(
    tiny: InstalledModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from steps.time_engines import TimeOptions, time_engines

    time_engines(TimeOptions([tiny.network.parent], batch=2, repeat=1))
    rows = [line.strip("| \n").split(" | ") for line in capsys.readouterr().out.splitlines() if "arcface_tiny" in line]
    assert {("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32")} <= {tuple(row[1:3]) for row in rows}
    marked = [row[1] for row in rows if row[-1] == "yes"]
    expected = [cpu_engine(tiny.card, precision, processor_features())[0] for precision in ("fp32", "bf16")]
    assert sorted(marked) == sorted(expected)


def test_auto_refuses_what_no_engine_has(tiny: InstalledModel) -> None:
    with pytest.raises(
        EngineError, match="engine 'auto' computes in fp32 bf16 on the device cpu, 'fp16' was asked for"
    ):
        open_network(tiny, precision="fp16")
    with pytest.raises(
        EngineError, match="'tensorrt' is unknown; valid engines: auto openvino onnxruntime torch mxnet"
    ):
        open_network(tiny, "tensorrt")
    with pytest.raises(EngineError, match="arcface_tiny is none; use another one: auto openvino onnxruntime torch"):
        open_network(tiny, "mxnet")


# --- MXNet


@pytest.fixture(scope="module")
def mobilefacenet(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> InstalledModel:
    """An MXNet checkpoint, installed as stage 0 does."""
    return install_model(MXNET, tmp_path_factory.mktemp("models"), [shared / "models"])


def test_mxnet_checkpoint_is_kept_beside_the_converted_file(mobilefacenet: InstalledModel, shared: Path) -> None:
    folder = mobilefacenet.network.parent
    for name, kept in zip(("model-symbol.json", "model-0000.params"), MXNET_FILES, strict=True):
        assert (folder / kept).read_bytes() == (shared / "models" / MXNET / name).read_bytes()
    whole = (folder / MXNET_FILES[1]).read_bytes()
    (folder / MXNET_FILES[1]).unlink()  # it may be a link to the download
    (folder / MXNET_FILES[1]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{MXNET_FILES[1]}: expected SHA-256"):
        open_network(installed_model(folder), "mxnet")
    (folder / MXNET_FILES[1]).write_bytes(whole)
    (folder / MXNET_FILES[0]).unlink()  # as an installation of an older version
    with pytest.raises(EngineError, match=f"{MXNET}: its MXNet checkpoint is not there; run ./run_000"):
        open_network(installed_model(folder), "mxnet")
    assert install_model(MXNET, folder.parent, [shared / "models"]).mxnet_symbol == folder / MXNET_FILES[0]


def test_mxnet_engine_equals_the_converted_file_on_every_engine(
    mobilefacenet: InstalledModel, mxnet_python: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        networks = {engine: open_network(mobilefacenet, engine) for engine in ("mxnet", *ENGINES)}
    assert "engine mxnet, device cpu (MXNet 1.9.1), fp32, 1 threads" in caplog.text
    for count in (1, 3, 16):
        batch = batch_of(MXNET, count)
        expected = networks["mxnet"](batch)
        assert_close(networks["mxnet"](batch), expected, 0, "the second pass of the same shape")
        for engine in ENGINES:
            assert_close(networks[engine](batch), expected, 1e-4, (engine, count))


@pytest.mark.parametrize("batch_size", [0, 4])
def test_mxnet_runs_a_network_of_vectors(tmp_path: Path, mxnet_python: str, batch_size: int) -> None:
    nodes = [{"op": "null", "name": name, "inputs": []} for name in ("data", "w")]
    how = {"no_bias": "True", "num_hidden": "8"}
    nodes.append({"op": "FullyConnected", "name": "fc1", "attrs": how, "inputs": [[0, 0, 0], [1, 0, 0]]})  # type: ignore[dict-item]
    symbol = {"nodes": nodes, "arg_nodes": [0, 1], "heads": [[2, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}
    (tmp_path / "x-symbol.json").write_text(json.dumps(symbol))
    weights = np.random.default_rng(0).normal(size=(8, 12)).astype("<f4")
    header = struct.pack("<QQQIiiqqiii", 0x112, 0, 1, 0xF993FAC9, 0, 2, 8, 12, 1, 0, 0)
    (tmp_path / "x-0000.params").write_bytes(header + weights.tobytes() + struct.pack("<QQ", 1, 5) + b"arg:w")
    network = load_network(tmp_path / "x-symbol.json", "mxnet", batch=batch_size)
    for count in (1, 3, 9):
        batch = np.random.default_rng(count).normal(size=(count, 12)).astype(np.float32)
        assert_close(network(batch), [batch @ weights.T], 1e-5, count)


def test_mxnet_with_a_batch_size_gives_an_item_the_same_numbers_in_any_batch(
    mobilefacenet: InstalledModel, mxnet_python: str
) -> None:
    network = open_network(mobilefacenet, "mxnet", batch=4)
    batch = batch_of(MXNET, 6)
    (together,) = network(batch)
    for picked in ([3], [5, 0], [4, 1, 2]):
        np.testing.assert_array_equal(network(batch[picked])[0], together[picked])


def test_mxnet_given_a_wrong_batch_says_so_and_goes_on(mobilefacenet: InstalledModel, mxnet_python: str) -> None:
    network = open_network(mobilefacenet, "mxnet")
    with pytest.raises(ModelError, match=r"network-symbol.json: failed on a batch of shape \(1, 3, 7, 5\): .*kernel"):
        network(np.zeros((1, 3, 7, 5), np.float32))
    assert network(batch_of(MXNET, 1))[0].shape == (1, 128)


def test_mxnet_process_ends_with_its_network_and_its_death_is_an_error(
    mobilefacenet: InstalledModel, mxnet_python: str
) -> None:
    network: Any = open_network(mobilefacenet, "mxnet")
    process = network._process
    del network
    gc.collect()
    assert process.returncode == 0
    network = open_network(mobilefacenet, "mxnet")
    network._process.kill()
    with pytest.raises(ModelError, match="MXNet's process ended with status -9"):
        network(batch_of(MXNET, 16))


def test_mxnet_broken_checkpoint_is_an_error_that_names_it(tmp_path: Path, mxnet_python: str) -> None:
    symbol = tmp_path / "x-symbol.json"
    symbol.write_text("{}")
    with pytest.raises(ModelError, match="x-symbol.json: expected its weights, x-0000.params, beside it"):
        load_network(symbol, "mxnet")
    (tmp_path / "x-0000.params").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="x-symbol.json: MXNet cannot load it: "):
        load_network(symbol, "mxnet")


def test_mxnet_output_that_the_graph_has_not_is_named(mobilefacenet: InstalledModel, mxnet_python: str) -> None:
    assert mobilefacenet.mxnet_symbol is not None
    with pytest.raises(ModelError, match="expected a node 'fc99', the graph has none"):
        load_network(mobilefacenet.mxnet_symbol, "mxnet", outputs=("fc99",))


def test_mxnet_on_a_missing_gpu_is_an_error_and_auto_says_so_too(
    mobilefacenet: InstalledModel, mxnet_python: str
) -> None:
    with pytest.raises(EngineError, match="engine 'mxnet': .*GPU.*VIDPERSON_MXNET=mxnet-cu102 utils/make_env.sh mxnet"):
        open_network(mobilefacenet, "mxnet", "cuda:9999")
    with pytest.raises(EngineError, match="no engine can use it: engine 'mxnet': .*engine 'torch': .*'onnxruntime'"):
        open_network(mobilefacenet, "auto", "cuda:9999")


def test_mxnet_not_installed_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidperson.engines import mxnet_engine

    (tmp_path / "x-symbol.json").touch()
    (tmp_path / "x-0000.params").touch()
    monkeypatch.delenv("VIDPERSON_MXNET_PYTHON", raising=False)
    monkeypatch.setattr(mxnet_engine, "_OWN", tmp_path / "none")
    with pytest.raises(
        EngineError, match="'mxnet' is not installed; run utils/make_env.sh mxnet, or set VIDPERSON_MXNET"
    ):
        load_network(tmp_path / "x-symbol.json", "mxnet")
    monkeypatch.setenv("VIDPERSON_MXNET_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(EngineError, match="VIDPERSON_MXNET_PYTHON=.*no-python: no such program"):
        load_network(tmp_path / "x-symbol.json", "mxnet")
    monkeypatch.setenv("VIDPERSON_MXNET_PYTHON", sys.executable)  # has no MXNet
    if find_spec("mxnet") is None:
        with pytest.raises(EngineError, match="cannot import MXNet: .*; run utils/make_env.sh mxnet"):
            load_network(tmp_path / "x-symbol.json", "mxnet")


def test_mxnet_worker_is_python_3_8_and_imports_nothing_of_ours(repo: Path) -> None:
    source = (repo / "vidperson" / "engines" / "mxnet_worker.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert set(names) == {"__future__", "collections", "contextlib", "importlib", "json", "os", "sys", "typing"}


# --- GPUs


class Recorder:
    """Stands in for the GPU under ``CudaNetwork``: all is computed on the CPU, the first recordings fail.

    recorded: for each recording whether others were kept from the GPU, and garbage collection was off.
    replayed: how many passes were graphs.
    """

    def __init__(self, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        self.failures, self.recorded, self.replayed = failures, list[tuple[bool, bool]](), 0
        self.stack = list[Any]()
        nothing, empty = MagicMock(), torch.empty
        for name in ("Stream", "Event", "current_stream", "synchronize", "device"):
            monkeypatch.setattr(torch.cuda, name, nothing)
        monkeypatch.setattr(torch.cuda, "stream", self._stream)
        monkeypatch.setattr(torch.cuda, "graph", self._record)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=self._replay))
        monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **other: empty(*size, **other))

    @contextlib.contextmanager
    def _stream(self, stream: Any) -> Iterator[None]:
        depth = len(self.stack)
        self.stack.append(stream)
        try:
            yield
        finally:
            del self.stack[depth:]

    @contextlib.contextmanager
    def _record(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.stack.append(stream)  # as in PyTorch, where the end of a recording fails it stays the current stream
        self.recorded.append((ONE_AT_A_TIME.locked(), not gc.isenabled()))
        yield
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.stack.pop()

    def _replay(self) -> None:
        self.replayed += 1
        pass_ = next(one for one in self.network._passes.values() if one._graph)
        for kept, output in zip(pass_._outputs, pass_._module(pass_._items), strict=True):
            kept.copy_(output)


@needs_torch
@pytest.mark.parametrize(("failures", "replayed"), [(0, 3), (1, 0)])
def test_pass_whose_recording_fails_is_computed_without_a_graph_and_logged_once(
    failures: int, replayed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from vidperson.engines import Settings
    from vidperson.engines.torch_engine import CudaNetwork

    recorder = Recorder(failures, monkeypatch)
    settings = Settings(None, 1, "fp32", 4, ())
    network = recorder.network = CudaNetwork(str(ZOO / "arcface_tiny.onnx"), settings, torch.device("cpu"))
    exact, batch = load_network(ZOO / "arcface_tiny.onnx", "onnxruntime"), batch_of("arcface_tiny", 12)
    assert_close(network(batch), exact(batch), 1e-4, failures)
    assert recorder.replayed == replayed and recorder.recorded == [(True, True)]
    assert not ONE_AT_A_TIME.locked() and gc.isenabled() and recorder.stack == []
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == failures and all("(4, 3, 112, 112) are computed without a CUDA graph" in m for m in logged)


@needs_torch
def test_recording_that_fails_is_no_reason_to_record_no_other_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from vidperson.engines import Settings
    from vidperson.engines.torch_engine import CudaNetwork

    recorder = Recorder(1, monkeypatch)
    settings = Settings(None, 1, "fp32", 0, ())
    network = recorder.network = CudaNetwork(str(ZOO / "arcface_tiny.onnx"), settings, torch.device("cpu"))
    exact = load_network(ZOO / "arcface_tiny.onnx", "onnxruntime")
    for count, replayed in ((2, 0), (3, 1), (2, 1)):
        batch = batch_of("arcface_tiny", count)
        assert_close(network(batch), exact(batch), 1e-4, count)
        assert recorder.replayed == replayed
    assert len(recorder.recorded) == 2


def test_onnx_runtime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    ours = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    code = "import vidperson.engines.onnxruntime_engine"
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []  # it would keep a number of the machine here, and what it is about to send


@pytest.fixture(scope="module")
def gpu() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use")


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.parametrize("name", ["arcface_tiny", "retinaface_tiny"])
def test_gpu_equals_onnxruntime_on_the_cpu(gpu: None, name: str, engine: str) -> None:
    if engine == "onnxruntime":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("needs the package onnxruntime-gpu")
    exact = load_network(ZOO / f"{name}.onnx", "onnxruntime")
    for size in (0, 4):
        tried = load_network(ZOO / f"{name}.onnx", engine, "cuda", batch=size)
        for count in (1, 3, 16, 3):
            batch = batch_of(name, count)
            assert_close(tried(batch), exact(batch), 1e-4, (size, count))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_gpu_in_half_precision_is_close_to_fp32(gpu: None, precision: str) -> None:
    for name in ("arcface_tiny", "retinaface_tiny"):
        exact, tried = (
            load_network(ZOO / f"{name}.onnx", "torch", "cuda", precision=one) for one in ("fp32", precision)
        )
        for one, other in zip(tried(batch_of(name, 8)), exact(batch_of(name, 8)), strict=True):
            assert (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other) > 0.999


def test_gpu_gives_an_item_the_same_numbers_in_any_batch(gpu: None, tmp_path: Path) -> None:
    network = open_network(install_model("arcface_tiny", tmp_path), "torch", "cuda", batch=8)
    batch = batch_of("arcface_tiny", 20)
    (together,) = network(batch)
    for picked in ([3], [15, 0], list(range(7, 19))):
        np.testing.assert_array_equal(network(batch[picked])[0], together[picked])


def test_auto_on_a_gpu_says_which_engine_it_takes(
    gpu: None, tiny: InstalledModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        open_network(tiny, device="cuda:0")
    assert "arcface_tiny: engine auto takes torch; it is the first choice" in caplog.text
    assert "engine torch, device cuda:0 (" in caplog.text
