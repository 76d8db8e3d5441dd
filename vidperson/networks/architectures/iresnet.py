"""iResNet: the residual networks of ArcFace (Deng et al., "ArcFace", CVPR 2019, section 3.1; arXiv:1801.07698).

Pre-activation blocks (batch norm, 3x3, batch norm, PReLU, strided 3x3, batch norm), a stem that keeps the picture's
size, and a fully connected layer over the whole last map. Module names follow InsightFace's ``arcface_torch``, so that
its state dicts load.
"""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        return self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))) + kept


class IResNet(nn.Module):
    """(N, 3, height, width) float images, multiples of 16, to (N, embedding_size), not length-normalised.

    blocks: residual blocks per stage, e.g. a value of ``BLOCKS``. dropout: share of the last map's values that are
    dropped in training.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        height: int = 112,
        width: int = 112,
        embedding_size: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        channels = WIDTHS[0]
        stages = []
        for outputs, repeats in zip(WIDTHS, blocks, strict=True):
            stages.append(
                nn.Sequential(*(_Block(outputs if k else channels, outputs, 1 if k else 2) for k in range(repeats)))
            )
            channels = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels * (height // 16) * (width // 16), embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        self.features.weight.requires_grad_(False)  # stays 1: the margin loss takes the length away anyway
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.dropout(self.bn2(x).flatten(1))))
