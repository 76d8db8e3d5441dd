"""MXNet checkpoints to ONNX, without MXNet; needs only the package onnx.

The graph becomes a list of ONNX operators in :class:`_Graph`, one translator below per MXNet operator; batch norms are
then folded into the convolutions and matrix products beside them where that is exact. What the operators do and what
their attributes default to is in MXNet's ``src/operator``. Everything is computed in float32: the casts to and from
float16 of a network trained in mixed precision are left out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vidperson.errors import EngineError, ModelError
from vidperson.networks.card import ModelCard, picture_input
from vidperson.networks.mxnet_files import Array, Symbol, SymbolNode, read_params, read_symbol

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 8
_EMBEDDING = "fc1"  # what InsightFace calls the embedding; fc7 and the softmax behind it only serve training
_MAX_PARTS = 4096  # of a SliceChannel


def convert_mxnet(
    card: ModelCard,
    symbol_path: str | os.PathLike[str],
    params_path: str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
) -> None:
    """Write an MXNet checkpoint as an ONNX file with free batch size (and free picture size for detectors).

    The input is named ``images``. Embedders: one output ``embeddings``, the node that the card names, else ``fc1``,
    else the graph's only output. Detectors: the nodes that the card names, else the graph's outputs, under these names.
    Raises EngineError without onnx; ModelError for damaged files, operators that are not known, and weights or an
    embedding size that do not fit.
    """
    try:
        import onnx
    except ImportError:
        raise EngineError(
            f"{card.name}: converting an MXNet checkpoint needs the package onnx; run: . ./path.sh, or for an "
            "interpreter of your own: $VIDPERSON_PYTHON -m pip install -r requirements/base.txt"
        ) from None
    pictures, where = picture_input(card), os.fspath(symbol_path)
    symbol, params = read_symbol(symbol_path), read_params(params_path)
    outputs = _outputs(card, symbol, where)
    graph = _translate(symbol, params, outputs, where)
    _fold_batch_norms(graph, outputs)
    model = _to_model(graph, list(outputs), [pictures.height, pictures.width])
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:  # the checker's exceptions share no base class
        raise ModelError(
            f"{where}: the graph and the weights of {os.fspath(params_path)} do not fit: "
            f"{' '.join(str(error).split())[:500]}"
        ) from None
    _check_channels(graph, inferred, where)
    results = inferred.output
    if card.role == "embedder":
        found = [dim.dim_value or None for dim in results[0].type.tensor_type.shape.dim]
        size = (card.output.embedding_size or 0) // (2 if card.output.mirror == "concatenate" else 1)
        if len(found) != 2 or found[1] not in (size, None):
            raise ModelError(f"{where}: expected embeddings of shape [None, {size}], as the card says, found {found}")
    del model.graph.output[:]
    model.graph.output.extend(results)  # as before, with their sizes
    onnx.save(model, os.fspath(onnx_path))


def mxnet_outputs(card: ModelCard, symbol_path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The outputs of :func:`convert_mxnet`, in its order, by the names that MXNet gives them in the symbol."""
    symbol = read_symbol(symbol_path)
    outputs = _outputs(card, symbol, os.fspath(symbol_path)).values()
    return tuple(_tensor_name(symbol.nodes[node].name, output) for node, output in outputs)


def _outputs(card: ModelCard, symbol: Symbol, where: str) -> dict[str, tuple[int, int]]:
    """Name in the ONNX file to (node, output)."""
    names = card.mxnet.outputs if card.mxnet else ()
    if card.role == "embedder":
        return {"embeddings": _embedding(symbol, names, where)}
    return {name: _find_output(symbol, name, where) for name in names} or _heads(symbol)


def _embedding(symbol: Symbol, names: Sequence[str], where: str) -> tuple[int, int]:
    if len(names) > 1:
        raise ModelError(f"{where}: expected one output of an embedder, the card names {' '.join(names)}")
    if names:
        return _find_output(symbol, names[0], where)
    if any(node.name == _EMBEDDING and node.operator != "null" for node in symbol.nodes):
        return _find_output(symbol, _EMBEDDING, where)
    if len(symbol.heads) > 1:
        found = " ".join(_heads(symbol))
        raise ModelError(
            f"{where}: expected a node '{_EMBEDDING}' or one output, found outputs {found}; name one in the card"
        )
    return symbol.heads[0]


