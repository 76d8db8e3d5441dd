"""An installed network and the engine that runs it: the one asked for, or for ``auto`` the best one here.

On a CPU the best one is a matter of measuring: stage 0 measures each network once and notes its choice beside it, in
``cpu_engine.json``, so that all jobs, on all machines, take the same engine. The times, which are others whenever it
measures, are in a file of their own, ``engines.json``: finished sets are compared by the choice.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from vidperson.engines import ENGINES, ONNX_ENGINES, Network, gpu_number, load_network
from vidperson.errors import EngineError, ModelError
from vidperson.networks.install import InstalledModel
from vidperson.networks.mxnet_to_onnx import mxnet_outputs

T = TypeVar("T")
AUTO = "auto"
CHOICE = "cpu_engine.json"
TIMES = "engines.json"
# What auto takes on a CPU: what every installation has, and what gives an item the same numbers in any batch.
_CPU = {"fp32": ("openvino", "onnxruntime"), "bf16": ("openvino",)}
_GPU = ("torch", "onnxruntime")
_DETECTOR_SHAPE = (1, 3, 448, 800)
_EMBEDDER_BATCH = 8
_MEASURE_S = 0.5
_AS_FAST = 1.05  # times the shortest: less is chance, and the earlier choice or the first of the engines is taken


def open_network(
    installed: InstalledModel,
    engine: str = AUTO,
    device: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
    batch: int = 0,
) -> Network:
    """The network of an installed model with an engine of :data:`vidperson.engines.ENGINES`, or ``auto``.

    ``auto`` on the CPU is the engine that was fastest when the model was installed; on a GPU it is MXNet itself, for an
    MXNet checkpoint where MXNet can drive the GPU, else torch, else ONNX Runtime. The log says which, and why.
    Other arguments and errors are those of :func:`vidperson.engines.load_network`.
    """

    batch = installed.card.input.batch or batch

    def load(name: str) -> Network:
        if name != "mxnet":
            return load_network(installed.network, name, device, threads, precision, batch)
        symbol, card = installed.mxnet_symbol, installed.card
        if card.mxnet is None:
            others = " ".join((AUTO, *ONNX_ENGINES))
            raise EngineError(f"engine 'mxnet' runs MXNet checkpoints, {card.name} is none; use another one: {others}")
        if symbol is None:
            raise EngineError(f"{card.name}: its MXNet checkpoint is not there; run ./run_000_get_pretrained_models.sh")
        outputs = mxnet_outputs(card, symbol)
        return load_network(symbol, name, device, threads, precision, batch, outputs)

    if engine != AUTO:
        if engine not in ENGINES:
            raise EngineError(f"engine '{engine}' is unknown; valid engines: {AUTO} {' '.join(ENGINES)}")
        return load(engine)
    if gpu_number(device) is not None:
        return _best_on_gpu(installed, device, load)
    engine, reason = _best_on_cpu(installed, precision)
    logging.info("%s: engine auto takes %s: %s", installed.card.name, engine, reason)
    return load(engine)


def _best_on_cpu(installed: InstalledModel, precision: str) -> tuple[str, str]:
    """An engine, and why it is the best one."""
    candidates = _CPU.get(precision, ())
    if not candidates:
        raise EngineError(f"engine 'auto' computes in {' '.join(_CPU)} on the device cpu, '{precision}' was asked for")
    if len(candidates) == 1:
        return candidates[0], f"it is the one for {precision} on the CPU"
    chosen, times = _read_choice(installed), _read_times(installed)
    if not chosen and not times:
        here = [name for name in candidates if importlib.util.find_spec(name) is not None]
        return (here or candidates)[0], "none was measured; ./run_000_get_pretrained_models.sh does it"
    shown = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in times.items())
    # earlier versions noted the times only
    return chosen or _fastest(times), f"measured per item when it was installed: {shown or 'the times are gone'}"


def _fastest(times: dict[str, float], earlier: str = "") -> str:
    """The first engine that is as fast as the fastest; the earlier choice, where it is."""
    fast = [name for name, seconds in times.items() if seconds <= _AS_FAST * min(times.values())]
    return earlier if earlier in fast else fast[0]


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


def measure_engines(installed: InstalledModel) -> None:
    """Note what ``auto`` takes on the CPU, and the time per item of every engine that it may take, unless that is done.

    Seconds of one CPU core in float32: pictures of 800 x 448 for detectors, for embedders batches of 8 crops, or of as
    many as the card says.
    """
    if _read_times(installed):
        return
    card = installed.card
    shape = _DETECTOR_SHAPE
    if card.kind == "face_embedder":
        assert card.input.height and card.input.width
        shape = (card.input.batch or _EMBEDDER_BATCH, 3, card.input.height, card.input.width)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (card.input.mean, card.input.std))
    batch = (pixels - mean) / std
    times = {}
    for engine in _CPU["fp32"]:
        if importlib.util.find_spec(engine) is not None:
            times[engine] = round(_seconds(load_network(installed.network, engine), batch) / len(batch), 6)
    choice = _fastest(times, _read_choice(installed))
    for name, content in ((CHOICE, {"cpu_engine": choice}), (TIMES, {"cpu_seconds_per_item": times})):
        path = installed.network.with_name(name)
        note = json.dumps({"network_sha256": installed.sha256, **content}, indent=2)
        path.with_suffix(".tmp").write_text(note + "\n", encoding="utf-8")
        os.replace(path.with_suffix(".tmp"), path)


def _seconds(network: Network, batch: np.ndarray) -> float:
    """The shortest of some passes, in CPU seconds, which other work on the machine disturbs least."""
    network(batch)
    found: list[float] = []
    while len(found) < 3 or sum(found) < _MEASURE_S:
        start = time.process_time()
        network(batch)
        found.append(time.process_time() - start)
    return min(found)


def _read_note(installed: InstalledModel, name: str, take: Callable[[Any], T], expected: str) -> T | None:
    """What ``take`` finds in a note of stage 0; None where there is no such file, or one about another network.

    Raises ModelError for a file that is no such note.
    """
    path = installed.network.with_name(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found, known = take(content), content["network_sha256"] == installed.sha256
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ModelError(f"{path}: expected {expected}; remove it and run stage 0") from None
    return found if known else None


def _read_choice(installed: InstalledModel) -> str:
    """The engine that stage 0 chose; empty where it did not."""
    engines = _CPU["fp32"]
    expected = f"cpu_engine to be one of {' '.join(engines)}"
    return _read_note(installed, CHOICE, lambda note: engines[engines.index(note["cpu_engine"])], expected) or ""


def _read_times(installed: InstalledModel) -> dict[str, float]:
    """Engine to seconds; nothing where they were not measured."""

    def take(note: Any) -> dict[str, float]:
        times = {str(engine): float(seconds) for engine, seconds in note["cpu_seconds_per_item"].items()}
        if unknown := sorted(set(times) - set(_CPU["fp32"])):
            raise ModelError(
                f"{installed.network.with_name(TIMES)}: expected times of {' '.join(_CPU['fp32'])}, found {unknown[0]};"
                " remove it"
            )
        return times

    return _read_note(installed, TIMES, take, "the times of engines") or {}
