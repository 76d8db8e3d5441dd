"""Losses that teach a network identities, and those that teach it what a teacher network says.

Everything is computed in float32, whatever autocast is on. Embeddings come as they leave the network, not
length-normalised; labels are class numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import TrainingError

LOSSES = ("arcface", "cosface", "softmax")


def arcface_logits(cosines: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Additive angular margin (Deng et al., ArcFace, CVPR 2019, eq. 3; AAM-softmax in speaker recognition).

    cosines: (N, C) between embeddings and class centres. labels: (N,).
    Returns (N, C): s cos(theta + m) for the label's class, s cos(theta) for the others. Beyond theta = pi - m, where
    cos(theta + m) would rise again, cos(theta) - m sin(m) goes on falling (as in the authors' implementation).
    """
    target = cosines.gather(1, labels[:, None])
    sine = (1 - target * target).clamp_min(1e-12).sqrt()
    shifted = target * math.cos(margin) - sine * math.sin(margin)
    shifted = torch.where(target > math.cos(math.pi - margin), shifted, target - margin * math.sin(margin))
    return scale * cosines.scatter(1, labels[:, None], shifted)


def cosface_logits(cosines: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Additive cosine margin (Wang et al., CosFace, CVPR 2018, eq. 4): s (cos(theta) - m) for the label's class.

    Shapes as in :func:`arcface_logits`.
    """
    target = cosines.gather(1, labels[:, None])
    return scale * cosines.scatter(1, labels[:, None], target - margin)


def sample_classes(labels: Tensor, num_classes: int, rate: float) -> tuple[Tensor, Tensor]:
    """Partial FC (An et al., CVPR 2022): every class of the batch, filled up with random others.

    Returns the (K,) classes in ascending order, K = max(classes of the batch, rate * num_classes rounded up), and the
    (N,) labels as positions among them. Draws from torch's generator of the labels' device.
    """
    count = math.ceil(rate * num_classes)
    present = torch.unique(labels)
    if len(present) < count:
        order = torch.rand(num_classes, device=labels.device)
        order[present] = 2.0
        present = order.topk(count).indices.sort().values
    return present, torch.searchsorted(present, labels)


class IdentityLoss(nn.Module):
    """Class centres and the softmax cross-entropy over them.

    kind: arcface, cosface, or softmax (inner products and a bias, without scale and margin).
    sub_centres: centres per class, of which the nearest counts (Deng et al., Sub-center ArcFace, ECCV 2020).
    sample_rate: share of the classes that each step sees (partial FC); below 1 it saves time and memory.
    Raises TrainingError for settings that make no sense.
    """

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        kind: str = "arcface",
        scale: float = 64.0,
        margin: float = 0.4,
        sub_centres: int = 1,
        sample_rate: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise TrainingError(f"loss: expected one of {' '.join(LOSSES)}, found '{kind}'")
        if kind == "softmax" and sub_centres != 1:
            raise TrainingError("sub-centres need a loss with normalised centres: arcface or cosface")
        if num_classes < 2:
            raise TrainingError(f"expected at least 2 identities to tell apart, found {num_classes}")
        if not 0 < sample_rate <= 1 or sub_centres < 1 or scale <= 0 or not 0 <= margin < math.pi / 2:
            raise TrainingError(
                "expected 0 < sample rate <= 1, sub-centres >= 1, scale > 0 and 0 <= margin < pi / 2, "
                f"found {sample_rate:g}, {sub_centres}, {scale:g} and {margin:g}"
            )
        self.kind, self.scale, self.margin, self.sample_rate = kind, scale, margin, sample_rate
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, sub_centres, embedding_size).normal_(0, 0.01))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if kind == "softmax" else None

    def logits(self, embeddings: Tensor, labels: Tensor, classes: Tensor | None = None) -> Tensor:
        """(N, D) embeddings and (N,) labels to (N, K) logits over ``classes`` (all without it).

        labels: positions among ``classes``.
        """
        embeddings = embeddings.float()
        weight = self.weight.float() if classes is None else self.weight[classes].float()
        if self.bias is not None:
            bias = self.bias.float() if classes is None else self.bias[classes].float()
            return functional.linear(embeddings, weight[:, 0], bias)
        num, sub, size = weight.shape
        cosines = functional.normalize(embeddings) @ functional.normalize(weight.reshape(-1, size)).T
        cosines = cosines.reshape(-1, num, sub).amax(dim=2)
        margin = arcface_logits if self.kind == "arcface" else cosface_logits
        return margin(cosines, labels, self.scale, self.margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) losses, and (N,) bool whether the label's class had the largest logit, margin included."""
        with torch.autocast(embeddings.device.type, enabled=False):
            classes = None
            if self.sample_rate < 1:
                classes, labels = sample_classes(labels, self.num_classes, self.sample_rate)
            logits = self.logits(embeddings, labels, classes)
            return functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(dim=1) == labels


def cosine_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos(student, teacher) over a batch of (N, D) embeddings each."""
    return (1 - functional.cosine_similarity(student.float(), teacher.float())).mean()


def relational_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all pairs of a batch, in the student and in the teacher.

    student: (N, D), teacher: (N, E); the sizes may differ, since only relations are compared (in the manner of Park
    et al., Relational Knowledge Distillation, CVPR 2019, with cosines, which is what embeddings are compared by).
    0 for a batch of one.
    """
    with torch.autocast(student.device.type, enabled=False):
        first, second = functional.normalize(student.float()), functional.normalize(teacher.float())
        # The diagonals agree up to rounding: 1 and 1.
        differences = (first @ first.T - second @ second.T).fill_diagonal_(0)
        return differences.square().sum() / max(1, len(first) * (len(first) - 1))
