"""OpenVINO on the CPU: fast for convolutions over images of one size; each new size costs it time and memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.engines import Settings
from vidperson.errors import ModelError

_CONVERTER = "openvino.tools.ovc"


def _import_runtime() -> Any:
    """OpenVINO without its converter, which takes longer to import than the rest; whoever asks for that one gets it."""
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        import openvino

        return openvino
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # it counts as not installed, which OpenVINO allows
    try:
        import openvino
    finally:
        del sys.modules[_CONVERTER]

    def converter(name: str) -> Any:
        if name != "convert_model":
            raise AttributeError(f"module 'openvino' has no attribute {name!r}")
        from openvino.tools.ovc import convert_model

        openvino.convert_model = convert_model
        return convert_model

    if not hasattr(openvino, "convert_model"):
        openvino.__getattr__ = converter
    return openvino


openvino = _import_runtime()

# Our names and OpenVINO's. A processor without bfloat16 instructions computes in float32 all the same.
_HINTS = {"fp32": "f32", "bf16": "bf16"}
PRECISIONS = {"cpu": tuple(_HINTS)}
# Thread pinning is off: every process would pin to the same first cores, and the jobs of one machine would share them.
_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
}


class OpenVinoNetwork:
    """One compiled model; its first input takes the batch, with the sizes that the file leaves free."""

    def __init__(self, path: str, threads: int, precision: str) -> None:
        settings = {**_SETTINGS, "INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads}
        try:
            model = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot load it: {_last_line(error)}") from None
        self._path = path
        self._request = model.create_infer_request()
        self._outputs = list(model.outputs)

    def __call__(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            results = self._request.infer([np.ascontiguousarray(batch, np.float32)], share_inputs=True)
        except RuntimeError as error:
            raise ModelError(f"{self._path}: failed on a batch of shape {batch.shape}: {_last_line(error)}") from None
        return [np.array(results[output], dtype=np.float32) for output in self._outputs]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["unknown error"])[-1]


def load(path: str, settings: Settings) -> tuple[OpenVinoNetwork, str]:
    """See :func:`vidperson.engines.load_network`."""
    return OpenVinoNetwork(path, settings.threads, settings.precision), "cpu"
