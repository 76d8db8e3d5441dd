"""MXNet checkpoints read and converted without MXNet: operators against numpy, whole networks against MXNet itself.

What needs MXNet runs in an environment of its own (see mxnet_oracle.py), and skips without it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines_here import ENGINES
from hypothesis import given, settings
from hypothesis import strategies as st

from vidperson.engines import load_network
from vidperson.errors import EngineError, ModelError
from vidperson.io.record import read_record
from vidperson.networks.card import ModelCard, MxnetCheckpoint, NetworkFile, Output, PictureInput, load_card
from vidperson.networks.install import install_model
from vidperson.networks.mxnet_files import read_params, read_symbol
from vidperson.networks.mxnet_to_onnx import convert_mxnet

Array = np.ndarray[Any, Any]
EMBEDDER = "mobilefacenet_arcface_mxnet"
SYMBOL, PARAMS = "model-symbol.json", "model-0000.params"
TYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]


def params_bytes(arrays: dict[str, Array], version: str = "v2") -> bytes:
    """A params file as MXNet writes it: legacy (before 0.9), v1 (0.9 to 0.11), v2, v3 (numpy shapes)."""
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if version == "legacy":
            out += struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
        elif version == "v1":
            out += struct.pack(f"<II{array.ndim}q", 0xF993FAC8, array.ndim, *array.shape)
        else:
            magic = {"v2": 0xF993FAC9, "v3": 0xF993FACA}[version]
            out += struct.pack(f"<Iii{array.ndim}q", magic, 0, array.ndim, *array.shape)
        out += struct.pack("<iii", 1, 0, TYPES.index(array.dtype.name)) + array.tobytes()
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        out += struct.pack("<Q", len(name.encode())) + name.encode()
    return out


class Net:
    """A symbol and its weights in the making; nodes are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = [{"op": "null", "name": "data", "inputs": []}]
        self.params: dict[str, Array] = {}

    def add(self, op: str, name: str, inputs: Sequence[str | tuple[str, int]] = ("data",), **attrs: Any) -> str:
        numbers = {node["name"]: index for index, node in enumerate(self.nodes)}
        pairs = [item if isinstance(item, tuple) else (item, 0) for item in inputs]
        node = {"op": op, "name": name, "attrs": {key: str(value) for key, value in attrs.items()}}
        self.nodes.append({**node, "inputs": [[numbers[source], output, 0] for source, output in pairs]})
        return name

    def weight(self, name: str, value: Any, kind: str = "arg") -> str:
        self.params[f"{kind}:{name}"] = np.asarray(value, np.float32)
        return self.add("null", name, [])

    def norm(self, name: str, source: str, channels: int, seed: int = 0, **attrs: Any) -> str:
        draw = np.random.default_rng(seed).uniform
        names = [self.weight(f"{name}_{part}", draw(-1, 1, channels)) for part in ("gamma", "beta")]
        names.append(self.weight(f"{name}_moving_mean", draw(-1, 1, channels), "aux"))
        names.append(self.weight(f"{name}_moving_var", draw(0.5, 2, channels), "aux"))
        return self.add("BatchNorm", name, [source, *names], **attrs)

    def save(self, folder: Path, heads: Sequence[tuple[str, int]] | None = None) -> Path:
        numbers = {node["name"]: index for index, node in enumerate(self.nodes)}
        pairs = heads or [(self.nodes[-1]["name"], 0)]
        graph: dict[str, Any] = {"nodes": self.nodes, "heads": [[numbers[name], output, 0] for name, output in pairs]}
        graph["attrs"] = {"mxnet_version": ["int", 10901]}
        graph["arg_nodes"] = [index for index, node in enumerate(self.nodes) if node["op"] == "null"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SYMBOL).write_text(json.dumps(graph))
        (folder / PARAMS).write_bytes(params_bytes(self.params))
        return folder


def card_for(kind: str, outputs: Sequence[str] = (), size: int = 4) -> ModelCard:
    file = NetworkFile(SYMBOL, "0" * 64, 0)
    sizes = (9, 8) if kind == "face_embedder" else (None, None)
    how = PictureInput("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), *sizes)
    mxnet = MxnetCheckpoint(dataclasses.replace(file, name=PARAMS), tuple(outputs))
    return ModelCard(
        "tiny",
        kind,
        "d",
        "MIT",
        "https://example.org",
        "none",
        file,
        how,
        Output("x", embedding_size=size),
        mxnet=mxnet,
    )


def convert(folder: Path, kind: str = "face_detector", outputs: Sequence[str] = (), size: int = 4) -> Path:
    convert_mxnet(card_for(kind, outputs, size), folder / SYMBOL, folder / PARAMS, folder / "network.onnx")
    return folder / "network.onnx"


def assert_close(found: Array, expected: Array, tolerance: float, what: object) -> None:
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), what


# --- operators, against numpy in float64


def padded(data: Array, pad: Sequence[int], value: float = 0.0) -> Array:
    return np.pad(data, [(0, 0), (0, 0), *((p, p) for p in pad)], constant_values=value)


