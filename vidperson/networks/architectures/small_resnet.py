"""A small residual network of dense 3x3 convolutions, which CPUs run and train faster than depth-wise ones.

Residual blocks as in He et al., CVPR 2016; the head is that of MobileFaceNet (arXiv:1804.07573, section 3.1): one
depth-wise convolution over the whole last map, which weights places, instead of an average.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from vidperson.networks.architectures.features import Features


@dataclass(frozen=True)
class SmallShape:
    """stem: channels of the first convolution, which halves the picture. stages: channels, blocks and stride of the
    first block of each.
    """

    stem: int
    stages: tuple[tuple[int, int, int], ...]


USUAL = SmallShape(32, ((64, 1, 2), (128, 4, 2), (256, 1, 2)))
HALF = SmallShape(24, ((48, 1, 2), (96, 2, 2), (192, 1, 2)))
"""0.9 million parameters for 128 x 64 pixels and 256 values."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(inputs, outputs, 3, stride), nn.ReLU(), _conv(outputs, outputs))
        self.skip = nn.Identity() if stride == 1 and inputs == outputs else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.skip(x))


class SmallResNet(nn.Module):
    """(N, 3, height, width) float images, multiples of 16, to (N, embedding_size), not length-normalised.

    About 2.1 million parameters for 112 x 112 pixels and 128 values. identity_sizes: of the inputs of a classifier.
    """

    def __init__(
        self, height: int = 112, width: int = 112, embedding_size: int = 128, shape: SmallShape = USUAL
    ) -> None:
        super().__init__()
        self.identity_sizes = (embedding_size,)
        channels = shape.stem
        self.stem = nn.Sequential(_conv(3, channels, 3, 2), nn.ReLU())
        blocks: list[nn.Module] = []
        for outputs, repeats, stride in shape.stages:
            for repeat in range(repeats):
                blocks.append(_Block(channels, outputs, stride if repeat == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(
            nn.Conv2d(channels, channels, (height // 16, width // 16), groups=channels, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.linear = nn.Linear(channels, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)

    def features(self, images: Tensor) -> Features:
        """The embedding is what both kinds of losses take."""
        embedding = self(images)
        return Features(embedding, [embedding], [embedding])

    def forward(self, images: Tensor) -> Tensor:
        return self.bn(self.linear(self.pool(self.blocks(self.stem(images))).flatten(1)))
