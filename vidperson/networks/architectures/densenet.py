"""DenseNet (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993), for
re-identification: each layer takes the maps of all layers before it.

As in ``reid_resnet.py`` the last stage keeps the size of its map, and a batch norm without shift is between the
features that distances are learnt on and those of the classes. Module names below ``layers`` follow torchvision's below
``features``, so that weights learnt on ImageNet load, see ``backbones.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.networks.architectures.features import Features

_SQUEEZE = 4  # a layer's inner channels are so many times what it adds


@dataclass(frozen=True)
class DenseNetShape:
    """blocks: layers of each. growth: channels that a layer adds. width: of the stem."""

    blocks: tuple[int, int, int, int]
    growth: int = 32
    width: int = 64

    @property
    def outputs(self) -> int:
        """Channels of the last map: each block adds to half of what the one before gave."""
        channels = self.width
        for number, layers in enumerate(self.blocks):
            channels = (channels // 2 if number else channels) + layers * self.growth
        return channels


SHAPES = {
    "densenet121": DenseNetShape((6, 12, 24, 16)),
    "densenet161": DenseNetShape((6, 12, 36, 24), 48, 96),
    "densenet169": DenseNetShape((6, 12, 32, 32)),
    "densenet201": DenseNetShape((6, 12, 48, 32)),
}


class _Layer(nn.Module):
    """Norm, ReLU and 1x1 convolution, then norm, ReLU and 3x3; what comes in is kept beside what is found."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, _SQUEEZE * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_SQUEEZE * growth)
        self.conv2 = nn.Conv2d(_SQUEEZE * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(functional.relu(self.norm2(found)))], dim=1)


class ReidDenseNet(nn.Module):
    """(N, 3, height, width) float images to (N, ``shape.outputs``), not length-normalised: the mean of the last map,
    a sixteenth of each side, behind the BNNeck."""

    def __init__(self, shape: DenseNetShape) -> None:
        super().__init__()
        channels = shape.width
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, channels, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        for number, count in enumerate(shape.blocks, 1):
            block: OrderedDict[str, nn.Module] = OrderedDict(
                (f"denselayer{k + 1}", _Layer(channels + k * shape.growth, shape.growth)) for k in range(count)
            )
            layers[f"denseblock{number}"] = nn.Sequential(block)
            channels += count * shape.growth
            if number < len(shape.blocks):
                half = nn.Conv2d(channels, channels // 2, 1, bias=False)
                between: OrderedDict[str, nn.Module] = OrderedDict(
                    norm=nn.BatchNorm2d(channels), relu=nn.ReLU(), conv=half
                )
                if number < len(shape.blocks) - 1:
                    between["pool"] = nn.AvgPool2d(2, 2)
                layers[f"transition{number}"] = nn.Sequential(between)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.layers = nn.Sequential(layers)
        self.neck = nn.BatchNorm1d(channels)
        self.neck.bias.requires_grad_(False)
        self.identity_sizes = (channels,)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def features(self, images: Tensor) -> Features:
        """Distances are learnt before the BNNeck; classes, by ``identity_sizes`` inputs, behind it."""
        found = functional.relu(self.layers(images)).mean(dim=(2, 3))
        embedding = self.neck(found)
        return Features(embedding, [found], [embedding])

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding
