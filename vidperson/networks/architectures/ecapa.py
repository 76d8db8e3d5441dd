"""ECAPA-TDNN (Desplanques et al., "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN Based
Speaker Verification", Interspeech 2020, arXiv:2005.07143).

Layout and names of weights are those of TaoRuijie/ECAPA-TDNN and TaoRuijie/AVCleanse, so that their checkpoints load:
ReLU comes before batch norm, and a block's input is the sum of all that came before it. Their front end, a card's
``input``, is no part of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.networks.architectures.frames import cleared, frame_mask, mean_over_frames, statistics

WIDTHS = {"ecapa_c512": 512, "ecapa_c1024": 1024}
_DILATIONS = (2, 3, 4)
_FLOOR = 1e-4  # of variances


class _Gate(nn.Module):
    """Channels weighted by 0..1, after their means over time."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv1d(channels, inner, 1), nn.Conv1d(inner, channels, 1)
        self.se = nn.Sequential(nn.Identity(), squeeze, nn.ReLU(), excite, nn.Sigmoid())  # the first: the mean

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        weights: Tensor = self.se(mean_over_frames(x, mask))
        return x * weights


class _Block(nn.Module):
    """Channels in ``scale`` groups: each but the last is convolved after the result of the one before is added."""

    def __init__(self, channels: int, dilation: int, scale: int, gate: int) -> None:
        super().__init__()
        self.width = channels // scale
        self.conv1 = nn.Conv1d(channels, channels, 1)
        self.bn1 = nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(self.width, self.width, 3, dilation=dilation, padding=dilation) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in range(scale - 1))
        self.conv3 = nn.Conv1d(channels, channels, 1)
        self.bn3 = nn.BatchNorm1d(channels)
        self.se = _Gate(channels, gate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        groups = self.bn1(functional.relu(self.conv1(x))).split(self.width, 1)
        found: list[Tensor] = []
        for group, conv, norm in zip(groups[:-1], self.convs, self.bns, strict=True):
            given = group + found[-1] if found else group
            found.append(norm(functional.relu(conv(cleared(given, mask)))))
        joined = torch.cat([*found, groups[-1]], dim=1)
        return x + self.se(self.bn3(functional.relu(self.conv3(joined))), mask)


class Ecapa(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    width: channels of the blocks, a multiple of ``scale``; 1024 has 15.4 million parameters. The original states them
    as 14.7, in units of 1024 x 1024.
    scale: groups of channels in a block. pooled: channels that statistics are taken of. gate, attention: channels of
    the bottlenecks.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int = 192,
        bins: int = 80,
        pooled: int = 1536,
        scale: int = 8,
        gate: int = 128,
        attention: int = 256,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bins, width, 5, padding=2)
        self.bn1 = nn.BatchNorm1d(width)
        self.layer1, self.layer2, self.layer3 = (_Block(width, dilation, scale, gate) for dilation in _DILATIONS)
        self.layer4 = nn.Conv1d(3 * width, pooled, 1)
        self.attention = nn.Sequential(
            nn.Conv1d(3 * pooled, attention, 1),
            nn.ReLU(),
            nn.BatchNorm1d(attention),
            nn.Tanh(),
            nn.Conv1d(attention, pooled, 1),
        )
        self.bn5 = nn.BatchNorm1d(2 * pooled)
        self.fc6 = nn.Linear(2 * pooled, embedding_size)
        self.bn6 = nn.BatchNorm1d(embedding_size)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = self.bn1(functional.relu(self.conv1(cleared(features, mask))))
        first = self.layer1(x, mask)
        second = self.layer2(x + first, mask)
        third = self.layer3(x + first + second, mask)
        x = functional.relu(self.layer4(torch.cat([first, second, third], dim=1)))
        mean, variance = statistics(x, mask)
        whole = mean.expand_as(x), variance.clamp(min=_FLOOR).sqrt().expand_as(x)
        scores = self.attention(torch.cat([x, *whole], dim=1))
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(2)
        mean = (x * weights).sum(2)
        deviation = ((x.square() * weights).sum(2) - mean.square()).clamp(min=_FLOOR).sqrt()
        embedding: Tensor = self.bn6(self.fc6(self.bn5(torch.cat([mean, deviation], dim=1))))
        return embedding