def reference_conv(data: Array, weight: Array, bias: Any, stride: Any, pad: Any, dilate: Any, groups: int) -> Array:
    data = padded(data, pad)
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilate, strict=True)]
    high, wide = ((size - r) // s + 1 for size, r, s in zip(data.shape[2:], reach, stride, strict=True))
    out = np.zeros((len(data), len(weight), high, wide))
    share_in, share_out = weight.shape[1], len(weight) // groups
    for o, y, x in itertools.product(range(len(weight)), range(high), range(wide)):
        top, left, first = y * stride[0], x * stride[1], o // share_out * share_in
        rows = slice(top, top + reach[0], dilate[0])
        columns = slice(left, left + reach[1], dilate[1])
        out[:, o, y, x] = (data[:, first : first + share_in, rows, columns] * weight[o]).sum((1, 2, 3)) + bias[o]
    return out


def reference_deconv(data: Array, weight: Array, stride: int, pad: int, adj: int, groups: int) -> Array:
    count, channels, high, wide = data.shape
    kernel, share_out, share_in = weight.shape[2], weight.shape[1], channels // groups
    whole = np.zeros((count, groups * share_out, *((n - 1) * stride + kernel + adj for n in (high, wide))))
    for c, y, x in itertools.product(range(channels), range(high), range(wide)):
        first = c // share_in * share_out
        part = whole[:, first : first + share_out, y * stride : y * stride + kernel, x * stride : x * stride + kernel]
        part += data[:, c, y, x][:, None, None, None] * weight[c]
    return whole[:, :, pad : whole.shape[2] - pad, pad : whole.shape[3] - pad]


def reference_pool(data: Array, kernel: int, stride: int, pad: int, kind: str, full: bool, include: bool) -> Array:
    rounded = np.ceil if full else np.floor
    sizes = data.shape[2:]
    counts = [int(rounded((size + 2 * pad - kernel) / stride)) + 1 for size in sizes]
    out = np.zeros((*data.shape[:2], *counts))
    for y, x in itertools.product(*map(range, counts)):
        starts = [y * stride - pad, x * stride - pad]
        ends = [min(start + kernel, size + pad) for start, size in zip(starts, sizes, strict=True)]
        area = np.prod([end - start for start, end in zip(starts, ends, strict=True)])
        window = data[:, :, max(starts[0], 0) : ends[0], max(starts[1], 0) : ends[1]]
        if kind == "max":
            out[:, :, y, x] = window.max((2, 3))
        else:
            out[:, :, y, x] = window.sum((2, 3)) / (area if include else window[0, 0].size)
    return out


def soft(data: Array, axis: Any) -> Array:
    power = np.exp(data - data.max(axis=axis, keepdims=True))
    return power / power.sum(axis=axis, keepdims=True)


Case = tuple[Callable[[Net], Any], Callable[[Array], Array]]
RNG = np.random.default_rng(1)
CASES: dict[str, Case] = {}


def case(name: str, build: Callable[[Net], Any], reference: Callable[[Array], Array]) -> None:
    CASES[name] = (build, reference)


def one(op: str, reference: Callable[[Array], Array], label: str = "", **attrs: Any) -> None:
    """An operator with one input and no weights."""
    case(f"{op}{label}", lambda net: net.add(op, "node", **attrs), reference)


def conv_case(
    label: str, filters: int, kernel: Any, stride: Any, pad: Any, dilate: Any, groups: int, bias: bool
) -> None:
    weight = RNG.normal(size=(filters, 3 // groups, *kernel)).astype(np.float32)
    offsets = RNG.normal(size=filters).astype(np.float32) * bias

    def build(net: Net) -> None:
        names = [net.weight("w", weight)] + ([net.weight("b", offsets)] if bias else [])
        attrs: dict[str, Any] = {"kernel": kernel, "num_filter": filters}
        if not bias:
            attrs["no_bias"] = True
        for key, value, default in (("stride", stride, (1, 1)), ("pad", pad, (0, 0)), ("dilate", dilate, (1, 1))):
            if value != default:
                attrs[key] = value
        if groups > 1:
            attrs["num_group"] = groups
        net.add("Convolution", "node", ["data", *names], **attrs)

    case(f"Convolution-{label}", build, lambda x: reference_conv(x, weight, offsets, stride, pad, dilate, groups))


conv_case("plain", 5, (3, 3), (1, 1), (0, 0), (1, 1), 1, True)
conv_case("strided-padded", 4, (3, 2), (2, 1), (1, 0), (1, 1), 1, False)
conv_case("dilated", 2, (2, 3), (1, 1), (2, 1), (3, 2), 1, True)
conv_case("depthwise", 6, (3, 3), (1, 2), (1, 1), (1, 1), 3, True)


def deconv_case(label: str, kernel: int, stride: int, pad: int, adj: int, groups: int) -> None:
    weight = RNG.normal(size=(3, 3 // groups, kernel, kernel)).astype(np.float32)

    def build(net: Net) -> None:
        attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad), "adj": (adj, adj)}
        net.add("Deconvolution", "node", ["data", net.weight("w", weight)], num_filter=3, num_group=groups, **attrs)

    case(f"Deconvolution-{label}", build, lambda x: reference_deconv(x, weight, stride, pad, adj, groups))


deconv_case("bilinear", 4, 2, 1, 0, 3)
deconv_case("dense-adj", 3, 2, 1, 1, 1)


def fc_case(label: str, bias: bool, flatten: bool) -> None:
    weight = RNG.normal(size=(4, 3 * 8 * 9 if flatten else 9)).astype(np.float32)
    offsets = RNG.normal(size=4).astype(np.float32) * bias

    def build(net: Net) -> None:
        names = [net.weight("w", weight)] + ([net.weight("b", offsets)] if bias else [])
        attrs = {} if flatten else {"flatten": False}
        net.add("FullyConnected", "node", ["data", *names], num_hidden=4, no_bias=not bias, **attrs)

    case(
        f"FullyConnected-{label}",
        build,
        lambda x: (x.reshape(len(x), -1) if flatten else x) @ weight.T.astype(np.float64) + offsets,
    )


fc_case("bias", True, True)
fc_case("no-bias", False, True)
fc_case("not-flat", True, False)
fc_case("not-flat-no-bias", False, False)


def norm_of(x: Array, seed: int, gamma_one: bool, eps: float) -> Array:
    draw, shape = np.random.default_rng(seed).uniform, (-1, *[1] * (x.ndim - 2))
    channels = x.shape[1]
    gamma, beta, mean = (draw(-1, 1, channels).reshape(shape) for _ in range(3))
    variance = draw(0.5, 2, channels).reshape(shape)
    return (x - mean) / np.sqrt(variance + eps) * (1 if gamma_one else gamma) + beta


case("BatchNorm-defaults", lambda net: net.norm("node", "data", 3), lambda x: norm_of(x, 0, True, 1e-3))
case(
    "BatchNorm-free-gamma",
    lambda net: net.norm("node", "data", 3, fix_gamma=False, eps=2e-2, use_global_stats=True, momentum=0.9),
    lambda x: norm_of(x, 0, False, 2e-2),
)
SLOPES = np.array([0.5, -0.25, 2], np.float32)
case(
    "LeakyReLU-prelu",
    lambda net: net.add("LeakyReLU", "node", ["data", net.weight("gamma", SLOPES)], act_type="prelu"),
    lambda x: np.where(x > 0, x, x * SLOPES[:, None, None]),
)
one("LeakyReLU", lambda x: np.where(x > 0, x, 0.25 * x))
one("LeakyReLU", lambda x: np.where(x > 0, x, 0.1 * x), "-slope", act_type="leaky", slope=0.1)
one("LeakyReLU", lambda x: np.where(x > 0, x, 0.3 * np.expm1(x)), "-elu", act_type="elu", slope=0.3)
one("Activation", lambda x: np.maximum(x, 0), "-relu", act_type="relu")
one("Activation", lambda x: 1 / (1 + np.exp(-x)), "-sigmoid", act_type="sigmoid")
one("Activation", np.tanh, "-tanh", act_type="tanh")
one("Activation", lambda x: np.log1p(np.exp(x)), "-softrelu", act_type="softrelu")
one("Activation", lambda x: x / (1 + np.abs(x)), "-softsign", act_type="softsign")
for kind, full, include, (kernel, stride, pad) in itertools.product(
    ("max", "avg"), (False, True), (True, False), ((2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 3, 0))
):
    if kind == "avg" or include:
        attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad), "pool_type": kind}
        attrs |= {"pooling_convention": "full"} if full else {}
        attrs |= {} if include else {"count_include_pad": False}
        one(
            "Pooling",
            lambda x, k=kernel, s=stride, p=pad, kind=kind, full=full, include=include: reference_pool(  # type: ignore[misc]
                x, k, s, p, kind, full, include
            ),
            f"-{kind}{kernel}{stride}{pad}{'-full' * full}{'-without-pad' * (not include)}",
            **attrs,
        )
one("Pooling", lambda x: x.max((2, 3), keepdims=True), "-global-max", kernel=(7, 7), global_pool=True)
one("Pooling", lambda x: x.mean((2, 3), keepdims=True), "-global", kernel=(2, 2), global_pool=True, pool_type="avg")
for name in ("Dropout", "_copy", "identity", "BlockGrad"):
    one(name, lambda x: x)
one("Flatten", lambda x: x.reshape(len(x), -1))
one("Cast", lambda x: x, "-half", dtype="float16")
one("Cast", np.trunc, "-int", dtype="int32")
one("clip", lambda x: np.clip(x, -0.5, 0.75), a_min=-0.5, a_max=0.75)
for shape, result in {
    (0, 1, -1, 0): lambda s: (s[0], 1, s[1] * s[2], s[3]),
    (0, -1): lambda s: (s[0], s[1] * s[2] * s[3]),
    (0, 0, 72): lambda s: (s[0], s[1], 72),
    (-2,): lambda s: s,
    (0, 0, -2): lambda s: s,
    (0, -3, 0): lambda s: (s[0], s[1] * s[2], s[3]),
    (-3, -3): lambda s: (s[0] * s[1], s[2] * s[3]),
    (0, 0, -4, 2, -1, 0): lambda s: (s[0], s[1], 2, s[2] // 2, s[3]),
    (0, 0, -4, -1, 4, -2): lambda s: (s[0], s[1], s[2] // 4, 4, s[3]),
    (0, -4, 1, 3, -2): lambda s: (s[0], 1, 3, *s[2:]),
    (-1, 9): lambda s: (s[0] * s[1] * s[2], 9),
}.items():
    one("Reshape", lambda x, result=result: x.reshape(result(x.shape)), f"-{shape}", shape=shape)  # type: ignore[misc]
one("transpose", lambda x: x.transpose(0, 2, 3, 1), axes=(0, 2, 3, 1))
one("transpose", lambda x: x.transpose(), "-reversed")
case("Concat", lambda net: net.add("Concat", "node", ["data", "data"], num_args=2), lambda x: np.concatenate([x, x], 1))
case(
    "concat",
    lambda net: net.add("concat", "node", ["data"] * 3, dim=2, num_args=3),
    lambda x: np.concatenate([x] * 3, 2),
)


def build_slices(net: Net) -> None:
    net.add("SliceChannel", "parts", num_outputs=3)
    net.add("elemwise_sub", "node", [("parts", 2), ("parts", 0)])


def build_squeezed(net: Net) -> None:
    net.add("SliceChannel", "parts", num_outputs=3, squeeze_axis=True)
    net.add("_copy", "node", [("parts", 1)])


case("SliceChannel", build_slices, lambda x: x[:, 2:] - x[:, :1])
case("SliceChannel-squeezed", build_squeezed, lambda x: x[:, 1])
one("slice_axis", lambda x: x[:, 1:2], axis=1, begin=1, end=2)
one("slice_axis", lambda x: x[..., -3:], "-open", axis=-1, begin=-3, end=None)
one("UpSampling", lambda x: x.repeat(2, 2).repeat(2, 3), scale=2, sample_type="nearest", num_args=1, workspace=512)
one("Crop", lambda x: x[:, :, 1:4, 2:7], "-size", h_w=(3, 5), offset=(1, 2), num_args=1)


def build_crop(net: Net, **attrs: Any) -> None:
    net.add("Pooling", "small", kernel=(4, 4), pool_type="max")
    net.add("Crop", "node", ["data", "small"], num_args=2, **attrs)


case("Crop-reference", build_crop, lambda x: x[:, :, :5, :6])
case("Crop-offset", lambda net: build_crop(net, offset=(2, 3)), lambda x: x[:, :, 2:7, 3:9])
case("Crop-centre", lambda net: build_crop(net, center_crop=True), lambda x: x[:, :, 1:6, 1:7])
FACTORS = np.array([2, -3, 0.5], np.float32).reshape(1, 3, 1, 1)


def build_divisor(net: Net) -> str:
    return net.add("_plus_scalar", "a", [net.add("Activation", "s", act_type="softsign")], scalar=2)


def divisor(x: Array) -> Array:
    return np.asarray(2 + x / (1 + np.abs(x)))


BOTH: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}
WORDS = {"add": "plus", "sub": "minus", "mul": "mul", "div": "div"}
for kind, apply in BOTH.items():
    case(
        f"elemwise_{kind}",
        lambda net, kind=kind: net.add(f"elemwise_{kind}", "node", ["data", build_divisor(net)]),  # type: ignore[misc]
        lambda x, apply=apply: apply(x, divisor(x)),  # type: ignore[misc]
    )
    case(
        f"broadcast_{kind}",
        lambda net, kind=kind: net.add(f"broadcast_{kind}", "node", ["data", net.weight("f", FACTORS)]),  # type: ignore[misc]
        lambda x, apply=apply: apply(x, FACTORS),  # type: ignore[misc]
    )
    one(f"_{WORDS[kind]}_scalar", lambda x, apply=apply: apply(x, -1.5), scalar=-1.5)  # type: ignore[misc]
    one(f"_{WORDS[kind].title()}Scalar", lambda x, apply=apply: apply(x, 2), scalar=2)  # type: ignore[misc]
one("_rminus_scalar", lambda x: 2 - x, scalar=2)
case(
    "_rdiv_scalar",
    lambda net: net.add("_rdiv_scalar", "node", [build_divisor(net)], scalar=2),
    lambda x: 2 / divisor(x),
)
one("softmax", lambda x: soft(x, -1))
one("softmax", lambda x: soft(x, 1), "-axis", axis=1)
one("SoftmaxActivation", lambda x: soft(x, 1), "-channel", mode="channel")
one("SoftmaxActivation", lambda x: soft(x, -1))
for mode, axes in {"instance": (1, 2, 3), "channel": (1,), "spatial": (2, 3)}.items():
    one(
        "L2Normalization",
        lambda x, axes=axes: x / np.sqrt((x * x).sum(axes, keepdims=True) + 1e-10),  # type: ignore[misc]
        f"-{mode}",
        mode=mode,
    )


def batches() -> dict[int, Array]:
    rng = np.random.default_rng(0)
    return {count: rng.normal(size=(count, 3, 8, 9)).astype(np.float32) * 2 for count in (1, 3)}


@pytest.mark.parametrize("name", CASES)
def test_operator_converted_equals_numpy_at_any_batch_size(tmp_path: Path, name: str) -> None:
    build, reference = CASES[name]
    net = Net()
    build(net)
    path = convert(net.save(tmp_path))
    # torch takes items one at a time and joins them along the first axis, which is the last one here.
    for engine in ENGINES if name != "transpose-reversed" else ("openvino", "onnxruntime"):
        network = load_network(path, engine)
        for count, batch in batches().items():
            (found,) = network(batch)
            assert_close(found, reference(batch.astype(np.float64)), 2e-6, (engine, count))


# --- against MXNet itself


def put_inputs(folder: Path, outputs: Sequence[str], batches: dict[str, Array]) -> None:
    (folder / "outputs.txt").write_text("\n".join(outputs))
    for name, batch in batches.items():
        np.save(folder / f"input_{name}.npy", batch)


def test_operators_converted_equal_mxnet(tmp_path: Path, oracle: Callable[..., None]) -> None:
    """The numpy references above are right if MXNet agrees with what they agree with."""
    folders = {}
    for number, (name, (build, _)) in enumerate(CASES.items()):
        net = Net()
        build(net)
        if name != "Cast-half":  # left out on purpose: the converted graph does not round to half precision
            folders[name] = net.save(tmp_path / str(number))
            put_inputs(folders[name], ["node_output"], {str(n): batch for n, batch in batches().items()})
    oracle("run", *folders.values())
    wrong = []
    for name, folder in folders.items():
        network = load_network(convert(folder), "onnxruntime")
        for count, batch in batches().items():
            expected, (found,) = np.load(folder / f"expected_{count}_0.npy"), network(batch)
            if found.shape != expected.shape or np.abs(found - expected).max() > 1e-5 * np.abs(expected).max():
                wrong.append((name, count))
    assert wrong == []


def check_engines(network: Path, folder: Path, batches: dict[str, Array]) -> None:
    """Every output of every engine within 1e-4 of MXNet's, relative to its largest value."""
    for engine in ENGINES:
        loaded = load_network(network, engine)
        for name, batch in batches.items():
            for index, found in enumerate(loaded(batch)):
                assert_close(found, np.load(folder / f"expected_{name}_{index}.npy"), 1e-4, (engine, name, index))


def test_mobilefacenet_checkpoint_converted_equals_mxnet(
    tmp_path: Path, shared: Path, oracle: Callable[..., None]
) -> None:
    for name in (SYMBOL, PARAMS):
        (tmp_path / name).symlink_to((shared / "models" / EMBEDDER / name).resolve())
    rng = np.random.default_rng(0)
    batches = {str(n): rng.integers(0, 256, (n, 3, 112, 112)).astype(np.float32) for n in (1, 3, 16)}
    put_inputs(tmp_path, ["fc1_output"], batches)
    oracle("run", tmp_path)
    installed = install_model(EMBEDDER, tmp_path / "models", [shared / "models"])
    check_engines(installed.network, tmp_path, batches)


@pytest.mark.parametrize("name", ["lresnet50e_ir", pytest.param("lresnet100e_ir", marks=pytest.mark.campaign)])
def test_embedder_of_the_zoo_converted_equals_mxnet(
    tmp_path: Path, oracle: Callable[..., None], zoo_graph: Callable[..., Path], name: str
) -> None:
    zoo_graph(name, tmp_path)
    rng = np.random.default_rng(0)
    batches = {str(n): rng.integers(0, 256, (n, 3, 112, 112)).astype(np.float32) for n in (1, 3, 16)}
    put_inputs(tmp_path, ["fc1_output"], batches)
    oracle("run", tmp_path)
    card = card_for("face_embedder", size=512)
    card = dataclasses.replace(card, input=dataclasses.replace(card.input, width=112, height=112))
    convert_mxnet(card, tmp_path / SYMBOL, tmp_path / PARAMS, tmp_path / "network.onnx")
    check_engines(tmp_path / "network.onnx", tmp_path, batches)


@pytest.mark.parametrize("name", ["retinaface_r50", "retinaface_mnet025"])
def test_detector_of_the_zoo_converted_equals_mxnet_at_any_size(
    tmp_path: Path, oracle: Callable[..., None], zoo_graph: Callable[..., Path], name: str
) -> None:
    zoo_graph(name, tmp_path)
    parts = ("cls_prob_reshape", "bbox_pred", "landmark_pred")
    outputs = [f"face_rpn_{part}_stride{stride}_output" for stride in (32, 16, 8) for part in parts]
    rng = np.random.default_rng(0)
    sizes = {"1": (1, 160, 96), "3": (3, 96, 128), "16": (16, 64, 96), "odd": (2, 75, 109)}
    batches = {key: rng.normal(size=(n, 3, h, w)).astype(np.float32) * 60 for key, (n, h, w) in sizes.items()}
    put_inputs(tmp_path, outputs, batches)
    oracle("run", tmp_path)
    check_engines(convert(tmp_path), tmp_path, batches)
    found = {engine: load_network(convert(tmp_path, outputs=outputs), engine)(batches["3"]) for engine in ENGINES}
    assert all(len(results) == 9 for results in found.values())


# --- the two files


def small_params() -> dict[str, Array]:
    return {
        "arg:w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "aux:state": np.array([0.5], np.float32),
        "arg:half": np.array([[1.5, -2]], np.float16),
        "plain": np.array([3, -4], np.int64),
    }


@pytest.mark.parametrize("version", ["legacy", "v1", "v2", "v3"])
def test_params_of_every_version_are_read(tmp_path: Path, version: str) -> None:
    (tmp_path / PARAMS).write_bytes(params_bytes(small_params(), version))
    found = read_params(tmp_path / PARAMS)
    assert list(found) == ["w", "state", "half", "plain"]
    for array, expected in zip(found.values(), small_params().values(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype


def test_params_that_mxnet_wrote_are_read(tmp_path: Path, oracle: Callable[..., None]) -> None:
    oracle("save", tmp_path)
    for name in ("old_shapes.params", "numpy_shapes.params"):
        found = read_params(tmp_path / name)
        np.testing.assert_array_equal(found["w"], np.arange(6, dtype=np.float32).reshape(2, 3))
        assert found["state"].tolist() == [7] and found["state"].dtype == np.int32


def test_params_cut_short_anywhere_is_an_error_that_says_so(tmp_path: Path) -> None:
    content = params_bytes(small_params())
    path = tmp_path / PARAMS
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ModelError, match=rf"{PARAMS}: .*expected \d+ bytes from byte \d+ on, found \d+"):
            read_params(path)


@given(position=st.integers(0, 10**6), value=st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_params_with_changed_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: bytes
) -> None:
    content = params_bytes(small_params())
    position %= len(content)
    path = tmp_path_factory.getbasetemp() / "changed.params"
    path.write_bytes((content[:position] + value + content[position + len(value) :])[: len(content)])
    try:
        found = read_params(path)
    except ModelError as error:
        assert "changed.params: " in str(error)
    else:
        assert sum(array.nbytes for array in found.values()) <= len(content)


HEAD = struct.pack("<QQQ", 0x112, 0, 1)


@pytest.mark.parametrize("content,message", [
    (b"\x80\x04" + bytes(40), "expected it to start with 0x112, found 0x480"),
    (struct.pack("<QQQ", 0x112, 0, 2**62), f"{2**62} arrays: expected {2**64} bytes from byte 24 on, found 0"),
    (HEAD + struct.pack("<Iii", 0xF993FAC9, 1, 1), "expected a dense array (storage type 0), found storage type 1"),
    (HEAD + struct.pack("<I", 33) + bytes(200), "expected at most 32 dimensions, found 33"),
    (HEAD + struct.pack("<Iiiq", 0xF993FAC9, 0, 1, -5), "sizes that are not negative, found [-5]"),
    (
        HEAD + struct.pack("<Iiiqqiii", 0xF993FAC9, 0, 2, 2**62, 2**62, 1, 0, 0),
        f"of shape ({2**62}, {2**62}), float32: expected {2**126} bytes",
    ),
    (HEAD + struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 2, 1, 0, 12), "int32 int8 int64 bool, found type flag 12"),
    (params_bytes({"arg:w": np.zeros(2, np.float32)}) + b"!", "expected nothing after the names, found 1 bytes"),
    (params_bytes({"ab": np.zeros(2, np.float32)})[:-2] + b"\xff\xff", "expected names in UTF-8"),
])  # fmt: skip
def test_params_that_are_hostile_are_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / PARAMS).write_bytes(content)
    with pytest.raises(ModelError) as error:
        read_params(tmp_path / PARAMS)
    assert str(error.value).startswith(f"{tmp_path / PARAMS}: ") and message in str(error.value)


def test_params_without_content_are_left_out(tmp_path: Path) -> None:
    for version, magic, dimensions in (
        ("v1", (0xF993FAC8,), 0),
        ("v2", (0xF993FAC9, 0), 0),
        ("v3", (0xF993FACA, 0), -1),
    ):
        content = HEAD + struct.pack(f"<{len(magic)}Ii", *magic, dimensions) + struct.pack("<QQ", 1, 1) + b"w"
        (tmp_path / version).write_bytes(content)
        assert read_params(tmp_path / version) == {}


@pytest.mark.parametrize("key,pairs", [("attr", 2), ("param", 2), ("attrs", 3)])
def test_symbol_of_every_version_is_read_alike(tmp_path: Path, key: str, pairs: int) -> None:
    """Attributes under another key; early versions have no third number in their references."""
    net = Net()
    net.norm("node", "data", 3, fix_gamma=False, eps=2e-5)
    net.save(tmp_path)
    expected = read_symbol(tmp_path / SYMBOL)
    graph = json.loads((tmp_path / SYMBOL).read_text())
    graph["heads"] = [head[:pairs] for head in graph["heads"]]
    for node in graph["nodes"]:
        node["inputs"] = [pair[:pairs] for pair in node["inputs"]]
        node[key] = node.pop("attrs", {})
        if key == "param":
            node |= {"attr": {"ctx_group": "dev1"}, "backward_source_id": -1}
    (tmp_path / SYMBOL).write_text(json.dumps(graph))
    found = read_symbol(tmp_path / SYMBOL)
    assert found.heads == expected.heads and [n.inputs for n in found.nodes] == [n.inputs for n in expected.nodes]
    assert dict(found.nodes[-1].attributes).items() >= {"fix_gamma": "False", "eps": "2e-05"}.items()


@pytest.mark.parametrize("text,message", [
    ("", "not an MXNet symbol"),
    ("[" * 100_000, "not an MXNet symbol"),
    ("{}", "expected an object with 'nodes'"),
    ('{"nodes": [], "heads": []}', "a list that is not empty"),
    ('{"nodes": [3], "heads": []}', "node 0: expected an object with 'op' and 'name'"),
    ('{"nodes": [{"op": "null", "name": "a"}], "heads": [[0, 0]]}', "node 0 (a): inputs: expected a list"),
    ('{"nodes": [{"op": "x", "name": "a", "inputs": [[0, 0]]}], "heads": [[0, 0]]}', "nodes before 0, found [0, 0]"),
    ('{"nodes": [{"op": "x", "name": "a", "inputs": [], "attrs": 4}], "heads": []}', "attrs: expected an object"),
    ('{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": []}', "at least one output"),
    ('{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[1, 0]]}', "heads: expected a list"),
    ('{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[0, -1]]}', "heads: expected a list"),
])  # fmt: skip
def test_symbol_that_is_broken_is_refused_with_the_node(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / SYMBOL).write_text(text)
    with pytest.raises(ModelError) as error:
        read_symbol(tmp_path / SYMBOL)
    assert str(error.value).startswith(f"{tmp_path / SYMBOL}: ") and message in str(error.value)


# --- graphs


def refusal(tmp_path: Path, build: Callable[[Net], Any], **how: Any) -> str:
    net = Net()
    build(net)
    with pytest.raises(ModelError) as error:
        convert(net.save(tmp_path), **how)
    assert not (tmp_path / "network.onnx").exists() and str(tmp_path / SYMBOL) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("build,message", [
    (lambda net: net.add("LRN", "odd"), "operator 'LRN' of node 'odd' is not known; known operators: Activation "),
    (lambda net: net.add("Activation", "a", act_type="mish"), "Activation 'a': act_type: expected one of relu sigmoid"),
    (lambda net: net.add("Activation", "a"), "act_type: expected one of"),
    (lambda net: net.add("Reshape", "r", shape=(0, 0, 0, 0, 0)), "expected it to fit an input of 4 dimensions"),
    (lambda net: net.add("Reshape", "r", shape=(0, -4, 2)), "expected sizes and the codes 0 -1 -2 -3 -4"),
    (lambda net: net.add("Reshape", "r", shape=(-1, 0), reverse=True), "reverse: expected False or 0, found 'True'"),
    (lambda net: net.add("Pooling", "p", kernel="big"), "kernel: expected integers, found 'big'"),
    (lambda net: net.add("Pooling", "p", kernel=(2, 2), pool_type="lp"), "pool_type: expected one of max avg"),
    (lambda net: net.add("SliceChannel", "s", num_outputs=10**6), "num_outputs: expected 1 to 4096, found 1000000"),
    (lambda net: net.add("_mul_scalar", "m", scalar="x"), "scalar: expected a number, found 'x'"),
    (lambda net: net.add("elemwise_add", "e"), "elemwise_add 'e': expected 2 inputs, found 1"),
    (lambda net: net.add("_plus", "e", ["data", net.add("_copy", "c", [])]), "_copy 'c': expected inputs, found none"),
    (lambda net: net.add("Cast", "c", dtype="int8"), "dtype: expected one of float16"),
    (lambda net: net.add("Convolution", "c", ["data", "data"], kernel=(3, 3)), "expected 3 inputs, found 2"),
    (lambda net: net.add("Convolution", "c", ["data"] * 3, kernel=(3, 3)), "expected input 1 to be in the params file"),
    (lambda net: net.add("_copy", "c", [net.norm("n", "data", 3, axis=2)]), "axis: expected 1, the channels, found 2"),
    (lambda net: net.add("_plus", "e", ["data", net.add("null", "lost", [])]), "has no weights, found data lost"),
    (lambda net: net.add("_copy", "c", [("data", 3)]), "node 'c': expected output 3 of 'data', which has 1"),
    (lambda net: net.add("LeakyReLU", "p", ["data", "data"], act_type="prelu"), "input 1 to be in the params"),
])  # fmt: skip
def test_graph_that_cannot_be_converted_names_operator_node_and_expectation(
    tmp_path: Path, build: Callable[[Net], Any], message: str
) -> None:
    assert message in refusal(tmp_path, build)


@pytest.mark.parametrize("build,message", [
    (lambda net: add_small_conv(net, (2, 5, 3, 3)), "Conv 'c': the weights are for 5 input channels, found 3"),
    (lambda net: add_small_conv(net, (2, 3, 5, 5)), "'c': expected weights of a kernel (3, 3), found shape"),
    (lambda net: net.norm("n", "data", 4), "params do not fit: "),
    (lambda net: net.add("LeakyReLU", "p", ["data", net.weight("g", [1, 2])], act_type="prelu"), "for 2 input chan"),
    (lambda net: net.add("FullyConnected", "f", ["data", net.weight("w", np.zeros((4, 7)))], no_bias=1), "not fit: "),
])  # fmt: skip
def test_weights_that_do_not_fit_the_graph_are_refused(
    tmp_path: Path, build: Callable[[Net], Any], message: str
) -> None:
    assert message in refusal(tmp_path, build, kind="face_embedder")


def add_small_conv(net: Net, shape: tuple[int, ...]) -> None:
    net.add("Convolution", "c", ["data", net.weight("w", np.zeros(shape))], kernel=(3, 3), no_bias=True)


def operators(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


def build_normed_net(net: Net) -> None:
    """Norm, padded and unpadded convolutions, and a matrix product: what folds, and what must not."""
    rng = np.random.default_rng(3)
    first = net.norm("first", "data", 3, 1, fix_gamma=False)
    weight = net.weight("w1", rng.normal(size=(4, 3, 3, 3)))
    padded = net.add("Convolution", "padded", [first, weight], kernel=(3, 3), pad=(1, 1), no_bias=True)
    second = net.add("Activation", "act", [net.norm("second", padded, 4, 2, fix_gamma=False)], act_type="tanh")
    third = net.norm("third", second, 4, 3, fix_gamma=False)
    names = [net.weight("w2", rng.normal(size=(6, 2, 3, 3))), net.weight("b2", rng.normal(size=6))]
    grouped = net.add("Convolution", "grouped", [third, *names], kernel=(3, 3), num_group=2)
    fourth = net.norm("fourth", net.add("Activation", "act2", [grouped], act_type="tanh"), 6, 4, fix_gamma=False)
    flat = net.add("Flatten", "flat", [net.add("Dropout", "drop", [fourth], p=0.4)])
    names = [net.weight("w3", rng.normal(size=(4, 6 * 6 * 7))), net.weight("b3", rng.normal(size=4))]
    net.norm("fc1", net.add("FullyConnected", "pre_fc1", [flat, *names], num_hidden=4), 4, 5)


def test_batch_norms_are_folded_where_that_is_exact_and_change_nothing(tmp_path: Path) -> None:
    net = Net()
    build_normed_net(net)
    path = convert(net.save(tmp_path), "face_embedder")
    assert operators(path) == ["BatchNormalization", "Conv", "Tanh", "Conv", "Tanh", "Flatten", "Gemm"]
    net.add("_copy", "end", ["fc1"])
    whole = [n["name"] for n in net.nodes if n["op"] not in ("null", "Dropout", "_copy")]
    loose = convert(net.save(tmp_path / "loose"), outputs=[*whole[:-1], "end"])
    assert operators(loose).count("BatchNormalization") == 5
    for engine in ENGINES:
        for batch in batches().values():
            (found,), expected = load_network(path, engine)(batch), load_network(loose, engine)(batch)[-1]
            assert_close(found, expected, 1e-5, engine)


def test_weight_that_two_operators_share_is_folded_for_one_only(tmp_path: Path) -> None:
    weight = RNG.normal(size=(3, 3, 1, 1)).astype(np.float32)
    net = Net()
    net.weight("w", weight)
    once = net.norm("once", net.add("Convolution", "a", ["data", "w"], kernel=(1, 1), no_bias=True), 3)
    net.add("elemwise_sub", "node", [once, net.add("Convolution", "b", ["data", "w"], kernel=(1, 1), no_bias=True)])
    (found,) = load_network(convert(net.save(tmp_path)))(batches()[3])
    plain = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], batches()[3].astype(np.float64))
    assert_close(found, norm_of(plain, 0, True, 1e-3) - plain, 1e-5, "shared")


def add_training_head(net: Net) -> list[tuple[str, int]]:
    for name in ("fc7_weight", "softmax_label"):
        net.add("null", name, [])
    net.add("FullyConnected", "fc7", ["fc1", "fc7_weight"], num_hidden=10, no_bias=True)
    net.add("SoftmaxOutput", "softmax", ["fc7", "softmax_label"])
    return [("softmax", 0)]


def test_training_head_is_cut_off_at_the_embedding(tmp_path: Path) -> None:
    import onnx

    net = Net()
    build_normed_net(net)
    heads = add_training_head(net)
    path = convert(net.save(tmp_path, heads), "face_embedder")
    graph = onnx.load(path).graph
    sizes = [dim.dim_value or dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim]
    assert [i.name for i in graph.input] == ["images"] and sizes == ["batch", 3, 8, 9]
    assert [o.name for o in graph.output] == ["embeddings"] and "Softmax" not in operators(path)
    named = convert(net.save(tmp_path / "named", heads), "face_embedder", outputs=["pre_fc1_output"])
    assert not np.allclose(*(load_network(p)(batches()[1])[0] for p in (path, named)))


def test_embedder_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    assert "expected embeddings of shape [None, 5], as the card says, found [None, 4]" in refusal(
        tmp_path, build_normed_net, kind="face_embedder", size=5
    )
    assert "expected a node 'lost'; the graph's outputs are fc1" in refusal(
        tmp_path, build_normed_net, kind="face_embedder", outputs=["lost"]
    )
    assert "expected one output of an embedder, the card names fc1 flat" in refusal(
        tmp_path, build_normed_net, kind="face_embedder", outputs=["fc1", "flat"]
    )


