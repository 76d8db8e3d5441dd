"""What an embedding network is trained for: identities, and what a teacher says of the same crops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vidperson.errors import TrainingError
from vidperson.networks.card import PictureInput
from vidperson.training.batches import Normalise
from vidperson.training.losses import IdentityLoss, cosine_distillation, relational_distillation
from vidperson.types import Float, Image

_CHUNK = 16  # crops per call of the teacher: what a processor's cache holds


class EmbedderTask(nn.Module):
    """An embedding network, and the heads that it is trained with; see :mod:`vidperson.training.loop`.

    network: (N, 3, 112, 112) float to (N, D). mean, std: three each, ``(pixel - mean) / std`` on pixels 0..255.
    identity: loss over the classes; None trains only from the teacher.
    teacher_size: E values of the teacher's embeddings; where E is not D, the cosine term compares them with a linear
    map of the student's, which is trained along. cosine_weight, relation_weight: of the terms, identity having 1.
    Raises TrainingError for weights below 0, and where nothing is left to learn from.
    """

    def __init__(
        self,
        network: nn.Module,
        embedding_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        identity: IdentityLoss | None,
        teacher_size: int = 0,
        cosine_weight: float = 0.0,
        relation_weight: float = 0.0,
    ) -> None:
        super().__init__()
        for name, weight in (("cosine_weight", cosine_weight), ("relation_weight", relation_weight)):
            if not weight >= 0:
                raise TrainingError(f"{name}: expected 0 or more, found {weight}")
        if identity is None and not (teacher_size and cosine_weight + relation_weight > 0):
            raise TrainingError(
                "there is nothing to learn from: neither identities nor a teacher with a weight above 0"
            )
        self.network, self.identity = network, identity
        self.cosine_weight, self.relation_weight = cosine_weight, relation_weight
        self.projection: nn.Module = nn.Identity()
        if teacher_size not in (0, embedding_size) and cosine_weight > 0:
            self.projection = nn.Linear(embedding_size, teacher_size, bias=False)
        self.normalise = Normalise(mean, std)

    def forward(
        self, crops: Tensor, labels: Tensor, other_labels: Tensor, share: Tensor, teacher: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of one batch, by name; ``loss`` is their weighted sum.

        crops: (N, 112, 112, 3) uint8 RGB. labels, other_labels: (N,); share: (N,) of the first label in a mixed crop.
        teacher: (N, E) the teacher's embeddings of the same crops.
        """
        embeddings = self.network(self.normalise(crops)).float()
        terms: dict[str, Tensor] = {}
        total = embeddings.new_zeros(())
        if self.identity is not None:
            losses, right = self.identity(embeddings, labels)
            if bool((share < 1).any()):
                losses = share * losses + (1 - share) * self.identity(embeddings, other_labels)[0]
            terms |= {"identity": losses.mean(), "train_accuracy": right.float().mean()}
            total = total + terms["identity"]
        if teacher is not None:
            terms["relation"] = relational_distillation(embeddings, teacher)
            total = total + self.relation_weight * terms["relation"]
            if self.cosine_weight:
                terms["cosine"] = cosine_distillation(self.projection(embeddings), teacher)
                total = total + self.cosine_weight * terms["cosine"]
        return {"loss": total, **terms}


class TeacherModule(nn.Module):
    """A teacher on the device that trains, after its card: cut-out, channel order, normalisation, mirrored pass.

    module: (N, 3, H, W) float32 pictures to a list of tensors, the first (N, E). pictures: what it takes.
    mirror: one of :data:`~vidperson.networks.card.MIRROR`.
    """

    def __init__(self, module: nn.Module, pictures: PictureInput, mirror: str) -> None:
        super().__init__()
        assert pictures.width and pictures.height
        self.module, self.mirror = module, mirror
        self.normalise = Normalise(pictures.mean, pictures.std)
        self.height, self.width, self.flipped = pictures.height, pictures.width, pictures.channels == "bgr"

    @torch.no_grad()
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What :class:`~vidperson.training.batches.TaughtBatches` asks of a teacher, for ``crops`` on its device."""
        crops = batch["crops"]
        top, left = (crops.shape[1] - self.height) // 2, (crops.shape[2] - self.width) // 2
        crops = crops[:, top : top + self.height, left : left + self.width]
        pictures = self.normalise(crops.flip(3) if self.flipped else crops)
        embeddings = self.module(pictures)[0]
        if self.mirror != "none":
            both = embeddings, self.module(pictures.flip(3))[0]
            embeddings = torch.cat(both, dim=1) if self.mirror == "concatenate" else both[0] + both[1]
        return {"teacher": embeddings.float()}


def ask_teacher(embed: Callable[[Image], Float]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What :class:`~vidperson.training.batches.TaughtBatches` asks of a teacher: its embeddings of the very crops.

    embed: (N, 112, 112, 3) uint8 RGB to (N, E) float32.
    """

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        crops = batch["crops"].numpy()
        parts = [embed(crops[start : start + _CHUNK]) for start in range(0, len(crops), _CHUNK)]
        return {"teacher": torch.from_numpy(np.concatenate(parts))}

    return ask