def _heads(symbol: Symbol) -> dict[str, tuple[int, int]]:
    return {_tensor_name(symbol.nodes[node].name, output): (node, output) for node, output in symbol.heads}


def _tensor_name(name: str, output: int) -> str:
    return f"{name}_output{output}" if output else name


def _find_output(symbol: Symbol, name: str, where: str) -> tuple[int, int]:
    """The node and output that a name means: ``<node>``, or MXNet's ``<node>_output`` and ``<node>_output<number>``."""
    match = re.fullmatch(r"(.+)_output(\d{0,4})", name)
    wanted = [(name, 0)] + ([(match[1], int(match[2] or 0))] if match else [])
    for index, node in reversed(list(enumerate(symbol.nodes))):
        for node_name, output in wanted:
            if node.name == node_name and node.operator != "null":
                return index, output
    raise ModelError(f"{where}: expected a node '{name}'; the graph's outputs are {' '.join(_heads(symbol))}")


# --- the graph in the making


@dataclass
class _Op:
    """One ONNX operator."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


class _Graph:
    """ONNX operators in order, constants by name, and the number of dimensions of every tensor."""

    def __init__(self, reserved: Sequence[str]) -> None:
        self.ops: list[_Op] = []
        self.constants: dict[str, Array] = {}
        self.ranks: dict[str, int] = {}
        self._names = set(reserved)

    def name(self, wanted: str) -> str:
        """A tensor name that is not in use yet."""
        name, count = wanted or "tensor", 0
        while name in self._names:
            count += 1
            name = f"{wanted}__{count}"
        self._names.add(name)
        return name

    def constant(self, value: Any, name: str) -> str:
        """The name of a new constant."""
        name = self.name(name)
        self.constants[name] = np.asarray(value)
        self.ranks[name] = self.constants[name].ndim
        return name

    def add(self, kind: str, inputs: Sequence[str], name: str, rank: int | None = None, **attributes: Any) -> str:
        """The output of a new operator; ``rank`` is that of the first input where it is not given."""
        output = self.name(name)
        self.ops.append(_Op(kind, output, list(inputs), [output], attributes))
        self.ranks[output] = self.ranks[inputs[0]] if rank is None else rank
        return output


@dataclass
class _Call:
    """One MXNet node about to be translated: its inputs as tensors of the graph, its attributes checked as read."""

    graph: _Graph
    node: SymbolNode
    inputs: list[str]
    where: str

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def rank(self) -> int:
        """Dimensions of the first input."""
        return self.graph.ranks[self.inputs[0]]

    def refuse(self, message: str) -> ModelError:
        return ModelError(f"{self.where}: {self.node.operator} '{self.node.name}': {message}")

    def expect_inputs(self, *counts: int) -> None:
        if len(self.inputs) not in counts:
            raise self.refuse(f"expected {' or '.join(map(str, counts))} inputs, found {len(self.inputs)}")

    def value(self, index: int) -> Array:
        """An input that must be one of the weights."""
        name = self.inputs[index]
        if name not in self.graph.constants:
            raise self.refuse(f"expected input {index} to be in the params file, '{name}' is not")
        return self.graph.constants[name]

    def text(self, key: str, default: str, valid: Sequence[str]) -> str:
        text = self.node.attributes.get(key, default)
        if text not in valid:
            raise self.refuse(f"{key}: expected one of {' '.join(valid)}, found '{text}'")
        return text

    def flag(self, key: str, default: bool) -> bool:
        return self.text(key, str(default), ("True", "False", "true", "false", "1", "0")) in ("True", "true", "1")

    def number(self, key: str, default: float | None = None) -> float:
        text = self.node.attributes.get(key, "" if default is None else str(default))
        try:
            return float(text)
        except ValueError:
            raise self.refuse(f"{key}: expected a number, found '{text}'") from None

    def integers(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """A tuple such as ``(3, 3)``, ``[3,3]``, ``(2L, 2L)``, or one number."""
        text = self.node.attributes.get(key, "None" if default is None else str(tuple(default)))
        if not re.fullmatch(r"[(\[]?\s*(-?\d{1,9}L?\s*(,\s*-?\d{1,9}L?\s*)*,?)?\s*[)\]]?", text):
            raise self.refuse(f"{key}: expected integers, found '{text[:100]}'")
        found = [int(number) for number in re.findall(r"-?\d+", text)]
        return list(default) if default is not None and not found else found

    def integer(self, key: str, default: int | None = None) -> int:
        found = self.integers(key, None if default is None else [default])
        if len(found) != 1:
            raise self.refuse(f"{key}: expected one integer, found {found}")
        return found[0]

    def without(self, key: str, *harmless: str) -> None:
        """Raises ModelError for an attribute that changes the result in a way not known here."""
        text = self.node.attributes.get(key, "None")
        if text not in ("None", *harmless):
            raise self.refuse(f"{key}: expected {' or '.join(harmless) or 'it not to be set'}, found '{text}'")


_Translator = Callable[[_Call], list[str]]
_TRANSLATORS: dict[str, _Translator] = {}


def _operator(*names: str) -> Callable[[_Translator], _Translator]:
    def register(translator: _Translator) -> _Translator:
        _TRANSLATORS.update(dict.fromkeys(names, translator))
        return translator

    return register


def _translate(
    symbol: Symbol, params: Mapping[str, Array], outputs: Mapping[str, tuple[int, int]], where: str
) -> _Graph:
    """The graph of what the outputs need, with tensors named as the outputs."""
    needed = [False] * len(symbol.nodes)
    for node, _ in outputs.values():
        needed[node] = True
    for index in range(len(symbol.nodes) - 1, -1, -1):
        if needed[index]:
            for node, _ in symbol.nodes[index].inputs:
                needed[node] = True
    inputs = [n.name for n, use in zip(symbol.nodes, needed, strict=True) if use and n.operator == "null"]
    inputs = [name for name in dict.fromkeys(inputs) if name not in params]
    if len(inputs) != 1:
        raise ModelError(
            f"{where}: expected one input that has no weights, found {' '.join(inputs) or 'none'}; "
            "the params file belongs to another graph, or the card has to name other outputs"
        )
    graph = _Graph(["images", *outputs])
    graph.ranks["images"] = 4
    tensors: list[list[str]] = []

    def tensor(place: str, node: int, output: int) -> str:
        if output >= len(tensors[node]):
            raise ModelError(
                f"{where}: {place}: expected output {output} of '{symbol.nodes[node].name}', "
                f"which has {len(tensors[node])}"
            )
        return tensors[node][output]

    for here, use in zip(symbol.nodes, needed, strict=True):
        if not use:
            tensors.append([])
        elif here.operator != "null":
            if here.operator not in _TRANSLATORS:
                raise ModelError(
                    f"{where}: operator '{here.operator}' of node '{here.name}' is not known; "
                    f"known operators: {' '.join(sorted(_TRANSLATORS))}"
                )
            inputs = [tensor(f"node '{here.name}'", *source) for source in here.inputs]
            call = _Call(graph, here, inputs, where)
            if not inputs:
                raise call.refuse("expected inputs, found none")
            tensors.append(_TRANSLATORS[here.operator](call))
        elif here.name in params:
            value = params[here.name]
            tensors.append([graph.constant(value if value.dtype.kind == "f" else value.astype(np.float32), here.name)])
        else:
            tensors.append(["images"])
    for label, (index, output) in outputs.items():
        source = tensor(f"output '{label}'", index, output)
        graph.ops.append(_Op("Identity", label, [source], [label]))
        graph.ranks[label] = graph.ranks[source]
    _merge_identities(graph, list(outputs))
    return graph


def _merge_identities(graph: _Graph, labels: Sequence[str]) -> None:
    """Give a tensor the name of the output that it is, where it is not the input and has no such name yet."""
    producers = {output: op for op in graph.ops for output in op.outputs if op.kind != "Identity"}
    renamed: dict[str, str] = {}
    for op in [op for op in graph.ops if op.kind == "Identity"]:
        source, label = op.inputs[0], op.outputs[0]
        if source in producers and source not in renamed:
            renamed[source] = label
            graph.ops.remove(op)
    for op in graph.ops:
        op.inputs = [renamed.get(name, name) for name in op.inputs]
        op.outputs = [renamed.get(name, name) for name in op.outputs]


def _fold_batch_norms(graph: _Graph, labels: Mapping[str, Any]) -> None:
    """Put batch norms into the weights before them, else behind them, where no other operator sees the difference."""
    uses = Counter([*labels, *(name for op in graph.ops for name in op.inputs)])
    producers = {output: op for op in graph.ops for output in op.outputs}
    for norm in [op for op in graph.ops if op.kind == "BatchNormalization"]:
        product = producers.get(norm.inputs[0])
        if product is not None and uses[norm.inputs[0]] == 1 and _weights(graph, product) is not None:
            scale, shift = _scale_and_shift(graph, norm)
            weights, bias = _weights_and_bias(graph, product)
            if len(scale) == len(weights):
                weights = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
                _set_weights(graph, product, weights, bias * scale + shift, norm.outputs[0])
                product.outputs = norm.outputs
                producers[norm.outputs[0]] = product
                graph.ops.remove(norm)
    for norm in [op for op in graph.ops if op.kind == "BatchNormalization"]:
        _fold_forwards(graph, norm, uses)


def _fold_forwards(graph: _Graph, norm: _Op, uses: Mapping[str, int]) -> None:
    """Put a batch norm into the weights of what follows: a matrix product, or a convolution that pads nothing."""
    first = following = _only_user(graph, norm, uses)
    while following is not None and following.kind == "Flatten":
        following = _only_user(graph, following, uses)
    if (
        first is None
        or following is None
        or _weights(graph, following) is None
        or any(following.attributes.get("pads", ()))
    ):
        return
    scale, shift = _scale_and_shift(graph, norm)
    weights, bias = _weights_and_bias(graph, following)
    groups = following.attributes.get("group", 1)
    columns = weights[0].size * groups if following.kind == "Gemm" else weights.shape[1] * groups
    if columns % len(scale) or (following.kind == "Conv" and columns != len(scale)) or len(weights) % groups:
        return
    # (inputs, inner) with inner the kernel's area, or the pixels of a channel that Flatten laid behind one another
    scale, shift = (np.repeat(values, columns // len(scale)) for values in (scale, shift))
    grouped = weights.reshape(groups, len(weights) // groups, columns // groups, -1)
    shift = np.einsum("goik,gi->go", grouped, shift.reshape(groups, -1)).reshape(-1)
    grouped = grouped * scale.reshape(groups, 1, -1, 1)
    _set_weights(graph, following, grouped.reshape(weights.shape), bias + shift, following.outputs[0])
    first.inputs[0] = norm.inputs[0]
    graph.ops.remove(norm)


def _only_user(graph: _Graph, op: _Op, uses: Mapping[str, int]) -> _Op | None:
    if uses[op.outputs[0]] != 1:
        return None
    return next((other for other in graph.ops if other.inputs[:1] == op.outputs), None)


def _weights(graph: _Graph, op: _Op) -> Array | None:
    """The constant weights, outputs first, of a convolution or a matrix product with constant bias."""
    if op.kind not in ("Conv", "Gemm") or any(name not in graph.constants for name in op.inputs[1:]):
        return None
    return graph.constants[op.inputs[1]]


def _weights_and_bias(graph: _Graph, op: _Op) -> tuple[Array, Array]:
    weights, *bias = (graph.constants[name].astype(np.float64) for name in op.inputs[1:])
    return weights, bias[0] if bias else np.zeros(len(weights))


def _set_weights(graph: _Graph, op: _Op, weights: Array, bias: Array, name: str) -> None:
    op.inputs[1:] = [graph.constant(weights, f"{name}_weight"), graph.constant(bias, f"{name}_bias")]


def _scale_and_shift(graph: _Graph, norm: _Op) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in norm.inputs[1:])
    scale = gamma / np.sqrt(variance + norm.attributes["epsilon"])
    return scale, beta - mean * scale


def _to_model(graph: _Graph, labels: Sequence[str], picture: Sequence[int | None]) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    sizes = [size or free for size, free in zip(picture, ("height", "width"), strict=True)]
    nodes = [helper.make_node(op.kind, op.inputs, op.outputs, op.name, **op.attributes) for op in graph.ops]
    used = {name for op in graph.ops for name in op.inputs}
    constants = [
        numpy_helper.from_array(_as_onnx(value), name) for name, value in graph.constants.items() if name in used
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, *sizes])
    results = [helper.make_tensor_value_info(label, TensorProto.FLOAT, [None] * graph.ranks[label]) for label in labels]
    onnx_graph = helper.make_graph(nodes, "network", [images], results, constants)
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _check_channels(graph: _Graph, inferred: onnx.GraphProto, where: str) -> None:
    """Raises ModelError where weights are for another number of channels, which ONNX's own checks let pass."""
    channels = {
        info.name: info.type.tensor_type.shape.dim[1].dim_value
        for info in (*inferred.input, *inferred.value_info, *inferred.output)
        if len(info.type.tensor_type.shape.dim) > 1
    }
    for op in graph.ops:
        found = channels.get(op.inputs[0], 0)  # 0: not known
        if op.kind not in ("Conv", "ConvTranspose", "PRelu") or not found:
            continue
        weights = graph.constants[op.inputs[1]]
        expected = weights.shape[1] * op.attributes["group"] if op.kind == "Conv" else weights.shape[0]
        if found != expected and not (op.kind == "PRelu" and expected == 1):
            raise ModelError(
                f"{where}: {op.kind} '{op.name}': the weights are for {expected} input channels, found {found}"
            )


