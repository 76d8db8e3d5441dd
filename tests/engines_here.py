"""The engines that tests can use here: torch is an extra."""

from __future__ import annotations

from importlib.util import find_spec

from vidperson.engines import ONNX_ENGINES

ENGINES = tuple(engine for engine in ONNX_ENGINES if find_spec(engine) is not None)
