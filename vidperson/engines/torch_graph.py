"""An ONNX file as a torch module: one torch function per operator.

What the operators do and what their attributes default to is in the ONNX operator specification, versions 7 to 20.
Attributes are checked when the module is built; sizes are worked out on the CPU, as the graph says, in every pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError

# Convolutions and matrix products: what a GPU has half-precision units for.
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Sums of many terms, powers and what becomes a probability: done in float32 whatever the precision.
_EXACT = {"Exp", "Log", "Pow", "ReduceL2", "ReduceSum", "ReduceSumSquare", "Sigmoid", "Softmax", "Sqrt"}
# The first input is the items; the others stay as they are: sizes on the CPU, statistics in float32.
_FIRST_ONLY = {"BatchNormalization", "Pad", "Resize"}
_Function = Callable[..., Any]


@dataclass
class _Attributes:
    """The attributes of one node, and the version of the operator set."""

    values: dict[str, Any]
    version: int
    node: str

    def refuse(self, message: str) -> ModelError:
        return ModelError(f"{self.node}: {message}; run it with the engine onnxruntime or openvino")

    def integers(self, name: str) -> list[int] | None:
        found = self.values.get(name)
        return None if found is None else [int(number) for number in found]

    def integer(self, name: str, default: int) -> int:
        return int(self.values.get(name, default))

    def number(self, name: str, default: float) -> float:
        return float(self.values.get(name, default))

    def text(self, name: str, default: str, valid: Sequence[str]) -> str:
        found = self.values.get(name, default)
        text = found.decode() if isinstance(found, bytes) else str(found)
        if text not in valid:
            raise self.refuse(f"{name}: expected one of {' '.join(valid)}, found '{text}'")
        return text


_OPERATORS: dict[str, Callable[[_Attributes], _Function]] = {}


def _operator(*names: str) -> Callable[[Callable[[_Attributes], _Function]], Callable[[_Attributes], _Function]]:
    def register(build: Callable[[_Attributes], _Function]) -> Callable[[_Attributes], _Function]:
        _OPERATORS.update(dict.fromkeys(names, build))
        return build

    return register


# --- convolutions and pooling


@dataclass
class _Window:
    """Of one or two dimensions: kernel, strides, dilations, and pads, first those at the beginnings."""

    kernel: list[int] | None
    strides: list[int]
    dilations: list[int]
    pads: list[int]

    @property
    def starts(self) -> list[int]:
        return self.pads[: len(self.pads) // 2]

    @property
    def even(self) -> bool:
        return self.pads == 2 * self.starts

    @property
    def inside(self) -> bool:
        """Whether torch's pooling takes these pads: the same on both sides, at most half the kernel."""
        return self.even and all(2 * pad <= size for pad, size in zip(self.starts, self.kernel or [], strict=True))

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        size = len(self.pads) // 2
        both = [side for axis in reversed(range(size)) for side in (self.pads[axis], self.pads[size + axis])]
        return functional.pad(x, both, value=value)


