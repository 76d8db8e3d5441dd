"""What a face detector is trained for: marked faces, and what a teacher says at every anchor of the same pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import TrainingError
from vidperson.training.batches import Normalise
from vidperson.types import Float

NEGATIVES_PER_FACE = 7  # hardest background anchors per anchor that stands for a face; 3 in RetinaFace, section 4.2
NEGATIVES_AT_LEAST = 8  # of them in any picture, even in one without a face
WEIGHTS = {"class": 1.0, "box": 2.0, "landmark": 2.0}  # of the losses
BETA = 1 / 9  # where the smooth L1 loss turns from a parabola into a line, in units of the codes
SURE = 0.1  # face probability from which a teacher's box and landmarks are imitated


class DetectorTask(nn.Module):
    """A RetinaFace network, and its losses; see :mod:`vidperson.training.loop`.

    network: a module with ``logits``: (N, 3, H, W) to boxes (N, A, 4), scores (N, A, 2) and landmarks (N, A, 10).
    mean, std: three each, ``(pixel - mean) / std`` on pixels 0..255, RGB.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(mean, std)

    def forward(
        self,
        images: Tensor,
        faces: Tensor | None = None,
        boxes: Tensor | None = None,
        landmarks: Tensor | None = None,
        teacher_scores: Tensor | None = None,
        teacher_boxes: Tensor | None = None,
        teacher_landmarks: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of one batch, by name; ``loss`` is their weighted sum.

        images: (N, H, W, 3) uint8 RGB. faces: (N, A) bool, whether an anchor stands for a marked face. boxes: (N, A, 4)
        and landmarks: (N, A, 10) codes there, NaN where unknown. teacher_*: what the teacher's network says, in the
        same shapes, scores as probabilities. Raises TrainingError with neither marks nor teacher.
        """
        box_codes, logits, landmark_codes = (value.float() for value in self.network.logits(self.normalise(images)))  # type: ignore[operator]
        terms: dict[str, Tensor] = {}
        if faces is not None and boxes is not None and landmarks is not None:
            terms["class"] = hard_negative_loss(logits, faces)
            terms["box"] = code_loss(box_codes, boxes, faces.float())
            terms["landmark"] = code_loss(landmark_codes, landmarks, faces.float())
        if teacher_scores is not None and teacher_boxes is not None and teacher_landmarks is not None:
            weights = teacher_scores * (teacher_scores >= SURE)
            terms["teacher_class"] = probability_loss(logits, teacher_scores)
            terms["teacher_box"] = code_loss(box_codes, teacher_boxes, weights)
            terms["teacher_landmark"] = code_loss(landmark_codes, teacher_landmarks, weights)
        if not terms:
            raise TrainingError("there is nothing to learn from: neither marked faces nor a teacher")
        return {
            "loss": torch.stack([WEIGHTS[name.split("_")[-1]] * value for name, value in terms.items()]).sum(),
            **terms,
        }


def hard_negative_loss(logits: Tensor, faces: Tensor) -> Tensor:
    """Cross-entropy over the face anchors and the hardest background ones of each picture, per face anchor.

    logits: (N, A, 2). faces: (N, A) bool. Online hard negative mining as in SSD (Liu et al., ECCV 2016, section 2.2).
    """
    losses = functional.cross_entropy(logits.flatten(0, 1), faces.long().flatten(), reduction="none").view(faces.shape)
    counts = (faces.sum(dim=1) * NEGATIVES_PER_FACE).clamp(min=NEGATIVES_AT_LEAST)
    background = losses.masked_fill(faces, -1).sort(dim=1, descending=True).values
    ranks = torch.arange(faces.shape[1], device=faces.device)
    hardest = background * ((ranks < counts[:, None]) & (background >= 0))
    return ((losses * faces).sum() + hardest.sum()) / faces.sum().clamp(min=1)


def probability_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the face probabilities from the teacher's, summed over all anchors, over 1 + the
    sum of the teacher's.

    logits: (N, A, 2). probabilities: (N, A). 0 where both agree, so that no anchors need to be chosen.
    """
    margin = logits[..., 1] - logits[..., 0]
    wanted = probabilities.clamp(1e-6, 1 - 1e-6)
    # With logits both: autocast on GPUs refuses the cross-entropy of probabilities.
    cross = functional.binary_cross_entropy_with_logits(margin, wanted, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(wanted.logit(), wanted, reduction="none")
    return (cross - entropy).sum() / (1 + probabilities.sum())


def code_loss(found: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 loss of (N, A, K) codes, summed over K, as the mean over the anchors weighted by (N, A) ``weights``.

    Where ``wanted`` is NaN nothing is asked for. Girshick, Fast R-CNN, ICCV 2015, equation 3, with the parabola up to
    BETA instead of 1: x^2 / (2 BETA), then |x| - BETA / 2.
    """
    known = ~wanted.isnan()
    losses = functional.smooth_l1_loss(found, wanted.where(known, found.detach()), reduction="none", beta=BETA)
    weights = weights * known.any(dim=2)
    return (losses.sum(dim=2) * weights).sum() / weights.sum().clamp(min=1)


def ask_teacher(predict: Callable[[np.ndarray], list[Float]]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What :class:`~vidperson.training.batches.TaughtBatches` asks of a teacher: its outputs at every anchor.

    predict: (N, H, W, 3) uint8 RGB to boxes (N, A, 4), scores (N, A) and landmarks (N, A, 10).
    """

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = [predict(image[None]) for image in batch["images"].numpy()]  # one by one is fastest on a CPU
        boxes, scores, landmarks = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return {
            "teacher_scores": torch.from_numpy(scores),
            "teacher_boxes": torch.from_numpy(boxes),
            "teacher_landmarks": torch.from_numpy(landmarks),
        }

    return ask
