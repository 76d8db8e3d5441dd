"""Which frames of a batch count: networks for sound take recordings of different lengths at once.

A mask is a boolean tensor, (N, 1, frames), True for frames that count, or None where all do. A recording then gives the
same whatever it is batched with: convolutions see zeros behind its end, and means and variances leave those out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CANCELLED = 1e-8  # a difference of float32 means of squares tells nothing about variances below this


def frame_mask(features: Tensor, lengths: Tensor | None) -> Tensor | None:
    """The mask of (N, bins, frames) features. lengths: (N,) whole numbers, 1 to frames each; None: all frames count."""
    if lengths is None:
        return None
    numbers = torch.arange(features.shape[2], device=lengths.device)
    return (numbers < lengths[:, None])[:, None]


def every_second(mask: Tensor | None) -> Tensor | None:
    """The mask behind a convolution of stride 2, odd kernel and padding of half of it."""
    return None if mask is None else mask[..., ::2]


def cleared(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, channels, frames), or (N, channels, bins, frames) with a mask of four axes: zero in frames that do not count,
    whatever they hold, NaN included."""
    return x if mask is None else x.masked_fill(~mask, 0.0)


def mirrored(x: Tensor, mask: Tensor | None, reach: int) -> Tensor:
    """(N, channels, frames), with ``reach`` frames before and behind that are mirrored at the first and the last frame
    that counts; where there are too few for that, the last or the first one is repeated. All of them count."""
    far = torch.arange(1, reach + 1, device=x.device)
    if mask is None:
        last = x.shape[2] - 1
        before, behind = far.flip(0).clamp(max=last), (last - far).clamp(min=0)
        return torch.cat([x.index_select(2, before), x, x.index_select(2, behind)], dim=2)
    ends = mask.sum(2) - 1
    places = torch.arange(-reach, x.shape[2] + reach, device=x.device)
    places = torch.where(places < 0, torch.minimum(-places, ends), places)
    places = torch.where(places > ends, (2 * ends - places).clamp(min=0), places)
    return x.gather(2, places[:, None].expand(-1, x.shape[1], -1))


def mean_over_frames(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, channels, frames) to (N, channels, 1)."""
    if mask is None:
        return x.mean(2, keepdim=True)
    return cleared(x, mask).sum(2, keepdim=True) / mask.sum(2, keepdim=True)


def statistics(x: Tensor, mask: Tensor | None, sample: bool = True) -> tuple[Tensor, Tensor]:
    """(N, channels, frames) to mean and variance, (N, channels, 1) each.

    sample: the variance is that of a sample, the sum of squares over one less than the frames, or else over the frames;
    that of one frame is 0.
    """
    mean = mean_over_frames(x, mask)
    squares = cleared((x - mean).square(), mask).sum(2, keepdim=True)
    counts = (torch.ones_like(x[:, :1]) if mask is None else mask).sum(2, keepdim=True)
    return mean, squares / (counts - int(sample)).clamp(min=1)


def attentive_statistics(
    x: Tensor, mask: Tensor | None, attention: Callable[[Tensor], Tensor], sample: bool, floor: float, added: bool
) -> Tensor:
    """(N, channels, frames) to weighted means and deviations, (N, 2 * channels).

    attention: frames, their mean and their deviation, (N, 3 * channels, frames), to scores, of which softmax over the
    frames makes weights. sample: see :func:`statistics`. floor: of variances; added: it is added to that one, or else
    it is raised to it.
    """
    mean, variance = statistics(x, mask, sample)
    variance = variance + floor if added else variance.clamp(min=floor)
    scores = attention(torch.cat([x, mean.expand_as(x), variance.sqrt().expand_as(x)], dim=1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weighted = x * (weights := scores.softmax(2))
    mean = weighted.sum(2)
    if floor < _CANCELLED:
        variance = ((x - mean[..., None]).square() * weights).sum(2)
    else:  # a pass less over all frames
        variance = (weighted * x).sum(2) - mean.square()
    return torch.cat([mean, variance.clamp(min=floor).sqrt()], dim=1)
