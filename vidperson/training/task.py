"""What an embedding network is trained for: identities, and what teachers say of the same crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidperson.errors import TrainingError
from vidperson.networks.architectures.features import Features
from vidperson.networks.card import PictureInput
from vidperson.training.batches import Normalise
from vidperson.training.losses import IdentityLoss, TripletLoss, cosine_distillation, relational_distillation
from vidperson.types import Float, Image

_CHUNK = 16  # crops per call of the teacher: what a processor's cache holds


@dataclass(frozen=True)
class Teaching:
    """How teachers are imitated. sizes: values of an embedding of each. weights: of each; empty: all alike, their sum
    being 1. cosine, relation: weights of the two terms, that of identities being 1.

    Raises TrainingError for weights below 0, or not one per teacher.
    """

    sizes: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    cosine: float = 0.0
    relation: float = 0.0

    def __post_init__(self) -> None:
        given = {"cosine_weight": self.cosine, "relation_weight": self.relation}
        for name, weight in (*given.items(), *(("teacher_weights", weight) for weight in self.weights)):
            if not 0 <= weight < math.inf:
                raise TrainingError(f"{name}: expected 0 or more, found {weight}")
        if self.weights and len(self.weights) != len(self.sizes):
            raise TrainingError(
                f"teacher_weights: expected {len(self.sizes)}, one a teacher, found {len(self.weights)}"
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each teacher."""
        return self.weights or (1 / max(1, len(self.sizes)),) * len(self.sizes)


NO_TEACHER = Teaching()


@dataclass(frozen=True)
class Triplets:
    """The loss of distances. weight: that of identities being 1. behind_neck: it is taken of the features that classes
    are learnt on, behind the batch norm, and not of those before it."""

    loss: TripletLoss
    weight: float = 1.0
    behind_neck: bool = False


class EmbedderTask(nn.Module):
    """An embedding network, and the heads that it is trained with; see :mod:`vidperson.training.loop`.

    network: float items to (N, D), perhaps with ``features`` for the losses of identities, see
    :class:`~vidperson.networks.architectures.features.Features`. prepare: crops to what the network takes, such as
    :class:`~vidperson.training.batches.Normalise` for pictures.
    identity: loss over the classes, one for each of the features for classes; their sum counts. triplets: their sum
    over the features for distances. Without either the network learns from teachers only.
    classes: their names, by which a training that starts from the network finds their centres; empty: centres are not
    kept with it.
    teaching: of the teachers; where the size of one is not D, the cosine term compares it with a linear map of the
    student's, which is trained along.
    Raises TrainingError where nothing is left to learn from.
    """

    def __init__(
        self,
        network: nn.Module,
        embedding_size: int,
        prepare: nn.Module,
        identity: Sequence[IdentityLoss] = (),
        teaching: Teaching = NO_TEACHER,
        triplets: Triplets | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not identity and not triplets and not (teaching.sizes and teaching.cosine + teaching.relation > 0):
            raise TrainingError(
                "there is nothing to learn from: neither identities nor a teacher with a weight above 0"
            )
        self.network, self.identity, self.triplets, self.teaching = network, nn.ModuleList(identity), triplets, teaching
        self.projections = nn.ModuleList(
            nn.Linear(embedding_size, size, bias=False) if size != embedding_size and teaching.cosine else nn.Identity()
            for size in teaching.sizes
        )
        self.prepare, self.classes = prepare, classes

    def begin_step(self, epoch: float) -> None:
        """See :mod:`vidperson.training.loop`."""
        for head in self.identity:
            head.begin_step(epoch)  # type: ignore[operator]

    def kept(self) -> dict[str, Any]:
        """See :mod:`vidperson.training.loop`."""
        if not self.classes:
            return {}
        return {"classes": list(self.classes), "centres": [head.weight for head in self.identity]}

    def forward(
        self, crops: Tensor, labels: Tensor, other_labels: Tensor, share: Tensor, teacher: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of one batch, by name; ``loss`` is their weighted sum.

        crops: (N, ...) for ``prepare``, pictures (N, height, width, 3) uint8 RGB. labels, other_labels: (N,), below 0
        where nobody is known; share: (N,) of the first label in a mixed crop. teacher: (N, E) the teachers' embeddings
        of the same crops, side by side.
        """
        features = _features(self.network, self.prepare(crops))
        embeddings = features.embedding
        terms: dict[str, Tensor] = {}
        total = embeddings.new_zeros(())
        known = labels >= 0
        if self.identity and bool(known.any()):
            terms |= self._identity(features.identity, known, labels, other_labels, share)
            total = total + terms["identity"]
        if self.triplets and bool(known.any()):
            chosen = features.identity if self.triplets.behind_neck else features.metric
            losses, right = zip(*(self.triplets.loss(part[known], labels[known]) for part in chosen), strict=True)
            terms["triplets"] = torch.stack(losses).sum()
            terms["train_nearest"] = torch.cat(right).float().sum() / max(1, sum(map(len, right)))
            total = total + self.triplets.weight * terms["triplets"]
        if teacher is not None:
            terms |= self._taught(embeddings, teacher)
            total = total + self.teaching.relation * terms["relation"]
            if self.teaching.cosine:
                total = total + self.teaching.cosine * terms["cosine"]
        return {"loss": total, **terms}

    def _identity(
        self, features: list[Tensor], known: Tensor, labels: Tensor, other_labels: Tensor, share: Tensor
    ) -> dict[str, Tensor]:
        labels, other_labels, share = labels[known], other_labels[known], share[known]
        total, rights = features[0].new_zeros(()), []
        for head, part in zip(self.identity, features, strict=True):
            losses, right = head(part[known], labels)
            if bool((share < 1).any()):
                losses = share * losses + (1 - share) * head(part[known], other_labels)[0]
            total = total + losses.mean()
            rights.append(right)
        return {"identity": total, "train_accuracy": torch.stack(rights).float().mean()}

    def _taught(self, embeddings: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        parts, shares = teacher.split(self.teaching.sizes, dim=1), self.teaching.shares
        said = list(zip(shares, parts, self.projections, strict=True))
        terms = {"relation": sum(share * relational_distillation(embeddings, part) for share, part, _ in said)}
        if self.teaching.cosine:
            terms["cosine"] = sum(share * cosine_distillation(map_(embeddings), part) for share, part, map_ in said)
        return terms  # type: ignore[return-value]


def _features(network: nn.Module, pictures: Tensor) -> Features:
    """What a network gives to the losses, in float32; a plain one its embedding to all of them."""
    if not hasattr(network, "features"):
        embedding = network(pictures).float()
        return Features(embedding, [embedding], [embedding])
    found: Features = network.features(pictures)  # type: ignore[operator]
    metric, identity = ([each.float() for each in parts] for parts in (found.metric, found.identity))
    return Features(found.embedding.float(), metric, identity)


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
    def forward(self, crops: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 crops on its device to (N, E) float32."""
        top, left = (crops.shape[1] - self.height) // 2, (crops.shape[2] - self.width) // 2
        crops = crops[:, top : top + self.height, left : left + self.width]
        pictures = self.normalise(crops.flip(3) if self.flipped else crops)
        embeddings: Tensor = self.module(pictures)[0]
        if self.mirror != "none":
            both = embeddings, self.module(pictures.flip(3))[0]
            embeddings = torch.cat(both, dim=1) if self.mirror == "concatenate" else both[0] + both[1]
        return embeddings.float()


def ask_engine(embed: Callable[[Image], Float]) -> Callable[[Tensor], Tensor]:
    """A teacher behind an engine, as :func:`ask_teachers` asks it. embed: (N, height, width, 3) uint8 RGB to (N, E)."""

    def ask(crops: Tensor) -> Tensor:
        images = crops.numpy()
        parts = [embed(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
        return torch.from_numpy(np.concatenate(parts))

    return ask


def ask_teachers(teachers: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What :class:`~vidperson.training.batches.TaughtBatches` asks: all teachers' embeddings of the very crops.

    teachers: each (N, height, width, 3) uint8 RGB to (N, E) float32; the answers are put side by side.
    """
    return lambda batch: {"teacher": torch.cat([teacher(batch["crops"]) for teacher in teachers], dim=1)}
