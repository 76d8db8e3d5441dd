"""Residual networks for re-identification: ResNet (He et al., CVPR 2016), ResNeXt (Xie et al., CVPR 2017), and MGN.

The last stage keeps the size of its map (Sun et al., "Beyond Part Models", ECCV 2018). A batch norm without shift, the
"BNNeck", is between the features that distances are learnt on and those that classes are learnt on (Luo et al., "Bag
of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019, arXiv:1903.07071).

MGN (Wang et al., "Learning Discriminative Features with Multiple Granularities for Person Re-Identification", ACM MM
2018, arXiv:1804.01438) parts ways after the first block of the third stage: one branch for the whole person, one that
looks at two horizontal stripes, too, and one at three.

Module names follow torchvision, so that weights learnt on ImageNet load, see ``backbones.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError
from vidperson.networks.architectures.features import Features

STRIPES = (0, 2, 3)  # of the branches of MGN
PARTS = len(STRIPES) + sum(STRIPES)
_EXPANSION = 4


@dataclass(frozen=True)
class ResNetShape:
    """blocks: per stage. groups, group_width: of the 3x3 convolutions, as in ResNeXt. width: channels of the stem."""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64
    width: int = 64

    @property
    def outputs(self) -> int:
        """Channels of the last map."""
        return 8 * _EXPANSION * self.width


SHAPES = {
    "resnet50": ResNetShape((3, 4, 6, 3)),
    "resnet101": ResNetShape((3, 4, 23, 3)),
    "resnet152": ResNetShape((3, 8, 36, 3)),
    "resnext50_32x4d": ResNetShape((3, 4, 6, 3), 32, 4),
    "resnext101_32x8d": ResNetShape((3, 4, 23, 3), 32, 8),
}


class _Block(nn.Module):
    """1x1, strided 3x3 and 1x1 convolutions; width: of the stage, a quarter of its outputs."""

    def __init__(self, inputs: int, width: int, stride: int, shape: ResNetShape) -> None:
        super().__init__()
        inner, outputs = width * shape.group_width // 64 * shape.groups, width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=shape.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + kept)


def _stage(shape: ResNetShape, number: int, stride: int, first: int = 0, until: int | None = None) -> nn.Sequential:
    """Blocks ``first`` to ``until`` of a stage, 0 to 3, named by their numbers."""
    width = shape.width * 2**number
    inputs = width * _EXPANSION // 2 if number else shape.width
    blocks: OrderedDict[str, nn.Module] = OrderedDict(
        (str(k), _Block(width * _EXPANSION if k else inputs, width, 1 if k else stride, shape))
        for k in range(first, shape.blocks[number] if until is None else until)
    )
    return nn.Sequential(blocks)


class _Stem(nn.Module):
    """(N, 3, H, W) images to the map of the second stage, an eighth of each side."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, shape.width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(shape.width)
        self.layer1, self.layer2 = _stage(shape, 0, 1), _stage(shape, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        return self.layer2(self.layer1(x))


class ReidResNet(_Stem):
    """(N, 3, height, width) float images to (N, ``shape.outputs``), not length-normalised: the mean of the last map,
    a sixteenth of each side, behind the BNNeck."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__(shape)
        self.layer3, self.layer4 = _stage(shape, 2, 2), _stage(shape, 3, 1)
        self.neck = nn.BatchNorm1d(shape.outputs)
        self.neck.bias.requires_grad_(False)
        self.identity_sizes = (shape.outputs,)
        _initialise(self)

    def features(self, images: Tensor) -> Features:
        """Distances are learnt before the BNNeck; classes, by ``identity_sizes`` inputs, behind it."""
        found = self.layer4(self.layer3(super().forward(images)))
        found = functional.adaptive_avg_pool2d(found, 1).flatten(1)
        embedding = self.neck(found)
        return Features(embedding, [found], [embedding])

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding


class _Trunk(_Stem):
    """What the branches of MGN share: up to so many blocks of the third stage; None: all."""

    def __init__(self, shape: ResNetShape, until: int | None) -> None:
        super().__init__(shape)
        self.layer3 = _stage(shape, 2, 2, until=until)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer3(super().forward(images))


class MGN(nn.Module):
    """(N, 3, height, width) float images to (N, PARTS * part_size): eight parts, each of length 1 or, rarely, 0.

    The parts are those of the three branches' whole maps, then the two stripes, then the three; each is divided by its
    own length, so that all weigh alike. height: of the images, at least 33 so that there are three stripes.
    Raises ModelError for a smaller one.
    """

    def __init__(self, shape: ResNetShape, height: int = 384, part_size: int = 256) -> None:
        super().__init__()
        self.rows = -(-height // 16)
        if self.rows < max(STRIPES):
            raise ModelError(f"input.height: expected at least {16 * max(STRIPES) - 15} pixels, found {height}")
        self.trunk = _Trunk(shape, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                OrderedDict(layer3=_stage(shape, 2, 2, first=1), layer4=_stage(shape, 3, 1 if stripes else 2))
            )
            for stripes in STRIPES
        )
        self.reductions = nn.ModuleList(
            nn.Sequential(nn.Linear(shape.outputs, part_size, bias=False), nn.BatchNorm1d(part_size), nn.ReLU())
            for _ in range(PARTS)
        )
        self.identity_sizes = (shape.outputs,) * len(STRIPES) + (part_size,) * sum(STRIPES)
        _initialise(self)

    def features(self, images: Tensor) -> Features:
        """As published: distances are learnt on the three whole parts; classes on these before they are reduced, and on
        the reduced stripes, by ``identity_sizes`` inputs."""
        shared = self.trunk(images)
        maps = [branch(shared) for branch in self.branches]
        wholes = [found.amax(dim=(2, 3)) for found in maps]
        stripes = [
            found[:, :, k * self.rows // count : -(-(k + 1) * self.rows // count)].amax(dim=(2, 3))
            for found, count in zip(maps, STRIPES, strict=True)
            for k in range(count)
        ]
        parts = [reduce(found) for reduce, found in zip(self.reductions, wholes + stripes, strict=True)]
        apart = torch.cat(parts, dim=1).unflatten(1, (PARTS, -1))
        embedding = functional.normalize(apart, dim=2).flatten(1)
        return Features(embedding, parts[: len(wholes)], wholes + parts[len(wholes) :])

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding


class TwoBranchMGN(nn.Module):
    """(N, 3, height, width) float images to (N, 4 * ``shape.outputs``): four parts, each of length 1 or, rarely, 0.

    MGN as in "cast_search_by_portrait" (github.com/rogeryang12/cast_search_by_portrait): branches part before the last
    stage. The first halves its map and looks at the whole; the second keeps it and looks at the whole, the upper and
    the lower half. Parts are means of full width, with a BNNeck and a classifier each. Each is divided by its own
    length, and not, as there, by that of the batch. height: of the images.
    """

    def __init__(self, shape: ResNetShape, height: int = 256) -> None:
        super().__init__()
        self.rows = -(-height // 16)
        self.trunk = _Trunk(shape, None)
        self.branches = nn.ModuleList(nn.Sequential(OrderedDict(layer4=_stage(shape, 3, stride))) for stride in (2, 1))
        self.necks = nn.ModuleList(nn.BatchNorm1d(shape.outputs) for _ in range(4))
        for neck in self.necks:
            neck.bias.requires_grad_(False)
        self.identity_sizes = (shape.outputs,) * 4
        _initialise(self)

    def features(self, images: Tensor) -> Features:
        """Distances are learnt on the four parts before their necks, classes by ``identity_sizes`` inputs behind."""
        shared = self.trunk(images)
        small, large = (branch(shared) for branch in self.branches)
        halves = large[:, :, : -(-self.rows // 2)], large[:, :, self.rows // 2 :]
        parts = [found.mean(dim=(2, 3)) for found in (small, large, *halves)]
        behind = [neck(part) for neck, part in zip(self.necks, parts, strict=True)]
        embedding = torch.cat([functional.normalize(part, dim=1) for part in behind], dim=1)
        return Features(embedding, parts, behind)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
