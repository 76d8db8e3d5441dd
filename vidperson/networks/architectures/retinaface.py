"""RetinaFace: a backbone, a feature pyramid, SSH context modules, and heads over two anchors per place.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019 (arXiv:1905.00641). Module names
of the MobileNet-0.25 variant follow the public checkpoint of biubug6/Pytorch_Retinaface (MIT), so that its state dict
loads as it is.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

NUM_ANCHORS = 2
SLOPE = 0.1
PRIOR = 0.01  # probability of an anchor before training (Lin et al., Focal Loss, ICCV 2017, section 4.1)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE),
    )


class _MobileNet025(nn.Module):
    """MobileNet v1 at a quarter of its width; features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            _conv(3, 8, stride=2),
            _separable(8, 16),
            _separable(16, 32, 2),
            _separable(32, 32),
            _separable(32, 64, 2),
            _separable(64, 64),
        )
        self.stage2 = nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.stage1(images)
        stride16 = self.stage2(stride8)
        return stride8, stride16, self.stage3(stride16)


class _Pyramid(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017) of three levels; where a level is narrower than the one above it, what
    comes down is brought to its width."""

    def __init__(self, widths: tuple[int, int, int], outputs: tuple[int, int, int]) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_conv(*ends, 1) for ends in zip(widths, outputs, strict=True))
        self.merge1 = _conv(outputs[0], outputs[0])
        self.merge2 = _conv(outputs[1], outputs[1])
        self.down1, self.down2 = (
            nn.Identity() if above == below else _conv(above, below, 1) for below, above in itertools.pairwise(outputs)
        )

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        stride8, stride16, stride32 = (
            self.output1(features[0]),
            self.output2(features[1]),
            self.output3(features[2]),
        )
        stride16 = self.merge2(stride16 + nn.functional.interpolate(self.down2(stride32), scale_factor=2.0))
        stride8 = self.merge1(stride8 + nn.functional.interpolate(self.down1(stride16), scale_factor=2.0))
        return stride8, stride16, stride32


class _Context(nn.Module):
    """SSH context module (Najibi et al., ICCV 2017): 3x3, 5x5 and 7x7 receptive fields side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv3X3 = _conv(width, width // 2, relu=False)
        self.conv5X5_1 = _conv(width, width // 4)
        self.conv5X5_2 = _conv(width // 4, width // 4, relu=False)
        self.conv7X7_2 = _conv(width // 4, width // 4)
        self.conv7x7_3 = _conv(width // 4, width // 4, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        shared = self.conv5X5_1(features)
        wide = self.conv7x7_3(self.conv7X7_2(shared))
        return torch.relu(torch.cat([self.conv3X3(features), self.conv5X5_2(shared), wide], dim=1))


class _Head(nn.Module):
    """(N, C, H, W) features to (N, H * W * anchors, values)."""

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(width, NUM_ANCHORS * values, 1)

    def forward(self, features: Tensor) -> Tensor:
        anchors = self.conv1x1(features).permute(0, 2, 3, 1)
        return anchors.reshape(anchors.shape[0], -1, self.values)


class _Residual(nn.Module):
    """Two 3x3 convolutions and what went into them (He et al., CVPR 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(_conv(width, width, relu=False), nn.ReLU())
        self.conv2 = _conv(width, width, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.conv2(self.conv1(features)))


class _Dense(nn.Module):
    """Dense 3x3 convolutions, which CPUs run faster than depth-wise ones; features at strides 8, 16 and 32."""

    def __init__(self, stem: tuple[int, int], widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()

        def shrink(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(_conv(inputs, outputs, stride=2, relu=False), nn.ReLU())

        self.stem = nn.Sequential(shrink(3, stem[0]), shrink(stem[0], stem[1]))
        inputs = (stem[1], *widths[:2])
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(shrink(before, width), *(_Residual(width) for _ in range(count)))
            for before, width, count in zip(inputs, widths, blocks, strict=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.stage1(self.stem(images))
        stride16 = self.stage2(stride8)
        return stride8, stride16, self.stage3(stride16)


class RetinaFace(nn.Module):
    """(N, 3, H, W) float images, H and W multiples of 32, to raw predictions for A anchors.

    Returns boxes (N, A, 4), their probability (N, A) and landmarks (N, A, 10); anchors run over strides 8, 16, 32, then
    rows, columns and sizes. ``vidperson.face.detector`` turns them into pixels.
    backbone: images to features at strides 8, 16, 32. widths: their channels. outputs: channels of the pyramid.
    """

    def __init__(self, backbone: nn.Module, widths: tuple[int, int, int], outputs: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = _Pyramid(widths, outputs)
        self.ssh1, self.ssh2, self.ssh3 = (_Context(width) for width in outputs)
        self.ClassHead = nn.ModuleList(_Head(width, 2) for width in outputs)
        self.BboxHead = nn.ModuleList(_Head(width, 4) for width in outputs)
        self.LandmarkHead = nn.ModuleList(_Head(width, 10) for width in outputs)

        background_and_object = torch.tensor([0.0, math.log(PRIOR / (1 - PRIOR))])
        for head in self.ClassHead:
            head.load_state_dict({"conv1x1.bias": background_and_object.repeat(NUM_ANCHORS)}, strict=False)

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the call, but with the scores (N, A, 2) of background and object before the softmax."""
        pyramid = self.fpn(self.body(images))
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), pyramid, strict=True)]

        def predict(heads: nn.ModuleList) -> Tensor:
            return torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)

        return predict(self.BboxHead), predict(self.ClassHead), predict(self.LandmarkHead)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, landmarks = self.logits(images)
        return boxes, scores.softmax(dim=-1)[..., 1], landmarks


class RetinaFaceMobileNet025(RetinaFace):
    """The variant of the public checkpoint: MobileNet v1 at a quarter of its width, 0.43 million parameters."""

    def __init__(self) -> None:
        super().__init__(_MobileNet025(), (64, 128, 256), (64, 64, 64))


class RetinaFaceTiny(RetinaFace):
    """Less work, but not fewer parameters (0.8 million): dense convolutions, most of them where faces of 45 to 180
    pixels are found, at stride 16."""

    def __init__(self) -> None:
        super().__init__(_Dense((16, 24), (32, 64, 96), (1, 3, 2)), (32, 64, 96), (24, 64, 64))
