"""OSNet (Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, arXiv:1905.00953).

Each block has four streams of one to four light 3x3 convolutions, which see 3 to 9 pixels; a gate that they share
weighs their channels, anew for each picture. Module names follow torchreid, so that its checkpoints load.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from vidperson.networks.architectures.features import Features

# channels of the stem and of the three stages
WIDTHS = {
    "osnet_x0_25": (16, 64, 96, 128),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x1_0": (64, 256, 384, 512),
}
STREAMS = 4
_SQUEEZE = 4  # a block's inner channels are this part of its outputs
_GATE = 16  # and the gate's this part of them


class _Conv(nn.Module):
    """Convolution, batch norm and, unless linear, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.linear else functional.relu(x)


class _LightConv(nn.Module):
    """A 3x3 convolution as two: 1x1 over the channels, 3x3 within each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv2(self.conv1(x))))


class _Gate(nn.Module):
    """Channels weighted by 0..1, after what they are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _GATE, 1)
        self.fc2 = nn.Conv2d(channels // _GATE, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * self.fc2(functional.relu(self.fc1(mean))).sigmoid()


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inner = outputs // _SQUEEZE
        self.conv1 = _Conv(inputs, inner)
        self.conv2a = _LightConv(inner)
        self.conv2b, self.conv2c, self.conv2d = (
            nn.Sequential(*(_LightConv(inner) for _ in range(depth))) for depth in range(2, STREAMS + 1)
        )
        self.gate = _Gate(inner)
        self.conv3 = _Conv(inner, outputs, linear=True)
        self.downsample = None if inputs == outputs else _Conv(inputs, outputs, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.conv1(x)
        streams = self.gate(self.conv2a(x)) + self.gate(self.conv2b(x))
        streams = streams + self.gate(self.conv2c(x)) + self.gate(self.conv2d(x))
        return functional.relu(self.conv3(streams) + kept)


class OSNet(nn.Module):
    """(N, 3, height, width) float images, multiples of 16, to (N, embedding_size), 0 or more each.

    widths: channels of the stem and of the three stages, e.g. a value of ``WIDTHS``. blocks: in each stage.
    """

    def __init__(
        self, widths: tuple[int, int, int, int], embedding_size: int = 512, blocks: tuple[int, int, int] = (2, 2, 2)
    ) -> None:
        super().__init__()
        self.conv1 = _Conv(3, widths[0], 7, 2)
        stages = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            layers: list[nn.Module] = [_Block(outputs if k else inputs, outputs) for k in range(blocks[number])]
            if number < 2:
                layers.append(nn.Sequential(_Conv(outputs, outputs), nn.AvgPool2d(2, 2)))
            stages.append(nn.Sequential(*layers))
        self.conv2, self.conv3, self.conv4 = stages
        self.conv5 = _Conv(widths[3], widths[3])
        self.fc = nn.Sequential(nn.Linear(widths[3], embedding_size), nn.BatchNorm1d(embedding_size), nn.ReLU())
        self.identity_sizes = (embedding_size,)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Features:
        """The embedding is what both kinds of losses take; classifiers of ``identity_sizes`` inputs."""
        embedding = self(images)
        return Features(embedding, [embedding], [embedding])

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(self.conv1(images), 3, 2, 1)
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        found: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return found
