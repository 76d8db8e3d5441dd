"""A person detector that needs no weights: in any picture it finds the pillars, drawn in pure blue.

The network is a file of its own, written here, in the form of YOLOX at 64 x 64 pixels.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vidperson.networks.card import NetworkFile, PictureInput, card_text, load_card

Array = np.ndarray[Any, Any]
SIDE = 64
CARD = dataclasses.replace(
    load_card("yolox_nano_onnx"),
    name="pillars",
    file=NetworkFile("pillars.onnx"),
    input=PictureInput(channels="rgb", mean=(0, 0, 0), std=(1, 1, 1), width=SIDE, height=SIDE),
)


def pillars(batch: Array) -> list[Array]:
    """(N, 3, 64, 64) RGB to (N, 84, 6): each cell of 8 x 8 pixels that is blue in its middle is a pillar.

    A pillar is as wide as its cell and three cells high; blue scores blue / 255.
    """
    rows = np.zeros((len(batch), 84, 6), np.float32)
    red, green, blue = (batch[:, channel, 4::8, 4::8].reshape(len(batch), 64) for channel in range(3))
    rows[:, :64, :2] = 0.5
    rows[:, :64, 3] = np.log(3)
    rows[:, :64, 4] = (blue - red - green).clip(0) / 255
    rows[:, :64, 5] = 1
    return [rows]


def write_network(folder: Path) -> Path:
    """`pillars.onnx` and its card, `pillars.yaml`; the network does as :func:`pillars`. Returns the card."""
    import onnx
    from onnx import helper, numpy_helper

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.array(value), name)

    filters = np.zeros((1, 3, 8, 8), np.float32)
    filters[0, :, 4, 4] = np.array([-1, -1, 1]) / 255
    rest = np.zeros((1, 20, 6), np.float32)
    codes = np.tile(np.array([0.5, 0.5, 0, np.log(3)], np.float32), (1, 64, 1))
    made = [
        constant("filters", filters),
        constant("places", np.array([0, 64, 1])),
        constant("codes", codes),
        constant("ones", np.ones((1, 64, 1), np.float32)),
        constant("zeros", np.zeros((1, 1, 1), np.float32)),
        constant("rest", rest),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "filters"], ["raw"], strides=[8, 8]),
        helper.make_node("Relu", ["raw"], ["blue"]),
        helper.make_node("Reshape", ["blue", "places"], ["scores"]),
        helper.make_node("Mul", ["scores", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "codes"], ["boxes"]),
        helper.make_node("Add", ["nothing", "ones"], ["kinds"]),
        helper.make_node("Concat", ["boxes", "scores", "kinds"], ["near"], axis=2),
        helper.make_node("Concat", ["near", "rest"], ["output"], axis=1),
    ]
    images, output = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
        for name, sizes in (("images", [1, 3, SIDE, SIDE]), ("output", [1, 84, 6]))
    )
    graph = helper.make_graph(nodes, "pillars", [images], [output], made)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "pillars.onnx")
    card = dataclasses.replace(CARD, input=dataclasses.replace(CARD.input, batch=1))
    (folder / "pillars.yaml").write_text(card_text(card))
    return folder / "pillars.yaml"


def picture(pillars_at: list[tuple[int, int]], height: int = 64, width: int = 64, grey: int = 90) -> Array:
    """(height, width, 3) uint8 RGB with a blue dot of a cell at each (column, row), in cells of 8 x 8 of 64 x 64."""
    image = np.full((height, width, 3), grey, np.uint8)
    for column, row in pillars_at:
        factor = max(height, width) / SIDE
        x1, y1, x2, y2 = (round(8 * factor * place) for place in (column, row, column + 1, row + 1))
        image[y1:y2, x1:x2] = (0, 0, 250)
    return image
