"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vidperson.errors import ModelError

PRECISIONS = ("fp32",)


class OnnxRuntimeNetwork:
    """One inference session; its first input takes the batch."""

    def __init__(self, path: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no public base class
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from None
        self._path = path
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            return self._session.run(None, {self._input: np.ascontiguousarray(batch, np.float32)})
        except Exception as error:
            raise ModelError(f"{self._path}: failed on a batch of shape {batch.shape}: {error}") from None


def load(path: str, threads: int, precision: str) -> OnnxRuntimeNetwork:
    """See :func:`vidperson.engines.load_network`."""
    return OnnxRuntimeNetwork(path, threads)
