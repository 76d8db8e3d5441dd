"""The plan of a training of a face embedding network, see :class:`~vidperson.training.command.TrainingPlan`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidperson.errors import TrainingError
from vidperson.face.align import CROP_SIZE
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.training_faces import face_batches
from vidperson.media.image import decode_intact_image
from vidperson.networks.card import ModelCard, Output, PictureInput
from vidperson.networks.convert import EMBEDDERS
from vidperson.training import command
from vidperson.training.augment import Augmentation
from vidperson.training.batches import Normalise
from vidperson.training.command import IdentityOptions, TaughtOptions, TrainingPlan
from vidperson.training.export import flat_figures, new_card
from vidperson.training.loop import World
from vidperson.training.losses import IdentityLoss
from vidperson.training.pictures import PictureSet
from vidperson.training.task import EmbedderTask, Teaching
from vidperson.types import Float, Image

MEAN = STD = (127.5, 127.5, 127.5)
Embed = Callable[[Image], Float]


@dataclass(frozen=True)
class EmbedderRecipe:
    """What is trained, and how. augment: see :class:`~vidperson.training.augment.Augmentation`.

    batch_size: crops per step, all processes together.
    Raises TrainingError for an unknown architecture or augmentation.
    """

    architecture: str
    augment: str
    batch_size: int
    identity: IdentityOptions

    def __post_init__(self) -> None:
        if self.architecture not in EMBEDDERS:
            raise TrainingError(f"architecture: expected one of {' '.join(EMBEDDERS)}, found '{self.architecture}'")
        Augmentation.parse(self.augment)


@dataclass(frozen=True)
class Validation:
    """What is measured on. measure: figures of an embedding function after an epoch, among them ``eer``, by which the
    epoch is chosen. describe: figures of the network that is kept, for its card. digest: of the pairs of ``measure``.
    """

    measure: Callable[[Embed], dict[str, Any]]
    describe: Callable[[Embed], dict[str, Any]]
    digest: str


def embedder_card(recipe: EmbedderRecipe, options: TaughtOptions) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    size = recipe.identity.embedding_size
    return new_card(
        options.folder.name,
        "face_embedder",
        f"{recipe.architecture}, {size} values, trained by run_010_train_face_embedder.sh",
        options.licence,
        options.homepage,
        PictureInput("rgb", MEAN, STD, CROP_SIZE, CROP_SIZE),
        Output(embedding_size=size),
    )


def plan_embedder(
    recipe: EmbedderRecipe,
    card: ModelCard,
    options: TaughtOptions,
    faces: PictureSet,
    validation: Validation | None,
    world: World,
) -> TrainingPlan:
    """The network, its heads, batches and teacher. Raises VidPersonError for what is wrong with any of them."""
    how, seed = recipe.identity, options.settings.seed
    network, note = command.new_network(card, recipe.architecture, options)
    identity = []
    if how.loss != "none":
        classes = len(faces.identities)
        given = how.embedding_size, classes, how.loss, how.scale, how.margin, how.sub_centres, how.sample_rate
        identity = [IdentityLoss(*given)]
    source = face_batches(
        faces,
        decode_intact_image,
        recipe.batch_size,
        Augmentation.parse(recipe.augment),
        seed,
        world.rank,
        world.ranks,
        options.workers,
    )
    note |= _note(recipe, faces)
    counted = f"{len(faces)} faces or utterances of {len(faces.identities)} identities"
    logging.info("training data: %s", counted)
    teachers, batches, sizes = command.taught_batches(source, options, world, FaceEmbedder)
    note |= how.note(teachers)
    teaching = Teaching(sizes, tuple(how.teacher_weights), how.cosine_weight, how.relation_weight)
    task = EmbedderTask(network, how.embedding_size, Normalise(MEAN, STD), identity, teaching)
    data = command.data_in_words(counted, options, teachers)
    plan = TrainingPlan(card, task, batches, source, note, data, None, None, "-eer", "")
    if validation is None:
        return plan
    measure, describe = validation.measure, validation.describe
    return dataclasses.replace(
        plan,
        validate=lambda run, card: flat_figures(measure(FaceEmbedder(run, card).embed)),
        describe=lambda run, card: describe(FaceEmbedder(run, card).embed),
        validated_on=validation.digest,
    )


def _note(recipe: EmbedderRecipe, faces: PictureSet) -> dict[str, Any]:
    """What the weights depend on, but for the settings and the teacher."""
    return {
        **recipe.identity.apart(),
        "augment": " ".join(recipe.augment.split()),
        "batch_size": recipe.batch_size,
        "identities": len(faces.identities),
        "items": len(faces),
        "items_sha256": faces.digest(),
    }
