"""CAM++ (Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking",
Interspeech 2023, arXiv:2303.00332).

Residual blocks over time and frequency, then densely connected layers over time. Each of these weighs its outputs by
what the whole recording and the second around it are like. Names of weights are those of 3D-Speaker and of WeSpeaker.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError
from vidperson.networks.architectures.fbank_resnet import ResidualBlock
from vidperson.networks.architectures.frames import cleared, every_second, frame_mask, mean_over_frames, statistics

LAYERS = (12, 24, 16)  # of the dense blocks
_DILATIONS = (1, 2, 2)
_HEAD = 32  # channels of the maps
_SEGMENT = 100  # frames
_EPSILON = 1e-7  # beside a variance


def _norm(channels: int, affine: bool = True) -> nn.Sequential:
    """Batch norm and, where it is affine, ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(batchnorm=nn.BatchNorm1d(channels, affine=affine))
    if affine:
        parts["relu"] = nn.ReLU()
    return nn.Sequential(parts)


def segment_means(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, channels, frames): in each frame the mean of its segment, of those frames of the segment that count."""
    counts = torch.ones_like(x[:1, :1]) if mask is None else mask.to(x.dtype)
    # Zeros behind the end, rather than a pool with a last partial window, which OpenVINO gets wrong for short inputs.
    wide = (functional.pad(each, (0, _SEGMENT - 1)) for each in (cleared(x, mask), counts))
    sums, counts = (functional.avg_pool1d(each, _SEGMENT) for each in wide)
    means = sums / counts.clamp(min=0.5 / _SEGMENT)  # 0 in segments behind the end
    return means[..., None].expand(-1, -1, -1, _SEGMENT).flatten(2)[..., : x.shape[2]]


class _Head(nn.Module):
    """(N, 1, bins, frames) to (N, 32 * bins / 8, frames)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _HEAD, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD)
        self.layer1, self.layer2 = (
            nn.ModuleList(ResidualBlock(_HEAD, _HEAD, (step, 1)) for step in (2, 1)) for _ in range(2)
        )
        self.conv2 = nn.Conv2d(_HEAD, _HEAD, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for block in (*self.layer1, *self.layer2):
            x, _ = block(x, mask)
        return functional.relu(self.bn2(self.conv2(cleared(x, mask)))).flatten(1, 2)


class _Weighted(nn.Module):
    """A convolution over time, its outputs weighted by 0..1 after the means of the recording and of the segment."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        context = mean_over_frames(x, mask) + segment_means(x, mask)
        weights = self.linear2(functional.relu(self.linear1(context))).sigmoid()
        found: Tensor = self.linear_local(cleared(x, mask)) * weights
        return found


class _Layer(nn.Module):
    def __init__(self, inputs: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(inputs)
        self.linear1 = nn.Conv1d(inputs, inner, 1, bias=False)
        self.nonlinear2 = _norm(inner)
        self.cam_layer = _Weighted(inner, growth, dilation)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))), mask)
        return torch.cat([x, found], dim=1)


class CamPlusPlus(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    For 80 bins and 512 values it has 7.2 million parameters. bins: a multiple of 8. layers: of the dense blocks; each
    layer adds ``growth`` channels. width: channels before them. Raises ModelError for another number of bins.
    """

    def __init__(
        self,
        embedding_size: int = 512,
        bins: int = 80,
        layers: tuple[int, int, int] = LAYERS,
        growth: int = 32,
        width: int = 128,
    ) -> None:
        super().__init__()
        if bins % 8:
            raise ModelError(f"input.mel_bins: expected a multiple of 8, found {bins}")
        self.head = _Head()
        conv = nn.Conv1d(_HEAD * bins // 8, width, 5, 2, 2, bias=False)
        parts: dict[str, nn.Module] = {"tdnn": nn.Sequential(OrderedDict(linear=conv, nonlinear=_norm(width)))}
        for number, (count, dilation) in enumerate(zip(layers, _DILATIONS, strict=True), 1):
            sizes = range(width, width + (count + 1) * growth, growth)
            inside = ((f"tdnnd{k}", _Layer(size, growth, 4 * growth, dilation)) for k, size in enumerate(sizes[:-1], 1))
            parts[f"block{number}"] = nn.ModuleDict(OrderedDict(inside))
            halved = nn.Conv1d(sizes[-1], sizes[-1] // 2, 1, bias=False)
            parts[f"transit{number}"] = nn.Sequential(OrderedDict(nonlinear=_norm(sizes[-1]), linear=halved))
            width = sizes[-1] // 2
        parts["out_nonlinear"] = _norm(width)
        dense = nn.Conv1d(2 * width, embedding_size, 1, bias=False)
        parts["dense"] = nn.Sequential(OrderedDict(linear=dense, nonlinear=_norm(embedding_size, affine=False)))
        self.xvector = nn.ModuleDict(parts)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = self.head(cleared(features, mask)[:, None], None if mask is None else mask[:, None])
        x = self.xvector["tdnn"](cleared(x, mask))
        mask = every_second(mask)
        for name, part in list(self.xvector.items())[1:-2]:
            if name.startswith("block"):
                for layer in part.children():
                    x = layer(x, mask)
            else:
                x = part(x)
        mean, variance = statistics(self.xvector["out_nonlinear"](x), mask)
        pooled = torch.cat([mean, (variance + _EPSILON).sqrt()], dim=1)
        embedding: Tensor = self.xvector["dense"](pooled).flatten(1)
        return embedding
