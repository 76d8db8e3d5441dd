"""MobileFaceNet (Chen et al., "MobileFaceNets", CCBR 2018, arXiv:1804.07573).

Module names follow the public CASIA-WebFace checkpoint of Xiaoccer/MobileFaceNet_Pytorch, so that its state dict loads.
"""

from __future__ import annotations

from torch import Tensor, nn

# expansion, channels, repeats, stride of the first repeat (Table 1 of the paper)
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class _ConvBlock(nn.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu: nn.Module = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.skip = stride == 1 and inputs == outputs
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileFaceNet(nn.Module):
    """(N, 3, height, width) float images to (N, embedding_size) embeddings, not length-normalised."""

    def __init__(self, height: int = 112, width: int = 112, embedding_size: int = 128) -> None:
        super().__init__()
        self.conv1 = _ConvBlock(3, 64, 3, stride=2, padding=1)
        self.dw_conv1 = _ConvBlock(64, 64, 3, padding=1, groups=64)
        blocks: list[nn.Module] = []
        channels = 64
        for expansion, outputs, repeats, stride in BOTTLENECKS:
            for repeat in range(repeats):
                blocks.append(_Bottleneck(channels, outputs, stride if repeat == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _ConvBlock(channels, 512, 1)
        self.linear7 = _ConvBlock(512, 512, (height // 16, width // 16), groups=512, linear=True)
        self.linear1 = _ConvBlock(512, embedding_size, 1, linear=True)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv2(self.blocks(self.dw_conv1(self.conv1(images))))
        return self.linear1(self.linear7(features)).flatten(1)
