"""One network file in, arrays out.

An engine is a module with ``load(path, threads, precision) -> Network`` and the ``PRECISIONS`` that it computes in; it
is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import EngineError, ModelError

ENGINES = ("openvino", "onnxruntime")


class Network(Protocol):
    """A network ready to run: (N, C, H, W) float32 in, one float32 array per output, in the file's order.

    The result for one item does not depend on the others of its batch.
    """

    def __call__(self, batch: NDArray[np.float32], /) -> list[NDArray[np.float32]]: ...


def load_network(
    path: str | os.PathLike[str],
    engine: str = "openvino",
    device: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
) -> Network:
    """Open an ONNX file with an engine; logs engine, device and precision.

    threads: CPU threads of one call; keep jobs x threads at or below the number of cores.
    precision: fp32, or bf16 where the engine has it; what goes in and comes out is float32 all the same.
    Raises EngineError for an engine, device or precision that is not there, ModelError for a file that the engine
    cannot load.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine '{engine}' is unknown; valid engines: {' '.join(ENGINES)}")
    if device != "cpu":
        raise EngineError(f"engine '{engine}' runs on the device cpu here, '{device}' was asked for")
    if threads < 1:
        raise EngineError(f"expected at least 1 thread, found {threads}")
    if not os.path.isfile(path):
        raise ModelError(f"{os.fspath(path)}: no such network file; run ./run_000_get_pretrained_models.sh")
    try:
        module = importlib.import_module(f"vidperson.engines.{engine}_engine")
    except ImportError as error:
        raise EngineError(f"engine '{engine}' is not installed ({error.name}); see requirements/base.txt") from None
    if precision not in module.PRECISIONS:
        valid = " ".join(module.PRECISIONS)
        raise EngineError(f"engine '{engine}' computes in {valid} here, '{precision}' was asked for")
    network: Network = module.load(os.fspath(path), threads, precision)
    logging.info("network %s: engine %s, device %s, %s, %d threads", path, engine, device, precision, threads)
    return network
