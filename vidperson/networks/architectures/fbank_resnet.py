"""Residual networks over time and frequency, with temporal statistics pooling.

ResNet (He et al., CVPR 2016) with 32 channels first, no pooling before the end, and mean and standard deviation over
time of the last map (Zeinali et al., "BUT System Description to VoxCeleb Speaker Recognition Challenge 2019",
arXiv:1910.12592). Names of weights are those of WeSpeaker (Wang et al., ICASSP 2023, arXiv:2210.17016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError
from vidperson.networks.architectures.frames import cleared, every_second, frame_mask, statistics

_EPSILON = 1e-7  # beside a variance


@dataclass(frozen=True)
class FbankResNetShape:
    """blocks: per stage. bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, not two of 3x3. width: of the first."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool = False
    width: int = 32

    @property
    def expansion(self) -> int:
        """Outputs of a block for each of its inner channels."""
        return 4 if self.bottleneck else 1


SHAPES = {
    "resnet18_w16_tstp": FbankResNetShape((2, 2, 2, 2), width=16),
    "resnet18_tstp": FbankResNetShape((2, 2, 2, 2)),
    "resnet34_tstp": FbankResNetShape((3, 4, 6, 3)),
    "resnet50_tstp": FbankResNetShape((3, 4, 6, 3), True),
    "resnet101_tstp": FbankResNetShape((3, 4, 23, 3), True),
    "resnet152_tstp": FbankResNetShape((3, 8, 36, 3), True),
    "resnet221_tstp": FbankResNetShape((6, 16, 48, 3), True),
    "resnet293_tstp": FbankResNetShape((10, 20, 64, 3), True),
}


class ResidualBlock(nn.Module):
    """(N, inputs, bins, frames) to (N, width * expansion, .., ..). stride: over bins and frames, 1 or 2 each."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, int], bottleneck: bool = False) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        # (inputs, outputs, kernel, stride) of the convolutions
        layers = [(inputs, width, 3, stride), (width, width, 3, (1, 1))]
        if bottleneck:
            layers = [(inputs, width, 1, (1, 1)), (width, width, 3, stride), (width, outputs, 1, (1, 1))]
        self.count = len(layers)
        self.halves = stride[1] == 2
        for number, (before, after, kernel, step) in enumerate(layers, 1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.shortcut = nn.Sequential()
        if stride != (1, 1) or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """mask: (N, 1, 1, frames). Gives the map, and the mask of its frames."""
        kept: Tensor = self.shortcut(x)
        for number in range(1, self.count + 1):
            conv = self.get_submodule(f"conv{number}")
            wide = conv.kernel_size[1] > 1  # type: ignore[index]
            x = self.get_submodule(f"bn{number}")(conv(cleared(x, mask) if wide else x))
            if conv.stride[1] == 2:  # type: ignore[index]
                mask = every_second(mask)
            x = functional.relu(x + kept if number == self.count else x)
        return x, mask


class FbankResNet(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    ResNet34 for 80 bins and 256 values has 6.6 million parameters. bins: a multiple of 8.
    Raises ModelError for another number.
    """

    def __init__(self, shape: FbankResNetShape, embedding_size: int = 256, bins: int = 80) -> None:
        super().__init__()
        if bins % 8:
            raise ModelError(f"input.mel_bins: expected a multiple of 8, found {bins}")
        self.conv1 = nn.Conv2d(1, shape.width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(shape.width)
        inputs = shape.width
        for number, blocks in enumerate(shape.blocks):
            stage = []
            for index in range(blocks):
                stride = (2, 2) if number and not index else (1, 1)
                stage.append(ResidualBlock(inputs, shape.width << number, stride, shape.bottleneck))
                inputs = (shape.width << number) * shape.expansion
            self.add_module(f"layer{number + 1}", nn.ModuleList(stage))
        self.seg_1 = nn.Linear(2 * inputs * (bins // 8), embedding_size)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = cleared(features, mask)[:, None]
        mask = None if mask is None else mask[:, None]
        x = functional.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            for block in self.get_submodule(f"layer{number}").children():
                x, mask = block(x, mask)
        mean, variance = statistics(x.flatten(1, 2), None if mask is None else mask[:, 0])
        pooled = torch.cat([mean, (variance + _EPSILON).sqrt()], dim=1)
        embedding: Tensor = self.seg_1(pooled.flatten(1))
        return embedding
