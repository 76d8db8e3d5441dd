"""An installed network and the engine that runs it: the one asked for, or for ``auto`` the best one.

On a CPU ``auto`` is a table by processor and kind of network, not a matter of timing: two
installations on one machine give the same bytes. ``steps/time_engines.py`` prints the times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidperson.engines import ENGINES, ONNX_ENGINES, Network, gpu_number, load_network
from vidperson.engines.processor import processor_features
from vidperson.errors import EngineError
from vidperson.io.record import checked
from vidperson.networks.card import FbankInput, ModelCard
from vidperson.networks.install import MXNET_FILES, OPENVINO_FILES, InstalledModel

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"


@dataclass(frozen=True)
class Row:
    """What ``auto`` takes on a CPU, and why. An empty feature, input kind or role: any."""

    engine: str
    precision: str
    why: str
    feature: str = ""
    input_kind: str = ""
    role: str = ""


# The figures behind it are in docs/engines.md.
CPU_TABLE = (
    Row("openvino", "fp32", "for images of one size on a processor with AVX2", "avx2", "picture", "embedder"),
    Row("openvino", "fp32", "for images of one size on a processor with AVX2", "avx2", "picture", "classifier"),
    # Each new size of an image, or length of a sound, costs OpenVINO more than it saves.
    Row("onnxruntime", "fp32", "for inputs of many sizes, and for any other processor"),
    Row("openvino", "bf16", "for bf16 on a CPU"),
)
_GPU = ("torch", "onnxruntime")


def open_network(
    installed: InstalledModel,
    engine: str = AUTO,
    device: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
    batch: int = 0,
) -> Network:
    """The network of an installed model with an engine of :data:`vidperson.engines.ENGINES`, or ``auto``.

    ``auto`` on the CPU is what :data:`CPU_TABLE` says; on a GPU it is MXNet itself, for an MXNet checkpoint where MXNet
    can drive the GPU, else torch, else ONNX Runtime. The log says which, and why.
    Other arguments and errors are those of :func:`vidperson.engines.load_network`.
    """

    batch = installed.card.input.batch or (1 if _varies_in_length(installed.card) else batch)

    def load(name: str) -> Network:
        if name == "openvino" and installed.card.openvino is not None:
            graph = installed.openvino_graph
            if graph is None:
                name = installed.card.name
                raise EngineError(f"{name}: its OpenVINO IR is not there; run ./run_000_get_pretrained_models.sh")
            for file in OPENVINO_FILES:
                checked(graph.with_name(file))
            return load_network(graph, name, device, threads, precision, batch)
        if name != "mxnet":
            return load_network(installed.network, name, device, threads, precision, batch)
        from vidperson.networks.mxnet_to_onnx import mxnet_outputs

        symbol, card = installed.mxnet_symbol, installed.card
        if card.mxnet is None:
            others = " ".join((AUTO, *ONNX_ENGINES))
            raise EngineError(f"engine 'mxnet' runs MXNet checkpoints, {card.name} is none; use another one: {others}")
        if symbol is None:
            raise EngineError(f"{card.name}: its MXNet checkpoint is not there; run ./run_000_get_pretrained_models.sh")
        for file in MXNET_FILES:
            checked(symbol.with_name(file))
        outputs = mxnet_outputs(card, symbol)
        return load_network(symbol, name, device, threads, precision, batch, outputs)

    if engine != AUTO:
        if engine not in ENGINES:
            raise EngineError(f"engine '{engine}' is unknown; valid engines: {AUTO} {' '.join(ENGINES)}")
        return load(engine)
    if gpu_number(device) is not None:
        return _best_on_gpu(installed, device, load)
    engine, reason = cpu_engine(installed.card, precision, processor_features())
    logging.info("%s: engine auto takes %s: %s", installed.card.name, engine, reason)
    return load(engine)


def _varies_in_length(card: ModelCard) -> bool:
    """Whether hardly two items have one shape: to fill each up to a batch of its own would be wasted."""
    return card.input.kind == "waveform" or (isinstance(card.input, FbankInput) and card.input.crop_frames is None)


def as_module(installed: InstalledModel, precision: str = "fp32") -> nn.Module:
    """The network as the engine torch runs it: a module in evaluation mode, (N, ...) float32 tensors to a list of them.

    precision: fp32 or bf16. Raises ModelError for an operator that the engine does not know.
    """
    import torch

    from vidperson.engines.torch_graph import OnnxModule

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return OnnxModule(str(installed.network), kind).eval()


def cpu_engine(card: ModelCard, precision: str, features: Collection[str]) -> tuple[str, str]:
    """What ``auto`` takes on a CPU, and why: the first row of the table that fits.

    features: of the processor, see :func:`vidperson.engines.processor.processor_features`.
    Nothing else counts, so that two installations on one machine give the same bytes.
    Raises EngineError for a precision that no row has.
    """
    for row in CPU_TABLE:
        if (
            row.precision == precision
            and row.feature in ("", *features)
            and row.input_kind in ("", card.input.kind)
            and row.role in ("", card.role)
        ):
            return row.engine, row.why
    valid = " ".join(dict.fromkeys(row.precision for row in CPU_TABLE))
    raise EngineError(f"engine 'auto' computes in {valid} on the device cpu, '{precision}' was asked for")


def auto_precision(card: ModelCard, engine: str, device: str, features: Collection[str]) -> str:
    """What the option ``precision=auto`` means: bf16 where card, engine and processor allow it, else fp32.

    features: of the processor, see :func:`vidperson.engines.processor.processor_features`.
    The stages settle it in utils/stage.sh, before there are jobs.
    """
    on_cpu = device == "cpu" and engine in (AUTO, "openvino")
    return "bf16" if on_cpu and card.bf16_check and any("bf16" in name for name in features) else "fp32"


def _best_on_gpu(installed: InstalledModel, device: str, load: Callable[[str], Network]) -> Network:
    reasons: list[str] = []
    for engine in (("mxnet",) if installed.mxnet_symbol else ()) + _GPU:
        try:
            network = load(engine)
        except EngineError as error:
            reasons.append(str(error))
            continue
        why = "".join(f"; {reason}" for reason in reasons) or "; it is the first choice"
        logging.info("%s: engine auto takes %s%s", installed.card.name, engine, why)
        return network
    raise EngineError(f"device '{device}' was asked for, and no engine can use it: " + "; ".join(reasons))