def _as_onnx(value: Array) -> Array:
    """Weights in float32; shapes and indices, which are made here, stay int64."""
    return np.ascontiguousarray(value if value.dtype == np.int64 else value.astype(np.float32)).reshape(value.shape)


# --- one translator per operator


@_operator("Convolution", "Convolution_v1")
def _convolution(call: _Call) -> list[str]:
    kernel = call.integers("kernel")
    call.without("layout", "NCHW", "NCW", "NCDHW")
    call.expect_inputs(2 if call.flag("no_bias", False) else 3)
    _expect_kernel(call, kernel)
    return [call.graph.add("Conv", call.inputs, call.name, **_window(call, kernel, dilations="dilate"))]


@_operator("Deconvolution")
def _deconvolution(call: _Call) -> list[str]:
    kernel = call.integers("kernel")
    call.without("layout", "NCHW", "NCW", "NCDHW")
    call.without("target_shape", "(0,0)", "(0, 0)", "()", "[]")
    call.expect_inputs(2 if call.flag("no_bias", True) else 3)
    _expect_kernel(call, kernel)
    window = _window(call, kernel, dilations="dilate")
    window["output_padding"] = call.integers("adj", [0] * len(kernel))
    return [call.graph.add("ConvTranspose", call.inputs, call.name, **window)]


