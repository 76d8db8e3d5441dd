"""Identifiers: from the vector of a track to a score per person."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import ModelError

KINDS = ("original", "cosine")
SCORES = ("logit", "log-probability")
_MOST = 1 << 16


@dataclass(frozen=True)
class IdentifierShape:
    """What an identifier is made of; as a text, ``cosine hidden=512,512 dropout=0.5 ...``, the name of an architecture.

    kind: "original": as in the iQIYI-VID challenge (deepinx/iqiyi-vid-challenge): fully connected, batch norm, PReLU,
        a shortcut where a layer has as many outputs as inputs, Xavier's Gaussian weights, and a linear classifier.
        "cosine": an affine map, before and after which vectors are made unit vectors; residual blocks that begin as
        identities; and a classifier by cosines.
    hidden: widths of the layers, or blocks, before the classifier. dropout: share of their values left out in training.
    strangers: classes of strangers behind those of the persons; they are no outputs.
    heads: networks beside each other; the score is their mean.
    score: of a person, from the logits z of all classes, for a cosine s times it: "logit": z of the person, for a
        cosine not times s. "log-probability": z less the logarithm of the sum of exp(z) over all classes.
    scale: s.
    Raises ModelError for values that are not possible.
    """

    kind: str = "cosine"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    strangers: int = 0
    heads: int = 1
    score: str = "logit"
    scale: float = 32.0

    def __post_init__(self) -> None:
        for name, value, valid in (("architecture", self.kind, KINDS), ("score", self.score, SCORES)):
            if value not in valid:
                raise ModelError(f"{name}: expected one of {' '.join(valid)}, found '{value}'")
        if not all(0 < width <= _MOST for width in self.hidden) or len(self.hidden) > 16:
            raise ModelError(f"hidden: expected at most 16 widths from 1 to {_MOST}, found {self.hidden}")
        if not (0 <= self.dropout < 1 and self.strangers >= 0 and self.heads >= 1 and 0 < self.scale < float("inf")):
            raise ModelError(
                "expected 0 <= dropout < 1, strangers >= 0, heads >= 1 and scale > 0, found "
                f"{self.dropout:g}, {self.strangers}, {self.heads} and {self.scale:g}"
            )

    def __str__(self) -> str:
        hidden = ",".join(map(str, self.hidden)) or "0"
        return (
            f"{self.kind} hidden={hidden} dropout={self.dropout:g} strangers={self.strangers} heads={self.heads} "
            f"score={self.score} scale={self.scale:g}"
        )

    @classmethod
    def parse(cls, text: str) -> IdentifierShape:
        """The inverse of ``str()``. Raises ModelError for another text."""
        kind, *words = text.split() or [""]
        values = dict(word.partition("=")[::2] for word in words)
        try:
            hidden = tuple(int(width) for width in values.pop("hidden").split(","))
            return cls(
                kind,
                hidden if hidden != (0,) else (),
                float(values.pop("dropout")),
                int(values.pop("strangers")),
                int(values.pop("heads")),
                values.pop("score"),
                float(values.pop("scale")),
            )
        except (KeyError, ValueError):
            raise ModelError(f"architecture: expected such as '{cls()}', found '{text}'") from None


class Identifier(nn.Module):
    """(N, size) float32 vectors to (N, persons) scores for ranking, larger is better; the mean of its heads'."""

    def __init__(self, size: int, persons: int, shape: IdentifierShape) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(size, persons, shape) for _ in range(shape.heads))

    def forward(self, vectors: Tensor) -> Tensor:
        found = [head.scores(vectors) for head in self.heads]  # type: ignore[operator]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)


class Head(nn.Module):
    """(N, size) vectors to the (N, persons + strangers) logits, or cosines, that a loss takes."""

    def __init__(self, size: int, persons: int, shape: IdentifierShape) -> None:
        super().__init__()
        self.persons, self.shape = persons, shape
        self.whitening: nn.Linear | None = None
        if shape.kind != "original":
            self.whitening = nn.Linear(size, size)
            nn.init.eye_(self.whitening.weight)
            nn.init.zeros_(self.whitening.bias)
        layers: list[nn.Module] = []
        for width in shape.hidden:
            if shape.kind == "original":
                layers.append(_Layer(size, width, shape.dropout))
                size = width
            else:
                layers.append(_Block(size, width, shape.dropout))
        self.layers = nn.Sequential(*layers)
        classes = persons + shape.strangers
        self.weight = nn.Parameter(torch.empty(classes, size))
        nn.init.normal_(self.weight, 0, (2 / classes) ** 0.5 if shape.kind == "original" else size**-0.5)
        self.bias = nn.Parameter(torch.zeros(classes)) if shape.kind != "cosine" else None

    def forward(self, vectors: Tensor) -> Tensor:
        if self.whitening is not None:
            vectors = functional.normalize(self.whitening(functional.normalize(vectors)))
        features = self.layers(vectors)
        if self.shape.kind == "cosine":
            return functional.linear(functional.normalize(features), functional.normalize(self.weight))
        return functional.linear(features, self.weight, self.bias)

    def scores(self, vectors: Tensor) -> Tensor:
        """(N, persons) scores, see :class:`IdentifierShape`."""
        logits = self(vectors).float()
        if self.shape.score == "logit":
            return logits[:, : self.persons]
        if self.shape.kind == "cosine":
            logits = logits * self.shape.scale
        return logits[:, : self.persons] - logits.logsumexp(dim=1, keepdim=True)

    @torch.no_grad()
    def start_from(self, origin: Tensor, matrix: Tensor, means: Tensor) -> None:
        """Begin as a comparison with means: rank by the cosine to them exactly.

        origin: (size,), matrix: (size, size): a unit vector x is brought to (x - origin) @ matrix, and to length 1.
        means: (classes, size) of those; for one of zeros the weights stay random.
        """
        assert self.whitening is not None
        self.whitening.weight.copy_(matrix.T)
        self.whitening.bias.copy_(-origin @ matrix)
        known = means.norm(dim=1, keepdim=True) > 0
        self.weight.copy_(functional.normalize(torch.where(known, means, self.weight)))


class _Layer(nn.Module):
    """Fully connected, batch norm, PReLU; with a shortcut where inputs and outputs are as many."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.full, self.norm, self.prelu = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.PReLU(outputs)
        nn.init.normal_(self.full.weight, 0, (2 / outputs) ** 0.5)
        nn.init.zeros_(self.full.bias)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.prelu(self.norm(self.full(x))))
        return x + y if self.shortcut else y


class _Block(nn.Module):
    """What is added to a vector: of so many features of it; nothing to begin with."""

    def __init__(self, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.full, self.norm, self.prelu = nn.Linear(size, width, bias=False), nn.BatchNorm1d(width), nn.PReLU(width)
        self.dropout = nn.Dropout(dropout)
        self.back = nn.Linear(width, size, bias=False)
        nn.init.zeros_(self.back.weight)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.back(self.dropout(self.prelu(self.norm(self.full(x)))))
        return x + added
