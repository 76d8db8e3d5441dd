"""PyTorch checkpoints to ONNX; needs the torch extra, which running the ONNX file does not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from vidperson.errors import EngineError, ModelError
from vidperson.networks.card import FbankInput, Input, ModelCard, Output, PictureInput, VectorInput, picture_input

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
_WRAPPER = re.compile(r"(module|backbone|model|[a-z]+_encoder)\.")
_BESIDE = re.compile(r"weight|(classifier|projection|cls_head\.\d)\.(weight|bias)|(spec\.)?torchfbank\..+")
_SMALL = 256  # values: smaller tensors are not worth halving


def _retinaface_mobilenet025(card_input: PictureInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.retinaface import RetinaFaceMobileNet025

    return RetinaFaceMobileNet025()


def _retinaface_tiny(card_input: PictureInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.retinaface import RetinaFaceTiny

    return RetinaFaceTiny()


def _embedder_sizes(card_input: PictureInput, card_output: Output) -> tuple[int, int, int]:
    """Height, width and values of one pass."""
    assert card_input.height and card_input.width and card_output.embedding_size
    passes = 2 if card_output.mirror == "concatenate" else 1
    return card_input.height, card_input.width, card_output.embedding_size // passes


def _mobilefacenet(card_input: PictureInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.mobilefacenet import MobileFaceNet

    return MobileFaceNet(*_embedder_sizes(card_input, card_output))


def _small_resnet(card_input: PictureInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.small_resnet import SmallResNet

    return SmallResNet(*_embedder_sizes(card_input, card_output))


def _small_person(card_input: PictureInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.small_resnet import HALF, SmallResNet

    return SmallResNet(*_embedder_sizes(card_input, card_output), shape=HALF)


def _iresnet(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.iresnet import BLOCKS, IResNet

        return IResNet(BLOCKS[name], *_embedder_sizes(card_input, card_output))

    return build


def _osnet(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.osnet import WIDTHS, OSNet

        return OSNet(WIDTHS[name], _embedder_sizes(card_input, card_output)[2])

    return build


def _reid_resnet(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.reid_resnet import SHAPES, ReidResNet

        _check_values(f"{name}_reid", SHAPES[name].outputs, card_input, card_output)
        return ReidResNet(SHAPES[name])

    return build


def _reid_densenet(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.densenet import SHAPES, ReidDenseNet

        _check_values(f"{name}_reid", SHAPES[name].outputs, card_input, card_output)
        return ReidDenseNet(SHAPES[name])

    return build


def _two_branch_mgn(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.reid_resnet import SHAPES, TwoBranchMGN

        _check_values(f"mgn2_{name}", 4 * SHAPES[name].outputs, card_input, card_output)
        assert card_input.height
        return TwoBranchMGN(SHAPES[name], card_input.height)

    return build


def _check_values(name: str, values: int, card_input: PictureInput, card_output: Output) -> None:
    size = _embedder_sizes(card_input, card_output)[2]
    if size != values:
        raise ModelError(f"output.embedding_size: {name} gives {values} values a pass, found {size}")


def _mgn(name: str) -> Callable[[PictureInput, Output], nn.Module]:
    def build(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.reid_resnet import MGN, PARTS, SHAPES

        height, _, size = _embedder_sizes(card_input, card_output)
        if size % PARTS:
            raise ModelError(f"output.embedding_size: mgn_{name} gives {PARTS} equal parts a pass, found {size}")
        return MGN(SHAPES[name], height, size // PARTS)

    return build


def _half(build: Callable[[PictureInput, Output], nn.Module]) -> Callable[[PictureInput, Output], nn.Module]:
    """A network that sees its pictures at half their size: for CPUs, which it takes a quarter of the time."""

    def built(card_input: PictureInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.features import Halved

        assert card_input.height and card_input.width
        smaller = dataclasses.replace(card_input, height=card_input.height // 2, width=card_input.width // 2)
        return Halved(build(smaller, card_output))

    return built


def _fbank_sizes(card_input: FbankInput, card_output: Output) -> tuple[int, int]:
    """Values of an embedding, and bins."""
    assert card_output.embedding_size
    return card_output.embedding_size, card_input.mel_bins


def _ecapa(name: str) -> Callable[[FbankInput, Output], nn.Module]:
    def build(card_input: FbankInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.ecapa import SHAPES, Ecapa

        width, form = SHAPES[name]
        return Ecapa(width, *_fbank_sizes(card_input, card_output), form=form)

    return build


def _small_ecapa(width: int) -> Callable[[FbankInput, Output], nn.Module]:
    """ECAPA-TDNN for CPUs: narrow, and with a third of the channels that are pooled."""

    def build(card_input: FbankInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.ecapa import Ecapa

        return Ecapa(width, *_fbank_sizes(card_input, card_output), pooled=512, gate=64, attention=64)

    return build


def _fbank_resnet(name: str) -> Callable[[FbankInput, Output], nn.Module]:
    def build(card_input: FbankInput, card_output: Output) -> nn.Module:
        from vidperson.networks.architectures.fbank_resnet import SHAPES, FbankResNet

        return FbankResNet(SHAPES[name], *_fbank_sizes(card_input, card_output))

    return build


def _campplus(card_input: FbankInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.campplus import CamPlusPlus

    return CamPlusPlus(*_fbank_sizes(card_input, card_output))


def _redimnet_b0(card_input: FbankInput, card_output: Output) -> nn.Module:
    from vidperson.networks.architectures.redimnet import ReDimNet

    return ReDimNet(*_fbank_sizes(card_input, card_output))


_OSNETS = ("osnet_x0_25", "osnet_x0_5", "osnet_x0_75", "osnet_x1_0")
_DENSENETS = {"densenet121": 1024, "densenet161": 2208, "densenet169": 1664, "densenet201": 1920}
_RESNETS = ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
_ECAPAS = ("ecapa_c512", "ecapa_c1024", "ecapa_c512_wespeaker", "ecapa_c1024_wespeaker", "ecapa_c1024_speechbrain")

DETECTORS: dict[str, Callable[[PictureInput, Output], Any]] = {
    "retinaface_mobilenet025": _retinaface_mobilenet025,
    "retinaface_tiny": _retinaface_tiny,
}
EMBEDDERS: dict[str, Callable[[PictureInput, Output], Any]] = {
    "mobilefacenet": _mobilefacenet,
    "small_resnet": _small_resnet,
    **{name: _iresnet(name) for name in ("iresnet18", "iresnet34", "iresnet50", "iresnet100")},
}
REIDENTIFIERS: dict[str, Callable[[PictureInput, Output], Any]] = {
    **{name: _osnet(name) for name in _OSNETS},
    **{f"half_{name}": _half(_osnet(name)) for name in _OSNETS},
    "small_person": _half(_small_person),
    **{f"{name}_reid": _reid_resnet(name) for name in _RESNETS},
    **{f"{name}_reid": _reid_densenet(name) for name in _DENSENETS},
    **{f"mgn_{name}": _mgn(name) for name in _RESNETS},
    **{f"mgn2_{name}": _two_branch_mgn(name) for name in _RESNETS},
}
"""Embedders of whole persons: pictures of other shapes than squares, features for losses of distances and classes."""
REID_SIZES = {
    **dict.fromkeys((*_OSNETS, *(f"half_{name}" for name in _OSNETS)), 512),
    **{f"{name}_reid": 2048 for name in _RESNETS},
    **{f"{name}_reid": values for name, values in _DENSENETS.items()},
    **{f"mgn_{name}": 2048 for name in _RESNETS},
    **{f"mgn2_{name}": 8192 for name in _RESNETS},
    "small_person": 256,
}
"""Values of an embedding of each, as published."""
ARCHITECTURES = {**DETECTORS, **EMBEDDERS, **REIDENTIFIERS}
FBANK_EMBEDDERS: dict[str, Callable[[FbankInput, Output], Any]] = {
    **{name: _ecapa(name) for name in _ECAPAS},
    **{f"ecapa_c{width}": _small_ecapa(width) for width in (128, 192, 256)},
    "resnet18_w16_tstp": _fbank_resnet("resnet18_w16_tstp"),
    **{f"resnet{layers}_tstp": _fbank_resnet(f"resnet{layers}_tstp") for layers in (18, 34, 50, 101, 152, 221, 293)},
    "campplus": _campplus,
    "redimnet_b0": _redimnet_b0,
}
"""Embedders of sound: (N, bins, frames) features and, where recordings differ in length, (N,) lengths."""


def build_network(architecture: str, card_input: Input, card_output: Output) -> nn.Module:
    """An architecture with initial weights from torch's generator, for the sizes of a card.

    That of a network that takes vectors is the text of an ``IdentifierShape``.
    Raises ModelError, with the names that there are, for an unknown one, and for another input than these.
    """
    if isinstance(card_input, VectorInput):
        from vidperson.networks.architectures.identifier import Identifier, IdentifierShape

        return Identifier(card_input.size, len(card_output.labels), IdentifierShape.parse(architecture))
    if isinstance(card_input, FbankInput):
        if architecture not in FBANK_EMBEDDERS:
            raise ModelError(f"architecture: expected one of {' '.join(FBANK_EMBEDDERS)}, found '{architecture}'")
        if not card_input.channels_first:
            raise ModelError(f"input.channels_first: expected true, as {architecture} takes it, found false")
        made: nn.Module = FBANK_EMBEDDERS[architecture](card_input, card_output)
        return made
    if not isinstance(card_input, PictureInput):
        raise ModelError(f"architecture: expected input.kind picture, fbank or vector, found {card_input.kind}")
    if architecture not in ARCHITECTURES:
        raise ModelError(f"architecture: expected one of {' '.join(ARCHITECTURES)}, found '{architecture}'")
    network: nn.Module = ARCHITECTURES[architecture](card_input, card_output)
    return network


def why_not_loaded(path: str | os.PathLike[str], error: Exception) -> str:
    """Why torch.load could not read a file, in one line: without its advice to run the code that is in the file."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(8)
    except OSError as unread:
        return (unread.strerror or str(unread)).lower()
    if not start:
        return "the file is empty"
    if not start.startswith((b"PK", b"\x80")):  # an archive, and what PyTorch wrote before 1.6
        return f"PyTorch did not write it; it begins with {start.decode('ascii', 'backslashreplace')!r}"
    if "Weights only load failed" in str(error):
        return "it holds more than tensors, such as code, which is never run"
    return "it is damaged, or its end is missing"