def _expect_kernel(call: _Call, kernel: Sequence[int]) -> None:
    if list(call.value(1).shape[2:]) != kernel:
        raise call.refuse(f"expected weights of a kernel {tuple(kernel)}, found shape {call.value(1).shape}")


def _window(call: _Call, kernel: Sequence[int], dilations: str = "") -> dict[str, Any]:
    """Attributes that convolutions and poolings share."""
    pads = call.integers("pad", [0] * len(kernel))
    window: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": call.integers("stride", [1] * len(kernel)),
        "pads": [*pads, *pads],
    }
    if dilations:
        window["dilations"] = call.integers(dilations, [1] * len(kernel))
        window["group"] = call.integer("num_group", 1)
    return window


@_operator("FullyConnected")
def _fully_connected(call: _Call) -> list[str]:
    no_bias = call.flag("no_bias", False)
    call.expect_inputs(2 if no_bias else 3)
    graph, (data, weights, *bias) = call.graph, call.inputs
    if call.flag("flatten", True) or call.rank == 2:
        if call.rank != 2:
            data = graph.add("Flatten", [data], f"{call.name}_flat", 2, axis=1)
        return [graph.add("Gemm", [data, weights, *bias], call.name, 2, transB=1)]
    turned = graph.constant(call.value(1).T, f"{call.name}_weight")
    product = graph.add("MatMul", [data, turned], call.name)
    return [graph.add("Add", [product, *bias], call.name)] if bias else [product]


