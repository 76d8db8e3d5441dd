"""Which network to take where the user names none: the best one that is at hand.

``vidperson/zoo/preferred.txt`` has a line per kind of network, ``<kind> <card> <card> ...``, the best first. The last
one ships with the project. Embedders have a calibration: without it there are no probabilities.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vidperson.errors import ModelError
from vidperson.io.record import RECORD
from vidperson.networks.card import ZOO, load_card
from vidperson.networks.install import find_files

PREFERRED = ZOO / "preferred.txt"


def preferred_kinds() -> dict[str, list[str]]:
    """Kind, ``<modality>_<role>``, -> names of cards, the best first."""
    lines = [line.split() for line in PREFERRED.read_text(encoding="utf-8").splitlines()]
    return {words[0]: words[1:] for words in lines if words}


def best_at_hand(
    kind: str, models_dir: str | os.PathLike[str], local_dirs: Sequence[str | os.PathLike[str]] = ()
) -> str:
    """Name of the first preferred card of a kind that is installed, or can be installed without a download.

    models_dir: where networks are installed. local_dirs: folders of network files, as of
    :func:`vidperson.networks.install.install_model`. A checkpoint counts only where PyTorch can convert it.
    Raises ModelError for a kind without any.
    """
    kinds = preferred_kinds()
    if kind not in kinds:
        raise ModelError(f"{PREFERRED}: expected a line of {kind}, found those of {' '.join(kinds)}")
    names = kinds[kind]
    for name in names[:-1]:
        try:
            if _is_at_hand(name, Path(models_dir), local_dirs):
                return name
        except ModelError as error:  # another file under that name
            logging.warning("%s: not used: %s", name, error)
    return names[-1]


def _is_at_hand(name: str, models_dir: Path, local_dirs: Sequence[str | os.PathLike[str]]) -> bool:
    if (models_dir / name / RECORD).is_file():
        return True
    card = load_card(name)
    if card.checkpoint is not None and importlib.util.find_spec("torch") is None:
        return False
    return None not in find_files(card, [models_dir, *local_dirs])
