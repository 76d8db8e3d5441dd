"""ONNX Runtime on the CPU, and on a GPU where the package is onnxruntime-gpu."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vidperson.engines import Settings, missing_gpu
from vidperson.errors import EngineError, ModelError

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32",)}
_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeNetwork:
    """One inference session; its first input takes the batch."""

    def __init__(self, path: str, threads: int, gpu: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if gpu is not None:
            # Algorithms by rule, not by timing, and no TensorFloat-32: the same numbers in every run.
            how = {"device_id": gpu, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
            providers.insert(0, (_CUDA, how))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # the runtime's exceptions share no public base class
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from None
        if gpu is not None and self._session.get_providers()[0] != _CUDA:  # it goes on with the CPU without a word
            raise missing_gpu("onnxruntime", gpu, 0)
        self._path = path
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            return self._session.run(None, {self._input: np.ascontiguousarray(batch, np.float32)})
        except Exception as error:
            raise ModelError(f"{self._path}: failed on a batch of shape {batch.shape}: {error}") from None


def load(path: str, settings: Settings) -> tuple[OnnxRuntimeNetwork, str]:
    """See :func:`vidperson.engines.load_network`."""
    if settings.gpu is None:
        return OnnxRuntimeNetwork(path, settings.threads, None), "cpu"
    if _CUDA not in onnxruntime.get_available_providers():
        raise EngineError(
            "engine 'onnxruntime': the package that is installed has no CUDA; put onnxruntime-gpu in its place "
            "(docs/engines.md), or use the engine torch"
        )
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries, where Python packages brought them
    return OnnxRuntimeNetwork(path, settings.threads, settings.gpu), f"cuda:{settings.gpu}"
