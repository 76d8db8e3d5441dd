"""ECAPA-TDNN (Desplanques et al., "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN Based
Speaker Verification", Interspeech 2020, arXiv:2005.07143).

Layout and names of weights are those of TaoRuijie/ECAPA-TDNN and TaoRuijie/AVCleanse, so that their checkpoints load:
ReLU comes before batch norm. Those of WeSpeaker and of SpeechBrain differ in what ``EcapaForm`` says; their names are
translated. A front end, a card's ``input``, is no part of the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.networks.architectures.frames import (
    attentive_statistics,
    cleared,
    frame_mask,
    mean_over_frames,
    mirrored,
)

_DILATIONS = (2, 3, 4)
_SCALE = 8


@dataclass(frozen=True)
class EcapaForm:
    """What published networks differ in.

    sums: a block's input is the sum of all that came before it, or else the output of the one before.
    mirrored: convolutions see the sound mirrored at its ends, or else zeros.
    norm_pooled, norm_last: whether there is a batch norm before the attention, and behind the last layer.
    norm_attention: ReLU and batch norm before the attention's tanh.
    sample: the variance that the attention sees is that of a sample, over one less than the frames.
    floor: of variances; added: it is added to that variance, or else that is raised to it.
    attention: channels of the attention's bottleneck. pooled: channels that statistics are taken of. Both as published.
    """

    sums: bool
    mirrored: bool
    norm_pooled: bool
    norm_last: bool
    norm_attention: bool
    sample: bool
    floor: float
    added: bool
    attention: int
    pooled: int


ORIGINAL = EcapaForm(True, False, False, True, True, True, 1e-4, False, 256, 1536)
WESPEAKER = EcapaForm(False, False, False, False, False, True, 1e-7, True, 128, 1536)
SPEECHBRAIN = EcapaForm(False, True, True, False, True, False, 1e-12, False, 128, 3072)
SHAPES = {
    "ecapa_c512": (512, ORIGINAL),
    "ecapa_c1024": (1024, ORIGINAL),
    "ecapa_c512_wespeaker": (512, WESPEAKER),
    "ecapa_c1024_wespeaker": (1024, WESPEAKER),
    "ecapa_c1024_speechbrain": (1024, SPEECHBRAIN),
}
"""Width and form of each."""


class _Gate(nn.Module):
    """Channels weighted by 0..1, after their means over time."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv1d(channels, inner, 1), nn.Conv1d(inner, channels, 1)
        self.se = nn.Sequential(nn.Identity(), squeeze, nn.ReLU(), excite, nn.Sigmoid())  # the first: the mean

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        weights: Tensor = self.se(mean_over_frames(x, mask))
        return x * weights


