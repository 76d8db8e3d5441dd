"""ECAPA-TDNN behind two-dimensional convolutions (Thienpondt et al., "Integrating Frequency Translational Invariance in
TDNNs and Frequency Positional Information in 2D ResNets to Enhance Speaker Verification", Interspeech 2021,
arXiv:2104.02370), in small: residual blocks over time and frequency, their maps as the bins of an ECAPA-TDNN.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError
from vidperson.networks.architectures.ecapa import Ecapa
from vidperson.networks.architectures.fbank_resnet import ResidualBlock
from vidperson.networks.architectures.frames import cleared, every_second, frame_mask

_STRIDES = ((2, 1), (2, 2), (2, 2))  # over bins and frames, of the first block of each stage


class EcapaCnn(nn.Module):
    """(N, bins, frames) float features to (N, embedding_size), not length-normalised.

    bins: a multiple of 8. stem: channels of the first of three stages of two blocks; each later stage has twice those.
    width, pooled, gate, attention: as for :class:`~vidperson.networks.architectures.ecapa.Ecapa`, which sees a quarter
    of the frames. Raises ModelError for another number of bins.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int = 192,
        bins: int = 80,
        stem: int = 16,
        pooled: int = 384,
        gate: int = 64,
        attention: int = 64,
    ) -> None:
        super().__init__()
        if bins % 8:
            raise ModelError(f"input.mel_bins: expected a multiple of 8, found {bins}")
        self.conv1 = nn.Conv2d(1, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        blocks, inputs = [], stem
        for number, stride in enumerate(_STRIDES):
            channels = stem << number
            blocks += [ResidualBlock(inputs, channels, stride), ResidualBlock(channels, channels, (1, 1))]
            inputs = channels
        self.blocks = nn.ModuleList(blocks)
        self.tdnn = Ecapa(width, embedding_size, inputs * bins // 8, pooled, gate=gate, attention=attention)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: (N,) frames of each that count, 1 or more; None: all."""
        mask = frame_mask(features, lengths)
        x = cleared(features, mask)[:, None]
        mask = None if mask is None else mask[:, None]
        x = functional.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            x, mask = block(x, mask)
        # Every second frame, twice
        lengths = None if lengths is None else (lengths + 3) // 4
        embedding: Tensor = self.tdnn(x.flatten(1, 2), lengths)
        return embedding
