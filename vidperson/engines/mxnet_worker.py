"""Runs an MXNet checkpoint for mxnet_engine.py, in the environment that has MXNet: Python 3.8 to 3.11, numpy, MXNet.

It is started with one argument, a JSON object: symbol and params (paths), outputs (names of nodes; empty: the
symbol's own), gpu (its number, or null for the CPU). On standard output it answers with one line of JSON, {"mxnet":
version, "device": name} or {"error": why, "kind": "engine" or "model"}, and then to each batch. A batch is one line of
JSON, its shape, and its float32 numbers in the order of C; the answer is one line of JSON, {"shapes": [...]}, and the
numbers of the outputs, or {"error": why}. It ends when standard input ends.

Nothing of vidperson may be imported here, and nothing that Python 3.8 does not have.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections import OrderedDict
from typing import Any

# Fused by oneDNN, the second pass of old symbols fails; algorithms chosen by timing would differ from run to run.
os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"
os.environ["MXNET_CUDNN_AUTOTUNE_DEFAULT"] = "0"

MAX_SHAPES = 8  # executors that are kept; each holds the memory of its own
mx: Any = None  # the modules mxnet and numpy, once they are imported
np: Any = None


class Refused(Exception):
    """The environment or the checkpoint is at fault; kind is "engine" or "model"."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Worker:
    """The checkpoint, and an executor per shape of a batch; all of them share the weights."""

    def __init__(self, symbol: str, params: str, outputs: Any, gpu: Any) -> None:
        self.device = mx.cpu() if gpu is None else find_gpu(gpu)
        try:
            graph = mx.sym.load(symbol)
            loaded = mx.nd.load(params) or {}
        except Exception as error:
            raise Refused("MXNet cannot load it: " + first_line(error), "model") from None
        if outputs:
            graph = mx.sym.Group([find_output(graph.get_internals(), name) for name in outputs])
        names, states = graph.list_arguments(), graph.list_auxiliary_states()
        weights = {key.split(":", 1)[-1]: value for key, value in loaded.items()}
        inputs = [name for name in names if name not in weights]
        if len(inputs) != 1:
            found = " ".join(inputs) or "none"
            raise Refused("expected one input that has no weights, found " + found, "model")
        missing = [name for name in states if name not in weights]
        if missing:
            raise Refused("the params file lacks " + " ".join(missing[:5]), "model")
        self.graph, self.input = graph, inputs[0]
        self.weights = {name: weights[name].as_in_context(self.device) for name in names if name in weights}
        self.states = {name: weights[name].as_in_context(self.device) for name in states}
        self.executors: Any = OrderedDict()

    def __call__(self, batch: Any) -> Any:
        executor = self.executors.get(batch.shape)
        if executor is None:
            if len(self.executors) == MAX_SHAPES:
                self.executors.popitem(last=False)
            data = mx.nd.zeros(batch.shape, ctx=self.device)
            arguments = dict(self.weights, **{self.input: data})
            executor = self.graph.bind(self.device, arguments, grad_req="null", aux_states=self.states)
            self.executors[batch.shape] = executor
        self.executors.move_to_end(batch.shape)
        executor.arg_dict[self.input][:] = batch
        return [output.asnumpy().astype(np.float32) for output in executor.forward(is_train=False)]


def find_gpu(gpu: int) -> Any:
    """The GPU, after a convolution and a matrix product on it gave what they give on the CPU."""
    try:
        count = mx.context.num_gpus()
    except Exception as error:
        raise Refused("no GPU that MXNet sees: " + first_line(error), "engine") from None
    if gpu >= count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        found = f"GPUs that MXNet {mx.__version__} sees here: {count} (CUDA_VISIBLE_DEVICES={visible})"
        raise Refused(f"device cuda:{gpu} was asked for, {found}", "engine")
    try:
        results = []
        for device in (mx.cpu(), mx.gpu(gpu)):
            data, weight = mx.nd.ones((1, 3, 8, 8), ctx=device), mx.nd.ones((4, 3, 3, 3), ctx=device)
            result = mx.nd.Convolution(data, weight, kernel=(3, 3), num_filter=4, no_bias=True)
            result = mx.nd.FullyConnected(result, mx.nd.ones((2, 144), ctx=device), num_hidden=2, no_bias=True)
            results.append(result.asnumpy())
        if not np.allclose(results[0], results[1]):
            raise RuntimeError("it computes a convolution wrongly")
    except Exception as error:
        reason = f"MXNet {mx.__version__} cannot drive the GPU cuda:{gpu}: {first_line(error)}"
        raise Refused(reason, "engine") from None
    return mx.gpu(gpu)


def find_output(internals: Any, name: str) -> Any:
    """A node's output by the node's name, or by MXNet's name of the output."""
    known = set(internals.list_outputs())
    for candidate in (name, name + "_output", name + "_output0"):
        if candidate in known:
            return internals[candidate]
    raise Refused(f"expected a node '{name}', the graph has none", "model")


def first_line(error: Exception) -> str:
    """What MXNet says, without the stack of C++ calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Stack trace" not in line]
    wanted = [line for line in lines if "Error" in line or line.startswith("Check failed")]
    return str((wanted or lines or [type(error).__name__])[0])[:500]


def serve(worker: Worker, source: Any, sink: Any) -> None:
    """Answer batch after batch."""
    for line in iter(source.readline, b""):
        shape = json.loads(line.decode())
        size = 4 * int(np.prod(shape))
        content = source.read(size)
        if len(content) < size:  # the process that asked is gone
            return
        try:
            outputs = worker(np.frombuffer(content, np.float32).reshape(shape))
        except Exception as error:
            send(sink, {"error": first_line(error)})
            continue
        send(sink, {"shapes": [list(output.shape) for output in outputs]}, outputs)


def send(sink: Any, answer: Any, arrays: Any = ()) -> None:
    """One line of JSON, and the numbers of the arrays."""
    sink.write(json.dumps(answer).encode() + b"\n")
    for array in arrays:
        sink.write(np.ascontiguousarray(array).data)
    sink.flush()


if __name__ == "__main__":
    # What MXNet prints goes to the log, not between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        np, mx = importlib.import_module("numpy"), importlib.import_module("mxnet")
    except Exception as error:  # an old MXNet beside a new numpy fails in many ways
        send(answers, {"error": f"{sys.executable} cannot import MXNet: {error}", "kind": "engine"})
        sys.exit(1)
    try:
        asked = Worker(**json.loads(sys.argv[1]))
    except Refused as error:
        send(answers, {"error": str(error), "kind": error.kind})
        sys.exit(1)
    send(answers, {"mxnet": mx.__version__, "device": str(asked.device)})
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(asked, sys.stdin.buffer, answers)
