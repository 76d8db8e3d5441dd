"""Training of an identifier, a network from the vectors of tracks to scores of persons: loss, plans, folds, export."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import TrainingError
from vidperson.networks.architectures.identifier import Identifier, IdentifierShape
from vidperson.networks.card import ModelCard, Output, VectorInput
from vidperson.networks.convert import build_network
from vidperson.training import command
from vidperson.training.clips import ClipBatches, Clips, Double, Draw, Float, Index, clusters, stratified
from vidperson.training.command import IdentifierOptions, TrainingOptions, TrainingPlan
from vidperson.training.export import Run, export_module, new_card, write_card
from vidperson.training.loop import BEST, World, load_checkpoint
from vidperson.training.losses import arcface_logits, cosface_logits

LOSSES = ("sigmoid", "softmax", "cosface", "arcface")
THRESHOLD = 0.4  # cosine from which on the sigmoid loss begins to take a clip for a person's
GOAL = "map_100"
Whiten = Callable[[Float, Index], tuple[Double, Double]]
"""(C, D) vectors, (K,) which of them to take -> (D,) origin, (D, D) matrix: (x - origin) @ matrix spread evenly."""


def check_options(how: IdentifierOptions) -> None:
    """Raises TrainingError or ModelError for values that are not possible."""
    if how.loss not in LOSSES:
        raise TrainingError(f"loss: expected one of {' '.join(LOSSES)}, found '{how.loss}'")
    if how.loss == "sigmoid" and how.score != "logit":
        raise TrainingError(f"score: with the loss sigmoid expected logit, found '{how.score}'")
    if how.loss == "sigmoid" and how.focal:
        raise TrainingError("focal: the focal loss is one of softmax, cosface and arcface, not of sigmoid")
    if how.loss != "softmax" and how.architecture != "cosine":
        raise TrainingError(f"loss: {how.loss} needs the architecture cosine, found {how.architecture}")
    if how.folds == 1 or how.folds < 0:
        raise TrainingError(f"folds: expected 0, or 2 or more, found {how.folds}")
    limits = {"margin": 1.5, "focal": 100.0, "stranger_weight": 1e6}
    for name, most in limits.items():
        if not 0 <= getattr(how, name) <= most:
            raise TrainingError(f"{name}: expected 0 to {most:g}, found {getattr(how, name)}")
    Draw.parse(how.items)
    shape_of(how)


def shape_of(how: IdentifierOptions, heads: int = 1) -> IdentifierShape:
    """The network that is asked for. Raises ModelError for what none can be."""
    hidden = tuple(how.hidden) or ((1024, 1024) if how.architecture == "original" else ())
    strangers = how.strangers if how.loss != "sigmoid" else 0
    return IdentifierShape(how.architecture, hidden, how.dropout, strangers, heads, how.score, how.scale)


class IdentifierTask(nn.Module):
    """An identifier of one head and its loss; see :mod:`vidperson.training.loop`.

    persons: labels from this one on are strangers'. Persons and strangers have a mean loss each, and
    ``stranger_weight`` weighs the second; in "original" it weighs strangers within the mean over the batch.
    The loss "sigmoid" asks for each person alone whether a clip shows that one: a stranger shows none, and needs no
    class. It learns a threshold per person along.
    """

    def __init__(self, network: Identifier, persons: int, how: IdentifierOptions) -> None:
        super().__init__()
        self.network, self.persons, self.how = network, persons, how
        self.bias: nn.Parameter | None = None
        if how.loss == "sigmoid":
            self.bias = nn.Parameter(torch.full((persons,), -THRESHOLD * how.scale))

    def forward(self, vectors: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of one batch, by name. vectors: (N, D) float32. labels: (N,) int64."""
        found = self.network.heads[0](vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            stranger = labels >= self.persons
            logits = self._logits(found.float(), labels, stranger)
            if self.bias is None:
                losses = functional.cross_entropy(logits, labels, reduction="none")
            else:
                own = logits.gather(1, labels.clamp(max=self.persons - 1)[:, None])[:, 0]
                losses = functional.softplus(logits).sum(dim=1) - torch.where(stranger, 0.0, own)
            if self.how.focal:
                losses = losses * (-torch.expm1(-losses)).clamp_min(1e-6) ** self.how.focal
            own, others = _mean(losses, ~stranger), _mean(losses, stranger)
            right = _mean((logits.argmax(dim=1) == labels).float(), ~stranger)
            weight = self.how.stranger_weight
            loss = own + weight * others
            if self.how.architecture == "original":
                loss = torch.where(stranger, weight * losses, losses).mean()
        return {"loss": loss, "persons": own, "strangers": others, "train_accuracy": right}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :mod:`vidperson.training.loop`. In "original" biases learn at twice the rate, and do not decay."""
        if self.how.architecture != "original":
            return [{"params": list(self.parameters())}]
        weights: list[nn.Parameter] = []
        biases: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            is_bias = name.endswith("bias") and ".norm." not in name  # not the shift of a batch norm
            (biases if is_bias else weights).append(parameter)
        return [{"params": weights}, {"params": biases, "rate": 2.0, "weight_decay": 0.0}]

    def _logits(self, found: Tensor, labels: Tensor, stranger: Tensor) -> Tensor:
        """What the loss compares, from the network's (N, C) logits or cosines."""
        how = self.how
        if how.architecture != "cosine":
            return found
        if self.bias is not None:
            return found * how.scale + self.bias
        if how.loss == "softmax":
            return found * how.scale
        margin = arcface_logits if how.loss == "arcface" else cosface_logits
        # Strangers of one class are not alike: they keep no distance.
        return torch.where(stranger[:, None], found * how.scale, margin(found, labels, how.scale, how.margin))


def _mean(values: Tensor, which: Tensor) -> Tensor:
    """Of some of (N,) values; 0 where there are none."""
    return torch.where(which, values, 0.0).sum() / which.sum().clamp_min(1)


@dataclass(frozen=True)
class Validation:
    """What chooses an epoch. measure: mAP@100 of a network that runs. digest: of what it measures on."""

    measure: Callable[[Run], float]
    digest: str


def identifier_card(
    how: IdentifierOptions,
    options: TrainingOptions,
    persons: Sequence[str],
    size: int,
    embedders: Sequence[str],
    modality: str,
) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    return new_card(
        options.folder.name,
        f"{modality}_classifier",
        f"{shape_of(how, max(1, how.folds))}, trained by run_014_train_identifier.sh",
        options.licence,
        options.homepage,
        VectorInput(size=size, embedders=tuple(embedders)),
        Output(labels=tuple(persons)),
    )


def train_identifier(
    clips: Clips,
    card: ModelCard,
    how: IdentifierOptions,
    options: TrainingOptions,
    world: World,
    valid: Validation | None,
    held_out: Callable[[Index], Validation],
    whiten: Whiten,
    draw: Callable[[Sequence[Mapping[str, Any]]], bytes],
) -> dict[str, Any]:
    """Train one network, or those of all folds, and export them as one.

    valid: measures the exported network, and chooses the epoch where there are no folds.
    held_out: what chooses it with folds, of the clips that are held out.
    whiten: what the network begins with; "original" does not.
    Returns the figures of its card: {} in all processes but the first.
    """
    plans = plan_identifier(clips, card, how, options, world, valid, held_out, whiten)
    with command.alone_in(options.folder, world):
        best = {
            name: command.train_plan(plan, options, world, draw, options.folder / name) for name, plan in plans.items()
        }
        return export_identifier(plans, best, how, options, valid) if world.rank == 0 else {}


def plan_identifier(
    clips: Clips,
    card: ModelCard,
    how: IdentifierOptions,
    options: TrainingOptions,
    world: World,
    valid: Validation | None,
    held_out: Callable[[Index], Validation],
    whiten: Whiten,
) -> dict[str, TrainingPlan]:
    """The training of each fold, by the name of its folder; without folds only one, of "".

    Raises TrainingError where no person has a second clip to hold out.
    """
    every = np.arange(len(clips.labels))
    if not how.folds:
        return {"": _plan(clips, card, how, options, world, every, valid, whiten)}
    fold = stratified(clips.labels, how.folds, options.settings.seed)
    plans = {}
    for number in range(how.folds):
        held = every[fold == number]
        if not (clips.labels[held] >= 0).any():
            what = f"expected persons with clips to hold out in each of {how.folds}, found none in fold {number + 1}"
            raise TrainingError(f"folds: {what}; a person with one clip is always learnt; ask for fewer folds, or none")
        plans[f"fold{number + 1}"] = _plan(
            clips, card, how, options, world, every[fold != number], held_out(held), whiten
        )
    return plans


def _plan(
    clips: Clips,
    card: ModelCard,
    how: IdentifierOptions,
    options: TrainingOptions,
    world: World,
    items: Index,
    valid: Validation | None,
    whiten: Whiten,
) -> TrainingPlan:
    """The training on some of the clips. Raises VidPersonError for what is wrong with it."""
    shape, persons = shape_of(how), len(clips.persons)
    if not how.strangers:
        items = items[clips.labels[items] >= 0]
    classes = np.array(clips.labels[items])
    others = classes < 0
    if how.strangers and not others.any():
        logging.warning("no known strangers among the clips to train on: nothing is learnt of them")
    elif shape.strangers > 1:
        classes[others] = persons + clusters(clips.prepared.vectors[items[others]], how.strangers)
    else:
        classes[others] = persons
    network, note = command.new_network(card, str(shape), options)
    assert isinstance(network, Identifier)
    if how.architecture != "original" and not options.init:
        origin, matrix = whiten(clips.prepared.vectors, items)
        learnt = classes < persons + shape.strangers
        means = clips.means(items[learnt], classes[learnt], persons + shape.strangers, origin, matrix)
        network.heads[0].start_from(*(torch.from_numpy(each).float() for each in (origin, matrix, means)))  # type: ignore[operator]
    seed = options.settings.seed
    source = ClipBatches(
        clips, items, classes, Draw.parse(how.items), how.batch_size, seed, world.rank, world.ranks, options.workers
    )
    counted = f"{int((~others).sum())} clips of {persons} persons and {int(others.sum())} of strangers"
    logging.info("training data: %s", counted)
    given = {name: value for name, value in dataclasses.asdict(how).items() if name != "architecture"}
    digest = hashlib.sha256(clips.prepared.digest.encode() + items.tobytes() + classes.tobytes()).hexdigest()
    note |= {**given, "persons": persons, "items_sha256": digest}
    plan = TrainingPlan(
        card, IdentifierTask(network, persons, how), source, source, note, counted, None, None, GOAL, ""
    )
    if valid is None:
        return plan

    def validate(run: Run, card: ModelCard) -> dict[str, float]:
        figure = valid.measure(run)
        logging.info("validation: mAP@100 %.4f", figure)
        return {GOAL: figure}

    # In the digits of 16 bits many scores would be equal.
    return dataclasses.replace(
        plan, validate=validate, validated_on=valid.digest, valid_precision="fp32", from_the_start=True
    )


def export_identifier(
    plans: Mapping[str, TrainingPlan],
    best: Mapping[str, Mapping[str, float]],
    how: IdentifierOptions,
    options: TrainingOptions,
    valid: Validation | None,
) -> dict[str, Any]:
    """Write the best epochs' networks as one, and its card, whose figures are returned."""
    first = next(iter(plans.values()))
    card = first.card
    shape, weights = shape_of(how, len(plans)), [str(Path(name, BEST)) for name in plans]
    network = build_network(str(shape), card.input, card.output)
    assert isinstance(network, Identifier)
    for head, name in zip(network.heads, weights, strict=True):
        found = load_checkpoint(options.folder / name)["network"]
        head.load_state_dict({key.removeprefix("heads.0."): value for key, value in found.items()})
    text = f"{first.data}{f', in {how.folds} folds' if how.folds else ''}"
    card = dataclasses.replace(card, training_data=command.data_in_words(text, options))
    card = export_module(network, options.folder, card, options.half_weights)
    figures: dict[str, Any] = {}
    if how.folds and all(GOAL in each for each in best.values()):  # not known where they were held out otherwise
        folds = [each[GOAL] for each in best.values()]
        figures = {"mean_of_held_out_folds": float(np.mean(folds)), "held_out_folds": folds}
    if valid is not None:
        run = command.run_file(options.folder / card.file.name, card, options)
        figures[GOAL] = valid.measure(run)
        logging.info("the network that is kept: mAP@100 %.4f", figures[GOAL])
    training = {
        **first.recipe,
        **dataclasses.asdict(options.settings),
        "architecture": str(shape),
        "train_sets": [Path(name).name for name in options.train_data],
        "best_epoch": [int(each["epoch"]) + 1 for each in best.values()],  # 0: as it began
    }
    write_card(options.folder, dataclasses.replace(card, training=training, figures=figures), weights)
    return figures
