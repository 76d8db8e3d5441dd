"""From the best epoch's weights to a network file with a model card."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidperson.io.atomic import atomic_write
from vidperson.io.record import sha256, write_record
from vidperson.networks.card import Input, ModelCard, NetworkFile, Output, card_text, check_card
from vidperson.networks.convert import build_network, export_network
from vidperson.training.loop import BEST, autocast, load_checkpoint

Run = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]


def new_card(
    name: str, kind: str, description: str, licence: str, homepage: str, card_input: Input, output: Output
) -> ModelCard:
    """The card of a network that is not there yet: hash, data and figures are put in when it is.

    Raises ModelError for what stage 0 would refuse, such as a name with blanks.
    """
    file = NetworkFile(f"{name}.onnx", "0" * 64, 0)
    card = ModelCard(name, kind, description, licence, homepage, "", file, card_input, output)
    check_card(card, Path(f"{name}.yaml"))
    return card


def export_best(folder: Path, card: ModelCard, architecture: str, half_weights: bool = False) -> ModelCard:
    """Write the network of ``best.pt`` in ``folder`` as ONNX; returns the card with its hash."""
    network = build_network(architecture, card.input, card.output)
    network.load_state_dict(load_checkpoint(folder / BEST)["network"])
    return export_module(network, folder, card, half_weights)


def export_module(network: nn.Module, folder: Path, card: ModelCard, half_weights: bool) -> ModelCard:
    """Write a network as ONNX, whole or not at all; returns the card with its hash."""
    path = folder / card.file.name
    partial = path.with_name(path.name + ".tmp")
    export_network(network.eval(), card, partial, half_weights)
    os.replace(partial, path)
    return dataclasses.replace(
        card, file=dataclasses.replace(card.file, sha256=sha256(path), size_bytes=path.stat().st_size)
    )


def write_card(folder: Path, card: ModelCard, weights: Sequence[str] = (BEST,)) -> None:
    """Write ``<name>.yaml`` beside the network, and last the record of the training.

    weights: files below the folder that the network was made of.
    The card tells the data and their digests; the record has the command and the stage's options.
    """
    path = folder / f"{card.name}.yaml"
    with atomic_write(path) as stream:
        stream.write(card_text(card))
    outputs = [folder / card.file.name, path, *(folder / name for name in weights)]
    write_record(folder, ["python", *sys.argv], [], outputs, {"torch": torch.__version__})


def as_engine(network: nn.Module, device: torch.device, precision: str) -> Run:
    """A module in evaluation mode as an engine would give it: an array in, a list of float32 arrays out."""

    def run(batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), autocast(device.type, precision):
            outputs = network(torch.from_numpy(batch.copy()).to(device))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [output.float().cpu().numpy() for output in outputs]

    return run


def flat_figures(figures: dict[str, Any]) -> dict[str, float]:
    """Nested figures as one level: tar_at_far 0.01 -> tar_at_far_0.01."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        flat |= {f"{name}_{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat
