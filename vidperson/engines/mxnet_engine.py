"""MXNet checkpoints as they are, by MXNet itself, in a process of its own: see mxnet_worker.py.

MXNet 1.9.1 is the last one and needs an old numpy and an old Python, so it has an environment of its own,
``.venv-mxnet`` in the repository (utils/make_env.sh mxnet) or the interpreter that VIDPERSON_MXNET_PYTHON names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vidperson.engines import Settings, join_parts, parts_of
from vidperson.errors import EngineError, ModelError

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32",)}
_WORKER = Path(__file__).with_name("mxnet_worker.py")
_OWN = Path(__file__).resolve().parents[2] / ".venv-mxnet" / "bin" / "python"
# A GPU that is newer than the CUDA of MXNet may be compiled for, or waited for, without end.
_START_S = 180


class MxnetNetwork:
    """A worker process with the checkpoint; it ends with this object."""

    def __init__(self, path: str, params: str, settings: Settings) -> None:
        self._path, self._batch = path, settings.batch
        python = find_python()
        how = {"symbol": path, "params": params, "outputs": settings.outputs, "gpu": settings.gpu}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment["OMP_NUM_THREADS"] = str(settings.threads)
        try:
            self._process = subprocess.Popen(
                [python, "-I", str(_WORKER), json.dumps(how)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise EngineError(f"engine 'mxnet': {python}: {error.strerror}; {_how_to_install()}") from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._end = weakref.finalize(self, _end, self._process)
        if not select.select([self._from], [], [], _START_S)[0]:
            self._process.kill()
            raise EngineError(f"engine 'mxnet': not ready after {_START_S} s; its MXNet may be too old for the GPU")
        answer = self._answer()
        if "error" in answer:
            self._end()
            if answer.get("kind") == "model":
                raise ModelError(f"{path}: {answer['error']}")
            raise EngineError(f"engine 'mxnet': {answer['error']}; {_how_to_install(settings.gpu is not None)}")
        self.device = re.sub(r"gpu\((\d+)\)", r"cuda:\1", answer["device"]).removesuffix("(0)")
        self.version = answer["mxnet"]

    def __call__(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            return join_parts([(count, len(part), self._run(part)) for count, part in parts_of(batch, self._batch)])
        except ModelError as error:
            raise ModelError(f"{self._path}: failed on a batch of shape {batch.shape}: {error}") from None

    def _run(self, part: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with contextlib.suppress(BrokenPipeError):  # that it ended is told below
            self._to.write(json.dumps(part.shape).encode() + b"\n")
            self._to.write(part.data)
            self._to.flush()
        answer = self._answer()
        if "error" in answer:
            raise ModelError(answer["error"])
        return [self._array(shape) for shape in answer["shapes"]]

    def _answer(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line.endswith(b"\n"):
            raise ModelError(f"MXNet's process ended with status {self._process.wait()}; what it said is in the log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _array(self, shape: list[int]) -> NDArray[np.float32]:
        array = np.empty(shape, np.float32)
        view = memoryview(array.reshape(-1).data).cast("B") if array.size else memoryview(b"")
        done = 0
        while done < len(view):
            count = self._from.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise ModelError(
                    f"MXNet's process ended with status {self._process.wait()}; what it said is in the log"
                )
            done += count
        return array


def _end(process: subprocess.Popen[bytes]) -> None:
    """The worker ends when its input does; one that hangs is killed."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_python() -> str:
    """The interpreter that has MXNet. Raises EngineError, with what to run, where there is none."""
    named = os.environ.get("VIDPERSON_MXNET_PYTHON")
    if named:
        found = shutil.which(named)
        if found is None:
            raise EngineError(f"engine 'mxnet': VIDPERSON_MXNET_PYTHON={named}: no such program")
        return os.path.abspath(found)
    if not _OWN.is_file():
        raise EngineError(f"engine 'mxnet' is not installed; {_how_to_install()}")
    return str(_OWN)


def _how_to_install(gpu: bool = False) -> str:
    call = "VIDPERSON_MXNET=mxnet-cu102 utils/make_env.sh mxnet" if gpu else "utils/make_env.sh mxnet"
    other = "; newer GPUs than CUDA 10.2 knows need another engine" if gpu else ""
    return f"run {call}, or set VIDPERSON_MXNET_PYTHON to an interpreter that has MXNet 1.9.1{other}"


def load(path: str, settings: Settings) -> tuple[MxnetNetwork, str]:
    """See :func:`vidperson.engines.load_network`."""
    network = MxnetNetwork(path, find_params(path), settings)
    return network, f"{network.device} (MXNet {network.version})"


def find_params(symbol: str) -> str:
    """The ``-NNNN.params`` beside a ``-symbol.json``, of several the last. Raises ModelError where there is none."""
    stem = Path(symbol).name.removesuffix("-symbol.json")
    folder = Path(symbol).parent
    found = [path for path in folder.iterdir() if re.fullmatch(re.escape(stem) + r"-\d{4}\.params", path.name)]
    if not found:
        raise ModelError(f"{symbol}: expected its weights, {stem}-0000.params, beside it")
    return str(max(found))
