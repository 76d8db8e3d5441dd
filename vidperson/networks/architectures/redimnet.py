"""ReDimNet (Yakovlev et al., "Reshape Dimensions Network for Speaker Recognition", Interspeech 2024, arXiv:2407.18223).

The same values are now a map of channels and bins, now one row of channels: blocks convolve over both, and then over
time. A stage sees a weighted sum of all stages before it. Names of weights are those of IDRnD/ReDimNet.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError
from vidperson.networks.architectures.frames import attentive_statistics, cleared, frame_mask

_KERNELS = (7, 19, 31, 59)  # of convolutions over time
_HEADS = 4
_ATTENTION = 128  # channels of the pooling's bottleneck
_FLOOR = 1e-7  # of variances
_EPSILON = 1e-6  # of norms


@dataclass(frozen=True)
class Stage:
    """stride: by which bins become fewer and channels more. blocks: residual ones. widened: channels in them, as a
    multiple. reduced: by which there are fewer channels in the convolutions over time.
    """

    stride: int
    blocks: int
    widened: int
    reduced: int


B0 = (Stage(1, 2, 1, 30), Stage(2, 3, 2, 30), Stage(1, 3, 3, 30), Stage(2, 4, 2, 10), Stage(1, 3, 1, 10))
CHANNELS = 10


class _Norm(nn.Module):
    """Layer norm over the channels, the second axis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        apart = x - x.mean(1, keepdim=True)
        found = apart / (apart.square().mean(1, keepdim=True) + _EPSILON).sqrt()
        shape = (-1, *[1] * (x.ndim - 2))
        return found * self.weight.view(shape) + self.bias.view(shape)


class _Sum(nn.Module):
    """The sum of ``count`` inputs, (N, channels, frames) each, weighted per channel."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        if count > 1:
            self.w: Tensor = nn.Parameter(torch.zeros(1, count, channels, 1))
        else:  # in checkpoints, but nothing to learn
            self.register_buffer("w", torch.ones(1, 1, 1, 1))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return (self.w.softmax(1) * torch.stack(inputs, 1)).sum(1)


class _Residual(nn.Module):
    """(N, channels, bins, frames): two convolutions of each channel by itself, each with one over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.ModuleDict()
        for number in (1, 2):
            kernel = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            self.conv_block[f"conv{number}"] = kernel
            self.conv_block[f"conv{number}pw"] = nn.Conv2d(channels, channels, 1)
            self.conv_block[f"bn{number}"] = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        part = self.conv_block
        inside = part["bn1"](functional.relu(part["conv1pw"](part["conv1"](cleared(x, mask)))))
        inside = part["bn2"](part["conv2pw"](part["conv2"](cleared(inside, mask))))
        return functional.relu(inside + x)


class _OverTime(nn.Module):
    """(N, channels, frames): a convolution of each channel by itself, and one over the channels."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.dwconvs = nn.ModuleList([nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)])
        self.norm = nn.BatchNorm1d(channels)
        self.pwconv1 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = self.pwconv1(functional.gelu(self.norm(self.dwconvs[0](cleared(x, mask)))))
        return x + found


class _Encoder(nn.Module):
    """(N, channels, frames): each frame looks at all that count, then two linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        names = ("k_proj", "v_proj", "q_proj", "out_proj")
        self.attention = nn.ModuleDict({name: nn.Linear(channels, channels) for name in names})
        self.layer_norm, self.final_layer_norm = _Norm(channels), _Norm(channels)
        layers = {name: nn.Linear(channels, channels) for name in ("intermediate_dense", "output_dense")}
        self.feed_forward = nn.ModuleDict(layers)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        rows, width = x.transpose(1, 2), x.shape[1] // _HEADS

        def heads(name: str) -> Tensor:
            """(N, heads, frames, width)."""
            return self.attention[name](rows).unflatten(2, (_HEADS, width)).transpose(1, 2)

        scores = heads("q_proj") * width**-0.5 @ heads("k_proj").transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        seen = (scores.softmax(3) @ heads("v_proj")).transpose(1, 2).flatten(2)
        x = self.layer_norm(x + self.attention["out_proj"](seen).transpose(1, 2))
        inside = functional.gelu(self.feed_forward["intermediate_dense"](x.transpose(1, 2)), approximate="tanh")
        found: Tensor = self.final_layer_norm(x + self.feed_forward["output_dense"](inside).transpose(1, 2))
        return found