def _window(a: _Attributes) -> _Window:
    a.text("auto_pad", "NOTSET", ("NOTSET", "VALID"))
    kernel, pads = a.integers("kernel_shape"), a.integers("pads")
    strides, dilations = a.integers("strides"), a.integers("dilations")
    # A convolution that says nothing has the windows of its weights; torch takes one number for all axes.
    size = next((len(sizes) for sizes in (kernel, strides, dilations) if sizes), len(pads or [0, 0]) // 2)
    window = _Window(kernel, strides or [1] * size, dilations or [1] * size, pads or [0] * 2 * size)
    sizes = [window.kernel or [0] * size, window.strides, window.dilations, window.starts]
    if size not in (1, 2) or len(window.pads) != 2 * size or any(len(found) != size for found in sizes):
        raise a.refuse("expected one- or two-dimensional windows")
    return window


def _by_dimensions(name: str) -> _Function:
    """torch's function ``name``, such as conv2d, for items of the first argument's dimensions."""
    functions = {size + 2: getattr(functional, f"{name}{size}d") for size in (1, 2)}
    return lambda x, *rest: functions[x.ndim](x, *rest)


@_operator("Conv")
def _conv(a: _Attributes) -> _Function:
    w, groups, convolve = _window(a), a.integer("group", 1), _by_dimensions("conv")

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if w.even:
            return convolve(x, weight, bias, w.strides, w.starts, w.dilations, groups)
        return convolve(w.pad(x), weight, bias, w.strides, 0, w.dilations, groups)

    return run


@_operator("ConvTranspose")
def _conv_transpose(a: _Attributes) -> _Function:
    w, groups, convolve = _window(a), a.integer("group", 1), _by_dimensions("conv_transpose")
    if "output_shape" in a.values or not w.even:
        raise a.refuse("expected equal pads on both sides and no output_shape")
    ends = a.integers("output_padding") or 0
    return lambda x, weight, bias=None: convolve(x, weight, bias, w.strides, w.starts, ends, groups, w.dilations)


@_operator("MaxPool")
def _max_pool(a: _Attributes) -> _Function:
    w, pool = _window(a), _by_dimensions("max_pool")
    if w.kernel is None or a.integer("storage_order", 0):
        raise a.refuse("expected kernel_shape, and rows before columns")
    ceil = bool(a.integer("ceil_mode", 0))

    def run(x: Tensor) -> Tensor:
        if w.inside:
            return pool(x, w.kernel, w.strides, w.starts, w.dilations, ceil)
        return pool(w.pad(x, -math.inf), w.kernel, w.strides, 0, w.dilations, ceil)

    return run


@_operator("AveragePool")
def _average_pool(a: _Attributes) -> _Function:
    w, pool = _window(a), _by_dimensions("avg_pool")
    if w.kernel is None or any(size != 1 for size in w.dilations):
        raise a.refuse("expected kernel_shape and no dilations")
    ceil, whole = bool(a.integer("ceil_mode", 0)), bool(a.integer("count_include_pad", 0))

    def run(x: Tensor) -> Tensor:
        if w.inside:
            return pool(x, w.kernel, w.strides, w.starts, ceil, whole)
        mean = pool(w.pad(x), w.kernel, w.strides, 0, ceil)
        if whole:
            return mean
        ones = w.pad(torch.ones_like(x[:1, :1]))
        return mean / pool(ones, w.kernel, w.strides, 0, ceil)

    return run


@_operator("GlobalAveragePool")
def _global_average_pool(a: _Attributes) -> _Function:
    return lambda x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


@_operator("GlobalMaxPool")
def _global_max_pool(a: _Attributes) -> _Function:
    return lambda x: x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


@_operator("Resize")
def _resize(a: _Attributes) -> _Function:
    mode = a.text("mode", "nearest", ("nearest", "linear"))
    places = ("asymmetric",) if a.version < 11 else ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    place = a.text("coordinate_transformation_mode", places[0], places)
    rounding = a.text(
        "nearest_mode", "floor" if a.version < 11 else "round_prefer_floor", ("floor", "round_prefer_floor")
    )
    if a.integer("antialias", 0) or a.integer("exclude_outside", 0) or "axes" in a.values:
        raise a.refuse("expected no antialias, exclude_outside or axes")
    if mode == "linear" and place == "asymmetric":
        raise a.refuse("expected linear resizing by half_pixel or align_corners, found asymmetric")

    def run(x: Tensor, *rest: Tensor | None) -> Tensor:
        scales = rest[0] if a.version < 11 else rest[1] if len(rest) > 1 else None
        sizes = rest[2] if len(rest) > 2 else None
        if sizes is not None:
            size = [int(number) for number in sizes.tolist()]
        elif scales is not None:
            size = [math.floor(n * scale) for n, scale in zip(x.shape, scales.tolist(), strict=True)]
        else:
            raise a.refuse("expected scales or sizes")
        if len(size) != 4 or size[:2] != list(x.shape[:2]):
            raise a.refuse(f"expected only height and width to change, found {list(x.shape)} to {size}")
        if mode == "linear":
            return functional.interpolate(x, size[2:], mode="bilinear", align_corners=place == "align_corners")
        # By whole factors all these rules take the same pixels; otherwise torch's rule is the first one.
        whole = all(new % old == 0 for new, old in zip(size[2:], x.shape[2:], strict=True))
        if place == "align_corners" or (not whole and (place, rounding) != ("asymmetric", "floor")):
            raise a.refuse(f"expected enlarging by whole factors, found {list(x.shape)} to {size}")
        return functional.interpolate(x, size[2:], mode="nearest")

    return run


# --- products and norms


@_operator("Gemm")
def _gemm(a: _Attributes) -> _Function:
    alpha, beta = a.number("alpha", 1), a.number("beta", 1)
    turn_first, turn_second = a.integer("transA", 0), a.integer("transB", 0)

    def run(first: Tensor, second: Tensor, third: Tensor | None = None) -> Tensor:
        first, second = first.T if turn_first else first, second.T if turn_second else second
        if third is None:
            return alpha * (first @ second) if alpha != 1 else first @ second
        return torch.addmm(third, first, second, beta=beta, alpha=alpha)

    return run


@_operator("MatMul")
def _matmul(a: _Attributes) -> _Function:
    return torch.matmul


@_operator("BatchNormalization")
def _batch_norm(a: _Attributes) -> _Function:
    if a.integer("training_mode", 0):
        raise a.refuse("training_mode: expected 0")
    epsilon = a.number("epsilon", 1e-5)
    return lambda x, scale, shift, mean, variance: functional.batch_norm(
        x, mean, variance, scale, shift, False, 0.0, epsilon
    )


# --- element by element


def _simple(name: str, function: _Function) -> None:
    _OPERATORS[name] = lambda a: function


_SIMPLE: dict[str, _Function] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Ceil": torch.ceil,
    "Dropout": lambda x, *ratio: x,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Identity": lambda x: x,
    "Log": torch.log,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": functional.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "HardSwish": functional.hardswish,
}
for _name, _each in _SIMPLE.items():
    _simple(_name, _each)