def load_checkpoint(card: ModelCard, path: str | os.PathLike[str]) -> nn.Module:
    """The card's architecture with the checkpoint's weights, in evaluation mode.

    Raises EngineError without torch; ModelError for an unknown architecture, a file that holds more than tensors, or
    weights of other names or shapes.
    """
    try:
        import torch
    except ImportError:
        raise EngineError(
            f"{card.name}: converting a PyTorch checkpoint needs the torch extra; run: "
            "VIDPERSON_EXTRAS=torch ./run_000_get_pretrained_models.sh"
        ) from None
    checkpoint = card.checkpoint
    if checkpoint is None:
        raise ModelError(f"{card.name}: the card names no checkpoint to convert")
    refused = f"{os.fspath(path)}: not a checkpoint of tensors"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged file leads it to
        raise ModelError(f"{refused}: {why_not_loaded(path, error)}") from None
    if (key := checkpoint.state_dict) is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise ModelError(f"{refused}: nothing in it is called '{key}', as the card says")
        content = content[key]
    if not isinstance(content, Mapping):
        raise ModelError(f"{refused}: expected tensors by their names, found {type(content).__name__}")
    weights = {str(key): value for key, value in content.items()}
    network = build_network(checkpoint.architecture, card.input, card.output)
    own = network_weights(weights, set(network.state_dict()))
    translated = getattr(network, "translated", dict)  # from the names of other projects, where a network knows them
    try:
        network.load_state_dict(translated(own))
    except RuntimeError as error:
        raise ModelError(
            f"{os.fspath(path)}: the weights do not fit {checkpoint.architecture}: {' '.join(str(error).split())[:500]}"
        ) from None
    return network.eval()


