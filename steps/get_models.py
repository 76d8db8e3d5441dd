#!/usr/bin/env python3
"""Put networks of one modality where the stages look for them: found or downloaded, checked, converted.

Inputs:  model cards: names in vidperson/zoo or of networks in <train-dir>, or paths of .yaml files.
Outputs: <models-dir>/<name>/ with network.onnx, <name>.yaml and record.json; of an MXNet checkpoint
         also its own two files.

Example:
  python steps/get_models.py --models-dir exp/face_models --modality face \\
      --detector retinaface_tiny --embedder arcface_tiny --train-dir exp/face_train
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli


@dataclass(frozen=True)
class GetOptions:
    """See the top of this file."""

    models_dir: Path | None = cli.option(None, "where the networks are put, as exp/<modality>_models")
    modality: str = cli.option("", "modality of the networks; empty: any")
    detector: str = cli.option("", "card of the detector; empty: none")
    embedder: str = cli.option("", "card of the embedder; empty: none")
    classifier: str = cli.option("", "card of the classifier; empty: none")
    model_dir: str = cli.option("", "folder to search before downloading; so is VIDPERSON_MODEL_DIR")
    train_dir: Path | None = cli.option(None, "where own networks are, by name, that the zoo has no card of")
    needs_torch: bool = cli.option(False, "only print whether the torch extra has to be installed first")
    best: bool = cli.option(False, "only print '<kind> <card>' of the best ones of the modality that are at hand")
    list: bool = cli.option(False, "only list the cards in the zoo")

    @property
    def cards(self) -> dict[str, str]:
        """Role -> card, of the networks that are asked for."""
        named = {"detector": self.detector, "embedder": self.embedder, "classifier": self.classifier}
        return {role: self._card(name) for role, name in named.items() if name}

    @property
    def folders(self) -> Sequence[str]:
        """Where the user keeps files of networks."""
        return [folder for folder in (self.model_dir, os.environ.get("VIDPERSON_MODEL_DIR", "")) if folder]

    def _card(self, name: str) -> str:
        """A name in the zoo or a path, as it is; or the card of an own network."""
        from vidperson.networks.card import ZOO

        own = self.train_dir and self.train_dir / name / f"{name}.yaml"
        return str(own) if own and not (ZOO / f"{name}.yaml").is_file() and own.is_file() else name


def get_models(options: GetOptions) -> None:
    """Install the cards; raises ModelError, after all were tried, with the reasons of those that failed."""
    import contextlib
    import importlib.util

    from vidperson.errors import ModelError, VidPersonError
    from vidperson.networks.install import needs_conversion

    if options.list:
        list_models()
        return
    if options.models_dir is None:
        raise ModelError("expected --models-dir, the folder to put networks in, found none")
    if options.best:
        print_best(options)
        return
    if options.needs_torch:
        missing = importlib.util.find_spec("torch") is None
        waits = False
        with contextlib.suppress(VidPersonError):  # a card that is wrong is refused when it is to be installed
            waits = any(needs_conversion(card, options.models_dir) for card in options.cards.values())
        print("true" if missing and waits else "false")
        return
    failures: list[str] = []
    for role, card in options.cards.items():
        try:
            get_model(card, role, options)
        except VidPersonError as error:
            failures.append(str(error))
    if failures:
        raise ModelError(f"{len(failures)} of {len(options.cards)} networks are missing:\n  " + "\n  ".join(failures))


def print_best(options: GetOptions) -> None:
    """Print the kinds of the modality that have a list of preferred networks, and which of it is at hand."""
    from vidperson.networks.choice import best_at_hand, preferred_kinds

    assert options.models_dir is not None
    for kind in preferred_kinds():
        if kind.startswith(f"{options.modality}_"):
            print(kind, best_at_hand(kind, options.models_dir, options.folders))


def get_model(name: str, role: str, options: GetOptions) -> None:
    """Install one card. Raises ModelError for one of another role or modality, and as install_model does."""
    from vidperson.errors import ModelError
    from vidperson.networks.card import load_card
    from vidperson.networks.install import install_model
    from vidperson.progress import Progress

    bar: list[Progress] = []

    def report(done: int, total: int) -> None:
        if not bar:
            bar.append(Progress(total >> 20, "MiB", done=done >> 20))
        bar[0].step((done >> 20) - bar[0].done)

    card = load_card(name)
    wanted = f"{options.modality or card.modality}_{role}"
    if card.kind != wanted:
        raise ModelError(f"{card.name} is a {card.kind}, not a {wanted}; --list true shows the kinds")
    assert options.models_dir is not None
    installed = install_model(name, options.models_dir, options.folders, report).card
    data = f"training data: {installed.training_data}"
    logging.info("%s: ready; licence: %s; %s", installed.name, installed.licence, data)


def list_models() -> None:
    """Print the cards in the zoo; "manual": a file has no download that could be checked."""
    from vidperson.networks.card import card_names, load_card
    from vidperson.networks.install import can_download

    for name in card_names():
        card = load_card(name)
        sizes = [file.size_bytes for file in card.files]
        size = f"{sum(filter(None, sizes)) / 1e6:7.1f} MB" if any(sizes) else "         -"
        manual = "" if can_download(card) else "; manual"
        print(f"{name:32} {card.kind:14} {size}  {card.licence}{manual}\n    {card.description}")


if __name__ == "__main__":
    cli.run(get_models, GetOptions, __doc__)