@_operator("Div")
def _div(a: _Attributes) -> _Function:
    def run(x: Tensor, y: Tensor) -> Tensor:
        whole = not (x.is_floating_point() or y.is_floating_point())
        return torch.div(x, y, rounding_mode="trunc" if whole else None)

    return run


@_operator("Max", "Min")
def _extreme(a: _Attributes) -> _Function:
    pick = torch.maximum if a.node.startswith("Max ") else torch.minimum

    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = pick(first, other)
        return first

    return run


@_operator("LeakyRelu")
def _leaky_relu(a: _Attributes) -> _Function:
    alpha = a.number("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, alpha)


@_operator("Elu")
def _elu(a: _Attributes) -> _Function:
    alpha = a.number("alpha", 1)
    return lambda x: functional.elu(x, alpha)


@_operator("HardSigmoid")
def _hard_sigmoid(a: _Attributes) -> _Function:
    alpha, beta = a.number("alpha", 0.2), a.number("beta", 0.5)
    return lambda x: (x * alpha + beta).clamp(0, 1)


@_operator("PRelu")
def _prelu(a: _Attributes) -> _Function:
    def run(x: Tensor, slope: Tensor) -> Tensor:
        # torch wants one slope per channel: the second axis, from the right the one before height and width.
        if slope.numel() == 1 or (slope.ndim == x.ndim - 1 and slope.numel() == slope.shape[0] == x.shape[1]):
            return functional.prelu(x, slope.flatten())
        return torch.where(x < 0, x * slope, x)

    return run


@_operator("Clip")
def _clip(a: _Attributes) -> _Function:
    fixed = [a.values.get("min"), a.values.get("max")]

    def run(x: Tensor, *limits: Tensor | None) -> Tensor:
        low, high = fixed if a.version < 11 else (*limits, None, None)[:2]
        return x.clamp(low, high) if low is not None or high is not None else x

    return run


@_operator("Softmax")
def _softmax(a: _Attributes) -> _Function:
    axis = a.integer("axis", -1 if a.version >= 13 else 1)

    def run(x: Tensor) -> Tensor:
        if a.version >= 13:
            return x.softmax(axis)
        return x.flatten(axis).softmax(-1).reshape(x.shape)  # over all axes from there on

    return run


@_operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")
def _reduce(a: _Attributes) -> _Function:
    keep, fixed = bool(a.integer("keepdims", 1)), a.integers("axes")
    functions: dict[str, _Function] = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
        "ReduceL2": lambda x, axes, keepdim: x.square().sum(axes, keepdim=keepdim).sqrt(),
        "ReduceSumSquare": lambda x, axes, keepdim: x.square().sum(axes, keepdim=keepdim),
    }
    function = functions[a.node.split()[0]]

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = fixed if axes is None else axes.tolist()
        if not over and a.integer("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(over or range(x.ndim)), keepdim=keep)

    return run


# --- shapes


@_operator("Shape")
def _shape(a: _Attributes) -> _Function:
    start, end = a.integer("start", 0), a.values.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@_operator("Reshape")
def _reshape(a: _Attributes) -> _Function:
    copies = not a.integer("allowzero", 0)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        return x.reshape([x.shape[k] if copies and size == 0 else size for k, size in enumerate(sizes)])

    return run


@_operator("Flatten")
def _flatten(a: _Attributes) -> _Function:
    axis = a.integer("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), -1)


@_operator("Transpose")
def _transpose(a: _Attributes) -> _Function:
    order = a.integers("perm")
    return lambda x: x.permute(order if order is not None else list(range(x.ndim))[::-1])


def _axes_of(a: _Attributes, axes: Tensor | None) -> list[int] | None:
    return a.integers("axes") if axes is None else axes.flatten().tolist()


@_operator("Squeeze")
def _squeeze(a: _Attributes) -> _Function:
    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = _axes_of(a, axes)
        return x.squeeze() if over is None else x.squeeze(tuple(over))

    return run


@_operator("Unsqueeze")
def _unsqueeze(a: _Attributes) -> _Function:
    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = _axes_of(a, axes) or []
        rank = x.ndim + len(over)
        for axis in sorted(axis % rank for axis in over):
            x = x.unsqueeze(axis)
        return x

    return run


@_operator("Concat")
def _concat(a: _Attributes) -> _Function:
    axis = a.integer("axis", 0)
    return lambda *parts: torch.cat(parts, axis)


@_operator("Split")
def _split(a: _Attributes) -> _Function:
    axis, fixed, count = a.integer("axis", 0), a.integers("split"), a.integer("num_outputs", a.values["outputs"])

    def run(x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
        lengths = fixed if sizes is None else sizes.tolist()
        return x.split(lengths if lengths is not None else -(-x.shape[axis] // count), axis)

    return run


@_operator("Slice")
def _slice(a: _Attributes) -> _Function:
    fixed = [a.integers(name) for name in ("starts", "ends", "axes")]

    def run(x: Tensor, *rest: Tensor | None) -> Tensor:
        given = [None if item is None else item.tolist() for item in rest] if rest else fixed
        starts, ends, axes, steps = (*given, None, None)[:4]
        cuts = [slice(None)] * x.ndim
        for k, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
            step = steps[k] if steps else 1
            if step < 1:
                raise a.refuse(f"expected steps from 1 on, found {step}")
            cuts[axes[k] if axes else k] = slice(start, end, step)
        return x[tuple(cuts)]

    return run


@_operator("Gather")
def _gather(a: _Attributes) -> _Function:
    axis = a.integer("axis", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        if not indices.ndim:
            return x.select(axis, int(indices))
        found = torch.stack([x.select(axis, place) for place in indices.flatten().tolist()], axis)
        return found.reshape(*x.shape[: axis % x.ndim], *indices.shape, *x.shape[axis % x.ndim + 1 :])

    return run


@_operator("Pad")
def _padding(a: _Attributes) -> _Function:
    a.text("mode", "constant", ("constant",))
    fixed = a.integers("pads")

    def run(x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        ends = fixed if pads is None else pads.tolist()
        over = axes.tolist() if axes is not None else list(range(x.ndim))
        if ends is None or len(ends) != 2 * len(over):
            raise a.refuse(f"expected pads for {len(over)} axes, found {ends}")
        amounts = [0] * (2 * x.ndim)
        for k, axis in enumerate(over):
            place = 2 * (x.ndim - 1 - axis % x.ndim)
            amounts[place : place + 2] = ends[k], ends[k + len(over)]
        return functional.pad(x, amounts, value=a.number("value", 0) if value is None else float(value))

    return run


@_operator("Cast")
def _cast(a: _Attributes) -> _Function:
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(a.integer("to", 1)))

    def run(x: Tensor) -> Tensor:
        if kind.kind == "f":  # the precision is that of the module
            return x if x.is_floating_point() else x.to(torch.float32)
        return x.to(torch.from_numpy(np.empty(0, kind)).dtype)

    return run


@_operator("ConstantOfShape")
def _constant_of_shape(a: _Attributes) -> _Function:
    value = onnx.numpy_helper.to_array(a.values["value"]) if "value" in a.values else np.zeros(1, np.float32)
    fill = torch.from_numpy(value.copy())
    return lambda shape: fill.expand(shape.tolist()).clone()


@_operator("Expand")
def _expand(a: _Attributes) -> _Function:
    return lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


# --- the module


@dataclass
class _Step:
    """One node: what it takes (names of values or of buffers), what it makes, what is of no use after it."""

    function: _Function
    inputs: list[str | None]
    buffers: dict[int, str]
    outputs: list[str]
    precision: torch.dtype
    first_only: bool
    done: list[str]
    place: str


class OnnxModule(nn.Module):
    """The graph of an ONNX file with one input, (N, ...) float32; a list of float32 tensors comes out.

    precision: of convolutions, matrix products and what follows them. The last products before the outputs (the heads
    of a detector, the embedding) are computed in float32, as is what comes before the first one.
    Raises ModelError for an operator or an attribute that is not known; it names the node.
    """

    def __init__(self, path: str, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        try:
            model = onnx.load(path)
        except Exception as error:  # whatever the damaged file leads the parser to
            raise ModelError(f"{path}: not an ONNX file: {' '.join(str(error).split())[:300]}") from None
        graph = model.graph
        self._path = path
        try:
            constants = {item.name: _to_tensor(item) for item in graph.initializer}
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: a weight cannot be read: {' '.join(str(error).split())[:300]}") from None
        free = [item for item in graph.input if item.name not in constants]
        if len(free) != 1 or not graph.output:
            raise ModelError(f"{path}: expected a network with one input and outputs, found {len(free)} inputs")
        self._input = free[0].name
        self._shape = [dim.dim_value or None for dim in free[0].type.tensor_type.shape.dim]
        self._outputs = [item.name for item in graph.output]
        version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
        nodes = [node for node in graph.node if not self._folded(node, version, constants)]
        kinds = self._precisions(nodes, constants, precision)
        self._steps = [self._step(node, kind, version, constants) for node, kind in zip(nodes, kinds, strict=True)]
        for name in self._outputs:
            if name in constants:
                self.register_buffer(self._buffer_name(name), constants[name])
        self._release()

    def _folded(self, node: Any, version: int, constants: dict[str, Tensor]) -> bool:
        """Whether the node is a constant; it is worked out then."""
        if node.op_type == "Constant" and not node.domain:
            value = onnx.helper.get_attribute_value(node.attribute[0])
            constants[node.output[0]] = _to_tensor(value) if hasattr(value, "dims") else torch.tensor(value)
            return True
        if not all(name in constants for name in node.input if name):
            return False
        values = [constants[name] if name else None for name in node.input]
        with torch.no_grad():
            results = self._function(node, version)(*values)
        for name, result in zip(node.output, [results] if isinstance(results, Tensor) else results, strict=False):
            constants[name] = result.float() if result.is_floating_point() else result
        return True

    def _place(self, node: Any) -> str:
        return f"{node.op_type} '{node.name or node.output[0]}'"

    def _function(self, node: Any, version: int) -> _Function:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
            raise ModelError(
                f"{self._path}: operator '{node.op_type}' of node '{node.name or node.output[0]}' is not known to the "
                f"engine torch; known operators: {' '.join(sorted(_OPERATORS))}"
            )
        values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        values["outputs"] = len(node.output)
        try:
            return _OPERATORS[node.op_type](_Attributes(values, version, self._place(node)))
        except ModelError as error:
            raise ModelError(f"{self._path}: {error}") from None

    def _precisions(self, nodes: list[Any], constants: dict[str, Tensor], low: torch.dtype) -> list[torch.dtype]:
        """What each node computes in."""
        feeds: set[str] = set()  # tensors that some product needs
        last: set[str] = set()  # names of the first outputs of products that no other product needs
        for node in reversed(nodes):
            before = node.op_type in _PRODUCTS
            if before and not feeds.intersection(node.output):
                last.add(node.output[0])
            if before or feeds.intersection(node.output):
                feeds.update(node.input)
        kinds: dict[str, torch.dtype] = {}
        found = []
        for node in nodes:
            if node.op_type in _PRODUCTS:
                kind = torch.float32 if node.output[0] in last else low
            elif node.op_type in _EXACT:
                kind = torch.float32
            else:
                kind = (
                    low if low in [kinds.get(name) for name in node.input if name not in constants] else torch.float32
                )
            kinds.update(dict.fromkeys(node.output, kind))
            found.append(kind)
        return found

    def _step(self, node: Any, precision: torch.dtype, version: int, constants: dict[str, Tensor]) -> _Step:
        function, buffers = self._function(node, version), {}
        first_only = node.op_type in _FIRST_ONLY
        for index, name in enumerate(node.input):
            if name not in constants:
                continue
            value = constants[name]
            if value.is_floating_point() and not (first_only and index):
                value = value.to(precision)
            if node.op_type == "Conv" and value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            sizes = not value.is_floating_point() or (node.op_type != "BatchNormalization" and first_only and index > 0)
            buffers[index] = self._buffer_name(f"{name} {value.dtype} {node.op_type == 'Conv'} {sizes}")
            if sizes:
                setattr(self, buffers[index], value)  # stays on the CPU
            else:
                self.register_buffer(buffers[index], value)
        inputs = [name or None for name in node.input]
        return _Step(function, inputs, buffers, list(node.output), precision, first_only, [], self._place(node))

    def _buffer_name(self, key: str) -> str:
        numbers: dict[str, int] = self.__dict__.setdefault("_numbers", {})
        return f"constant{numbers.setdefault(key, len(numbers))}"

    def _release(self) -> None:
        """Note after which step each tensor is of no more use."""
        seen = set(self._outputs)
        for step in reversed(self._steps):
            for name in dict.fromkeys([*(name for name in step.inputs if name), *step.outputs]):
                if name not in seen:
                    seen.add(name)
                    step.done.append(name)

    def check(self, shape: Sequence[int]) -> None:
        """Raises ModelError for a batch that the file says it does not take."""
        fits = len(shape) == len(self._shape) and all(
            expected in (None, found) for expected, found in zip(self._shape[1:], shape[1:], strict=True)
        )
        if self._shape and not fits:
            raise ModelError(f"{self._path}: failed on a batch of shape {tuple(shape)}: expected {self._shape}")

    def forward(self, items: Tensor) -> list[Tensor]:
        """All outputs in the file's order."""
        values: dict[str, Any] = {self._input: items}
        for step in self._steps:
            arguments = []
            for index, name in enumerate(step.inputs):
                value = getattr(self, step.buffers[index]) if index in step.buffers else values[name] if name else None
                if value is not None and value.is_floating_point() and not (step.first_only and index):
                    value = value.to(step.precision)
                arguments.append(value)
            try:
                results = step.function(*arguments)
            except ModelError as error:
                raise ModelError(f"{self._path}: {error}") from None
            for name, result in zip(step.outputs, [results] if isinstance(results, Tensor) else results, strict=False):
                values[name] = result
            for name in step.done:
                values.pop(name, None)
        found = [values[name] if name in values else getattr(self, self._buffer_name(name)) for name in self._outputs]
        return [value.to(torch.float32).contiguous() for value in found]


def _to_tensor(value: Any) -> Tensor:
    array = onnx.numpy_helper.to_array(value)
    tensor = torch.from_numpy(np.array(array))
    return tensor.float() if tensor.is_floating_point() else tensor