def test_embedder_with_several_outputs_and_no_fc1_has_to_be_told(tmp_path: Path) -> None:
    net = Net()
    net.add("Flatten", "a")
    net.add("Flatten", "b")
    net.save(tmp_path, [("a", 0), ("b", 0)])
    with pytest.raises(
        ModelError, match="expected a node 'fc1' or one output, found outputs a b; name one in the card"
    ):
        convert(tmp_path, "face_embedder")


def test_detector_keeps_its_outputs_in_order_under_their_names(tmp_path: Path) -> None:
    import onnx

    net = Net()
    net.add("SliceChannel", "parts", num_outputs=3)
    net.add("Activation", "last", [("parts", 2)], act_type="relu")
    net.save(tmp_path, [("last", 0), ("parts", 1), ("data", 0), ("parts", 0)])
    path = convert(tmp_path)
    graph = onnx.load(path).graph
    assert [o.name for o in graph.output] == ["last", "parts_output1", "data", "parts"]
    sizes = [dim.dim_value or dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    chosen = convert(net.save(tmp_path / "chosen"), outputs=["parts_output1", "last_output", "parts_output0", "last"])
    for engine in ENGINES:
        for batch in batches().values():
            expected = [np.maximum(batch[:, 2:], 0), batch[:, 1:2], batch, batch[:, :1]]
            for found, reference in zip(load_network(path, engine)(batch), expected, strict=True):
                np.testing.assert_array_equal(found, reference)
            found = load_network(chosen, engine)(batch)
            for index, reference in enumerate([expected[1], expected[0], expected[3], expected[0]]):
                np.testing.assert_array_equal(found[index], reference)


def test_nodes_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    net = Net()
    net.add("_plus_scalar", "same", scalar=1)
    net.add("_mul_scalar", "same", ["same"], scalar=2)
    net.add("_plus_scalar", "images", ["same"], scalar=1)
    net.add("_minus_scalar", "end", ["images"], scalar=1)
    (found,) = load_network(convert(net.save(tmp_path)))(batches()[1])
    assert_close(found, (batches()[1] + 1) * 2, 1e-6, "same")


def test_conversion_without_onnx_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match=r"pip install -r requirements/base\.txt"):
        convert(tmp_path)