def network_weights(weights: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The weights of a network out of those of what it was trained in, under the network's own ``names``.

    Takes away the names of what wraps it (``_WRAPPER``), with what lies beside it there; ``weight``, the classes of a
    margin loss, which the VoxCeleb recipe's checkpoints (A-Vox2, V-Vox2, V-Glint) hold beside the network; its filter
    bank, ``torchfbank``, which is the card's ``input``; ``classifier``, which torchreid's hold, ``projection``,
    which WeSpeaker's hold, and ``cls_head``, which ReDimNet's may hold.
    """
    while found := next(filter(None, map(_WRAPPER.match, weights)), None):
        wrapper = found[0]
        if any(name.startswith(wrapper) for name in names):
            break
        weights = {key.removeprefix(wrapper): value for key, value in weights.items() if key.startswith(wrapper)}
    return {key: value for key, value in weights.items() if key in names or not _BESIDE.fullmatch(key)}


def convert_checkpoint(card: ModelCard, path: str | os.PathLike[str], onnx_path: str | os.PathLike[str]) -> None:
    """Write the checkpoint as an ONNX file; see :func:`export_network`."""
    export_network(load_checkpoint(card, path), card, onnx_path)


def export_network(
    network: nn.Module, card: ModelCard, onnx_path: str | os.PathLike[str], half_weights: bool = False
) -> None:
    """Write a network in evaluation mode as an ONNX file with free batch size (and free picture size for detectors,
    free number of frames for sound; all frames count, so items of one batch are equally long).

    card: what it is, and the size of its pictures, features or vectors. Inputs and outputs are named ``images`` and
    ``embeddings`` or ``boxes``, ``scores``, ``landmarks``; ``features`` and ``embeddings``; ``vectors`` and ``scores``.
    half_weights: weights are stored in 16 bits, half the size, and computed with in 32; they change by less than a
    thousandth of their size (those below 6e-5 by less than 1e-7).
    """
    import onnx
    import torch

    free = torch.export.Dim.DYNAMIC
    taken, sizes, free_sizes, given = _signature(card)
    for chatter in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *sizes),),
            input_names=[taken],
            output_names=given,
            dynamic_shapes=(dict.fromkeys((0, *free_sizes), free),),
            opset_version=OPSET,
            dynamo=True,
        )
    assert program is not None
    model = program.model_proto
    _strip_metadata(model)
    if half_weights:
        _halve_weights(model)
    onnx.save(model, os.fspath(onnx_path))


def _signature(card: ModelCard) -> tuple[str, tuple[int, ...], tuple[int, ...], list[str]]:
    """Of the input the name, the sizes behind the batch, and the numbers of those that are free; names of the outputs.

    Raises ModelError for a network that takes something else than pictures, features of sound or vectors.
    """
    if isinstance(card.input, VectorInput):
        return "vectors", (card.input.size,), (), ["scores"]
    if isinstance(card.input, FbankInput):
        return "features", (card.input.mel_bins, 200), (2,), ["embeddings"]
    pictures = picture_input(card)
    sizes = 3, pictures.height or 96, pictures.width or 128
    if card.role == "detector":
        return "images", sizes, (2, 3), ["boxes", "scores", "landmarks"]
    return "images", sizes, (), ["embeddings"]


def _halve_weights(model: Any) -> None:
    """Store float32 weights as float16, each with a node that casts it back, which engines do once when loading."""
    import numpy as np
    import onnx

    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _SMALL or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = weight.name
        casts.append(onnx.helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + "_half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _strip_metadata(model: Any) -> None:
    """Drop what the exporter notes of the machine and the source lines that it ran on."""
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
