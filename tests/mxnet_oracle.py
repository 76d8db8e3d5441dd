"""MXNet itself, as an oracle: builds graphs of the InsightFace zoo with random weights, and runs checkpoints.

Runs in an environment of its own that has MXNet 1.9.1, which `utils/make_env.sh mxnet` makes, or
VIDPERSON_MXNET_PYTHON names:

  .venv-mxnet/bin/python tests/mxnet_oracle.py build lresnet50e_ir <folder>  writes model-symbol.json, model-0000.params
  .venv-mxnet/bin/python tests/mxnet_oracle.py save <folder>                 writes params files in two versions
  .venv-mxnet/bin/python tests/mxnet_oracle.py run <folder> ...              reads outputs.txt and input_*.npy beside
      them, writes expected_<input>_<output>.npy
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"  # fused by oneDNN, the second pass of old symbols fails

import mxnet as mx
import numpy as np

EPS = 2e-5


def conv(data, name, filters, kernel=1, stride=1, pad=0, groups=1, bias=False):
    size = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 2}
    return mx.sym.Convolution(data, num_filter=filters, num_group=groups, no_bias=not bias, name=name, **size)


def norm(data, name, fix_gamma=False):
    return mx.sym.BatchNorm(data, fix_gamma=fix_gamma, eps=EPS, momentum=0.9, name=name)


def lresnet_ir(units):
    """LResNet-E-IR: units of norm, convolution, norm, PReLU, convolution, norm; head E, then what trains it."""
    data = (mx.sym.Variable("data") - 127.5) * 0.0078125
    body = mx.sym.LeakyReLU(norm(conv(data, "conv0", 64, 3, 1, 1), "bn0"), act_type="prelu", name="relu0")
    for stage, (count, filters) in enumerate(zip(units, (64, 128, 256, 512), strict=True), 1):
        for unit in range(1, count + 1):
            name, stride = f"stage{stage}_unit{unit}", 2 if unit == 1 else 1
            inner = norm(conv(norm(body, name + "_bn1"), name + "_conv1", filters, 3, 1, 1), name + "_bn2")
            inner = mx.sym.LeakyReLU(inner, act_type="prelu", name=name + "_relu1")
            inner = norm(conv(inner, name + "_conv2", filters, 3, stride, 1), name + "_bn3")
            if unit == 1:
                body = norm(conv(body, name + "_conv1sc", filters, 1, stride), name + "_sc")
            body = inner + body
    body = mx.sym.Dropout(norm(body, "bn1"), p=0.4)
    embedding = norm(mx.sym.FullyConnected(body, num_hidden=512, name="pre_fc1"), "fc1", fix_gamma=True)
    label = mx.sym.Variable("softmax_label")
    weight = mx.sym.L2Normalization(mx.sym.Variable("fc7_weight", shape=(10, 512)), mode="instance")
    unit_length = mx.sym.L2Normalization(embedding, mode="instance", name="fc1n") * 64
    logits = mx.sym.FullyConnected(unit_length, weight, no_bias=True, num_hidden=10, name="fc7")
    return mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(logits, label, name="softmax")])


def resnet50(data):
    """Pre-activated bottlenecks; feature maps of strides 8, 16 and 32."""
    body = norm(conv(norm(data, "bn_data", fix_gamma=True), "conv0", 64, 7, 2, 3), "bn0")
    body = mx.sym.Activation(body, act_type="relu", name="relu0")
    body = mx.sym.Pooling(body, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name="pool0")
    maps = []
    for stage, (count, filters) in enumerate(((3, 256), (4, 512), (6, 1024), (3, 2048)), 1):
        for unit in range(1, count + 1):
            name, stride = f"stage{stage}_unit{unit}", 2 if unit == 1 and stage > 1 else 1
            first = mx.sym.Activation(norm(body, name + "_bn1"), act_type="relu", name=name + "_relu1")
            if unit == 1 and stage > 1:
                maps.append(first)
            inner = norm(conv(first, name + "_conv1", filters // 4), name + "_bn2")
            inner = conv(mx.sym.Activation(inner, act_type="relu"), name + "_conv2", filters // 4, 3, stride, 1)
            inner = mx.sym.Activation(norm(inner, name + "_bn3"), act_type="relu", name=name + "_relu3")
            shortcut = conv(first, name + "_sc", filters, 1, stride) if unit == 1 else body
            body = conv(inner, name + "_conv3", filters) + shortcut
    maps.append(mx.sym.Activation(norm(body, "bn1"), act_type="relu", name="relu1"))
    return maps[-3:], 256


def mobilenet025(data):
    """Depthwise separable layers; feature maps of strides 8, 16 and 32."""
    layers = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)] + [(128, 1)] * 5 + [(256, 2), (256, 1)]
    body = mx.sym.Activation(norm(conv(data, "conv0", 8, 3, 2, 1), "bn0"), act_type="relu")
    maps, filters = [], 8
    for index, (wider, stride) in enumerate(layers):
        if stride == 2:
            maps.append(body)
        body = norm(conv(body, f"dw{index}", filters, 3, stride, 1, groups=filters), f"dw{index}_bn")
        body = norm(conv(mx.sym.Activation(body, act_type="relu"), f"pw{index}", wider), f"pw{index}_bn")
        body, filters = mx.sym.Activation(body, act_type="relu", name=f"relu{index}"), wider
    return [*maps[-2:], body], 64


def context(layer, level, name, width):
    """SSH's context module: 3 x 3, 5 x 5 and 7 x 7 receptive fields side by side."""
    reduced = layer(level, name + "_context1", width // 4)
    parts = [
        layer(level, name + "_conv1", width // 2, act=False),
        layer(reduced, name + "_5", width // 4, act=False),
    ]
    parts.append(layer(layer(reduced, name + "_7a", width // 4), name + "_7b", width // 4, act=False))
    return mx.sym.Activation(mx.sym.concat(*parts, dim=1), act_type="relu", name=name + "_concat_relu")


def retinaface(backbone):
    """Feature pyramid with cropped upsampling, context modules, and heads in the zoo's layout and names."""

    def layer(data, name, filters, kernel=3, act=True):
        out = norm(conv(data, name, filters, kernel, 1, kernel // 2, bias=True), name + "_bn")
        return mx.sym.Activation(out, act_type="relu", name=name + "_relu") if act else out

    maps, width = backbone(mx.sym.Variable("data"))
    levels = [layer(data, f"lateral{index}", width, 1) for index, data in enumerate(maps)]
    for index in (1, 0):
        up = mx.sym.UpSampling(levels[index + 1], scale=2, sample_type="nearest", workspace=512, num_args=1)
        up = mx.sym.Crop(up, levels[index])
        levels[index] = layer(levels[index] + up, f"aggregate{index}", width)
    outputs = []
    for stride, level in ((32, levels[2]), (16, levels[1]), (8, levels[0])):
        name = f"det{stride}"
        joined = context(layer, level, name, width)
        scores = conv(joined, f"face_rpn_cls_score_stride{stride}", 4, bias=True)
        scores = mx.sym.Reshape(scores, shape=(0, 2, -1, 0), name=f"face_rpn_cls_score_reshape_stride{stride}")
        scores = mx.sym.SoftmaxActivation(scores, mode="channel", name=f"face_rpn_cls_prob_stride{stride}")
        outputs.append(mx.sym.Reshape(scores, shape=(0, 4, -1, 0), name=f"face_rpn_cls_prob_reshape_stride{stride}"))
        outputs.append(conv(joined, f"face_rpn_bbox_pred_stride{stride}", 8, bias=True))
        outputs.append(conv(joined, f"face_rpn_landmark_pred_stride{stride}", 20, bias=True))
    return mx.sym.Group(outputs)


def ssh():
    """SSH: VGG-16 with an eighth of its channels, a learnt upsampling, context modules; no landmarks."""

    def layer(data, name, filters, kernel=3, act=True):
        out = conv(data, name, filters, kernel, 1, kernel // 2, bias=True)
        return mx.sym.Activation(out, act_type="relu", name=name + "_relu") if act else out

    def pool(data, name):
        return mx.sym.Pooling(data, kernel=(2, 2), stride=(2, 2), pool_type="max", name=name)

    body, ends = mx.sym.Variable("data") * 0.02, []
    for stage, (count, filters) in enumerate(((2, 8), (2, 16), (3, 32), (3, 64), (3, 64)), 1):
        body = pool(body, f"pool{stage - 1}") if stage > 1 else body
        for index in range(1, count + 1):
            body = layer(body, f"conv{stage}_{index}", filters)
        ends.append(body)
    stride8, stride16, stride32 = ends[3], ends[4], pool(ends[4], "pool5")
    up = {"kernel": (4, 4), "stride": (2, 2), "pad": (1, 1), "num_group": 16, "num_filter": 16, "no_bias": True}
    up = mx.sym.Deconvolution(layer(stride16, "ssh_m2_red_conv", 16, 1), name="ssh_m2_red_upsampling", **up)
    merged = layer(mx.sym.Crop(layer(stride8, "ssh_m1_red_conv", 16, 1), up) + up, "ssh_m1_conv", 16)
    outputs = []
    for stride, level, width in ((32, stride32, 64), (16, stride16, 64), (8, merged, 16)):
        name = f"ssh{stride}"
        joined = context(layer, level, name, width)
        scores = mx.sym.Reshape(conv(joined, f"rpn_cls_score_stride{stride}", 4, bias=True), shape=(0, 2, -1, 0))
        scores = mx.sym.SoftmaxActivation(scores, mode="channel", name=f"rpn_cls_prob_stride{stride}")
        outputs.append(mx.sym.Reshape(scores, shape=(0, 4, -1, 0), name=f"rpn_cls_prob_reshape_stride{stride}"))
        outputs.append(conv(joined, f"rpn_bbox_pred_stride{stride}", 8, bias=True))
    return mx.sym.Group(outputs)


GRAPHS = {
    "lresnet50e_ir": lambda: lresnet_ir((3, 4, 14, 3)),
    "lresnet100e_ir": lambda: lresnet_ir((3, 13, 30, 3)),
    "retinaface_r50": lambda: retinaface(resnet50),
    "retinaface_mnet025": lambda: retinaface(mobilenet025),
    "ssh": ssh,
}


def build(name, folder):
    """A graph with random weights that keep the size of the signal."""
    symbol, rng = GRAPHS[name](), np.random.default_rng(0)
    size = (1, 3, 112, 112) if name.startswith("lresnet") else (1, 3, 64, 64)
    arguments, _, states = symbol.infer_shape(data=size)

    def draw(key, shape):
        if key.endswith("_weight"):
            return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        if key.startswith("bn_data_moving"):  # that of pictures
            return np.full(shape, 110.0 if key.endswith("_mean") else 65.0**2)
        low, high = {"_gamma": (0.5, 1.2), "_var": (0.5, 1.5), "_mean": (-0.2, 0.2)}.get(
            key[key.rfind("_") :], (-0.2, 0.2)
        )
        return rng.uniform(low, high, shape)

    content = {}
    for kind, keys, shapes in (
        ("arg", symbol.list_arguments(), arguments),
        ("aux", symbol.list_auxiliary_states(), states),
    ):
        for key, shape in zip(keys, shapes, strict=True):
            if key not in ("data", "softmax_label"):
                content[f"{kind}:{key}"] = mx.nd.array(draw(key, shape).astype(np.float32))
    symbol.save(str(Path(folder) / "model-symbol.json"))
    mx.nd.save(str(Path(folder) / "model-0000.params"), content)


def run(folder):
    """Forward passes of the named outputs for each input, each pass twice."""
    folder = Path(folder)
    symbol = mx.sym.load(str(folder / "model-symbol.json")).get_internals()
    symbol = mx.sym.Group([symbol[name] for name in (folder / "outputs.txt").read_text().split()])
    params = mx.nd.load(str(folder / "model-0000.params")) or {}  # a file without arrays gives a list
    arguments, states = ({k[4:]: v for k, v in params.items() if k.startswith(kind)} for kind in ("arg:", "aux:"))
    for path in sorted(folder.glob("input_*.npy")):
        batch = mx.nd.array(np.load(path))
        shapes = {key: arguments[key].shape for key in symbol.list_arguments() if key in arguments}
        executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=batch.shape, **shapes)
        executor.copy_params_from(arguments, states, allow_extra_params=True)
        for _ in range(2):
            outputs = executor.forward(is_train=False, data=batch)
        for index, output in enumerate(outputs):
            np.save(folder / f"expected_{path.stem[6:]}_{index}.npy", output.asnumpy())


def save(folder):
    """The same arrays as MXNet saves them with its own shapes and with those of numpy."""
    for name, numpy_shapes in (("old_shapes", False), ("numpy_shapes", True)):
        with mx.util.np_shape(numpy_shapes):
            weight, state = mx.nd.arange(6).reshape((2, 3)), mx.nd.array([7], dtype="int32")
            mx.nd.save(str(Path(folder) / f"{name}.params"), {"arg:w": weight, "aux:state": state})


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "build":
        build(*rest)
    elif command == "save":
        save(*rest)
    else:
        for name in rest:
            run(name)
