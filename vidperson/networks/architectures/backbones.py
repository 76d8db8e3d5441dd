"""Weights of backbones learnt on ImageNet, under the names of torchvision and torchreid, for re-identification."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from vidperson.errors import ModelError

# What only re-identification has; not of a backbone.
_OWN = re.compile(r"(neck|reductions|fc|classifier)\.|necks\.\d+\.")
_PLACE = re.compile(r"(trunk|branches\.\d+|network)\.")  # where a network has a part of a backbone
_CLASSES = re.compile(r"(fc|classifier)\.")
# Published DenseNets are older than torchvision's names of their layers.
_OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.")


def load_backbone(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Start from the weights of a network for ImageNet; its classifier is left out.

    In MGN each branch starts from the same. What only re-identification has keeps its weights, and so does ``fc`` of
    OSNet, of which only the maps are taken.
    Raises ModelError that names the weights which are missing, too many or of another shape.
    """
    own = network.state_dict()
    plain = {_OLD.sub(r"\1\2.", name.removeprefix("module.")): value for name, value in weights.items()}
    given = {name: value for name, value in plain.items() if not _CLASSES.match(name)}
    sources = {name: re.sub(r"^layers\.", "features.", _PLACE.sub("", name)) for name in own}
    sources = {name: source for name, source in sources.items() if not _OWN.match(source)}
    # Older files have no counts of batches.
    found = {name: given[source] for name, source in sources.items() if source in given}
    problems = [f"no '{source}'" for source in sources.values() if source not in given and not _is_count(source)]
    problems += [f"'{name}' is of no part of it" for name in given if name not in sources.values()]
    problems += [
        f"'{sources[name]}' has the shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in found.items()
        if value.shape != own[name].shape
    ]
    if problems:
        raise ModelError(f"the weights are not those of this backbone: {problems[0]}; {len(problems)} do not fit")
    network.load_state_dict({**own, **found})


def _is_count(name: str) -> bool:
    return name.endswith(".num_batches_tracked")
