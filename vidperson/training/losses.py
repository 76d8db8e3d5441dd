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
MINING = ("hard", "all", "weighted")


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


def nearer_others(cosines: Tensor, labels: Tensor, count: int, angle: float) -> Tensor:
    """Inter-top-k penalty: the ``count`` wrong classes that an item is nearest to seem ``angle`` radians nearer still.

    From Zhao et al., "Multi-query multi-head attention pooling and inter-topK penalty for speaker verification", ICASSP
    2022 (arXiv:2110.05042), as WeSpeaker computes it. cosines: (N, C). labels: (N,). Returns (N, C): cos(theta - angle)
    for these classes, the cosines themselves for all others and for the label's.
    """
    others = cosines.scatter(1, labels[:, None], -math.inf)
    nearest = others.topk(min(count, cosines.shape[1] - 1), dim=1).indices
    found = cosines.gather(1, nearest)
    sine = (1 - found * found).clamp_min(1e-12).sqrt()
    return cosines.scatter(1, nearest, found * math.cos(angle) + sine * math.sin(angle))


def risen_share(epoch: float, first: float, last: float) -> float:
    """How much of a margin there is ``epoch`` epochs after the start: 0 up to ``first``, 1 from ``last`` on.

    In between it rises as 1 - 1000^-x, x going from 0 to 1 (the margin scheduler of WeSpeaker): fast at first.
    """
    if epoch >= last:
        return 1.0
    return 0.0 if epoch <= first else 1 - 1000 ** -((epoch - first) / (last - first))


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
    smoothing: share of the target that is spread evenly over all classes (label smoothing, Szegedy et al., CVPR 2016).
    top_k, top_k_angle: see :func:`nearer_others`; 0: none. rises: epochs between which margin and angle rise from 0,
    see :func:`risen_share`; empty: they are there from the start. :meth:`begin_step` has to be called then.
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
        smoothing: float = 0.0,
        top_k: int = 0,
        top_k_angle: float = 0.0,
        rises: tuple[int, ...] = (),
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
        if not 0 <= smoothing < 1:
            raise TrainingError(f"label smoothing: expected 0 or more and below 1, found {smoothing:g}")
        if rises and (len(rises) != 2 or not 0 <= rises[0] < rises[1]):
            raise TrainingError(f"margin: expected two epochs between which it rises, found {rises}")
        if (top_k or rises) and kind == "softmax":
            raise TrainingError("a margin that rises and nearer others need arcface or cosface")
        if top_k < 0 or not 0 <= top_k_angle < math.pi / 2:
            raise TrainingError(
                f"nearer others: expected 0 or more, and 0 to pi / 2, found {top_k} and {top_k_angle:g}"
            )
        self.top_k, self.top_k_angle, self.rises, self.share = top_k, top_k_angle, rises, 1.0
        self.kind, self.scale, self.margin, self.sample_rate = kind, scale, margin, sample_rate
        self.smoothing = smoothing
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, sub_centres, embedding_size).normal_(0, 0.01))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if kind == "softmax" else None

    def begin_step(self, epoch: float) -> None:
        """Set the margin for a step, ``epoch`` epochs after the start."""
        if self.rises:
            self.share = risen_share(epoch, *self.rises)

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
        if self.top_k and self.share:
            cosines = nearer_others(cosines, labels, self.top_k, self.top_k_angle * self.share)
        margin = arcface_logits if self.kind == "arcface" else cosface_logits
        return margin(cosines, labels, self.scale, self.margin * self.share)

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) losses, and (N,) bool whether the label's class had the largest logit, margin included."""
        with torch.autocast(embeddings.device.type, enabled=False):
            classes = None
            if self.sample_rate < 1:
                classes, labels = sample_classes(labels, self.num_classes, self.sample_rate)
            logits = self.logits(embeddings, labels, classes)
            losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
            return losses, logits.argmax(dim=1) == labels


class TripletLoss(nn.Module):
    """An item is to be nearer to those of its own identity than to all others of the batch, by Euclidean distance.

    mining: which triplets of an anchor a, a positive p and a negative n count, d being distances.
        "hard": d(a, furthest p) and d(a, nearest n) (Hermans et al., "In Defense of the Triplet Loss", 2017, eq. 5).
        "all": every triplet (their eq. 6); with a margin the mean is over those that violate it.
        "weighted": the mean of d(a, p) with the weights softmax(d), of d(a, n) with softmax(-d) (Ristani and Tomasi,
        "Features for Multi-Target Multi-Camera Tracking", CVPR 2018, eq. 5): hard triplets count most.
    margin: max(0, d(a, p) - d(a, n) + margin); None for the soft margin, log(1 + exp(d(a, p) - d(a, n))).
    Raises TrainingError for settings that make no sense.
    """

    def __init__(self, mining: str = "hard", margin: float | None = None) -> None:
        super().__init__()
        if mining not in MINING:
            raise TrainingError(f"triplets: expected one of {' '.join(MINING)}, found '{mining}'")
        if margin is not None and not 0 < margin < math.inf:
            raise TrainingError(f"triplets: expected a margin above 0, or none for the soft one, found {margin:g}")
        self.mining, self.margin = mining, margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of (N, D) embeddings with (N,) labels, and (A,) bool whether an anchor's furthest positive is
        nearer than its nearest negative.

        Anchors are the A items that have another of their identity in the batch, and one of another identity. Without
        any the loss is 0.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            # Not by inner products, which lose the small distances.
            distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
            same = labels[:, None] == labels
            positives, negatives = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
            anchors = positives.any(dim=1) & negatives.any(dim=1)
            distances, positives, negatives = distances[anchors], positives[anchors], negatives[anchors]
            if not len(distances):
                return embeddings.sum() * 0, anchors[:0]
            furthest = distances.where(positives, -math.inf).amax(dim=1)
            nearest = distances.where(negatives, math.inf).amin(dim=1)
            if self.mining == "all":
                return self._all(distances, positives, negatives), furthest < nearest
            apart = furthest - nearest
            if self.mining == "weighted":
                apart = _softmax_mean(distances, positives) - _softmax_mean(distances, negatives, -1)
            return self._margin(apart).mean(), furthest < nearest

    def _all(self, distances: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        losses = self._margin(distances[:, :, None] - distances[:, None, :])
        counted = positives[:, :, None] & negatives[:, None, :]
        if self.margin is not None:
            counted = counted & (losses > 0)
        return losses.where(counted, 0).sum() / counted.sum().clamp_min(1)

    def _margin(self, apart: Tensor) -> Tensor:
        return functional.softplus(apart) if self.margin is None else (apart + self.margin).clamp_min(0)


def _softmax_mean(distances: Tensor, chosen: Tensor, sign: int = 1) -> Tensor:
    """(A,) means of the chosen of (A, N) distances, weighted by the softmax of the distances times ``sign``."""
    weights = (sign * distances).where(chosen, -math.inf).softmax(dim=1)
    return (weights * distances).sum(dim=1)


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