@_operator("BatchNorm", "BatchNorm_v1")
def _batch_norm(call: _Call) -> list[str]:
    call.expect_inputs(5)
    if call.integer("axis", 1) not in (1, 1 - call.rank):
        raise call.refuse(f"axis: expected 1, the channels, found {call.integer('axis', 1)}")
    gamma, beta, mean, variance = (call.value(index) for index in range(1, 5))
    if not gamma.shape == beta.shape == mean.shape == variance.shape or gamma.ndim != 1:
        shapes = [gamma.shape, beta.shape, mean.shape, variance.shape]
        raise call.refuse(f"expected gamma, beta, mean and variance of one value per channel, found shapes {shapes}")
    inputs = list(call.inputs)
    if call.flag("fix_gamma", True):
        inputs[1] = call.graph.constant(np.ones_like(gamma), f"{call.name}_gamma")
    return [call.graph.add("BatchNormalization", inputs, call.name, epsilon=call.number("eps", 1e-3))]


@_operator("LeakyReLU")
def _leaky_relu(call: _Call) -> list[str]:
    kind = call.text("act_type", "leaky", ("leaky", "prelu", "elu"))
    call.expect_inputs(2 if kind == "prelu" else 1)
    if kind == "prelu":
        slopes = call.value(1).reshape(-1, *[1] * (call.rank - 2))
        return [call.graph.add("PRelu", [call.inputs[0], call.graph.constant(slopes, f"{call.name}_slope")], call.name)]
    onnx_kind = {"leaky": "LeakyRelu", "elu": "Elu"}[kind]
    return [call.graph.add(onnx_kind, call.inputs, call.name, alpha=call.number("slope", 0.25))]