class _Context(nn.Module):
    """(N, channels, frames): fewer channels, convolutions over time, attention, and as many channels again."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.red_dim_conv = nn.Sequential(nn.Conv1d(channels, inner, 1), _Norm(inner))
        self.tcm = nn.ModuleList([*(_OverTime(inner, kernel) for kernel in _KERNELS), _Encoder(inner)])
        self.exp_dim_conv = nn.Conv1d(inner, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        inside = self.red_dim_conv(x)
        for part in self.tcm:
            inside = part(inside, mask)
        found: Tensor = self.exp_dim_conv(inside)
        return x + found


class _Stage(nn.Module):
    """A list of (N, rows, frames) to one. bins, channels: of its map; rows: their product."""

    def __init__(self, what: Stage, inputs: int, bins: int, channels: int) -> None:
        super().__init__()
        self.bins, rows, after = bins, bins * channels, channels * what.stride
        wide = after * what.widened
        parts: list[nn.Module] = [
            _Sum(inputs, rows),
            nn.Identity(),  # where rows become a map
            nn.Conv2d(channels, wide, (what.stride, 1), (what.stride, 1)),
            *(_Residual(wide) for _ in range(what.blocks)),
        ]
        if what.widened != 1:
            narrowed = nn.Conv2d(wide, after, 3, padding=1, groups=after)
            parts.append(
                nn.Sequential(narrowed, nn.BatchNorm2d(after, _EPSILON), nn.GELU(), nn.Conv2d(after, after, 1))
            )
        numbered = OrderedDict((str(number), part) for number, part in enumerate(parts))
        inner = max(1, rows // what.reduced // _HEADS) * _HEADS  # 20 and 60 in B0 for 60 bins
        numbered[str(len(parts) + 1)] = _Context(rows, inner)  # behind where the map becomes rows
        self.parts = numbered
        for name, part in numbered.items():
            self.add_module(name, part)

    def forward(self, inputs: list[Tensor], mask: Tensor | None) -> Tensor:
        weighted, _, widen, *blocks, context = self.parts.values()
        x = weighted(inputs).unflatten(1, (self.bins, -1)).transpose(1, 2)
        x, of_map = widen(x), None if mask is None else mask[:, None]
        for block in blocks:
            x = block(x, of_map) if isinstance(block, _Residual) else block(cleared(x, of_map))
        found: Tensor = context(x.transpose(1, 2).flatten(1, 2), mask)
        return found


class _Backbone(nn.Module):
    def __init__(self, stages: tuple[Stage, ...], bins: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), _Norm(channels))
        rows, steps = bins * channels, math.prod(what.stride for what in stages)
        if bins % steps:
            raise ModelError(f"input.mel_bins: expected a multiple of {steps}, found {bins}")
        for number, what in enumerate(stages):
            self.add_module(f"stage{number}", _Stage(what, number + 1, bins, channels))
            bins, channels = bins // what.stride, channels * what.stride
        self.count = len(stages)
        self.fin_wght1d = _Sum(len(stages) + 1, rows)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        found = [self.stem(features[:, None]).transpose(1, 2).flatten(1, 2)]
        for number in range(self.count):
            found.append(self.get_submodule(f"stage{number}")(found, mask))
        weighted: Tensor = self.fin_wght1d(found)
        return weighted


class ReDimNet(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    B0, for 60 bins and 192 values, has 1.0 million parameters. Raises ModelError for a number of bins that its strides
    do not divide.
    """

    def __init__(
        self,
        embedding_size: int = 192,
        bins: int = 60,
        stages: tuple[Stage, ...] = B0,
        channels: int = CHANNELS,
    ) -> None:
        super().__init__()
        self.backbone = _Backbone(stages, bins, channels)
        rows = bins * channels
        layers = {"linear1": nn.Conv1d(3 * rows, _ATTENTION, 1), "linear2": nn.Conv1d(_ATTENTION, rows, 1)}
        self.pool = nn.ModuleDict(layers)
        self.bn = nn.BatchNorm1d(2 * rows)
        self.linear = nn.Linear(2 * rows, embedding_size)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = self.backbone(cleared(features, mask), mask)

        def attention(seen: Tensor) -> Tensor:
            scores: Tensor = self.pool["linear2"](self.pool["linear1"](seen).tanh())
            return scores

        pooled = attentive_statistics(x, mask, attention, True, _FLOOR, True)
        embedding: Tensor = self.linear(self.bn(pooled))
        return embedding