class _Conv(nn.Conv1d):
    """A convolution over time that keeps the number of frames."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, mirror: bool) -> None:
        self.reach = kernel // 2 * dilation
        super().__init__(inputs, outputs, kernel, dilation=dilation, padding=0 if mirror else self.reach)

    def over(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = self(cleared(x, mask) if self.padding[0] else mirrored(x, mask, self.reach))
        return found


class _Block(nn.Module):
    """Channels in ``scale`` groups: each but the last is convolved after the result of the one before is added."""

    def __init__(self, channels: int, dilation: int, scale: int, gate: int, mirror: bool) -> None:
        super().__init__()
        self.width = channels // scale
        self.conv1 = nn.Conv1d(channels, channels, 1)
        self.bn1 = nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(_Conv(self.width, self.width, 3, dilation, mirror) for _ in range(scale - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in range(scale - 1))
        self.conv3 = nn.Conv1d(channels, channels, 1)
        self.bn3 = nn.BatchNorm1d(channels)
        self.se = _Gate(channels, gate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        groups = self.bn1(functional.relu(self.conv1(x))).split(self.width, 1)
        found: list[Tensor] = []
        for group, conv, norm in zip(groups[:-1], self.convs, self.bns, strict=True):
            given = group + found[-1] if found else group
            found.append(norm(functional.relu(conv.over(given, mask))))  # type: ignore[operator]
        joined = torch.cat([*found, groups[-1]], dim=1)
        return x + self.se(self.bn3(functional.relu(self.conv3(joined))), mask)


class Ecapa(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    width: channels of the blocks, a multiple of ``scale``; 1024 has 15.4 million parameters in the original's form,
    which states them as 14.7, in units of 1024 x 1024.
    scale: groups of channels in a block. gate: channels of its bottleneck. pooled, attention: see ``EcapaForm``; None:
    as published.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int = 192,
        bins: int = 80,
        pooled: int | None = None,
        scale: int = _SCALE,
        gate: int = 128,
        attention: int | None = None,
        form: EcapaForm = ORIGINAL,
    ) -> None:
        super().__init__()
        self.form, self.scale = form, scale
        inner, pooled = attention or form.attention, pooled or form.pooled
        self.conv1 = _Conv(bins, width, 5, 1, form.mirrored)
        self.bn1 = nn.BatchNorm1d(width)
        blocks = (_Block(width, dilation, scale, gate, form.mirrored) for dilation in _DILATIONS)
        self.layer1, self.layer2, self.layer3 = blocks
        self.layer4 = nn.Conv1d(3 * width, pooled, 1)
        if form.norm_pooled:
            self.bn4 = nn.BatchNorm1d(pooled)
        squeezed = (nn.ReLU(), nn.BatchNorm1d(inner)) if form.norm_attention else (nn.Identity(), nn.Identity())
        first, last = nn.Conv1d(3 * pooled, inner, 1), nn.Conv1d(inner, pooled, 1)
        self.attention = nn.Sequential(first, *squeezed, nn.Tanh(), last)
        self.bn5 = nn.BatchNorm1d(2 * pooled)
        self.fc6 = nn.Linear(2 * pooled, embedding_size)
        self.bn6 = nn.BatchNorm1d(embedding_size) if form.norm_last else nn.Identity()

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = self.bn1(functional.relu(self.conv1.over(features, mask)))
        first = self.layer1(x, mask)
        second = self.layer2(x + first if self.form.sums else first, mask)
        third = self.layer3(x + first + second if self.form.sums else second, mask)
        x = functional.relu(self.layer4(torch.cat([first, second, third], dim=1)))
        x = self.bn4(x) if self.form.norm_pooled else x
        form = self.form
        pooled = attentive_statistics(x, mask, self.attention, form.sample, form.floor, form.added)
        embedding: Tensor = self.bn6(self.fc6(self.bn5(pooled)))
        return embedding

    def translated(self, weights: Mapping[str, Any]) -> dict[str, Tensor]:
        """A checkpoint's weights under this network's names, by the names of its form; other names stay."""
        weights = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
        if self.form == WESPEAKER:
            return {_renamed(name, _WESPEAKER_NAMES): _as_conv(name, value) for name, value in weights.items()}
        if self.form == SPEECHBRAIN:
            return dict(self._of_speechbrain(name, value) for name, value in weights.items())
        return weights

    def _of_speechbrain(self, name: str, value: Tensor) -> tuple[str, Tensor]:
        """Of its groups of channels the first is passed on as it is, of ours the last."""
        new = _renamed(name, _SPEECHBRAIN_NAMES)
        if re.fullmatch(r"layer\d\.(conv1|bn1)\..+", new) and value.ndim:
            value = value.roll(-(len(value) // self.scale), 0)
        elif re.fullmatch(r"layer\d\.conv3\.weight", new) and value.ndim == 3:
            value = value.roll(-(value.shape[1] // self.scale), 1)
        return new, value[..., 0] if new == "fc6.weight" and value.ndim == 3 else value


def _as_conv(name: str, value: Tensor) -> Tensor:
    """WeSpeaker's gates are linear layers, ours convolutions of one frame."""
    return value[..., None] if re.search(r"se_res2block\.3\..*weight", name) else value


_Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


_WESPEAKER_NAMES: _Rules = (
    (r"^layer1\.conv\.", "conv1."),
    (r"^layer1\.bn\.", "bn1."),
    (r"^layer([234])\.se_res2block\.", lambda match: f"layer{int(match[1]) - 1}.block."),
    (r"\.block\.0\.(conv|bn)\.", r".\g<1>1."),
    (r"\.block\.1\.", "."),
    (r"\.block\.2\.(conv|bn)\.", r".\g<1>3."),
    (r"\.block\.3\.linear1\.", ".se.se.1."),
    (r"\.block\.3\.linear2\.", ".se.se.3."),
    (r"^conv\.", "layer4."),
    (r"^pool\.linear1\.", "attention.0."),
    (r"^pool\.linear2\.", "attention.4."),
    (r"^bn\.", "bn5."),
    (r"^linear\.", "fc6."),
)
_SPEECHBRAIN_NAMES: _Rules = (
    (r"\.conv\.conv\.", ".conv."),
    (r"\.norm\.norm\.", ".norm."),
    (r"^blocks\.0\.conv\.", "conv1."),
    (r"^blocks\.0\.norm\.", "bn1."),
    (r"^blocks\.([123])\.", r"layer\1."),
    (r"\.tdnn1\.conv\.", ".conv1."),
    (r"\.tdnn1\.norm\.", ".bn1."),
    (r"\.res2net_block\.blocks\.(\d+)\.conv\.", r".convs.\1."),
    (r"\.res2net_block\.blocks\.(\d+)\.norm\.", r".bns.\1."),
    (r"\.tdnn2\.conv\.", ".conv3."),
    (r"\.tdnn2\.norm\.", ".bn3."),
    (r"\.se_block\.conv1\.conv\.", ".se.se.1."),
    (r"\.se_block\.conv2\.conv\.", ".se.se.3."),
    (r"^mfa\.conv\.", "layer4."),
    (r"^mfa\.norm\.", "bn4."),
    (r"^asp\.tdnn\.conv\.", "attention.0."),
    (r"^asp\.tdnn\.norm\.", "attention.2."),
    (r"^asp\.conv\.(conv\.)?", "attention.4."),
    (r"^asp_bn\.norm\.", "bn5."),
    (r"^fc\.conv\.", "fc6."),
)
