"""One network file in, arrays out.

An engine is a module ``<engine>_engine`` with ``PRECISIONS``, what it computes in on which kind of device, and
``load(path, settings) -> (network, name of the device)``; it is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import EngineError, ModelError

ONNX_ENGINES = ("openvino", "onnxruntime", "torch")
ENGINES = (*ONNX_ENGINES, "mxnet")
PRECISIONS = ("fp32", "bf16", "fp16")
# From its import on ONNX Runtime reports its use to Microsoft, with a number of this machine, kept in ~/.cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
_INSTALL = {
    "openvino": "it is in requirements/base.txt: run . ./path.sh",
    "onnxruntime": "it is in requirements/base.txt: run . ./path.sh",
    "torch": "it is an extra: run VIDPERSON_EXTRAS=torch ./run_000_get_pretrained_models.sh",
}


class Network(Protocol):
    """A network ready to run: (N, ...) float32 in, one float32 array per output, in the file's order.

    The first axis is that of the items; what follows is up to the network, such as (N, C, H, W) of images.
    The result for one item does not depend on the others of its batch.
    """

    def __call__(self, batch: NDArray[np.float32], /) -> list[NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Settings:
    """How a network is to run; see :func:`load_network`. gpu: the number of the GPU, None for the CPU."""

    gpu: int | None
    threads: int
    precision: str
    batch: int
    outputs: tuple[str, ...]


def load_network(
    path: str | os.PathLike[str],
    engine: str = "openvino",
    device: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
    batch: int = 0,
    outputs: tuple[str, ...] = (),
) -> Network:
    """Open a network file with an engine; logs engine, device and precision.

    path: an ONNX file. The engine openvino also takes the XML of an IR, with its weights in the same folder. The engine
        mxnet takes the ``-symbol.json`` of a checkpoint, with its ``-NNNN.params`` in the same folder.
    device: cpu, cuda or cuda:<number>, counted among the GPUs that CUDA_VISIBLE_DEVICES leaves.
    threads: CPU threads of one call; keep jobs x threads at or below the number of cores.
    precision: fp32, or bf16 or fp16 where the engine has it; what goes in and comes out is float32 all the same.
    batch: items per pass of the engines torch and mxnet, which prepare for each shape: smaller batches are filled up
    with zeros, larger ones cut. 0: each batch as it comes.
    outputs: nodes of an MXNet checkpoint to end at, by default its own outputs; an ONNX file has its outputs.
    Raises EngineError for an engine, device or precision that is not there, ModelError for a file that the engine
    cannot load.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine '{engine}' is unknown; valid engines: {' '.join(ENGINES)}")
    gpu = gpu_number(device)
    if precision not in PRECISIONS:
        raise EngineError(f"precision '{precision}' is unknown; valid precisions: {' '.join(PRECISIONS)}")
    if threads < 1:
        raise EngineError(f"expected at least 1 thread, found {threads}")
    if not os.path.isfile(path):
        raise ModelError(f"{os.fspath(path)}: no such network file; run ./run_000_get_pretrained_models.sh")
    if (engine == "mxnet") != os.fspath(path).endswith("-symbol.json"):
        wanted = "an MXNet checkpoint (-symbol.json)" if engine == "mxnet" else "an ONNX file"
        others = " ".join(ONNX_ENGINES) if engine == "mxnet" else "mxnet"
        raise EngineError(f"engine '{engine}' runs {wanted}, not {os.fspath(path)}; use another engine: {others}")
    try:
        module = importlib.import_module(f"vidperson.engines.{engine}_engine")
    except ImportError as error:
        raise EngineError(f"engine '{engine}' is not installed ({error.name}); {_INSTALL[engine]}") from None
    kind = "cpu" if gpu is None else "cuda"
    if kind not in module.PRECISIONS:
        raise EngineError(
            f"engine '{engine}' runs on the device {' '.join(module.PRECISIONS)}, '{device}' was asked for"
        )
    if precision not in module.PRECISIONS[kind]:
        valid = " ".join(module.PRECISIONS[kind])
        raise EngineError(f"engine '{engine}' computes in {valid} on the device {kind}, '{precision}' was asked for")
    network: Network
    network, where = module.load(os.fspath(path), Settings(gpu, threads, precision, batch, outputs))
    logging.info("network %s: engine %s, device %s, %s, %d threads", path, engine, where, precision, threads)
    return network


def gpu_number(device: str) -> int | None:
    """The number of the GPU that a device names, None for the CPU. Raises EngineError for another device."""
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,4}))?", device)
    if match is None:
        raise EngineError(f"device '{device}' is unknown; valid devices: cpu cuda cuda:<number>")
    return None if device == "cpu" else int(match[1] or 0)


def missing_gpu(engine: str, gpu: int, found: int) -> EngineError:
    """The error for a GPU that is not there."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return EngineError(
        f"engine '{engine}': device cuda:{gpu} was asked for, GPUs that it sees here: {found} "
        f"(CUDA_VISIBLE_DEVICES={'not set' if visible is None else visible!r})"
    )


def parts_of(batch: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The batch cut into parts of ``size`` items, the last one filled up with zeros, each with its number of items.

    size 0: the batch as it is. A batch of no items gives one part of nothing but filling.
    """
    batch = np.ascontiguousarray(batch, np.float32)
    size = size or max(1, len(batch))
    for start in range(0, max(1, len(batch)), size):
        part = batch[start : start + size]
        count = len(part)
        if count < size:
            part = np.concatenate([part, np.zeros((size - count, *batch.shape[1:]), np.float32)])
        yield count, part


def join_parts(parts: list[tuple[int, int, list[NDArray[np.float32]]]]) -> list[NDArray[np.float32]]:
    """The outputs of :func:`parts_of` without what filled them up: (items, items with the filling, outputs) each.

    The first axis of an output is that of the items, or theirs and another one in one, such as the anchors of all.
    """
    return [
        np.concatenate([outputs[k][: len(outputs[k]) * count // size] for count, size, outputs in parts])
        for k in range(len(parts[0][2]))
    ]