_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}


@_operator("Activation")
def _activation(call: _Call) -> list[str]:
    kind = call.text("act_type", "", tuple(_ACTIVATIONS))
    return [call.graph.add(_ACTIVATIONS[kind], call.inputs, call.name)]


@_operator("Pooling")
def _pooling(call: _Call) -> list[str]:
    kind = call.text("pool_type", "max", ("max", "avg"))
    call.without("layout", "NCHW", "NCW", "NCDHW")
    if call.flag("global_pool", False):
        return [call.graph.add({"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}[kind], call.inputs, call.name)]
    window = _window(call, call.integers("kernel"))
    window["ceil_mode"] = int(call.text("pooling_convention", "valid", ("valid", "full")) == "full")
    if kind == "max":
        return [call.graph.add("MaxPool", call.inputs, call.name, **window)]
    data, include = call.inputs[0], call.flag("count_include_pad", True)
    if include and window["ceil_mode"]:
        # Of a window over the edge MXNet counts what lies within the padding; engines differ, so it becomes real zeros.
        half = len(window["pads"]) // 2
        ends = np.array([0, 0, *window["pads"][:half]] * 2, np.int64)
        data = call.graph.add("Pad", [data, call.graph.constant(ends, f"{call.name}_pads")], f"{call.name}_padded")
        window["pads"], include = [0] * (2 * half), False
    return [call.graph.add("AveragePool", [data], call.name, count_include_pad=int(include), **window)]


@_operator("Dropout", "identity", "_copy", "BlockGrad", "stop_gradient")
def _nothing(call: _Call) -> list[str]:
    """What does nothing outside training."""
    return [call.inputs[0]]


@_operator("Cast", "cast")
def _cast(call: _Call) -> list[str]:
    """Float types are one here; integers are cut off towards zero, as in MXNet."""
    kind = call.text("dtype", "", ("float16", "float32", "float64", "int32", "int64"))
    if kind.startswith("float"):
        return [call.inputs[0]]
    numbers = {"float": 1, "int32": 6, "int64": 7}  # of TensorProto.DataType
    whole = call.graph.add("Cast", call.inputs, call.name, to=numbers[kind])
    return [call.graph.add("Cast", [whole], call.name, to=numbers["float"])]


@_operator("Flatten", "flatten")
def _flatten(call: _Call) -> list[str]:
    return [call.graph.add("Flatten", call.inputs, call.name, 2, axis=1)]


@_operator("Reshape", "reshape")
def _reshape(call: _Call) -> list[str]:
    """Sizes above 0 stand for themselves; 0 copies a size, -1 is what is left, -2 copies all sizes that are left, -3 is
    the product of two sizes, -4 splits one size in the two that follow."""
    call.without("reverse", "False", "0")
    if "shape" not in call.node.attributes:
        raise call.refuse("shape: expected it to be set")
    codes = call.integers("shape")
    sizes: list[int | str] = []  # a number, or a tensor of one element
    source = 0

    def take() -> int:
        nonlocal source
        if source >= call.rank:
            raise call.refuse(f"shape: expected it to fit an input of {call.rank} dimensions, found {codes}")
        source += 1
        return source - 1

    def size_of(index: int) -> str:
        whole = call.graph.add("Shape", [call.inputs[0]], f"{call.name}_shape", 1, start=index, end=index + 1)
        return whole

    def copy(index: int) -> int | str:
        return 0 if index == len(sizes) else size_of(index)

    left = list(codes)
    while left:
        code = left.pop(0)
        if code > 0 or code == -1:
            source += 1
            sizes.append(code)
        elif code == 0:
            sizes.append(copy(take()))
        elif code == -2:
            while source < call.rank:
                sizes.append(copy(take()))
        elif code == -3:
            sizes.append(call.graph.add("Mul", [size_of(take()), size_of(take())], f"{call.name}_size", 1))
        elif code == -4 and len(left) >= 2 and max(left[:2]) > 0 and min(left[:2]) >= -1:
            pair, left = left[:2], left[2:]
            whole, known = size_of(take()), call.graph.constant([max(pair)], f"{call.name}_part")
            rest = call.graph.add("Div", [whole, known], f"{call.name}_size", 1)
            sizes += [rest if size == -1 else size for size in pair]
        else:
            raise call.refuse(f"shape: expected sizes and the codes 0 -1 -2 -3 -4, found {codes}")
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) == len(sizes):
        target = call.graph.constant(np.array(numbers, np.int64), f"{call.name}_shape")
    else:
        parts = [call.graph.constant([size], f"{call.name}_size") if isinstance(size, int) else size for size in sizes]
        target = call.graph.add("Concat", parts, f"{call.name}_shape", 1, axis=0)
    return [call.graph.add("Reshape", [call.inputs[0], target], call.name, len(sizes))]


@_operator("transpose")
def _transpose(call: _Call) -> list[str]:
    axes = call.integers("axes", list(range(call.rank))[::-1])
    return [call.graph.add("Transpose", call.inputs, call.name, perm=axes)]


@_operator("Concat", "concat")
def _concat(call: _Call) -> list[str]:
    return [call.graph.add("Concat", call.inputs, call.name, axis=call.integer("dim", 1))]


@_operator("SliceChannel", "split")
def _slice_channel(call: _Call) -> list[str]:
    count, axis = call.integer("num_outputs"), call.integer("axis", 1)
    if not 0 < count <= _MAX_PARTS:
        raise call.refuse(f"num_outputs: expected 1 to {_MAX_PARTS}, found {count}")
    graph = call.graph
    parts = [graph.name(_tensor_name(call.name, index)) for index in range(count)]
    graph.ops.append(_Op("Split", parts[0], call.inputs, parts, {"axis": axis, "num_outputs": count}))
    graph.ranks.update(dict.fromkeys(parts, call.rank))
    if not call.flag("squeeze_axis", False):
        return parts
    axes = graph.constant([axis], f"{call.name}_axis")
    return [graph.add("Squeeze", [part, axes], part, call.rank - 1) for part in parts]


@_operator("slice_axis")
def _slice_axis(call: _Call) -> list[str]:
    begin, last = call.integer("begin"), np.iinfo(np.int64).max
    end = last if call.node.attributes.get("end", "None") == "None" else call.integer("end")
    values = {"begin": begin, "end": end, "axis": call.integer("axis")}
    inputs = [call.graph.constant([value], f"{call.name}_{key}") for key, value in values.items()]
    return [call.graph.add("Slice", [call.inputs[0], *inputs], call.name)]


@_operator("Crop")
def _crop(call: _Call) -> list[str]:
    """Height and width of the second input, or of ``h_w``, from an offset on or out of the middle."""
    call.expect_inputs(1, 2)
    graph, data = call.graph, call.inputs[0]
    if len(call.inputs) == 2:
        size = graph.add("Shape", call.inputs[1:], f"{call.name}_size", 1, start=2, end=4)
    else:
        size = graph.constant(call.integers("h_w"), f"{call.name}_size")
    if call.flag("center_crop", False):
        whole = graph.add("Shape", [data], f"{call.name}_whole", 1, start=2, end=4)
        surplus = graph.add("Sub", [whole, size], f"{call.name}_surplus")
        begin = graph.add("Div", [surplus, graph.constant([2], f"{call.name}_two")], f"{call.name}_begin")
    else:
        begin = graph.constant(call.integers("offset", [0, 0]), f"{call.name}_begin")
    end = graph.add("Add", [begin, size], f"{call.name}_end")
    return [graph.add("Slice", [data, begin, end, graph.constant([2, 3], f"{call.name}_axes")], call.name)]


@_operator("UpSampling")
def _up_sampling(call: _Call) -> list[str]:
    call.text("sample_type", "", ("nearest",))
    call.expect_inputs(1)
    scale = call.integer("scale")
    scales = call.graph.constant(np.array([1, 1, scale, scale], np.float32), f"{call.name}_scales")
    how: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [call.graph.add("Resize", [call.inputs[0], "", scales], call.name, **how)]


def _register_arithmetic() -> None:
    """Add, Sub, Mul and Div of two tensors and of a tensor and a number; capitals are the names of early versions."""
    for kind, word in {"Add": "Plus", "Sub": "Minus", "Mul": "Mul", "Div": "Div"}.items():
        lower = word.lower()
        names = [f"elemwise_{kind.lower()}", f"broadcast_{kind.lower()}", f"broadcast_{lower}", f"_{lower}", f"_{word}"]
        _operator(*names)(lambda call, kind=kind: _of_two(call, kind))  # type: ignore[misc]
        _operator(f"_{lower}_scalar", f"_{word}Scalar")(lambda call, kind=kind: _of_scalar(call, kind, False))  # type: ignore[misc]
        if kind in ("Sub", "Div"):
            names = [f"_r{lower}_scalar", f"_R{word}Scalar"]
            _operator(*names)(lambda call, kind=kind: _of_scalar(call, kind, True))  # type: ignore[misc]


def _of_two(call: _Call, kind: str) -> list[str]:
    call.expect_inputs(2)
    return [call.graph.add(kind, call.inputs, call.name, max(call.graph.ranks[name] for name in call.inputs))]


def _of_scalar(call: _Call, kind: str, reverse: bool) -> list[str]:
    scalar = call.graph.constant(np.float32(call.number("scalar")), f"{call.name}_scalar")
    inputs = [scalar, call.inputs[0]] if reverse else [call.inputs[0], scalar]
    return [call.graph.add(kind, inputs, call.name, call.rank)]


_register_arithmetic()


@_operator("clip")
def _clip(call: _Call) -> list[str]:
    limits = [call.graph.constant(np.float32(call.number(key)), f"{call.name}_{key}") for key in ("a_min", "a_max")]
    return [call.graph.add("Clip", [call.inputs[0], *limits], call.name)]


@_operator("softmax")
def _softmax(call: _Call) -> list[str]:
    call.without("temperature", "1", "1.0")
    call.expect_inputs(1)
    return [call.graph.add("Softmax", call.inputs, call.name, axis=call.integer("axis", -1))]


@_operator("SoftmaxActivation")
def _softmax_activation(call: _Call) -> list[str]:
    """Over the channels, or, whatever its documentation says, over the last axis."""
    channel = call.text("mode", "instance", ("instance", "channel")) == "channel"
    return [call.graph.add("Softmax", call.inputs, call.name, axis=1 if channel else -1)]


@_operator("L2Normalization")
def _l2_normalization(call: _Call) -> list[str]:
    """Divides by the root of (sum of squares + eps) of an item, of a pixel's channels, or of a channel's pixels."""
    mode = call.text("mode", "instance", ("instance", "channel", "spatial"))
    axes = {"instance": range(1, call.rank), "channel": (1,), "spatial": range(2, call.rank)}[mode]
    graph, data, part = call.graph, call.inputs[0], f"{call.name}_norm"
    squares = graph.add("Mul", [data, data], part)
    total = graph.add("ReduceSum", [squares, graph.constant(np.array(axes, np.int64), f"{call.name}_axes")], part)
    eps = graph.constant(np.float32(call.number("eps", 1e-10)), f"{call.name}_eps")
    root = graph.add("Sqrt", [graph.add("Add", [total, eps], part)], part)
    return [graph.add("Div", [data, root], call.name)]
