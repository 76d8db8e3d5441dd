"""PyTorch, on a GPU or on the CPU: an ONNX file as a torch module, images channels last.

On a GPU the pass of each shape is recorded as a CUDA graph, and items and results travel through pinned memory, in
two turns, while the pass before is computed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from vidperson.engines import Settings, join_parts, missing_gpu, parts_of
from vidperson.engines.torch_graph import OnnxModule
from vidperson.errors import EngineError, ModelError
from vidperson.gpu import ONE_AT_A_TIME

# float16 is slow on CPUs, or not there at all.
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_SHAPES = 8  # recorded passes that are kept; each holds the memory of its own
_WARM_UP = 3  # passes before one is recorded, in which libraries settle on algorithms and memory
_LOST: list[torch.cuda.CUDAGraph] = []  # whose recording failed: PyTorch's allocator goes on to point to them
Arrays = list[NDArray[np.float32]]


class TorchNetwork:
    """A module on the CPU. It takes one item at a time: its numbers would depend on an item's place in a batch."""

    def __init__(self, path: str, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._path = path
        self._module = OnnxModule(path, _TYPES[settings.precision]).eval()

    def __call__(self, batch: NDArray[np.float32]) -> Arrays:
        self._module.check(batch.shape)
        try:
            with torch.inference_mode():
                return join_parts(list(self._run(batch)))
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            reason = " ".join(str(error).split())[:500]
            raise ModelError(f"{self._path}: failed on a batch of shape {batch.shape}: {reason}") from None

    def _run(self, batch: NDArray[np.float32]) -> Iterator[tuple[int, int, Arrays]]:
        for count, part in parts_of(batch, 1):
            yield count, 1, [output.numpy() for output in self._module(_laid_out(torch.from_numpy(part)))]


def _laid_out(items: torch.Tensor) -> torch.Tensor:
    """Images, (N, C, H, W), channels last in memory, which convolutions like; other items as they are."""
    return items.contiguous(memory_format=torch.channels_last) if items.ndim == 4 else items


class CudaNetwork(TorchNetwork):
    """A module on a GPU."""

    def __init__(self, path: str, settings: Settings, device: torch.device) -> None:
        super().__init__(path, settings)
        self._device, self._batch = device, settings.batch
        self._module = self._module.to(device)
        self._passes: OrderedDict[tuple[int, ...], _Pass] = OrderedDict()

    def _run(self, batch: NDArray[np.float32]) -> Iterator[tuple[int, int, Arrays]]:
        size = self._batch or max(1, len(batch))
        started: list[tuple[int, int]] = []
        recorded: _Pass | None = None
        with torch.cuda.device(self._device):
            for number, (count, part) in enumerate(parts_of(batch, size)):
                recorded = recorded or self._pass(part.shape)  # all parts of a batch have one shape
                if len(started) == 2:
                    done, turn = started.pop(0)
                    yield done, size, recorded.finish(turn)
                recorded.start(number % 2, part)
                started.append((count, number % 2))
            for done, turn in started:
                assert recorded is not None
                yield done, size, recorded.finish(turn)

    def _pass(self, shape: tuple[int, ...]) -> _Pass:
        if shape not in self._passes:
            if len(self._passes) == _MAX_SHAPES:
                self._passes.popitem(last=False)
            self._passes[shape] = _Pass(self._module, shape, self._device)
        self._passes.move_to_end(shape)
        return self._passes[shape]


class _Pass:
    """One recorded pass for one shape, with two turns of memory to bring items in and results out.

    Where recording fails, the passes of this shape are computed without a graph, and the log says so.
    """

    def __init__(self, module: OnnxModule, shape: tuple[int, ...], device: torch.device) -> None:
        self._up, self._compute, self._down = (torch.cuda.Stream(device) for _ in range(3))
        self._module, self._items = module, _laid_out(torch.zeros(shape, device=device))
        self._compute.wait_stream(torch.cuda.current_stream(device))
        with _exact_numbers():
            with torch.cuda.stream(self._compute):
                for _ in range(_WARM_UP):
                    self._outputs = module(self._items)
            self._compute.synchronize()
            self._graph = self._recorded()
        self._in_host = [torch.empty(shape, pin_memory=True) for _ in range(2)]
        self._in_device = [torch.empty(shape, device=device) for _ in range(2)]
        self._out_device = [[torch.empty_like(output) for output in self._outputs] for _ in range(2)]
        self._out_host = [[torch.empty(output.shape, pin_memory=True) for output in self._outputs] for _ in range(2)]
        self._uploaded, self._computed, self._downloaded = ([torch.cuda.Event() for _ in range(2)] for _ in range(3))
        torch.cuda.synchronize(device)

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        """The pass as a graph that fills the outputs, None where that fails."""
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                ONE_AT_A_TIME,
                _no_collection(),
                torch.cuda.stream(self._compute),  # leaves the stream even where the end of the recording fails
                torch.cuda.graph(graph, stream=self._compute, capture_error_mode="thread_local"),
            ):
                outputs = self._module(self._items)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _LOST.append(graph)
            reason, shape = " ".join(str(error).split())[:200], tuple(self._items.shape)
            logging.warning("batches of shape %s are computed without a CUDA graph, slower: %s", shape, reason)
            return None
        self._outputs = outputs
        return graph

    def start(self, turn: int, part: NDArray[np.float32]) -> None:
        """Begin a pass; what this turn did before must be finished."""
        self._in_host[turn].copy_(torch.from_numpy(part))
        with torch.cuda.stream(self._up):
            self._in_device[turn].copy_(self._in_host[turn], non_blocking=True)
            self._uploaded[turn].record(self._up)
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(self._uploaded[turn])
            self._items.copy_(self._in_device[turn])
            if self._graph:
                self._graph.replay()
            else:
                with _exact_numbers():
                    self._outputs = self._module(self._items)
            for kept, output in zip(self._out_device[turn], self._outputs, strict=True):
                kept.copy_(output)  # the next pass writes over the recorded one's memory
            self._computed[turn].record(self._compute)
        with torch.cuda.stream(self._down):
            self._down.wait_event(self._computed[turn])
            for host, kept in zip(self._out_host[turn], self._out_device[turn], strict=True):
                host.copy_(kept, non_blocking=True)
            self._downloaded[turn].record(self._down)

    def finish(self, turn: int) -> Arrays:
        """Wait for the pass of this turn; its outputs."""
        self._downloaded[turn].synchronize()
        return [host.numpy().copy() for host in self._out_host[turn]]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection: it might free a decoder or a graph, which ends a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _exact_numbers() -> contextlib.AbstractContextManager[None]:
    """No TensorFloat-32 in float32, and algorithms by rule, not by timing: the same numbers in every run."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def load(path: str, settings: Settings) -> tuple[TorchNetwork, str]:
    """See :func:`vidperson.engines.load_network`."""
    if settings.gpu is None:
        return TorchNetwork(path, settings), "cpu"
    if torch.version.cuda is None and torch.version.hip is None:
        raise EngineError(
            f"engine 'torch': the device cuda:{settings.gpu} was asked for, but this PyTorch ({torch.__version__}) was "
            "built for the CPU only; install one with CUDA"
        )
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.gpu >= found:
        raise missing_gpu("torch", settings.gpu, found)
    device = torch.device("cuda", settings.gpu)
    name = torch.cuda.get_device_name(device)
    if settings.precision == "bf16" and torch.cuda.get_device_capability(device)[0] < 8:
        raise EngineError(f"engine 'torch': {name} has no bf16; it computes in fp32 fp16")
    return CudaNetwork(path, settings, device), f"cuda:{settings.gpu} ({name})"
