"""The plan of a training of a body embedding network, see :class:`~vidperson.training.command.TrainingPlan`."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from vidperson.body.crops import CROP_HEIGHT, CROP_WIDTH
from vidperson.body.embedder import BodyEmbedder
from vidperson.body.training_bodies import (
    BodySet,
    fitted_body,
    read_bodies,
    read_unlabelled,
    split_persons,
    training_set,
)
from vidperson.errors import DataError, MediaError, TrainingError
from vidperson.media.image import decode_intact_image
from vidperson.networks.card import ModelCard, Output, PictureInput
from vidperson.networks.convert import REID_SIZES
from vidperson.training import command
from vidperson.training.augment import Augmentation
from vidperson.training.batches import Normalise, ShuffledBatches
from vidperson.training.command import ReidOptions, TaughtOptions, TrainingPlan
from vidperson.training.export import new_card
from vidperson.training.loop import World, start_backbone
from vidperson.training.losses import IdentityLoss, TripletLoss
from vidperson.training.pictures import (
    IdentityPictureBatches,
    JoinedBatches,
    PictureBatches,
    PictureLoader,
    PictureSet,
    PlainPictures,
    refuse_shared,
)
from vidperson.training.task import EmbedderTask, Teaching, Triplets
from vidperson.types import Float, Image

# Of ImageNet, as the published networks have them.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
VALID_BATCH = 32  # crops per call of the network where an epoch is measured
Measure = Callable[[Float, Sequence[str], Sequence[str]], dict[str, Any]]


@dataclass(frozen=True)
class BodyRecipe:
    """What is trained, and how. augment: see :class:`~vidperson.training.augment.Augmentation`.

    batch_size: crops of known persons per step, all processes together. unlabelled_batch: crops of unknown ones.
    mirror: what the card says, none or sum. pretrained: file of weights learnt on ImageNet; empty: none.
    Raises TrainingError for what is not possible.
    """

    architecture: str
    augment: str
    batch_size: int
    unlabelled_batch: int
    mirror: str
    pretrained: str
    reid: ReidOptions

    def __post_init__(self) -> None:
        if self.architecture not in REID_SIZES:
            raise TrainingError(f"architecture: expected one of {' '.join(REID_SIZES)}, found '{self.architecture}'")
        if self.changes().mix and self.reid.triplet_weight:
            raise TrainingError("augmentation: mix needs a triplet weight of 0: a mixed image is of no one person")
        if self.reid.images and self.batch_size % self.reid.images:
            raise TrainingError(
                f"batch size: expected a multiple of the {self.reid.images} images of a person, found {self.batch_size}"
            )

    def changes(self) -> Augmentation:
        """What is done to the crops; erased parts are what the network takes as 0."""
        return Augmentation.parse(self.augment, MEAN)


@dataclass(frozen=True)
class BodyData:
    """known: pictures of persons to train on. unnamed: pictures of anyone, for teachers. valid: what chooses the epoch.
    test: what the exported network is measured on. Empty lists: none.
    """

    known: list[BodySet]
    unnamed: list[PlainPictures]
    valid: list[BodySet]
    test: list[BodySet]


def read_data(
    train: Sequence[str],
    unlabelled: Sequence[str],
    valid: Sequence[str],
    test: Sequence[str],
    held_out: int,
    items_dir: str,
) -> BodyData:
    """Read all sources; ``held_out`` persons of ``train`` are validated on where ``valid`` is empty.

    Raises DataError for a source that is missing or broken, or that is learnt from and measured on.
    """
    refuse_shared((*train, *unlabelled), (*valid, *test))
    known = [read_bodies(source, items_dir) for source in train]
    measured = [read_bodies(source, items_dir) for source in valid]
    if held_out and valid:
        raise DataError("persons are held out, or others are named to validate on, not both")
    if held_out:
        known, measured = split_persons(known, held_out)
    unnamed = [read_unlabelled(source, items_dir) for source in unlabelled]
    return BodyData(known, unnamed, measured, [read_bodies(source, items_dir) for source in test])


def embedder_card(recipe: BodyRecipe, options: TaughtOptions) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    size = recipe.reid.embedding_size or REID_SIZES[recipe.architecture]
    return new_card(
        options.folder.name,
        "body_embedder",
        f"{recipe.architecture}, {size} values, trained by run_013_train_body_embedder.sh",
        options.licence,
        options.homepage,
        PictureInput("rgb", MEAN, STD, CROP_WIDTH, CROP_HEIGHT),
        Output(embedding_size=size, mirror=recipe.mirror),
    )


def plan_embedder(
    recipe: BodyRecipe, card: ModelCard, options: TaughtOptions, data: BodyData, measure: Measure, world: World
) -> TrainingPlan:
    """The network, its heads, batches and teachers. Raises VidPersonError for what is wrong with any of them.

    measure: figures of (N, D) embeddings with N persons and cameras, among them ``map``, by which the epoch is chosen.
    """
    how = recipe.reid
    network, note = command.new_network(card, recipe.architecture, options)
    if recipe.pretrained and not options.init:
        note["pretrained"] = start_backbone(network, recipe.pretrained)
    pictures = training_set(data.known, data.unnamed)
    known = pictures.labels >= 0
    note |= _note(recipe, pictures)
    counted = f"{known.sum()} pictures of {len(pictures.identities)} persons"
    if data.unnamed:
        counted += f" and {(~known).sum()} without a name"
    logging.info("training data: %s", counted)
    source = _batches(recipe, pictures, options, world)
    # Without their mirror images, which the crops are half of the time anyway.
    teachers, batches, sizes = command.taught_batches(source, options, world, partial(BodyEmbedder, mirror="none"))
    note |= how.note(teachers)
    teaching = Teaching(sizes, tuple(how.teacher_weights), how.cosine_weight, how.relation_weight)
    size, persons = card.output.embedding_size, len(pictures.identities)
    assert size
    heads = _heads(how, network, size, persons), teaching, _triplets(how, persons)
    task = EmbedderTask(network, size, Normalise(MEAN, STD), *heads)
    words = command.data_in_words(counted, options, teachers)
    plan = TrainingPlan(card, task, batches, source, note, words, None, None, "map", "")
    if not data.valid:
        return plan if not data.test else dataclasses.replace(plan, describe=_describe(data.test, measure, {}))
    if not data.test:
        logging.warning("the persons who choose the epoch also give the figures of the card: name --test-data")
    return dataclasses.replace(
        plan,
        validate=lambda run, card: _validate(BodyEmbedder(run, card, "none"), data.valid, measure),
        describe=_describe(data.test or data.valid, measure, {"epoch_chosen_on": _in_words(data.valid)}),
        validated_on=_digest(data.valid),
    )


def _batches(recipe: BodyRecipe, pictures: PictureSet, options: TaughtOptions, world: World) -> ShuffledBatches:
    """Those of known persons, each with pictures of unknown ones behind them; or those of one kind only."""
    how, place = recipe.reid, (options.settings.seed, world.rank, world.ranks)
    known = pictures.labels >= 0
    parts: list[ShuffledBatches] = []
    if known.any():
        loader = _loader(recipe, pictures.pick(known))
        if how.images:
            parts.append(IdentityPictureBatches(loader, recipe.batch_size // how.images, how.images, *place))
        else:
            parts.append(PictureBatches(loader, recipe.batch_size, *place))
    if not known.all():
        parts.append(PictureBatches(_loader(recipe, pictures.pick(~known)), recipe.unlabelled_batch, *place))
    if not parts:
        raise DataError("expected pictures to train on, found none")
    found = JoinedBatches(parts[0], parts[1]) if len(parts) > 1 else parts[0]
    found.workers = options.workers
    return found


def _loader(recipe: BodyRecipe, pictures: PictureSet) -> PictureLoader:
    return PictureLoader(pictures, decode_intact_image, fitted_body, recipe.changes())


def _heads(how: ReidOptions, network: nn.Module, size: int, persons: int) -> list[IdentityLoss]:
    """A classifier for each of the features that classes are learnt on."""
    if how.loss == "none" or not persons:
        return []
    sizes: Sequence[int] = getattr(network, "identity_sizes", (size,))
    return [IdentityLoss(each, persons, how.loss, smoothing=how.smoothing) for each in sizes]


def _triplets(how: ReidOptions, persons: int) -> Triplets | None:
    if not how.triplet_weight or not persons:
        return None
    loss = TripletLoss(how.triplets, how.triplet_margin or None)
    return Triplets(loss, how.triplet_weight, how.triplets_behind_neck)


def _validate(embedder: BodyEmbedder, sources: Sequence[BodySet], measure: Measure) -> dict[str, Any]:
    """Figures of a network; persons of different sources are different persons, and so are their cameras."""
    embeddings, persons, cameras = [np.zeros((0, embedder.embedding_size), np.float32)], [], []
    for number, each in enumerate(sources):
        kept = [place for place, person in enumerate(each.persons) if person]
        for start in range(0, len(kept), VALID_BATCH):
            embeddings.append(
                embedder.embed(np.stack([_read(each, place) for place in kept[start : start + VALID_BATCH]]))
            )
        persons += [f"{number}:{each.persons[place]}" for place in kept]
        cameras += [each.cameras[place] and f"{number}:{each.cameras[place]}" for place in kept]
    return measure(np.concatenate(embeddings), persons, cameras)


def _read(bodies: BodySet, place: int) -> Image:
    """Raises DataError for a picture that cannot be read: figures would not be of the same pictures."""
    try:
        data, where = bodies.source.read_item(place, np.random.default_rng(0))
    except OSError as error:
        raise DataError(f"{error.strerror or error}", error.filename) from None
    try:
        return fitted_body(decode_intact_image(data))
    except MediaError as error:
        raise DataError(str(error), where) from None


def _describe(
    sources: Sequence[BodySet], measure: Measure, more: dict[str, str]
) -> Callable[[command.Run, ModelCard], dict[str, Any]]:
    return lambda run, card: {
        "measured_on": _in_words(sources),
        **more,
        **_validate(BodyEmbedder(run, card), sources, measure),
    }


def _in_words(sources: Sequence[BodySet]) -> str:
    return " ".join(os.path.basename(each.source.pictures.source) for each in sources)


def _digest(sources: Sequence[BodySet]) -> str:
    found = hashlib.sha256()
    for each in sources:
        for row in zip(each.source.names, each.persons, each.cameras, strict=True):
            found.update(os.fsencode("\n".join(row) + "\n"))
    return found.hexdigest()


def _note(recipe: BodyRecipe, pictures: PictureSet) -> dict[str, Any]:
    """What the weights depend on, but for the settings and the teachers."""
    unnamed = {"unlabelled_batch": recipe.unlabelled_batch} if (pictures.labels < 0).any() else {}
    return {
        **recipe.reid.apart(),
        "augment": " ".join(recipe.augment.split()),
        "batch_size": recipe.batch_size,
        **unnamed,
        "identities": len(pictures.identities),
        "items": len(pictures),
        "items_sha256": pictures.digest(),
    }
