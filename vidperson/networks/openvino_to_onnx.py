"""OpenVINO IR (a graph in XML, its weights in a file beside it) to ONNX; needs only the package onnx.

The operators are those of OpenVINO's operation sets 1 to 8 that small embedders use, with sizes that the graph fixes.
Weights in 16 bits become 32, as they do in the engine openvino.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ModelError
from vidperson.networks.card import ModelCard

OPSET, IR_VERSION = 18, 8
_Array = NDArray[Any]
_KINDS = {"f16": np.float16, "f32": np.float32, "i32": np.int32, "i64": np.int64}
_MAX_GRAPH_BYTES = 1 << 26


@dataclass(frozen=True)
class _Layer:
    """A layer of the graph. inputs: (layer, port) that each of its inputs comes from. sizes: of inputs and outputs."""

    id: str
    name: str
    kind: str
    data: Mapping[str, str]
    inputs: Sequence[tuple[str, str]]
    sizes: Mapping[str, tuple[int, ...]]


def convert_openvino(
    card: ModelCard,
    graph_path: str | os.PathLike[str],
    weights_path: str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
) -> None:
    """Write an OpenVINO IR of one input and one output as an ONNX file, ``images`` to ``embeddings``.

    It takes as many items as the graph does. Raises ModelError for damaged files, operators and attributes that are
    not known, and an embedding size that is not the card's.
    """
    import onnx

    where = os.fspath(graph_path)
    layers = _read_layers(graph_path)
    with open(weights_path, "rb") as stream:
        graph = _Translation(where, layers, stream.read())
    nodes, constants, shapes = graph.translated()
    size = card.output.embedding_size
    if shapes["embeddings"][1:] != (size,):
        raise ModelError(f"{where}: expected embeddings of {size} values, as the card says, found {shapes}")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name])
        for name in ("images", "embeddings")
    ]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = onnx.helper.make_graph(nodes, card.name, values[:1], values[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, ir_version=IR_VERSION, opset_imports=opsets)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{where}: cannot be converted: {' '.join(str(error).split())[:300]}") from None
    onnx.save(model, os.fspath(onnx_path))


def _read_layers(path: str | os.PathLike[str]) -> list[_Layer]:
    """The layers in their order, each behind what it takes. Raises ModelError for what is no such graph."""
    try:
        if os.path.getsize(path) > _MAX_GRAPH_BYTES:
            raise ValueError(f"more than {_MAX_GRAPH_BYTES >> 20} MiB")
        root = ElementTree.parse(path).getroot()
        edges: dict[str, list[tuple[int, str, str]]] = {}
        for edge in root.iterfind("edges/edge"):
            taken = (int(edge.attrib["to-port"]), edge.attrib["from-layer"], edge.attrib["from-port"])
            edges.setdefault(edge.attrib["to-layer"], []).append(taken)
        layers = []
        for layer in root.iterfind("layers/layer"):
            data = layer.find("data")
            ports = [*layer.iterfind("input/port"), *layer.iterfind("output/port")]
            sizes = {port.attrib["id"]: tuple(int(dim.text or "") for dim in port.iterfind("dim")) for port in ports}
            inputs = [taken[1:] for taken in sorted(edges.get(layer.attrib["id"], []))]
            identifier, name, kind = (layer.attrib[key] for key in ("id", "name", "type"))
            layers.append(_Layer(identifier, name, kind, {} if data is None else dict(data.attrib), inputs, sizes))
    except (ElementTree.ParseError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{os.fspath(path)}: not a graph of OpenVINO: {error!r}") from None
    return layers


class _Translation:
    """Nodes and constants of an ONNX graph, made layer by layer; names of tensors are ``<layer>:<port>``."""

    def __init__(self, where: str, layers: Sequence[_Layer], weights: bytes) -> None:
        self._where, self._layers, self._weights = where, layers, weights
        self._nodes: list[Any] = []
        self._constants: dict[str, _Array] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def translated(self) -> tuple[list[Any], dict[str, _Array], dict[str, tuple[int, ...]]]:
        """The nodes, the constants that they take, and the sizes of ``images`` and ``embeddings``."""
        for layer in self._layers:
            try:
                self._translate(layer)
            except (KeyError, ValueError, IndexError, TypeError) as error:
                raise self._refusal(layer, f"it lacks something, or has another form: {error!r}") from None
        if set(self._shapes) != {"images", "embeddings"}:
            raise ModelError(f"{self._where}: expected one input and one output, found {sorted(self._shapes)}")
        taken = {name for node in self._nodes for name in node.input}
        return self._nodes, {k: v for k, v in self._constants.items() if k in taken}, self._shapes

    def _refusal(self, layer: _Layer, why: str) -> ModelError:
        return ModelError(f"{self._where}: layer '{layer.name}' of type {layer.kind}: {why}")

    def _translate(self, layer: _Layer) -> None:
        inputs = [f"{source}:{port}" for source, port in layer.inputs]
        outputs = [port for port in layer.sizes if port not in map(str, range(len(inputs)))]
        output = f"{layer.id}:{outputs[0]}" if outputs else ""
        if layer.kind == "Const":
            self._constants[output] = self._weight(layer)
        elif layer.kind == "Parameter":
            self._shape("images", layer.sizes[outputs[0]], layer)
            self._add("Identity", ["images"], output)
        elif layer.kind == "Result":
            self._shape("embeddings", layer.sizes["0"], layer)
            self._add("Identity", inputs, "embeddings")
        elif layer.kind == "Convert" and inputs[0] in self._constants:
            kind = _KINDS[layer.data["destination_type"]]
            self._constants[output] = self._constants[inputs[0]].astype(kind)
        elif layer.kind == "ShapeOf":
            self._constants[output] = np.array(layer.sizes["0"], np.int64)
        elif layer.kind in _TRANSLATORS:
            _TRANSLATORS[layer.kind](self, layer, inputs, output)
        else:
            raise self._refusal(layer, f"not known; known are {' '.join(sorted(_TRANSLATORS))}")

    def _shape(self, name: str, sizes: tuple[int, ...], layer: _Layer) -> None:
        if name in self._shapes:
            raise self._refusal(layer, "expected a graph of one input and one output")
        self._shapes[name] = sizes

    def _weight(self, layer: _Layer) -> _Array:
        data = layer.data
        kind, start = np.dtype(_KINDS[data["element_type"]]), int(data["offset"])
        shape = tuple(int(word) for word in data["shape"].split(",") if word.strip())
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if start < 0 or size != int(data["size"]) or start + size > len(self._weights):
            raise self._refusal(layer, f"expected {size} bytes at {start} of {len(self._weights)} in the weights")
        values = np.frombuffer(self._weights, kind, size // kind.itemsize, start).reshape(shape)
        return values.astype(np.float32) if kind == np.float16 else values

    def _add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        import onnx

        self._nodes.append(onnx.helper.make_node(operator, list(inputs), [output], **attributes))

    def _constant(self, name: str, value: _Array) -> str:
        self._constants[name] = value
        return name

    def _windows(self, layer: _Layer) -> dict[str, Any]:
        """Attributes of a convolution or of pooling."""
        data = layer.data
        self._expect(layer, "auto_pad", "explicit")
        self._expect(layer, "rounding_type", "floor")
        found = {"strides": _whole(data["strides"]), "pads": _whole(data["pads_begin"]) + _whole(data["pads_end"])}
        for name, ours in (("dilations", "dilations"), ("kernel", "kernel_shape")):
            if name in data:
                found[ours] = _whole(data[name])
        return found

    def _expect(self, layer: _Layer, name: str, value: str) -> None:
        if layer.data.get(name, value) != value:
            raise self._refusal(layer, f"expected {name} {value}, found {layer.data[name]}")

    def elementwise(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._expect(layer, "auto_broadcast", "numpy")
        operators = {"Add": "Add", "Multiply": "Mul", "Subtract": "Sub"}
        self._add(operators[layer.kind], inputs, output)

    def activation(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._add({"ReLU": "Relu", "Sigmoid": "Sigmoid", "PReLU": "PRelu"}[layer.kind], inputs, output)

    def convolution(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._add("Conv", inputs, output, **self._windows(layer))

    def group_convolution(self, layer: _Layer, inputs: list[str], output: str) -> None:
        """OpenVINO's weights are (groups, out / groups, in / groups, ...), those of ONNX (out, in / groups, ...)."""
        weights = self._constants[inputs[1]]
        flat = self._constant(f"{output}:weights", weights.reshape(-1, *weights.shape[2:]))
        self._add("Conv", [inputs[0], flat], output, group=len(weights), **self._windows(layer))

    def max_pool(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._add("MaxPool", inputs, output, **self._windows(layer))

    def average_pool(self, layer: _Layer, inputs: list[str], output: str) -> None:
        outside = int(layer.data["exclude-pad"] == "false")
        self._add("AveragePool", inputs, output, count_include_pad=outside, **self._windows(layer))

    def reduce_mean(self, layer: _Layer, inputs: list[str], output: str) -> None:
        keep = int(layer.data["keep_dims"] == "true")
        self._add("ReduceMean", [inputs[0], self._axes(output, inputs[1])], output, keepdims=keep)

    def _axes(self, output: str, name: str) -> str:
        return self._constant(f"{output}:axes", self._constants[name].astype(np.int64).reshape(-1))

    def normalisation(self, layer: _Layer, inputs: list[str], output: str) -> None:
        """(x - mean) / sqrt(variance + eps) over some axes."""
        self._expect(layer, "normalize_variance", "true")
        self._expect(layer, "eps_mode", "INSIDE_SQRT")
        axes = self._axes(output, inputs[1])
        eps = self._constant(f"{output}:eps", np.array([float(layer.data["eps"])], np.float32))
        mean, shift, square, variance, above, deviation = (f"{output}:{part}" for part in range(6))
        self._add("ReduceMean", [inputs[0], axes], mean, keepdims=1)
        self._add("Sub", [inputs[0], mean], shift)
        self._add("Mul", [shift, shift], square)
        self._add("ReduceMean", [square, axes], variance, keepdims=1)
        self._add("Add", [variance, eps], above)
        self._add("Sqrt", [above], deviation)
        self._add("Div", [shift, deviation], output)

    def reshape(self, layer: _Layer, inputs: list[str], output: str) -> None:
        allow = int(layer.data["special_zero"] == "false")
        name = inputs[1]
        if name in self._constants:
            name = self._constant(f"{output}:shape", self._constants[name].astype(np.int64))
        self._add("Reshape", [inputs[0], name], output, allowzero=allow)

    def gather(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._expect(layer, "batch_dims", "0")
        self._add("Gather", inputs[:2], output, axis=int(self._constants[inputs[2]].item()))

    def concat(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._add("Concat", inputs, output, axis=int(layer.data["axis"]))

    def matrix_product(self, layer: _Layer, inputs: list[str], output: str) -> None:
        self._expect(layer, "transpose_a", "false")
        second = self._constants[inputs[1]]
        if layer.data["transpose_b"] == "true":
            second = second.swapaxes(-1, -2)
        self._add("MatMul", [inputs[0], self._constant(f"{output}:matrix", np.ascontiguousarray(second))], output)


_TRANSLATORS: dict[str, Callable[[_Translation, _Layer, list[str], str], None]] = {
    **dict.fromkeys(("Add", "Multiply", "Subtract"), _Translation.elementwise),
    **dict.fromkeys(("ReLU", "Sigmoid", "PReLU"), _Translation.activation),
    "AvgPool": _Translation.average_pool,
    "Concat": _Translation.concat,
    "Convolution": _Translation.convolution,
    "Gather": _Translation.gather,
    "GroupConvolution": _Translation.group_convolution,
    "MVN": _Translation.normalisation,
    "MatMul": _Translation.matrix_product,
    "MaxPool": _Translation.max_pool,
    "ReduceMean": _Translation.reduce_mean,
    "Reshape": _Translation.reshape,
}


def _whole(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]