# --- the card of the zoo


def test_mobilefacenet_of_the_zoo_tells_persons_apart(tmp_path: Path, shared: Path) -> None:
    """Installed as run_000 does it: both files found, checked and converted."""
    from vidperson.face.embedder import FaceEmbedder

    installed = install_model(EMBEDDER, tmp_path, [shared / "models"])
    assert operators(installed.network).count("BatchNormalization") == 0
    record = read_record(tmp_path / EMBEDDER)
    assert record is not None and [Path(path).name for path in record.inputs] == [SYMBOL, PARAMS]
    crops = lfw_crops(shared, ("Paul_Wolfowitz", "Jennifer_Lopez"), 4)
    for engine in ENGINES:
        embedder = FaceEmbedder(load_network(installed.network, engine), load_card(EMBEDDER))
        found = embedder.embed(crops)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        cosines = found @ found.T
        same = np.add.outer(np.arange(8) // 4, -(np.arange(8) // 4)) == 0
        assert cosines[same & ~np.eye(8, dtype=bool)].min() > cosines[~same].max()


def lfw_crops(shared: Path, persons: Sequence[str], count: int) -> Array:
    """(persons x count, 112, 112, 3) uint8 RGB crops of LFW."""
    import tarfile

    import cv2

    pictures = []
    with tarfile.open(shared / "data/faces/lfw_view1_aligned.tar") as archive:
        names = sorted(archive.getnames())
        for person in persons:
            for name in [name for name in names if f"/{person}/" in f"/{name}" and name.endswith(".jpg")][:count]:
                member = archive.extractfile(name)
                assert member is not None
                picture = cv2.imdecode(np.frombuffer(member.read(), np.uint8), cv2.IMREAD_COLOR)
                assert picture is not None
                pictures.append(picture[..., ::-1])
    return np.stack(pictures)
